//! Station 3 for `restart` and `start`: services are stopped and started again, or only started, each when what it depends
//! on is as it wants it. With those that are restarted go those that say so of them (`depends_on: {db: {restart: true}}`),
//! with those that are started what they depend on. Pure.
//!
//! Works without a project too: containers' labels say the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::Failure;
use crate::model::{Dependency, Project};
use crate::observe::{Instance, Observed};
use crate::order;
use crate::plan::{self, Action, Condition, Plan, Slot, StepId};
use crate::teardown::{self, is_meant};

/// Which services are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// These, and no others; none is all.
    Only(&'a [String]),
    /// These, and those that are restarted with them; none is all.
    WithDependents(&'a [String]),
}

/// Restarts the services' containers.
pub fn restart(
    project: Option<&Project>,
    observed: &Observed,
    which: Which<'_>,
) -> Result<Plan, Failure> {
    let ties = Ties::of(project, observed, |restart| restart);
    let (names, chosen) = match which {
        Which::Only(names) => (names, names.iter().map(String::as_str).collect()),
        Which::WithDependents(names) => (names, ties.with_dependents(names)),
    };
    let is_chosen = |name: &str| match names {
        [] => is_meant(project, &[], name),
        _ => chosen.contains(name),
    };
    Planner::new(project, observed, &ties, Verb::Restart).plan(&is_chosen)
}

/// Starts the services' containers that do not run, and those of what they depend on. With `wait` the plan ends when they
/// are ready.
pub fn start(
    project: Option<&Project>,
    observed: &Observed,
    named: &[String],
    wait: bool,
) -> Result<Plan, Failure> {
    let ties = Ties::of(project, observed, |_| true);
    let chosen = ties.with_dependencies(named);
    let is_chosen = |name: &str| match named {
        [] => is_meant(project, &[], name),
        _ => chosen.contains(name),
    };
    let mut planner = Planner::new(project, observed, &ties, Verb::Start);
    planner.waits = wait;
    planner.plan(&is_chosen)
}

/// What is done to containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Restart,
    Start,
}

struct Planner<'a> {
    project: Option<&'a Project>,
    observed: &'a Observed,
    plan: Plan,
    /// What others wait for, by the services that they depend on.
    started: BTreeMap<String, BTreeSet<StepId>>,
    ties: &'a Ties,
    verb: Verb,
    /// Whether the plan ends only when all are ready.
    waits: bool,
}

impl<'a> Planner<'a> {
    fn new(
        project: Option<&'a Project>,
        observed: &'a Observed,
        ties: &'a Ties,
        verb: Verb,
    ) -> Self {
        let (plan, started) = (Plan::default(), BTreeMap::new());
        Planner { project, observed, plan, started, ties, verb, waits: false }
    }

    fn plan(mut self, is_chosen: &dyn Fn(&str) -> bool) -> Result<Plan, Failure> {
        let dependencies = teardown::dependencies(self.project, self.observed);
        for service in &order::sorted(&dependencies) {
            let on = dependencies.get(service).into_iter().flatten();
            let before: BTreeSet<StepId> =
                on.filter_map(|name| self.started.get(name)).flatten().copied().collect();
            // Whoever waits for a service that is left alone waits for what that waits for.
            let steps = match is_chosen(service) {
                true => self.service(service, before, is_chosen)?,
                false => before,
            };
            self.started.insert(service.clone(), steps);
        }
        if self.waits {
            self.wait_for_all(is_chosen);
        }
        Ok(self.plan)
    }

