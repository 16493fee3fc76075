//! Phase 17: what services refer to is there, and what they say goes together.
//!
//! Looks at the typed model, where places are gone: what is wrong names the service, and [`crate::locate`] finds
//! where that stands.

use std::collections::BTreeMap;

use frontend::suggest::{Suggestion, nearest};

use crate::error::{Error, Mistake, Wrong};
use crate::model::{Project, Service};

/// Checks a project; replicas that are said twice the same way are made one.
pub(crate) fn check(project: &mut Project) -> Result<(), Error> {
    for (name, service) in &project.services {
        let wrong = service_alone(name, service).or_else(|| references(project, name, service));
        if let Some((attribute, wrong)) = wrong {
            return Err(mistake(name, attribute, wrong));
        }
    }
    container_names(project)?;
    for service in project.services.values_mut() {
        if let (Some(scale), Some(deploy)) = (service.scale, service.deploy.as_mut()) {
            deploy.replicas = Some(scale);
        }
    }
    cycle(project)
}

fn mistake(service: &str, attribute: &str, wrong: Wrong) -> Error {
    let attribute = match attribute {
        "" => format!("services.{service}"),
        attribute => format!("services.{service}.{attribute}"),
    };
    Mistake { wrong: Box::new(wrong), attribute, place: None }.into()
}

type Found = Option<(&'static str, Wrong)>;

/// What is wrong with a service whatever else there is.
fn service_alone(name: &str, service: &Service) -> Found {
    let wrong = |attribute, reason: &str| {
        let (service, reason) = (name.to_owned(), reason.to_owned());
        Some((attribute, Wrong::Inconsistent { service, reason }))
    };
    if service.build.is_none() && service.image.is_empty() && service.provider.is_none() {
        return Some(("", Wrong::NoImage { service: name.to_owned() }));
    }
    if let Some(build) = &service.build {
        if !build.dockerfile_inline.is_empty() && !build.dockerfile.is_empty() {
            return wrong("build", "declares mutually exclusive dockerfile and dockerfile_inline");
        }
        let platforms = &build.platforms;
        if !platforms.is_empty()
            && !service.platform.is_empty()
            && !platforms.contains(&service.platform)
        {
            return wrong("build.platforms", "must include the service's platform");
        }
    }
    if !service.network_mode.is_empty() && !service.networks.is_empty() {
        return wrong("network_mode", "declares mutually exclusive `network_mode` and `networks`");
    }
    let test = service.healthcheck.iter().find_map(|check| check.test.0.first());
    if test.is_some_and(|first| !matches!(first.as_str(), "CMD" | "CMD-SHELL" | "NONE")) {
        return wrong(
            "healthcheck.test",
            "healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"",
        );
    }
    if !is_pull_policy(&service.pull_policy) {
        return wrong("pull_policy", "unknown pull policy");
    }
    let watches = service.develop.iter().flat_map(|develop| &develop.watch);
    for watch in watches {
        if watch.target.is_empty() && !matches!(watch.action.as_str(), "rebuild" | "restart") {
            return wrong("develop.watch", "target is required for non-rebuild actions");
        }
    }
    limits(name, service).or_else(|| mounts(name, service))
}

fn is_pull_policy(policy: &str) -> bool {
    match policy {
        "" | "always" | "never" | "build" | "if_not_present" | "missing" | "refresh" | "daily"
        | "weekly" => true,
        other => {
            let every = other.strip_prefix("every_");
            every.is_some_and(|every| crate::units::duration(every).is_some())
        }
    }
}

/// Numbers that can be said in two ways must be the same in both.
fn limits(name: &str, service: &Service) -> Found {
    let wrong = |attribute, reason: String| {
        Some((attribute, Wrong::Inconsistent { service: name.to_owned(), reason }))
    };
    let twice =
        |short: &str, long: &str| format!("can't set distinct values on '{short}' and '{long}'");
    let replicas = service.deploy.as_ref().and_then(|deploy| deploy.replicas);
    if let (Some(scale), Some(replicas)) = (service.scale, replicas)
        && scale != replicas
    {
        return wrong("scale", twice("scale", "deploy.replicas"));
    }
    if service.replicas() < 0 {
        let attribute = if service.scale.is_some() { "scale" } else { "deploy.replicas" };
        return wrong(attribute, "must be greater than or equal to 0".to_owned());
    }
    if service.replicas() > 1 && !service.container_name.is_empty() {
        let attribute = if service.scale.is_some() { "scale" } else { "deploy.replicas" };
        let reason =
            format!("can't set container_name and {attribute} as container name must be unique");
        return wrong("container_name", reason);
    }
    let resources = &service.deploy.as_ref()?.resources;
    if let Some(limits) = &resources.limits {
        if service.cpus.0 != 0.0 && service.cpus != limits.cpus {
            return wrong("cpus", twice("cpus", "deploy.resources.limits.cpus"));
        }
        if service.mem_limit.0 != 0 && service.mem_limit != limits.memory {
            return wrong("mem_limit", twice("mem_limit", "deploy.resources.limits.memory"));
        }
        if service.pids_limit != 0 && service.pids_limit != limits.pids {
            return wrong("pids_limit", twice("pids_limit", "deploy.resources.limits.pids"));
        }
    }
    let reserved = resources.reservations.as_ref()?;
    if service.mem_reservation.0 != 0 && service.mem_reservation != reserved.memory {
        return wrong(
            "mem_reservation",
            twice("mem_reservation", "deploy.resources.reservations.memory"),
        );
    }
    None
}

/// Two mounts at one place.
fn mounts(name: &str, service: &Service) -> Found {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    let tmpfs = service.tmpfs.iter().enumerate().map(|(index, entry)| {
        let target = entry.split(':').next().unwrap_or(entry);
        (target, format!("services.{name}.tmpfs[{index}]"))
    });
    let volumes =
        service.volumes.iter().enumerate().map(|(index, mount)| {
            (mount.target.as_str(), format!("services.{name}.volumes[{index}]"))
        });
    for (target, place) in tmpfs.chain(volumes) {
        if let Some(first) = known.get(target) {
            let reason = format!("{place}: target {target} already mounted as {first}");
            return Some(("volumes", Wrong::Inconsistent { service: name.to_owned(), reason }));
        }
        known.insert(target, place);
    }
    None
}

fn suggested<T>(name: &str, known: &BTreeMap<String, T>) -> Suggestion {
    nearest(name, known.keys().map(String::as_str))
}

/// The first reference of a service to something that is not there.
fn references(project: &Project, name: &str, service: &Service) -> Found {
    let undefined = |attribute, what, other: &str, suggestion| {
        let (service, name) = (name.to_owned(), other.to_owned());
        Some((attribute, Wrong::Undefined { service, what, name, suggestion }))
    };
    macro_rules! all_known {
        ($names:expr, $known:expr, $attribute:literal, $what:literal) => {
            if let Some(missing) = $names.into_iter().find(|name| !$known.contains_key(*name)) {
                return undefined($attribute, $what, missing, suggested(missing, &$known));
            }
        };
    }
    all_known!(service.networks.keys(), project.networks, "networks", "network");
    if let Some(found) = dependencies(project, name, service) {
        return Some(found);
    }
    let volumes = service.volumes.iter().filter(|m| m.kind == "volume" && !m.source.is_empty());
    all_known!(volumes.map(|mount| &mount.source), project.volumes, "volumes", "volume");
    let built = service.build.iter().flat_map(|build| &build.secrets);
    all_known!(built.map(|file| &file.source), project.secrets, "build.secrets", "build secret");
    all_known!(service.configs.iter().map(|f| &f.source), project.configs, "configs", "config");
    all_known!(service.secrets.iter().map(|f| &f.source), project.secrets, "secrets", "secret");
    all_known!(service.models.keys(), project.models, "models", "model");
    None
}

/// A reference to a service that is not there.
fn dependencies(project: &Project, name: &str, service: &Service) -> Found {
    let missing = |attribute, other: &str| {
        let others = project.services.keys().filter(|known| known.as_str() != name);
        let suggestion = nearest(other, others.map(String::as_str));
        let (service, name) = (name.to_owned(), other.to_owned());
        Some((attribute, Wrong::UndefinedService { service, name, suggestion }))
    };
    for (other, how) in &service.depends_on {
        if project.services.contains_key(other) {
            continue;
        }
        match project.disabled_services.get(other) {
            Some(_) if !how.required.0 => {}
            Some(disabled) => {
                let (service, name) = (name.to_owned(), other.clone());
                let profiles = disabled.profiles.clone();
                return Some(("depends_on", Wrong::DisabledService { service, name, profiles }));
            }
            None => return missing("depends_on", other),
        }
    }
    let contexts = service.build.iter().flat_map(|build| build.additional_contexts.0.values());
    for other in contexts.filter_map(|context| context.strip_prefix("service:")) {
        match project.services.get(other) {
            None => return missing("build.additional_contexts", other),
            Some(found) if found.build.is_none() => {
                let reason = format!("service {other:?}, an additional context, is not built");
                let wrong = Wrong::Inconsistent { service: name.to_owned(), reason };
                return Some(("build.additional_contexts", wrong));
            }
            Some(_) => {}
        }
    }
    None
}

/// Two services whose containers would have one name.
fn container_names(project: &Project) -> Result<(), Error> {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, service) in &project.services {
        if service.container_name.is_empty() {
            continue;
        }
        if let Some(other) = known.insert(&service.container_name, name) {
            let taken = &service.container_name;
            let reason = format!("container name {taken:?} is already in use by service {other:?}");
            let wrong = Wrong::Inconsistent { service: name.clone(), reason };
            return Err(mistake(name, "container_name", wrong));
        }
    }
    Ok(())
}

