//! Blobs and layers' tars: each file is digested once, whatever names it has, and one that is not
//! whole is restored from another that is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;

use super::{
    Checker, Content, Counting, Progress, content_of, in_parallel, is_of_system, is_there,
    is_unreadable,
};
use crate::digest::{Digest, DigestWriter};
use crate::error::{Error, Result};
use crate::layer::pack;
use crate::layer::writer::LayerWriter;
use crate::measure;

/// A file, by all the names it has here.
struct Job {
    bytes: u64,
    names: Vec<PathBuf>,
}

impl Checker<'_> {
    pub(super) fn blobs_and_tars(&mut self, progress: Progress<'_>) -> Result<()> {
        let blobs = self.store.listed("images/blobs/sha256")?;
        let layers = self.layers()?;
        let tars = layers.iter().map(|(digest, _)| (*digest, self.store.layer_tar(digest)));
        let tars: Vec<_> = tars.collect();
        let found = self.contents(blobs.iter().chain(&tars).map(|(_, path)| path), progress)?;
        let content_of_path = |path: &PathBuf| found.get(path).cloned().unwrap_or(Content::Missing);
        self.report.objects += (blobs.len() + layers.len()) as u64;

        for (digest, path) in &blobs {
            if content_of_path(path) != Content::Digest(*digest) {
                self.damaged_blobs.insert(*digest);
            }
        }
        let mut is_layer = BTreeSet::new();
        for (digest, path) in &tars {
            is_layer.insert(*digest);
            let content = content_of_path(path);
            let blob_is_bad = self.damaged_blobs.contains(digest);
            match content == Content::Digest(*digest) {
                false => self.bad_tar(digest, &content)?,
                true if blob_is_bad => {
                    let found = content_of_path(&self.store.blob_path(digest));
                    self.bad_blob_of_layer(digest, &found)?;
                }
                true => {}
            }
        }
        for (digest, path) in blobs.iter().filter(|(digest, _)| !is_layer.contains(digest)) {
            let content = content_of_path(path);
            // What was removed meanwhile is nobody's any more.
            if content == Content::Missing {
                self.damaged_blobs.remove(digest);
            } else if content != Content::Digest(*digest) {
                let meaning = "images that need it cannot be used until they are made again";
                // Nothing can take the place of what is no file.
                let removed = matches!(content, Content::NoFile(_))
                    && self.remove(std::slice::from_ref(path), Some(digest))?;
                let done = removed.then_some("removed");
                self.fault(format!("blob {digest}"), content.wrong(), meaning, done);
            }
        }
        Ok(())
    }

    /// The directories of all layers; what is none goes, in repairs.
    fn layers(&mut self) -> Result<Vec<(Digest, PathBuf)>> {
        let mut layers = Vec::new();
        for (digest, path) in self.store.listed("layers")? {
            let Some(found) = measure::stat(&path)? else { continue };
            if found.is_dir() {
                layers.push((digest, path));
                continue;
            }
            let removed = self.remove(&[path], Some(&digest))?;
            let meaning = "what is built on it fails, until what made it is done again";
            let done = removed.then_some("removed");
            self.fault(format!("layer {digest}"), "is no directory", meaning, done);
        }
        Ok(layers)
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
                let bytes = if metadata.is_file() { metadata.len() } else { 0 };
                let job = job.or_insert(Job { bytes, names: Vec::new() });
                job.names.push(path.clone());
            }
        }
        let mut jobs: Vec<Job> = files.into_values().collect();
        // The big ones first: then all processors end together.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.bytes));
        let total = jobs.iter().map(|job| job.bytes).sum();
        let read = AtomicU64::new(0);
        let tell = || progress(read.load(Ordering::Relaxed), total);
        let contents = in_parallel(&jobs, |job| {
            content_of(&job.names[0], |file| {
                let counting = Counting { inner: file, read: &read, tell: &tell };
                Ok(Digest::of_reader(counting)?.0)
            })
        });
        self.report.bytes += read.into_inner();
        let mut named = BTreeMap::new();
        for (job, content) in jobs.into_iter().zip(contents) {
            let content = content?;
            named.extend(job.names.into_iter().map(|name| (name, content.clone())));
        }
        Ok(named)
    }

    /// A layer's tar is bad: its blob may be whole, or its tree may be what it was packed from.
    fn bad_tar(&mut self, digest: &Digest, content: &Content) -> Result<()> {
        let dir = self.store.layer_dir(digest);
        let blob = self.store.blob_path(digest);
        if *content == Content::Missing && !is_there(&dir)? {
            return Ok(());
        }
        let object = format!("layer {digest}");
        let wrong = format!("layer.tar {}", content.wrong());
        let blob_is_whole = !self.damaged_blobs.contains(digest) && is_there(&blob)?;
        if blob_is_whole {
            let meaning = "what is built on it fails; its blob is whole";
            let done = self.repairs().then_some("restored from its blob");
            if self.repairs() {
                self.link(&blob, &self.store.layer_tar(digest))?;
            }
            self.fault(object, wrong, meaning, done);
            return Ok(());
        }
        if self.pack_again(digest)? {
            let meaning = "what is built on it fails; it can be packed again";
            let done = self.repairs().then_some("packed again from its tree");
            self.fault(object, wrong, meaning, done);
            return Ok(());
        }
        self.lost_layers.insert(*digest);
        let meaning = "what is built on it fails or is wrong, until it is removed and made again";
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

    fn bad_blob_of_layer(&mut self, digest: &Digest, content: &Content) -> Result<()> {
        let (tar, blob) = (self.store.layer_tar(digest), self.store.blob_path(digest));
        let meaning = "images with this layer cannot be copied; the layer's tar is whole";
        if self.repairs() {
            self.link(&tar, &blob)?;
            self.damaged_blobs.remove(digest);
        }
        let done = self.repairs().then_some("restored from the layer's tar");
        self.fault(format!("blob {digest}"), content.wrong(), meaning, done);
        Ok(())
    }

    /// Makes a layer that is gone again of its blob, in repairs, if that is whole; tells whether it
    /// is.
    pub(super) fn restore_from_blob(&mut self, digest: &Digest) -> Result<bool> {
        self.store.pin(&[*digest])?;
        let blob = self.store.blob_path(digest);
        if self.damaged_blobs.contains(digest) || !is_there(&blob)? {
            return Ok(false);
        }
        if self.repairs() {
            let layer = self.store.scratch_dir()?;
            fs::hard_link(&blob, layer.join("layer.tar")).map_err(Error::Io)?;
            let dir = self.store.layer_dir(digest);
            match self.store.publish(&layer, &dir) {
                // Somebody else has just made it.
                Err(_) if is_there(&dir.join("layer.tar"))? => {}
                published => published?,
            }
            self.lost_layers.remove(digest);
        }
        Ok(true)
    }

    /// Puts one name of a file in the place of something else.
    fn link(&self, whole: &Path, place: &Path) -> Result<()> {
        let link = self.store.scratch_dir()?.join("link");
        fs::hard_link(whole, &link).map_err(Error::Io)?;
        self.put(&link, place)
    }

    /// Puts a file in the place of whatever is there.
    fn put(&self, file: &Path, place: &Path) -> Result<()> {
        self.clear(place)?;
        self.store.publish(file, place)
    }

    /// Makes a layer's tar out of its tree, in repairs, if that gives the layer: it does when a step
    /// wrote that tree. Tells whether it does.
    fn pack_again(&mut self, digest: &Digest) -> Result<bool> {
        let Some(tree) = open_dir(&self.store.layer_dir(digest).join("tree"))? else {
            return Ok(false);
        };
        if !self.repairs() {
            return Ok(packed(&tree, io::sink())?.is_ok_and(|found| found == *digest));
        }
        let path = self.store.scratch_dir()?.join("layer.tar");
        let file = fs::File::create(&path).map_err(Error::Io)?;
        if packed(&tree, &file)?.is_ok_and(|found| found == *digest) {
            file.sync_all().map_err(Error::Io)?;
            let tar = self.store.layer_tar(digest);
            self.put(&path, &tar)?;
            if self.damaged_blobs.remove(digest) {
                self.link(&tar, &self.store.blob_path(digest))?;
            }
            return Ok(true);
        }
        fs::remove_file(&path).map_err(Error::Io)?;
        Ok(false)
    }
}

/// Packs a tree as a layer, and returns its digest, or why it cannot be one.
pub(super) fn packed(tree: &fs::File, out: impl Write) -> Result<Result<Digest, String>> {
    let mut tar = LayerWriter::new(DigestWriter::new(out));
    let packed = pack::pack_upper(tree.as_fd(), &mut tar, None).and_then(|_| tar.finish());
    match packed {
        Ok(out) => Ok(Ok(out.finish().1)),
        Err(error) if !is_of_system(&error) || is_unreadable(&error) => Ok(Err(error.to_string())),
        Err(source) => {
            let what = "cannot be packed again".to_owned();
            Err(Error::Layer { what, source: Box::new(source) })
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