    /// Restarts or starts a service's containers; what others wait for then.
    fn service(
        &mut self,
        service: &str,
        mut before: BTreeSet<StepId>,
        is_chosen: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeSet<StepId>, Failure> {
        let ties = self.ties.0.get(service).cloned().unwrap_or_default();
        let does_it_run = |it: &Instance| self.verb == Verb::Start && it.is_active();
        let (running, rest): (Vec<&Instance>, Vec<&Instance>) =
            self.observed.of_service(service).partition(|it| does_it_run(it));
        // Who runs already waits for nothing.
        if !rest.is_empty() || running.is_empty() {
            for (name, tie) in ties.iter().filter(|(name, _)| is_chosen(name)) {
                before.extend(self.wait(service, name, tie)?);
            }
        }
        let mut after = before.clone();
        for instance in rest {
            after.insert(self.instance(instance, &before));
        }
        Ok(after)
    }

    /// Waits for every service: until it is healthy, or has completed if that is what another one wants of it.
    fn wait_for_all(&mut self, is_chosen: &dyn Fn(&str) -> bool) {
        let is_completing = |name: &str| {
            let wants = |on: &BTreeMap<String, Tie>| {
                on.get(name).is_some_and(|tie| tie.condition == Condition::Completed)
            };
            self.ties.0.values().any(wants)
        };
        for (name, steps) in self.started.iter().filter(|(name, _)| is_chosen(name)) {
            let condition = match is_completing(name) {
                true => Condition::Completed,
                false => Condition::Ready,
            };
            let slots = slots(self.observed, name);
            let action = Action::Await { service: name.clone(), slots, condition };
            self.plan.add(action, plan::FOR_ITSELF, steps.iter().copied());
        }
    }

    fn instance(&mut self, instance: &Instance, before: &BTreeSet<StepId>) -> StepId {
        let cause = match self.verb {
            Verb::Restart => "it is restarted",
            Verb::Start => "it was asked for",
        };
        let (id, name) = (instance.id().to_owned(), instance.name().to_owned());
        let mut before = before.clone();
        if instance.is_active() {
            let stop = Action::Stop { id, name: name.clone() };
            before = BTreeSet::from([self.plan.add(stop, cause, before)]);
        }
        let slot = Slot { service: instance.service().to_owned(), number: instance.number() };
        self.plan.add(Action::Start { slot, name }, cause, before)
    }

    /// Waits until what a service depends on is as it wants it, if it wants more than that it runs.
    fn wait(&mut self, service: &str, name: &str, tie: &Tie) -> Result<Option<StepId>, Failure> {
        if tie.condition == Condition::Started {
            return Ok(None);
        }
        let slots = slots(self.observed, name);
        if slots.is_empty() {
            let said = self.project.and_then(|project| project.services.get(name));
            return match tie.required && said.is_some_and(|said| said.replicas() > 0) {
                true => Err(Failure::Refused(format!(
                    "service {service:?} depends on {name:?}, which has no container: make it with: rcompose up {name}"
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

fn slots(observed: &Observed, service: &str) -> Vec<Slot> {
    let slot = |it: &Instance| Slot { service: service.to_owned(), number: it.number() };
    observed.of_service(service).map(slot).collect()
}

/// What a service wants of another one before it is started.
#[derive(Clone, Copy, Debug)]
struct Tie {
    condition: Condition,
    required: bool,
}

/// The services that others wait for, by those others.
struct Ties(BTreeMap<String, BTreeMap<String, Tie>>);

impl Ties {
    /// By the project, or by what containers say if there is none; of those for whose `restart` this is true.
    fn of(project: Option<&Project>, observed: &Observed, counts: impl Fn(bool) -> bool) -> Ties {
        let mut all: BTreeMap<String, BTreeMap<String, Tie>> = BTreeMap::new();
        if let Some(project) = project {
            let tie = |(name, it): (&String, &Dependency)| {
                let condition = Condition::parse(&it.condition);
                (name.clone(), Tie { condition, required: it.required.0 })
            };
            for (name, service) in &project.services {
                let on = service.depends_on.iter().filter(|(_, it)| counts(it.restart));
                all.insert(name.clone(), on.map(tie).collect());
            }
            return Ties(all);
        }
        for instance in &observed.containers {
            let own = all.entry(instance.service().to_owned()).or_default();
            let on = instance.waits_for().filter(|(_, _, restart)| counts(*restart));
            for (name, condition, _) in on {
                own.insert(name.to_owned(), Tie { condition, required: true });
            }
        }
        Ties(all)
    }

    /// These services, what they wait for, what that waits for, and so on.
    fn with_dependencies<'a>(&'a self, names: &'a [String]) -> BTreeSet<&'a str> {
        let mut open: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut all = BTreeSet::new();
        while let Some(name) = open.pop() {
            if all.insert(name) {
                open.extend(self.0.get(name).into_iter().flatten().map(|(on, _)| on.as_str()));
            }
        }
        all
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
