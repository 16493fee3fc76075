//! The layer codec: trees to tar and back (image-spec `layer.md`).
//!
//! [`pack`] writes a tree as a tar, [`unpack`] makes a tree of one; [`writer`] and [`reader`] are
//! the tar itself, [`walk`] is the tree itself. A tree has two forms here. In overlay's form, as
//! the kernel leaves an upper directory, a deleted file is a 0:0 character device and a directory
//! that hides what is below it carries the attribute `trusted.overlay.opaque`. In the tar they are
//! empty files named `.wh.<name>` and `.wh..wh..opq`.
//!
//! Trees are reached by directory descriptors alone, so that no link in a layer leads out of one.
//! Knows nothing of digests, the store, or which layer lies on which.

mod attribute;
mod block;
mod entry;
mod error;
pub mod pack;
mod pax;
pub mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod tree;
pub mod unpack;
pub mod walk;
pub mod writer;
mod xattr;

pub use entry::{Entry, Kind, Timestamp};
pub use error::Error;

pub(crate) use entry::{join, split};
pub(crate) use xattr::is_overlay_mark;

/// A name in a layer with this prefix deletes the name after it in the layers below.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// A path is shorter than this (`PATH_MAX`).
pub(crate) const PATH_LIMIT: usize = 4096;

/// A file of this name hides everything the layers below have in its directory.
pub(crate) const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
