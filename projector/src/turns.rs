//! Projections that several processes share: one of them runs each, the others know how far it is and stand by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lease::{Lease, Leases};
use crate::run::RETRY_PAUSE;
use crate::slot::Slot;

/// How often the register is looked at while the process that runs a projection is behind the log.
const LOOK_OFTEN: Duration = Duration::from_millis(15);
/// How often it is looked at while it is not.
const LOOK_SELDOM: Duration = Duration::from_secs(1);
/// How often the process that runs a projection looks for pauses and orders, and the others hear how it fares.
const ATTEND_EVERY: Duration = Duration::from_millis(500);

/// Who runs the projections that several processes share.
#[derive(Debug, Clone)]
pub enum Turns {
    /// This process, whoever else there is: nobody shares them.
    Alone,
    /// Whoever has the lease.
    Shared(Leases),
    /// Others.
    Others,
}

/// Runs a projection whenever this process has its lease, and follows who else runs it meanwhile. Ends with the slot.
pub(crate) async fn take(slot: Arc<Slot>, leases: Option<Leases>) {
    let cancel = slot.cancel.clone();
    let turns = async {
        loop {
            let lease = tokio::select! {
                lease = wait(leases.as_ref(), slot.projection.name()) => lease,
                () = follow(&slot) => return,
            };
            serve(&slot, lease).await;
        }
    };
    cancel.run_until_cancelled(turns).await;
}

async fn wait(leases: Option<&Leases>, name: &str) -> Lease {
    match leases {
        Some(leases) => leases.acquire(&format!("projection {name}")).await,
        None => std::future::pending().await,
    }
}

/// Runs the projection until the lease is lost.
async fn serve(slot: &Arc<Slot>, lease: Lease) {
    let projection = slot.projection.name();
    tracing::info!(projection, "this process runs the projection now");
    let running = Arc::clone(slot);
    let started = tokio::task::spawn_blocking(move || running.run()).await;
    match started {
        Ok(Ok(())) => {
            tokio::select! {
                () = lease.lost() => {}
                () = attend(slot) => {}
            }
        }
        Ok(Err(error)) => {
            tracing::warn!(projection, %error, "the projection cannot be run; trying again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        // The runtime ends.
        Err(_) => return,
    }
    let stopping = Arc::clone(slot);
    // A task is lost only where the runtime itself is ending.
    let _ = tokio::task::spawn_blocking(move || stopping.stand_by()).await;
}

/// Does what other processes order, until the runtime ends.
async fn attend(slot: &Arc<Slot>) {
    loop {
        let attending = Arc::clone(slot);
        if tokio::task::spawn_blocking(move || attending.attend()).await.is_err() {
            return;
        }
        tokio::time::sleep(ATTEND_EVERY).await;
    }
}

/// Shows waiting readers how far the process that runs the projection is.
async fn follow(slot: &Arc<Slot>) {
    let mut head = slot.store.head();
    let mut listened = Instant::now();
    loop {
        let looking = Arc::clone(slot);
        let listens = listened.elapsed() >= ATTEND_EVERY;
        let look = move || {
            looking.look();
            if listens {
                looking.listen();
            }
        };
        if tokio::task::spawn_blocking(look).await.is_err() {
            return;
        }
        if listens {
            listened = Instant::now();
        }
        let is_behind = slot.shown() < head.borrow_and_update().0 && !slot.is_paused();
        let pause = if is_behind { LOOK_OFTEN } else { LOOK_SELDOM };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = head.changed(), if pause == LOOK_SELDOM => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(LOOK_OFTEN).await;
            }
        }
    }
}
