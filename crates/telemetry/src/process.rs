//! What the process itself uses.

use std::fs;

/// A reading of what this process uses, from `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

impl ProcessUsage {
    /// Reads it now. `None` where the system has no `/proc`.
    pub fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        Some(Self { resident_bytes: resident_bytes(&status)? })
    }
}

/// How many threads of this process have a name that starts like this. The system keeps 15 bytes of a name. `None`
/// where the system has no `/proc`.
pub(crate) fn threads_named(start: &str) -> Option<usize> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Some(names.filter(|name| name.starts_with(start)).count())
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
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_are_counted_by_name() {
        let (ready, wait) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let thread = std::thread::Builder::new().name("counted-7".into()).spawn(move || {
            ready.0.send(()).expect("the test waits");
            let _ = wait.1.recv();
        });
        ready.1.recv().expect("the thread runs");
        assert_eq!(threads_named("counted-"), Some(1));
        drop(wait.0);
        thread.expect("a thread").join().expect("it ends");
    }
}
