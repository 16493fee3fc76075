//! An image from an OCI image layout on disk (image-spec `image-layout.md`).

use std::path::Path;

use anyhow::{Context, bail};
use cache::Store;
use cache::compress::decompress;
use cache::digest::Digest;
use cache::oci::{ImageConfig, Index, Manifest};

/// Brings an image of a layout, `DIR[:TAG][@DIGEST]`, into the store; returns its name there.
pub(crate) fn import(store: &Store, place: &str) -> anyhow::Result<String> {
    let (place, digest) = match place.split_once('@') {
        Some((place, digest)) => (place, Some(digest.parse::<Digest>()?)),
        None => (place, None),
    };
    let (dir, tag) = match place.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') => (dir, tag),
        _ => (place, "latest"),
    };
    let dir = Path::new(dir);
    let index: Index = serde_json::from_slice(&fs_err::read(dir.join("index.json"))?)
        .with_context(|| format!("{} is no OCI image layout", dir.display()))?;
    let named = |name: &str| name == tag || name.ends_with(&format!(":{tag}"));
    let found = index.manifests.iter().find(|entry| match digest {
        Some(digest) => entry.digest == digest,
        None => entry.annotations.get(cache::oci::REF_NAME).is_some_and(|name| named(name)),
    });
    let entry = match (found, index.manifests.as_slice()) {
        (Some(entry), _) => entry,
        (None, [only]) if digest.is_none() => only,
        _ => bail!("{} has no image {tag:?}", dir.display()),
    };
    let manifest: Manifest = serde_json::from_slice(&blob(dir, &entry.digest)?)?;
    let config: ImageConfig = serde_json::from_slice(&blob(dir, &manifest.config.digest)?)?;
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        if store.layer(diff_id)?.is_some() {
            continue;
        }
        let file = fs_err::File::open(blob_path(dir, &layer.digest))?;
        let found = store.draft_layer()?.commit_import(decompress(file)?.0)?;
        if found.diff_id != *diff_id {
            bail!(
                "layer {} of {} holds {}, not {diff_id}",
                layer.digest,
                dir.display(),
                found.diff_id
            );
        }
    }
    let (digest, _) = store.put_image(&config, &manifest.annotations)?;
    store.tag(&digest, &[])?;
    Ok(store.read_image(&digest)?.id().hex())
}

fn blob_path(dir: &Path, digest: &Digest) -> std::path::PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn blob(dir: &Path, digest: &Digest) -> anyhow::Result<Vec<u8>> {
    let bytes = fs_err::read(blob_path(dir, digest))?;
    if Digest::of(&bytes) != *digest {
        bail!("blob {digest} of {} is corrupt", dir.display());
    }
    Ok(bytes)
}
