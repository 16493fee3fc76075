//! The files of trees, as a layer takes them: each is read while it is written, its attributes with
//! it, and its digest is learnt on the way if its tree does not know that yet. One that an earlier
//! layer has is taken from there.
//!
//! A file that is not what was looked at ends the copy: what is kept under a key must be what the
//! key says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use cache::content::{ContentDigest, ContentHasher};
use cache::layer::writer::{Append, Place};
use cache::layer::{Entry, Kind, Timestamp};
use rustix::fs::AtFlags;

use super::ahead::Opened;
use super::{Error, TreeFile, shown};
use crate::view::metadata_at;

/// Where an earlier layer has a tree's file as it is now.
pub(super) fn find(
    out: &dyn Append,
    to: &[u8],
    file: &TreeFile<'_>,
    clamped: impl Fn(Timestamp) -> Timestamp,
) -> Option<Place> {
    let content = known(file)?;
    out.find(&entry(to, file, BTreeMap::new(), clamped), Some(&content))
}

/// Writes a tree's file that was found.
pub(super) fn append_from(
    out: &mut dyn Append,
    to: &[u8],
    file: &TreeFile<'_>,
    place: Place,
    clamped: impl Fn(Timestamp) -> Timestamp,
) -> Result<(), Error> {
    // One with attributes is not found.
    Ok(out.append_from(&entry(to, file, BTreeMap::new(), clamped), place)?)
}

/// Writes a tree's file.
pub(super) fn append(
    out: &mut dyn Append,
    to: &[u8],
    file: &TreeFile<'_>,
    opened: io::Result<Opened>,
    clamped: impl Fn(Timestamp) -> Timestamp,
) -> Result<(), Error> {
    let (path, seen) = (&file.file.path(), file.file.metadata());
    let read = |source| Error::Read { path: shown(path), source };
    let opened = opened.map_err(read)?;
    let entry = entry(to, file, opened.xattrs, clamped);
    let known = known(file);
    let hasher = (known.is_none() && file.tree.remembers_digests()).then(ContentHasher::new);
    let mut content = Digested { file: File::from(opened.file), hasher };
    let appended = out.append(&entry, &mut content);
    let now = metadata_at(content.file.as_fd(), b"", AtFlags::EMPTY_PATH).map_err(read)?;
    if (now.size, now.mtime, now.ctime) != (seen.size, seen.mtime, seen.ctime) {
        return Err(Error::Changed(shown(path)));
    }
    appended?;
    let learn = |hasher| file.tree.learn(path, seen, hasher, &entry.xattrs);
    if let Some(digest) = known.or_else(|| content.hasher.map(learn)) {
        out.note(&entry, Some(&digest));
    }
    Ok(())
}

fn known(file: &TreeFile<'_>) -> Option<ContentDigest> {
    file.tree.known_digest(&file.file.path(), file.file.metadata())
}

fn entry(
    to: &[u8],
    file: &TreeFile<'_>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    clamped: impl Fn(Timestamp) -> Timestamp,
) -> Entry {
    let TreeFile { file, mode, uid, gid, .. } = *file;
    let seen = file.metadata();
    let (kind, mtime) = (Kind::File { size: seen.size }, clamped(seen.mtime));
    Entry { path: to.to_vec(), kind, mode, uid: uid.into(), gid: gid.into(), mtime, xattrs }
}

/// A file, and the digest of what was read of it.
struct Digested {
    file: File,
    hasher: Option<ContentHasher>,
}

impl Read for Digested {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}
