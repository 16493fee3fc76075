//! An image from an OCI image layout on disk, as `--build-context NAME=oci-layout://...` names it.

use std::path::Path;

use anyhow::Context;
use cache::Store;
use cache::oci::Platform;
use engine::archive::{self, Pick};
use engine::platform::Choice;

/// Brings an image of a layout, `DIR[:TAG][@DIGEST]`, into the store, of several the one for a
/// platform; returns its name there.
pub(crate) fn import(store: &Store, place: &str, wanted: &Platform) -> anyhow::Result<String> {
    let (place, digest) = match place.split_once('@') {
        Some((place, digest)) => (place, Some(digest.parse()?)),
        None => (place, None),
    };
    let (dir, tag) = match place.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') => (dir, tag),
        _ => (place, "latest"),
    };
    let pick = digest.map_or_else(|| Pick::Tag(tag.to_owned()), Pick::Digest);
    let choice = Choice::Preferably(wanted.clone());
    let image = archive::load_layout(store, Path::new(dir), &pick, &choice)
        .with_context(|| format!("the image layout {dir}"))?;
    store.tag(&image.digest, &[])?;
    Ok(image.id().hex())
}
