//! Station 3 the other way: how containers are stopped, started and removed, as a plan. Pure.
//!
//! Works without a project too: what a container depends on stands on its label, so that `down` takes away what was made
//! of a file that is gone.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Project;
use crate::observe::{Instance, Observed};
use crate::order::{self, Dependencies};
use crate::plan::{Action, Plan, StepId};

/// Which images go with a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// Those that were built and have no name of their own.
    Local,
    /// All.
    All,
}

/// What `down` takes away beside containers and networks.
#[derive(Clone, Debug, Default)]
pub struct Down {
    /// The services that were named; none is all, with what they share.
    pub named: Vec<String>,
    /// Whether volumes go, with what is in them.
    pub volumes: bool,
    /// Which images go.
    pub images: Option<Images>,
    /// Whether containers of services that the project does not have go, and those that `run` has made.
    pub remove_orphans: bool,
}

/// Whether a verb means a service: it is named, or none is and the project has it with the profiles that are enabled.
/// Without a project it means all.
pub fn is_meant(project: Option<&Project>, named: &[String], service: &str) -> bool {
    match named {
        [] => project.is_none_or(|project| project.services.contains_key(service)),
        named => named.iter().any(|name| name == service),
    }
}

/// What services depend on: by the project, or by what their containers say if there is none.
pub fn dependencies(project: Option<&Project>, observed: &Observed) -> Dependencies {
    let mut all = order::of_containers(observed);
    if let Some(project) = project {
        all.extend(order::of_project(project));
    }
    all
}

/// For each service those that depend on it, directly or through others.
fn dependents(dependencies: &Dependencies) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for start in dependencies.keys() {
        let mut open = vec![start.as_str()];
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            for on in dependencies.get(name).into_iter().flatten() {
                if seen.insert(on.as_str()) && on != start {
                    all.entry(on).or_default().insert(start);
                    open.push(on);
                }
            }
        }
    }
    all
}

/// Stops containers, those that depend on others first; the stop of each, by its id.
pub(crate) fn stop_each<'a>(
    plan: &mut Plan,
    instances: &[&'a Instance],
    dependencies: &Dependencies,
    cause: &str,
) -> BTreeMap<&'a str, StepId> {
    let dependents = dependents(dependencies);
    let mut stops = BTreeMap::new();
    let mut by_service: BTreeMap<&str, Vec<StepId>> = BTreeMap::new();
    // Dependents come last in the order, so that they are first here.
    for service in order::sorted(dependencies).iter().rev() {
        let before: BTreeSet<StepId> = dependents
            .get(service.as_str())
            .into_iter()
            .flatten()
            .flat_map(|name| by_service.get(name).cloned().unwrap_or_default())
            .collect();
        for instance in instances.iter().filter(|it| it.service() == service && it.is_active()) {
            let (id, name) = (instance.id().to_owned(), instance.name().to_owned());
            let step = plan.add(Action::Stop { id, name }, cause, before.iter().copied());
            stops.insert(instance.id(), step);
            by_service.entry(instance.service()).or_default().push(step);
        }
    }
    stops
}

/// Stops the containers that are chosen.
pub fn stop(
    project: Option<&Project>,
    observed: &Observed,
    chosen: impl Fn(&Instance) -> bool,
    cause: &str,
) -> Plan {
    let mut plan = Plan::default();
    let instances: Vec<&Instance> = observed.containers.iter().filter(|it| chosen(it)).collect();
    stop_each(&mut plan, &instances, &dependencies(project, observed), cause);
    plan
}

/// Removes the containers that are chosen and do not run; with `stop` also those that do.
pub fn remove(
    project: Option<&Project>,
    observed: &Observed,
    chosen: impl Fn(&Instance) -> bool,
    stop: bool,
    volumes: bool,
) -> Plan {
    let mut plan = Plan::default();
    let is_chosen = |it: &&Instance| chosen(it) && (stop || !it.is_active());
    let instances: Vec<&Instance> = observed.containers.iter().filter(is_chosen).collect();
    remove_each(
        &mut plan,
        &instances,
        &dependencies(project, observed),
        "it was asked for",
        volumes,
    );
    plan
}

