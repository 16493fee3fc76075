//! `run`: a container of a service for one command, with what the service depends on.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgAction, Args, Subcommand};
use compose::apply::{self, Apply, Cancel, Commands, Event, Turn as _};
use compose::failure::Failure;
use compose::images::Wishes;
use compose::make::{self, files, labels};
use compose::model::Service;
use compose::observe::Observed;
use compose::one_off::{self, Changes};
use compose::reconcile::{self, Up};
use compose::{Project, load};
use engine::containers::create::create;
use engine::containers::{Containers, Record, Status, ensure_running};

use crate::args::Globals;
use crate::commands::{Rbuild, rbuild, turn_into};
use crate::home::{self, Here};
use crate::interrupt::{Interrupt, News};
use crate::progress::Progress;
use crate::turn::{Turn, Yielding};
use crate::ui;
use crate::up;

/// How often it is looked whether a container runs whose hooks are waiting.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What `run` and `exec` are told of the process that they start.
#[derive(Args, Debug)]
pub(crate) struct ProcessArgs {
    /// Give it no terminal
    #[arg(short = 'T', long = "no-TTY", alias = "no-tty")]
    no_tty: bool,
    /// Leave it running in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keep its input open
    #[arg(short, long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) interactive: bool,
    /// Kept for docker compose's sake: it has a terminal where there is one
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Set a variable, or take it over from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// The user it runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
}

impl ProcessArgs {
    /// Whether it is given a terminal: where somebody sits before it.
    pub(crate) fn has_terminal(&self) -> bool {
        let is_terminal = || std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        !self.detach && !self.no_tty && is_terminal()
    }

    /// Whether it is given our input.
    pub(crate) fn has_input(&self) -> bool {
        !self.detach && self.interactive
    }
}

/// What `run` is told.
#[derive(Args, Debug)]
#[command(
    disable_help_subcommand = true,
    args_override_self = true,
    override_usage = "rcompose run [OPTIONS] SERVICE [COMMAND] [ARGS...]"
)]
pub(crate) struct RunArgs {
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    process: ProcessArgs,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_from_file: Vec<PathBuf>,
    /// Mount a volume or a folder
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Publish a port
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish the service's ports
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Leave alone what the service depends on
    #[arg(long)]
    no_deps: bool,
    /// The program
    #[arg(long, value_name = "WORDS")]
    entrypoint: Option<String>,
    /// The container's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Have it known in its networks by the service's names
    #[arg(long)]
    use_aliases: bool,
    /// Build the image before
    #[arg(long)]
    build: bool,
    /// Say something about it
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Give it a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability from it
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Show nothing but what it prints
    #[arg(short, long)]
    quiet: bool,
    /// Show nothing of builds
    #[arg(long)]
    quiet_build: bool,
    /// Kept for docker compose's sake: downloads show no progress of their own
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers of services that the project does not have
    #[arg(long)]
    remove_orphans: bool,
    /// Ask registries for the image: always, missing or never
    #[arg(long, value_name = "WHEN", value_parser = ["always", "missing", "never", "build", "policy"])]
    pull: Option<String>,
    #[command(subcommand)]
    words: Option<Words>,
}

/// The service, the command and its arguments. To the parser they are a verb that it does not know: behind one nothing
/// is an option of ours.
#[derive(Debug, Subcommand)]
pub(crate) enum Words {
    /// The service and what follows it.
    #[command(external_subcommand)]
    Service(Vec<String>),
}

impl Words {
    /// All of them, of which there must be so many.
    pub(crate) fn at_least(words: Option<&Self>, least: usize) -> anyhow::Result<&[String]> {
        let words = words.map(|Words::Service(words)| words.as_slice()).unwrap_or_default();
        if words.len() < least {
            bail!("requires at least {least} arg(s), only received {}", words.len());
        }
        Ok(words)
    }
}

/// Runs.
pub(crate) fn run(globals: &Globals, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let [name, command @ ..] = Words::at_least(args.words.as_ref(), 1)? else {
        bail!("no service is named");
    };
    if args.service_ports && !args.publish.is_empty() {
        bail!("--service-ports and --publish are incompatible");
    }
    let project = args.project(globals, name)?;
    let slug = engine::containers::exec::new_id().context("cannot read random bytes")?;
    let service = project.services[name].clone();
    let mut work = OneOff { globals, args, name, service, project };
    let mut changed = work.project.clone();
    let changes = args.changes(&work.project, name, command, &slug)?;
    let mut warnings = load::Warnings::new();
    one_off::change(&mut changed, &mut work.service, &changes, &mut warnings)?;
    warnings.iter().for_each(ui::warn);
    let interrupt = if globals.dry_run { None } else { Some(Interrupt::take()?) };
    let here = Here::open(globals, "run containers")?;
    let containers = here.containers()?;
    let Some(interrupt) = interrupt else { return work.show(&here) };
    let turn = Turn::take(&here, &work.project.name, &interrupt)?;
    let (cancel, project) = (Cancel::new()?, work.project.name.clone());
    let turn = Yielding::new(&here, &project, &cancel, turn);
    work.prepare(&here, &interrupt, &cancel, &turn)?;
    turn.take()?;
    // Volumes of the command line alone are no part of the project, and are made as they are used.
    work.project.volumes = changed.volumes;
    let observed = home::observe(&here, &containers, &work.project.name)?;
    let record = work.create(&containers, &observed, &slug)?;
    drop(observed);
    drop(turn);
    match (args.process.detach, work.service.post_start.is_empty()) {
        (true, _) => work.start(&here, &containers, &record),
        (false, true) => turn_into(work.attach(&record)),
        (false, false) => work.attend(&containers, &record, &interrupt),
    }
}

