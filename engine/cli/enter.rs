//! `pid` and `enter`: for people who look after containers from the host.

use std::process::ExitCode;

use clap::Args;
use engine::container::tty::DetachKeys;
use engine::containers::exec::{Request, Streams};
use engine::containers::{Containers, Error};

use crate::attach::{DETACH_KEYS, keys};
use crate::exec::exec_and_attend;
use crate::paths::Home;
use crate::ui;

/// What `pid` is told.
#[derive(Args)]
pub(crate) struct PidArgs {
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// What `enter` is told.
#[derive(Args)]
#[command(trailing_var_arg = true)]
pub(crate) struct EnterArgs {
    /// The container
    container: String,
    /// What to run instead of a shell
    #[arg(allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Prints the numbers that the containers' first processes have on the host.
pub(crate) fn pid(home: &Home, args: &PidArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    for name in &args.containers {
        match containers.observe(&containers.find(name)?)?.state.pid {
            0 => return Err(Error::NotRunning(name.clone()).into()),
            pid => ui::line(pid),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens a shell in all of a container's namespaces: as root, with all capabilities, whatever
/// confines the container.
pub(crate) fn enter(home: &Home, args: &EnterArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let id = containers.find(&args.container)?;
    let tty = ui::is_interactive();
    let request = Request {
        streams: Streams::All,
        args: match args.command.as_slice() {
            [] => vec!["/bin/sh".to_owned()],
            command => command.to_vec(),
        },
        cwd: Some("/".into()),
        user: Some("0:0".to_owned()),
        tty,
        privileged: true,
        unconfined: true,
        ..Request::default()
    };
    exec_and_attend(&containers, &id, request, DetachKeys::new(keys(DETACH_KEYS)?))
}
