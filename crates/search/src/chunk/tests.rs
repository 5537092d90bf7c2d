use proptest::prelude::*;

use super::*;

fn texts(body: &str) -> Vec<&str> {
    chunk(body).into_iter().map(|chunk| &body[chunk.range]).collect()
}

#[test]
fn a_short_note_is_one_chunk() {
    let body = "# Tea\n\nGreen tea wants 80 degrees.\n\n## Steeping\n\nTwo minutes.\n";
    assert_eq!(texts(body), [body.trim()]);
}

#[test]
fn an_empty_or_blank_body_has_no_chunks() {
    assert!(chunk("").is_empty());
    assert!(chunk(" \n\t\r\n \n").is_empty());
}

#[test]
fn sections_stand_under_their_headings() {
    let long = "Words that fill a paragraph. ".repeat(20);
    let body = format!("# One\n\n{long}\n\n## Two\n\n{long}\n\n# Three\n\n{long}");
    let paths: Vec<_> = chunk(&body).into_iter().map(|chunk| chunk.headings.join(" > ")).collect();
    assert_eq!(paths, ["One", "One > Two", "Three"]);
}

#[test]
fn a_long_paragraph_is_cut_after_sentences() {
    let body = "This sentence has some words in it. ".repeat(100);
    let texts = texts(&body);
    assert!(texts.len() > 3);
    assert!(texts.iter().all(|text| text.ends_with('.') && text.len() <= TARGET_BYTES), "{texts:#?}");
}

#[test]
fn code_that_fits_stays_whole_and_hides_its_hashes() {
    let code = format!("```sh\n{}\n```", "# not a heading\n\necho hello\n".repeat(30));
    let body = format!("Before it.\n\n{code}\n\nAfter it.");
    assert!(code.len() < WHOLE_BYTES);
    let chunks = chunk(&body);
    assert!(chunks.iter().any(|chunk| body[chunk.range.clone()].contains(&code)));
    assert!(chunks.iter().all(|chunk| chunk.headings.is_empty()));
}

#[test]
fn children_of_a_long_bullet_stand_under_it() {
    let children = "\t\t- A child with something to say about the matter.\n".repeat(40);
    let body = format!("- ## Usage\n\t- How to steep\n{children}- ## Background\n\t- Old\n");
    let chunks = chunk(&body);
    assert!(chunks.len() > 2);
    assert_eq!(chunks[1].headings, ["Usage", "How to steep"]);
}

#[test]
fn a_megabyte_of_headings_stays_within_the_number_of_chunks() {
    let body = "# a\n\nb\n\n".repeat(150_000);
    assert!(chunk(&body).len() <= MAX_CHUNKS);
    let deep: String = (0..1_400).map(|depth| format!("{}- x\n", " ".repeat(depth))).collect();
    assert!(chunk(&deep).len() <= MAX_CHUNKS);
}

fn markdown() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[ \t]{0,6}[-*+1.]{0,2} ?[a-zäß。 .!]{0,80}",
        1 => "#{1,7} ?[a-z ]{0,20}",
        1 => "[ \t]{0,3}[`~]{2,4}[a-z]{0,3}",
        1 => Just(String::new()),
        1 => "\\PC{0,120}",
        1 => "[\u{0}-\u{1f}x]{0,20}",
        1 => "[a-z]{500,2500}",
    ];
    prop::collection::vec(line, 0..120).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn every_character_is_in_exactly_one_chunk(body in markdown()) {
        let chunks = chunk(&body);
        let mut end = 0;
        for chunk in &chunks {
            prop_assert!(chunk.range.start >= end, "chunks overlap");
            prop_assert!(body[end..chunk.range.start].trim().is_empty(), "text between chunks");
            prop_assert!(!body[chunk.range.clone()].trim().is_empty(), "an empty chunk");
            end = chunk.range.end;
        }
        prop_assert!(body[end..].trim().is_empty(), "text after the last chunk");
    }

    #[test]
    fn sizes_are_bounded(body in markdown()) {
        let chunks = chunk(&body);
        prop_assert!(chunks.len() <= MAX_CHUNKS);
        for chunk in &chunks {
            prop_assert!(chunk.range.len() <= WHOLE_BYTES, "{} bytes", chunk.range.len());
            prop_assert!(chunk.headings.iter().all(|heading| heading.len() <= HEADING_BYTES));
        }
    }

    #[test]
    fn the_same_text_gives_the_same_chunks(body in markdown()) {
        prop_assert_eq!(chunk(&body), chunk(&body));
    }
}
