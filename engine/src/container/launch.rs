//! The launching side of a container: starts its init, waits for it, cleans up behind it.
//!
//! Does not know what init does; it sends an assignment and hears one report.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SeekFrom, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags,
    SocketType,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Serialize;

use super::cgroup::{CgroupError, Cgroups};
use super::devices::{self, Node};
use super::error::LaunchError;
use super::init;
use super::path::MountPoint;
use super::seccomp::Compiled;
use super::spec::{ContainerSpec, DeviceRule, Ipc, Namespace, Network, Resources, Seccomp};
use super::wire::{
    ASSIGNMENT_FD, Assignment, Birthplace, FOLLOWED, INIT_NAME, REAPER_NAME, REPORT_FD, Report,
};
use super::zygote::Zygote;
use crate::sys::mount::{Attributes, set_attributes};
use crate::sys::process::{Child, Copied, Spawn, spawn};

/// What a container's program has as its first three descriptors. Not used when it gets a
/// terminal.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
}

/// One of a program's standard streams.
#[derive(Debug, Default)]
pub enum Stream {
    /// The launching process's own.
    #[default]
    Inherit,
    /// Empty to read, nowhere to write.
    Null,
    /// An open file or pipe; the launching process keeps no copy.
    File(OwnedFd),
}

impl Stdio {
    /// All three are the launching process's own.
    pub fn inherit() -> Stdio {
        Stdio::default()
    }

    /// Nothing to read, output to two files or pipes.
    pub fn output(stdout: OwnedFd, stderr: OwnedFd) -> Stdio {
        Stdio { stdin: Stream::Null, stdout: Stream::File(stdout), stderr: Stream::File(stderr) }
    }
}

/// A running container. Dropping it kills what still runs and removes its cgroups.
#[derive(Debug)]
pub struct Container {
    /// Its first process, as the launching process sees it.
    pub pid: Pid,
    /// A descriptor for that process: readable once it has ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, if it has one. Taken by whoever relays it.
    pub terminal: Option<OwnedFd>,
    created: Vec<MountPoint>,
    cgroups: Cgroups,
    waited: bool,
}

/// A container or a process of one that has not executed its program yet. Dropping it kills what was
/// started.
#[derive(Debug)]
pub struct Launching {
    container: Container,
    /// Where it reports; closed when the program is executed.
    socket: OwnedFd,
    stage: Stage,
}

/// What is waited for.
#[derive(Debug)]
enum Stage {
    /// The next report.
    Reporting,
    /// The end of the process that has left this one in its place.
    Moving { pid: Pid, pidfd: OwnedFd },
    /// The end of reports: its last one said that it becomes its program.
    Ready,
}

/// How a container ended.
#[derive(Debug)]
pub struct Exit {
    /// The program's exit code, or 128 and the number of the signal that killed it.
    pub code: i32,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// The mount points that had to be made in its root file system; what
    /// [`remove_mount_points`](super::remove_mount_points) takes.
    pub created: Vec<MountPoint>,
}

/// Starts a container; returns when its program has been executed or could not be.
///
/// Any number of threads may launch at once. The kernel kills the container when the *thread* that
/// launched it ends, so that a killed `rbuild` leaves nothing behind: launch from a thread that
/// outlives the container.
pub fn launch(spec: &ContainerSpec, stdio: Stdio) -> Result<Container, LaunchError> {
    start(spec, stdio, None)
}

/// The same for one of many containers: the kernel kills it when the process that launched it ends,
/// or when the zygote is dropped.
pub fn launch_from(
    zygote: &Zygote,
    spec: &ContainerSpec,
    stdio: Stdio,
) -> Result<Container, LaunchError> {
    start(spec, stdio, Some(zygote))
}

