//! Images in archives: what `docker save` and the OCI image layout write, read and written.
//!
//! ```text
//! manifest.json          docker's list: configuration, names and layers of each image
//! oci-layout, index.json the list of the OCI image layout (image-spec `image-layout.md`)
//! blobs/sha256/<hex>     documents and layers; older archives call them <id>/layer.tar, <hex>.json
//! ```
//!
//! [`write`](self::write()) makes an archive that has both lists. Reading takes a [`Source`] (a tar
//! in a file, a tar from a stream, a directory), finds out what images it has (`docker`, `oci`)
//! and brings them into the store ([`load`](self::load())): all of them or, as far as anybody can
//! see, none.
//!
//! Knows nothing of terminals, and gives nobody a name: what an image is to be called is told to
//! the caller. Nothing is ever unpacked by a name that an archive has.

mod bring;
mod docker;
mod error;
mod members;
mod oci;
mod source;
mod stream;

mod write;

pub use bring::{Loaded, load, load_layout};
pub use error::Error;
pub use oci::Pick;
pub use source::Source;
pub use write::{Form, Named, write};
pub(crate) use write::{LAYOUT, blobs_of, index};

use cache::image::Said;
use cache::oci::{Descriptor, ImageConfig, Index};

use crate::reference::Reference;

/// What one entry of an archive's lists stands for: an image, or one on several platforms.
#[derive(Debug)]
struct Entry {
    /// At least one; those of a list in its order.
    images: Vec<Described>,
    /// Which of them is meant when nobody says more.
    main: usize,
    /// What lists them, if they are several.
    list: Option<List>,
    names: Vec<Reference>,
}

impl Entry {
    fn one(image: Described, names: Vec<Reference>) -> Self {
        Self { images: vec![image], main: 0, list: None, names }
    }
}

/// A list of images for several platforms.
#[derive(Debug)]
struct List {
    /// The list's own bytes; none if the images stand in the archive's list one by one.
    bytes: Option<Vec<u8>>,
    index: Index,
    /// How the images are called there, in their order.
    descriptors: Vec<Descriptor>,
}

/// An image as an archive describes it.
#[derive(Debug)]
struct Described {
    /// The configuration's own bytes, which the image's id is the digest of.
    bytes: Vec<u8>,
    config: ImageConfig,
    /// The members that are its layers, the base first; as many as the configuration has diff ids.
    layers: Vec<String>,
    said: Said,
}

impl Described {
    /// Reads a configuration and checks what the two lists of layers have in common: their length.
    fn new(member: String, bytes: Vec<u8>, layers: Vec<String>) -> Result<Self, Error> {
        let config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|error| Error::document(&member, &error.to_string()))?;
        let diff_ids = config.rootfs.diff_ids.len();
        if layers.len() != diff_ids {
            return Err(Error::LayersMismatch { member, layers: layers.len(), diff_ids });
        }
        Ok(Self { bytes, config, layers, said: Said::default() })
    }
}
