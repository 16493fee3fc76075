//! `up` and `create`: everything that a project says, made and started.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use compose::apply::{self, Apply};
use compose::images::Wishes;
use compose::observe::{self, Observed};
use compose::plan::{Action, Plan};
use compose::reconcile::{self, Recreate, Up};
use compose::watch::Rules;
use compose::{Project, apply::Cancel};
use engine::containers::Containers;

use crate::args::Globals;
use crate::attached::{self, Attached};
use crate::commands::Rbuild;
use crate::down::Change;
use crate::home::{self, Here};
use crate::interrupt::{Interrupt, News};
use crate::progress::Progress;
use crate::turn::{Turn, Yielding};
use crate::ui;
use crate::watch::{self, Watcher};

/// What `create` is told, and `up` too.
#[derive(Args, Debug, Default)]
pub(crate) struct CreateArgs {
    /// Build images before making containers
    #[arg(long)]
    pub(crate) build: bool,
    /// Build no image, even if it is missing
    #[arg(long, conflicts_with = "build")]
    pub(crate) no_build: bool,
    /// Make containers anew even if nothing has changed
    #[arg(long)]
    pub(crate) force_recreate: bool,
    /// Leave containers that are there as they are
    #[arg(long, conflicts_with = "force_recreate")]
    pub(crate) no_recreate: bool,
    /// Ask registries for images: always, missing, never or build
    #[arg(long, value_name = "WHEN", value_parser = ["always", "missing", "never", "build", "policy"])]
    pub(crate) pull: Option<String>,
    /// Kept for docker compose's sake: downloads show no progress of their own
    #[arg(long)]
    pub(crate) quiet_pull: bool,
    /// Remove containers of services that the project does not have
    #[arg(long)]
    pub(crate) remove_orphans: bool,
    /// How many containers a service has
    #[arg(long, value_name = "SERVICE=NUMBER")]
    scale: Vec<String>,
    /// Say yes to every question
    #[arg(short = 'y', long)]
    pub(crate) yes: bool,
}

/// What `up` is told.
#[derive(Args, Debug, Default)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Leave containers running in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Make the containers of dependencies anew as well
    #[arg(long, conflicts_with = "no_recreate")]
    pub(crate) always_recreate_deps: bool,
    /// Leave out what the services depend on
    #[arg(long)]
    no_deps: bool,
    /// Only make containers
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Show nothing of builds
    #[arg(long)]
    pub(crate) quiet_build: bool,
    /// Give containers new volumes in place of those without a name
    #[arg(short = 'V', long)]
    pub(crate) renew_anon_volumes: bool,
    /// Wait until everything runs and is healthy; implies --detach
    #[arg(long)]
    pub(crate) wait: bool,
    /// How many seconds to wait at most
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait_timeout: Option<u64>,
    /// Seconds that containers have to end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
    /// Follow the files of sources: build anew, copy or restart when they change
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    pub(crate) attached: attached::AttachedArgs,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
}

