//! Another process in a container that runs.

use std::path::PathBuf;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::assemble::{causes, process, seccomp};
use super::protocol::{self, Frame};
use super::{Client, Containers, Error, Observed, Record, Result, Status};
use crate::container::options::security_options;
use crate::container::spec::{Process, Seccomp};
use crate::container::{self, Container, ExecSpec, LaunchError, Running, Stdio};

/// A process to start in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its id, by which events tell of it; of one without an id they do not.
    pub id: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, beside the container's own.
    pub env: Vec<String>,
    /// Where it starts, if not where the container's program did.
    pub cwd: Option<String>,
    /// `user[:group]`, if not the container's.
    pub user: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it has all capabilities.
    pub privileged: bool,
    /// Whether nothing confines it but the namespaces.
    pub unconfined: bool,
    /// Whether it goes on when the calling thread has ended.
    pub outlives: bool,
}

/// Bytes that words and variables may have to be sent to a monitor; JSON makes them more.
const LONGEST_SENT: usize = protocol::LONGEST as usize / 8;

/// Why no process could be started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container is not to be had.
    #[error(transparent)]
    Container(#[from] Error),
    /// The process is not.
    #[error("OCI runtime exec failed")]
    Launch(#[from] LaunchError),
}

/// Starts a process in a running container; returns when its program has been executed.
pub fn exec(
    containers: &Containers<'_>,
    id: &str,
    request: Request,
    stdio: Stdio,
) -> std::result::Result<Container, ExecError> {
    let (exec, line) = (request.id.clone(), request.args.join(" "));
    let (running, record, spec) = prepare(containers, id, request)?;
    let tell = |action: &str| {
        if !exec.is_empty() {
            containers.tell(&record, action, &[("execID", &exec)]);
        }
    };
    tell(&format!("exec_create: {line}"));
    // As docker does, also of one that cannot be started.
    tell(&format!("exec_start: {line}"));
    Ok(container::exec(&running, &spec, stdio)?)
}

/// Has a container's monitor start a process and attend to it; returns when its program has been
/// executed.
pub fn exec_detached(containers: &Containers<'_>, id: &str, request: Request) -> Result<()> {
    check(&containers.observe(id)?)?;
    let texts = request.args.iter().chain(&request.env);
    if texts.map(|text| text.len() + 1).sum::<usize>() > LONGEST_SENT {
        return Err(Error::Refused(format!(
            "the command and its variables are too long to run detached: more than {LONGEST_SENT} \
             bytes"
        )));
    }
    let gone = || Error::NotRunning(id.to_owned());
    let request = protocol::Request::Exec(request);
    let mut client = Client::connect(containers, id, request)?.ok_or_else(gone)?;
    match client.receive()? {
        Some(Frame::Done) => Ok(()),
        Some(Frame::Refused(text)) => Err(Error::Refused(text)),
        _ => Err(gone()),
    }
}

/// Writes down how a process ended.
pub fn tell_end(containers: &Containers<'_>, id: &str, exec: &str, exit_code: i32) {
    if let Ok(record) = containers.record(id) {
        let code = exit_code.to_string();
        containers.tell(&record, "exec_die", &[("execID", exec), ("exitCode", &code)]);
    }
}

/// An id for a process.
pub fn new_id() -> std::io::Result<String> {
    super::directory::random_id()
}

fn prepare(
    containers: &Containers<'_>,
    id: &str,
    request: Request,
) -> Result<(Running, Record, ExecSpec)> {
    let observed = containers.observe(id)?;
    check(&observed)?;
    let pid = Pid::from_raw(observed.state.pid.cast_signed())
        .ok_or_else(|| Error::NotRunning(observed.record.id.clone()))?;
    let running = Running::find(pid, None)?;
    let spec = spec(&observed.record, request)?;
    Ok((running, observed.record, spec))
}

/// Refuses a container in which nothing can be started now.
fn check(observed: &Observed) -> Result<()> {
    let record = &observed.record;
    match observed.state.status {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::Refused(format!(
            "container {} is paused, unpause the container before exec",
            record.name
        ))),
        Status::Restarting => Err(Error::Refused(format!(
            "Container {} is restarting, wait until the container is running",
            record.id
        ))),
        _ => Err(Error::NotRunning(record.id.clone())),
    }
}

/// What starts a process in a container.
pub(super) fn spec(record: &Record, request: Request) -> Result<ExecSpec> {
    let options = security_options(&record.host_config.security_opt)
        .map_err(|error| Error::Refused(causes(&error)))?;
    let own = process(record)?;
    let mut env = own.env;
    env.retain(|pair| request.tty || record.config.tty || pair != "TERM=xterm");
    if request.tty && !env.iter().any(|pair| pair.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(request.env);
    Ok(ExecSpec {
        process: Process {
            args: request.args,
            env,
            cwd: request.cwd.map_or(own.cwd, PathBuf::from),
            user: request.user.unwrap_or(own.user),
            terminal: request.tty,
            no_new_privileges: options.no_new_privileges && !request.unconfined,
            rlimits: Vec::new(),
            ..own
        },
        privileged: request.privileged,
        seccomp: match request.unconfined {
            true => Seccomp::Unconfined,
            false => seccomp(options.seccomp, record.host_config.privileged)?,
        },
        outlives: request.outlives,
    })
}
