//! Images by their names: here, or fetched from a registry when they are not.

use anyhow::{Context, bail};
use cache::Store;
use cache::image::Image;
use cache::oci::Platform;
use engine::reference::Reference;
use frontend::request::BaseImage;

pub(crate) use engine::images::{find, find_for, image, meaning};

use crate::create_args::CreateArgs;
use crate::{platforms, pull, ui};

/// When an image is looked for in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulls {
    /// When it is not here.
    Missing,
    /// Whether it is here or not.
    Always,
    /// Not at all.
    Never,
}

/// Finds a build's base image, here or in a registry; what it says when there is none is what people
/// then do.
pub(crate) fn base(
    store: &Store,
    name: &str,
    platform: &Platform,
    pulls: Pulls,
    quiet: bool,
) -> anyhow::Result<BaseImage> {
    // What is no name may still be the beginning of an id.
    let reference = Reference::parse(name)
        .map_or_else(|_| name.to_owned(), |reference| reference.or_latest().to_string());
    let mut found = if pulls == Pulls::Always { None } else { find_for(store, name, platform)? };
    if found.is_none() && pulls != Pulls::Never {
        let is_here = find(store, name)?.is_some();
        pull::for_use(store, name, Some(platform), quiet).with_context(|| match is_here {
            true => platforms::not_provided(&reference, platform),
            false => format!(
                "{reference}: not found in {}; bring it with: rbuild import ROOTFS.tar {name}",
                store.root().display()
            ),
        })?;
        found = find_for(store, name, platform)?;
    }
    let Some(image) = found else {
        bail!("{reference}: not found in {}", store.root().display());
    };
    for layer in &image.config.rootfs.diff_ids {
        if store.layer(layer)?.is_none() {
            bail!("{reference}: its layer {layer} is gone from the store; import the image again");
        }
    }
    Ok(BaseImage { reference, layers: image.config.rootfs.diff_ids.clone(), config: image.config })
}

/// Finds the image of a new container, here or in a registry, as its flags say.
pub(crate) fn for_run(store: &Store, name: &str, args: &CreateArgs) -> anyhow::Result<Image> {
    let pulls = match args.pull.as_str() {
        "always" => Pulls::Always,
        "missing" => Pulls::Missing,
        "never" => Pulls::Never,
        other => bail!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ),
    };
    let platform = args.platform.as_deref().map(frontend::platform::parse).transpose()?;
    let look = || match &platform {
        Some(platform) => find_for(store, name, platform),
        None => find(store, name),
    };
    if pulls != Pulls::Always
        && let Some(image) = look()?
    {
        return Ok(told_of(image, platform.as_ref()));
    }
    // If it is here nevertheless, it is not for this platform.
    let other = platform.as_ref().filter(|_| pulls != Pulls::Always);
    let other = other.filter(|_| matches!(find(store, name), Ok(Some(_))));
    let other = other.map(|wanted| platforms::not_provided(&familiar(name), wanted));
    if pulls == Pulls::Never {
        bail!(other.unwrap_or_else(|| format!("No such image: {}", familiar(name))));
    }
    if pulls == Pulls::Missing && !args.quiet {
        ui::note(format_args!("Unable to find image '{}' locally", familiar(name)));
    }
    let pulled = pull::for_use(store, name, platform.as_ref(), args.quiet);
    match other {
        Some(other) => pulled.context(other)?,
        None => pulled?,
    }
    match look()? {
        Some(image) => Ok(told_of(image, platform.as_ref())),
        None => bail!("No such image: {}", familiar(name)),
    }
}

/// The image, after a warning if nobody asked for its platform and it is not this machine's.
fn told_of(image: Image, wanted: Option<&Platform>) -> Image {
    if let (None, Some(warning)) = (wanted, platforms::warning(&image)) {
        ui::note(warning);
    }
    image
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.or_latest().familiar())
}
