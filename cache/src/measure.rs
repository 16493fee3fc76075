//! What files take on the disk: the blocks that the file system gave them, a file with several names
//! once. What is mounted there is none of it.
//!
//! A measure is taken once for a path and kept ([`Measures`]); a [`Tally`] adds measures up. Does
//! not know what the files are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Blocks are counted in these units, whatever the file system's own are (stat(2)).
const BLOCK: u64 = 512;

/// What a file, or a directory with all that is in it, takes.
#[derive(Clone, Debug, Default)]
struct Measure {
    /// Bytes of what has no name elsewhere.
    own: u64,
    /// Files that have one.
    linked: BTreeMap<(u64, u64), Linked>,
}

#[derive(Clone, Copy, Debug)]
struct Linked {
    bytes: u64,
    /// How many names it has, and how many of them were met.
    names: u64,
    met: u64,
}

/// The measures that were taken.
#[derive(Debug, Default)]
pub(crate) struct Measures(BTreeMap<PathBuf, Measure>);

impl Measures {
    /// Bytes of a file, or of a directory with all that is in it, taken for itself.
    pub(crate) fn bytes(&mut self, path: &Path) -> Result<u64> {
        let measure = self.of(path)?;
        Ok(measure.own + measure.linked.values().map(|file| file.bytes).sum::<u64>())
    }

    fn of(&mut self, path: &Path) -> Result<&Measure> {
        if !self.0.contains_key(path) {
            let mut measure = Measure::default();
            measure.walk(path)?;
            self.0.insert(path.to_owned(), measure);
        }
        Ok(&self.0[path])
    }
}

