//! Station 3: the difference between what a project says and what there is, as a plan. Pure: looks at nothing, changes
//! nothing.

mod shared;

use std::collections::{BTreeMap, BTreeSet};

use engine::containers::Status;
use engine::network::NetworkDefinition;

use crate::failure::Failure;
use crate::hash;
use crate::images::{self, Wishes};
use crate::make::{self, labels};
use crate::model::{Project, Service};
use crate::observe::{Instance, Observed};
use crate::order;
use crate::plan::{self, Action, Condition, Plan, Slot, StepId};

pub use shared::outdated_volumes;

/// As many containers a service may have.
const MOST_REPLICAS: i64 = 10_000;

/// When a container that is there is made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recreate {
    /// When it is not as the project says.
    #[default]
    Diverged,
    /// In any case.
    Always,
    /// Never.
    Never,
}

/// What `up` and `create` are to do beyond what the project says.
#[derive(Clone, Debug, Default)]
pub struct Up {
    /// The services that were named; none is all.
    pub named: Vec<String>,
    /// When the named ones' containers are made anew.
    pub recreate: Recreate,
    /// When the containers of those that they depend on are.
    pub recreate_dependencies: Recreate,
    /// Whether containers are only made.
    pub no_start: bool,
    /// How images are come by.
    pub images: Wishes,
    /// Whether containers of services that the project does not have are removed.
    pub remove_orphans: bool,
    /// Whether nothing is said of them.
    pub ignore_orphans: bool,
    /// Whether it is done only when everything runs and is healthy.
    pub wait: bool,
    /// The service that a one-off container is made of afterwards: everything is made ready for it, and its own
    /// containers are left alone.
    pub one_off: Option<String>,
}

/// A plan, and what there is to say about it.
#[derive(Clone, Debug, Default)]
pub struct Reconciled {
    /// What is to be done.
    pub plan: Plan,
    /// Containers that are as they should be, by their names.
    pub kept: Vec<String>,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// What decides whether a container is as it should be.
pub struct Wanted<'a> {
    /// The project.
    pub project: &'a Project,
    /// The service.
    pub service: &'a Service,
    /// Its image's id, once it is known.
    pub image: Option<&'a str>,
    /// All networks, by their names.
    pub networks: &'a BTreeMap<String, NetworkDefinition>,
    /// Containers of services by their ids, as far as they are there, in order of number.
    pub others: &'a BTreeMap<String, Vec<String>>,
    /// When it is made anew.
    pub recreate: Recreate,
}

/// Why a container that is there has to be made anew; nothing if it can stay.
pub fn decide(wanted: &Wanted<'_>, instance: &Instance) -> Option<String> {
    match wanted.recreate {
        Recreate::Never => return None,
        Recreate::Always => return Some("it was asked for".to_owned()),
        Recreate::Diverged => {}
    }
    if instance.hash() != hash::service(wanted.service) {
        return Some(changed_attributes(wanted.service, instance.label(labels::ATTRIBUTES)));
    }
    if let Some(image) = wanted.image
        && image != instance.record.image
    {
        return Some(format!("its image is another one now, {}", short(image)));
    }
    changed_networks(wanted, instance)
        .or_else(|| changed_volumes(wanted, instance))
        .or_else(|| changed_sharing(wanted, instance))
}

/// What of a service is not as its container was made, by the hashes that the container has of each attribute.
fn changed_attributes(service: &Service, label: &str) -> String {
    let Ok(before) = serde_json::from_str::<BTreeMap<String, String>>(label) else {
        return "its configuration has changed".to_owned();
    };
    let now = hash::attributes(service);
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differ = |name: &&&String| before.get(**name) != now.get(**name);
    let changed: Vec<&str> = names.iter().filter(differ).map(|name| name.as_str()).collect();
    match changed.as_slice() {
        [] => "its configuration has changed".to_owned(),
        [one] => format!("its {one} has changed"),
        [all @ .., last] => format!("its {} and {last} have changed", all.join(", ")),
    }
}

