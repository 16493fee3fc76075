//! What containers have mounted beside their root: volumes, binds, file systems in memory, images.
//!
//! ```text
//! <store>/volumes/
//!   .lock               held shared by who makes containers, alone by who removes volumes
//!   .unclaimed/<name>   a volume without a name of its own that goes unless a container has it: it is being made for one, or
//!                       is going with one
//!   <name>/volume.json  what the volume is, as `volume inspect` shows it
//!   <name>/_data/       what it holds
//!   <name>/lock         held by who fills or mounts it
//!   <name>/filling/     what is being copied from an image; nobody's if its maker was killed
//!   <name>/filled/      a whole copy on its way into `_data`
//! ```
//!
//! The way of a mount:
//!
//! ```text
//! parse     -v, --mount, --tmpfs, --volumes-from -> docker's API types     (bind, mount, tmpfs)
//! resolve   these, the image's VOLUMEs and other containers' mounts -> the final list (resolve)
//! provide   volumes are made, named and filled from the image               (store, fill)
//! assemble  the list -> the container's specification                       (assemble)
//! ```
//!
//! Knows no container but by the list of volumes that it uses, and does not mount anything in one.

pub mod api;
pub mod assemble;
pub mod bind;
mod csv;
mod error;
mod fill;
mod local;
pub mod mount;
pub mod resolve;
mod store;
pub mod tmpfs;

pub use api::{MountPoint, Volume};
pub use error::Error;
pub use fill::Filled;
pub use resolve::{Request, Resolved, resolve};
pub use store::{Draft, Hold, Pruned, Users, Volumes, is_anonymous};

/// What a function here returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The label of a volume that nobody named.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