fn remove_each(
    plan: &mut Plan,
    instances: &[&Instance],
    dependencies: &Dependencies,
    cause: &str,
    volumes: bool,
) -> Vec<StepId> {
    let stops = stop_each(plan, instances, dependencies, cause);
    let mut removed = Vec::new();
    for instance in instances {
        let (id, name) = (instance.id().to_owned(), instance.name().to_owned());
        let after = stops.get(instance.id()).copied();
        removed.push(plan.add(Action::Remove { id, name, volumes }, cause, after));
    }
    removed
}

/// Removes volumes, and before that the containers that have them.
pub(crate) fn volumes_and_users(
    project: &Project,
    observed: &Observed,
    names: &BTreeSet<&str>,
    cause: &str,
) -> Plan {
    let mut plan = Plan::default();
    let has_one = |it: &&Instance| {
        it.record.mounts.iter().any(|mount| names.contains(mount.point.name.as_str()))
    };
    let users: Vec<&Instance> = observed.containers.iter().filter(has_one).collect();
    let dependencies = dependencies(Some(project), observed);
    let removed = remove_each(&mut plan, &users, &dependencies, cause, false);
    for name in names {
        let step = Action::RemoveVolume { name: (*name).to_owned() };
        plan.add(step, cause, removed.iter().copied());
    }
    plan
}

/// Takes down what a project has: containers, then networks, and volumes and images if that is asked for.
pub fn down(project: Option<&Project>, name: &str, observed: &Observed, wishes: &Down) -> Plan {
    let mut plan = Plan::default();
    let is_orphan = |service: &str| {
        wishes.named.is_empty()
            && project.is_some_and(|project| !project.all_services().contains_key(service))
    };
    let is_wanted = |instance: &&Instance| {
        let service = instance.service();
        (wishes.remove_orphans || !instance.is_one_off())
            && (is_meant(project, &wishes.named, service)
                || wishes.remove_orphans && is_orphan(service))
    };
    let instances: Vec<&Instance> = observed.containers.iter().filter(is_wanted).collect();
    let dependencies = dependencies(project, observed);
    let removed = remove_each(&mut plan, &instances, &dependencies, "down", wishes.volumes);
    if !wishes.named.is_empty() {
        return plan;
    }
    let ours = observed.networks_of(name).map(|network| network.name.clone());
    for name in ours.collect::<BTreeSet<String>>() {
        let step = Action::RemoveNetwork { name };
        plan.add_optional(step, "down", removed.iter().copied());
    }
    if wishes.volumes {
        for name in volumes(project, name, observed) {
            let step = Action::RemoveVolume { name };
            plan.add_optional(step, "down with its volumes", removed.iter().copied());
        }
    }
    if let (Some(which), Some(project)) = (wishes.images, project) {
        for name in images(project, which) {
            let step = Action::RemoveImage { name };
            plan.add_optional(step, "down with its images", removed.iter().copied());
        }
    }
    plan
}

/// The volumes of a project that are there: those with its label, and those that its file names as its own.
fn volumes(project: Option<&Project>, name: &str, observed: &Observed) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = observed.volumes_of(name).map(|it| it.name.clone()).collect();
    let named = project.into_iter().flat_map(|project| project.volumes.values());
    for volume in named {
        match volume.external {
            true => drop(all.remove(&volume.name)),
            false if observed.volumes.contains_key(&volume.name) => {
                all.insert(volume.name.clone());
            }
            false => {}
        }
    }
    all
}

fn images(project: &Project, which: Images) -> BTreeSet<String> {
    let chosen = project
        .services
        .iter()
        .filter(|(_, service)| which == Images::All || service.image.is_empty());
    chosen.map(|(name, service)| service.image_name(&project.name, name)).collect()
}
