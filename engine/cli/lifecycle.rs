//! What is done to containers one by one: start, stop, restart, kill, rm, wait, pause, unpause,
//! rename.
//!
//! Each takes several names; one that fails does not keep the others from being done.

use std::process::ExitCode;

use clap::Args;
use engine::containers::protocol::Request;
use engine::containers::{Client, Containers, Error, Status, remove, signal, start, stop};

use crate::attach::{self, Attachment, DETACH_KEYS};
use crate::error::Silent;
use crate::paths::{self, Home};
use crate::{reconcile, ui};

/// What `start` is told.
#[derive(Args)]
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

/// Does something for each name, prints what it returns, and goes on after a failure.
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
        let id = containers.find(name)?;
        let observed = containers.observe(&id)?;
        match observed.state.status {
            Status::Running | Status::Restarting => {}
            Status::Paused => return Err(Error::StartPaused.into()),
            _ => {
                let request = Request::Attach { stdin: false, output: false, starter: true };
                start(containers, &id, &paths::network_dir(), request)?;
            }
        }
        Ok(name.to_owned())
    })
}

fn start_attached(home: &Home, args: &StartArgs) -> anyhow::Result<ExitCode> {
    let [name] = args.containers.as_slice() else {
        anyhow::bail!("you cannot start and attach multiple containers at once");
    };
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let record = containers.record(&containers.find(name)?)?;
    let attachment = Attachment {
        stdin: args.interactive && record.config.open_stdin,
        tty: record.config.tty,
        signals: true,
        detach: attach::keys(&args.detach_keys)?,
    };
    let signals = attachment.take_signals()?;
    let request = Request::Attach { stdin: attachment.stdin, output: true, starter: true };
    let client = start(&containers, &record.id, &paths::network_dir(), request)?;
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
        let request = Request::Restart { signal, timeout: args.timeout };
        match Client::connect(containers, &id, request)? {
            Some(mut client) => client.done()?,
            None => {
                let request = Request::Attach { stdin: false, output: false, starter: true };
                start(containers, &id, &paths::network_dir(), request)?;
            }
        }
        Ok(name.to_owned())
    })
}

/// Sends a signal.
pub(crate) fn kill(home: &Home, args: &KillArgs) -> anyhow::Result<ExitCode> {
    let signal = number(&args.signal)?;
    ask(home, &args.containers, &Request::Kill { signal }, "kill")
}

/// Freezes.
pub(crate) fn pause(home: &Home, args: &NamesArgs) -> anyhow::Result<ExitCode> {
    ask(home, &args.containers, &Request::Pause, "pause")
}

/// Lets go on.
pub(crate) fn unpause(home: &Home, args: &NamesArgs) -> anyhow::Result<ExitCode> {
    ask(home, &args.containers, &Request::Unpause, "unpause")
}

fn ask(home: &Home, names: &[String], request: &Request, verb: &str) -> anyhow::Result<ExitCode> {
    each(home, names, |containers, name| {
        let id = containers.find(name)?;
        let Some(mut client) = Client::connect(containers, &id, request.clone())? else {
            let refused = format!("cannot {verb} container: {name}: container {id} is not running");
            return Err(Error::Refused(refused).into());
        };
        client.done()?;
        Ok(name.to_owned())
    })
}

/// Removes.
pub(crate) fn rm(home: &Home, args: &RmArgs) -> anyhow::Result<ExitCode> {
    each(home, &args.containers, |containers, name| {
        match containers.find(name) {
            Ok(id) => remove(containers, &id, args.force, args.volumes)?,
            Err(error) if args.force => {
                ui::error(&error.into());
                return Ok(name.to_owned());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(name.to_owned())
    })
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
