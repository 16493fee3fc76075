//! What a build is asked for beside its Dockerfile, and what it is told of base images.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use cache::digest::Digest;
use cache::oci::{ImageConfig, Platform};
use engine::container::spec::{Resources, Rlimit};
use engine::graph::NetworkMode;

/// What a build is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The stage to build, by name or number; the last one when absent.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// What the image is for.
    pub platform: Platform,
    /// What builds it.
    pub build_platform: Platform,
    /// Which steps are done again.
    pub no_cache: NoCache,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The network of steps that do not choose one.
    pub network: NetworkMode,
    /// `--allow`.
    pub allowed: BTreeSet<Entitlement>,
    /// The host name in steps.
    pub hostname: String,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, String)>,
    /// `--shm-size`.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Rlimit>,
    /// `--memory`, `--cpus` and the like.
    pub resources: Resources,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// What keeps the cache mounts of this build apart from those of others.
    pub cache_mount_namespace: String,
}

/// Which steps are done again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    Never,
    /// All.
    All,
    /// Those of these stages.
    Stages(Vec<String>),
}

/// What a step may only have if it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// The host's network.
    NetworkHost,
    /// No confinement.
    SecurityInsecure,
}

/// What a named context stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory that the engine knows by this name.
    Local(String),
    /// An image.
    Image(String),
    /// A stage of the same file.
    Stage(String),
}

/// A base image, as far as a build must know it.
#[derive(Clone, Debug, Default)]
pub struct BaseImage {
    /// Its name, normalised, with its digest if that is known.
    pub reference: String,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, the lowest first; they are in the store.
    pub layers: Vec<Digest>,
}

/// Tells what an image is: its name as written, and the platform it is wanted for.
pub type Resolve<'a> =
    &'a mut dyn FnMut(&str, &Platform) -> Result<BaseImage, Box<dyn Error + Send + Sync>>;