fn start(
    spec: &ContainerSpec,
    stdio: Stdio,
    zygote: Option<&Zygote>,
) -> Result<Container, LaunchError> {
    let devices = devices::gather(&spec.devices).map_err(LaunchError::Device)?;
    let device_rules: Vec<DeviceRule> =
        devices.iter().map(Node::rule).chain(spec.device_rules.iter().copied()).collect();
    let cgroups = Cgroups::create(spec, &device_rules).map_err(LaunchError::Cgroup)?;
    let unconfined = spec.privileged && spec.seccomp == Seccomp::Default;
    let seccomp = if unconfined { &Seccomp::Unconfined } else { &spec.seccomp };
    let assignment = Assignment {
        spec: Cow::Borrowed(spec),
        filter: Compiled::compile(seccomp, &spec.process)?,
        birthplace: cgroups.birthplace(),
        cgroups: cgroups.to_join(),
        cgroup_mounts: cgroups.mounts(),
        devices_confined: cgroups.confines_devices(),
        devices,
    };
    let mut start = Start::new(&assignment, spec.process.terminal, stdio);
    start.namespaces = namespaces(spec);
    start.birthplace.clone_from(&assignment.birthplace);
    let is_like_others =
        start.birthplace.as_ref().is_none_or(|place| place.shared && place.unified);
    start.zygote = zygote.filter(|_| is_like_others && !spec.privileged);
    if spec.init {
        let shown = [REAPER_NAME, "--"].map(str::to_owned);
        start.args = shown.into_iter().chain(spec.process.args.iter().cloned()).collect();
        // It stays what it is, and is to be seen as that.
        (start.copy, start.zygote) = (None, None);
    }
    if let Namespace::Path(path) = &spec.pid {
        let namespace = fs_err::File::open(path).map_err(LaunchError::Spawn)?;
        start.process_namespace = Some(namespace.into());
    }
    start.cgroups = cgroups;
    start.run()
}

/// The namespaces that are new.
fn namespaces(spec: &ContainerSpec) -> i32 {
    let wanted = [
        (true, libc::CLONE_NEWNS),
        (spec.pid == Namespace::New, libc::CLONE_NEWPID),
        (spec.uts == Namespace::New, libc::CLONE_NEWUTS),
        (matches!(spec.ipc, Ipc::New | Ipc::NoShm), libc::CLONE_NEWIPC),
        (spec.network == Network::None, libc::CLONE_NEWNET),
    ];
    wanted.iter().filter(|wanted| wanted.0).fold(0, |flags, wanted| flags | wanted.1)
}

/// This program to be started again, with an assignment, and what it says then.
pub(super) struct Start<'a, A> {
    assignment: &'a A,
    terminal: bool,
    stdio: Stdio,
    pub(super) args: Vec<String>,
    /// What the program does then, if a copy of this process may do it.
    pub(super) copy: Option<Copied>,
    /// What can make an init, if it can be one that is made ahead.
    zygote: Option<&'a Zygote>,
    /// `CLONE_NEW*` flags.
    pub(super) namespaces: i32,
    /// The cgroup it is to be born in, if it can be.
    pub(super) birthplace: Option<Birthplace>,
    /// The namespace it is to be born in.
    pub(super) process_namespace: Option<OwnedFd>,
    /// Descriptors beside those that all have, and their numbers.
    pub(super) descriptors: Vec<(BorrowedFd<'a>, RawFd)>,
    pub(super) cgroups: Cgroups,
}

impl<'a, A: Serialize> Start<'a, A> {
    pub(super) fn new(assignment: &'a A, terminal: bool, stdio: Stdio) -> Start<'a, A> {
        Start {
            assignment,
            terminal,
            stdio,
            args: vec![INIT_NAME.to_owned()],
            copy: Some(init::begin_to_set_up),
            zygote: None,
            namespaces: 0,
            birthplace: None,
            process_namespace: None,
            descriptors: Vec::new(),
            cgroups: Cgroups::default(),
        }
    }

    /// Starts it and waits until it has executed its program.
    pub(super) fn run(self) -> Result<Container, LaunchError> {
        self.begin()?.finish()
    }

    /// Starts it.
    pub(super) fn begin(self) -> Result<Launching, LaunchError> {
        let assignment = write_assignment(self.assignment).map_err(LaunchError::Talk)?;
        let (socket, init_socket) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| LaunchError::Talk(errno.into()))?;
        let child =
            self.spawn(assignment.as_fd(), init_socket.as_fd()).map_err(LaunchError::Spawn)?;
        drop((init_socket, self.stdio));
        let container = Container {
            pid: child.pid,
            pidfd: child.pidfd,
            terminal: None,
            created: Vec::new(),
            cgroups: self.cgroups,
            waited: false,
        };
        Ok(Launching { container, socket, stage: Stage::Reporting })
    }
}

fn write_assignment(assignment: &impl Serialize) -> io::Result<OwnedFd> {
    let memfd = rustix::fs::memfd_create("assignment", MemfdFlags::CLOEXEC)?;
    let mut bytes = &serde_json::to_vec(assignment)?[..];
    while !bytes.is_empty() {
        let written = rustix::io::write(&memfd, bytes)?;
        bytes = &bytes[written..];
    }
    rustix::fs::seek(&memfd, SeekFrom::Start(0))?;
    Ok(memfd)
}