impl Measure {
    /// What is not there, and what goes meanwhile, takes nothing. Directories are entered by their
    /// descriptors: what a container has written may be deeper than any path is long, and may become
    /// a link at any moment.
    fn walk(&mut self, path: &Path) -> Result<()> {
        let fail = |errno: Errno| {
            let what = format!("cannot measure {}: {errno}", path.display());
            Error::Io(io::Error::new(errno.kind(), what))
        };
        let Some(root) = present(statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)).map_err(fail)?
        else {
            return Ok(());
        };
        self.count(&root);
        let mut open = Vec::new();
        if is_dir(&root) {
            open.extend(present(openat(CWD, path, DIRECTORY, Mode::empty())).map_err(fail)?);
        }
        let mut open: Vec<Dir> =
            open.into_iter().map(Dir::new).collect::<Result<_, _>>().map_err(fail)?;
        while let Some(dir) = open.last_mut() {
            let Some(entry) = dir.read() else {
                open.pop();
                continue;
            };
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let parent = dir.fd().map_err(fail)?;
            let found = present(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)).map_err(fail)?;
            let Some(found) = found.filter(|found| found.st_dev == root.st_dev) else { continue };
            self.count(&found);
            if is_dir(&found)
                && let Some(child) =
                    present(openat(parent, name, DIRECTORY, Mode::empty())).map_err(fail)?
            {
                open.push(Dir::new(child).map_err(fail)?);
            }
        }
        Ok(())
    }

    fn count(&mut self, found: &Stat) {
        let bytes = found.st_blocks.unsigned_abs() * BLOCK;
        // A directory's links are its subdirectories.
        if is_dir(found) || found.st_nlink < 2 {
            self.own += bytes;
            return;
        }
        let new = Linked { bytes, names: found.st_nlink, met: 0 };
        let id = (found.st_dev, found.st_ino);
        let file = self.linked.entry(id).or_insert(new);
        file.met += 1;
        if file.met == file.names {
            self.own += file.bytes;
            self.linked.remove(&id);
        }
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn is_dir(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

/// Nothing where what was asked for has gone, or has become something else.
fn present<T>(asked: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match asked {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        asked => asked.map(Some),
    }
}

/// Adds up measures.
pub(crate) struct Tally {
    /// How many names of each file have been counted.
    met: BTreeMap<(u64, u64), u64>,
    added: BTreeSet<PathBuf>,
    removal: bool,
    total: u64,
}

impl Tally {
    /// Counts a file at the first of its names.
    pub(crate) fn of_use() -> Self {
        let (met, added) = (BTreeMap::new(), BTreeSet::new());
        Self { met, added, removal: false, total: 0 }
    }

    /// Counts a file at the last of its names: only then its removal gives anything back.
    pub(crate) fn of_removal() -> Self {
        Self { removal: true, ..Self::of_use() }
    }

    /// All that was counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Adds a file, or a directory with all that is in it, and returns what that added: nothing
    /// when the same was added before.
    pub(crate) fn add(&mut self, path: &Path, measures: &mut Measures) -> Result<u64> {
        if !self.added.insert(path.to_owned()) {
            return Ok(0);
        }
        let measure = measures.of(path)?;
        let mut bytes = measure.own;
        for (id, file) in &measure.linked {
            let before = self.met.entry(*id).or_default();
            let after = *before + file.met;
            let counts_at = if self.removal { file.names } else { 1 };
            if (*before + 1..=after).contains(&counts_at) {
                bytes += file.bytes;
            }
            *before = after;
        }
        self.total += bytes;
        Ok(bytes)
    }

    /// Adds a directory like [`Tally::add`], of which parts may have been added before.
    pub(crate) fn add_parts(&mut self, dir: &Path, measures: &mut Measures) -> Result<u64> {
        let mut bytes = 0;
        if self.added.insert(dir.to_owned()) {
            bytes += alone(dir)?;
            self.total += bytes;
        }
        for child in children(dir)? {
            bytes += self.add(&child, measures)?;
        }
        Ok(bytes)
    }
}

/// Bytes of a file, or of a directory without what is in it.
pub(crate) fn alone(path: &Path) -> Result<u64> {
    Ok(stat(path)?.map_or(0, |metadata| metadata.blocks() * BLOCK))
}

/// What is in a directory, sorted; nothing when it is not there.
pub(crate) fn children(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::Io(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>().map_err(Error::Io)?;
    paths.sort();
    Ok(paths)
}

/// A file's metadata, links not followed; `None` when it is not there.
pub(crate) fn stat(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Three names of one file of 64 KiB in two directories, and a file of its own.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        fs::write(dir.path().join("a/1"), [1; 1 << 16]).expect("write");
        fs::write(dir.path().join("b/own"), [1; 1 << 14]).expect("write");
        for name in ["a/2", "b/3"] {
            fs::hard_link(dir.path().join("a/1"), dir.path().join(name)).expect("link");
        }
        dir
    }

    #[test]
    fn a_file_with_many_names_counts_once_at_the_first_or_at_the_last() {
        let dir = folder();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut measures = Measures::default();
        let mut add = |tally: &mut Tally, path: &Path| {
            // Blocks of the directories themselves are up to the file system.
            let directory = alone(path).expect("stat");
            tally.add(path, &mut measures).expect("measure") - directory
        };
        let mut used = Tally::of_use();
        assert_eq!([add(&mut used, &a), add(&mut used, &b)], [1 << 16, 1 << 14]);
        let mut removed = Tally::of_removal();
        assert_eq!([add(&mut removed, &a), add(&mut removed, &b)], [0, (1 << 14) + (1 << 16)]);
        assert_eq!(measures.bytes(&dir.path().join("none")).expect("measure"), 0);
    }

    #[test]
    fn a_tree_deeper_than_a_path_is_long_is_measured() {
        let dir = tempfile::tempdir().expect("tempdir");
        let name = "d".repeat(200);
        let mut above = openat(CWD, dir.path(), DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..50 {
            rustix::fs::mkdirat(&above, &name, Mode::RWXU).expect("mkdir");
            above = openat(&above, &name, DIRECTORY, Mode::empty()).expect("open");
        }
        let file = openat(&above, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU);
        std::fs::File::from(file.expect("create")).write_all(&[1; 1 << 16]).expect("write");
        assert!(Measures::default().bytes(dir.path()).expect("measure") >= 1 << 16);
    }

    #[test]
    fn what_was_added_in_parts_is_not_added_again() {
        let dir = folder();
        let (mut measures, mut tally) = (Measures::default(), Tally::of_use());
        let part = tally.add(&dir.path().join("b/own"), &mut measures).expect("measure");
        let rest = tally.add_parts(&dir.path().join("b"), &mut measures).expect("measure");
        let whole = measures.bytes(&dir.path().join("b")).expect("measure");
        assert_eq!((part, part + rest, tally.total()), (1 << 14, whole, whole));
        assert_eq!(tally.add_parts(&dir.path().join("b"), &mut measures).expect("measure"), 0);
    }
}
