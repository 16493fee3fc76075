//! Station 4: a plan carried out, in parallel where nothing orders it.
//!
//! The one place that changes something. Each ready step has a thread of its own, because most of them wait: for a
//! monitor, for a program's end, for health. The first failure keeps further steps from beginning; what has begun is
//! finished, and what only waits is called off.

mod container;
mod pre_start;
mod wait;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::Instant;

use engine::containers::{Client, Containers};
use engine::network::{DefinitionError, Definitions};
use engine::volume::Volumes;

pub use crate::cancel::Cancel;
use crate::failure::Failure;
use crate::make;
use crate::model::{Hook, Project};
use crate::observe::Observed;
use crate::plan::{Action, Plan, Slot, Step, StepId};
use crate::reconcile::Up;

/// What is not done here but by a program that is good at it: what takes seconds, not milliseconds.
pub trait Commands: Sync {
    /// Fetches an image from a registry.
    fn pull(&self, image: &str, platform: &str) -> Result<(), Failure>;
    /// Builds the image of a service, and gives it these names.
    fn build(&self, service: &str, images: &[String]) -> Result<(), Failure>;
    /// Removes an image; whether it was there.
    fn remove_image(&self, image: &str) -> Result<bool, Failure>;
    /// Runs a hook in a container; its exit code.
    fn hook(&self, container: &str, hook: &Hook) -> Result<i32, Failure>;
}

/// What happens while a plan is carried out. `what` is docker compose's word for it.
pub enum Event<'a> {
    /// Something begins, is done, or turns out to be unnecessary.
    Progress {
        /// `Container`, `Network`, ...
        kind: &'a str,
        /// Which.
        name: &'a str,
        /// `Creating`, `Created`, ...
        what: &'a str,
        /// Why it is done.
        cause: &'a str,
        /// Whether more is to come of this.
        done: bool,
    },
    /// Something failed.
    Failed {
        /// `Container`, `Network`, ...
        kind: &'a str,
        /// Which.
        name: &'a str,
        /// Why.
        failure: &'a Failure,
        /// Whether the rest goes on.
        optional: bool,
    },
    /// A container runs.
    Running {
        /// The service.
        service: &'a str,
        /// Its id.
        id: &'a str,
        /// Its name.
        name: &'a str,
        /// What it printed before was printed in an earlier life, or before anybody wanted to know.
        since: Option<jiff::Timestamp>,
        /// By which it tells what it prints, for whoever takes it, if we have started it.
        output: &'a Mutex<Option<Client>>,
    },
}

/// All that is needed to carry out a plan.
pub struct Apply<'a> {
    /// The containers.
    pub containers: &'a Containers<'a>,
    /// Where it is written down who uses which address.
    pub networks: &'a Path,
    /// The project; what is only stopped or removed needs none of it but its name and hooks.
    pub project: &'a Project,
    /// What there was when the plan was made.
    pub observed: &'a Observed,
    /// What `up` was asked for.
    pub wishes: Up,
    /// Where the project's secrets and configs are kept in memory.
    pub files: PathBuf,
    /// What is done by other programs.
    pub commands: &'a dyn Commands,
    /// Who hears what happens.
    pub listener: &'a (dyn Fn(Event<'_>) + Sync),
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// How many steps run at once that do more than wait; none is without end.
    pub parallel: Option<usize>,
    /// Seconds that a container has to end, if not its own; -1 is without end.
    pub stop_timeout: Option<i64>,
    /// Whether somebody wants to see what containers print.
    pub attaches: bool,
    /// Whether containers get new volumes in place of those without a name.
    pub renew_volumes: bool,
    /// When waiting for containers has taken too long, and how many seconds that is.
    pub deadline: Option<(Instant, u64)>,
    /// The right to change the project, if others may have it while nothing is changed.
    pub turn: Option<&'a dyn Turn>,
}

/// The right to change a project.
pub trait Turn: Sync {
    /// Lets others have it.
    fn leave(&self);

    /// Waits until it is ours, if it is not.
    fn take(&self) -> Result<(), Failure>;
}

/// A container as it is now.
#[derive(Clone, Debug)]
struct Place {
    id: String,
    /// Whether this plan has put it in another one's place.
    is_replaced: bool,
}

/// A plan under way.
struct Work<'a> {
    apply: &'a Apply<'a>,
    places: Mutex<BTreeMap<Slot, Place>>,
    /// What calls off those who wait, once somebody has failed.
    off: Cancel,
}

