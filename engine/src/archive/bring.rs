//! Brings the images of an archive into the store.
//!
//! First all documents are read, then all layers are brought, and only when all of them are what
//! the documents say the images are made; so an archive that is wrong anywhere leaves no image.

use std::collections::BTreeSet;
use std::path::Path;

use cache::Store;
use cache::digest::Digest;
use cache::image::Image;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{Described, Error, Pick, Source, docker, oci};
use crate::platform::Choice;
use crate::reference::Reference;

/// An image that is in the store now, without being listed there.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// What the archive calls it; may be nothing.
    pub names: Vec<Reference>,
}

/// Brings all images of an archive, in its order.
pub fn load(store: &Store, source: &Source, choice: &Choice) -> Result<Vec<Loaded>, Error> {
    let (manifest, index) = (source.document(docker::MANIFEST)?, source.document(oci::LIST)?);
    let described = match (&manifest, &index) {
        (Some(manifest), index) => match (docker::describe(source, manifest, choice), index) {
            // Docker's own list has one platform of each image.
            (Err(error @ Error::Platform { .. }), Some(index)) => {
                let found = oci::describe(source, index, choice);
                // What the other list says is worth telling only if it says more.
                found.map_err(|found| match found {
                    Error::Platform { .. } => found,
                    _ => error,
                })?
            }
            (described, index) => annotated(source, described?, index.as_deref()),
        },
        (None, Some(index)) => oci::describe(source, index, choice)?,
        (None, None) if source.document(docker::REPOSITORIES)?.is_some() => {
            return Err(Error::TooOld);
        }
        (None, None) => return Err(Error::NoImages),
    };
    bring(store, source, described)
}

/// Brings one image of an OCI image layout in a directory.
pub fn load_layout(
    store: &Store,
    dir: &Path,
    pick: &Pick,
    choice: &Choice,
) -> Result<Image, Error> {
    let source = Source::directory(dir);
    let list = source.needed(oci::LIST)?;
    let found = oci::describe_pick(&source, &list, pick, choice)?;
    let loaded = bring(store, &source, Vec::from_iter(found))?;
    loaded
        .into_iter()
        .next()
        .map(|loaded| loaded.image)
        .ok_or_else(|| Error::NoSuchImage { dir: dir.to_owned(), pick: pick.to_string() })
}

/// Adds what only an image's manifest says of it, where there is one beside docker's list.
fn annotated(
    source: &Source,
    mut described: Vec<Described>,
    index: Option<&[u8]>,
) -> Vec<Described> {
    let mut known = index.map(|index| oci::annotations(source, index)).unwrap_or_default();
    for image in &mut described {
        image.annotations = known.remove(&Digest::of(&image.bytes)).unwrap_or_default();
    }
    described
}

fn bring(store: &Store, source: &Source, described: Vec<Described>) -> Result<Vec<Loaded>, Error> {
    let mut needed: BTreeSet<(Digest, &str)> = BTreeSet::new();
    for image in &described {
        let members = image.layers.iter().map(String::as_str);
        needed.extend(image.config.rootfs.diff_ids.iter().copied().zip(members));
    }
    needed
        .par_iter()
        .try_for_each(|(diff_id, member)| source.bring_layer(store, member, diff_id))?;
    let mut loaded = Vec::with_capacity(described.len());
    for image in described {
        check(store, &image)?;
        let (digest, _) = store.put_raw_image(&image.bytes, &image.annotations)?;
        loaded.push(Loaded { image: store.read_image(&digest)?, names: image.names });
    }
    Ok(loaded)
}

/// Refuses what could not be used later.
fn check(store: &Store, image: &Described) -> Result<(), Error> {
    let diff_ids = &image.config.rootfs.diff_ids;
    // Only who is root can mount.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    store.check_lower(diff_ids).map_err(|(layer, source)| {
        let at = diff_ids.iter().position(|diff_id| *diff_id == layer).unwrap_or_default();
        Error::Layer { member: image.layers.get(at).cloned().unwrap_or_default(), source }
    })
}
