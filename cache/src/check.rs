//! Whether all that lies in the store is what it says it is, and the repair of what can be derived.
//!
//! Everything has a digest, or is derived from what has one: blobs and tars are digested, derived
//! forms of layers are derived once more and compared (`derived`), records name a layer and a text.
//! Files are read in a stream, by all processors. Others may use the store meanwhile; what they make
//! or remove while it is being checked is not a fault, and what they use is not taken from them.
//!
//! Also drops, at the first use of a store after a start of the machine, what was derived before it
//! and never synced: after a loss of power nobody can tell whether it is whole.

mod derived;
mod documents;
mod tars;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::measure;
use crate::store::Store;

/// Where Linux tells which start of the machine this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether faults are only told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is changed.
    Nothing,
    /// What can be derived is made again; what is of no use to anybody goes.
    Derivable,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The thing.
    pub object: String,
    /// What is wrong with it.
    pub wrong: String,
    /// What follows from that.
    pub meaning: String,
    /// What was done about it.
    pub done: Option<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which they were found.
    pub faults: Vec<Fault>,
    /// How many things were looked at.
    pub objects: u64,
    /// How many bytes were digested.
    pub bytes: u64,
}

/// Tells how many bytes of how many have been read.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

impl Store {
    /// Checks everything in the store.
    pub fn check(&self, repair: Repair, progress: Progress<'_>) -> Result<Report> {
        let mut checker = Checker {
            store: self,
            repair,
            report: Report::default(),
            lost_layers: BTreeSet::new(),
            damaged_blobs: BTreeSet::new(),
        };
        checker.blobs_and_tars(progress)?;
        checker.index()?;
        checker.derived()?;
        checker.records()?;
        checker.others()?;
        Ok(checker.report)
    }

    /// Drops what an earlier start of the machine left that was derived and never synced. Nobody can
    /// be using it: whoever opened the store since has been here.
    pub(crate) fn drop_unsynced(&self) -> Result<()> {
        let Ok(boot) = fs::read(BOOT_ID) else { return Ok(()) };
        let path = self.root().join("boot");
        let is_known = || fs::read(&path).is_ok_and(|known| known == boot);
        if is_known() {
            return Ok(());
        }
        let mut trash = Vec::new();
        self.exclusively(|_| {
            if is_known() {
                return Ok(());
            }
            for (_, dir) in self.listed("layers")? {
                // Indexes are synced when they are made; directories are not.
                for form in self.derived_forms(&dir)?.iter().filter(|form| form.is_dir()) {
                    trash.extend(self.take_away(form)?);
                }
            }
            // On a full disk the next process does it all again.
            let _ = self.write_atomically(&path, &boot);
            Ok(())
        })?;
        trash.iter().try_for_each(|path| fs::remove_dir_all(path).map_err(Error::Io))
    }
}

struct Checker<'a> {
    store: &'a Store,
    repair: Repair,
    report: Report,
    /// Layers whose tar is not whole and was not restored.
    lost_layers: BTreeSet<Digest>,
    damaged_blobs: BTreeSet<Digest>,
}

impl Checker<'_> {
    fn fault(
        &mut self,
        object: impl Into<String>,
        wrong: impl Into<String>,
        meaning: impl Into<String>,
        done: Option<&str>,
    ) {
        let (object, wrong, meaning) = (object.into(), wrong.into(), meaning.into());
        let done = done.map(str::to_owned);
        self.report.faults.push(Fault { object, wrong, meaning, done });
    }

    fn repairs(&self) -> bool {
        self.repair == Repair::Derivable
    }

    /// Removes things, in repairs, unless a process has pinned this; tells whether they are gone.
    fn remove(&self, paths: &[PathBuf], pin: Option<&Digest>) -> Result<bool> {
        if !self.repairs() {
            return Ok(false);
        }
        let mut trash = Vec::new();
        let removed = self.store.exclusively(|pinned| {
            if pin.is_some_and(|pin| pinned.contains(pin)) {
                return Ok(false);
            }
            for path in paths {
                trash.extend(self.store.take_away(path)?);
            }
            Ok(true)
        })?;
        trash.iter().try_for_each(|path| fs::remove_dir_all(path).map_err(Error::Io))?;
        Ok(removed)
    }
}

/// Does the work for each job, by all processors; the results are in the jobs' order.
fn in_parallel<T: Sync, R: Send>(jobs: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        while let Some((at, job)) = Some(next.fetch_add(1, Ordering::Relaxed))
            .and_then(|at| jobs.get(at).map(|job| (at, job)))
        {
            done.push((at, work(job)));
        }
        done
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, done)| done).collect()
}

/// The digest of a file; `None` when it is not there.
fn digest_file(path: &Path, read: &AtomicU64, tell: &dyn Fn()) -> io::Result<Option<Digest>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let counting = Counting { inner: file, read, tell };
    Ok(Some(Digest::of_reader(counting)?.0))
}

/// Counts what is read.
struct Counting<'a, R> {
    inner: R,
    read: &'a AtomicU64,
    tell: &'a dyn Fn(),
}

impl<R: io::Read> io::Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        (self.tell)();
        Ok(read)
    }
}

/// Whether something is still there, and so what was found wrong with it was not its removal.
fn is_there(path: &Path) -> Result<bool> {
    Ok(measure::stat(path)?.is_some())
}

#[cfg(test)]
mod tests;
