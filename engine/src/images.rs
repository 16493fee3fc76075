//! Images by their names, digests and ids, as far as the store has them.
//!
//! Knows no registry: what is not here is not found.

use cache::Store;
use cache::digest::{Digest, InvalidDigest};
use cache::image::{Image, Listed};
use cache::oci::Platform;
use cache::platforms::Meaning;

use crate::platform;
use crate::reference::Reference;

/// Fewer digits are no id.
const SHORTEST_ID: usize = 4;

/// Why an image was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Several ids begin so.
    #[error("{0:?} is the beginning of several images' ids")]
    Ambiguous(String),
    /// It must be there, and is not.
    #[error("No such image: {0}")]
    Missing(String),
    /// The name has a digest that is none.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] cache::Error),
}

type Result<T> = std::result::Result<T, Error>;

/// Finds an image by name, by digest, or by the beginning of its id.
pub fn find(store: &Store, name: &str) -> Result<Option<Image>> {
    if let Ok(reference) = Reference::parse(name)
        && let Some(image) = read(store, || by_reference(store, &reference))?
    {
        return Ok(Some(image));
    }
    read(store, || by_id(store, name))
}

/// Finds an image that must be there.
pub fn image(store: &Store, name: &str) -> Result<Image> {
    find(store, name)?.ok_or_else(|| Error::Missing(name.to_owned()))
}

/// Finds an image for a platform: under a name, one that is for it; by an id, what has it.
pub fn find_for(store: &Store, name: &str, wanted: &Platform) -> Result<Option<Image>> {
    let Some(image) = find(store, name)? else { return Ok(None) };
    match is_id_of(&image, name) {
        true => Ok(Some(image)),
        false => choose(store, listed_as(name).as_deref(), image, wanted),
    }
}

/// The image for a platform among those that stand under an image's name, or beside it under any.
pub fn choose(
    store: &Store,
    name: Option<&str>,
    image: Image,
    wanted: &Platform,
) -> Result<Option<Image>> {
    let listed = store.list_images()?;
    let by_name = |entry: &&Listed| name.is_some() && entry.name.as_deref() == name;
    let by_digest = |entry: &&Listed| entry.digest == image.digest;
    let entries: Vec<&Listed> = match listed.iter().find(by_name) {
        Some(entry) => vec![entry],
        None => listed.iter().filter(by_digest).collect(),
    };
    let mut images = vec![image];
    for entry in entries {
        images.extend(store.others(entry)?);
    }
    let ranked = images
        .iter()
        .filter_map(|image| Some((platform::fits(wanted, &platform::of(&image.config))?, image)));
    let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, image)| image.digest);
    // Before it is used it is kept from going.
    Ok(best.map(|digest| store.read_image(&digest)).transpose()?)
}

/// Finds all that a name, a digest or the beginning of an id means.
pub fn meaning(store: &Store, name: &str) -> Result<Option<Meaning>> {
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

/// Reads what a look at the list finds. An image is not in use before it is read: gone by then, it
/// is looked for again, and missing only if the list still has it.
fn read(store: &Store, look: impl Fn() -> Result<Option<Digest>>) -> Result<Option<Image>> {
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

fn by_reference(store: &Store, reference: &Reference) -> Result<Option<Digest>> {
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
fn by_id(store: &Store, text: &str) -> Result<Option<Digest>> {
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
            return Err(Error::Ambiguous(text.to_owned()));
        }
    }
    Ok(found.map(|image| image.digest))
}

/// Whether a name is the beginning of an image's id.
fn is_id_of(image: &Image, name: &str) -> bool {
    let name = name.strip_prefix("sha256:").unwrap_or(name);
    image.id().hex().starts_with(name) || image.digest.hex().starts_with(name)
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
    fn read_while(done: impl Fn(&Store)) -> Result<Option<String>> {
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