/// What `create` is told.
#[derive(Args, Debug)]
pub(crate) struct CreateVerb {
    #[command(flatten)]
    create: CreateArgs,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Makes a project's containers.
pub(crate) fn create(globals: &Globals, args: CreateVerb) -> anyhow::Result<ExitCode> {
    let services = args.services;
    let args = UpArgs { create: args.create, services, no_start: true, ..UpArgs::default() };
    up(globals, &args)
}

/// Makes and starts a project's containers, and shows what they print if they are not to be left alone.
pub(crate) fn up(globals: &Globals, args: &UpArgs) -> anyhow::Result<ExitCode> {
    let is_attached = args.check()?;
    let project = args.project(globals)?;
    let wishes = args.wishes();
    if globals.dry_run {
        return dry_run(globals, &project, &wishes, args.create.yes);
    }
    let rules = match args.watch {
        true => Some(args.rules(&project)?),
        false => None,
    };
    let interrupt = Interrupt::take()?;
    let stays = is_attached.then_some(rules.as_ref());
    carry_out(globals, args, &project, &wishes, &interrupt, stays)
}

/// Makes and starts what a project says. `stays` is whether what containers print is shown then, and what is watched.
pub(crate) fn carry_out(
    globals: &Globals,
    args: &UpArgs,
    project: &Project,
    wishes: &Up,
    interrupt: &Interrupt,
    stays: Option<Option<&Rules>>,
) -> anyhow::Result<ExitCode> {
    let here = Here::open(globals, "run containers")?;
    let turn = Turn::take(&here, &project.name, interrupt)?;
    let containers = here.containers()?;
    let mut observed = observe_with_images(&here, &containers, project)?;
    let outdated = match args.create.yes {
        true => reconcile::outdated_volumes(project, &observed)?,
        false => Plan::default(),
    };
    if !outdated.is_empty() {
        // Nothing is taken away before it is known that all can be made anew.
        reconcile::up(project, &observed, wishes)?;
        for plan in [reconcile::images(project, &observed, wishes)?, outdated] {
            let change = Change {
                globals,
                here: &here,
                project,
                observed: &observed,
                interrupt,
                verb: "up",
                timeout: args.timeout,
                deadline: None,
                hurry: None,
            };
            change.carry_out(&plan, None)?;
        }
        observed = observe_with_images(&here, &containers, project)?;
    }
    let reconciled = reconcile::up(project, &observed, wishes)?;
    reconciled.warnings.iter().for_each(ui::warn);
    let progress = Progress::new(&globals.progress, "up");
    let attached = match stays {
        Some(_) => Some(Attached::new(
            &here,
            project,
            &args.attached,
            &args.services,
            interrupt,
            &globals.ansi,
        )?),
        None => None,
    };
    if let Some(attached) = &attached {
        let since = Some(jiff::Timestamp::now());
        for instance in attached::running(&observed, &reconciled.kept) {
            let (service, id, name) = (instance.service(), instance.id(), instance.name());
            let output = &Mutex::default();
            attached.event(&apply::Event::Running { service, id, name, since, output });
        }
    }
    let cancel = Cancel::new()?;
    let commands =
        Rbuild { globals, project, cancel: &cancel, quiet_build: args.quiet_build, build: None };
    let turn = Yielding::new(&here, &project.name, &cancel, turn);
    let listener = |event: apply::Event<'_>| {
        progress.event(&event);
        if let Some(attached) = &attached {
            attached.event(&event);
        }
        // What others still build or fetch is of no use then.
        if let apply::Event::Failed { optional: false, .. } = event {
            cancel.cancel();
        }
    };
    let work = Apply {
        wishes: wishes.clone(),
        attaches: attached.is_some(),
        stop_timeout: args.timeout,
        renew_volumes: args.renew_anon_volumes,
        deadline: args.wait_timeout.map(|it| (Instant::now() + Duration::from_secs(it), it)),
        turn: Some(&turn),
        ..commands.work(&here, &containers, &observed, &listener)
    };
    for name in &reconciled.kept {
        progress.event(&kept(name));
    }
    let applied = interrupt.during(&cancel, || apply::apply(&work, &reconciled.plan));
    drop(work);
    drop(progress);
    drop(turn);
    let Some(attached) = attached else {
        return applied.map(|()| ExitCode::SUCCESS).map_err(Into::into);
    };
    let timeout = args.timeout;
    let run = attached::Run { globals, here: &here, project, interrupt, timeout, watcher: None };
    let Some(rules) = stays.flatten().filter(|_| applied.is_ok()) else {
        return attached.run(&run, applied);
    };
    let cancel = Cancel::new()?;
    let news = interrupt.sender();
    let watcher = Watcher {
        globals,
        project,
        rules,
        cancel: &cancel,
        prune: true,
        quiet: args.quiet_build,
        listener: &|event| attached.event(event),
        say: &|text| attached.say(text),
        settled: &|| drop(news.send(News::Settled)),
        busy: Mutex::default(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(error) = watcher.run() {
                cancel.cancel();
                ui::warn(format_args!("files are not watched any more: {error:#}"));
            }
        });
        let ended = attached.run(&attached::Run { watcher: Some(&watcher), ..run }, applied);
        watcher.halt();
        ended
    })
}

pub(crate) fn kept(name: &str) -> apply::Event<'_> {
    apply::Event::Progress { kind: "Container", name, what: "Running", cause: "", done: true }
}

