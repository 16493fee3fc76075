//! Has the disk begin with a big file while it is still written.
//!
//! The sync at the end then waits for the rest only. Nothing is promised by it, and what goes wrong
//! on the way is found by that sync.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{Advice, fadvise};

/// Bytes between two calls for the disk: an eighth of the file so far, within these bounds.
const EVERY: RangeInclusive<u64> = 4 << 20..=16 << 20;

/// Calls for the disk as often as a file has grown by so much that it is worth it.
#[derive(Debug)]
pub struct Flusher {
    /// Up to where the disk has been called for.
    called: u64,
    /// Up to where the file is written.
    end: u64,
    worker: Option<(SyncSender<Stretch>, JoinHandle<()>)>,
}

/// Where something begins in a file, and its bytes.
type Stretch = (u64, NonZeroU64);

impl Flusher {
    /// Starts a thread for the file, which has this many bytes.
    pub fn new(file: &File, end: u64) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (calls, called) = sync_channel(1);
        let flush = move || {
            for (start, length) in called {
                // Linux begins to write what is advised to be dropped, waits for none of it, and
                // so drops none of it (posix_fadvise(2)); a sync would wait for each piece.
                let _ = fadvise(&file, start, Some(length), Advice::DontNeed);
            }
        };
        let thread = std::thread::Builder::new().name("flush".into()).spawn(flush)?;
        Ok(Self { called: 0, end, worker: Some((calls, thread)) })
    }

    /// Hears that so many bytes were appended.
    pub fn wrote(&mut self, bytes: u64) {
        self.end += bytes;
        if let Some((calls, _)) = &self.worker
            && let Some(length) = NonZeroU64::new(self.end - self.called)
            && length.get() >= (self.end / 8).clamp(*EVERY.start(), *EVERY.end())
            && calls.try_send((self.called, length)).is_ok()
        {
            self.called = self.end;
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
