//! Layers in the store, by their diff ids: where they are, whether they are there, and their tars as
//! blobs.
//!
//! `layer.tar` is the layer; what it is mounted by is derived from it and may be removed at any time.
//! A layer that this process has made is where it was made until it is committed. Knows nothing of
//! images or of how a layer is made.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Store;

/// A layer, by what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of its uncompressed tar.
    pub size: u64,
}

impl Store {
    /// Where a layer is, or is to be.
    pub(crate) fn published_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.hex())
    }

    /// Where this process finds a layer's files: while it is offered, where it was made. What is
    /// derived of it there meanwhile may have to be derived again.
    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        let offered = self.offered.lock().expect("no holder panics");
        offered.get(diff_id).cloned().unwrap_or_else(|| self.published_dir(diff_id))
    }

    /// Has this process find a layer in the directory where it was made.
    pub(crate) fn offer(&self, diff_id: &Digest, dir: &Path) -> Result<()> {
        self.pin(&[*diff_id])?;
        let mut offered = self.offered.lock().expect("no holder panics");
        offered.entry(*diff_id).or_insert_with(|| dir.to_owned());
        Ok(())
    }

    /// Has this process find a layer where it is published, if this is where it found it so far.
    pub(crate) fn take_back(&self, diff_id: &Digest, dir: &Path) {
        let mut offered = self.offered.lock().expect("no holder panics");
        if offered.get(diff_id).is_some_and(|offered| offered == dir) {
            offered.remove(diff_id);
        }
    }

    /// Where a layer's uncompressed tar is.
    pub fn layer_tar(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(diff_id).join("layer.tar")
    }

    /// Whether all of a layer's tar can be read.
    pub(crate) fn can_be_read(&self, diff_id: &Digest) -> bool {
        let tar = fs::File::open(self.layer_tar(diff_id));
        tar.is_ok_and(|mut tar| io::copy(&mut tar, &mut io::sink()).is_ok())
    }

    /// Looks a layer up; `None` when it is not in the store. One that is found stays there as long
    /// as this store is open.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        self.pin(&[*diff_id])?;
        self.peek_layer(diff_id)
    }

    /// Looks a layer up without using it.
    pub(crate) fn peek_layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        match fs::metadata(self.layer_tar(diff_id)) {
            Ok(metadata) => Ok(Some(Layer { diff_id: *diff_id, size: metadata.len() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Io(error)),
        }
    }

    /// Makes a layer visible as a blob of the image layout, sharing its bytes; returns its size.
    pub(crate) fn share_layer_as_blob(&self, diff_id: &Digest) -> Result<u64> {
        let layer = self.layer(diff_id)?.ok_or(Error::Missing { digest: *diff_id })?;
        let (tar, blob) = (self.layer_tar(diff_id), self.blob_path(diff_id));
        match fs::hard_link(&tar, &blob) {
            Ok(()) => Ok(layer.size),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let inode = |path| fs::metadata(path).map(|file| file.ino()).map_err(Error::Io);
                // A layer that was made again may be the repair of one that was damaged.
                if inode(&tar)? != inode(&blob)? {
                    let link = self.scratch_dir()?.join("layer.tar");
                    fs::hard_link(&tar, &link).map_err(Error::Io)?;
                    self.publish(&link, &blob)?;
                }
                Ok(layer.size)
            }
            Err(error) => Err(Error::Io(error)),
        }
    }
}
