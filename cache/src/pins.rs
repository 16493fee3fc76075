//! What a living process uses, so that nobody takes it away; who removes need not wait for those
//! who use.
//!
//! A process pins a thing, by a digest that names it, before it looks whether the thing is there or
//! puts it there. Its pins stand in the file that its scratch space is locked by (`tmp/<id>.lock`)
//! and end with that lock, so with the process. Writing a pin takes `<root>/lock` shared; who
//! removes holds it exclusively from reading all pins to the last rename, and passes over what is
//! pinned.
//!
//! Why nothing is taken from under its user: let a process have pinned X, and X be removed. The
//! lock orders the writing of the pin and the removal. Was the pin first, the remover has read it
//! and passed X over. Was the removal first, the process looked for X after pinning it, so after X
//! was gone, and took it for something that had never been there. Clocks do not matter, and a
//! process that is killed holds nothing.
//!
//! | what is pinned | under |
//! |---|---|
//! | a layer in all its forms, and its blob | its diff id |
//! | another blob | its digest |
//! | a record | its key |
//! | a cache mount | the digest of its id |
//! | a container that is being made | its id |
//! | all that was downloaded or cloned | one digest for all, `sources` |

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::lock;
use crate::store::Store;

/// Bytes of a pin in its file.
const LENGTH: usize = 32;

/// What this process has pinned, and the lock that pins are ordered by.
pub(crate) struct Pins {
    path: PathBuf,
    /// flock(2) belongs to the open file: threads must not lock and unlock it for each other.
    held: Mutex<Held>,
}

struct Held {
    lock: File,
    pinned: BTreeSet<Digest>,
    /// Pins that a full disk had no room for. The lock itself stands for them: who removes waits
    /// until they are written with a later pin, or for the end of this process.
    unwritten: Vec<u8>,
}

/// What stands for everything in `cache/sources`.
pub(crate) fn sources() -> Digest {
    Digest::of("cache/sources")
}

impl Pins {
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let held =
            Held { lock: lock::open(&path)?, pinned: BTreeSet::new(), unwritten: Vec::new() };
        Ok(Self { path, held: Mutex::new(held) })
    }

    /// Runs `work` between locking and unlocking.
    fn locked<T>(
        &self,
        held: &mut Held,
        lock: fn(&File) -> io::Result<()>,
        work: impl FnOnce(&mut Held) -> Result<T>,
    ) -> Result<T> {
        lock::wait(&held.lock, &self.path, lock)?;
        let done = work(held);
        let back = if held.unwritten.is_empty() { File::unlock } else { File::lock_shared };
        lock::wait(&held.lock, &self.path, back)?;
        done
    }
}

impl Store {
    /// Pins things for as long as this store is open. What is there afterwards stays.
    pub fn pin(&self, digests: &[Digest]) -> Result<()> {
        let mut held = self.pins.held.lock().expect("no holder panics");
        let fresh: BTreeSet<Digest> =
            digests.iter().filter(|digest| !held.pinned.contains(digest)).copied().collect();
        if fresh.is_empty() && held.unwritten.is_empty() {
            return Ok(());
        }
        self.pins.locked(&mut held, File::lock_shared, |held| {
            // On a full disk half of it may be written; the next try writes over that.
            let at = held.pinned.len() * LENGTH - held.unwritten.len();
            held.unwritten.extend(fresh.iter().flat_map(|digest| *digest.bytes()));
            held.pinned.extend(fresh);
            match self.write_public(&held.unwritten, at as u64) {
                Err(error) if is_full(&error) => {}
                written => {
                    written?;
                    held.unwritten.clear();
                }
            }
            Ok(())
        })
    }

    /// Where downloads and clones are kept. All of them stay as long as this store is open.
    pub fn sources(&self) -> Result<PathBuf> {
        self.pin(&[sources()])?;
        Ok(self.root().join("cache/sources"))
    }

    /// Runs `work` with all that others have pinned, while nobody can pin anything. `work` must not
    /// pin, and should be short.
    pub(crate) fn exclusively<T>(
        &self,
        work: impl FnOnce(&BTreeSet<Digest>) -> Result<T>,
    ) -> Result<T> {
        // What the dead have left may be much: it goes before anybody has to wait.
        self.sweep()?;
        let mut held = self.pins.held.lock().expect("no holder panics");
        self.pins.locked(&mut held, File::lock, |_| work(&self.pinned_by_others()?))
    }

    /// What others have pinned, also those that died since the last sweep; soon out of date unless read in
    /// `Store::exclusively`.
    pub fn pinned_by_others(&self) -> Result<BTreeSet<Digest>> {
        let own = self.public_file();
        let mut pinned = BTreeSet::new();
        for entry in fs::read_dir(self.root().join("tmp")).map_err(Error::Io)? {
            let path = entry.map_err(Error::Io)?.path();
            if path.extension().is_none_or(|extension| extension != "lock")
                || Some(&path) == own.as_ref()
            {
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) => {
                    let (pins, _) = bytes.as_chunks::<LENGTH>();
                    pinned.extend(pins.iter().map(|pin| Digest::from_bytes(*pin)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(pinned)
    }
}

/// Whether this is for want of room on the disk.
pub(crate) fn is_full(error: &Error) -> bool {
    match error {
        Error::Io(source) | Error::Lock { source, .. } => {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_seen_by_others_and_end_with_their_process() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (first, second) =
            (Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open"));
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        first.pin(&[a]).expect("pin");
        first.pin(&[b, a]).expect("pin");
        let seen = |store: &Store| store.exclusively(|pinned| Ok(pinned.clone())).expect("read");
        assert_eq!(seen(&second), BTreeSet::from([a, b]));
        assert_eq!(seen(&first), BTreeSet::new(), "its own do not bind it");
        drop(first);
        assert_eq!(seen(&second), BTreeSet::new());
    }

    #[test]
    fn what_a_full_disk_had_no_room_for_is_written_later_and_keeps_nobody_waiting_then() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (user, remover) =
            (Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open"));
        let [a, b, c] = ["a", "b", "c"].map(Digest::of);
        user.pin(&[a]).expect("pin");
        {
            let mut held = user.pins.held.lock().expect("lock");
            held.pinned.insert(b);
            held.unwritten.extend(b.bytes());
            held.lock.lock_shared().expect("lock");
        }
        assert_eq!(remover.pinned_by_others().expect("read"), BTreeSet::from([a]));
        let lock = lock::open(&dir.path().join("lock")).expect("open");
        assert!(lock.try_lock().is_err(), "the lock stands for it");
        user.pin(&[c]).expect("pin");
        lock.try_lock().expect("given up");
        drop(lock);
        let seen = remover.exclusively(|pinned| Ok(pinned.clone())).expect("read");
        assert_eq!(seen, BTreeSet::from([a, b, c]));
    }

    #[test]
    fn nothing_is_pinned_while_somebody_removes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (user, remover) =
            (Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open"));
        let begun = std::sync::Barrier::new(2);
        let removing = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                user.pin(&[Digest::of("a")]).expect("pin");
                assert!(!removing.load(std::sync::atomic::Ordering::SeqCst));
            });
            let work = |pinned: &BTreeSet<Digest>| {
                begun.wait();
                std::thread::sleep(std::time::Duration::from_millis(50));
                assert!(pinned.is_empty());
                assert!(remover.pinned_by_others()?.is_empty());
                removing.store(false, std::sync::atomic::Ordering::SeqCst);
                Ok(())
            };
            remover.exclusively(work).expect("remove");
        });
        assert_eq!(remover.pinned_by_others().expect("read").len(), 1);
    }
}
