//! What nothing needs any more, and its removal.
//!
//! An image on the list needs its manifest, its configuration and its layers; a container the same of
//! its image, also when that is off the list (`containers`); a record needs its layer; what a build wrote down about itself (`cache/builds`) needs nothing. Deciding
//! ([`Store::plan_prune`], `decide`) and doing ([`Store::prune`]) are two functions, and what is
//! decided is a value. Does not know why an image is on the list: who wants one gone names it.
//!
//! Others may use the store meanwhile: what they have pinned stays (`pins` says why that is enough).
//! The decision is made twice. The first time anybody may go on, and what takes long, measuring, is
//! kept; the second time, quickly and with the lock, is what counts: between the two somebody may
//! have come to need a thing and have ended.

pub(crate) mod containers;
mod decide;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::known::BLOBS;
use crate::measure::{self, Measures};
use crate::record::Record;
use crate::regular;
use crate::removal::remove_dir_all;
use crate::store::Store;

/// What a thing in the store is; in this order they go: who needs something before what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An image on the list.
    Image,
    /// What a build wrote down about itself.
    Journal,
    /// What a step of a build produced.
    Record,
    /// What was derived from a layer to mount it.
    Derived,
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

/// What is to go beside what nothing needs.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Images, by the digests of their manifests; those that a process or a container uses stay.
    pub images: Vec<Digest>,
    /// How much of the build cache.
    pub cache: Option<CacheScope>,
}

/// How much of the build cache goes: all of it, or as little as the limits allow.
#[derive(Clone, Debug, Default)]
pub struct CacheScope {
    /// Cache mounts too, and what builds wrote down about themselves.
    pub mounts: bool,
    /// Only what was last used before this time, in seconds since 1970.
    pub before: Option<i64>,
    /// No more than what brings the build cache down to so many bytes.
    pub keep_bytes: Option<u64>,
    /// No more than what brings the whole store down to so many bytes; for that, cache mounts and
    /// derived forms of layers may go too.
    pub max_bytes: Option<u64>,
}

/// Why a thing goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No image, no container and no step needs it.
    Unneeded,
    /// It is of no use to anybody.
    Useless(&'static str),
    /// The build cache is to go, and this is its turn.
    Unused(Use),
}

/// Why a thing stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// An image needs it.
    Image,
    /// The container of this name needs it.
    Container(String),
    /// A process uses it, or its layer is that of an image or a step in use.
    InUse,
    /// It was used after the time that was given.
    Recent(Use),
    /// The limit is kept without its removal.
    Fits(Use),
    /// Nobody asked for things of this kind to go.
    NotAsked,
}

/// When something was last used, and what it takes to make it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Seconds since 1970.
    pub last: i64,
    /// Milliseconds to make it, if that was ever measured.
    pub took_ms: Option<u64>,
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
    /// Why.
    pub reason: Reason,
    paths: Vec<PathBuf>,
}

/// One thing that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staying {
    /// What it is.
    pub kind: Kind,
    /// Its name: a digest's hexadecimal digits, or its file's name.
    pub name: String,
    /// Why.
    pub why: Stay,
}

/// All that goes, and all that does not.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The images that go off the list: those of the scope that nobody uses.
    pub images: Vec<Digest>,
    /// In the order of removal.
    pub items: Vec<Item>,
    /// What stays.
    pub stays: Vec<Staying>,
    /// Where a limit was given for the whole store, what it takes afterwards.
    pub left: Option<u64>,
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

impl Needed {
    fn add(&mut self, image: &Image) {
        self.blobs.insert(image.id());
        self.blobs.extend(image.manifest.layers.iter().map(|layer| layer.digest));
        self.layers.extend(&image.config.rootfs.diff_ids);
    }
}

/// A record as it lies there; without a content when it cannot be read.
pub(crate) struct Kept {
    pub(crate) key: Digest,
    pub(crate) record: Option<Record>,
    /// When it was last used, in seconds since 1970.
    pub(crate) used: i64,
    pub(crate) path: PathBuf,
}

impl Store {
    /// Decides what would go now.
    pub fn plan_prune(&self, scope: &Scope) -> Result<Plan> {
        self.plan_prune_without(scope, &BTreeSet::new())
    }

    /// Decides what would go if these containers, by their ids, had gone.
    pub fn plan_prune_without(&self, scope: &Scope, gone: &BTreeSet<Digest>) -> Result<Plan> {
        self.decide(scope, gone, &self.pinned_by_others()?, &mut Measures::default())
    }

