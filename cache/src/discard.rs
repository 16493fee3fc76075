//! Removes directories beside whatever is done next: a tree of ten thousand files takes longer to
//! remove than a step takes to begin.
//!
//! What is discarded lies in scratch space, so a process that is killed leaves it to the sweep.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::removal::remove_dir_all;

/// A thread that removes, started when there is something to remove. Dropping it waits for it.
#[derive(Default)]
pub(crate) struct Discarder(Mutex<Option<(Sender<PathBuf>, JoinHandle<()>)>>);

impl Discarder {
    /// Removes a directory in a while, and what cannot be removed never: the sweep tries again.
    pub(crate) fn discard(&self, path: PathBuf) {
        let mut worker = self.0.lock().expect("no holder panics");
        let (queue, _) = worker.get_or_insert_with(|| {
            let (queue, paths) = channel::<PathBuf>();
            let remove = move || paths.iter().for_each(|path| drop(remove_dir_all(path)));
            (queue, std::thread::spawn(remove))
        });
        // The thread ends only when the queue does.
        let _ = queue.send(path);
    }
}

impl Drop for Discarder {
    fn drop(&mut self) {
        let worker = self.0.get_mut().ok().and_then(Option::take);
        if let Some((queue, thread)) = worker {
            drop(queue);
            let _ = thread.join();
        }
    }
}
