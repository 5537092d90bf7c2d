//! The gateway over loopback, on a log in SQLite, driven by the clients made from our own .proto files.

#[path = "protocol/access.rs"]
mod access;
#[path = "protocol/appending.rs"]
mod appending;
#[path = "protocol/batches.rs"]
mod batches;
#[path = "protocol/following.rs"]
mod following;
#[path = "protocol/reading.rs"]
mod reading;
#[path = "protocol/removing.rs"]
mod removing;
#[path = "protocol/scene.rs"]
mod scene;
