//! Brings the images of an archive into the store.
//!
//! First all documents are read, then all layers are brought, and only when all of them are what
//! the documents say the images are made; so an archive that is wrong anywhere leaves no image.

use std::collections::BTreeSet;
use std::path::Path;

use cache::Store;
use cache::digest::Digest;
use cache::image::Image;
use cache::oci::{INDEX, Index};
use cache::platforms::{Meaning, Several};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{Described, Entry, Error, List, Pick, Source, docker, oci};
use crate::platform::Choice;
use crate::reference::Reference;

/// What is in the store now, without being listed there.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image, or those for several platforms.
    pub meaning: Meaning,
    /// What the archive calls it; may be nothing.
    pub names: Vec<Reference>,
}

/// Brings all images of an archive, in its order. Those for several platforms come all if none is
/// asked for alone, but for what the archive does not have whole.
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
            (described, index) => completed(source, described?, index.as_deref(), choice)?,
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
    let found = found.map(|image| Entry::one(image, Vec::new()));
    let loaded = bring(store, &source, Vec::from_iter(found))?;
    loaded
        .into_iter()
        .next()
        .map(|loaded| loaded.meaning.image)
        .ok_or_else(|| Error::NoSuchImage { dir: dir.to_owned(), pick: pick.to_string() })
}

/// Adds what only the other list knows: what an image's manifest says of it, and the images for
/// other platforms that it is listed with.
fn completed(
    source: &Source,
    mut described: Vec<Entry>,
    index: Option<&[u8]>,
    choice: &Choice,
) -> Result<Vec<Entry>, Error> {
    let Some(index) = index else { return Ok(described) };
    let mut known = oci::said(source, index);
    let mut lists = match choice {
        Choice::Only(_) => Vec::new(),
        Choice::Preferably(wanted) => oci::lists(source, index, wanted)?,
    };
    for entry in &mut described {
        let image = &mut entry.images[entry.main];
        let id = Digest::of(&image.bytes);
        image.said = known.remove(&id).unwrap_or_default();
        let place = |list: &Entry| list.images.iter().position(|it| it.bytes == image.bytes);
        let found = lists.iter().enumerate().find_map(|(at, list)| Some((at, place(list)?)));
        if let Some((at, main)) = found {
            *entry = Entry { main, names: std::mem::take(&mut entry.names), ..lists.remove(at) };
        }
    }
    Ok(described)
}

fn bring(store: &Store, source: &Source, described: Vec<Entry>) -> Result<Vec<Loaded>, Error> {
    let mut needed: BTreeSet<(Digest, &str)> = BTreeSet::new();
    for image in described.iter().flat_map(|entry| &entry.images) {
        let members = image.layers.iter().map(String::as_str);
        needed.extend(image.config.rootfs.diff_ids.iter().copied().zip(members));
    }
    needed
        .par_iter()
        .try_for_each(|(diff_id, member)| source.bring_layer(store, member, diff_id))?;
    for image in described.iter().flat_map(|entry| &entry.images) {
        check(store, image)?;
    }
    let mut loaded = Vec::with_capacity(described.len());
    for entry in described {
        let mut images = Vec::with_capacity(entry.images.len());
        for image in &entry.images {
            let (digest, _) = store.put_raw_image(&image.bytes, &image.said)?;
            images.push(store.read_image(&digest)?);
        }
        let image = images[entry.main].clone();
        let several = entry.list.map(|list| put_list(store, list, images)).transpose()?;
        loaded.push(Loaded { meaning: Meaning { image, several }, names: entry.names });
    }
    Ok(loaded)
}

/// Stores a list as it is, if it names the very manifests that its images have in the store, else
/// one that says the same of these.
fn put_list(store: &Store, list: List, images: Vec<Image>) -> Result<Several, Error> {
    let List { bytes, index, descriptors } = list;
    let digests = images.iter().map(|image| image.digest);
    let is_same = |index: &Index| {
        index.media_type.as_deref() == Some(INDEX)
            && index.manifests.iter().map(|entry| entry.digest).eq(digests)
    };
    if let Some(bytes) = bytes.filter(|_| is_same(&index)) {
        return Ok(Several { digest: store.put_blob(&bytes)?, index, images });
    }
    Ok(store.put_index_like(index, descriptors, images)?)
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
