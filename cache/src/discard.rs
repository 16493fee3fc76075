//! Removes directories beside whatever is done next: a tree of ten thousand files takes longer to
//! remove than a step takes to begin.
//!
//! What is discarded lies in scratch space of its own. A process that ends before all of it is gone
//! may leave the rest to another one, with the lock; a process that is killed leaves it to the sweep.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fs_err as fs;

use crate::error::{Error, Result};
use crate::removal::{remove_dir_all, remove_dir_all_unless};
use crate::scratch::Scratch;

/// What is removed in less is not worth being left to somebody else.
const WORTH_LEAVING: Duration = Duration::from_millis(2);

/// A thread that removes, started when there is something to remove. Dropping it waits for it.
pub(crate) struct Discarder {
    tmp: PathBuf,
    worker: Mutex<Option<Worker>>,
}

struct Worker {
    scratch: Scratch,
    paths: Sender<PathBuf>,
    stop: Arc<AtomicBool>,
    /// Closed when the thread has ended, which says before whether all is removed.
    ended: Receiver<bool>,
}

impl Discarder {
    /// Works in scratch space of `tmp`.
    pub(crate) fn new(tmp: PathBuf) -> Self {
        Self { tmp, worker: Mutex::default() }
    }

    /// Removes a directory in a while, and what cannot be removed never: the sweep tries again.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let mut worker = self.worker.lock().expect("no holder panics");
        if worker.is_none() {
            *worker = Some(Worker::start(&self.tmp)?);
        }
        let worker = worker.as_mut().expect("it has just been started");
        let away = worker.scratch.next_path()?;
        fs::rename(path, &away).map_err(Error::Io)?;
        // The thread ends only when nobody can send it anything.
        let _ = worker.paths.send(away);
        Ok(())
    }

    /// Stops, and returns what is left to be removed unless that is nothing worth speaking of.
    pub(crate) fn leave(&self) -> Option<Remains> {
        let worker = self.worker.lock().expect("no holder panics").take();
        worker?.leave()
    }
}

impl Drop for Discarder {
    fn drop(&mut self) {
        if let Ok(worker) = self.worker.get_mut()
            && let Some(worker) = worker.take()
        {
            worker.finish();
        }
    }
}

impl Worker {
    fn start(tmp: &Path) -> Result<Self> {
        let scratch = Scratch::new(tmp)?;
        let (paths, to_remove) = channel::<PathBuf>();
        let (result, ended) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = stop.clone();
        let remove = move || {
            let left =
                to_remove.iter().filter(|path| remove_dir_all_unless(path, &is_stopped).is_err());
            let _ = result.send(left.count() == 0);
        };
        std::thread::Builder::new().name("discard".into()).spawn(remove).map_err(Error::Io)?;
        Ok(Self { scratch, paths, stop, ended })
    }

    fn finish(self) {
        drop(self.paths);
        let _ = self.ended.recv();
    }

    fn leave(self) -> Option<Remains> {
        drop(self.paths);
        let mut is_done = self.ended.recv_timeout(WORTH_LEAVING).ok();
        if is_done.is_none() {
            self.stop.store(true, Ordering::Relaxed);
            is_done = self.ended.recv().ok();
        }
        if is_done == Some(true) {
            return None;
        }
        self.scratch.leave().ok().map(|lock| Remains(lock.into()))
    }
}

/// Scratch space that its process has left to be removed: its lock, by which nobody else removes it.
#[derive(Debug)]
pub struct Remains(OwnedFd);

impl Remains {
    /// Removes it; what cannot be removed is swept later.
    pub fn remove(self) {
        let lock = fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        if let Ok(lock) = lock
            && lock.extension().is_some_and(|extension| extension == "lock")
            && remove_dir_all(lock.with_extension("")).is_ok()
        {
            let _ = fs::remove_file(lock);
        }
    }
}

impl AsFd for Remains {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the descriptor that another process had of it.
impl From<OwnedFd> for Remains {
    fn from(lock: OwnedFd) -> Self {
        Self(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch;
    use std::fs::File;

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).expect("list").count()
    }

    fn tree(dir: &Path, files: usize) -> PathBuf {
        let tree = dir.join("tree");
        for number in 0..files {
            let below = tree.join(format!("d{}", number / 100));
            fs::create_dir_all(&below).expect("mkdir");
            File::create(below.join(format!("f{number}"))).expect("create");
        }
        tree
    }

    #[test]
    fn what_is_discarded_is_gone_when_the_discarder_is() {
        let [tmp, home] = [(); 2].map(|()| tempfile::tempdir().expect("tempdir"));
        let discarder = Discarder::new(tmp.path().to_owned());
        for _ in 0..3 {
            discarder.discard(&tree(home.path(), 200)).expect("discard");
            assert_eq!(names(home.path()), 0, "it is out of the way at once");
        }
        drop(discarder);
        assert_eq!(names(tmp.path()), 0);
    }

    #[test]
    fn little_is_removed_and_much_is_left_with_its_lock() {
        let [tmp, home] = [(); 2].map(|()| tempfile::tempdir().expect("tempdir"));
        let discarder = Discarder::new(tmp.path().to_owned());
        assert!(discarder.leave().is_none(), "nothing was discarded");
        discarder.discard(&tree(home.path(), 1)).expect("discard");
        assert!(discarder.leave().is_none());
        assert_eq!(names(tmp.path()), 0);

        discarder.discard(&tree(home.path(), 20_000)).expect("discard");
        let remains = discarder.leave().expect("that takes longer");
        scratch::sweep(tmp.path()).expect("sweep");
        assert_eq!(names(tmp.path()), 2, "who has the lock removes it");
        // As it comes out of a message.
        let received = remains.as_fd().try_clone_to_owned().expect("dup");
        drop(remains);
        Remains::from(received).remove();
        assert_eq!(names(tmp.path()), 0);

        discarder.discard(&tree(home.path(), 20_000)).expect("discard");
        drop(discarder.leave().expect("that takes longer"));
        scratch::sweep(tmp.path()).expect("sweep");
        assert_eq!(names(tmp.path()), 0, "nobody has the lock any more");
    }

    #[test]
    fn only_a_lock_says_what_is_to_be_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("file")).expect("mkdir");
        for name in ["file.txt", "file.lock"] {
            let path = dir.path().join(name);
            let file = File::create(&path).expect("create");
            if name == "file.lock" {
                fs::remove_file(&path).expect("remove");
            }
            Remains::from(OwnedFd::from(file)).remove();
        }
        assert!(dir.path().join("file").is_dir());
    }
}
