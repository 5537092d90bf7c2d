//! The protocols that Cairn speaks with other programs and other brains, as Rust made from the .proto files beside this crate.
//!
//! The files state facts of the wire: names, numbers and types that clients which exist already send and expect.
//! They hold what Cairn serves and nothing else.

/// The protocol between brains that share spaces.
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod sync {
    tonic::include_proto!("cairn.sync.v1");
}

/// KurrentDB's protocol, as its clients have spoken it since 20.10.
pub mod event_store {
    /// What several services have in common.
    #[allow(missing_docs, clippy::all, unused_qualifications)]
    pub mod client {
        tonic::include_proto!("event_store.client");

        /// Who belongs to the cluster.
        pub mod gossip {
            tonic::include_proto!("event_store.client.gossip");
        }

        /// What a server can do.
        pub mod server_features {
            tonic::include_proto!("event_store.client.server_features");
        }

        /// The error of one batch.
        pub mod status {
            tonic::include_proto!("event_store.client.status");
        }

        /// Reading, following, appending to and deleting streams.
        pub mod streams {
            tonic::include_proto!("event_store.client.streams");
        }
    }
}
