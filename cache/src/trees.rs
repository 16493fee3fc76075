//! Layers as directories for overlay to mount: derived from their tars, disposable, made when
//! somebody needs them.
//!
//! A layer's `tree/` depends on the layer alone, whatever it lies on. Two kinds of layers do not:
//! one whose root is opaque hides all below it (overlay does not look at a root's mark, so the
//! layers below are left out), and one with a hard link to a file of a layer below (it gets a
//! `flat-<chain>/` that holds the whole chain up to it).

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::layer;
use crate::layer::unpack::{Form, UnpackStats, unpack_layer};
use crate::store::Store;

/// Big enough that a read costs little beside the copying.
const BUFFER: usize = 1 << 18;

impl Store {
    /// Returns the directories that overlay makes a file system of, the lowest first. A layer that
    /// occurs twice is needed only where it lies highest: what it did below, it does again there.
    pub fn layer_trees(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut trees = Vec::with_capacity(diff_ids.len());
        for (at, diff_id) in diff_ids.iter().enumerate() {
            if diff_ids[at + 1..].contains(diff_id) {
                continue;
            }
            match self.layer_tree(diff_id) {
                Ok(tree) => {
                    if self.opaque_mark(diff_id).exists() {
                        trees.clear();
                    }
                    trees.push(tree);
                }
                Err(error) if links_below(&error) => {
                    trees = vec![self.flat_tree(&diff_ids[..=at])?]
                }
                Err(error) => return Err(error),
            }
        }
        Ok(trees)
    }

    /// Returns one layer as a directory in overlay's form; a tar that does not have its digest is
    /// refused.
    pub fn layer_tree(&self, diff_id: &Digest) -> Result<PathBuf> {
        let tree = self.layer_dir(diff_id).join("tree");
        if tree.is_dir() {
            return Ok(tree);
        }
        let temp = self.scratch_dir()?;
        let stats = self.unpack_verified(diff_id, &temp, Form::Overlay)?;
        if stats.opaque_root {
            self.write_atomically(&self.opaque_mark(diff_id), b"")?;
        }
        self.publish_tree(&temp, tree)
    }

    /// Unpacks a layer over nothing into an empty directory, in overlay's form.
    pub fn unpack_layer(&self, diff_id: &Digest, dest: &Path) -> Result<()> {
        self.unpack_verified(diff_id, dest, Form::Overlay).map(drop)
    }

    /// Returns all these layers in one directory.
    fn flat_tree(&self, diff_ids: &[Digest]) -> Result<PathBuf> {
        let (top, _) = diff_ids.split_last().expect("a layer links to one below it");
        let chain: String = diff_ids.iter().map(Digest::hex).collect();
        let tree = self.layer_dir(top).join(format!("flat-{}", Digest::of(chain).short()));
        if tree.is_dir() {
            return Ok(tree);
        }
        let temp = self.scratch_dir()?;
        for diff_id in diff_ids {
            self.unpack_verified(diff_id, &temp, Form::Apply)?;
        }
        self.publish_tree(&temp, tree)
    }

    fn opaque_mark(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(diff_id).join("opaque")
    }

    fn publish_tree(&self, temp: &Path, tree: PathBuf) -> Result<PathBuf> {
        match self.publish(temp, &tree) {
            Ok(()) => Ok(tree),
            // Another thread or process was faster; its tree is as good.
            Err(_) if tree.is_dir() => {
                fs::remove_dir_all(temp).map_err(Error::Io)?;
                Ok(tree)
            }
            Err(error) => Err(error),
        }
    }

    fn unpack_verified(&self, diff_id: &Digest, dest: &Path, form: Form) -> Result<UnpackStats> {
        let path = self.layer_tar(diff_id);
        let file = fs::File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing { digest: *diff_id },
            _ => Error::Io(error),
        })?;
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

/// Whether a layer could not be unpacked because it has a hard link to a file of one below.
fn links_below(error: &Error) -> bool {
    matches!(error, Error::Layer { source, .. }
        if matches!(**source, layer::Error::MissingLinkTarget { .. }))
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
