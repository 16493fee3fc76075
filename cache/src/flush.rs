//! Has the disk begin with a big file while it is still written.
//!
//! The sync at the end then waits for the rest only. Nothing is promised by it, and what goes wrong
//! on the way is found by that sync.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes between two calls for the disk.
const EVERY: u64 = 16 << 20;

/// Calls for the disk as often as a file has grown by so much that it is worth it.
#[derive(Debug)]
pub struct Flusher {
    /// Bytes since the last call.
    grown: u64,
    worker: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Flusher {
    /// Starts a thread for the file.
    pub fn new(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (calls, called) = sync_channel(1);
        let flush = move || called.iter().for_each(|()| drop(file.sync_data()));
        let thread = std::thread::Builder::new().name("flush".into()).spawn(flush)?;
        Ok(Self { grown: 0, worker: Some((calls, thread)) })
    }

    /// Hears that so many bytes were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.grown += bytes as u64;
        if let Some((calls, _)) = &self.worker
            && self.grown >= EVERY
            && calls.try_send(()).is_ok()
        {
            self.grown = 0;
        }
    }
}

/// Waits for what is under way.
impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some((calls, thread)) = self.worker.take() {
            drop(calls);
            let _ = thread.join();
        }
    }
}
