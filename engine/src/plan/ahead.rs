//! The files of trees, opened ahead of who reads them.
//!
//! To open a small file takes as long as to read it, and longer if it is not in memory: then the one
//! who reads waits for the disk at each. So threads go ahead of the reader, each with every so-many-th
//! bunch of the files; the kernel begins to read what they open.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;
use std::vec;

use rustix::fs::{Advice, OFlags, fadvise};
use rustix::process::{Resource, getrlimit};

use super::TreeFile;
use crate::tree::Xattrs;

/// More threads than processors: what they do for most of the time is to wait.
const THREADS: usize = 4;

/// Files that are handed over at once.
const BUNCH: usize = 16;

/// Files that are open at once: of each thread a bunch that waits to be taken and one in the making, and
/// one that is read.
const OPEN: u64 = ((2 * THREADS + 1) * BUNCH) as u64;

/// Files that the threads of all copies may have open.
static IN_USE: AtomicU64 = AtomicU64::new(0);

/// With fewer files threads are not worth their starting.
const FEW: usize = 64;

/// As much of a file is asked for when it is opened; the kernel sees by itself how one goes on.
const BEGINNING: u64 = 1 << 20;

/// A file to be read.
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    pub(super) xattrs: Xattrs,
}

/// Files in the order in which they are read.
pub(super) struct Ahead {
    /// What the threads have opened; none if files are opened when they are taken.
    threads: Vec<Receiver<Vec<io::Result<Opened>>>>,
    bunch: vec::IntoIter<io::Result<Opened>>,
    turn: usize,
    _share: Option<Share>,
}

/// A copy's share of the files that this process may have open, the most of which are for others.
struct Share;

impl Share {
    fn take() -> Option<Share> {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        let share = Share;
        (IN_USE.fetch_add(OPEN, Ordering::Relaxed) + OPEN <= most).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        IN_USE.fetch_sub(OPEN, Ordering::Relaxed);
    }
}

impl Ahead {
    /// Begins to open files, in this order. The threads end when all are open, and early when this is
    /// dropped.
    pub(super) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        files: &'env [&'env TreeFile<'env>],
    ) -> Self {
        let mut threads = Vec::new();
        let share = (files.len() >= FEW).then(Share::take).flatten();
        for number in 0..share.as_ref().map_or(0, |_| THREADS) {
            let (opened, taken) = sync_channel(1);
            let bunches = files.chunks(BUNCH).skip(number).step_by(THREADS);
            let thread = std::thread::Builder::new().name("open".into());
            if thread.spawn_scoped(scope, move || open_all(bunches, &opened)).is_err() {
                // One alone is slower, and does it.
                threads.clear();
                break;
            }
            threads.push(taken);
        }
        Self { threads, bunch: Vec::new().into_iter(), turn: 0, _share: share }
    }

    /// Takes the next file.
    pub(super) fn take(&mut self, next: &TreeFile<'_>) -> io::Result<Opened> {
        // There may have been too many open files at that moment.
        self.opened().and_then(Result::ok).map_or_else(|| open(next), Ok)
    }

    fn opened(&mut self) -> Option<io::Result<Opened>> {
        if let Some(opened) = self.bunch.next() {
            return Some(opened);
        }
        let thread = self.threads.get(self.turn)?;
        self.turn = (self.turn + 1) % self.threads.len();
        self.bunch = thread.recv().expect("a thread opens all its files").into_iter();
        self.bunch.next()
    }
}

fn open_all<'a>(
    bunches: impl Iterator<Item = &'a [&'a TreeFile<'a>]>,
    opened: &SyncSender<Vec<io::Result<Opened>>>,
) {
    for bunch in bunches {
        let bunch = bunch.iter().map(|file| {
            let opened = open(file)?;
            let beginning = file.file.metadata().size.min(BEGINNING);
            if let Some(beginning) = std::num::NonZeroU64::new(beginning) {
                // It is only a hint.
                let _ = fadvise(&opened.file, 0, Some(beginning), Advice::WillNeed);
            }
            Ok(opened)
        });
        // The reader has given up, and says why.
        if opened.send(bunch.collect()).is_err() {
            return;
        }
    }
}

fn open(file: &TreeFile<'_>) -> io::Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let opened = file.tree.view().open_at(&file.file.path(), flags)?;
    let xattrs = file.tree.xattrs(opened.as_fd())?;
    Ok(Opened { file: opened, xattrs })
}