impl<A> Start<'_, A> {
    fn spawn(&self, assignment: BorrowedFd<'_>, report: BorrowedFd<'_>) -> io::Result<Child> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let mut descriptors = vec![(assignment, ASSIGNMENT_FD), (report, REPORT_FD)];
        descriptors.extend(self.descriptors.iter().copied());
        let streams = [&self.stdio.stdin, &self.stdio.stdout, &self.stdio.stderr];
        for (number, stream) in streams.into_iter().enumerate() {
            match stream {
                // A terminal comes in the place of all three, made inside the container.
                _ if self.terminal => descriptors.push((null.as_fd(), number as i32)),
                Stream::Inherit => {}
                Stream::Null => descriptors.push((null.as_fd(), number as i32)),
                Stream::File(file) => descriptors.push((file.as_fd(), number as i32)),
            }
        }
        let args: Vec<CString> =
            self.args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<_, _>>()?;
        let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
        let birthplace = self.birthplace.as_ref().and_then(Birthplace::open);
        let started = Spawn {
            program: own_program()?.as_fd(),
            args: &args,
            namespaces: self.namespaces,
            cgroup: birthplace.as_ref().map(AsFd::as_fd),
            descriptors: &descriptors,
            copy: self.copy,
        };
        match (&self.process_namespace, self.zygote) {
            (Some(namespace), _) => spawn_in(namespace.as_fd(), &started),
            (None, None) => spawn(&started),
            (None, Some(zygote)) => {
                match zygote.start(self.namespaces, self.birthplace.as_ref(), &descriptors) {
                    Some(child) => Ok(child),
                    None => spawn(&started),
                }
            }
        }
    }
}

/// Has this thread's children born in another process namespace while one is.
fn spawn_in(namespace: BorrowedFd<'_>, started: &Spawn<'_>) -> io::Result<Child> {
    let own = fs_err::File::open("/proc/thread-self/ns/pid")?;
    let kind = Some(LinkNameSpaceType::ProcessID);
    move_into_link_name_space(namespace, kind)?;
    let child = spawn(started);
    // The way back to one's own namespace is always open.
    move_into_link_name_space(own.as_fd(), kind)?;
    child
}

/// This program's file, by a mount that nobody can write to.
///
/// Init is a process of the container for a moment, and an image may name `/proc/self/exe` as its
/// program: what is reached by that must not be the file on the host (CVE-2019-5736).
pub(crate) fn own_program() -> io::Result<&'static OwnedFd> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = match open_tree(CWD, "/proc/self/exe", flags) {
        // We were started by such a mount ourselves, which Linux before 6.15 makes no copy of.
        Err(Errno::INVAL) => program_by_its_mount()?,
        program => {
            let program = program?;
            let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
            let read_only = Attributes { set, ..Attributes::default() };
            set_attributes(program.as_fd(), c"", false, read_only)?;
            program
        }
    };
    Ok(PROGRAM.get_or_init(|| program))
}

/// This program's file by the mount it was executed from, if that cannot be written to.
fn program_by_its_mount() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let program = rustix::fs::open("/proc/self/exe", flags, Mode::empty())?;
    match rustix::fs::fstatvfs(&program)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        true => Ok(program),
        false => Err(Errno::INVAL.into()),
    }
}

impl Launching {
    /// Readable when [`Launching::advance`] has something to do.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stage {
            Stage::Moving { .. } => self.container.pidfd.as_fd(),
            Stage::Reporting | Stage::Ready => self.socket.as_fd(),
        }
    }

    /// Waits for the next thing to happen; true when the program has been executed. After an error
    /// there is nothing more to wait for.
    pub fn advance(&mut self) -> Result<bool, LaunchError> {
        if let Stage::Moving { .. } = self.stage {
            self.follow()?;
            return Ok(false);
        }
        match receive(&self.socket).map_err(LaunchError::Talk)? {
            (Some(Report::Ready { created }), terminal) => {
                self.container.created = created;
                self.container.terminal = terminal;
                self.stage = Stage::Ready;
            }
            (Some(Report::Moved { pid }), Some(pidfd)) => {
                let pid = Pid::from_raw(pid).ok_or(LaunchError::InitDied)?;
                self.stage = Stage::Moving { pid, pidfd };
            }
            (Some(Report::Moved { .. }), None) => return Err(LaunchError::InitDied),
            (Some(Report::Failed(failure)), _) => return Err(failure.into()),
            (None, _) if matches!(self.stage, Stage::Ready) => return Ok(true),
            (None, _) => return Err(LaunchError::InitDied),
        }
        Ok(false)
    }

    /// Goes on with the process that the one we started has left in its place.
    fn follow(&mut self) -> Result<(), LaunchError> {
        self.container.reap().map_err(LaunchError::Talk)?;
        if let Stage::Moving { pid, pidfd } = std::mem::replace(&mut self.stage, Stage::Reporting) {
            self.container.waited = false;
            (self.container.pid, self.container.pidfd) = (pid, pidfd);
        }
        // If it is gone already, the next report says so.
        let _ = rustix::net::send(&self.socket, FOLLOWED, SendFlags::NOSIGNAL);
        Ok(())
    }

    /// Waits until the program has been executed.
    pub fn finish(mut self) -> Result<Container, LaunchError> {
        while !self.advance()? {}
        Ok(self.container)
    }

    /// What was launched, once [`Launching::advance`] has said so.
    pub fn into_container(self) -> Container {
        self.container
    }
}

