//! The list of images of an OCI image layout, `index.json` (image-spec `image-layout.md`).
//!
//! An entry is an image, or a list of the same image for several platforms. Where one is asked for,
//! it is chosen from the list; else all come that the archive has whole. Entries of one name stand
//! for one image too.

use std::collections::{BTreeMap, BTreeSet};

use cache::digest::Digest;
use cache::image::Said;
use cache::oci::{Descriptor, INDEX, Index, MANIFEST, Manifest, Platform, REF_NAME};
use serde::de::DeserializeOwned;

use super::source::{Source, blob_name};
use super::{Described, Entry, Error, List};
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
pub(super) fn describe(source: &Source, list: &[u8], choice: &Choice) -> Result<Vec<Entry>, Error> {
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
    let mut found: Vec<(Vec<Digest>, Entry)> = Vec::new();
    for (name, entries) in groups {
        let name = name.map(|name| parse_name(&name)).transpose()?;
        let (key, entry) = describe_group(source, &entries, choice)?;
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => known.names.extend(name),
            None => found.push((key, Entry { names: Vec::from_iter(name), ..entry })),
        }
    }
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

/// Reads what entries stand for that are one image, and the digests of the documents that say so.
fn describe_group(
    source: &Source,
    entries: &[&Descriptor],
    choice: &Choice,
) -> Result<(Vec<Digest>, Entry), Error> {
    if let Choice::Preferably(wanted) = choice
        && let Some(entry) = describe_several(source, entries, wanted)?
    {
        return Ok((entries.iter().map(|entry| entry.digest).collect(), entry));
    }
    let manifest = choose(source, entries, choice)?;
    let image = describe_one(source, &manifest)?;
    Ok((vec![manifest.digest], Entry::one(image, Vec::new())))
}

/// Reads all images that entries stand for and that the archive has whole; nothing if it has none
/// so, or if there was only one from the beginning.
fn describe_several(
    source: &Source,
    entries: &[&Descriptor],
    wanted: &Platform,
) -> Result<Option<Entry>, Error> {
    let mut leaves: Vec<Descriptor> = Vec::new();
    for entry in entries {
        add_leaves(source, entry, DEEPEST, &mut leaves)?;
    }
    let listed = leaves.len();
    let mut descriptors: Vec<Descriptor> = Vec::new();
    for leaf in leaves {
        let is_new = descriptors.iter().all(|known| known.digest != leaf.digest);
        if is_new && is_whole(source, &leaf)? {
            descriptors.push(leaf);
        }
    }
    if listed < 2 || descriptors.is_empty() {
        return Ok(None);
    }
    let images = descriptors.iter().map(|leaf| describe_one(source, leaf));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let ranked = images.iter().zip(&descriptors).enumerate().filter_map(|(at, (image, leaf))| {
        let found = leaf.platform.clone().unwrap_or_else(|| platform::of(&image.config));
        Some((platform::rank(wanted, &found)?, at))
    });
    let main = ranked.min().map_or(0, |(_, at)| at);
    let list = (images.len() > 1).then(|| list_of(source, entries, descriptors)).transpose()?;
    Ok(Some(Entry { images, main, list, names: Vec::new() }))
}

/// What lists images: the list that an entry is, or, of several entries, they themselves.
fn list_of(
    source: &Source,
    entries: &[&Descriptor],
    descriptors: Vec<Descriptor>,
) -> Result<List, Error> {
    let [only] = entries else {
        return Ok(List { bytes: None, index: Index::default(), descriptors });
    };
    let bytes = source.blob(&only.digest)?;
    let index = parse(&blob_name(&only.digest), &bytes)?;
    Ok(List { bytes: Some(bytes), index, descriptors })
}

/// Whether an archive has all that an image is made of.
fn is_whole(source: &Source, leaf: &Descriptor) -> Result<bool, Error> {
    let manifest = read_manifest(source, leaf)?;
    if !CONFIGS.contains(&manifest.config.media_type.as_str()) {
        return Ok(false);
    }
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if !source.has(&blob_name(&blob.digest))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lists among the entries with the images they stand for. What cannot be read says nothing, but
/// for what is corrupt.
pub(super) fn lists(source: &Source, list: &[u8], wanted: &Platform) -> Result<Vec<Entry>, Error> {
    let index = serde_json::from_slice::<Index>(list).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut lists = Vec::new();
    for entry in &index.manifests {
        let is_list = [INDEX, DOCKER_LIST].contains(&entry.media_type.as_str());
        if !is_list || !seen.insert(entry.digest) {
            continue;
        }
        match describe_several(source, &[entry], wanted) {
            Ok(found) => lists.extend(found),
            Err(error @ Error::Corrupt { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(lists)
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
    describe_one(source, &manifest).map(Some)
}

/// What the manifests of the list's images say of them, by the digest of the configuration. What
/// cannot be read says nothing.
pub(super) fn said(source: &Source, list: &[u8]) -> BTreeMap<Digest, Said> {
    let index = serde_json::from_slice::<Index>(list).unwrap_or_default();
    let manifests = index.manifests.iter().filter(|entry| entry.media_type == MANIFEST);
    let manifests = manifests.filter_map(|entry| read_manifest(source, entry).ok());
    manifests.map(|manifest| (manifest.config.digest, Said::from(&manifest))).collect()
}

fn describe_one(source: &Source, descriptor: &Descriptor) -> Result<Described, Error> {
    let manifest = read_manifest(source, descriptor)?;
    let config = &manifest.config;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        let why = format!("it is the manifest of a {}, not of an image", config.media_type);
        return Err(Error::document(&blob_name(&descriptor.digest), &why));
    }
    let layers = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
    let bytes = source.blob(&config.digest)?;
    let image = Described::new(blob_name(&config.digest), bytes, layers)?;
    Ok(Described { said: Said::from(&manifest), ..image })
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
