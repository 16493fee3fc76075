//! What is done to containers that are there: `start`, `stop`, `restart`, `kill`, `rm`, `pause`, `unpause`.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use compose::Project;
use compose::observe::{Instance, Observed};
use compose::plan::Plan;
use compose::restart::{self, Which};
use compose::teardown;
use engine::containers::protocol::Request;
use engine::containers::{Client, Status, signal};

use crate::args::Globals;
use crate::down::Change;
use crate::home::{self, Here};
use crate::interrupt::Interrupt;
use crate::turn::Turn;
use crate::ui;

/// What `start` is told.
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Wait until the services run and are healthy
    #[arg(long)]
    wait: bool,
    /// How many seconds to wait at most
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// What `stop` is told.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Seconds that containers have to end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// What `restart` is told.
#[derive(Args, Debug)]
pub(crate) struct RestartArgs {
    /// Leave alone what is to be restarted with the services
    #[arg(long)]
    no_deps: bool,
    /// Seconds that containers have to end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// What `kill` is told.
#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// The signal
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// Containers of services that the project does not have as well
    #[arg(long)]
    remove_orphans: bool,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// What `rm` is told.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Stop those that run, first
    #[arg(short, long)]
    stop: bool,
    /// Remove volumes without a name as well
    #[arg(short, long)]
    volumes: bool,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// What verbs are told that only take services.
#[derive(Args, Debug)]
pub(crate) struct NamesArgs {
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// A project as it is, to be changed.
struct Found {
    here: Here,
    project: Option<Project>,
    name: String,
    observed: Observed,
    interrupt: Interrupt,
    /// Held by what does more than to send signals.
    turn: Option<Turn>,
    /// When waiting for containers has taken too long, and how many seconds that is.
    deadline: Option<(Instant, u64)>,
}

impl Found {
    /// A project that is changed when it is this one's turn.
    fn in_turn(globals: &Globals, services: &[String]) -> anyhow::Result<Found> {
        let mut found = Found::open(globals)?;
        if !globals.dry_run {
            found.take_turn()?;
        }
        found.look(services)?;
        Ok(found)
    }

    fn open(globals: &Globals) -> anyhow::Result<Found> {
        let (project, name) = home::project_or_name(globals, &[])?;
        let interrupt = Interrupt::take()?;
        let here = Here::open(globals, "change containers")?;
        let observed = Observed::default();
        Ok(Found { here, project, name, observed, interrupt, turn: None, deadline: None })
    }

    fn take_turn(&mut self) -> anyhow::Result<()> {
        self.turn = Some(Turn::take(&self.here, &self.name, &self.interrupt)?);
        Ok(())
    }

    fn look(&mut self, services: &[String]) -> anyhow::Result<()> {
        self.observed = home::observe(&self.here, &self.here.containers()?, &self.name)?;
        home::check_services(self.project.as_ref(), &self.observed, services)
    }

