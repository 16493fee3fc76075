//! Station 3 for `restart`: services are stopped and started again, each when what it depends on was, and with those that
//! are named go those that say so of them (`depends_on: {db: {restart: true}}`). Pure.
//!
//! Works without a project too: containers' labels say the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::Failure;
use crate::model::{Dependency, Project};
use crate::observe::{Instance, Observed};
use crate::order;
use crate::plan::{Action, Condition, Plan, Slot, StepId};
use crate::teardown;

/// Which services are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// All.
    All,
    /// These, and no others.
    Only(&'a [String]),
    /// These, and those that are restarted with them.
    WithDependents(&'a [String]),
}

/// Restarts the services' containers.
pub fn restart(
    project: Option<&Project>,
    observed: &Observed,
    which: Which<'_>,
) -> Result<Plan, Failure> {
    let ties = Ties::of(project, observed);
    let chosen = match which {
        Which::All => None,
        Which::Only(names) => Some(names.iter().map(String::as_str).collect()),
        Which::WithDependents(names) => Some(ties.with_dependents(names)),
    };
    let mut planner =
        Planner { project, observed, plan: Plan::default(), started: BTreeMap::new(), ties: &ties };
    let dependencies = teardown::dependencies(project, observed);
    for service in &order::sorted(&dependencies) {
        let on = dependencies.get(service).into_iter().flatten();
        let before: BTreeSet<StepId> =
            on.filter_map(|name| planner.started.get(name)).flatten().copied().collect();
        let is_chosen = |name: &str| {
            chosen.as_ref().is_none_or(|chosen: &BTreeSet<&str>| chosen.contains(name))
        };
        // Whoever waits for a service that is left alone waits for what that waits for.
        let steps = match is_chosen(service) {
            true => planner.service(service, before, &is_chosen)?,
            false => before,
        };
        planner.started.insert(service.clone(), steps);
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    project: Option<&'a Project>,
    observed: &'a Observed,
    plan: Plan,
    /// What others wait for, by the services that they depend on.
    started: BTreeMap<String, BTreeSet<StepId>>,
    ties: &'a Ties,
}

impl Planner<'_> {
    /// Restarts a service's containers; what others wait for then.
    fn service(
        &mut self,
        service: &str,
        mut before: BTreeSet<StepId>,
        is_chosen: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeSet<StepId>, Failure> {
        let ties = self.ties.0.get(service).cloned().unwrap_or_default();
        for (name, tie) in ties.iter().filter(|(name, _)| is_chosen(name)) {
            before.extend(self.wait(service, name, tie)?);
        }
        let mut after = before.clone();
        for instance in self.observed.of_service(service) {
            after.insert(self.instance(instance, &before));
        }
        Ok(after)
    }

    fn instance(&mut self, instance: &Instance, before: &BTreeSet<StepId>) -> StepId {
        const CAUSE: &str = "it is restarted";
        let (id, name) = (instance.id().to_owned(), instance.name().to_owned());
        let mut before = before.clone();
        if instance.is_active() {
            let stop = Action::Stop { id, name: name.clone() };
            before = BTreeSet::from([self.plan.add(stop, CAUSE, before)]);
        }
        let slot = Slot { service: instance.service().to_owned(), number: instance.number() };
        self.plan.add(Action::Start { slot, name }, CAUSE, before)
    }

    /// Waits until what a service depends on is as it wants it, if it wants more than that it runs.
    fn wait(&mut self, service: &str, name: &str, tie: &Tie) -> Result<Option<StepId>, Failure> {
        if tie.condition == Condition::Started {
            return Ok(None);
        }
        let slots: Vec<Slot> = self
            .observed
            .of_service(name)
            .map(|it| Slot { service: name.to_owned(), number: it.number() })
            .collect();
        if slots.is_empty() {
            let said = self.project.and_then(|project| project.services.get(name));
            return match tie.required && said.is_some_and(|said| said.replicas() > 0) {
                true => Err(Failure::Refused(format!(
                    "service {service:?} is restarted with {name:?}, which has no container: make it with: rcompose up \
                     {name}"
                ))),
                false => Ok(None),
            };
        }
        let action = Action::Await { service: name.to_owned(), slots, condition: tie.condition };
        let started = self.started.get(name).cloned().unwrap_or_default();
        let cause = "another service depends on it";
        Ok(Some(match tie.required {
            true => self.plan.add(action, cause, started),
            false => self.plan.add_optional(action, cause, started),
        }))
    }
}

/// What a service wants of another one before it is restarted with it.
#[derive(Clone, Copy, Debug)]
struct Tie {
    condition: Condition,
    required: bool,
}

/// The services that others are restarted with, by those others.
struct Ties(BTreeMap<String, BTreeMap<String, Tie>>);

impl Ties {
    /// By the project, or by what containers say if there is none.
    fn of(project: Option<&Project>, observed: &Observed) -> Ties {
        let mut all: BTreeMap<String, BTreeMap<String, Tie>> = BTreeMap::new();
        if let Some(project) = project {
            let tie = |(name, it): (&String, &Dependency)| {
                let condition = Condition::parse(&it.condition);
                (name.clone(), Tie { condition, required: it.required.0 })
            };
            for (name, service) in &project.services {
                let on = service.depends_on.iter().filter(|(_, it)| it.restart);
                all.insert(name.clone(), on.map(tie).collect());
            }
            return Ties(all);
        }
        for instance in &observed.containers {
            let own = all.entry(instance.service().to_owned()).or_default();
            for (name, condition) in instance.restarts_with() {
                own.insert(name.to_owned(), Tie { condition, required: true });
            }
        }
        Ties(all)
    }

    /// These services, those that are restarted with them, those that are with these, and so on.
    fn with_dependents<'a>(&'a self, names: &'a [String]) -> BTreeSet<&'a str> {
        let mut open: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut all = BTreeSet::new();
        while let Some(name) = open.pop() {
            if all.insert(name) {
                let tied = self.0.iter().filter(|(_, on)| on.contains_key(name));
                open.extend(tied.map(|(other, _)| other.as_str()));
            }
        }
        all
    }
}
