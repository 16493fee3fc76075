//! What nothing needs any more, and its removal.
//!
//! An image on the list needs its manifest, its configuration and its layers; a record needs its
//! layer; what a build wrote down about itself (`cache/builds`) needs nothing. Deciding
//! ([`Store::plan_prune`]) and doing ([`Store::prune`]) are two functions, and what is decided is a
//! value. Does not know why an image is on the list: who wants one gone takes it off first.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::store::Store;
use crate::usage::{self, Tally};

/// What a thing in the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What a step of a build produced.
    Record,
    /// A layer in all its forms.
    Layer,
    /// A manifest, a configuration, or a layer as the image layout shows it.
    Blob,
    /// Something that was downloaded or cloned.
    Source,
    /// What is known of a build context's files.
    Context,
    /// The directories behind a cache mount.
    Mount,
}

/// How much of the build cache goes.
#[derive(Clone, Debug, Default)]
pub struct CacheScope {
    /// Cache mounts too.
    pub mounts: bool,
    /// Only what was made before this time, in seconds since 1970.
    pub before: Option<i64>,
    /// The newest steps stay as long as their layers need no more than so many bytes.
    pub keep_bytes: Option<u64>,
}

/// One thing that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its name: a digest's hexadecimal digits, or its file's name.
    pub name: String,
    /// What its removal gives back; a file that has another name elsewhere gives back nothing.
    pub bytes: u64,
    path: PathBuf,
}

/// All that goes.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order of removal: who needs something goes before what it needs.
    pub items: Vec<Item>,
}

impl Plan {
    /// What the removal gives back.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// Its things of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.kind == kind)
    }
}

/// What the images on the list need.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) layers: BTreeSet<Digest>,
}

/// A record as it lies there; without a content when it cannot be read.
pub(crate) struct Kept {
    pub(crate) key: Digest,
    pub(crate) record: Option<Record>,
    pub(crate) path: PathBuf,
}

impl Store {
    /// Decides what would go: whatever nothing needs and, within `cache`, the build cache.
    pub fn plan_prune(&self, cache: Option<&CacheScope>) -> Result<Plan> {
        let mut planner = Planner { tally: Tally::of_removal(), plan: Plan::default() };
        let mut needed = self.needed_by_images()?;
        let (stay, go) = self.split_records(&needed, cache)?;
        for kept in go {
            planner.add(Kind::Record, &kept.path)?;
        }
        needed.layers.extend(stay.values().map(|record| record.layer));
        if let Some(scope) = cache {
            self.plan_cache(scope, &mut planner)?;
        }
        for (digest, path) in self.listed("layers")? {
            if !needed.layers.contains(&digest) {
                planner.add(Kind::Layer, &path)?;
            }
        }
        for (digest, path) in self.listed("images/blobs/sha256")? {
            if !needed.blobs.contains(&digest) {
                planner.add(Kind::Blob, &path)?;
            }
        }
        Ok(planner.plan)
    }

    /// Takes images off the list, given by the digests of their manifests, and removes what
    /// [`Store::plan_prune`] decides then, while no other process uses the store; `None` when one
    /// does, and then nothing has changed.
    pub fn prune(&self, images: &[Digest], cache: Option<&CacheScope>) -> Result<Option<Plan>> {
        let mut trash = Vec::new();
        let pruned = self.try_exclusively(|| {
            self.sweep()?;
            for image in images {
                self.forget_image(image)?;
            }
            let plan = self.plan_prune(cache)?;
            for item in &plan.items {
                trash.extend(self.discard(&item.path)?);
            }
            Ok(plan)
        })?;
        // Others need not wait for this; after a crash the directories are swept with our scratch.
        for path in trash {
            fs::remove_dir_all(path).map_err(Error::Io)?;
        }
        Ok(pruned)
    }

