//! How a service's image is built, and what is watched while it is developed.

use std::collections::BTreeMap;

use super::service::{FileMount, Hook};
use super::value::{Bytes, Environment, Hosts, Pairs, Ssh, Ulimit};
use crate::field::record;

record! {
    /// How an image is built.
    pub struct Build {
        /// A folder, or what a builder can fetch.
        context: String = "context",
        dockerfile: String = "dockerfile",
        dockerfile_inline: String = "dockerfile_inline",
        entitlements: Vec<String> = "entitlements",
        args: Environment = "args",
        provenance: String = "provenance",
        sbom: String = "sbom",
        ssh: Ssh = "ssh",
        labels: Pairs = "labels",
        cache_from: Vec<String> = "cache_from",
        cache_to: Vec<String> = "cache_to",
        no_cache: bool = "no_cache",
        no_cache_filter: Vec<String> = "no_cache_filter",
        additional_contexts: Pairs = "additional_contexts",
        pull: bool = "pull",
        extra_hosts: Hosts = "extra_hosts",
        isolation: String = "isolation",
        network: String = "network",
        target: String = "target",
        secrets: Vec<FileMount> = "secrets",
        shm_size: Bytes = "shm_size",
        tags: Vec<String> = "tags",
        ulimits: BTreeMap<String, Ulimit> = "ulimits",
        platforms: Vec<String> = "platforms",
        privileged: bool = "privileged",
    }
}

record! {
    /// What happens while a service is developed.
    pub struct Develop {
        watch: Vec<Trigger> = "watch",
    }
}

record! {
    /// What is done when files change.
    pub struct Trigger {
        path: String = "path",
        /// `rebuild`, `sync`, `restart`, `sync+restart` or `sync+exec`.
        action: String = "action",
        target: String = "target",
        exec: Hook = "exec",
        include: Vec<String> = "include",
        ignore: Vec<String> = "ignore",
        initial_sync: bool = "initial_sync",
    }
}
