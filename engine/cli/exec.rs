//! `exec`: another process in a container that runs.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use engine::container::Relayed;
use engine::container::tty::{self, DetachKeys, RawMode, User};
use engine::containers::Containers;
use engine::containers::exec::{Ends, Request, Streams, exec};
use engine::signals::{RESIZE, Signals};
use rustix::termios::tcgetwinsize;

use crate::attach::{DETACH_KEYS, check_terminal, keys};
use crate::create_args::{read_variables, variable};
use crate::paths::Home;

/// What `exec` is told.
#[derive(Args)]
#[command(trailing_var_arg = true)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ExecArgs {
    /// Leave it running
    #[arg(short, long)]
    detach: bool,
    /// The keys that leave the process alone, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable, or take it over from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The user it runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Give it all capabilities
    #[arg(long)]
    privileged: bool,
    /// The container
    container: String,
    /// The command and its arguments
    #[arg(required = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs a process in a container.
pub(crate) fn exec_verb(home: &Home, args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let id = containers.find(&args.container)?;
    if !args.detach {
        check_terminal(args.interactive, args.tty)?;
    }
    let mut env = Vec::new();
    for file in &args.env_file {
        read_variables(file, &mut env)?;
    }
    for given in &args.env {
        variable(given, &mut env)?;
    }
    let keys = DetachKeys::new(keys(&args.detach_keys)?);
    let request = Request {
        args: args.command.clone(),
        env,
        cwd: args.workdir.clone(),
        user: args.user.clone(),
        tty: args.tty,
        privileged: args.privileged,
        streams: match (args.detach, args.interactive) {
            (true, _) => Streams::None,
            (false, true) => Streams::All,
            (false, false) => Streams::Outputs,
        },
        ..Request::default()
    };
    if args.detach {
        exec(&containers, &id, request)?;
        return Ok(ExitCode::SUCCESS);
    }
    exec_and_attend(&containers, &id, request, keys)
}

/// What we end with when nobody reads our output any more: what `SIGPIPE` would end us with.
const UNREAD: u8 = 128 + 13;

/// Starts a process and relays its streams or its terminal until it ends; what to end with. If we
/// are gone before, it goes on.
pub(crate) fn exec_and_attend(
    containers: &Containers<'_>,
    id: &str,
    mut request: Request,
    keys: DetachKeys,
) -> anyhow::Result<ExitCode> {
    let signals = Signals::take(&[RESIZE])?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    if request.tty {
        request.window = tcgetwinsize(&stdout).ok().map(|size| (size.ws_row, size.ws_col));
    }
    let input = (request.streams == Streams::All).then(|| stdin.as_fd());
    let mut process = exec(containers, id, request)?;
    let relayed = match process.take_ends() {
        Ends::Pipes(pipes) => {
            let outputs = [stdout.as_fd(), stderr.as_fd()];
            let relayed = pipes.relay(stdin.as_fd(), outputs, process.as_fd());
            relayed.context("relay what the process reads and writes")?
        }
        Ends::Terminal(master) => {
            let raw = RawMode::set(stdin.as_fd())?;
            let resized = Some(signals.as_fd());
            let user = User { input, output: stdout.as_fd(), resized, keys };
            let relayed = tty::relay(user, master.as_fd());
            drop(raw);
            relayed.context("relay the terminal")?
        }
        Ends::None => Relayed::Ended,
    };
    Ok(match relayed {
        Relayed::Ended => {
            let code = process.wait().context("wait for the process")?;
            ExitCode::from(u8::try_from(code).unwrap_or(255))
        }
        Relayed::Left => ExitCode::SUCCESS,
        Relayed::Unread => ExitCode::from(UNREAD),
    })
}
