//! The index as its callers see it, over every engine: a folder, a double that speaks the server's protocol, and a real
//! server when `QDRANT_URL` names one (and `QDRANT_API_KEY` its key, if it demands one).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod folder;
mod scenarios;
mod server;
mod stage;
mod support;

/// Makes a test of each scenario over each engine.
macro_rules! over_every_engine {
    ($($scenario:ident)*) => {
        mod in_a_folder {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $scenario() {
                crate::scenarios::$scenario(crate::stage::Stage::folder()).await;
            })*
        }

        mod over_the_protocol {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $scenario() {
                crate::scenarios::$scenario(crate::stage::Stage::double()).await;
            })*
        }

        mod on_a_real_server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $scenario() {
                if let Some(stage) = crate::stage::Stage::real() {
                    stage.clear_after(crate::scenarios::$scenario(stage.clone())).await;
                }
            })*
        }
    };
}

over_every_engine! {
    a_memory_is_found_by_words_and_by_meaning
    a_hit_carries_where_it_came_from
    replacing_leaves_nothing_of_the_old_text
    removing_takes_everything_and_spares_the_others
    of_several_changes_to_one_memory_the_last_counts
    every_filter_lets_the_right_memories_through
    a_memory_is_listed_once_however_many_of_its_chunks_match
    matching_words_are_marked_by_their_stems
    the_title_and_other_fields_are_searched_too
    two_builds_in_different_batches_have_one_digest
    queries_out_of_bounds_are_refused_and_odd_ones_answered
    an_empty_index_finds_nothing
    other_languages_are_found_by_their_words
    hostile_texts_are_taken_in
    many_tasks_search_while_others_write
    numbers_dates_and_accents_are_words_too
    what_was_flushed_is_there_after_reopening
    an_index_of_another_model_says_to_rebuild
    words_alone_are_compared_while_the_embedder_is_away
    many_memories_are_removed_at_once
}

#[test]
fn a_real_server_is_asked_for() {
    if stage::real_url().is_none() {
        cairn_testkit::not_tested(
            "the search index on a real Qdrant server",
            "QDRANT_URL is not set; run a server and set it to its gRPC address, such as http://localhost:6334",
        );
    }
}