fn changed_networks(wanted: &Wanted<'_>, instance: &Instance) -> Option<String> {
    for key in wanted.service.networks.keys() {
        let name = &wanted.project.networks.get(key)?.name;
        let Some(network) = wanted.networks.get(name) else {
            return Some(format!("the network {name} is made anew"));
        };
        if !instance.record.networks.contains_key(name) {
            return Some(format!("it is not on the network {name}"));
        }
        let live = instance.state.networks.get(name).map(|it| it.network_id.as_str());
        if live.is_some_and(|id| !id.is_empty() && id != network.id) {
            return Some(format!("the network {name} was made anew"));
        }
    }
    None
}

fn changed_volumes(wanted: &Wanted<'_>, instance: &Instance) -> Option<String> {
    let named = wanted.service.volumes.iter().filter(|mount| mount.kind == "volume");
    for mount in named.filter(|mount| !mount.source.is_empty()) {
        let name = &wanted.project.volumes.get(&mount.source)?.name;
        if !instance.record.mounts.iter().any(|it| it.point.name == *name) {
            return Some(format!("it does not have the volume {name}"));
        }
    }
    None
}

/// Whether it shares something with a container that is not there any more.
fn changed_sharing(wanted: &Wanted<'_>, instance: &Instance) -> Option<String> {
    let (service, host) = (wanted.service, &instance.record.host_config);
    let shared = [
        (&service.network_mode, &host.network_mode, "network"),
        (&service.ipc, &host.ipc_mode, "IPC namespace"),
        (&service.pid, &host.pid_mode, "PID namespace"),
    ];
    for text in &service.volumes_from {
        let other = text.split(':').next().unwrap_or_default();
        let Some(ids) = wanted.others.get(other).filter(|_| !text.starts_with("container:")) else {
            continue;
        };
        let is_there =
            |id: &String| host.volumes_from.iter().any(|has| has.starts_with(id.as_str()));
        if !ids.iter().any(is_there) {
            return Some(format!("the container of {other}, whose volumes it has, is made anew"));
        }
    }
    for (says, has, what) in shared {
        if let Some(other) = says.strip_prefix("service:") {
            let ids = wanted.others.get(other);
            let is_there = |id: &String| has.strip_prefix("container:").is_some_and(|it| it == id);
            if !ids.is_some_and(|ids| ids.iter().any(is_there)) {
                return Some(format!(
                    "the container of {other}, whose {what} it shares, is made anew"
                ));
            }
        }
    }
    None
}

/// The beginning of an image's id.
fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    &id[..id.len().min(12)]
}

/// What has to be done so that all images are there.
pub fn images(project: &Project, observed: &Observed, wishes: &Up) -> Result<Plan, Failure> {
    let work = images::plan(project, &observed.images, &wishes.images)?;
    let mut plan = Plan::default();
    images::steps(&mut plan, project, work);
    Ok(plan)
}

