//! The store: plain files, content-addressed, shared by any number of processes.
//!
//! ```text
//! <root>/
//!   version, lock            the lock is held shared to use the store, exclusive to prune it
//!   images/                  an OCI image layout: oci-layout, index.json, blobs/sha256/<hex>
//!   layers/<hex>/layer.tar   a layer's canonical form, named by its diff id
//!   layers/<hex>/tree/       the same layer unpacked in overlay's form: derived, disposable
//!   layers/<hex>/opaque      says that its root hides all layers below
//!   cache/records/<hex>      what the operation with this key produced: a line of JSON, and then
//!                            the text that the key is the digest of
//!   cache/mounts/<id>/       the directories behind `RUN --mount=type=cache`
//!   cache/context/<id>       what is known of a context's files: stat -> digest
//!   cache/builds/<id>.json   what the last build of a context looked like
//!   tmp/<id>/                whatever is being made; swept when its maker is gone
//! ```
//!
//! Every file is committed by temp, fsync, rename; a directory becomes visible by one rename.
//! Killed at any instant, the next process finds only whole things and leftovers in `tmp`.
//!
//! This crate knows nothing of Dockerfiles, containers or registries.

mod blob;
pub mod compress;
pub mod context;
pub mod digest;
pub mod error;
pub mod image;
pub mod layer;
pub mod layers;
pub mod oci;
pub mod prune;
pub mod record;
pub mod store;
mod trees;
pub mod usage;

pub use error::{Error, Result};
pub use store::Store;
