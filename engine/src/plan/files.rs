//! The files of trees, as a layer takes them: each is read while it is written, its attributes with
//! it, and its digest is learnt on the way if its tree does not know that yet.
//!
//! A file that is not what was looked at ends the copy: what is kept under a key must be what the
//! key says.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use cache::content::ContentHasher;
use cache::layer::writer::Append;
use cache::layer::{Entry, Kind, Timestamp};
use rustix::fs::AtFlags;

use super::ahead::Opened;
use super::{Error, TreeFile, shown};
use crate::view::metadata_at;

/// Writes a tree's file.
pub(super) fn append(
    out: &mut dyn Append,
    to: &[u8],
    file: &TreeFile<'_>,
    opened: io::Result<Opened>,
    clamped: impl Fn(Timestamp) -> Timestamp,
) -> Result<(), Error> {
    let TreeFile { tree, file, mode, uid, gid } = *file;
    let (path, seen) = (&file.path(), file.metadata());
    let read = |source| Error::Read { path: shown(path), source };
    let Opened { file, xattrs } = opened.map_err(read)?;
    let (kind, mtime) = (Kind::File { size: seen.size }, clamped(seen.mtime));
    let (uid, gid) = (uid.into(), gid.into());
    let entry = Entry { path: to.to_vec(), kind, mode, uid, gid, mtime, xattrs };
    let hasher = tree.wants_digest(path, seen).then(ContentHasher::new);
    let mut content = Digested { file: File::from(file), hasher };
    let appended = out.append(&entry, &mut content);
    let now = metadata_at(content.file.as_fd(), b"", AtFlags::EMPTY_PATH).map_err(read)?;
    if (now.size, now.mtime, now.ctime) != (seen.size, seen.mtime, seen.ctime) {
        return Err(Error::Changed(shown(path)));
    }
    appended?;
    if let Some(hasher) = content.hasher {
        tree.learn(path, seen, hasher, &entry.xattrs);
    }
    Ok(())
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