/// What has to be done so that a project runs as it says.
pub fn up(project: &Project, observed: &Observed, wishes: &Up) -> Result<Reconciled, Failure> {
    for (name, service) in &project.services {
        if service.provider.is_some() {
            return Err(Failure::Refused(format!(
                "service {name:?} is provided by a program: provider services are not run"
            )));
        }
    }
    check_replicas(project)?;
    let work = images::plan(project, &observed.images, &wishes.images)?;
    let mut planner = Planner {
        project,
        observed,
        wishes,
        done: Reconciled::default(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        images: BTreeMap::new(),
        services: BTreeMap::new(),
        waits: BTreeMap::new(),
        leaving: BTreeSet::new(),
        stops: BTreeMap::new(),
        others: observed.ids(),
    };
    planner.networks()?;
    planner.volumes()?;
    planner.images = images::steps(&mut planner.done.plan, project, work);
    planner.changed_networks()?;
    planner.orphans();
    for name in order::sorted(&order::of_project(project)) {
        match wishes.one_off.as_ref() == Some(&name) {
            // What its container would wait for, and no container.
            true => drop(planner.before_start(&project.services[&name])),
            false => planner.service(&name),
        }
    }
    if wishes.wait && !wishes.no_start {
        planner.wait_for_all();
    }
    Ok(planner.done)
}

/// Refuses a service with more containers than any machine could run.
fn check_replicas(project: &Project) -> Result<(), Failure> {
    for (name, service) in &project.services {
        let wanted = service.replicas();
        if wanted > MOST_REPLICAS {
            return Err(Failure::Refused(format!(
                "service {name:?} is to have {wanted} containers: {MOST_REPLICAS} are the most that are made of one service"
            )));
        }
    }
    Ok(())
}

/// The steps of a service that others wait for.
#[derive(Default)]
struct Steps {
    /// Its containers are made.
    made: Vec<StepId>,
    /// Whether some of them are made in place of others, perhaps.
    replaces: bool,
    /// They were started.
    started: Vec<StepId>,
    slots: Vec<Slot>,
}

struct Planner<'a> {
    project: &'a Project,
    observed: &'a Observed,
    wishes: &'a Up,
    done: Reconciled,
    networks: BTreeMap<String, StepId>,
    volumes: BTreeMap<String, StepId>,
    images: BTreeMap<String, StepId>,
    services: BTreeMap<String, Steps>,
    /// Waits, which several may share.
    waits: BTreeMap<(String, Condition, bool), StepId>,
    /// Networks that are made anew.
    leaving: BTreeSet<String>,
    /// The stops of containers that are on them, by the containers' ids.
    stops: BTreeMap<&'a str, StepId>,
    /// The ids of the containers that stay.
    others: BTreeMap<String, Vec<String>>,
}

impl<'a> Planner<'a> {
    fn removes_orphans(&self) -> bool {
        self.wishes.remove_orphans && !self.wishes.ignore_orphans
    }

    /// Containers of services that the project has not.
    fn orphans(&mut self) {
        let known = self.project.all_services();
        let orphans: Vec<&Instance> = self
            .observed
            .containers
            .iter()
            .filter(|it| !it.is_one_off() && !known.contains_key(it.service()))
            .collect();
        if orphans.is_empty() || self.wishes.ignore_orphans {
            return;
        }
        if !self.removes_orphans() {
            let names: Vec<&str> = orphans.iter().map(|it| it.name()).collect();
            self.done.warnings.push(format!(
                "Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose \
                 file, you can run this command with the --remove-orphans flag to clean it up.",
                names.join(" ")
            ));
            return;
        }
        for orphan in orphans {
            self.remove(orphan, "no service of the project has it");
        }
    }

    /// Stops and removes a container.
    fn remove(&mut self, instance: &Instance, cause: &str) -> StepId {
        let (id, name) = (instance.id().to_owned(), instance.name().to_owned());
        let mut after = self.stops.get(instance.id()).copied();
        if instance.is_active() && after.is_none() {
            let stop = Action::Stop { id: id.clone(), name: name.clone() };
            after = Some(self.done.plan.add(stop, cause, []));
        }
        self.done.plan.add(Action::Remove { id, name, volumes: false }, cause, after)
    }

    fn recreate(&self, name: &str) -> Recreate {
        let is_named =
            self.wishes.named.is_empty() || self.wishes.named.iter().any(|it| it == name);
        if is_named { self.wishes.recreate } else { self.wishes.recreate_dependencies }
    }

