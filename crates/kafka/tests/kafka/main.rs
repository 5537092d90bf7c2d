//! The publisher and the source against librdkafka's own mock cluster, and the same scenarios against a real broker
//! where `KAFKA_BROKERS` names one (`host:port` with commas between).

mod cluster;
mod crashing;
mod outages;
mod publishing;
mod refusals;
mod reporting;
mod sourcing;

use cluster::Site;

/// Every scenario that needs no say over the brokers, one after the other, against real ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_against_a_real_broker() {
    let Ok(brokers) = std::env::var("KAFKA_BROKERS") else {
        return cairn_testkit::not_tested(
            "Kafka: a real broker",
            "set KAFKA_BROKERS=host:port and run `cargo nextest run -p cairn-kafka`; only librdkafka's mock cluster was used",
        );
    };
    let site = || Site::real(&brokers);
    publishing::order_topics_and_headers(&site()).await;
    publishing::a_burst_arrives_whole(&site()).await;
    crashing::aborted_at_random_moments(&site()).await;
    crashing::killed_at_random_moments(&site()).await;
    refusals::an_event_larger_than_the_client_takes(&site()).await;
    sourcing::exactly_once_with_aborts(&site()).await;
    sourcing::exactly_once_with_two_at_once(&site()).await;
    sourcing::what_is_not_taken_is_rejected(&site()).await;
    sourcing::from_the_latest_message_on(&site()).await;
    sourcing::a_topic_that_is_shorter_than_it_was(&site()).await;
}
