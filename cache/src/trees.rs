//! Layers as directories in overlay's form: derived from their tars, disposable, made when somebody
//! needs them.
//!
//! A layer's `tree/` depends on the layer alone, whatever it lies on; a `flat-<chain>/` holds a
//! layer and all those below it. Which of the two is needed is [`crate::lower`]'s to decide.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::layer::unpack::{Form, UnpackStats, unpack_layer};
use crate::lower::Mark;
use crate::regular;
use crate::removal::remove_dir_all;
use crate::store::Store;

/// Big enough that a read costs little beside the copying.
const BUFFER: usize = 1 << 18;

impl Store {
    /// Returns one layer as a directory in overlay's form; a tar that does not have its digest is
    /// refused.
    pub(crate) fn layer_tree(&self, diff_id: &Digest) -> Result<PathBuf> {
        self.pin(&[*diff_id])?;
        let tree = self.layer_dir(diff_id).join("tree");
        if tree.is_dir() {
            return Ok(tree);
        }
        let temp = self.scratch_dir()?;
        let stats = self.unpack_verified(diff_id, &temp, Form::Overlay)?;
        if stats.opaque_root {
            self.mark(diff_id, Mark::Opaque)?;
        }
        if !stats.implied.is_empty() {
            self.mark(diff_id, Mark::Dependent)?;
        }
        self.publish_tree(&temp, tree)
    }

    /// Unpacks a layer over nothing into an empty directory, in overlay's form.
    pub fn unpack_layer(&self, diff_id: &Digest, dest: &Path) -> Result<()> {
        self.pin(&[*diff_id])?;
        self.unpack_verified(diff_id, dest, Form::Overlay).map(drop)
    }

    /// Returns all these layers in one directory.
    pub(crate) fn flat_tree(&self, diff_ids: &[Digest]) -> Result<PathBuf> {
        let tree = self.chain_path(diff_ids, "flat");
        if tree.is_dir() {
            return Ok(tree);
        }
        let temp = self.scratch_dir()?;
        for diff_id in diff_ids {
            self.unpack_verified(diff_id, &temp, Form::Apply)?;
        }
        self.publish_tree(&temp, tree)
    }

    fn publish_tree(&self, temp: &Path, tree: PathBuf) -> Result<PathBuf> {
        match self.publish(temp, &tree) {
            Ok(()) => Ok(tree),
            // Another thread or process was faster; its tree is as good.
            Err(_) if tree.is_dir() => {
                remove_dir_all(temp).map_err(Error::Io)?;
                Ok(tree)
            }
            Err(error) => Err(error),
        }
    }

    fn unpack_verified(&self, diff_id: &Digest, dest: &Path, form: Form) -> Result<UnpackStats> {
        let path = self.layer_tar(diff_id);
        let file = regular::open(&path)?.ok_or(Error::Missing { digest: *diff_id })?;
        let mut reader = HashingReader { inner: file, hasher: Hasher::default() };
        let dir = fs::File::open(dest).map_err(Error::Io)?;
        let unpacked = {
            let mut buffered = io::BufReader::with_capacity(BUFFER, &mut reader);
            unpack_layer(&mut buffered, dir.as_fd(), form)
        };
        // A wrong digest explains a tar that cannot be read, so it is told first.
        io::copy(&mut reader, &mut io::sink()).map_err(Error::Io)?;
        let found = reader.hasher.finish();
        if found != *diff_id {
            return Err(Error::Corrupt { path, expected: *diff_id, found });
        }
        unpacked.map_err(|source| Error::Layer {
            what: format!("{diff_id} cannot be unpacked"),
            source: Box::new(source),
        })
    }
}

struct HashingReader<R> {
    inner: R,
    hasher: crate::digest::Hasher,
}

impl<R: io::Read> io::Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
