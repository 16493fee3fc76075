//! Images by their names, as far as the store has them.

use anyhow::bail;
use cache::Store;
use cache::digest::Digest;
use cache::image::Image;
use cache::oci::Platform;
use engine::reference::Reference;
use frontend::request::BaseImage;

/// Finds an image by name, by digest, or by the beginning of its id.
pub(crate) fn find(store: &Store, name: &str) -> anyhow::Result<Option<Image>> {
    if let Ok(reference) = Reference::parse(name)
        && let Some(digest) = by_reference(store, &reference)?
    {
        return Ok(Some(store.read_image(&digest)?));
    }
    by_id(store, name)
}

/// Finds an image that must be there.
pub(crate) fn image(store: &Store, name: &str) -> anyhow::Result<Image> {
    match find(store, name)? {
        Some(image) => Ok(image),
        None => bail!("No such image: {name}"),
    }
}

fn by_reference(store: &Store, reference: &Reference) -> anyhow::Result<Option<Digest>> {
    let Some(digest) = &reference.digest else {
        return Ok(store.find_image(&reference.clone().or_latest().to_string())?);
    };
    let digest: Digest = digest.parse()?;
    let listed = store.list_images()?;
    Ok(listed.iter().any(|image| image.digest == digest).then_some(digest))
}

/// Finds the one image whose id begins so.
fn by_id(store: &Store, text: &str) -> anyhow::Result<Option<Image>> {
    let wanted = text.strip_prefix("sha256:").unwrap_or(text);
    if wanted.len() < 4 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Option<Image> = None;
    for listed in store.list_images()? {
        // One damaged image must not hide the others.
        let Ok(image) = store.peek_image(&listed.digest) else { continue };
        let matches =
            image.id().hex().starts_with(wanted) || image.digest.hex().starts_with(wanted);
        if matches && found.as_ref().is_none_or(|found| found.id() == image.id()) {
            found = Some(image);
        } else if matches {
            bail!("{text:?} is the beginning of several images' ids");
        }
    }
    found.map(|image| Ok(store.read_image(&image.digest)?)).transpose()
}

/// Finds a build's base image; what it says when there is none is what people then do.
pub(crate) fn base(store: &Store, name: &str, _platform: &Platform) -> anyhow::Result<BaseImage> {
    // What is no name may still be the beginning of an id.
    let reference = Reference::parse(name)
        .map_or_else(|_| name.to_owned(), |reference| reference.or_latest().to_string());
    let Some(image) = find(store, name)? else {
        bail!(
            "{reference}: not found in {}; bring it with: rbuild import ROOTFS.tar {name}",
            store.root().display()
        );
    };
    for layer in &image.config.rootfs.diff_ids {
        if store.layer(layer)?.is_none() {
            bail!("{reference}: its layer {layer} is gone from the store; import the image again");
        }
    }
    Ok(BaseImage { reference, layers: image.config.rootfs.diff_ids.clone(), config: image.config })
}
