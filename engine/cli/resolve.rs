//! Images by their names, as far as the store has them.

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use cache::image::{Image, Listed};
use cache::oci::Platform;
use cache::platforms::Meaning;
use engine::reference::Reference;
use frontend::request::BaseImage;

use crate::create_args::CreateArgs;
use crate::{platforms, pull, ui};

/// Fewer digits are no id.
const SHORTEST_ID: usize = 4;

/// Finds an image by name, by digest, or by the beginning of its id.
pub(crate) fn find(store: &Store, name: &str) -> anyhow::Result<Option<Image>> {
    if let Ok(reference) = Reference::parse(name)
        && let Some(image) = read(store, || by_reference(store, &reference))?
    {
        return Ok(Some(image));
    }
    read(store, || by_id(store, name))
}

/// Reads what a look at the list finds. An image is not in use before it is read: gone by then, it
/// is looked for again, and missing only if the list still has it.
fn read(
    store: &Store,
    look: impl Fn() -> anyhow::Result<Option<Digest>>,
) -> anyhow::Result<Option<Image>> {
    let mut found = look()?;
    while let Some(digest) = found {
        match store.read_image(&digest) {
            Err(error @ cache::Error::Missing { .. }) => {
                found = look()?;
                if found == Some(digest) {
                    return Err(error.into());
                }
            }
            image => return Ok(Some(image?)),
        }
    }
    Ok(None)
}

/// Finds all that a name, a digest or the beginning of an id means.
pub(crate) fn meaning(store: &Store, name: &str) -> anyhow::Result<Option<Meaning>> {
    let Some(image) = find(store, name)? else { return Ok(None) };
    let listed = store.list_images()?;
    let full = listed_as(name);
    let by_name = listed.iter().find(|entry| full.is_some() && entry.name == full);
    // What was called by its own id is that, and no list of it.
    let by_index = || listed.iter().find(|entry| has_index(store, entry, name));
    let entry = by_name.or_else(by_index).filter(|entry| entry.digest == image.digest);
    Ok(Some(match entry {
        Some(entry) => store.read_meaning(entry)?,
        None => Meaning::one(image),
    }))
}

/// The name that an image would have on the list.
fn listed_as(name: &str) -> Option<String> {
    let reference = Reference::parse(name).ok()?;
    Some(reference.for_pull().to_string())
}

/// Whether an entry's index has a digest that begins so.
fn has_index(store: &Store, entry: &Listed, text: &str) -> bool {
    let wanted = text.strip_prefix("sha256:").unwrap_or(text);
    let index = store.index_of(entry);
    wanted.len() >= SHORTEST_ID && index.is_some_and(|index| index.hex().starts_with(wanted))
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
    if let Some(found) = store.find_image(&reference.clone().for_pull().to_string())? {
        return Ok(Some(found));
    }
    let listed = store.list_images()?;
    Ok(listed.iter().any(|image| image.digest == digest).then_some(digest))
}

/// Finds the one image whose id begins so.
fn by_id(store: &Store, text: &str) -> anyhow::Result<Option<Digest>> {
    let wanted = text.strip_prefix("sha256:").unwrap_or(text);
    if wanted.len() < SHORTEST_ID || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Option<Image> = None;
    let listed = store.list_images()?;
    let others = listed.iter().flat_map(|entry| store.others(entry).unwrap_or_default());
    // One damaged image must not hide the others.
    let own = listed.iter().filter_map(|entry| {
        let index = has_index(store, entry, wanted);
        Some((store.peek_image(&entry.digest).ok()?, index))
    });
    for (image, by_index) in own.chain(others.map(|image| (image, false))) {
        let matches = by_index
            || image.id().hex().starts_with(wanted)
            || image.digest.hex().starts_with(wanted);
        if matches && found.as_ref().is_none_or(|found| found.id() == image.id()) {
            found = Some(image);
        } else if matches {
            bail!("{text:?} is the beginning of several images' ids");
        }
    }
    Ok(found.map(|image| image.digest))
}

/// Finds an image for a platform: under a name, one that is for it; by an id, what has it.
pub(crate) fn find_for(
    store: &Store,
    name: &str,
    wanted: &Platform,
) -> anyhow::Result<Option<Image>> {
    let Some(image) = find(store, name)? else { return Ok(None) };
    match is_id_of(&image, name) {
        true => Ok(Some(image)),
        false => platforms::choose(store, listed_as(name).as_deref(), image, wanted),
    }
}

/// Whether a name is the beginning of an image's id.
fn is_id_of(image: &Image, name: &str) -> bool {
    let name = name.strip_prefix("sha256:").unwrap_or(name);
    image.id().hex().starts_with(name) || image.digest.hex().starts_with(name)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use cache::oci::ImageConfig;
    use cache::prune::Scope;

    fn image(store: &Store, author: &str) -> Digest {
        let config = ImageConfig { author: Some(author.to_owned()), ..Default::default() };
        store.put_image(&config, &Default::default()).expect("put").0
    }

    /// Reads the image `app`, while that is done after it was looked up first.
    fn read_while(done: impl Fn(&Store)) -> anyhow::Result<Option<String>> {
        let dir = tempfile::tempdir().expect("tempdir");
        let [reader, other] = [(); 2].map(|()| Store::open(dir.path()).expect("open"));
        other.tag(&image(&other, "old"), &["app".to_owned()]).expect("tag");
        let looked = std::cell::Cell::new(false);
        let found = read(&reader, || {
            let found = reader.find_image("app")?;
            if !looked.replace(true) {
                done(&other);
            }
            Ok(found)
        });
        Ok(found?.and_then(|image| image.config.author))
    }

    #[test]
    fn an_image_that_goes_before_it_is_read_was_not_there() {
        let prune = |store: &Store| {
            let images = store.list_images().expect("list");
            let images = images.into_iter().map(|listed| listed.digest).collect();
            store.prune(&Scope { images, cache: None }).expect("prune");
        };
        assert_eq!(read_while(prune).expect("no error"), None);
        let anew = |store: &Store| {
            prune(store);
            store.tag(&image(store, "new"), &["app".to_owned()]).expect("tag");
        };
        assert_eq!(read_while(anew).expect("no error"), Some("new".to_owned()));
        assert_eq!(read_while(|_| {}).expect("no error"), Some("old".to_owned()));
    }

    #[test]
    fn an_image_of_the_list_without_its_manifest_is_an_error() {
        let lose = |store: &Store| {
            let digest = store.find_image("app").expect("look").expect("there");
            fs_err::remove_file(store.blob_path(&digest)).expect("remove");
        };
        let error = read_while(lose).expect_err("missing").to_string();
        assert!(error.ends_with("is not in the store"), "{error}");
    }
}
