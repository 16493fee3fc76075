//! What is to be done to a project, as a value: steps in a graph, each with its cause.
//!
//! A plan prints as text, which is what `--dry-run` shows. Whether a container is made anew can depend on an image that is
//! built on the way: then its step says so, and what [`decide`](crate::reconcile::decide) says once the image is there
//! is done.

use std::collections::BTreeSet;
use std::fmt;

/// Why a service is waited for that no other one depends on.
pub const FOR_ITSELF: &str = "--wait";

/// A step's place in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId(pub usize);

/// Steps, each after all those that it waits for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Why, in a few words.
    pub cause: String,
    /// What has to be done before.
    pub after: BTreeSet<StepId>,
    /// Whether the rest goes on when it fails.
    pub optional: bool,
}

/// A container of a project that may not be there yet: a service's, by its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The service.
    pub service: String,
    /// Its place among the service's containers, from 1.
    pub number: u32,
}

/// What one waits for in a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Its containers run.
    Started,
    /// Its containers are healthy.
    Healthy,
    /// Its containers are healthy, as far as somebody looks, and run.
    Ready,
    /// Its containers have ended with 0.
    Completed,
}

impl Condition {
    /// Reads the compose specification's word.
    pub fn parse(word: &str) -> Condition {
        match word {
            "service_healthy" => Condition::Healthy,
            "service_completed_successfully" => Condition::Completed,
            _ => Condition::Started,
        }
    }
}

/// What a step does. Containers are named for whoever reads; their ids are what counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Get the image of services: from a registry, or by building it, or by the first of them that works.
    Image {
        /// The services that are built alike, or have the same image.
        services: Vec<String>,
        /// The image's names.
        images: Vec<String>,
        /// Whether a registry is asked.
        pull: bool,
        /// Whether it can be built.
        build: bool,
    },
    /// Make a network.
    CreateNetwork {
        /// The project's name for it.
        key: String,
        /// Its name.
        name: String,
    },
    /// Remove a network that no container is on any more.
    RemoveNetwork {
        /// Its name.
        name: String,
    },
    /// Make a volume.
    CreateVolume {
        /// The project's name for it.
        key: String,
        /// Its name.
        name: String,
    },
    /// Remove a volume and what is in it.
    RemoveVolume {
        /// Its name.
        name: String,
    },
    /// Remove an image.
    RemoveImage {
        /// Its name.
        name: String,
    },
    /// Make a container, or make it anew in place of one that is not as it should be any more.
    Converge {
        /// Which.
        slot: Slot,
        /// Its name.
        name: String,
        /// The one that is there.
        replaces: Option<String>,
        /// Whether it is known that something has to be done.
        certain: bool,
    },
    /// Run what a service runs before its first container is started.
    PreStart {
        /// The container that it shares its volumes with.
        slot: Slot,
    },
    /// Start a container, unless it runs.
    Start {
        /// Which.
        slot: Slot,
        /// Its name.
        name: String,
    },
    /// Stop a container and start it again if one of these services' containers was replaced.
    RestartAfter {
        /// Which.
        slot: Slot,
        /// Its name.
        name: String,
        /// Any of these.
        services: Vec<String>,
    },
    /// Wait until all containers of a service are in a condition.
    Await {
        /// The service.
        service: String,
        /// Its containers.
        slots: Vec<Slot>,
        /// What is waited for.
        condition: Condition,
    },
    /// Give a container its proper name, which an interrupted `up` has not.
    Rename {
        /// Its id.
        id: String,
        /// The name that it has.
        from: String,
        /// The name that it gets.
        to: String,
    },
    /// Stop a container.
    Stop {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Remove a container that does not run.
    Remove {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Whether its volumes without a name go as well.
        volumes: bool,
    },
}

impl Plan {
    /// Adds a step.
    pub fn add(
        &mut self,
        action: Action,
        cause: impl Into<String>,
        after: impl IntoIterator<Item = StepId>,
    ) -> StepId {
        let after = after.into_iter().collect();
        self.steps.push(Step { action, cause: cause.into(), after, optional: false });
        StepId(self.steps.len() - 1)
    }

    /// Adds a step whose failure keeps nothing else from being done.
    pub fn add_optional(
        &mut self,
        action: Action,
        cause: impl Into<String>,
        after: impl IntoIterator<Item = StepId>,
    ) -> StepId {
        let id = self.add(action, cause, after);
        self.steps[id.0].optional = true;
        id
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Action {
    /// What kind of thing it is about, and its name, as docker compose shows it.
    pub fn subject(&self) -> (&'static str, String) {
        match self {
            Action::Image { images, build: true, pull: false, .. } => ("Image", images.join(", ")),
            Action::Image { images, .. } => ("Image", images.join(", ")),
            Action::CreateNetwork { name, .. } | Action::RemoveNetwork { name } => {
                ("Network", name.clone())
            }
            Action::CreateVolume { name, .. } | Action::RemoveVolume { name } => {
                ("Volume", name.clone())
            }
            Action::RemoveImage { name } => ("Image", name.clone()),
            Action::Converge { name, .. }
            | Action::Start { name, .. }
            | Action::RestartAfter { name, .. }
            | Action::Rename { to: name, .. }
            | Action::Stop { name, .. }
            | Action::Remove { name, .. } => ("Container", name.clone()),
            Action::Await { service, .. } | Action::PreStart { slot: Slot { service, .. } } => {
                ("Service", service.clone())
            }
        }
    }

    /// What is to be done, as a verb.
    fn verb(&self) -> &'static str {
        match self {
            Action::Image { pull: true, build: true, .. } => "pull or build",
            Action::Image { pull: true, .. } => "pull",
            Action::Image { .. } => "build",
            Action::CreateNetwork { .. } | Action::CreateVolume { .. } => "create",
            Action::RemoveNetwork { .. }
            | Action::RemoveVolume { .. }
            | Action::RemoveImage { .. }
            | Action::Remove { .. } => "remove",
            Action::Converge { replaces: None, .. } => "create",
            Action::Converge { certain: true, .. } => "recreate",
            Action::Converge { certain: false, .. } => "recreate if its image changes",
            Action::PreStart { .. } => "run its pre_start containers",
            Action::Start { .. } => "start",
            Action::RestartAfter { .. } => "restart if what it depends on is recreated",
            Action::Await { condition: Condition::Started, .. } => "wait until it runs",
            Action::Await { condition: Condition::Healthy | Condition::Ready, .. } => {
                "wait until it is healthy"
            }
            Action::Await { condition: Condition::Completed, .. } => "wait until it has completed",
            Action::Rename { .. } => "rename",
            Action::Stop { .. } => "stop",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.subject();
        write!(f, "{kind} {name}: {}", self.verb())
    }
}

/// One line a step: its number, what it does, why, and what it waits for.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.steps.iter().enumerate() {
            write!(f, "{:>3}. {} ({})", place + 1, step.action, step.cause)?;
            let after: Vec<String> = step.after.iter().map(|id| (id.0 + 1).to_string()).collect();
            if !after.is_empty() {
                write!(f, " after {}", after.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
