//! Blobs and layers' tars: each file is digested once, whatever names it has, and one that is not
//! whole is restored from another that is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;

use super::{Checker, Progress, digest_file, in_parallel};
use crate::digest::{Digest, DigestWriter};
use crate::error::{Error, Result};
use crate::layer::pack;
use crate::layer::writer::LayerWriter;
use crate::measure;

/// What a file turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// Nothing: it is not there.
    Missing,
    Digest(Digest),
    Unreadable(String),
}

impl Content {
    fn wrong(&self) -> String {
        match self {
            Self::Missing => "is not there".to_owned(),
            Self::Digest(found) => format!("has another content, with digest {found}"),
            Self::Unreadable(why) => format!("cannot be read: {why}"),
        }
    }
}

/// A file, by all the names it has here.
struct Job {
    bytes: u64,
    names: Vec<PathBuf>,
}

impl Checker<'_> {
    pub(super) fn blobs_and_tars(&mut self, progress: Progress<'_>) -> Result<()> {
        let blobs = self.store.listed("images/blobs/sha256")?;
        let layers = self.store.listed("layers")?;
        let tars = layers.iter().map(|(digest, _)| (*digest, self.store.layer_tar(digest)));
        let tars: Vec<_> = tars.collect();
        let found = self.contents(blobs.iter().chain(&tars).map(|(_, path)| path), progress)?;
        let content = |path: &PathBuf| found.get(path).cloned().unwrap_or(Content::Missing);
        self.report.objects += (blobs.len() + layers.len()) as u64;

        for (digest, path) in &blobs {
            if content(path) != Content::Digest(*digest) {
                self.damaged_blobs.insert(*digest);
            }
        }
        let mut is_layer = BTreeSet::new();
        for (digest, path) in &tars {
            is_layer.insert(*digest);
            let content = content(path);
            let blob_is_bad = self.damaged_blobs.contains(digest);
            match content == Content::Digest(*digest) {
                false => self.bad_tar(digest, &content)?,
                true if blob_is_bad => self.bad_blob_of_layer(digest)?,
                true => {}
            }
        }
        for (digest, path) in blobs.iter().filter(|(digest, _)| !is_layer.contains(digest)) {
            let content = content(path);
            // What was removed meanwhile is nobody's any more.
            if content == Content::Missing {
                self.damaged_blobs.remove(digest);
            } else if content != Content::Digest(*digest) {
                let meaning = "images that need it cannot be used until they are made again";
                self.fault(format!("blob {digest}"), content.wrong(), meaning, None);
            }
        }
        Ok(())
    }

    /// What is in all these files.
    fn contents<'p>(
        &mut self,
        paths: impl Iterator<Item = &'p PathBuf>,
        progress: Progress<'_>,
    ) -> Result<BTreeMap<PathBuf, Content>> {
        let mut files: BTreeMap<(u64, u64), Job> = BTreeMap::new();
        for path in paths {
            if let Some(metadata) = measure::stat(path)? {
                let id = (metadata.dev(), metadata.ino());
                let job = files.entry(id);
                let job = job.or_insert(Job { bytes: metadata.len(), names: Vec::new() });
                job.names.push(path.clone());
            }
        }
        let mut jobs: Vec<Job> = files.into_values().collect();
        // The big ones first: then all processors end together.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.bytes));
        let total = jobs.iter().map(|job| job.bytes).sum();
        let read = AtomicU64::new(0);
        let tell = || progress(read.load(Ordering::Relaxed), total);
        let contents = in_parallel(&jobs, |job| match digest_file(&job.names[0], &read, &tell) {
            Ok(Some(digest)) => Content::Digest(digest),
            Ok(None) => Content::Missing,
            Err(error) => Content::Unreadable(error.to_string()),
        });
        self.report.bytes += read.into_inner();
        let named = jobs.into_iter().zip(contents).flat_map(|(job, content)| {
            job.names.into_iter().map(move |name| (name, content.clone()))
        });
        Ok(named.collect())
    }

    /// A layer's tar is bad: its blob may be whole, or its tree may be what it was packed from.
    fn bad_tar(&mut self, digest: &Digest, content: &Content) -> Result<()> {
        let dir = self.store.layer_dir(digest);
        let blob = self.store.blob_path(digest);
        if *content == Content::Missing && !super::is_there(&dir)? {
            return Ok(());
        }
        let object = format!("layer {digest}");
        let wrong = format!("layer.tar {}", content.wrong());
        let blob_is_whole = !self.damaged_blobs.contains(digest) && super::is_there(&blob)?;
        if blob_is_whole {
            let meaning = "what is built on it fails; its blob is whole";
            let done = self.repairs().then_some("restored from its blob");
            if self.repairs() {
                self.link(&blob, self.store.layer_tar(digest))?;
            }
            self.fault(object, wrong, meaning, done);
            return Ok(());
        }
        if let Some(packed) = self.packed_tree(digest)? {
            let meaning = "what is built on it fails; it can be packed again";
            let done = self.repairs().then_some("packed again from its tree");
            if self.repairs() {
                self.store.publish(&packed, &self.store.layer_tar(digest))?;
                if self.damaged_blobs.remove(digest) {
                    self.link(&self.store.layer_tar(digest), blob)?;
                }
            } else {
                fs::remove_file(packed).map_err(Error::Io)?;
            }
            self.fault(object, wrong, meaning, done);
            return Ok(());
        }
        self.lost_layers.insert(*digest);
        let meaning = "what is built on it fails, until what made it is done again";
        // Out of the way it is no hit any more, and whatever makes it again puts it in its place.
        let removed = self.remove(&[dir, blob], Some(digest))?;
        let done = match (removed, self.repairs()) {
            (true, _) => Some("removed: the step that made it will run again"),
            (false, true) => Some("left, because a process uses it"),
            (false, false) => None,
        };
        self.fault(object, wrong, meaning, done);
        Ok(())
    }

    fn bad_blob_of_layer(&mut self, digest: &Digest) -> Result<()> {
        let (tar, blob) = (self.store.layer_tar(digest), self.store.blob_path(digest));
        let meaning = "images with this layer cannot be copied; the layer's tar is whole";
        if self.repairs() {
            self.link(&tar, blob)?;
            self.damaged_blobs.remove(digest);
        }
        let done = self.repairs().then_some("restored from the layer's tar");
        self.fault(format!("blob {digest}"), "has another content", meaning, done);
        Ok(())
    }

    /// Puts one name of a file in the place of another file.
    fn link(&self, whole: &PathBuf, place: PathBuf) -> Result<()> {
        let link = self.store.scratch_dir()?.join("link");
        fs::hard_link(whole, &link).map_err(Error::Io)?;
        self.store.publish(&link, &place)
    }

    /// A tar out of a layer's tree, if it is the layer's: it is when a step wrote that tree.
    fn packed_tree(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        let Some(tree) = open_dir(&self.store.layer_dir(digest).join("tree"))? else {
            return Ok(None);
        };
        let path = self.store.scratch_dir()?.join("layer.tar");
        let file = fs::File::create(&path).map_err(Error::Io)?;
        let mut tar = LayerWriter::new(DigestWriter::new(file));
        let packed = pack::pack_upper(tree.as_fd(), &mut tar, None).and_then(|_| tar.finish());
        match packed.map(DigestWriter::finish) {
            Ok((file, found)) if found == *digest => {
                file.sync_all().map_err(Error::Io)?;
                Ok(Some(path))
            }
            _ => fs::remove_file(&path).map_err(Error::Io).map(|()| None),
        }
    }
}

/// Opens a directory; `None` when it is not there.
pub(super) fn open_dir(path: &std::path::Path) -> Result<Option<fs::File>> {
    match fs::File::open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io(error)),
    }
}
