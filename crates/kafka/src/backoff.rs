//! How long to wait before trying again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that grow while nothing gets better. Attempts are not counted: a broker may be away for days.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// It went well: the next failure is the first again.
    pub(crate) const fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits, or returns at once when it is all to end.
    pub(crate) async fn pause(&mut self, cancel: &CancellationToken) {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        let _ = tokio::time::timeout(pause, cancel.cancelled()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_grow_to_a_limit_and_start_anew_after_success() {
        let (mut backoff, cancel) = (Backoff::new(), CancellationToken::new());
        // Pauses that are cut short, so that the test does not wait for them.
        cancel.cancel();
        backoff.pause(&cancel).await;
        assert_eq!(backoff.next, 2 * FIRST);
        for _ in 0..20 {
            backoff.pause(&cancel).await;
        }
        assert_eq!(backoff.next, LONGEST);
        backoff.reset();
        assert_eq!(backoff.next, FIRST);
    }
}