/// Services that wait for each other.
fn cycle(project: &Project) -> Result<(), Error> {
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    for name in project.services.keys() {
        // A walk with its own stack: a chain of ten thousand services is no reason to overflow.
        let mut way: Vec<(&str, Vec<&str>)> = vec![(name, next(project, name))];
        if done.contains_key(name.as_str()) {
            continue;
        }
        done.insert(name, false);
        while let Some((at, rest)) = way.last_mut() {
            let Some(other) = rest.pop() else {
                done.insert(*at, true);
                way.pop();
                continue;
            };
            match done.get(other) {
                Some(true) => {}
                Some(false) => {
                    let from = way.iter().position(|(name, _)| *name == other).unwrap_or(0);
                    let chain = way[from..].iter().map(|(name, _)| (*name).to_owned());
                    return Err(Error::DependencyCycle {
                        chain: chain.chain([other.to_owned()]).collect(),
                        place: None,
                    });
                }
                None => {
                    done.insert(other, false);
                    way.push((other, next(project, other)));
                }
            }
        }
    }
    Ok(())
}

fn next<'a>(project: &'a Project, name: &str) -> Vec<&'a str> {
    let service = project.services.get(name);
    let mut names: Vec<&str> = service
        .into_iter()
        .flat_map(|service| service.depends_on.keys())
        .map(String::as_str)
        .collect();
    names.reverse();
    names
}
