//! What takes the disk: images, containers, volumes, the build cache, and a frame around them.
//!
//! All parts together are what `du` says of the store (`measure` tells how files are counted). A
//! layer that an image needs counts as the image's, also when the build cache would know it; one that
//! only containers need, because their image is off the list, counts as theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::measure::{Measures, Tally, alone, children, stat};
use crate::prune::containers::NeededByContainers;
use crate::prune::{Kept, Kind, Needed};
use crate::store::Store;

/// What takes the disk.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Bytes of what images need.
    pub images: u64,
    /// Bytes of those of them that containers need too.
    pub images_in_use: u64,
    /// What containers have, by their ids.
    pub containers: BTreeMap<String, ContainerUse>,
    /// Bytes of what only containers need: layers and blobs of images that are off the list.
    pub off_list: u64,
    /// Bytes of each volume, by name.
    pub volumes: BTreeMap<String, u64>,
    /// What the build cache has.
    pub cache: Vec<Entry>,
    /// Bytes of what is being made, and of what containers that run have written.
    pub scratch: u64,
    /// Bytes of the directories that everything lies in, and of the files that hold it together.
    pub frame: u64,
}

/// What a container takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// Bytes of all its files, its log and its records too.
    pub all: u64,
    /// Bytes of what it has written into its file system.
    pub written: u64,
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
    /// When it was made, in seconds since 1970; of what changes, when it last did.
    pub changed: i64,
    /// When it was last used, as far as that is known.
    pub used: i64,
    /// Whether an image needs its layer; the layer's bytes are the images' then.
    pub shared: bool,
}

impl Usage {
    /// Bytes of the whole build cache.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.iter().map(|entry| entry.bytes).sum()
    }

    /// Bytes of all containers, of what only they need, and of what is being made.
    pub fn container_bytes(&self) -> u64 {
        let own = self.containers.values().map(|container| container.all).sum::<u64>();
        own + self.off_list + self.scratch
    }

    /// Bytes of the whole store.
    pub fn total(&self) -> u64 {
        let volumes = self.volumes.values().sum::<u64>();
        self.images + self.container_bytes() + volumes + self.cache_bytes() + self.frame
    }
}

/// What the build cache has beside records and layers.
pub(crate) const ALSO: [(Kind, &str); 4] = [
    (Kind::Source, "cache/sources"),
    (Kind::Context, "cache/context"),
    (Kind::Mount, "cache/mounts"),
    (Kind::Journal, "cache/builds"),
];

impl Store {
    /// Measures what takes the disk.
    pub fn usage(&self) -> Result<Usage> {
        self.measure_usage(&mut Measures::default())
    }

    /// Bytes that a file or a directory of the store takes with all that is in it.
    pub fn bytes_of(&self, path: &Path) -> Result<u64> {
        Measures::default().bytes(path)
    }

