//! A thread that works until its owner drops it.
//!
//! Does not know what it does.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use rustix::pipe::{PipeFlags, pipe_with};

/// A thread at work. Dropped, it is told to end, and waited for.
pub(super) struct Worker {
    /// Closed to wake the thread for its end.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread, which has to end when the descriptor that it is given becomes readable.
    pub(super) fn start(
        name: &str,
        stack: usize,
        work: impl FnOnce(OwnedFd) + Send + 'static,
    ) -> io::Result<Self> {
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack);
        let thread = thread.spawn(move || work(stopped))?;
        Ok(Worker { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