impl Container {
    /// Its root file system, which is mounted as long as this descriptor is there; nothing if it has
    /// ended.
    pub(crate) fn open_root(&self) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Nobody else gets the number before we have waited for it.
        let path = format!("/proc/{}/root", self.pid);
        rustix::fs::open(path, flags, Mode::empty()).ok()
    }

    /// Waits for the container's program to end; everything else in the container is dead then.
    pub fn wait(mut self) -> io::Result<Exit> {
        let code = self.reap()?;
        self.cgroups.kill();
        Ok(Exit {
            code,
            oom_killed: self.cgroups.oom_killed(),
            created: std::mem::take(&mut self.created),
        })
    }

    /// Sends a signal to the container's program; one that has ended already is no error.
    pub fn kill(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        if signal == Signal::KILL {
            // Version 1's freezer keeps what is stopped from dying.
            self.cgroups.resume();
        }
        Ok(())
    }

    /// Stops all its processes. A cgroup is made for that if it has none.
    pub fn pause(&mut self) -> Result<(), CgroupError> {
        self.cgroups.pause(&self.pid.to_string())
    }

    /// Lets its processes go on.
    pub fn resume(&self) {
        self.cgroups.resume();
    }

    /// Whether its processes are stopped.
    pub fn is_paused(&self) -> bool {
        self.cgroups.is_paused()
    }

    /// Changes its limits to these, which are all that it is to have (see
    /// [`Resources::changed_by`]).
    pub fn update(&mut self, resources: &Resources) -> Result<(), CgroupError> {
        self.cgroups.update(&self.pid.to_string(), resources)
    }

    /// The directories of the container's cgroups, by controller (`memory`, `pids`, ...); those
    /// only that a limit needed.
    pub fn cgroups(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.cgroups.directories()
    }

    fn reap(&mut self) -> io::Result<i32> {
        loop {
            let wait = WaitId::PidFd(self.pidfd.as_fd());
            match rustix::process::waitid(wait, WaitIdOptions::EXITED) {
                Ok(status) => {
                    self.waited = true;
                    return Ok(status.as_ref().map_or(0, exit_code));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.waited {
            // Nobody is left to hear of a failure, and there is nothing else to try.
            let _ = self.kill(Signal::KILL);
            self.cgroups.kill();
            let _ = self.reap();
        }
    }
}

fn exit_code(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 0,
    }
}

/// Waits for a report, and tells its length in bytes; 0 of the end of all reports.
fn length_of_next(socket: &OwnedFd) -> io::Result<usize> {
    loop {
        let nothing: &mut [u8] = &mut [];
        match rustix::net::recv(socket, nothing, RecvFlags::PEEK | RecvFlags::TRUNC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(0),
            result => return Ok(result?.1),
        }
    }
}

/// The next report and the descriptor that came with it; no report when init closed the socket.
fn receive(socket: &OwnedFd) -> io::Result<(Option<Report>, Option<OwnedFd>)> {
    let mut buffer = vec![0; length_of_next(socket)?];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let iov = &mut [IoSliceMut::new(&mut buffer)];
        match rustix::net::recvmsg(socket, iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            // A socket whose peer was killed with unread data behind it.
            Err(Errno::CONNRESET) => return Ok((None, None)),
            result => break result?,
        }
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.bytes == 0 {
        return Ok((None, descriptor));
    }
    Ok((Some(serde_json::from_slice(&buffer[..received.bytes])?), descriptor))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::fs::Access;

    use super::*;

    #[test]
    fn our_own_program_cannot_be_written() {
        let link = format!("/proc/self/fd/{}", own_program().unwrap().as_raw_fd());
        assert_eq!(rustix::fs::access("/proc/self/exe", Access::WRITE_OK), Ok(()));
        assert_eq!(rustix::fs::access(link, Access::WRITE_OK), Err(Errno::ROFS));
    }
}
