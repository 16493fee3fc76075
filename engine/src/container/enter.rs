//! Another process in a running container.
//!
//! ```text
//! begin()  starts a copy of this process, or this program again if that has more threads, and hands
//!          it an `Entry` and the container's process 1
//! run()    in the one started: joins the container's cgroups and namespaces, leaves a copy of
//!          itself there, which gives up its privileges and becomes the process
//! ```
//!
//! A process is only born in the container's process namespace when it is in all others: at no
//! time can the container look at one that still sees the host's files. What the container may
//! have done to its files decides nothing but what its own process gets to see.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::thread::ThreadNameSpaceType;

use super::cgroup::Membership;
use super::devices::Terminal;
use super::error::LaunchError;
use super::exec::Program;
use super::init::{
    adjust_oom_score, become_user, begin_to_enter, die_with_parent, join_cgroups, own_pipes,
    report, start, stay_inside,
};
use super::launch::{Container, Launching, Start, Stdio};
use super::running::Running;
use super::seccomp::Compiled;
use super::spec::{Process, Seccomp};
use super::user::Identity;
use super::wire::{AtStep, Birthplace, ENTER_NAME, Entry, FOLLOWED, Failure, Report, TARGET_FD};
use super::{cgroup, rlimit};
use crate::sys::process::{Forked, fork_beside, reset_signals, take_descriptor};

/// A process to start in a running container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecSpec {
    /// What is started. Its capabilities are the container's: they also decide what the
    /// container's seccomp filter lets through.
    pub process: Process,
    /// Whether it has all capabilities. The container's filter stays.
    pub privileged: bool,
    /// What confines the container: [`Seccomp::Unconfined`] if that is privileged.
    pub seccomp: Seccomp,
}

/// Starts a process in a running container; returns when its program has been executed or could
/// not be. If somebody pauses the container meanwhile this waits until it goes on.
pub fn exec(container: &Running, spec: &ExecSpec, stdio: Stdio) -> Result<Container, LaunchError> {
    begin_exec(container, spec, stdio)?.finish()
}

/// Starts a process in a running container, and does not wait for its program to be executed.
///
/// It joins the container's cgroups as they are now. The kernel kills it when the *thread* that
/// started it ends. A container whose process 1 has ended is only gone when all who
/// started processes in it have waited for them: do that before waiting for the container.
pub fn begin_exec(
    container: &Running,
    spec: &ExecSpec,
    stdio: Stdio,
) -> Result<Launching, LaunchError> {
    let memberships = container.memberships().map_err(LaunchError::Talk)?;
    if memberships.iter().any(Membership::is_frozen) {
        return Err(LaunchError::Refused("the container is paused".to_owned()));
    }
    let own = cgroup::memberships_of("self").map_err(LaunchError::Talk)?;
    let joined = memberships.into_iter().filter(|membership| !own.contains(membership));
    let (mut unified, others): (Vec<_>, Vec<_>) = joined.partition(Membership::is_unified);
    let birthplace = unified.pop().map(|place| Birthplace {
        directory: place.directory,
        unified: true,
        shared: false,
    });
    let entry = Entry {
        process: Cow::Borrowed(&spec.process),
        privileged: spec.privileged,
        filter: Compiled::compile(&spec.seccomp, &spec.process)?,
        birthplace,
        cgroups: others.into_iter().map(|membership| membership.directory).collect(),
    };
    let mut start = Start::new(&entry, spec.process.terminal, stdio);
    start.args = vec![ENTER_NAME.to_owned()];
    start.copy = Some(begin_to_enter);
    start.birthplace.clone_from(&entry.birthplace);
    start.descriptors = vec![(container.pidfd(), TARGET_FD)];
    start.begin()
}