    fn service(&mut self, name: &str) {
        let service = &self.project.services[name];
        let (mut there, gone) = self.instances(name, service);
        let causes: BTreeMap<&str, Option<String>> =
            there.iter().map(|it| (it.id(), self.decide(name, service, it))).collect();
        let wanted = usize::try_from(service.replicas()).unwrap_or(0);
        // Those that would be made anew anyway go first, then those with the highest numbers.
        there.sort_by_key(|it| (causes[it.id()].is_some(), it.number()));
        for surplus in there.split_off(wanted.min(there.len())) {
            self.remove(surplus, &format!("{wanted} of {name} are wanted"));
        }
        there.sort_by_key(|it| it.number());
        self.others.insert(name.to_owned(), there.iter().map(|it| it.id().to_owned()).collect());
        let mut before =
            Before { create: self.before_create(name, service, gone), start: BTreeSet::new() };
        let missing = u32::try_from(wanted.saturating_sub(there.len())).unwrap_or(u32::MAX);
        let starts = |it: &&Instance| {
            !it.is_active() || self.may_change(name, service, causes[it.id()].as_ref())
        };
        if missing > 0 || there.iter().any(starts) || self.restarts(service).next().is_some() {
            before.start = self.before_start(service);
        }
        let mut steps = Steps::default();
        for instance in &there {
            let cause = causes[instance.id()].clone();
            self.existing(name, service, instance, cause, &before, &mut steps);
        }
        let last = there.iter().map(|it| it.number()).max().unwrap_or(0);
        for number in (last + 1..).take(missing as usize) {
            self.missing(name, service, number, &before, &mut steps);
        }
        self.pre_start(service, &steps);
        self.services.insert(name.to_owned(), steps);
    }

    /// Has what the service runs before its first container done before any is started; one that goes on running was
    /// the first.
    fn pre_start(&mut self, service: &Service, steps: &Steps) {
        let plan = &mut self.done.plan;
        let is_start = |id: &&StepId| matches!(plan.steps[id.0].action, Action::Start { .. });
        let starts: Vec<StepId> = steps.started.iter().filter(is_start).copied().collect();
        let Some(slot) = steps.slots.first().filter(|_| starts.len() == steps.slots.len()) else {
            return;
        };
        if service.pre_start.is_empty() {
            return;
        }
        let before: Vec<StepId> =
            starts.iter().flat_map(|start| plan.steps[start.0].after.iter().copied()).collect();
        let step = plan.add(
            Action::PreStart { slot: slot.clone() },
            "none of its containers runs",
            before,
        );
        for start in starts {
            plan.steps[start.0].after.insert(step);
        }
    }

    /// The service's containers, and the removal of what an interrupted replacement has left of them.
    fn instances(&mut self, name: &str, service: &Service) -> (Vec<&'a Instance>, Vec<StepId>) {
        let observed = self.observed;
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for instance in
            observed.containers.iter().filter(|it| !it.is_one_off() && it.service() == name)
        {
            let proper = make::name(self.project, name, service, instance.number());
            let is_ours = instance.is_replacement() && instance.name()[13..] == proper;
            if !is_ours {
                there.push(instance);
                continue;
            }
            // It was to take another one's place.
            if observed.containers.iter().any(|it| it.name() == proper) {
                gone.push(self.remove(instance, "an interrupted replacement has left it"));
            } else {
                let (id, from) = (instance.id().to_owned(), instance.name().to_owned());
                let rename = Action::Rename { id, from, to: proper };
                gone.push(self.done.plan.add(rename, "an interrupted replacement has left it", []));
                there.push(instance);
            }
        }
        (there, gone)
    }

    fn decide(&self, name: &str, service: &Service, instance: &Instance) -> Option<String> {
        // An image that is built or fetched on the way is not known yet.
        let pending = self.images.contains_key(name);
        let image = service.image_name(&self.project.name, name);
        let image = self.observed.images.get(&image).filter(|_| !pending);
        let wanted = Wanted {
            project: self.project,
            service,
            image: image.map(|found| found.id.as_str()),
            networks: &self.observed.networks,
            others: &self.others,
            recreate: self.recreate(name),
        };
        if let Some(key) = service.networks.keys().find(|key| self.leaving.contains(*key)) {
            return Some(format!("the network {} is made anew", self.project.networks[key].name));
        }
        decide(&wanted, instance)
    }