/// Prints what would be done.
fn dry_run(
    globals: &Globals,
    project: &Project,
    wishes: &Up,
    yes: bool,
) -> anyhow::Result<ExitCode> {
    let here = Here::open(globals, "look at containers")?;
    let containers = here.containers()?;
    let mut observed = observe_with_images(&here, &containers, project)?;
    if yes {
        let outdated = reconcile::outdated_volumes(project, &observed)?;
        ui::raw(outdated.to_string());
        for step in &outdated.steps {
            match &step.action {
                Action::Remove { id, .. } => observed.containers.retain(|it| it.id() != id),
                Action::RemoveVolume { name } => drop(observed.volumes.remove(name)),
                _ => {}
            }
        }
    }
    let reconciled = reconcile::up(project, &observed, wishes)?;
    reconciled.warnings.iter().for_each(ui::warn);
    ui::raw(reconciled.plan.to_string());
    for name in &reconciled.kept {
        ui::line(format_args!("     Container {name}: nothing to do"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks what there is of a project, with the images that its services have.
pub(crate) fn observe_with_images(
    here: &Here,
    containers: &Containers<'_>,
    project: &Project,
) -> anyhow::Result<Observed> {
    let images: BTreeSet<String> = project
        .services
        .iter()
        .map(|(name, service)| service.image_name(&project.name, name))
        .collect();
    Ok(observe::observe(containers, &here.networks, &project.name, &images)?)
}

impl UpArgs {
    /// What makes as many containers as these say, `SERVICE=NUMBER`, and leaves them running.
    pub(crate) fn scaling(scale: Vec<String>, services: Vec<String>, no_deps: bool) -> UpArgs {
        let create = CreateArgs { scale, ..CreateArgs::default() };
        UpArgs { create, detach: true, no_deps, services, ..UpArgs::default() }
    }

    /// What is done before files are watched.
    pub(crate) fn before_watching(services: Vec<String>, quiet_build: bool) -> UpArgs {
        UpArgs { detach: true, services, quiet_build, ..UpArgs::default() }
    }

    /// What is watched; something must be.
    fn rules(&self, project: &Project) -> anyhow::Result<Rules> {
        let rules = watch::rules(project)?;
        if rules.is_empty() {
            bail!(
                "none of the selected services is configured for watch, see \
                 https://docs.docker.com/compose/how-tos/file-watch/"
            );
        }
        Ok(rules)
    }

    /// Refuses what does not go together; whether what containers print is shown.
    fn check(&self) -> anyhow::Result<bool> {
        let stays = self.attached.stays().or(self.watch.then_some("--watch"));
        if let Some(flag) = stays
            && (self.detach || self.wait)
        {
            let other = if self.detach { "--detach" } else { "--wait" };
            bail!("{other} cannot be combined with {flag}");
        }
        if self.watch && self.create.no_build {
            bail!("--no-build and --watch are incompatible");
        }
        Ok(!self.detach && !self.wait && !self.no_start)
    }

    /// The project, with as many containers of each service as the flags say.
    fn project(&self, globals: &Globals) -> anyhow::Result<Project> {
        let (mut project, places) = home::load_with_places(globals, &self.services)?;
        if self.no_deps {
            project.select_alone(&self.services)?;
        }
        for given in &self.create.scale {
            let (name, number) = given.split_once('=').with_context(|| {
                format!("invalid --scale option {given:?}: write SERVICE=NUMBER")
            })?;
            let number: i64 = number.parse().ok().with_context(|| {
                format!("invalid --scale option {given:?}: {number:?} is no number")
            })?;
            if number < 0 {
                bail!(
                    "invalid --scale option {given:?}: a service cannot have {number} containers"
                );
            }
            let Some(service) = project.services.get_mut(name) else {
                bail!("no such service: {name}");
            };
            if number > 1 && !service.container_name.is_empty() {
                bail!(
                    "service {name:?} has the container_name {:?}, which only one container can have: it cannot be scaled \
                     to {number}",
                    service.container_name
                );
            }
            service.scale = Some(number);
        }
        places.check(&project)?;
        Ok(project)
    }

    fn wishes(&self) -> Up {
        let recreate = match (self.create.force_recreate, self.create.no_recreate) {
            (true, _) => Recreate::Always,
            (_, true) => Recreate::Never,
            _ => Recreate::Diverged,
        };
        let recreate_dependencies = match (self.always_recreate_deps, self.create.no_recreate) {
            (true, _) => Recreate::Always,
            (_, true) => Recreate::Never,
            _ => Recreate::Diverged,
        };
        let pull = self.create.pull.clone().filter(|when| when != "policy");
        Up {
            named: self.services.clone(),
            recreate,
            recreate_dependencies,
            no_start: self.no_start,
            images: Wishes {
                build: self.create.build || pull.as_deref() == Some("build"),
                no_build: self.create.no_build,
                pull,
            },
            remove_orphans: self.create.remove_orphans || is_set("COMPOSE_REMOVE_ORPHANS"),
            ignore_orphans: is_set("COMPOSE_IGNORE_ORPHANS"),
            wait: self.wait,
            one_off: None,
        }
    }
}

/// Whether a variable says yes.
pub(crate) fn is_set(name: &str) -> bool {
    let value = std::env::var(name).unwrap_or_default();
    matches!(value.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes" | "on")
}
