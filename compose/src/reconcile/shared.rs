//! Networks and volumes of a project: made if they are not there, and networks also anew if they are not as they should
//! be. Volumes are left as they are, with what is in them.

use std::collections::BTreeSet;

use super::Planner;
use crate::failure::Failure;
use crate::hash;
use crate::make::labels;
use crate::model::{Project, Volume};
use crate::observe::{Instance, Observed};
use crate::plan::{Action, Plan, StepId};
use crate::teardown;

impl Planner<'_> {
    pub(super) fn networks(&mut self) -> Result<(), Failure> {
        for (key, network) in &self.project.networks {
            let name = network.name.clone();
            let found = self.observed.networks.get(&name);
            if network.external {
                if found.is_none() {
                    return Err(Failure::NoNetwork { name });
                }
                continue;
            }
            let create = Action::CreateNetwork { key: key.clone(), name: name.clone() };
            let Some(found) = found else {
                let step = self.done.plan.add(create, "it is not there", []);
                self.networks.insert(key.clone(), step);
                continue;
            };
            let label = |label| found.labels.get(label).map_or("", String::as_str);
            if found.is_predefined() {
                continue;
            }
            let owner = label(labels::PROJECT);
            if owner.is_empty() {
                self.done.warnings.push(format!(
                    "a network with name {name} exists but was not created by compose.\nSet `external: true` to use an \
                     existing network"
                ));
                continue;
            }
            if owner != self.project.name {
                self.done.warnings.push(format!(
                    "a network with name {name} exists but was not created for project {:?}.\nSet `external: true` to \
                     use an existing network",
                    self.project.name
                ));
                continue;
            }
            let hash = label(labels::CONFIG_HASH);
            if !hash.is_empty() && hash != hash::network(network) {
                self.leaving.insert(key.clone());
            }
        }
        Ok(())
    }

    /// Makes networks anew that are not what the project says, when all images are there. The containers of the
    /// services are stopped for it; who else is on one of them keeps everything as it is.
    pub(super) fn changed_networks(&mut self) -> Result<(), Failure> {
        let (project, observed) = (self.project, self.observed);
        let names: Vec<(&String, &String)> =
            self.leaving.iter().map(|key| (key, &project.networks[key].name)).collect();
        let known = project.all_services();
        let goes = |it: &Instance| !known.contains_key(it.service()) && self.removes_orphans();
        let is_changed = |it: &Instance| {
            !it.is_one_off() && (project.services.contains_key(it.service()) || goes(it))
        };
        for (_, name) in &names {
            let others = observed.containers.iter().filter(|it| it.is_on(name) && !is_changed(it));
            let strangers = observed.strangers.get(*name).into_iter().flatten().cloned();
            let users: Vec<String> =
                others.map(|it| it.name().to_owned()).chain(strangers).collect();
            if !users.is_empty() {
                return Err(Failure::NetworkInUse { name: (*name).clone(), users });
            }
        }
        let is_on_any = |it: &&Instance| names.iter().any(|(_, name)| it.is_on(name));
        let instances: Vec<&Instance> = observed.containers.iter().filter(is_on_any).collect();
        let listed: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        let cause = format!("for the network {}, which is made anew", listed.join(", "));
        let plan = &mut self.done.plan;
        let first = plan.steps.len();
        let dependencies = teardown::dependencies(Some(project), observed);
        self.stops = teardown::stop_each(plan, &instances, &dependencies, &cause);
        for step in &mut plan.steps[first..] {
            step.after.extend(self.images.values());
        }
        for (key, name) in names {
            let cause = "its configuration has changed";
            let on = instances.iter().filter(|it| it.is_on(name));
            let stops: Vec<StepId> = on.filter_map(|it| self.stops.get(it.id()).copied()).collect();
            let removed = plan.add(Action::RemoveNetwork { name: name.clone() }, cause, stops);
            let create = Action::CreateNetwork { key: key.clone(), name: name.clone() };
            self.networks.insert(key.clone(), plan.add(create, cause, [removed]));
        }
        Ok(())
    }

    pub(super) fn volumes(&mut self) -> Result<(), Failure> {
        for (key, volume) in &self.project.volumes {
            let name = volume.name.clone();
            let found = self.observed.volumes.get(&name);
            if volume.external {
                if found.is_none() {
                    return Err(Failure::NoVolume { name });
                }
                continue;
            }
            let Some(found) = found else {
                let create = Action::CreateVolume { key: key.clone(), name };
                let step = self.done.plan.add(create, "it is not there", []);
                self.volumes.insert(key.clone(), step);
                continue;
            };
            let label = |label| {
                found.labels.as_ref().and_then(|it| it.get(label)).map_or("", String::as_str)
            };
            let (owner, hash) = (label(labels::PROJECT), label(labels::CONFIG_HASH));
            if owner.is_empty() {
                self.done.warnings.push(format!(
                    "volume {name:?} already exists but was not created by compose: use `external: true` to use an \
                     existing volume"
                ));
            } else if owner != self.project.name {
                self.done.warnings.push(format!(
                    "volume {name:?} already exists but was created for project {owner:?} (expected {:?}): use \
                     `external: true` to use an existing volume",
                    self.project.name
                ));
            } else if has_changed(volume, hash) {
                self.done.warnings.push(format!(
                    "volume {name:?} exists but is not what the compose file says; it is left as it is, because its data \
                     would be lost: make it anew, empty, with: rcompose up -y"
                ));
            }
        }
        Ok(())
    }
}

fn has_changed(volume: &Volume, hash: &str) -> bool {
    !hash.is_empty() && hash != hash::volume(volume)
}

/// Takes away the volumes of the project's services that are not what it says, with what is in them and with the services'
/// containers that have them: what comes next makes them anew. Refused if others have one of them.
pub fn outdated_volumes(project: &Project, observed: &Observed) -> Result<Plan, Failure> {
    let is_mounted = |key: &String| {
        let mut mounts = project.services.values().flat_map(|service| &service.volumes);
        mounts.any(|mount| mount.kind == "volume" && mount.source == *key)
    };
    let is_outdated = |volume: &&Volume| {
        let labels = observed.volumes.get(&volume.name).and_then(|it| it.labels.as_ref());
        let label = |label| labels.and_then(|it| it.get(label)).map_or("", String::as_str);
        !volume.external
            && label(labels::PROJECT) == project.name
            && has_changed(volume, label(labels::CONFIG_HASH))
    };
    let mounted = project.volumes.iter().filter(|(key, _)| is_mounted(key));
    let outdated = mounted.map(|(_, volume)| volume).filter(is_outdated);
    let names: BTreeSet<&str> = outdated.map(|volume| volume.name.as_str()).collect();
    let has = |it: &Instance, name: &str| it.record.mounts.iter().any(|it| it.point.name == name);
    let is_ours = |it: &Instance| !it.is_one_off() && project.services.contains_key(it.service());
    for name in &names {
        let others = observed.containers.iter().filter(|it| has(it, name) && !is_ours(it));
        let users: Vec<String> = others.map(|it| it.name().to_owned()).collect();
        if !users.is_empty() {
            return Err(Failure::VolumeInUse { name: (*name).to_owned(), users });
        }
    }
    Ok(teardown::volumes_and_users(project, observed, &names, "the volume has changed"))
}
