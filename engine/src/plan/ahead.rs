//! The files of trees, opened ahead of who reads them.
//!
//! To open a small file takes as long as to read it, and longer if it is not in memory: then the one
//! who reads waits for the disk at each. So threads go ahead of the reader, each with every so-many-th
//! bunch of the files; the kernel begins to read what they open.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;
use std::vec;

use rustix::fs::{Advice, OFlags, fadvise};

use super::TreeFile;
use crate::tree::Xattrs;

/// More threads than processors: what they do for most of the time is to wait.
const THREADS: usize = 4;

/// Files that are handed over at once.
const BUNCH: usize = 16;

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
}

impl Ahead {
    /// Begins to open files, in this order. The threads end when all are open, and early when this is
    /// dropped.
    pub(super) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        files: &'env [&'env TreeFile<'env>],
    ) -> io::Result<Self> {
        let mut threads = Vec::new();
        if files.len() >= FEW {
            for number in 0..THREADS {
                let (opened, taken) = sync_channel(1);
                let bunches = files.chunks(BUNCH).skip(number).step_by(THREADS);
                std::thread::Builder::new()
                    .name("open".into())
                    .spawn_scoped(scope, move || open_all(bunches, &opened))?;
                threads.push(taken);
            }
        }
        Ok(Self { threads, bunch: Vec::new().into_iter(), turn: 0 })
    }

    /// Takes the next file.
    pub(super) fn take(&mut self, next: &TreeFile<'_>) -> io::Result<Opened> {
        if let Some(opened) = self.bunch.next() {
            return opened;
        }
        let Some(thread) = self.threads.get(self.turn) else { return open(next) };
        self.turn = (self.turn + 1) % self.threads.len();
        self.bunch = thread.recv().expect("a thread opens all its files").into_iter();
        self.bunch.next().expect("a bunch has a file")
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