    /// Removes what [`Store::plan_prune`] decides, while others may use the store.
    pub fn prune(&self, scope: &Scope) -> Result<Plan> {
        let mut measures = Measures::default();
        let none = BTreeSet::new();
        self.decide(scope, &none, &self.pinned_by_others()?, &mut measures)?;
        let mut trash = Vec::new();
        let pruned = self.exclusively(|pinned| {
            let plan = self.decide(scope, &none, pinned, &mut measures)?;
            // What no image needs goes before the list is written anew: a full disk has no room
            // for the new one until something is gone.
            let of_images = |item: &&Item| matches!(item.kind, Kind::Layer | Kind::Blob);
            for path in plan.items.iter().filter(|item| !of_images(item)).flat_map(|i| &i.paths) {
                trash.extend(self.take_away(path)?);
            }
            for image in &plan.images {
                self.forget_image(image)?;
            }
            for path in plan.items.iter().filter(of_images).flat_map(|item| &item.paths) {
                trash.extend(self.take_away(path)?);
            }
            Ok(plan)
        });
        // Others need not wait for this; after a crash the directories are swept with our scratch.
        for path in trash {
            remove_dir_all(path).map_err(Error::Io)?;
        }
        pruned
    }

    fn decide(
        &self,
        scope: &Scope,
        gone: &BTreeSet<Digest>,
        pinned: &BTreeSet<Digest>,
        measures: &mut Measures,
    ) -> Result<Plan> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let needed = self.needed_by_containers(gone)?;
        decide::Decision::new(self, scope, needed, pinned, measures, now.as_secs() as i64)?.plan()
    }

    /// Takes a file or a directory away at once, so that nobody ever sees half of a layer; returns
    /// where a directory has gone.
    pub(crate) fn take_away(&self, path: &Path) -> Result<Option<PathBuf>> {
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
                        remove_dir_all(path)
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

    /// What the images on the list need, but for those that are `going`. An image that cannot be
    /// read cannot be used either, and so needs nothing but the right to be found damaged.
    pub(crate) fn needed_by_images(&self, going: &[Digest]) -> Result<Needed> {
        let mut needed = Needed::default();
        for listed in self.list_images()? {
            if going.contains(&listed.digest) {
                continue;
            }
            needed.blobs.insert(listed.digest);
            needed.blobs.extend(&listed.documents);
            match self.peek_image(&listed.digest) {
                Ok(image) => needed.add(&image),
                Err(Error::Missing { .. } | Error::Corrupt { .. } | Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            self.others(&listed)?.iter().for_each(|image| needed.add(image));
        }
        Ok(needed)
    }

    /// All records, the last used first.
    pub(crate) fn kept_records(&self) -> Result<Vec<Kept>> {
        let mut all = Vec::new();
        for (key, path) in self.listed("cache/records")? {
            let Some(metadata) = measure::stat(&path)? else { continue };
            let record = match regular::read(&path) {
                Ok(Some(bytes)) => Record::parse(&bytes),
                Ok(None) => continue,
                Err(Error::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            let used = record.as_ref().map_or(0, |record| metadata.mtime().max(record.finished));
            all.push(Kept { key, record, used, path });
        }
        all.sort_by_key(|kept| (std::cmp::Reverse(kept.used), kept.key));
        Ok(all)
    }

    /// What lies in a directory of the store under names that are digests.
    pub(crate) fn listed(&self, dir: &str) -> Result<Vec<(Digest, PathBuf)>> {
        let children = measure::children(&self.root().join(dir))?;
        let digest = |path: &PathBuf| Digest::from_hex(path.file_name()?.to_str()?);
        Ok(children.into_iter().filter_map(|path| Some((digest(&path)?, path))).collect())
    }

    /// The forms of a layer that were derived from its tar, in the order in which they may go: the
    /// mark of an opaque root says how its tree is to be used, and goes last.
    pub(crate) fn derived_forms(&self, layer_dir: &Path) -> Result<Vec<PathBuf>> {
        let mut forms = measure::children(layer_dir)?;
        let is_form = |name: &OsStr| name != "layer.tar" && name != BLOBS;
        forms.retain(|path| path.file_name().is_none_or(is_form));
        forms.sort_by_key(|path| !path.is_dir());
        Ok(forms)
    }
}

#[cfg(test)]
mod tests;