    pub(crate) fn measure_usage(&self, measures: &mut Measures) -> Result<Usage> {
        let needed = self.needed_by_images(&[])?;
        let by_containers = match self.needed_by_containers(&BTreeSet::new()) {
            // What the disk is full of can be told without it.
            Err(Error::Damaged { .. }) => NeededByContainers::default(),
            needed => needed?,
        };
        let mut tally = Tally::of_use();
        let mut usage = Usage::default();
        let in_use = |blob: &&Digest| by_containers.blobs.contains_key(blob);
        let under = |layer: &&Digest| by_containers.layers.contains_key(layer);
        self.tally(
            needed.blobs.iter().filter(in_use),
            needed.layers.iter().filter(under),
            &mut tally,
            measures,
        )?;
        usage.images_in_use = tally.total();
        self.tally(needed.blobs.iter(), needed.layers.iter(), &mut tally, measures)?;
        usage.images = tally.total();
        let (blobs, layers) = (by_containers.blobs.keys(), by_containers.layers.keys());
        self.tally(blobs, layers, &mut tally, measures)?;
        usage.off_list = tally.total() - usage.images;
        let mut needed = needed;
        needed.blobs.extend(by_containers.blobs.into_keys());
        needed.layers.extend(by_containers.layers.into_keys());
        let mut named = BTreeSet::new();
        for kept in self.kept_records()? {
            if let Some(record) = &kept.record {
                named.insert(record.layer);
            }
            usage.cache.push(self.step_entry(&kept, &needed, &mut tally, measures)?);
        }
        for (digest, path) in self.listed("layers")? {
            if !needed.layers.contains(&digest) && !named.contains(&digest) {
                let bytes = tally.add_parts(&path, measures)?;
                usage.cache.push(entry(Kind::Layer, &path, bytes)?);
            }
        }
        for (digest, path) in self.listed("images/blobs/sha256")? {
            if !needed.blobs.contains(&digest) {
                let bytes = tally.add(&path, measures)?;
                // A layer's other name takes nothing and would only be in the way.
                usage.cache.extend((bytes > 0).then_some(entry(Kind::Blob, &path, bytes)?));
            }
        }
        for (kind, dir) in ALSO {
            for path in children(&self.root().join(dir))? {
                // Locks say nothing and hold nothing.
                if path.extension().is_none_or(|extension| extension != "lock") {
                    let bytes = tally.add(&path, measures)?;
                    usage.cache.push(entry(kind, &path, bytes)?);
                }
            }
        }
        for path in children(&self.root().join("tmp"))? {
            usage.scratch += tally.add(&path, measures)?;
        }
        for (id, path) in self.listed("containers")? {
            let written = tally.add(&path.join("upper"), measures)?;
            let all = written + tally.add_parts(&path, measures)?;
            usage.containers.insert(id.hex(), ContainerUse { all, written });
        }
        for path in children(&self.root().join("volumes"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                usage.volumes.insert(name, tally.add(&path, measures)?);
            }
        }
        usage.frame = self.frame()?;
        // What is known to others than this crate.
        for path in self.frame_of_others()? {
            usage.frame += tally.add(&path, measures)?;
        }
        Ok(usage)
    }

    fn tally<'d>(
        &self,
        blobs: impl Iterator<Item = &'d Digest>,
        layers: impl Iterator<Item = &'d Digest>,
        tally: &mut Tally,
        measures: &mut Measures,
    ) -> Result<()> {
        for blob in blobs {
            tally.add(&self.blob_path(blob), measures)?;
        }
        for layer in layers {
            tally.add_parts(&self.layer_dir(layer), measures)?;
        }
        Ok(())
    }

    /// A step of a build: its record, its key's text and its layer.
    fn step_entry(
        &self,
        kept: &Kept,
        needed: &Needed,
        tally: &mut Tally,
        measures: &mut Measures,
    ) -> Result<Entry> {
        let bytes = tally.add(&kept.path, measures)?;
        let mut step = entry(Kind::Record, &kept.path, bytes)?;
        if let Some(record) = &kept.record {
            step.bytes += tally.add_parts(&self.layer_dir(&record.layer), measures)?;
            step.changed = record.finished;
            step.used = kept.used;
            step.shared = needed.layers.contains(&record.layer);
        }
        Ok(step)
    }

    /// Bytes of the store's own directories, and of the files that lie right in them.
    fn frame(&self) -> Result<u64> {
        let mut bytes = 0;
        for dir in ["", "images"] {
            for path in children(&self.root().join(dir))? {
                bytes += alone(&path)?;
            }
        }
        let dirs = ALSO.map(|(_, dir)| dir);
        for dir in ["", "images/blobs/sha256", "cache/records"].iter().chain(&dirs) {
            bytes += alone(&self.root().join(dir))?;
        }
        Ok(bytes)
    }

    /// What lies beside containers and volumes, and in directories that this crate does not know.
    fn frame_of_others(&self) -> Result<Vec<PathBuf>> {
        const KNOWN: [&str; 6] = ["cache", "containers", "images", "layers", "tmp", "volumes"];
        let mut found = Vec::new();
        for path in children(self.root())? {
            let is_known = KNOWN.iter().any(|known| path.ends_with(known));
            if path.is_dir() && !is_known {
                found.extend(children(&path)?);
            }
        }
        for path in children(&self.root().join("containers"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            found.extend(Digest::from_hex(name).is_none().then_some(path));
        }
        let volumes = children(&self.root().join("volumes"))?;
        found.extend(volumes.into_iter().filter(|path| !path.is_dir()));
        Ok(found)
    }
}

fn entry(kind: Kind, path: &Path, bytes: u64) -> Result<Entry> {
    let changed = stat(path)?.map_or(0, |metadata| metadata.mtime());
    let description = match kind {
        Kind::Mount => fs::read_to_string(path.join("id")).unwrap_or_default(),
        _ => String::new(),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Entry { kind, name, description, bytes, changed, used: changed, shared: false })
}