    /// What has to be there before a container of the service can be made.
    fn before_create(&self, name: &str, service: &Service, gone: Vec<StepId>) -> BTreeSet<StepId> {
        let mut before: BTreeSet<StepId> = gone.into_iter().collect();
        before.extend(self.images.get(name));
        before.extend(service.networks.keys().filter_map(|key| self.networks.get(key)));
        let volumes = service.volumes.iter().filter(|mount| mount.kind == "volume");
        before.extend(volumes.filter_map(|mount| self.volumes.get(&mount.source)));
        for other in referred(service) {
            before.extend(self.services.get(other).into_iter().flat_map(|steps| &steps.made));
        }
        before
    }

    /// What has to be before a container of the service can be started.
    fn before_start(&mut self, service: &Service) -> BTreeSet<StepId> {
        let mut before = BTreeSet::new();
        for (name, dependency) in &service.depends_on {
            let Some(steps) = self.services.get(name) else { continue };
            before.extend(&steps.started);
            let condition = Condition::parse(&dependency.condition);
            if condition == Condition::Started || self.wishes.no_start {
                continue;
            }
            let (slots, started) = (steps.slots.clone(), steps.started.clone());
            let required = dependency.required.0;
            let wait =
                *self.waits.entry((name.clone(), condition, required)).or_insert_with(|| {
                    let cause = "another service depends on it";
                    let action = Action::Await { service: name.clone(), slots, condition };
                    match required {
                        true => self.done.plan.add(action, cause, started),
                        false => self.done.plan.add_optional(action, cause, started),
                    }
                });
            before.insert(wait);
        }
        before
    }

    /// A container that is there already.
    fn existing(
        &mut self,
        name: &str,
        service: &Service,
        instance: &Instance,
        cause: Option<String>,
        before: &Before,
        steps: &mut Steps,
    ) {
        let slot = Slot { service: name.to_owned(), number: instance.number() };
        let shown = make::name(self.project, name, service, slot.number);
        steps.slots.push(slot.clone());
        if !self.may_change(name, service, cause.as_ref()) {
            self.leave(service, instance, slot, shown, before, steps);
            return;
        }
        let certain = cause.is_some();
        let cause = cause.unwrap_or_else(|| match self.images.contains_key(name) {
            true => "its image may be another one then".to_owned(),
            false => "what it shares may be another container's then".to_owned(),
        });
        let replaces = Some(instance.id().to_owned());
        let converge =
            Action::Converge { slot: slot.clone(), name: shown.clone(), replaces, certain };
        let made = self.done.plan.add(converge, cause, before.create.iter().copied());
        steps.made.push(made);
        steps.replaces = true;
        self.start(slot, shown, "it is to run", before, Some(made), steps);
    }

    /// Whether a container that is there is made anew, or may be once its image is known.
    fn may_change(&self, name: &str, service: &Service, cause: Option<&String>) -> bool {
        let pending = self.images.contains_key(name) || self.depends_on_made(service);
        cause.is_some() || pending && self.recreate(name) == Recreate::Diverged
    }

