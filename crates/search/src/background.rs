//! Threads for work that can wait: they give way to those that somebody waits for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

/// How far a thread steps back: it gets about a tenth of a busy processor, and all of an idle one.
const NICENESS: i32 = 10;

/// Has the calling thread give way to others from now on. Where the system has no priorities of threads, nothing changes.
pub fn give_way() {
    // Elsewhere it would be the priority of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a background thread runs with the priority of all others");
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one job after the other in the background. It ends when this is dropped, after the jobs that wait:
/// as many as there are callers, since each waits for its own.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
}

impl Worker {
    pub(crate) fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            give_way();
            while let Ok(job) = queue.recv() {
                // Whoever waits for a job that panicked finds its reply gone.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Does a job, and waits for it; `None` when it panicked. Dropping the future does not cut the job short.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (reply, done) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody may be waiting any more, which is fine.
            let _ = reply.send(work());
        });
        self.jobs.send(job).ok()?;
        done.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_does_not_stop_the_next() {
        let worker = Worker::start("test").expect("starts");
        assert_eq!(worker.run(|| -> u8 { panic!("as intended") }).await, None);
        assert_eq!(worker.run(|| 7).await, Some(7));
    }
}
