//! What the process itself uses.

use std::fs;

/// A reading of what this process uses, from `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Open files, sockets and pipes.
    pub open_files: u64,
}

impl ProcessUsage {
    /// Reads it now. `None` where the system has no `/proc`.
    pub fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        // The listing itself holds one file open while it is counted.
        let open_files = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Some(Self { resident_bytes: resident_bytes(&status)?, open_files: open_files as u64 })
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figure_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tcairn\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(resident_bytes("Name:\tcairn\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something() {
        let usage = ProcessUsage::read().expect("/proc");
        assert!(usage.resident_bytes > 100_000 && usage.open_files >= 3, "{usage:?}");
    }
}
