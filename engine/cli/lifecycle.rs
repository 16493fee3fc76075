//! What is done to containers one by one: start, stop, restart, kill, rm, wait, pause, unpause,
//! rename.
//!
//! Each takes several names; one that fails does not keep the others from being done.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use engine::containers::protocol::Request;
use engine::containers::{
    Client, Containers, Error, Removed, Status, ensure_running, remove, signal, start, stop,
};

use crate::attach::{self, Attachment, DETACH_KEYS};
use crate::error::Silent;
use crate::paths::{self, Home};
use crate::{reconcile, ui};

/// How long a container is removed by force that others start again and again.
const PERSEVERANCE: Duration = Duration::from_secs(5);

/// What `start` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct StartArgs {
    /// Show what it prints, and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Send it our input
    #[arg(short, long)]
    interactive: bool,
    /// The keys that leave the container alone
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// What `stop` and `restart` are told.
#[derive(Args)]
pub(crate) struct StopArgs {
    /// The signal to ask with
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds until it is killed; -1 is never
    #[arg(
        short = 't',
        long,
        visible_alias = "time",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    timeout: Option<i64>,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// What `kill` is told.
#[derive(Args)]
pub(crate) struct KillArgs {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// What `rm` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct RmArgs {
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    /// Remove their volumes without a name too
    #[arg(short, long)]
    volumes: bool,
    /// Kept for docker's sake
    #[arg(short, long, hide = true)]
    link: bool,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// What verbs are told that only take names.
#[derive(Args)]
pub(crate) struct NamesArgs {
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// What `rename` is told.
#[derive(Args)]
pub(crate) struct RenameArgs {
    /// The container
    container: String,
    /// Its new name
    name: String,
}

/// Does something for each name, prints what it returns if that is something, and goes on after a failure.
fn each(
    home: &Home,
    names: &[String],
    mut work: impl FnMut(&Containers<'_>, &str) -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let mut failed = false;
    for name in names {
        match work(&containers, name) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => ui::line(text),
            Err(error) => {
                ui::error(&error);
                failed = true;
            }
        }
    }
    if failed { Err(Silent(1).into()) } else { Ok(ExitCode::SUCCESS) }
}

/// Starts.
pub(crate) fn start_verb(home: &Home, args: &StartArgs) -> anyhow::Result<ExitCode> {
    if args.attach || args.interactive {
        return start_attached(home, args);
    }
    each(home, &args.containers, |containers, name| {
        reconcile::after_boot(containers);
        ensure_running(containers, &containers.find(name)?, &paths::network_dir())?;
        Ok(name.to_owned())
    })
}

fn start_attached(home: &Home, args: &StartArgs) -> anyhow::Result<ExitCode> {
    let [name] = args.containers.as_slice() else {
        anyhow::bail!("you cannot start and attach multiple containers at once");
    };
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let observed = containers.observe(&containers.find(name)?)?;
    let record = observed.record;
    let attachment = Attachment {
        stdin: args.interactive && record.config.open_stdin,
        shows: [true; 2],
        tty: record.config.tty,
        signals: true,
        detach: attach::keys(&args.detach_keys)?,
    };
    let signals = attachment.take_signals()?;
    let attach = |starter| Request::Attach { stdin: attachment.stdin, output: true, starter };
    // Who starts what runs only attaches to it, as with docker.
    let running = match observed.state.status {
        Status::Running => Client::connect(&containers, &record.id, attach(false))?,
        _ => None,
    };
    let client = match running {
        Some(client) => client,
        None => start(&containers, &record.id, &paths::network_dir(), attach(true))?,
    };
    attach::exit_code(attach::relay(client, &attachment, signals)?)
}

/// Stops.
pub(crate) fn stop_verb(home: &Home, args: &StopArgs) -> anyhow::Result<ExitCode> {
    let signal = args.signal.as_deref().map(number).transpose()?;
    each(home, &args.containers, |containers, name| {
        stop(containers, &containers.find(name)?, signal, args.timeout)?;
        Ok(name.to_owned())
    })
}

/// Starts again.
pub(crate) fn restart(home: &Home, args: &StopArgs) -> anyhow::Result<ExitCode> {
    let signal = args.signal.as_deref().map(number).transpose()?;
    each(home, &args.containers, |containers, name| {
        let id = containers.find(name)?;
        engine::containers::restart(containers, &id, &paths::network_dir(), signal, args.timeout)?;
        Ok(name.to_owned())
    })
}

/// Sends a signal.
pub(crate) fn kill(home: &Home, args: &KillArgs) -> anyhow::Result<ExitCode> {
    let signal = number(&args.signal)?;
    let request = Request::Kill { signal };
    each(home, &args.containers, |containers, name| {
        let id = ask(containers, name, &request, "kill")?;
        // As docker does: whoever has killed it finds it ended.
        if signal == rustix::process::Signal::KILL.as_raw()
            && let Some(mut client) = Client::connect(containers, &id, Request::Wait)?
        {
            client.exit()?;
        }
        Ok(name.to_owned())
    })
}

/// Freezes.
pub(crate) fn pause(home: &Home, args: &NamesArgs) -> anyhow::Result<ExitCode> {
    ask_each(home, &args.containers, &Request::Pause, "pause")
}

/// Lets go on.
pub(crate) fn unpause(home: &Home, args: &NamesArgs) -> anyhow::Result<ExitCode> {
    ask_each(home, &args.containers, &Request::Unpause, "unpause")
}

fn ask_each(
    home: &Home,
    names: &[String],
    request: &Request,
    verb: &str,
) -> anyhow::Result<ExitCode> {
    each(home, names, |containers, name| {
        ask(containers, name, request, verb)?;
        Ok(name.to_owned())
    })
}

/// Asks the monitor of a container for something; the container's id.
fn ask(
    containers: &Containers<'_>,
    name: &str,
    request: &Request,
    verb: &str,
) -> anyhow::Result<String> {
    let id = containers.find(name)?;
    let Some(mut client) = Client::connect(containers, &id, request.clone())? else {
        let refused = format!("cannot {verb} container: {name}: container {id} is not running");
        return Err(Error::Refused(refused).into());
    };
    client.done()?;
    Ok(id)
}

/// Removes.
pub(crate) fn rm(home: &Home, args: &RmArgs) -> anyhow::Result<ExitCode> {
    each(home, &args.containers, |containers, name| {
        match containers.find(name) {
            Ok(id) => {
                let removed = remove_in_the_end(containers, &id, args)?;
                if removed == Removed::WithItsMonitor {
                    ui::note(format_args!(
                        "WARNING: the monitor of container {name} did not answer and was killed"
                    ));
                }
                if removed != Removed::Quietly {
                    sweep(containers)?;
                }
            }
            Err(error) if args.force => {
                // Docker says so, and calls it no failure.
                ui::error(&error.into());
                return Ok(String::new());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(name.to_owned())
    })
}

/// Removes a container: by force also one that others start again meanwhile, unless they go on with
/// it.
fn remove_in_the_end(
    containers: &Containers<'_>,
    id: &str,
    args: &RmArgs,
) -> engine::containers::Result<Removed> {
    let since = Instant::now();
    loop {
        match remove(containers, id, args.force, args.volumes) {
            Err(Error::Running(_)) if args.force && since.elapsed() < PERSEVERANCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Removes what a monitor held that was killed.
fn sweep(containers: &Containers<'_>) -> anyhow::Result<()> {
    engine::containers::reconcile::reconcile(containers, &paths::network_dir())
        .map(drop)
        .context("remove what the monitor has left; try again with: rbuild system reconcile")
}

/// Waits until containers have ended, and prints their exit codes.
pub(crate) fn wait(home: &Home, args: &NamesArgs) -> anyhow::Result<ExitCode> {
    each(home, &args.containers, |containers, name| {
        let id = containers.find(name)?;
        if let Some(mut client) = Client::connect(containers, &id, Request::Wait)?
            && let Some(code) = client.exit()?
        {
            return Ok(code.to_string());
        }
        Ok(containers.observe(&id)?.state.exit_code.to_string())
    })
}

/// Gives another name.
pub(crate) fn rename(home: &Home, args: &RenameArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    containers.rename(&containers.find(&args.container)?, &args.name)?;
    Ok(ExitCode::SUCCESS)
}

fn number(text: &str) -> anyhow::Result<i32> {
    signal::number(text).ok_or_else(|| anyhow::anyhow!("Invalid signal: {text}"))
}
