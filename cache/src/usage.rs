//! What takes the disk: images on one side, the build cache on the other.
//!
//! Counts what the file system gives away for a file (its blocks), and a file with several names
//! once: a layer's tar is the same file in `layers/` and among the blobs. A layer that an image
//! needs counts as the image's, also when the build cache would know it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::error::{Error, Result};
use crate::prune::{Kept, Kind, Needed};
use crate::store::Store;

/// Blocks are counted in these units, whatever the file system's own are (stat(2)).
const BLOCK: u64 = 512;

/// What takes the disk.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Bytes of what images need.
    pub images: u64,
    /// What the build cache has.
    pub cache: Vec<Entry>,
}

/// One thing of the build cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name: a digest's hexadecimal digits, or its file's name.
    pub name: String,
    /// What it says of itself: the id of a cache mount.
    pub description: String,
    /// Bytes of it, its layer included; what an earlier entry has counted is not counted again.
    pub bytes: u64,
    /// When it was made or last changed, in seconds since 1970.
    pub changed: i64,
    /// Whether an image needs its layer; the layer's bytes are the images' then.
    pub shared: bool,
}

impl Usage {
    /// Bytes of the whole build cache.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.iter().map(|entry| entry.bytes).sum()
    }
}

impl Store {
    /// Measures what takes the disk.
    pub fn usage(&self) -> Result<Usage> {
        let needed = self.needed_by_images()?;
        let mut tally = Tally::of_use();
        for blob in &needed.blobs {
            tally.add(&self.blob_path(blob))?;
        }
        for layer in &needed.layers {
            tally.add(&self.layer_dir(layer))?;
        }
        let mut usage = Usage { images: tally.total(), cache: Vec::new() };
        let mut named = BTreeSet::new();
        for kept in self.kept_records()? {
            if let Some(record) = &kept.record {
                named.insert(record.layer);
            }
            usage.cache.push(self.step_entry(&kept, &needed, &mut tally)?);
        }
        for (digest, path) in self.listed("layers")? {
            if !needed.layers.contains(&digest) && !named.contains(&digest) {
                usage.cache.push(entry(Kind::Layer, &path, &mut tally)?);
            }
        }
        let also = [
            (Kind::Source, "cache/sources"),
            (Kind::Context, "cache/context"),
            (Kind::Mount, "cache/mounts"),
        ];
        for (kind, dir) in also {
            for path in children(&self.root().join(dir))? {
                // Locks say nothing and hold nothing.
                if path.extension().is_none_or(|extension| extension != "lock") {
                    usage.cache.push(entry(kind, &path, &mut tally)?);
                }
            }
        }
        Ok(usage)
    }

    /// A step of a build: its record, its key's text and its layer.
    fn step_entry(&self, kept: &Kept, needed: &Needed, tally: &mut Tally) -> Result<Entry> {
        let mut step = entry(Kind::Record, &kept.path, tally)?;
        if let Some(record) = &kept.record {
            step.bytes += tally.add(&self.layer_dir(&record.layer))?;
            step.changed = record.finished;
            step.shared = needed.layers.contains(&record.layer);
        }
        Ok(step)
    }
}

fn entry(kind: Kind, path: &Path, tally: &mut Tally) -> Result<Entry> {
    let bytes = tally.add(path)?;
    let changed = fs::symlink_metadata(path).map_or(0, |metadata| metadata.mtime());
    let description = match kind {
        Kind::Mount => fs::read_to_string(path.join("id")).unwrap_or_default(),
        _ => String::new(),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Entry { kind, name, description, bytes, changed, shared: false })
}

/// Adds up files by what they take on the disk.
pub(crate) struct Tally {
    /// How often each file with several names has been met.
    met: BTreeMap<(u64, u64), u64>,
    removal: bool,
    total: u64,
}

impl Tally {
    /// Counts a file at the first of its names.
    pub(crate) fn of_use() -> Self {
        Self { met: BTreeMap::new(), removal: false, total: 0 }
    }

    /// Counts a file at the last of its names: only then its removal gives anything back.
    pub(crate) fn of_removal() -> Self {
        Self { removal: true, ..Self::of_use() }
    }

    /// All that was counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Adds a file or a whole directory and returns what it added; what is not there adds nothing.
    pub(crate) fn add(&mut self, path: &Path) -> Result<u64> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::Io(error)),
        };
        let mut bytes = self.count(&metadata);
        if metadata.is_dir() {
            for child in children(path)? {
                bytes += self.add(&child)?;
            }
        }
        Ok(bytes)
    }

    fn count(&mut self, metadata: &Metadata) -> u64 {
        // A directory's links are its subdirectories, and it may be given more than once, too.
        let names = if metadata.is_dir() { 1 } else { metadata.nlink() };
        let met = self.met.entry((metadata.dev(), metadata.ino())).or_default();
        *met += 1;
        let counts_at = if self.removal { names } else { 1 };
        let bytes = if *met == counts_at { metadata.blocks() * BLOCK } else { 0 };
        self.total += bytes;
        bytes
    }
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