    /// The services that a service depends on, is restarted with, and whose containers may be replaced; one more of them
    /// changes nothing for it.
    fn restarts<'b>(&self, service: &'b Service) -> impl Iterator<Item = &'b String> {
        service.depends_on.iter().filter_map(|(name, dependency)| {
            let steps = self.services.get(name).filter(|_| dependency.restart)?;
            steps.replaces.then_some(name)
        })
    }

    /// Whether something that the service's containers share is made anew, perhaps.
    fn depends_on_made(&self, service: &Service) -> bool {
        let mut others = referred(service).into_iter();
        others.any(|other| self.services.get(other).is_some_and(|steps| !steps.made.is_empty()))
    }

    /// A container that is as it should be: started if it does not run.
    fn leave(
        &mut self,
        service: &Service,
        instance: &Instance,
        slot: Slot,
        shown: String,
        before: &Before,
        steps: &mut Steps,
    ) {
        self.done.kept.push(instance.name().to_owned());
        match instance.state.status {
            Status::Running | Status::Restarting | Status::Paused
                if self.stops.contains_key(instance.id()) =>
            {
                self.done.kept.pop();
                let networks = self.networks.values().copied();
                let after = before.start.iter().copied().chain(networks).collect();
                let before = Before { create: BTreeSet::new(), start: after };
                let cause = "it was stopped for its network";
                self.start(slot, shown, cause, &before, None, steps);
            }
            Status::Running | Status::Restarting | Status::Paused => {
                let services: Vec<String> = self.restarts(service).cloned().collect();
                if !services.is_empty() && !self.wishes.no_start {
                    let cause = format!("it says so of {}", services.join(", "));
                    let restart = Action::RestartAfter { slot, name: shown, services };
                    let step = self.done.plan.add(restart, cause, before.start.iter().copied());
                    steps.started.push(step);
                }
            }
            status => {
                self.done.kept.pop();
                let cause = match status {
                    Status::Exited => format!("it has ended with {}", instance.state.exit_code),
                    _ => "it was not started yet".to_owned(),
                };
                self.start(slot, shown, &cause, before, None, steps);
            }
        }
    }

    /// A container that is not there.
    fn missing(
        &mut self,
        name: &str,
        service: &Service,
        number: u32,
        before: &Before,
        steps: &mut Steps,
    ) {
        let slot = Slot { service: name.to_owned(), number };
        let shown = make::name(self.project, name, service, number);
        steps.slots.push(slot.clone());
        let converge = Action::Converge {
            slot: slot.clone(),
            name: shown.clone(),
            replaces: None,
            certain: true,
        };
        let made = self.done.plan.add(converge, "it is not there", before.create.iter().copied());
        steps.made.push(made);
        self.start(slot, shown, "it is new", before, Some(made), steps);
    }

    fn start(
        &mut self,
        slot: Slot,
        name: String,
        cause: &str,
        before: &Before,
        made: Option<StepId>,
        steps: &mut Steps,
    ) {
        if self.wishes.no_start {
            return;
        }
        let after = before.start.iter().copied().chain(made);
        let step = self.done.plan.add(Action::Start { slot, name }, cause, after);
        steps.started.push(step);
    }

    /// Waits for every service: until it is healthy, or has completed if that is what another one wants of it.
    fn wait_for_all(&mut self) {
        let completing = self.project.services.values().flat_map(|service| {
            let completed = service.depends_on.iter();
            completed.filter(|(_, it)| Condition::parse(&it.condition) == Condition::Completed)
        });
        let completing: BTreeSet<&String> = completing.map(|(name, _)| name).collect();
        for (name, steps) in &self.services {
            let condition = match completing.contains(name) {
                true => Condition::Completed,
                false => Condition::Ready,
            };
            let slots = steps.slots.clone();
            let action = Action::Await { service: name.clone(), slots, condition };
            self.done.plan.add(action, plan::FOR_ITSELF, steps.started.iter().copied());
        }
    }
}

/// What comes before the containers of a service.
struct Before {
    create: BTreeSet<StepId>,
    start: BTreeSet<StepId>,
}

/// The services whose containers a service's own refer to by their ids.
pub(crate) fn referred(service: &Service) -> BTreeSet<&str> {
    let modes = [&service.network_mode, &service.ipc, &service.pid];
    let mut all: BTreeSet<&str> =
        modes.into_iter().filter_map(|mode| mode.strip_prefix("service:")).collect();
    let plain = |text: &'_ str| !text.starts_with("container:");
    let volumes = service.volumes_from.iter().filter(|text| plain(text));
    all.extend(volumes.filter_map(|text| text.split(':').next()));
    all.extend(service.links.iter().filter_map(|text| text.split(':').next()));
    all
}
