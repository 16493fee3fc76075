//! Docker's own list of an archive's images, `manifest.json` (docker image specification 1.2).
//!
//! Does not know what the OCI image layout says beside it.

use cache::digest::Digest;
use serde::Deserialize;

use super::source::{Source, check};
use super::{Described, Entry, Error};
use crate::platform::{self, Choice};
use crate::reference::Reference;

/// The list's name.
pub(super) const MANIFEST: &str = "manifest.json";

/// What archives had in its place before docker 1.10.
pub(super) const REPOSITORIES: &str = "repositories";

/// One image of the list. Go writes what is empty as `null`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// Reads the images of the list that are wanted.
pub(super) fn describe(source: &Source, list: &[u8], choice: &Choice) -> Result<Vec<Entry>, Error> {
    let items: Vec<Item> = serde_json::from_slice(list)
        .map_err(|error| Error::document(MANIFEST, &error.to_string()))?;
    let mut described = Vec::new();
    let mut there = Vec::new();
    for item in items {
        let entry = describe_one(source, item)?;
        let found = platform::of(&entry.images[entry.main].config);
        let fits = platform::rank(choice.platform(), &found).is_some();
        if fits || matches!(choice, Choice::Preferably(_)) {
            described.push(entry);
        } else {
            there.push(platform::shown(&found));
        }
    }
    if described.is_empty() && !there.is_empty() {
        return Err(Error::Platform { wanted: platform::shown(choice.platform()), there });
    }
    Ok(described)
}

fn describe_one(source: &Source, item: Item) -> Result<Entry, Error> {
    let bytes = source.needed(&item.config)?;
    // All archives that have a digest in this name mean the content's.
    let name = item.config.rsplit(['/', ':']).next().unwrap_or_default();
    if let Some(digest) = Digest::from_hex(name.strip_suffix(".json").unwrap_or(name)) {
        check(&item.config, &digest, Digest::of(&bytes))?;
    }
    let names = item.repo_tags.unwrap_or_default();
    let names = names.iter().map(|name| tagged(name)).collect::<Result<_, _>>()?;
    let image = Described::new(item.config, bytes, item.layers.unwrap_or_default())?;
    Ok(Entry::one(image, names))
}

fn tagged(name: &str) -> Result<Reference, Error> {
    let invalid = |source| Error::Name { name: name.to_owned(), source };
    let reference = Reference::parse(name).map_err(invalid)?;
    match reference.tag {
        Some(_) => Ok(Reference { digest: None, ..reference }),
        None => Err(invalid(crate::reference::ReferenceError::Tag)),
    }
}
