//! The documents of the OCI image specification that the store reads and writes: descriptor,
//! index, manifest, image configuration.
//!
//! Own types rather than the `oci-spec` crate's: its configuration drops Healthcheck, Shell and
//! OnBuild and serialises hash maps in random order. Fields unknown here are kept as they are.
//! Maps are ordered, so the same document always has the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::digest::Digest;

/// Media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of an uncompressed layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The annotation that holds an image's name in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Annotations and labels.
pub type StringMap = BTreeMap<String, String>;

/// Points to content (image-spec `descriptor.md`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Where else the content can be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "elements")]
    pub urls: Vec<String>,
    /// Anything said about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "values")]
    pub annotations: StringMap,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What it runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact a manifest is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Points to content, and says no more of it.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: StringMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go's GOARCH.
    #[serde(deserialize_with = "null_as_default")]
    pub architecture: String,
    /// As Go's GOOS.
    #[serde(deserialize_with = "null_as_default")]
    pub os: String,
    /// The operating system's version, which Windows asks for.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system must have, as `win32k`.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "elements"
    )]
    pub os_features: Vec<String>,
    /// As `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A list of manifests (image-spec `image-index.md`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, if its manifests are no images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that it tells of, if it tells of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Anything said about the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "values")]
    pub annotations: StringMap,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            artifact_type: None,
            manifests: Vec::new(),
            subject: None,
            annotations: StringMap::new(),
        }
    }
}

/// An image (image-spec `manifest.md`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, the base first.
    #[serde(deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that it tells of, if it tells of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Anything said about the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "values")]
    pub annotations: StringMap,
}

impl Manifest {
    /// A manifest in the words of the image specification that says no more.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: StringMap::new(),
        }
    }
}

/// An image configuration (image-spec `config.md`), fields in the order docker writes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// As Go's GOARCH.
    #[serde(deserialize_with = "null_as_default")]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How to run it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: RunConfig,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How it was made, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "elements")]
    pub history: Vec<History>,
    /// As Go's GOOS.
    #[serde(deserialize_with = "null_as_default")]
    pub os: String,
    /// The layers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub rootfs: RootFs,
    /// As `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Whatever else a base image's configuration had.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The layers of an image by their content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", deserialize_with = "layers")]
    pub kind: String,
    /// Digests of the uncompressed tars, the base first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// By which builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "null_as_default"
    )]
    pub empty_layer: bool,
}

/// A set as Go writes it: a map to empty objects.
pub type Set = BTreeMap<String, Empty>;

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How to run an image (image-spec `config.md`, with docker's extensions).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub user: String,
    /// `port/protocol`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "values")]
    pub exposed_ports: Set,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "elements")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_elements")]
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments, or the program when there is no entry point.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_elements")]
    pub cmd: Option<Vec<String>>,
    /// How to tell whether it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Whether the command line was a single string (Windows).
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_as_default")]
    pub args_escaped: bool,
    /// Directories that live outside the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "values")]
    pub volumes: Set,
    /// Where the program starts.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub working_dir: String,
    /// Instructions for images built on this one.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "elements")]
    pub on_build: Vec<String>,
    /// Anything said about the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "values")]
    pub labels: StringMap,
    /// What asks the program to stop.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub stop_signal: String,
    /// What runs the shell forms.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_elements")]
    pub shell: Option<Vec<String>>,
    /// Whatever else a base image's configuration had.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A health check; times are nanoseconds, 0 stands for the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, `CMD ...` or `CMD-SHELL ...`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "elements")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    pub interval: i64,
    /// Of one probe.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    pub start_period: i64,
    /// Between two probes in the start period.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    pub start_interval: i64,
    /// Failures in a row that mean unhealthy.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Reads `null` as Go does: as what a field is that is not there. Go writes it for an empty slice
/// or map that it never made.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The same for what a list holds too.
fn elements<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(optional_elements(deserializer)?.unwrap_or_default())
}

fn optional_elements<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let list: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(Option::unwrap_or_default).collect()))
}

