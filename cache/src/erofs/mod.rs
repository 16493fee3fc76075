//! Indexes over tars: EROFS file systems that have names and inodes, and no content.
//!
//! The content of a file is the tar's own bytes. An EROFS image may point into other files, its
//! devices, so a layer is mounted where it lies: `fsopen("erofs")` with `source=INDEX` and
//! `device=TAR` (Linux 6.12 takes plain files), nothing is unpacked. The format is in the kernel's
//! `fs/erofs/erofs_fs.h`.
//!
//! Two kinds of indexes. [`Builder::new`] makes one of a single layer in overlay's form, with
//! whiteouts as 0:0 character devices and the attribute `trusted.overlay.opaque`.
//! [`Builder::merged`] makes one of a chain of layers, in which nothing is left of what is deleted,
//! with the layers' tars as devices in their order. Both show what [`unpack`](crate::layer::unpack)
//! makes of the same tars, but for two things: directories that an archive says nothing of have the
//! epoch's time or that of the layer below, where unpacking leaves the time of day; and nothing
//! inherits a default access control list.
//!
//! Does not read tars, keep files or mount anything.

mod attributes;
mod content;
mod entries;
mod image;
mod layout;
mod output;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

pub use crate::layer::reader::{Content, Part};
use crate::layer::{self, Timestamp};
use attributes::Attributes;
use tree::Tree;

/// How an index could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layer could not be unpacked either, unless it lacks what one below it has:
    /// [`layer::Error::MissingLinkTarget`].
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The layer can be unpacked, but the format has no way to say this.
    #[error("cannot index \"{}\": {reason}", path.escape_ascii())]
    Inexpressible {
        /// The entry.
        path: Vec<u8>,
        /// What about it cannot be said.
        reason: &'static str,
    },
    /// The index could not be written.
    #[error("cannot write the index")]
    Write {
        /// Why it failed.
        source: io::Error,
    },
}

/// What an index has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many inodes it has, the root included.
    pub inodes: u64,
    /// How long it is.
    pub size: u64,
    /// How many extended attributes there were that a file system has no place for.
    pub refused_xattrs: u64,
}

/// A tar that an index points into.
#[derive(Clone, Copy, Debug)]
struct Device {
    size: u64,
    tag: [u8; 64],
}

/// What the entries are made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One layer, in overlay's form.
    Overlay,
    /// Each layer is applied to those below it.
    Applied,
}

/// An index in the making. After an error it is of no use.
#[derive(Debug)]
pub struct Builder {
    form: Form,
    tree: Tree,
    attributes: Attributes,
    /// The tars of the layers that are complete.
    devices: Vec<Device>,
    tag: [u8; 64],
    /// The current layer, from 1.
    layer: u32,
    /// The directory of the last entry, which most often is that of the next.
    parent: Option<(Vec<u8>, u32)>,
    /// The times of this layer's directories. They are set in the order of the paths at the end, as
    /// unpacking must do it: by way of links two paths may name one directory.
    times: BTreeMap<Vec<u8>, Timestamp>,
    opaque_root: bool,
    /// Directories that have files in them and no entry.
    implied: BTreeSet<Vec<u8>>,
    refused_xattrs: u64,
    /// How many chunks the files with holes have.
    sparse_chunks: u64,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Starts an index of one layer in overlay's form.
    pub fn new() -> Self {
        Self::of(Form::Overlay)
    }

    /// Starts an index of a chain of layers, which come one after the other, the lowest first.
    pub fn merged() -> Self {
        Self::of(Form::Applied)
    }

    fn of(form: Form) -> Self {
        let mut builder = Self {
            form,
            tree: Tree::new(),
            attributes: Attributes::new(),
            devices: Vec::new(),
            tag: [0; 64],
            layer: 1,
            parent: None,
            times: BTreeMap::new(),
            opaque_root: false,
            implied: BTreeSet::new(),
            refused_xattrs: 0,
            sparse_chunks: 0,
        };
        builder.begin_layer();
        builder
    }

    /// Writes the name of the current layer's tar into the index: up to 64 bytes, such as the
    /// digits of its digest. The kernel does not look at it, but indexes that are otherwise the
    /// same get different UUIDs by it.
    pub fn set_tag(&mut self, tag: &[u8]) {
        let length = tag.len().min(self.tag.len());
        self.tag = [0; 64];
        self.tag[..length].copy_from_slice(&tag[..length]);
    }

    /// Returns whether the layer hides all layers below it. Overlay ignores the mark on a layer's
    /// root, so whoever mounts must leave those layers out.
    pub fn opaque_root(&self) -> bool {
        self.opaque_root
    }

    /// Returns whether the layer says nothing of a directory it has files in, which the layers below
    /// may know more of. In overlay's form it would cover what they say.
    pub fn implies_directories(&self) -> bool {
        !self.implied.is_empty()
    }

    /// Ends a layer, whose tar has `tar_size` bytes, and begins the one above it. Only for
    /// [`merged`](Self::merged) indexes.
    pub fn next_layer(&mut self, tar_size: u64) -> Result<(), Error> {
        debug_assert_eq!(self.form, Form::Applied);
        self.end_layer(tar_size)?;
        self.layer += 1;
        self.begin_layer();
        Ok(())
    }

    /// Ends the last layer, whose tar has `tar_size` bytes, and writes the index.
    pub fn finish(mut self, tar_size: u64, out: impl Write) -> Result<Stats, Error> {
        self.end_layer(tar_size)?;
        self.write(out, image::BLOCK_BITS)
    }

    fn write(self, mut out: impl Write, block_bits: u32) -> Result<Stats, Error> {
        // Nobody asks any more.
        drop(self.times);
        let image = image::Image {
            tree: &self.tree,
            attributes: &self.attributes,
            devices: &self.devices,
            block_bits,
        };
        let (inodes, size) = image.write(&mut out)?;
        Ok(Stats { inodes, size, refused_xattrs: self.refused_xattrs })
    }
}
