//! Another process in a container that runs.
//!
//! The container's monitor starts it, attends to it and tells of its end, so that it goes on when
//! whoever asked for it is gone. Who asked has our ends of its streams meanwhile: what goes through
//! them does not go through the monitor.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::assemble::{causes, process, rlimits, seccomp};
use super::protocol::{self, Frame};
use super::{Client, Containers, Error, Record, Result};
use crate::container::options::security_options;
use crate::container::spec::{Process, Seccomp};
use crate::container::{ExecSpec, LaunchError, Pipes};
use crate::open_files::limits_of_container;

/// A process to start in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
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
    /// Rows and columns of that terminal, if they are known.
    pub window: Option<(u16, u16)>,
    /// Which of its streams whoever starts it has.
    pub streams: Streams,
    /// Whether it has all capabilities.
    pub privileged: bool,
    /// Whether nothing confines it but the namespaces.
    pub unconfined: bool,
}

/// Which streams of a process whoever starts it has; a terminal stands for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Streams {
    /// None: it is left alone.
    #[default]
    None,
    /// What it writes; it has nothing to read.
    Outputs,
    /// What it reads and what it writes.
    All,
}

/// Bytes that words and variables may have to be sent to a monitor; JSON makes them more.
const LONGEST_SENT: usize = protocol::LONGEST as usize / 8;

/// What one ends with whose monitor was killed: it was killed with it.
const KILLED: i32 = 137;

/// Why no process could be started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container is not to be had.
    #[error(transparent)]
    Container(#[from] Error),
    /// The process is not.
    #[error("OCI runtime exec failed: {text}")]
    Launch {
        /// Why, with all causes.
        text: String,
        /// The exit code that docker gives then: 126 or 127.
        code: i32,
    },
}

/// A process in a container, and our ends of its streams. When both are dropped it goes on, and what
/// it writes is dropped too.
pub struct Attached {
    client: Client,
    ends: Ends,
}

/// Our ends of a process's streams.
#[derive(Debug)]
pub enum Ends {
    /// Pipes.
    Pipes(Pipes),
    /// The master side of its terminal.
    Terminal(OwnedFd),
    /// None: it was left alone, or they were taken.
    None,
}

/// Has a container's monitor start a process; returns when its program has been executed.
pub fn exec(
    containers: &Containers<'_>,
    id: &str,
    request: Request,
) -> std::result::Result<Attached, ExecError> {
    let texts = request.args.iter().chain(&request.env);
    if texts.map(|text| text.len() + 1).sum::<usize>() > LONGEST_SENT {
        let text = format!("the command and its variables have more than {LONGEST_SENT} bytes");
        return Err(ExecError::Container(Error::Refused(text)));
    }
    let gone = || ExecError::Container(Error::NotRunning(id.to_owned()));
    let (streams, tty) = (request.streams, request.tty);
    let request = protocol::Request::Exec(request);
    let mut client = Client::connect(containers, id, request)?.ok_or_else(gone)?;
    let (frame, descriptors) = client.receive_with_descriptors()?;
    match frame {
        Some(Frame::Started) => {
            let ends = Ends::of(descriptors, streams, tty).ok_or_else(gone)?;
            Ok(Attached { client, ends })
        }
        // To docker this is a fault of the request, of which nobody waits for the program.
        Some(Frame::Failed(_, text)) if streams == Streams::None => {
            Err(Error::Refused(format!("OCI runtime exec failed: {text}")).into())
        }
        Some(Frame::Failed(code, text)) => Err(ExecError::Launch { text, code }),
        Some(Frame::Refused(text)) => Err(Error::Refused(text).into()),
        _ => Err(gone()),
    }
}

impl Ends {
    /// Sorts what a monitor has sent; none if it has not sent what was asked for.
    fn of(descriptors: Vec<OwnedFd>, streams: Streams, tty: bool) -> Option<Ends> {
        let mut descriptors = descriptors.into_iter();
        if streams == Streams::None {
            return Some(Ends::None);
        }
        if tty {
            return descriptors.next().map(Ends::Terminal);
        }
        let outputs = [Some(descriptors.next()?), Some(descriptors.next()?)];
        let input = match streams {
            Streams::All => Some(descriptors.next()?),
            _ => None,
        };
        Some(Ends::Pipes(Pipes { input, outputs }))
    }
}

impl Attached {
    /// Readable once the process has ended.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// Takes our ends of its streams.
    pub fn take_ends(&mut self) -> Ends {
        std::mem::replace(&mut self.ends, Ends::None)
    }

    /// Waits until the process has ended; its exit code.
    pub fn wait(mut self) -> Result<i32> {
        Ok(self.client.exit()?.unwrap_or(KILLED))
    }
}

/// The exit code that docker gives when a process could not be started: that something is not found
/// is only said of the program.
pub(super) fn exit_code(error: &LaunchError) -> i32 {
    if matches!(error, LaunchError::NotFound(_)) { 127 } else { 126 }
}

/// An id for a process.
pub fn new_id() -> std::io::Result<String> {
    super::directory::random_id()
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
            window: request.window,
            no_new_privileges: options.no_new_privileges && !request.unconfined,
            rlimits: limits_of_container(&rlimits(&record.host_config)),
            ..own
        },
        privileged: request.privileged,
        seccomp: match request.unconfined {
            true => Seccomp::Unconfined,
            false => seccomp(options.seccomp, record.host_config.privileged)?,
        },
    })
}
