//! What a set of compose files comes to: a [`Project`] that is complete without any engine.
//!
//! The names are the compose specification's. Mappings are sorted by key, as everything that compose prints or hashes
//! is; lists keep their order. `Project` serialises to a canonical compose file that loads to the same project.

mod build;
mod deploy;
mod resource;
mod service;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use build::{Build, Develop, Trigger};
pub use deploy::{
    Deploy, DeviceRequest, GenericResource, GenericResourceSpec, Limits, Placement,
    PlacementPreference, Reservations, Resources, RestartPolicy, Update,
};
pub use resource::{Config, Ipam, IpamPool, Model, Network, Secret, Volume};
pub use service::{
    BindOptions, Blkio, BlkioRate, BlkioWeight, CredentialSpec, Dependency, Device, EnvFile,
    FileMount, Healthcheck, Hook, ImageOptions, Logging, Mount, Port, Provider, Service,
    ServiceModel, ServiceNetwork, TmpfsOptions, VolumeOptions,
};
pub use value::{
    Bytes, Command, Decimal, DeviceCount, Duration, Environment, FileMode, Hidden, Hosts, OptOut,
    Options, Pairs, Ssh, Stated, Test, Ulimit,
};

/// What `x-*` keys say, by key.
pub type Extensions = BTreeMap<String, serde_json::Value>;

/// A project: services and what they share.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Project {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The services that are to run, by name.
    pub services: BTreeMap<String, Service>,
    /// Its networks, by the name that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Network>,
    /// Its volumes, by the name that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Volume>,
    /// Its secrets, by the name that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// Its configs, by the name that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, Config>,
    /// Its models, by the name that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Model>,
    /// What `x-*` keys at the top say.
    #[serde(flatten)]
    pub extensions: Extensions,
    /// The folder that relative paths begin at.
    #[serde(skip)]
    pub working_dir: PathBuf,
    /// The files that it was loaded from; `-` is standard input.
    #[serde(skip)]
    pub compose_files: Vec<PathBuf>,
    /// The variable files that were named for it.
    #[serde(skip)]
    pub env_files: Vec<PathBuf>,
    /// The variables that its files were read with.
    #[serde(skip)]
    pub environment: BTreeMap<String, String>,
    /// Services that no active profile or selection enables.
    #[serde(skip)]
    pub disabled_services: BTreeMap<String, Service>,
    /// The active profiles.
    #[serde(skip)]
    pub profiles: Vec<String>,
}
