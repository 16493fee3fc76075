//! The list of images of an OCI image layout, `index.json` (image-spec `image-layout.md`).
//!
//! An entry is an image, or a list of the same image for several platforms, of which one is
//! chosen. Entries of one name stand for one image too.

use std::collections::BTreeMap;

use cache::digest::Digest;
use cache::oci::{Descriptor, INDEX, Index, MANIFEST, Manifest, REF_NAME, StringMap};
use serde::de::DeserializeOwned;

use super::source::{Source, blob_name};
use super::{Described, Error};
use crate::platform::{self, Choice};
use crate::reference::Reference;

/// The list's name.
pub(super) const LIST: &str = "index.json";

/// The annotation that has an image's name in full.
const FULL_NAME: &str = "io.containerd.image.name";

/// Says that a manifest tells of another one, and is no image.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Docker's own words for the same documents.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What configurations of images are; artifacts have others.
const CONFIGS: [&str; 2] = [cache::oci::CONFIG, "application/vnd.docker.container.image.v1+json"];

/// How deep lists may be in lists.
const DEEPEST: usize = 4;

/// Which image of a layout is wanted.
#[derive(Clone, Debug)]
pub enum Pick {
    /// The one with this tag, or the only one.
    Tag(String),
    /// The one whose manifest has this digest, or the list of it.
    Digest(Digest),
}

impl std::fmt::Display for Pick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Reads all images of the list that are wanted.
pub(super) fn describe(
    source: &Source,
    list: &[u8],
    choice: &Choice,
) -> Result<Vec<Described>, Error> {
    let index: Index = parse(LIST, list)?;
    let mut groups: Vec<(Option<String>, Vec<&Descriptor>)> = Vec::new();
    for entry in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
        let name = name_of(entry);
        match groups.iter_mut().find(|(known, _)| name.is_some() && *known == name) {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((name, vec![entry])),
        }
    }
    // Without names, one image for several platforms cannot be told from several images but by them.
    let platforms = groups.iter().map(|(_, entries)| entries[0].platform.as_ref());
    let platforms: Vec<_> = platforms.map(|found| found.map(platform::shown)).collect();
    let distinct = |at: usize| platforms[at].is_some() && !platforms[..at].contains(&platforms[at]);
    if groups.iter().all(|(name, _)| name.is_none()) && (0..groups.len()).all(distinct) {
        let entries = groups.drain(..).flat_map(|(_, entries)| entries).collect::<Vec<_>>();
        groups.extend((!entries.is_empty()).then_some((None, entries)));
    }
    let mut images: Vec<(Digest, Described)> = Vec::new();
    for (name, entries) in groups {
        let manifest = choose(source, &entries, choice)?;
        let name = name.map(|name| parse_name(&name)).transpose()?;
        match images.iter_mut().find(|(digest, _)| *digest == manifest.digest) {
            Some((_, image)) => image.names.extend(name),
            None => {
                let image = describe_one(source, &manifest, name)?;
                images.push((manifest.digest, image));
            }
        }
    }
    Ok(images.into_iter().map(|(_, image)| image).collect())
}

/// Reads the one image that is picked; `None` if there is none.
pub(super) fn describe_pick(
    source: &Source,
    list: &[u8],
    pick: &Pick,
    choice: &Choice,
) -> Result<Option<Described>, Error> {
    let index: Index = parse(LIST, list)?;
    let entries: Vec<&Descriptor> =
        index.manifests.iter().filter(|entry| !is_attestation(entry)).collect();
    let tagged = |entry: &Descriptor, tag: &str| {
        entry
            .annotations
            .get(REF_NAME)
            .is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
    };
    let mut found: Vec<&Descriptor> = match pick {
        Pick::Tag(tag) => entries.iter().copied().filter(|entry| tagged(entry, tag)).collect(),
        Pick::Digest(digest) => {
            entries.iter().copied().filter(|entry| entry.digest == *digest).collect()
        }
    };
    if let (true, Pick::Tag(_), [only]) = (found.is_empty(), pick, entries.as_slice()) {
        found.push(only);
    }
    if found.is_empty() {
        return Ok(None);
    }
    let manifest = choose(source, &found, choice)?;
    describe_one(source, &manifest, None).map(Some)
}