/// The same for what a map holds.
fn values<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let map: BTreeMap<String, Option<T>> = null_as_default(deserializer)?;
    Ok(map.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

/// The only kind of root file system there is.
fn layers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let kind: Option<String> = Option::deserialize(deserializer)?;
    Ok(kind.unwrap_or_else(|| RootFs::default().kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_says_beyond_our_types_survives() {
        let text = r#"{"architecture":"amd64","config":{"Cmd":["sh"],"Healthcheck":{"Test":["NONE"]},"Shell":["/bin/ash"],"Zone":1},"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"os.version":"x"}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("parse");
        assert_eq!(serde_json::to_string(&config).expect("print"), text);
    }

    #[test]
    fn what_lists_and_manifests_say_survives() {
        let digest = Digest::of("");
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"a/b","config":{{"mediaType":"{CONFIG}","digest":"{digest}","size":0,"data":""}},"layers":[{{"mediaType":"{LAYER}","digest":"{digest}","size":0,"urls":["https://example.com/l"]}}],"subject":{{"mediaType":"{MANIFEST}","digest":"{digest}","size":0}},"annotations":{{"k":"v"}}}}"#
        );
        let parsed: Manifest = serde_json::from_str(&manifest).expect("parse");
        assert_eq!(serde_json::to_string(&parsed).expect("print"), manifest);
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","artifactType":"a/b","manifests":[{{"mediaType":"{MANIFEST}","digest":"{digest}","size":0,"annotations":{{"k":"v"}},"platform":{{"architecture":"amd64","os":"windows","os.version":"10.0","os.features":["win32k"]}},"artifactType":"c/d"}}],"subject":{{"mediaType":"{MANIFEST}","digest":"{digest}","size":0}}}}"#
        );
        let parsed: Index = serde_json::from_str(&index).expect("parse");
        assert_eq!(serde_json::to_string(&parsed).expect("print"), index);
    }

    #[test]
    fn null_is_what_is_not_there_as_in_go() {
        for (text, expected) in [
            (r#""config":null,"history":null,"rootfs":null"#, ""),
            (r#""created":null,"author":null,"variant":null"#, ""),
            (r#""rootfs":{"type":null,"diff_ids":null}"#, ""),
            (r#""history":[null]"#, r#""history":[{}]"#),
            (
                r#""history":[{"created":null,"created_by":null,"empty_layer":null}]"#,
                r#""history":[{}]"#,
            ),
            (r#""config":{"User":null,"WorkingDir":null,"StopSignal":null}"#, ""),
            (r#""config":{"Env":null,"OnBuild":null,"Cmd":null,"Shell":null}"#, ""),
            (r#""config":{"Env":["A=b",null]}"#, r#""config":{"Env":["A=b",""]}"#),
            (r#""config":{"Cmd":[null]}"#, r#""config":{"Cmd":[""]}"#),
            (r#""config":{"Labels":null,"Volumes":null,"ExposedPorts":null}"#, ""),
            (r#""config":{"Labels":{"a":null}}"#, r#""config":{"Labels":{"a":""}}"#),
            (r#""config":{"Volumes":{"/a":null}}"#, r#""config":{"Volumes":{"/a":{}}}"#),
            (r#""config":{"ArgsEscaped":null,"Healthcheck":null}"#, ""),
            (
                r#""config":{"Healthcheck":{"Test":null,"Interval":null,"Retries":null}}"#,
                r#""config":{"Healthcheck":{}}"#,
            ),
        ] {
            let config = |fields: &str| {
                let comma = if fields.is_empty() { "" } else { "," };
                let text = format!(r#"{{"architecture":null,"os":null{comma}{fields}}}"#);
                serde_json::from_str::<ImageConfig>(&text).expect("parse")
            };
            assert_eq!(config(text), config(expected), "{text}");
        }
    }

    #[test]
    fn null_in_manifests_is_what_is_not_there() {
        let digest = Digest::of("");
        let descriptor = |more: &str| {
            format!(r#"{{"mediaType":"{CONFIG}","digest":"{digest}","size":0{more}}}"#)
        };
        let plain = descriptor("");
        let null = descriptor(r#","annotations":null,"urls":null,"platform":null"#);
        let manifest = |config: &str, more: &str| {
            let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{more}}}"#);
            serde_json::from_str::<Manifest>(&text).expect("parse")
        };
        let more = r#","mediaType":null,"annotations":null"#;
        assert_eq!(manifest(&null, more), manifest(&plain, ""));
        let text = r#"{"schemaVersion":2,"manifests":null,"annotations":{"a":null}}"#;
        let index: Index = serde_json::from_str(text).expect("parse");
        assert_eq!(index.annotations["a"], "");
    }
}