/// Carries out a plan.
pub fn apply(apply: &Apply<'_>, plan: &Plan) -> Result<(), Failure> {
    let mut places: BTreeMap<Slot, Place> = BTreeMap::new();
    for instance in apply.observed.containers.iter().filter(|it| !it.is_one_off()) {
        let slot = Slot { service: instance.service().to_owned(), number: instance.number() };
        // What an interrupted replacement has left comes behind what it was to replace.
        places.entry(slot).or_insert(Place { id: instance.id().to_owned(), is_replaced: false });
    }
    let work = Work { apply, places: Mutex::new(places), off: Cancel::new()? };
    let mut schedule = Schedule::new(plan);
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut failed: Option<Failure> = None;
        loop {
            let is_over = failed.is_some() || apply.cancel.is_canceled();
            while !is_over && let Some(id) = schedule.take(apply.parallel) {
                // What others have done meanwhile, the step finds out itself.
                if let Some(turn) = apply.turn.filter(|_| !is_wait(&plan.steps[id.0]))
                    && let Err(failure) = turn.take()
                {
                    failed = Some(failure);
                    work.off.cancel();
                    schedule.finish(id, &plan.steps[id.0]);
                    break;
                }
                let (work, done, step) = (&work, done.clone(), &plan.steps[id.0]);
                scope.spawn(move || {
                    // The receiver lives until all have ended.
                    let _ = done.send((id, work.step(step)));
                });
            }
            if schedule.running == 0 {
                break;
            }
            if schedule.working == 0
                && let Some(turn) = apply.turn
            {
                turn.leave();
            }
            let Ok((id, result)) = ended.recv() else { break };
            let step = &plan.steps[id.0];
            schedule.finish(id, step);
            if let Err(failure) = result {
                work.tell_failure(step, &failure);
                if !step.optional && failed.is_none() {
                    work.off.cancel();
                    failed = Some(failure);
                }
            }
        }
        match failed {
            Some(failure) => Err(failure),
            None if apply.cancel.is_canceled() => Err(Failure::Interrupted),
            None => Ok(()),
        }
    })
}

/// Which steps may begin.
struct Schedule<'a> {
    plan: &'a Plan,
    /// How many steps each waits for; none once it was taken.
    waiting: Vec<Option<usize>>,
    /// Steps under way, and those of them that do more than wait.
    running: usize,
    working: usize,
}

impl<'a> Schedule<'a> {
    fn new(plan: &'a Plan) -> Self {
        let waiting = plan.steps.iter().map(|step| Some(step.after.len())).collect();
        Schedule { plan, waiting, running: 0, working: 0 }
    }

    /// Takes the first step that waits for nothing.
    fn take(&mut self, parallel: Option<usize>) -> Option<StepId> {
        let may_work = parallel.is_none_or(|most| self.working < most);
        let is_ready = |(place, waiting): &(usize, &Option<usize>)| {
            **waiting == Some(0) && (may_work || is_wait(&self.plan.steps[*place]))
        };
        let (place, _) = self.waiting.iter().enumerate().find(is_ready)?;
        self.waiting[place] = None;
        self.running += 1;
        self.working += usize::from(!is_wait(&self.plan.steps[place]));
        Some(StepId(place))
    }

    fn finish(&mut self, id: StepId, step: &Step) {
        self.running -= 1;
        self.working -= usize::from(!is_wait(step));
        for (place, step) in self.plan.steps.iter().enumerate() {
            if let Some(waiting) = &mut self.waiting[place]
                && step.after.contains(&id)
            {
                *waiting -= 1;
            }
        }
    }
}

fn is_wait(step: &Step) -> bool {
    matches!(step.action, Action::Await { .. })
}

