//! Mounts and volumes in the shapes of docker's API.

use cache::oci::StringMap;
use serde::{Deserialize, Serialize};

/// A volume, as `volume inspect` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Always `local`.
    pub driver: String,
    /// What people say of it.
    pub labels: Option<StringMap>,
    /// The directory that containers see.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// `type`, `device` and `o` of what is mounted at its directory, if anything is.
    pub options: Option<StringMap>,
    /// Always `local`.
    pub scope: String,
}

/// What kind of mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A path of the host.
    Bind,
    /// A volume.
    #[default]
    Volume,
    /// A file system in memory.
    Tmpfs,
    /// An image's root file system.
    Image,
}

impl Kind {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }

    /// Reads docker's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Bind, Self::Volume, Self::Tmpfs, Self::Image]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// How mounts below a bind mount spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of mount_namespaces(7)")]
pub enum Propagation {
    RPrivate,
    Private,
    RShared,
    Shared,
    RSlave,
    Slave,
}

impl Propagation {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RPrivate => "rprivate",
            Self::Private => "private",
            Self::RShared => "rshared",
            Self::Shared => "shared",
            Self::RSlave => "rslave",
            Self::Slave => "slave",
        }
    }

    /// Reads docker's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::RPrivate, Self::Private, Self::RShared, Self::Shared, Self::RSlave, Self::Slave]
            .into_iter()
            .find(|propagation| propagation.as_str() == text)
    }
}

/// One of `HostConfig.Mounts`: what `--mount` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// What kind of mount.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// The host's path, the volume's name or the image's reference.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The container's path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Whether it cannot be written to.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Of no meaning here; kept for `inspect`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// More of a bind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// More of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// More of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// More of a tmpfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// What may be said of a bind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// How mounts below spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// Without the mounts below.
    #[serde(skip_serializing_if = "is_false")]
    pub non_recursive: bool,
    /// Whether a missing source is made.
    #[serde(skip_serializing_if = "is_false")]
    pub create_mountpoint: bool,
    /// Read-only without the mounts below.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only_non_recursive: bool,
    /// Read-only with the mounts below, or not at all.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only_force_recursive: bool,
}

/// What may be said of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Whether it is not filled from the image.
    #[serde(skip_serializing_if = "is_false")]
    pub no_copy: bool,
    /// Labels of the volume, if it is made.
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub labels: StringMap,
    /// A directory in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// The volume's driver and its options, if it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

/// A volume's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is told.
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub options: StringMap,
}

/// What may be said of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// A path in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
}

/// What may be said of a tmpfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// How much it may hold; 0 is half of the memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Mode bits; 0 is the default.
    #[serde(skip_serializing_if = "is_no_mode")]
    pub mode: u32,
}

/// Something mounted, as `inspect` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// A volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The host's path.
    pub source: String,
    /// The container's path.
    pub destination: String,
    /// A volume's driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options as they were typed.
    pub mode: String,
    /// Whether it can be written to.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// How mounts below it spread; empty for what none can be below.
    pub propagation: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_no_mode(value: &u32) -> bool {
    *value == 0
}