/// What the manifests of the list's images say of them, by the digest of the configuration. What
/// cannot be read says nothing.
pub(super) fn annotations(source: &Source, list: &[u8]) -> BTreeMap<Digest, StringMap> {
    let index = serde_json::from_slice::<Index>(list).unwrap_or_default();
    let manifests = index.manifests.iter().filter(|entry| entry.media_type == MANIFEST);
    let manifests = manifests.filter_map(|entry| read_manifest(source, entry).ok());
    manifests.map(|manifest| (manifest.config.digest, manifest.annotations)).collect()
}

fn describe_one(
    source: &Source,
    descriptor: &Descriptor,
    name: Option<Reference>,
) -> Result<Described, Error> {
    let manifest = read_manifest(source, descriptor)?;
    let config = &manifest.config;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        let why = format!("it is the manifest of a {}, not of an image", config.media_type);
        return Err(Error::document(&blob_name(&descriptor.digest), &why));
    }
    let layers = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
    let bytes = source.blob(&config.digest)?;
    let image = Described::new(blob_name(&config.digest), bytes, layers, Vec::from_iter(name))?;
    Ok(Described { annotations: manifest.annotations, ..image })
}

/// The manifest of the best of several entries, or of those in their lists.
fn choose(source: &Source, entries: &[&Descriptor], choice: &Choice) -> Result<Descriptor, Error> {
    let mut leaves = Vec::new();
    for entry in entries {
        add_leaves(source, entry, DEEPEST, &mut leaves)?;
    }
    if let (Choice::Preferably(_), [only]) = (choice, leaves.as_slice()) {
        return Ok(only.clone());
    }
    let mut best: Option<(u32, Descriptor)> = None;
    let mut there = Vec::new();
    for leaf in leaves {
        let found = match &leaf.platform {
            Some(platform) => platform.clone(),
            None => {
                let config = source.blob(&read_manifest(source, &leaf)?.config.digest)?;
                platform::of(&parse(&blob_name(&leaf.digest), &config)?)
            }
        };
        there.push(platform::shown(&found));
        if let Some(rank) = platform::rank(choice.platform(), &found)
            && best.as_ref().is_none_or(|(best, _)| rank < *best)
        {
            best = Some((rank, leaf));
        }
    }
    best.map(|(_, leaf)| leaf).ok_or_else(|| {
        there.dedup();
        Error::Platform { wanted: platform::shown(choice.platform()), there }
    })
}

/// Adds the manifests of images that an entry stands for.
fn add_leaves(
    source: &Source,
    entry: &Descriptor,
    depth: usize,
    leaves: &mut Vec<Descriptor>,
) -> Result<(), Error> {
    let member = || blob_name(&entry.digest);
    match entry.media_type.as_str() {
        MANIFEST | DOCKER_MANIFEST => leaves.push(entry.clone()),
        INDEX | DOCKER_LIST if depth == 0 => {
            return Err(Error::document(&member(), "it is a list in too many lists"));
        }
        INDEX | DOCKER_LIST => {
            // Of several platforms some may not have been taken along.
            let Some(_) = source.document(&member())? else {
                return Err(Error::missing(&member()));
            };
            let index: Index = parse(&member(), &source.blob(&entry.digest)?)?;
            for entry in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
                let is_there = source.document(&blob_name(&entry.digest))?.is_some();
                if is_there {
                    add_leaves(source, entry, depth - 1, leaves)?;
                }
            }
        }
        other => {
            let why = format!("it is a {other}, not an image");
            return Err(Error::document(&member(), &why));
        }
    }
    Ok(())
}

fn read_manifest(source: &Source, descriptor: &Descriptor) -> Result<Manifest, Error> {
    parse(&blob_name(&descriptor.digest), &source.blob(&descriptor.digest)?)
}

fn parse<T: DeserializeOwned>(member: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::document(member, &error.to_string()))
}

fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key(ATTESTATION)
}

/// The name that an entry has. A mere tag, as the specification has it, is a name in a directory
/// only.
fn name_of(entry: &Descriptor) -> Option<String> {
    let name = entry.annotations.get(FULL_NAME);
    let name = name.or_else(|| entry.annotations.get(REF_NAME))?;
    (name.contains([':', '/']) && !name.contains('@')).then(|| name.clone())
}

fn parse_name(name: &str) -> Result<Reference, Error> {
    let invalid = |source| Error::Name { name: name.to_owned(), source };
    Ok(Reference::parse(name).map_err(invalid)?.or_latest())
}
