//! What a build's flags and the environment ask the frontend for, and what fetching may use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use cache::oci::Platform;
use engine::graph::NetworkMode;
use engine::source::{Access, Proxy};
use frontend::request::{Entitlement, NoCache, Request};

use crate::build::BuildArgs;
use crate::registries;

/// What the frontend is asked for.
pub(crate) fn request(args: &BuildArgs, platform: &Platform) -> anyhow::Result<Request> {
    let mut build_args = BTreeMap::new();
    for name in ["SOURCE_DATE_EPOCH"] {
        if let Ok(value) = std::env::var(name) {
            build_args.insert(name.to_owned(), value);
        }
    }
    for given in &args.build_arg {
        match given.split_once('=') {
            Some(("", _)) => bail!("invalid key-value pair {given:?}: empty key"),
            Some((name, value)) => drop(build_args.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Ok(value) = std::env::var(given) {
                    build_args.insert(given.clone(), value);
                }
            }
        }
    }
    let mut limits = args.limits.clone();
    limits.add_resources(&args.resource)?;
    let hostname = build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned();
    let namespace = build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned();
    Ok(Request {
        target: args.target.clone(),
        labels: pairs(&args.label, "--label")?,
        platform: platform.clone(),
        build_platform: frontend::platform::host(),
        no_cache: match (args.no_cache, args.no_cache_filter.is_empty()) {
            (true, _) => NoCache::All,
            (false, true) => NoCache::Never,
            (false, false) => NoCache::Stages(args.no_cache_filter.clone()),
        },
        contexts: BTreeMap::new(),
        network: network(&args.network)?,
        allowed: allowed(&args.allow)?,
        hostname: hostname.unwrap_or_else(|| "buildkitsandbox".to_owned()),
        extra_hosts: limits.hosts()?,
        shm_size: limits.shm_bytes()?,
        ulimits: limits.rlimits()?,
        resources: limits.resources()?,
        cgroup_parent: limits.cgroup_parent.clone(),
        cache_mount_namespace: namespace.unwrap_or_default(),
        build_args,
    })
}

fn network(text: &str) -> anyhow::Result<NetworkMode> {
    match text {
        "default" | "bridge" | "" => Ok(NetworkMode::Default),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => {
            bail!("network mode {other:?} not supported by a build: use default, host or none")
        }
    }
}

fn allowed(given: &[String]) -> anyhow::Result<BTreeSet<Entitlement>> {
    let one = |text: &String| match text.as_str() {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        other => bail!("--allow {other}: known are network.host and security.insecure"),
    };
    given.iter().map(one).collect()
}

/// `NAME=VALUE`s; one without a value has an empty one.
fn pairs(given: &[String], flag: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => bail!("{flag} {text}: expected NAME=VALUE"),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    };
    given.iter().map(pair).collect()
}

/// The time that a build's results are to have, in seconds since 1970.
pub(crate) fn epoch(request: &Request) -> anyhow::Result<Option<i64>> {
    let Some(text) = request.build_args.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let seconds = text.parse::<i64>();
    seconds.map(Some).with_context(|| format!("invalid SOURCE_DATE_EPOCH: {text}"))
}

/// What fetching may use: the proxies that the build was given, secrets, programs of ours.
pub(crate) fn access<'a>(args: &BuildArgs, secrets: &'a engine::source::Secrets<'a>) -> Access<'a> {
    let given = |name: &str| {
        let value = args.build_arg.iter().find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        value.filter(|value| !value.is_empty())
    };
    let here = registries::proxy();
    Access {
        proxy: Proxy {
            http: given("HTTP_PROXY").or(here.http),
            https: given("HTTPS_PROXY").or(here.https),
            all: given("ALL_PROXY").or(here.all),
            no_proxy: given("NO_PROXY").or(here.no_proxy),
        },
        secrets,
        ssh_auth_sock: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        program_path: std::env::var_os("PATH").unwrap_or_default(),
        ..Access::none()
    }
}