    /// Takes a file or a directory away at once, so that nobody ever sees half of a layer; returns
    /// where a directory has gone.
    fn discard(&self, path: &Path) -> Result<Option<PathBuf>> {
        let gone = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                match self.scratch_dir() {
                    Ok(trash) => {
                        return fs::rename(path, &trash).map(|()| Some(trash)).map_err(Error::Io);
                    }
                    // A full disk has no room even for this. The tar goes first: without it the
                    // layer is not there.
                    Err(_) => {
                        let _ = fs::remove_file(path.join("layer.tar"));
                        fs::remove_dir_all(path)
                    }
                }
            }
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Io(error)),
            _ => Ok(None),
        }
    }

    /// What the images on the list need. An image that cannot be read cannot be used either, and so
    /// needs nothing but the right to be found damaged.
    pub(crate) fn needed_by_images(&self) -> Result<Needed> {
        let mut needed = Needed::default();
        for listed in self.list_images()? {
            needed.blobs.insert(listed.digest);
            match self.read_image(&listed.digest) {
                Ok(image) => {
                    needed.blobs.insert(image.id());
                    needed.blobs.extend(image.manifest.layers.iter().map(|layer| layer.digest));
                    needed.layers.extend(&image.config.rootfs.diff_ids);
                }
                Err(Error::Missing { .. } | Error::Corrupt { .. } | Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(needed)
    }

    /// All records, the newest first.
    pub(crate) fn kept_records(&self) -> Result<Vec<Kept>> {
        let mut all = Vec::new();
        for (key, path) in self.listed("cache/records")? {
            let bytes = fs::read(&path).map_err(Error::Io)?;
            all.push(Kept { key, record: Record::parse(&bytes), path });
        }
        all.sort_by_key(|kept| {
            std::cmp::Reverse(kept.record.as_ref().map(|record| record.finished))
        });
        Ok(all)
    }

    /// Divides the records into those that stay and those that go. One that cannot be read, or
    /// whose layer is gone, is of no use to anybody.
    fn split_records(
        &self,
        needed: &Needed,
        cache: Option<&CacheScope>,
    ) -> Result<(BTreeMap<Digest, Record>, Vec<Kept>)> {
        let (mut stay, mut go) = (BTreeMap::new(), Vec::new());
        let mut tally = Tally::of_use();
        for kept in self.kept_records()? {
            let useful = match &kept.record {
                Some(record) => self.layer(&record.layer)?.is_some(),
                None => false,
            };
            let stays = match (&kept.record, cache) {
                (Some(_), None) => useful,
                (Some(record), Some(scope)) => {
                    useful
                        && (is_newer(record.finished, scope.before)
                            || self.fits(record, needed, scope, &mut tally)?)
                }
                (None, _) => false,
            };
            match kept.record {
                Some(record) if stays => drop(stay.insert(kept.key, record)),
                _ => go.push(kept),
            }
        }
        Ok((stay, go))
    }

    /// Tells whether a record's layer is within what may be kept; layers of images cost nothing.
    fn fits(
        &self,
        record: &Record,
        needed: &Needed,
        scope: &CacheScope,
        tally: &mut Tally,
    ) -> Result<bool> {
        let Some(limit) = scope.keep_bytes else { return Ok(false) };
        if !needed.layers.contains(&record.layer) {
            tally.add(&self.layer_dir(&record.layer))?;
        }
        Ok(tally.total() <= limit)
    }

    /// Adds what the build cache has beside records and layers.
    fn plan_cache(&self, scope: &CacheScope, planner: &mut Planner) -> Result<()> {
        // What keeps steps for their size keeps what they were made from.
        let also = [
            (Kind::Source, "cache/sources", scope.keep_bytes.is_none()),
            (Kind::Context, "cache/context", scope.keep_bytes.is_none()),
            (Kind::Mount, "cache/mounts", scope.mounts),
        ];
        for (kind, dir, goes) in also {
            for path in usage::children(&self.root().join(dir))? {
                if goes && is_old(&path, scope.before)? {
                    planner.add(kind, &path)?;
                }
            }
        }
        Ok(())
    }

    /// What lies in a directory of the store under names that are digests.
    pub(crate) fn listed(&self, dir: &str) -> Result<Vec<(Digest, PathBuf)>> {
        let children = usage::children(&self.root().join(dir))?;
        let digest = |path: &PathBuf| Digest::from_hex(path.file_name()?.to_str()?);
        Ok(children.into_iter().filter_map(|path| Some((digest(&path)?, path))).collect())
    }
}

struct Planner {
    tally: Tally,
    plan: Plan,
}

impl Planner {
    fn add(&mut self, kind: Kind, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = self.tally.add(path)?;
        self.plan.items.push(Item { kind, name, bytes, path: path.to_owned() });
        Ok(())
    }
}

fn is_newer(made: i64, limit: Option<i64>) -> bool {
    limit.is_some_and(|limit| made >= limit)
}

/// Tells whether a file was last changed before the limit.
fn is_old(path: &Path, limit: Option<i64>) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(!is_newer(metadata.mtime(), limit)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::Io(error)),
    }
}

#[cfg(test)]
mod tests;
