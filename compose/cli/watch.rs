//! `watch`: containers follow the files of their sources, as `develop.watch` says.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, mpsc};

use anyhow::{Context, bail};
use clap::{ArgAction, Args};
use compose::Project;
use compose::apply::{self, Apply, Cancel, Commands, Event};
use compose::failure::Failure;
use compose::images::{self, Wishes};
use compose::make::labels;
use compose::observe::{Instance, Observed};
use compose::plan::Plan;
use compose::reconcile::{self, Recreate, Up};
use compose::restart::{self, Which};
use compose::watch::tree::Tree;
use compose::watch::{Batch, Mapping, Rules, sync};
use engine::containers::Containers;

use crate::args::Globals;
use crate::commands::{self, Rbuild};
use crate::home::{self, Here};
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::progress::Progress;
use crate::turn::{Turn, Yielding};
use crate::ui;
use crate::up::{self, UpArgs};

/// As many changes at once are worth a word.
const MANY: usize = 1000;

/// What `watch` is told.
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// Build and start nothing before watching
    #[arg(long)]
    no_up: bool,
    /// Remove images that builds leave without a name
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    prune: bool,
    /// Show nothing of builds
    #[arg(long)]
    quiet: bool,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// What follows the files of a project's services.
pub(crate) struct Watcher<'a> {
    pub(crate) globals: &'a Globals,
    pub(crate) project: &'a Project,
    pub(crate) rules: &'a Rules,
    /// Ends it.
    pub(crate) cancel: &'a Cancel,
    /// Whether images that builds leave without a name are removed.
    pub(crate) prune: bool,
    /// Whether builds print nothing.
    pub(crate) quiet: bool,
    /// Who hears what is done to containers.
    pub(crate) listener: &'a (dyn Fn(&Event<'_>) + Sync),
    /// Who hears what is done about changes.
    pub(crate) say: &'a (dyn Fn(&str) + Sync),
    /// Hears when that is done.
    pub(crate) settled: &'a (dyn Fn() + Sync),
    /// Held while something is done about changes.
    pub(crate) busy: Mutex<()>,
}

