//! The conformance suite, bare and sealed.

use std::sync::Arc;

use cairn_event_store::conformance::{BRAIN, Fixture};
use cairn_event_store::kurrent::Server;
use cairn_event_store::{Keyring, KurrentStore, MemoryStore, Sealed, SharedStore, SqliteStore};
use tempfile::TempDir;
use uuid::Uuid;

use crate::server::{KEYS, Serving, real};

/// A server with nothing of the brain on it: the real one, or a gateway over this store.
async fn server(store: impl FnOnce() -> SharedStore) -> (Server, Option<Serving>) {
    match real() {
        // Many tests use the same brain there.
        Some(url) => {
            let server = Server::parse(&url).expect("KURRENTDB_URL is valid");
            (server.with_prefix(&format!("cairn-test-{}-", Uuid::now_v7().simple())), None)
        }
        None => {
            let serving = Serving::start(store()).await;
            let server = Server::parse(&format!("esdb://{}?tls=false", serving.address)).expect("valid");
            (server, Some(serving))
        }
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

mod bare {
    use super::*;

    async fn kurrent() -> Fixture {
        let (server, serving) = server(|| Arc::new(MemoryStore::new(Uuid::now_v7()))).await;
        let folder = folder();
        let store = KurrentStore::open(server, folder.path().join("copy.db"), BRAIN, KEYS).await.expect("opens");
        Fixture { store: Arc::new(store), keep: Box::new((serving, folder)) }
    }

    cairn_event_store::conformance_suite!(kurrent);
}

mod sealed {
    use super::*;

    async fn kurrent() -> Fixture {
        let folder = folder();
        let path = folder.path().join("server.db");
        let (server, serving) = server(|| Arc::new(SqliteStore::open(path, Uuid::now_v7()).expect("opens"))).await;
        let keyring = Keyring::open(folder.path().join("keys.db"), [7; 32]).expect("opens");
        let keys = keyring.fingerprint().await.expect("known");
        let store = KurrentStore::open(server, folder.path().join("copy.db"), BRAIN, &keys).await.expect("opens");
        let store = Sealed::open(store, keyring).await.expect("opens");
        Fixture { store: Arc::new(store), keep: Box::new((serving, folder)) }
    }

    cairn_event_store::conformance_suite!(kurrent);
}