/// A container under way.
struct OneOff<'a> {
    globals: &'a Globals,
    args: &'a RunArgs,
    name: &'a str,
    /// The service as it is run.
    service: Service,
    project: Project,
}

impl RunArgs {
    /// The project with the service and what it depends on.
    fn project(&self, globals: &Globals, name: &str) -> anyhow::Result<Project> {
        let named = [name.to_owned()];
        let (mut project, places) = home::load_with_places(globals, &named)?;
        if self.no_deps {
            project.select_alone(&named)?;
            project.drop_unused();
        }
        places.check(&project)?;
        if let Some(when) = self.pull.as_ref().filter(|when| *when != "policy")
            && let Some(service) = project.services.get_mut(name)
        {
            service.pull_policy.clone_from(when);
        }
        Ok(project)
    }

    fn changes(
        &self,
        project: &Project,
        name: &str,
        command: &[String],
        slug: &str,
    ) -> anyhow::Result<Changes> {
        let process = &self.process;
        let made_up = || format!("{}-{name}-run-{}", project.name, &slug[..12]);
        Ok(Changes {
            name: self.name.clone().unwrap_or_else(made_up),
            command: command.to_vec(),
            entrypoint: self.entrypoint.clone(),
            environment: process.env.clone(),
            env_files: self.env_from_file.clone(),
            labels: self.label.clone(),
            volumes: self.volume.clone(),
            service_ports: self.service_ports,
            publish: self.publish.clone(),
            user: process.user.clone(),
            working_dir: process.workdir.clone(),
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            tty: (!process.detach).then(|| process.has_terminal()),
            stdin_open: (!process.detach).then_some(process.interactive),
            current_dir: crate::paths::current_dir()?,
        })
    }

    fn wishes(&self, name: &str) -> Up {
        Up {
            named: vec![name.to_owned()],
            images: Wishes { build: self.build, ..Wishes::default() },
            remove_orphans: self.remove_orphans || up::is_set("COMPOSE_REMOVE_ORPHANS"),
            ignore_orphans: up::is_set("COMPOSE_IGNORE_ORPHANS"),
            one_off: Some(name.to_owned()),
            ..Up::default()
        }
    }
}