/// Watches.
pub(crate) fn watch(globals: &Globals, args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let (project, places) = home::load_with_places(globals, &args.services)?;
    places.check(&project)?;
    let rules = rules(&project)?;
    if rules.is_empty() {
        bail!(
            "none of the selected services is configured for watch, consider setting a 'develop' section"
        );
    }
    if globals.dry_run {
        for root in rules.roots() {
            ui::line(format_args!("watch {}", root.display()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = Interrupt::take()?;
    let _alone = alone(globals, &project.name)?;
    if !args.no_up {
        let mut built = project.clone();
        for service in built.services.values_mut() {
            if service.build.is_some() && service.develop.is_some() {
                service.pull_policy = "build".to_owned();
            }
        }
        let up = UpArgs::before_watching(args.services.clone(), args.quiet);
        let wishes = Up {
            named: args.services.clone(),
            recreate_dependencies: Recreate::Never,
            ..Up::default()
        };
        up::carry_out(globals, &up, &built, &wishes, &interrupt, None)?;
    }
    let cancel = Cancel::new()?;
    let watcher = Watcher {
        globals,
        project: &project,
        rules: &rules,
        cancel: &cancel,
        prune: args.prune,
        quiet: args.quiet,
        listener: &|_| {},
        say: &|text| ui::line(text),
        settled: &|| {},
        busy: Mutex::default(),
    };
    // It goes on until somebody wants it to end.
    match interrupt.during(&cancel, || watcher.run()) {
        Err(error) if !matches!(error.downcast_ref(), Some(Failure::Interrupted)) => Err(error),
        _ => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// Refuses to watch a project twice. A name of the kernel's, not of a file: it goes with us, however we end.
fn alone(globals: &Globals, project: &str) -> anyhow::Result<UnixListener> {
    let here = Here::open(globals, "change containers")?;
    let root = here.store.root().metadata().context("cannot look at the store")?;
    let name = format!("rcompose/watch/{}:{}/{project}", root.dev(), root.ino());
    // unix(7) has room for 107 bytes.
    let name = &name.as_bytes()[..name.len().min(107)];
    let address = SocketAddr::from_abstract_name(name)?;
    match UnixListener::bind_addr(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "cannot take exclusive lock for project {project:?}: another rcompose watches it; end that one first"
        ),
        bound => {
            bound.with_context(|| format!("cannot take exclusive lock for project {project:?}"))
        }
    }
}

/// What is watched of a project.
pub(crate) fn rules(project: &Project) -> anyhow::Result<Rules> {
    let rules = Rules::of(project)?;
    rules.warnings.iter().for_each(ui::warn);
    Ok(rules)
}

impl Watcher<'_> {
    /// Ends it; when this returns, nothing is done any more.
    pub(crate) fn halt(&self) {
        self.cancel.cancel();
        drop(self.busy.lock());
    }

    /// Whether something is done about changes now.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.try_lock().is_err()
    }

    /// Follows until somebody wants it to end.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let here = Here::open(self.globals, "change containers")?;
        let enters = |dir: &std::path::Path| self.rules.enters(dir);
        // Before anything is copied: what changes meanwhile is not missed.
        let mut tree = Tree::watch(self.rules.roots(), &enters)?;
        // Directories that are there are left as they are.
        let is_file = |path: &&PathBuf| !path.symlink_metadata().is_ok_and(|it| it.is_dir());
        for (service, mappings) in self.rules.initial(tree.known().iter().filter(is_file)) {
            self.sync(&here, &service, &mappings)?;
        }
        (self.say)("Watch enabled");
        let (sender, changes) = mpsc::channel::<BTreeSet<PathBuf>>();
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || -> anyhow::Result<()> {
                while let Some(changed) = tree.next(self.cancel)? {
                    if sender.send(changed).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            while let Ok(mut changed) = changes.recv() {
                // What has changed while something was done is done at once.
                changes.try_iter().for_each(|more| changed.extend(more));
                let busy = self.busy.lock().expect("no holder panics");
                if self.cancel.is_canceled() {
                    continue;
                }
                if changed.len() > MANY {
                    (self.say)(
                        "Large batch of file changes detected. If you just switched branches, this is expected.",
                    );
                }
                let done = self.carry_out(&here, &self.rules.batch(&changed));
                if let Err(error) = done
                    && !self.cancel.is_canceled()
                {
                    ui::warn(format_args!("Error handling changed files: {error:#}"));
                }
                drop(busy);
                (self.settled)();
            }
            reading.join().expect("reading does not panic")
        })
    }

    /// Does what is to be done about changes.
    fn carry_out(&self, here: &Here, batch: &Batch) -> anyhow::Result<()> {
        if !batch.rebuild.is_empty() {
            self.rebuild(here, &batch.rebuild)?;
        }
        for (service, mappings) in &batch.sync {
            let count = mappings.len();
            (self.say)(&format!("Syncing service {service:?} after {count} changes were detected"));
            self.sync(here, service, mappings)?;
        }
        if !batch.restart.is_empty() {
            let turn = Turn::unless(here, &self.project.name, self.cancel)?;
            let containers = here.containers()?;
            let observed = home::observe(here, &containers, &self.project.name)?;
            let names: Vec<String> = batch.restart.iter().cloned().collect();
            let which = Which::WithDependents(&names);
            let plan = restart::restart(Some(self.project), &observed, which)?;
            let wishes = Up::default();
            self.apply(here, self.project, &observed, &wishes, &plan, Some(turn))?;
            (self.say)(&format!("service(s) {} restarted", listed(&batch.restart)));
        }
        for (service, hook) in &batch.exec {
            let commands = self.commands(self.project);
            for instance in self.instances(here, service)?.iter().filter(|it| it.is_running()) {
                let code = commands.hook(instance.id(), hook)?;
                if code != 0 {
                    bail!("container {}: exec: exit status {code}", instance.name());
                }
            }
        }
        Ok(())
    }

    /// Brings files of a service's containers up to date: all are tried, the first failure is told.
    fn sync(&self, here: &Here, service: &str, mappings: &BTreeSet<Mapping>) -> anyhow::Result<()> {
        let containers = here.containers()?;
        let mut failed = None;
        for instance in self.instances(here, service)? {
            if let Err(error) = sync::sync(&containers, &instance.record, mappings) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn instances(&self, here: &Here, service: &str) -> anyhow::Result<Vec<Instance>> {
        let observed = home::observe(here, &here.containers()?, &self.project.name)?;
        Ok(observed.of_service(service).cloned().collect())
    }

    /// Builds services and gives them new containers.
    fn rebuild(&self, here: &Here, services: &BTreeSet<String>) -> anyhow::Result<()> {
        let names = listed(services);
        (self.say)(&format!("Rebuilding service(s) {names} after changes were detected..."));
        let containers = here.containers()?;
        let built = self.build(here, services);
        if let Err(error) = built {
            (self.say)(&format!("Build failed. Error: {error:#}"));
            return Err(error);
        }
        (self.say)(&format!("service(s) {names} successfully built"));
        let recreated = self.recreate(here, &containers, services);
        if let Err(error) = recreated {
            (self.say)(&format!("Failed to recreate services after update. Error: {error:#}"));
            return Err(error);
        }
        if self.prune {
            self.remove_dangling()?;
        }
        Ok(())
    }

    /// Builds services, and those whose images theirs are made on.
    fn build(&self, here: &Here, services: &BTreeSet<String>) -> anyhow::Result<()> {
        let mut project = self.project.clone();
        let mut wanted = BTreeSet::new();
        let mut open: Vec<String> = services.iter().cloned().collect();
        while let Some(name) = open.pop() {
            let all = project.all_services();
            let build = all.get(name.as_str()).and_then(|service| service.build.as_ref());
            open.extend(build.into_iter().flat_map(images::built_on).map(str::to_owned));
            wanted.insert(name);
        }
        project.select_alone(&Vec::from_iter(wanted))?;
        project.services.retain(|_, service| service.build.is_some());
        let wishes = Wishes { build: true, ..Wishes::default() };
        let work = images::plan(&project, &Default::default(), &wishes)?;
        let mut plan = Plan::default();
        images::steps(&mut plan, &project, work.into_iter().filter(|work| work.build).collect());
        let observed = Observed::default();
        self.apply(here, &project, &observed, &Up::default(), &plan, None)
    }

    /// Gives services new containers of the images that there are now.
    fn recreate(
        &self,
        here: &Here,
        containers: &Containers<'_>,
        services: &BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let mut project = self.project.clone();
        let named: Vec<String> = services.iter().cloned().collect();
        project.select_alone(&named)?;
        for service in project.services.values_mut() {
            service.pull_policy = "never".to_owned();
        }
        let wishes = Up {
            named,
            recreate: Recreate::Always,
            ignore_orphans: true,
            images: Wishes { no_build: true, ..Wishes::default() },
            ..Up::default()
        };
        let turn = Turn::unless(here, &project.name, self.cancel)?;
        let observed = up::observe_with_images(here, containers, &project)?;
        let reconciled = reconcile::up(&project, &observed, &wishes)?;
        self.apply(here, &project, &observed, &wishes, &reconciled.plan, Some(turn))
    }

    /// Removes the project's images that have lost their names and that no container has.
    fn remove_dangling(&self) -> anyhow::Result<()> {
        let mut command = commands::rbuild(self.globals);
        let label = format!("label={}={}", labels::PROJECT, self.project.name);
        command.args(["image", "prune", "--force", "--filter", &label]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().context("cannot remove images that are not used")?;
        match status.success() {
            true => Ok(()),
            false => bail!("cannot remove images that are not used: {status}"),
        }
    }

    fn commands<'a>(&'a self, project: &'a Project) -> Rbuild<'a> {
        Rbuild {
            globals: self.globals,
            project,
            cancel: self.cancel,
            quiet_build: self.quiet,
            build: None,
        }
    }

    fn apply(
        &self,
        here: &Here,
        project: &Project,
        observed: &Observed,
        wishes: &Up,
        plan: &Plan,
        turn: Option<Turn>,
    ) -> anyhow::Result<()> {
        let containers = here.containers()?;
        let turn = turn.map(|turn| Yielding::new(here, &project.name, self.cancel, turn));
        let commands = self.commands(project);
        let progress = Progress::new(&self.globals.progress, "watch");
        let listener = |event: Event<'_>| {
            progress.event(&event);
            (self.listener)(&event);
        };
        let wishes = wishes.clone();
        let work = Apply {
            wishes,
            turn: turn.as_ref().map(|turn| turn as &dyn apply::Turn),
            ..commands.work(here, &containers, observed, &listener)
        };
        match apply::apply(&work, plan) {
            Err(Failure::Interrupted) => bail!("interrupted"),
            applied => Ok(applied?),
        }
    }
}

/// Services as docker compose lists them.
fn listed(services: &BTreeSet<String>) -> String {
    let names: Vec<String> = services.iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", names.join(" "))
}