impl Work<'_> {
    fn places(&self) -> MutexGuard<'_, BTreeMap<Slot, Place>> {
        self.places.lock().expect("no holder panics")
    }

    fn tell(&self, (kind, name): (&str, &str), what: &str, cause: &str, done: bool) {
        (self.apply.listener)(Event::Progress { kind, name, what, cause, done });
    }

    fn tell_failure(&self, step: &Step, failure: &Failure) {
        // Who was called off did not fail.
        if matches!(failure, Failure::Interrupted) {
            return;
        }
        let (kind, name) = step.action.subject();
        let optional = step.optional;
        (self.apply.listener)(Event::Failed { kind, name: &name, failure, optional });
    }

    /// Does one step.
    fn step(&self, step: &Step) -> Result<(), Failure> {
        let cause = step.cause.as_str();
        match &step.action {
            Action::Image { services, images, pull, build } => {
                self.image(services, images, (*pull, *build), cause)
            }
            Action::CreateNetwork { key, name } => {
                self.told(("Network", name), ["Creating", "Created"], cause, || {
                    self.create_network(key)
                })
            }
            Action::RemoveNetwork { name } => {
                self.told(("Network", name), ["Removing", "Removed"], cause, || {
                    self.remove_network(name)
                })
            }
            Action::CreateVolume { key, name } => {
                self.told(("Volume", name), ["Creating", "Created"], cause, || {
                    let volumes = Volumes::open(self.apply.containers.store)?;
                    Ok(volumes.create(make::volume(self.apply.project, key)).map(drop)?)
                })
            }
            Action::RemoveVolume { name } => {
                self.told(("Volume", name), ["Removing", "Removed"], cause, || {
                    let containers = self.apply.containers;
                    let volumes = Volumes::open(containers.store)?;
                    match volumes.remove(name, || engine::containers::users(containers)) {
                        Err(engine::volume::Error::NotFound(_)) => Ok(()),
                        removed => Ok(removed?),
                    }
                })
            }
            // One that is not there is nobody's concern.
            Action::RemoveImage { name }
                if engine::images::image(self.apply.containers.store, name).is_err() =>
            {
                Ok(())
            }
            Action::RemoveImage { name } => {
                self.told(("Image", name), ["Removing", "Removed"], cause, || {
                    self.apply.commands.remove_image(name).map(drop)
                })
            }
            Action::Converge { slot, name, replaces, .. } => {
                self.converge(slot, name, replaces.as_deref(), cause)
            }
            Action::PreStart { slot } => self.pre_start(slot, cause),
            Action::Start { slot, name } => self.start(slot, name, cause),
            Action::RestartAfter { slot, name, services } => {
                self.restart_after(slot, name, services, cause)
            }
            Action::Await { service, slots, condition } => {
                self.wait_for(service, slots, *condition, cause)
            }
            Action::Rename { id, to, .. } => {
                Ok(self.apply.containers.rename(id, to).map_err(|source| of(to, source))?)
            }
            Action::Stop { id, name } => self.stop(id, name, cause),
            Action::Remove { id, name, volumes } => self.remove(id, name, *volumes, cause),
        }
    }

    /// Does something between two words.
    fn told(
        &self,
        subject: (&str, &str),
        [begins, ends]: [&str; 2],
        cause: &str,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.tell(subject, begins, cause, false);
        work()?;
        self.tell(subject, ends, cause, true);
        Ok(())
    }

    /// Gets an image: from a registry, or else by building it.
    fn image(
        &self,
        services: &[String],
        images: &[String],
        (pull, build): (bool, bool),
        cause: &str,
    ) -> Result<(), Failure> {
        let shown = images.join(", ");
        let service = services.first().map_or("", String::as_str);
        if pull {
            let platform = self.apply.project.services.get(service);
            let platform = platform.map_or("", |service| service.platform.as_str());
            let pulled = self.told(("Image", &shown), ["Pulling", "Pulled"], cause, || {
                images.iter().try_for_each(|image| self.apply.commands.pull(image, platform))
            });
            match pulled {
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(_) if build => {}
                pulled => return pulled,
            }
        }
        self.told(("Image", &shown), ["Building", "Built"], cause, || {
            self.apply.commands.build(service, images)
        })
    }

    fn create_network(&self, key: &str) -> Result<(), Failure> {
        let definitions = Definitions::new(self.apply.containers.store.root(), self.apply.networks);
        match definitions.create(&make::network(self.apply.project, key)) {
            // Somebody else was faster, with the same project.
            Err(DefinitionError::NameInUse { name }) if self.is_ours(&definitions, &name) => Ok(()),
            created => Ok(created.map(drop)?),
        }
    }

    fn is_ours(&self, definitions: &Definitions, name: &str) -> bool {
        let project = &self.apply.project.name;
        definitions
            .find(name)
            .is_ok_and(|it| it.labels.get(make::labels::PROJECT).is_some_and(|it| it == project))
    }

    fn remove_network(&self, name: &str) -> Result<(), Failure> {
        let definitions = Definitions::new(self.apply.containers.store.root(), self.apply.networks);
        match definitions.find(name).and_then(|network| definitions.remove(&network)) {
            Err(DefinitionError::NotFound { .. }) => Ok(()),
            removed => Ok(removed?),
        }
    }
}

/// A container's failure, with its name.
fn of(name: &str, source: engine::containers::Error) -> Failure {
    Failure::Of { name: name.to_owned(), source }
}