    /// Carries out what a plan says, or only says it.
    fn carry_out(
        self,
        globals: &Globals,
        verb: &'static str,
        plan: &Plan,
        timeout: Option<i64>,
    ) -> anyhow::Result<ExitCode> {
        if globals.dry_run {
            ui::raw(plan.to_string());
            return Ok(ExitCode::SUCCESS);
        }
        let Found { here, project, name, observed, interrupt, turn, deadline } = self;
        let project = home::nameless(project, &name);
        let change = Change {
            globals,
            here: &here,
            project: &project,
            observed: &observed,
            interrupt: &interrupt,
            verb,
            timeout,
            deadline,
            hurry: None,
        };
        change.carry_out(plan, turn)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether a verb means a container, by the services that are named.
fn is_of(project: Option<&Project>, services: &[String]) -> impl Fn(&Instance) -> bool {
    move |instance| {
        !instance.is_one_off() && teardown::is_meant(project, services, instance.service())
    }
}

/// Starts.
pub(crate) fn start(globals: &Globals, args: &StartArgs) -> anyhow::Result<ExitCode> {
    let mut found = Found::in_turn(globals, &args.services)?;
    for name in &args.services {
        if found.observed.of_service(name).next().is_none() {
            bail!("service {name:?} has no container to start: make it with: rcompose up {name}");
        }
    }
    let plan = restart::start(found.project.as_ref(), &found.observed, &args.services, args.wait)?;
    found.deadline = args.wait_timeout.map(|it| (Instant::now() + Duration::from_secs(it), it));
    found.carry_out(globals, "start", &plan, None)
}

/// Stops.
pub(crate) fn stop(globals: &Globals, args: &StopArgs) -> anyhow::Result<ExitCode> {
    let found = Found::in_turn(globals, &args.services)?;
    let (project, cause) = (found.project.as_ref(), "it was asked for");
    let plan = teardown::stop(project, &found.observed, is_of(project, &args.services), cause);
    found.carry_out(globals, "stop", &plan, args.timeout)
}

/// Stops and starts again, with what is to be restarted with it.
pub(crate) fn restart(globals: &Globals, args: &RestartArgs) -> anyhow::Result<ExitCode> {
    let found = Found::in_turn(globals, &args.services)?;
    let which = match args.no_deps {
        true => Which::Only(&args.services),
        false => Which::WithDependents(&args.services),
    };
    let plan = restart::restart(found.project.as_ref(), &found.observed, which)?;
    found.carry_out(globals, "restart", &plan, args.timeout)
}

/// Removes.
pub(crate) fn rm(globals: &Globals, args: &RmArgs) -> anyhow::Result<ExitCode> {
    let mut found = Found::open(globals)?;
    let asks = !args.force && !globals.dry_run;
    if args.force && !globals.dry_run {
        found.take_turn()?;
    }
    found.look(&args.services)?;
    let project = found.project.clone();
    let chosen = is_of(project.as_ref(), &args.services);
    let plan = |found: &Found, chosen: &dyn Fn(&Instance) -> bool| {
        let (project, observed) = (found.project.as_ref(), &found.observed);
        teardown::remove(project, observed, chosen, args.stop, args.volumes)
    };
    let mut removal = plan(&found, &chosen);
    if removal.is_empty() {
        ui::note("No stopped containers");
        return Ok(ExitCode::SUCCESS);
    }
    let names = found.observed.containers.iter().filter(|it| chosen(it));
    let names = names.filter(|it| args.stop || !it.is_active());
    let names: Vec<String> = names.map(|it| it.name().to_owned()).collect();
    if asks {
        if !confirmed(&names)? {
            return Ok(ExitCode::SUCCESS);
        }
        // Nobody waited for the answer: there may be others by now.
        found.take_turn()?;
        found.look(&args.services)?;
        removal = plan(&found, &|it| chosen(it) && names.iter().any(|name| name == it.name()));
    }
    found.carry_out(globals, "rm", &removal, None)
}

/// Asks whether containers are really to be removed.
fn confirmed(names: &[String]) -> anyhow::Result<bool> {
    ui::screen(format!("? Going to remove {} [yN] ", names.join(", ")));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Sends a signal.
pub(crate) fn kill(globals: &Globals, args: &KillArgs) -> anyhow::Result<ExitCode> {
    let Some(number) = signal::number(&args.signal) else {
        bail!("invalid signal {:?}", args.signal);
    };
    let is_kill = number == signal::number("KILL").unwrap_or_default();
    let is_meant = |project: Option<&Project>, instance: &Instance| {
        let everywhere = args.remove_orphans && args.services.is_empty();
        everywhere || teardown::is_meant(project, &args.services, instance.service())
    };
    each(
        globals,
        &args.services,
        &is_meant,
        &[Status::Running, Status::Restarting, Status::Paused],
        ("kill", ["Killing", "Killed"]),
        |containers, instance| {
            let id = instance.id();
            if let Some(mut client) =
                Client::connect(containers, id, Request::Kill { signal: number })?
            {
                client.done()?;
            }
            if is_kill && let Some(mut client) = Client::connect(containers, id, Request::Wait)? {
                client.exit()?;
            }
            Ok(())
        },
    )
}

/// Freezes.
pub(crate) fn pause(globals: &Globals, args: &NamesArgs) -> anyhow::Result<ExitCode> {
    ask(globals, &args.services, Status::Running, ("pause", ["Pausing", "Paused"]), &Request::Pause)
}

/// Lets go on.
pub(crate) fn unpause(globals: &Globals, args: &NamesArgs) -> anyhow::Result<ExitCode> {
    ask(
        globals,
        &args.services,
        Status::Paused,
        ("unpause", ["Unpausing", "Unpaused"]),
        &Request::Unpause,
    )
}

fn ask(
    globals: &Globals,
    services: &[String],
    status: Status,
    words: (&'static str, [&str; 2]),
    request: &Request,
) -> anyhow::Result<ExitCode> {
    let is_meant =
        |project: Option<&Project>, instance: &Instance| is_of(project, services)(instance);
    each(globals, services, &is_meant, &[status], words, |containers, instance| {
        if let Some(mut client) = Client::connect(containers, instance.id(), request.clone())? {
            client.done()?;
        }
        Ok(())
    })
}

/// Does something to each container that is meant and in one of these states.
fn each(
    globals: &Globals,
    services: &[String],
    is_meant: &dyn Fn(Option<&Project>, &Instance) -> bool,
    statuses: &[Status],
    (verb, [begins, ends]): (&'static str, [&str; 2]),
    work: impl Fn(&engine::containers::Containers<'_>, &Instance) -> engine::containers::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut found = Found::open(globals)?;
    found.look(services)?;
    let containers = found.here.containers()?;
    let project = found.project.as_ref();
    let chosen = found.observed.containers.iter().filter(|it| is_meant(project, it));
    let progress = crate::progress::Progress::new(&globals.progress, verb);
    let tell = |name: &str, what: &str, done| {
        let (kind, cause) = ("Container", "");
        progress.event(&compose::apply::Event::Progress { kind, name, what, cause, done });
    };
    let mut failed = None;
    let mut chosen = chosen.filter(|it| statuses.contains(&it.state.status)).peekable();
    if verb == "kill" && chosen.peek().is_none() {
        ui::note("No container to kill");
    }
    for instance in chosen {
        if globals.dry_run {
            ui::line(format_args!("Container {}: {begins}", instance.name()));
            continue;
        }
        tell(instance.name(), begins, false);
        match work(&containers, instance) {
            Ok(()) => tell(instance.name(), ends, true),
            Err(error) => {
                let error =
                    anyhow::Error::new(error).context(format!("container {}", instance.name()));
                ui::note(frontend::shown::escaped(&format!("{error:#}")));
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}