impl OneOff<'_> {
    fn progress(&self) -> Progress {
        Progress::new(if self.args.quiet { "quiet" } else { &self.globals.progress }, "run")
    }

    /// Says what would be done.
    fn show(&self, here: &Here) -> anyhow::Result<ExitCode> {
        let observed = up::observe_with_images(here, &here.containers()?, &self.project)?;
        let reconciled = reconcile::up(&self.project, &observed, &self.args.wishes(self.name))?;
        reconciled.warnings.iter().for_each(ui::warn);
        ui::raw(reconciled.plan.to_string());
        ui::line(format_args!("     Container {}: create and run", self.service.container_name));
        Ok(ExitCode::SUCCESS)
    }

    /// Has the image, the networks and the volumes there, and what the service depends on running.
    fn prepare(
        &self,
        here: &Here,
        interrupt: &Interrupt,
        cancel: &Cancel,
        turn: &Yielding<'_>,
    ) -> anyhow::Result<()> {
        let project = &self.project;
        let wishes = self.args.wishes(self.name);
        let containers = here.containers()?;
        let observed = up::observe_with_images(here, &containers, project)?;
        let reconciled = reconcile::up(project, &observed, &wishes)?;
        reconciled.warnings.iter().for_each(ui::warn);
        let commands = self.commands(cancel);
        let progress = self.progress();
        let listener = |event: Event<'_>| progress.event(&event);
        for name in &reconciled.kept {
            listener(up::kept(name));
        }
        let work = Apply {
            wishes,
            turn: Some(turn),
            ..commands.work(here, &containers, &observed, &listener)
        };
        Ok(interrupt.during(cancel, || apply::apply(&work, &reconciled.plan))?)
    }

    fn commands<'a>(&'a self, cancel: &'a Cancel) -> Rbuild<'a> {
        Rbuild {
            globals: self.globals,
            project: &self.project,
            cancel,
            quiet_build: self.args.quiet_build || self.args.quiet,
            build: None,
        }
    }

    /// Makes the container.
    fn create(
        &self,
        containers: &Containers<'_>,
        observed: &Observed,
        slug: &str,
    ) -> anyhow::Result<Record> {
        let (project, args) = (&self.project, self.args);
        let failed = |source| Failure::Make { service: self.name.to_owned(), source };
        let image = project.services[self.name].image_name(&project.name, self.name);
        let image = engine::images::image(containers.store, &image).map_err(Failure::from)?;
        let folder = files::folder(containers.store.root(), &project.name);
        let container = make::Container {
            project,
            service_name: self.name,
            service: &self.service,
            number: 1,
            image: &image.id().to_string(),
            others: &observed.ids(),
            previous: None,
            files: &folder,
            one_off: true,
        };
        let mut request = make::request(&container).map_err(failed)?;
        make::networks::publish(self.name, &mut request, &self.service.ports).map_err(failed)?;
        if args.use_aliases {
            make::networks::use_aliases(&container, &mut request);
        }
        let is_given_input = args.process.has_input();
        request.config.attach_stdin = is_given_input;
        request.config.stdin_once = is_given_input;
        request.config.labels.insert(labels::SLUG.to_owned(), slug.to_owned());
        request.host_config.auto_remove = args.rm;
        if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
            && request.config.tty
        {
            request.host_config.console_size = [size.ws_row, size.ws_col];
        }
        let progress = self.progress();
        let name = self.service.container_name.as_str();
        let tell = |what, done| {
            progress.event(&Event::Progress { kind: "Container", name, what, cause: "", done });
        };
        tell("Creating", false);
        let written = files::files(project, &self.service, &folder).map_err(failed)?;
        files::write(&written).map_err(failed)?;
        let record = create(containers, &image, request)?;
        tell("Created", true);
        Ok(record)
    }

    /// Starts it and leaves it alone.
    fn start(
        &self,
        here: &Here,
        containers: &Containers<'_>,
        record: &Record,
    ) -> anyhow::Result<ExitCode> {
        if let Err(error) = ensure_running(containers, &record.id, &here.networks) {
            if record.host_config.auto_remove {
                // The monitor may have done it already.
                let _ = containers.remove(&record.id);
            }
            return Err(error.into());
        }
        self.run_hooks(record)?;
        ui::line(&record.id);
        Ok(ExitCode::SUCCESS)
    }

    /// The command that starts it and stays with it.
    fn attach(&self, record: &Record) -> Command {
        let mut command = rbuild(self.globals);
        command.args(["start", "--attach"]);
        if record.config.open_stdin && self.args.process.interactive {
            command.arg("--interactive");
        }
        command.arg(&record.id);
        command
    }

    /// Starts it, runs the service's hooks when it runs, and stays with it.
    fn attend(
        &self,
        containers: &Containers<'_>,
        record: &Record,
        interrupt: &Interrupt,
    ) -> anyhow::Result<ExitCode> {
        let mut child = self.attach(record).spawn().context("cannot start rbuild")?;
        let hooks = match self.is_started(containers, record, &mut child)? {
            true => self.run_hooks(record),
            false => Ok(()),
        };
        if hooks.is_err() {
            let _ = engine::containers::stop(containers, &record.id, None, None);
        }
        let process = rustix::process::Pid::from_child(&child);
        let sender = interrupt.sender();
        let waiting = std::thread::spawn(move || {
            let status = child.wait();
            let _ = sender.send(News::Done);
            status
        });
        // Ctrl-C comes to the child by itself.
        loop {
            match interrupt.next() {
                News::Signal(signal) if signal != engine::signals::INTERRUPT => {
                    let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
                }
                News::Done => break,
                _ => {}
            }
        }
        let status =
            waiting.join().expect("waiting does not panic").context("cannot wait for rbuild")?;
        hooks?;
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Waits until the container runs; whether it does, before whoever starts it has ended.
    fn is_started(
        &self,
        containers: &Containers<'_>,
        record: &Record,
        child: &mut Child,
    ) -> anyhow::Result<bool> {
        loop {
            let state = containers.observe(&record.id).map(|observed| observed.state.status);
            match state {
                Ok(Status::Running) => return Ok(true),
                Ok(Status::Created) => {}
                _ => return Ok(false),
            }
            if child.try_wait().context("cannot wait for rbuild")?.is_some() {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn run_hooks(&self, record: &Record) -> anyhow::Result<()> {
        let cancel = Cancel::new()?;
        let commands = self.commands(&cancel);
        for hook in &self.service.post_start {
            let code = commands.hook(&record.id, hook)?;
            if code != 0 {
                let name = record.name.clone();
                return Err(Failure::Hook { hook: "post_start", name, code }.into());
            }
        }
        Ok(())
    }
}
