//! Makes Rust of the .proto files, without the protocol compiler of the C++ world.

use std::error::Error;

const FILES: [&str; 5] = [
    "cairn/sync/v1/sync.proto",
    "event_store/client/gossip.proto",
    "event_store/client/server_features.proto",
    "event_store/client/shared.proto",
    "event_store/client/streams.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=cairn");
    println!("cargo::rerun-if-changed=event_store");
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