/// Every step from a bare process outside to a process of the container.
pub(super) fn run(entry: &Entry<'_>, socket: &OwnedFd) -> Result<Infallible, Failure> {
    let process = &*entry.process;
    let container = take_descriptor(TARGET_FD).at(|| "find the container")?;
    reset_signals();
    rustix::process::umask(Mode::empty());
    die_with_parent(socket)?;
    adjust_oom_score(process)?;
    join_cgroups(entry.birthplace.as_ref(), &entry.cgroups)?;
    enter_namespaces(container.as_fd())?;
    drop(container);
    match fork_beside().map_err(refused_birth)? {
        Forked::Parent(child) => {
            let moved = Report::Moved { pid: child.pid.as_raw_nonzero().get() };
            report(socket, &moved, Some(&child.pidfd)).at(|| "report to the launching process")?;
            std::process::exit(0)
        }
        Forked::Child => {
            wait_to_be_followed(socket)?;
            become_process(entry, process, socket)
        }
    }
}

/// Begins when whoever started us knows of this process, or nobody would wait for it, and has waited
/// for the one that made it, which the container's cgroups count until then.
fn wait_to_be_followed(socket: &OwnedFd) -> Result<(), Failure> {
    loop {
        match rustix::net::recv(socket, &mut [0; FOLLOWED.len()], RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            // Nobody is left who could follow it.
            Ok((_, 0)) | Err(Errno::CONNRESET) => std::process::exit(125),
            result => return result.map(drop).at(|| "hear from the launching process"),
        }
    }
}

fn become_process(
    entry: &Entry<'_>,
    process: &Process,
    socket: &OwnedFd,
) -> Result<Infallible, Failure> {
    die_with_parent(socket)?;
    rustix::process::setsid().at(|| "start a session")?;
    enter_working_directory(process)?;
    rlimit::set(&process.rlimits)?;
    let identity = Identity::resolve(process)?;
    let terminal = process.terminal.then(Terminal::open_inside).transpose()?;
    if let Some(terminal) = &terminal {
        terminal.set_window(process).at(|| "set the terminal's size")?;
        terminal.become_stdio(identity.uid)?;
    }
    own_pipes(identity.uid);
    become_user(process, entry.privileged, &entry.filter, &identity)?;
    die_with_parent(socket)?;
    let program = Program::find(process, &identity)?;
    let ready = Report::Ready { created: Vec::new() };
    start(&program, &ready, socket, terminal.as_ref().map(|terminal| &terminal.master))
}

/// Enters all of the container's namespaces; its root is this process's root then.
fn enter_namespaces(container: std::os::fd::BorrowedFd<'_>) -> Result<(), Failure> {
    let all = ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    match rustix::thread::move_into_thread_name_spaces(container, all) {
        Err(Errno::SRCH) => Err(Failure::Refused("the container is not running".to_owned())),
        result => result.at(|| "enter the container's namespaces"),
    }
}

/// The kernel makes no process where process 1 is gone, nor beyond a limit on their number.
fn refused_birth(error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => Failure::Refused("the container is not running".to_owned()),
        Some(libc::EAGAIN) => Failure::Refused(
            "start a process: the container has as many processes as it may have".to_owned(),
        ),
        errno => Failure::Step {
            step: "start a process in the container".to_owned(),
            errno: errno.unwrap_or(libc::EIO),
        },
    }
}

/// Enters the working directory, which must exist, with docker's exit codes if not.
fn enter_working_directory(process: &Process) -> Result<(), Failure> {
    let cwd = &process.cwd;
    let text = |what: &str| format!("chdir to cwd ({:?}): {what}", cwd.display().to_string());
    if !cwd.is_absolute() {
        return Err(Failure::Refused(text("it needs to be an absolute path")));
    }
    match rustix::process::chdir(cwd) {
        Err(Errno::NOENT) => Err(Failure::NotExecutable(text("no such file or directory"))),
        Err(Errno::NOTDIR) => Err(Failure::NotExecutable(text("not a directory"))),
        Err(Errno::ACCESS) => Err(Failure::NotExecutable(text("permission denied"))),
        result => result.at(|| text("cannot be entered")),
    }?;
    stay_inside(cwd)
}
