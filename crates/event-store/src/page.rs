//! How much one page of the log may hold, and how far one call may look.

/// The most events of a page, whatever the caller asks for.
pub const MAX_PAGE_EVENTS: usize = 4_096;
/// The most bytes of data and metadata of a page. Its last event may go beyond.
pub const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// The most events looked at for a page, passing or not. A filter that lets little through gets short pages with a
/// `next`, so that no single read holds a connection for long.
pub const MAX_PAGE_SCAN: usize = 16_384;

/// What is left of a page's limits.
#[derive(Debug)]
pub(crate) struct PageBudget {
    events: usize,
    bytes: usize,
    scans: usize,
}

impl PageBudget {
    /// A fresh page of at most `limit` events, but at least one: a page of none could never make progress.
    pub(crate) fn new(limit: usize) -> Self {
        Self { events: limit.clamp(1, MAX_PAGE_EVENTS), bytes: MAX_PAGE_BYTES, scans: MAX_PAGE_SCAN }
    }

    /// Whether the page must end before the next event is looked at.
    pub(crate) fn is_spent(&self) -> bool {
        self.events == 0 || self.bytes == 0 || self.scans == 0
    }

    /// Counts an event that was looked at.
    pub(crate) fn look(&mut self) {
        self.scans = self.scans.saturating_sub(1);
    }

    /// Counts an event that was put on the page.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
