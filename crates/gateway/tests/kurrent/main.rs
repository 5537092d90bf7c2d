//! The event store that keeps its log in KurrentDB, against the gateway: one log behind the other. Where `KURRENTDB_URL`
//! names a real server, the conformance suite runs against that instead.

mod conforming;
mod copies;
mod outages;
mod server;
mod together;

#[test]
fn a_real_server() {
    if server::real().is_none() {
        cairn_testkit::not_tested(
            "KurrentDB: a real server",
            "set KURRENTDB_URL and run `cargo nextest run -p cairn-gateway --test kurrent`; only the gateway was used",
        );
    }
}
