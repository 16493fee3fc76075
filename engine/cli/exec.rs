//! `exec`: another process in a container that runs.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use engine::container::{Pipes, Stdio, tty};
use engine::containers::exec::{Request, exec, exec_detached, new_id, tell_end};
use engine::containers::{Containers, execs};
use engine::signals::{RESIZE, Signals};

use crate::attach::check_terminal;
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
    /// Kept for docker's sake: what is typed is passed on as it is
    #[arg(long, value_name = "KEYS", hide = true)]
    detach_keys: Option<String>,
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
    let request = Request {
        args: args.command.clone(),
        env,
        cwd: args.workdir.clone(),
        user: args.user.clone(),
        tty: args.tty,
        privileged: args.privileged,
        id: new_id()?,
        ..Request::default()
    };
    let exec_id = request.id.clone();
    if args.detach {
        exec_detached(&containers, &id, request)?;
        return Ok(ExitCode::SUCCESS);
    }
    // One that is not shown runs all the same.
    let listed = execs::list(&containers, &id, &exec_id).ok();
    let code = exec_and_attend(&containers, &id, request, args.interactive)?;
    drop(listed);
    tell_end(&containers, &id, &exec_id, code);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

/// Starts a process and relays its streams or its terminal until it ends; its exit code.
pub(crate) fn exec_and_attend(
    containers: &Containers<'_>,
    id: &str,
    request: Request,
    interactive: bool,
) -> anyhow::Result<i32> {
    let signals = Signals::take(&[RESIZE])?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    if !request.tty {
        let (stdio, pipes) = Pipes::make(interactive)?;
        let process = exec(containers, id, request, stdio)?;
        let outputs = [stdout.as_fd(), stderr.as_fd()];
        let relayed = pipes.relay(stdin.as_fd(), outputs, process.pidfd.as_fd());
        relayed.context("relay what the process reads and writes")?;
        return Ok(process.wait().context("wait for the process")?.code);
    }
    let mut process = exec(containers, id, request, Stdio::default())?;
    if let Some(master) = process.terminal.take() {
        let raw = tty::RawMode::set(stdin.as_fd())?;
        let input = interactive.then(|| stdin.as_fd());
        let relayed = tty::relay(input, stdout.as_fd(), master.as_fd(), Some(signals.as_fd()));
        drop(raw);
        relayed.context("relay the terminal")?;
    }
    Ok(process.wait().context("wait for the process")?.code)
}
