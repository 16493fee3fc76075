//! The files of trees, as a layer takes them: small ones are read some at a time and by all
//! processors, big ones while they are written. A file's attributes are read with it, and its digest
//! is learnt on the way if its tree does not know that yet.
//!
//! A file that is not what was looked at ends the copy: what is kept under a key must be what the
//! key says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use cache::content::ContentHasher;
use cache::layer::Entry;
use cache::layer::writer::Append;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::fs::{AtFlags, OFlags};

use super::{Content, Error, Planned, shown};
use crate::tree::Tree;
use crate::view::{Metadata, metadata_at, xattrs};

/// Bytes of the biggest file that is read before it is written.
const SMALL: u64 = 256 << 10;

/// Bytes and files that are read before any of them is written.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_FILES: usize = 512;

/// Fewer files than this are read without waking the thread pool.
const FEW: usize = 16;

/// Extended attributes by their names.
type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is in a small file.
pub(super) struct Loaded {
    pub(super) xattrs: Xattrs,
    pub(super) content: Vec<u8>,
}

/// How many of the entries that come next are to be loaded at once: one at least.
pub(super) fn batch(planned: &[Planned<'_>]) -> usize {
    let (mut files, mut bytes) = (0, 0);
    let fits = |planned: &&Planned<'_>| {
        if let Some((_, _, seen)) = small(planned) {
            files += 1;
            bytes += seen.size;
        }
        files <= BATCH_FILES && bytes <= BATCH_BYTES
    };
    planned.iter().take_while(fits).count().max(1)
}

/// Reads the small files among the entries; nothing for the others.
pub(super) fn load(planned: &[Planned<'_>]) -> Result<Vec<Option<Loaded>>, Error> {
    let load = |planned: &Planned<'_>| {
        small(planned).map(|(tree, path, seen)| read(tree, path, seen)).transpose()
    };
    match planned.iter().filter(|planned| small(planned).is_some()).count() {
        ..FEW => planned.iter().map(load).collect(),
        _ => planned.par_iter().map(load).collect(),
    }
}

fn small<'p>(planned: &'p Planned<'_>) -> Option<(&'p Tree, &'p [u8], &'p Metadata)> {
    match &planned.content {
        Content::Tree(tree, path, seen) if seen.size <= SMALL => Some((tree, path, seen)),
        _ => None,
    }
}

fn read(tree: &Tree, path: &[u8], seen: &Metadata) -> Result<Loaded, Error> {
    let failed = |source| Error::Read { path: shown(path), source };
    let (mut file, xattrs) = open(tree, path)?;
    let mut content = vec![0; usize::try_from(seen.size).expect("small")];
    file.read_exact(&mut content).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Changed(shown(path)),
        _ => failed(error),
    })?;
    check_unchanged(&file, path, seen)?;
    if tree.wants_digest(path, seen) {
        let mut hasher = ContentHasher::new();
        hasher.update(&content);
        tree.learn(path, seen, hasher, &xattrs);
    }
    Ok(Loaded { xattrs, content })
}

/// Writes a file that is read on the way.
pub(super) fn append(
    out: &mut dyn Append,
    mut entry: Entry,
    tree: &Tree,
    path: &[u8],
    seen: &Metadata,
) -> Result<(), Error> {
    let (file, xattrs) = open(tree, path)?;
    entry.xattrs = xattrs;
    if !tree.wants_digest(path, seen) {
        let appended = out.append(&entry, &mut &file);
        check_unchanged(&file, path, seen)?;
        return Ok(appended?);
    }
    let mut digested = Digested { file: &file, hasher: ContentHasher::new() };
    let appended = out.append(&entry, &mut digested);
    check_unchanged(&file, path, seen)?;
    appended?;
    tree.learn(path, seen, digested.hasher, &entry.xattrs);
    Ok(())
}

fn open(tree: &Tree, path: &[u8]) -> Result<(File, Xattrs), Error> {
    let failed = |source| Error::Read { path: shown(path), source };
    let file = tree.view().open_at(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(failed)?;
    let xattrs = xattrs(file.as_fd()).map_err(failed)?;
    Ok((File::from(file), xattrs))
}

fn check_unchanged(file: &File, path: &[u8], seen: &Metadata) -> Result<(), Error> {
    let now = metadata_at(file.as_fd(), b"", AtFlags::EMPTY_PATH)
        .map_err(|source| Error::Read { path: shown(path), source })?;
    if (now.size, now.mtime, now.ctime) == (seen.size, seen.mtime, seen.ctime) {
        Ok(())
    } else {
        Err(Error::Changed(shown(path)))
    }
}

/// A file, and the digest of what was read of it.
struct Digested<'a> {
    file: &'a File,
    hasher: ContentHasher,
}

impl Read for Digested<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
