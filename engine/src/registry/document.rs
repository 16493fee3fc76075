//! Manifests and lists of them as registries keep them: OCI's and docker's schema 2, whose fields
//! are the same. Their bytes are kept as they came. Does no I/O.

use cache::digest::Digest;
use cache::oci::{self, Descriptor, Index, Manifest, Platform};
use serde::Deserialize;

use crate::platform;

/// Media type of docker's list of manifests.
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of docker's manifest.
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of docker's configurations.
pub(super) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Media types of manifests of old, which have no configuration.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

/// What we can read, for an `Accept` header.
pub(super) const ACCEPTED: [&str; 4] = [oci::INDEX, DOCKER_LIST, oci::MANIFEST, DOCKER_MANIFEST];

/// A document and its bytes.
#[derive(Clone, Debug)]
pub struct Document {
    /// As they came.
    pub bytes: Vec<u8>,
    /// The digest of these.
    pub digest: Digest,
    /// What it says it is.
    pub media_type: String,
    /// What is in it.
    pub content: Content,
}

/// What a document is.
#[derive(Clone, Debug)]
pub enum Content {
    /// One image.
    Manifest(Box<Manifest>),
    /// Images by platform.
    Index(Box<Index>),
}

impl Document {
    /// The document of a manifest made here, which has its media type in it.
    pub(super) fn of(manifest: Manifest) -> Self {
        let bytes = serde_json::to_vec(&manifest).expect("documents have string keys only");
        let media_type = manifest.media_type.clone().unwrap_or_else(|| oci::MANIFEST.to_owned());
        let digest = Digest::of(&bytes);
        Self { bytes, digest, media_type, content: Content::Manifest(Box::new(manifest)) }
    }

    /// Reads a document. What it says of itself counts more than what the registry says of it.
    pub fn parse(bytes: Vec<u8>, told: Option<&str>) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            schema_version: Option<u64>,
            media_type: Option<String>,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let head: Head = serde_json::from_slice(&bytes)
            .map_err(|error| format!("it is no manifest: {error}"))?;
        if head.schema_version == Some(1) || told.is_some_and(|told| told.starts_with(SCHEMA_1)) {
            return Err("it is a manifest of schema 1, which docker gave up in 2017; push the \
                        image again with a newer program"
                .to_owned());
        }
        let is_list = match head.media_type.as_deref().or(told) {
            Some(oci::INDEX | DOCKER_LIST) => true,
            Some(oci::MANIFEST | DOCKER_MANIFEST) => false,
            _ => head.manifests.is_some() && head.layers.is_none(),
        };
        // One that could be read as both means different things to different programs.
        if is_list == (head.config.is_some() || head.layers.is_some())
            || is_list != head.manifests.is_some()
        {
            return Err(
                "it is not clear whether it is a manifest or a list of manifests".to_owned()
            );
        }
        let unreadable = |error: serde_json::Error| format!("it is no manifest: {error}");
        let content = match is_list {
            true => Content::Index(serde_json::from_slice(&bytes).map_err(unreadable)?),
            false => Content::Manifest(serde_json::from_slice(&bytes).map_err(unreadable)?),
        };
        let usual = if is_list { oci::INDEX } else { oci::MANIFEST };
        let media_type = head.media_type.or(told.map(str::to_owned)).unwrap_or(usual.to_owned());
        Ok(Self { digest: Digest::of(&bytes), bytes, media_type, content })
    }
}

/// The entry of a list that comes nearest to a platform.
pub fn choose<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let ranked = index
        .manifests
        .iter()
        .filter_map(|entry| Some((platform::rank(wanted, entry.platform.as_ref()?)?, entry)));
    // A list of one that says nothing of platforms is that one.
    let only = || match index.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry).or_else(only)
}

/// The platforms of a list, as people write them; attestations are none.
pub fn platforms(index: &Index) -> Vec<String> {
    let known = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
    let known = known.filter(|platform| platform.os != "unknown");
    known.map(platform::shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, Option<&str>)]) -> Index {
        let entry =
            |(number, (architecture, variant)): (usize, &(&str, Option<&str>))| Descriptor {
                platform: Some(Platform {
                    architecture: (*architecture).to_owned(),
                    os: "linux".to_owned(),
                    variant: variant.map(str::to_owned),
                    ..Platform::default()
                }),
                ..Descriptor::new(oci::MANIFEST, Digest::of([number as u8]), 1)
            };
        Index { manifests: platforms.iter().enumerate().map(entry).collect(), ..Index::default() }
    }

    #[test]
    fn the_nearest_platform_is_chosen() {
        let all =
            [("amd64", None), ("arm", Some("v6")), ("arm", Some("v7")), ("arm64", Some("v8"))];
        let check = |architecture: &str, variant: Option<&str>, expected: Option<usize>| {
            let wanted = Platform {
                architecture: architecture.to_owned(),
                os: "linux".to_owned(),
                variant: variant.map(str::to_owned),
                ..Platform::default()
            };
            let index = index(&all);
            let found = choose(&index, &wanted).map(|entry| entry.digest);
            assert_eq!(found, expected.map(|at| index.manifests[at].digest), "{architecture}");
        };
        check("amd64", None, Some(0));
        check("amd64", Some("v1"), Some(0));
        check("arm", None, Some(2));
        check("arm", Some("v6"), Some(1));
        check("arm", Some("v5"), None);
        check("arm64", None, Some(3));
        check("arm64", Some("v8"), Some(3));
        check("s390x", None, None);
        assert_eq!(
            platforms(&index(&all)).join(" "),
            "linux/amd64 linux/arm/v6 linux/arm/v7 linux/arm64/v8"
        );
    }

    #[test]
    fn what_is_no_document_is_told() {
        let check = |text: &str, told: Option<&str>, expected: Result<&str, &str>| match (
            Document::parse(text.into(), told),
            expected,
        ) {
            (Ok(document), Ok(media_type)) => assert_eq!(document.media_type, media_type),
            (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        let digest = Digest::of("x");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":1}},"layers":[]}}"#
        );
        check(&manifest, None, Ok(oci::MANIFEST));
        check(&manifest, Some(DOCKER_MANIFEST), Ok(DOCKER_MANIFEST));
        check(&manifest, Some("text/html"), Ok("text/html"));
        check(&manifest, Some(oci::INDEX), Err("not clear"));
        check(r#"{"schemaVersion":2,"manifests":[]}"#, None, Ok(oci::INDEX));
        check(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, None, Err("not clear"));
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, None, Err("schema 1"));
        check("<html>", None, Err("no manifest"));
        check(r#"{"schemaVersion":2}"#, None, Err("not clear"));
    }
}
