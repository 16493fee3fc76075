//! The store: plain files, content-addressed, shared by any number of processes.
//!
//! ```text
//! <root>/
//!   version, lock            the lock orders what is said to be in use and what is removed
//!   images.lock              orders the changes of the list of images
//!   reserve                  room for that list on a full disk
//!   boot                     the start of the machine that derived forms are trusted since
//!   images/                  an OCI image layout: oci-layout, index.json, blobs/sha256/<hex>
//!   layers/<hex>/layer.tar   a layer's canonical form, named by its diff id
//!   layers/<hex>/index.erofs    a file system over that tar: derived, disposable
//!   layers/<hex>/chain-*.erofs  one over it and all layers below: derived, disposable
//!   layers/<hex>/tree/       the same layer unpacked in overlay's form: derived, disposable
//!   layers/<hex>/parts       what the tar consists of, for the next one that is like it: derived
//!   layers/<hex>/opaque      says that its root hides all layers below
//!   layers/<hex>/blobs       what compressed blobs are known to hold it, and where they are
//!   layers/<hex>/dependent   says that it shows what it should only as one with those below
//!   driver                   which of these is mounted, as found by trying
//!   cache/records/<hex>      what the operation with this key produced: a line of JSON, and then
//!                            the text that the key is the digest of
//!   cache/mounts/<id>/       the directories behind `RUN --mount=type=cache`
//!   cache/context/<id>       what is known of a context's files: stat -> digest
//!   cache/builds/<id>.json   what the last build of a context looked like
//!   cache/sources/           what was downloaded or cloned
//!   containers/, volumes/, networks/, events, run/   the engine's (see `containers`, `volume`, ...)
//!   manifests/<name>.json    a list of images in the making; manifests/lock orders their changes
//!   tmp/<id>/                whatever is being made; swept when its maker is gone
//!   tmp/<id>.lock            held while its maker lives, or who removes it for him; says what he uses
//!   tmp/<key>.lock           held by who does the operation with this key
//! ```
//!
//! Every file is committed by temp, fsync, rename; a directory becomes visible by one rename, with files
//! that may have another name in `tmp` for a while. Records
//! and what is known of contexts are not synced: who reads them can tell a whole one, and do without.
//! Killed at any instant, the next process finds only whole things and leftovers in `tmp`.
//!
//! This crate knows nothing of Dockerfiles, containers or registries.

mod blob;
pub mod check;
pub mod claim;
pub mod compress;
pub mod compressor;
pub mod content;
pub mod context;
pub mod digest;
pub mod discard;
pub mod draft;
pub mod erofs;
pub mod error;
pub mod flush;
pub mod image;
pub mod index;
pub mod known;
pub mod layer;
pub mod layers;
mod lock;
pub mod lower;
mod measure;
pub mod oci;
mod parts;
mod pins;
mod pipeline;
pub mod platforms;
pub mod prune;
mod pulled;
pub mod record;
mod regular;
pub mod removal;
mod reserve;
mod scratch;
pub mod store;
mod trees;
pub mod usage;

pub use error::{Error, Result};
pub use store::{Store, TakenOut};
