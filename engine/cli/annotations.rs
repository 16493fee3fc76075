//! Annotations of manifests, as `--annotation` and `--output` give them:
//! `[manifest|index|...[PLATFORM]:]KEY=VALUE`, `annotation[-manifest|-index|...][PLATFORM].KEY=VALUE`.

use anyhow::{Context, bail};
use cache::image::Image;
use cache::oci::{Descriptor, Index, Platform, StringMap};

/// One annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotation {
    place: Place,
    /// The only platform that it is for.
    platform: Option<Platform>,
    name: String,
    value: String,
}

/// What is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Manifest,
    Index,
    /// What points to the manifest in an index.
    ManifestDescriptor,
    /// What points to the index, which is nowhere kept.
    IndexDescriptor,
}

impl Annotation {
    /// Reads the values of `--annotation`.
    pub(crate) fn parse_all(given: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        for text in given {
            let Some((key, value)) = text.split_once('=') else {
                bail!("invalid annotation {text:?}, expected key=value");
            };
            let (places, name) = key.split_once(':').unwrap_or(("manifest", key));
            for place in places.split(',') {
                let annotation = Self::new(place, name, value);
                all.push(annotation.with_context(|| format!("--annotation {text}"))?);
            }
        }
        Ok(all)
    }

    /// Reads a field of `--output`, if it is one of ours: its key and its value.
    pub(crate) fn parse_field(key: &str, value: &str) -> anyhow::Result<Option<Self>> {
        let Some(rest) = key.strip_prefix("annotation") else { return Ok(None) };
        // A platform has no dot in it, so the first one ends the place.
        let Some((place, name)) = rest.split_once('.') else { return Ok(None) };
        let place = match place.strip_prefix('-') {
            Some(place) => place.to_owned(),
            None => format!("manifest{place}"),
        };
        Self::new(&place, name, value).map(Some)
    }

    fn new(place: &str, name: &str, value: &str) -> anyhow::Result<Self> {
        let (kind, platform) = match place.split_once('[') {
            Some((kind, rest)) => {
                let text = rest.strip_suffix(']').with_context(|| {
                    format!("invalid annotation type {place:?}, expected type[platform]")
                })?;
                (kind, Some(frontend::platform::parse(text)?))
            }
            None => (place, None),
        };
        let place = match kind {
            "manifest" => Place::Manifest,
            "index" => Place::Index,
            "manifest-descriptor" => Place::ManifestDescriptor,
            "index-descriptor" => Place::IndexDescriptor,
            other => bail!("unknown annotation type {other:?}: use manifest or index"),
        };
        if name.is_empty() {
            bail!("an annotation has no name");
        }
        Ok(Self { place, platform, name: name.to_owned(), value: value.to_owned() })
    }
}

/// The annotations that the manifest of an image for a platform gets.
pub(crate) fn of_manifest(all: &[Annotation], platform: &Platform) -> StringMap {
    of_place(all, Place::Manifest, Some(platform))
}

fn of_place(all: &[Annotation], place: Place, platform: Option<&Platform>) -> StringMap {
    let ours = all.iter().filter(|one| {
        let fits = |only| platform.is_none_or(|platform| *platform == only);
        one.place == place && one.platform.clone().is_none_or(fits)
    });
    ours.map(|one| (one.name.clone(), one.value.clone())).collect()
}

/// Adds to an index, and to its entries for images, which are in their order, what they get.
pub(crate) fn annotate_list(
    all: &[Annotation],
    index: &mut Index,
    entries: &mut [Descriptor],
    images: &[Image],
) {
    index.annotations.extend(of_place(all, Place::Index, None));
    for (entry, image) in entries.iter_mut().zip(images) {
        let platform = engine::platform::of(&image.config);
        entry.annotations.extend(of_place(all, Place::ManifestDescriptor, Some(&platform)));
    }
}

/// Refuses what only a list of images for several platforms can have.
pub(crate) fn check_single(all: &[Annotation]) -> anyhow::Result<()> {
    if all.iter().any(|one| one.place == Place::Index) {
        bail!("index annotations not supported for single platform export");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(all: &[Annotation]) -> String {
        let one = |one: &Annotation| {
            let platform = one.platform.as_ref();
            let platform = platform.map(|only| format!("[{}/{}]", only.os, only.architecture));
            format!("{:?}{} {}={}", one.place, platform.unwrap_or_default(), one.name, one.value)
        };
        all.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn annotations_say_what_they_are_for() {
        let check = |text: &str, expected: &str| {
            let found = match Annotation::parse_all(&[text.to_owned()]) {
                Ok(all) => shown(&all),
                Err(error) => format!("error: {}", error.root_cause()),
            };
            assert_eq!(found, expected, "{text}");
        };
        check("k=v", "Manifest k=v");
        check("k=v=w", "Manifest k=v=w");
        check("index:a.b=", "Index a.b=");
        check("manifest,index:k=v", "Manifest k=v; Index k=v");
        check("manifest[linux/arm64]:k=v", "Manifest[linux/arm64] k=v");
        check("k", "error: invalid annotation \"k\", expected key=value");
        check("other:k=v", "error: unknown annotation type \"other\": use manifest or index");
        check("=v", "error: an annotation has no name");
    }

    #[test]
    fn fields_of_an_output_say_it_too() {
        let check = |key: &str, expected: &str| {
            let found = Annotation::parse_field(key, "v").expect(key);
            assert_eq!(shown(found.as_slice()), expected, "{key}");
        };
        check("annotation.org.example", "Manifest org.example=v");
        check("annotation-index.k", "Index k=v");
        check("annotation[linux/amd64].k", "Manifest[linux/amd64] k=v");
        check("annotation-manifest-descriptor.k", "ManifestDescriptor k=v");
        check("annotation", "");
        check("name", "");
    }
}
