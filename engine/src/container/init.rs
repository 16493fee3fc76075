//! A container's init: the first process in its namespaces, until it becomes the container's
//! program.
//!
//! Single-threaded: this program started from nothing by `launch`, or a copy of the launching process
//! or of its zygote that uses nothing of it but the descriptors it is given. Reads its assignment, works through the
//! steps of [`run`] in the only order in which they can be done, and reports. Knows nothing of
//! images.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::LinkNameSpaceType;

use super::caps::Capabilities;
use super::seccomp::Compiled;
use super::spec::{ContainerSpec, Ipc, Namespace, Network, Process};
use super::user::Identity;
use super::wire::{
    ASSIGNMENT_FD, Assignment, AtStep, Birthplace, ENTER_NAME, Entry, Failure, INIT_NAME,
    REAPER_NAME, REPORT_FD, Report, TARGET_FD, ZYGOTE_NAME,
};
use super::{caps, enter, exec, reaper, rlimit, rootfs, zygote};
use crate::sys::process::{
    bring_up_loopback, close_from, close_on_exec_from, reset_signals, take_descriptor,
    unshare_cgroups,
};

/// Whether this process was started by [`launch()`](super::launch()) to be a container's init or to
/// make some, or by [`exec()`](super::exec()) to enter one.
pub fn is_init() -> bool {
    [INIT_NAME, REAPER_NAME, ENTER_NAME, ZYGOTE_NAME].into_iter().any(is_called)
}

fn is_called(name: &str) -> bool {
    std::env::args_os().next().is_some_and(|own| own == OsStr::new(name))
}

/// Sets up the container this process was started for, or enters it, and becomes its program.
///
/// Only for the first thing in `main`, when [`is_init`] says so, with one thread running.
pub fn init_main() -> ! {
    match () {
        () if is_called(ENTER_NAME) => begin_to_enter(false),
        () if is_called(ZYGOTE_NAME) => zygote::main(),
        () => begin_to_set_up(false),
    }
}

/// Becomes a container's init, in this program started again or in a copy of the launching process
/// or of the zygote, which may be in its birthplace already.
pub(super) extern "C" fn begin_to_set_up(is_inside: bool) -> ! {
    begin(REPORT_FD + 1, |socket| {
        let mut assignment: Assignment<'_> = read_assignment()?;
        assignment.birthplace.take_if(|_| is_inside);
        run(&assignment, socket)
    })
}

/// Enters a container in the same way.
pub(super) extern "C" fn begin_to_enter(is_inside: bool) -> ! {
    begin(TARGET_FD + 1, |socket| {
        let mut entry: Entry<'_> = read_assignment()?;
        entry.birthplace.take_if(|_| is_inside);
        enter::run(&entry, socket)
    })
}

fn begin(next: i32, done: impl FnOnce(&OwnedFd) -> Result<Infallible, Failure>) -> ! {
    let Ok(socket) = take_descriptor(REPORT_FD) else {
        // Somebody else started us under this name: there is nobody to report to.
        std::process::exit(125);
    };
    // What the launching process has open or inherited from others is not the container's to have.
    let closed = close_from(next.unsigned_abs()).at(|| "close descriptors");
    let failure = match closed.and_then(|()| done(&socket)) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // If the launching process is gone, so is everybody who could hear of it.
    let _ = report(&socket, &Report::Failed(failure), None);
    std::process::exit(125)
}

fn read_assignment<T: serde::de::DeserializeOwned>() -> Result<T, Failure> {
    let file = take_descriptor(ASSIGNMENT_FD).at(|| "open the container's specification")?;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .read_to_end(&mut bytes)
        .at(|| "read the container's specification")?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Refused(format!("parse the container's specification: {error}")))
}

/// Every step from a bare process to the container's program.
fn run(assignment: &Assignment<'_>, socket: &OwnedFd) -> Result<Infallible, Failure> {
    let spec = &*assignment.spec;
    reset_signals();
    rustix::process::umask(Mode::empty());
    die_with_parent(socket)?;
    adjust_oom_score(&spec.process)?;
    enter_network(&spec.network)?;
    enter_others(spec)?;
    rustix::process::setsid().at(|| "start a session")?;
    join_cgroups(assignment.birthplace.as_ref(), &assignment.cgroups)?;
    if spec.cgroup_namespace == Namespace::New {
        unshare_cgroups().at(|| "make a cgroup namespace")?;
    }
    set_names(spec)?;
    set_sysctls(spec)?;

    let built = rootfs::build(assignment)?;
    enter_root(built.root.directory())?;
    enter_working_directory(&spec.process.cwd)?;
    if spec.read_only {
        rootfs::make_read_only(built.root.directory()).at(|| "make / read-only")?;
    }
    // Late, so that a low limit on files or memory does not hinder what came before.
    rlimit::set(&spec.process.rlimits)?;

    let identity = Identity::resolve(&spec.process)?;
    if let Some(terminal) = &built.terminal {
        terminal.become_stdio(identity.uid)?;
    }
    own_pipes(identity.uid);
    become_user(&spec.process, spec.privileged, &assignment.filter, &identity)?;
    die_with_parent(socket)?;

    let program = exec::Program::find(&spec.process, &identity)?;
    let master = built.terminal.map(|terminal| terminal.master);
    let ready = Report::Ready { created: built.root.into_created() };
    let become_program = || start(&program, &ready, socket, master.as_ref());
    if spec.init { reaper::run(become_program) } else { become_program() }
}

/// Becomes the program, having said so.
pub(super) fn start(
    program: &exec::Program,
    ready: &Report,
    socket: &OwnedFd,
    master: Option<&OwnedFd>,
) -> Result<Infallible, Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    close_on_exec_from(3).at(|| "close descriptors")?;
    report(socket, ready, master).at(|| "report to the launching process")?;
    Err(program.exec())
}

/// Has the kernel kill this process when the launching thread ends, and makes sure that it did not
/// end before we asked. A change of user forgets the request (`prctl(2)`, PR_SET_PDEATHSIG).
pub(super) fn die_with_parent(socket: &OwnedFd) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(|| "ask to be killed with the launching process")?;
    let mut poll = [PollFd::new(socket, PollFlags::empty())];
    rustix::event::poll(&mut poll, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))
        .at(|| "look for the launching process")?;
    if poll[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        std::process::exit(125);
    }
    Ok(())
}

fn enter_network(network: &Network) -> Result<(), Failure> {
    match network {
        Network::Host => Ok(()),
        Network::None => bring_up_loopback().at(|| "bring up the loopback device"),
        Network::Path(path) => enter_namespace(path, LinkNameSpaceType::Network),
    }
}

/// Enters existing namespaces; that of processes was entered by the launching process.
fn enter_others(spec: &ContainerSpec) -> Result<(), Failure> {
    if let Namespace::Path(path) = &spec.uts {
        enter_namespace(path, LinkNameSpaceType::HostNameAndNISDomainName)?;
    }
    if let Ipc::Join { namespace, .. } = &spec.ipc {
        enter_namespace(namespace, LinkNameSpaceType::InterProcessCommunication)?;
    }
    if let Namespace::Path(path) = &spec.cgroup_namespace {
        enter_namespace(path, LinkNameSpaceType::ControlGroup)?;
    }
    Ok(())
}

/// Enters a namespace of this kind.
pub(super) fn enter_namespace(path: &Path, kind: LinkNameSpaceType) -> Result<(), Failure> {
    let step = || format!("enter namespace {}", path.display());
    let namespace =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at(step)?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).at(step)
}

/// Joins cgroups by their directories on the host.
pub(super) fn join_cgroups(
    birthplace: Option<&Birthplace>,
    others: &[PathBuf],
) -> Result<(), Failure> {
    let birthplace = birthplace.map(|place| &place.directory);
    birthplace.into_iter().chain(others).try_for_each(|directory| {
        std::fs::write(directory.join("cgroup.procs"), "0")
            .at(|| format!("join cgroup {}", directory.display()))
    })
}

fn set_names(spec: &ContainerSpec) -> Result<(), Failure> {
    if spec.uts == Namespace::New {
        rustix::system::sethostname(spec.hostname.as_bytes()).at(|| "set the host name")?;
    }
    match &spec.domainname {
        Some(_) if spec.uts == Namespace::Host => Err(Failure::Refused(
            "a domain name cannot be set in the host's UTS namespace".to_owned(),
        )),
        Some(name) => rustix::system::setdomainname(name.as_bytes()).at(|| "set the domain name"),
        None => Ok(()),
    }
}

/// Runs while the host's /proc is to be seen, for which this process is itself.
pub(super) fn adjust_oom_score(process: &Process) -> Result<(), Failure> {
    let Some(score) = process.oom_score_adj else {
        return Ok(());
    };
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
        .at(|| format!("set the OOM score adjustment {score}"))
}

/// Sets kernel parameters. Those that are not the container's alone are refused: they are the
/// host's.
fn set_sysctls(spec: &ContainerSpec) -> Result<(), Failure> {
    for (name, value) in &spec.sysctls {
        if name.starts_with("net.") && spec.network == Network::Host {
            return Err(Failure::Refused(format!(
                "sysctl \"{name}\" not allowed in host network namespace"
            )));
        }
        if is_of_ipc(name) && spec.ipc == Ipc::Host {
            return Err(Failure::Refused(format!(
                "sysctl \"{name}\" not allowed in host ipc namespace"
            )));
        }
        if !is_namespaced(name) || name.contains("..") || name.contains('/') {
            return Err(Failure::Refused(format!(
                "sysctl \"{name}\" is not in a separate kernel namespace"
            )));
        }
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(path, value).at(|| format!("set sysctl {name}={value}"))?;
    }
    Ok(())
}

fn is_of_ipc(sysctl: &str) -> bool {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    IPC.contains(&sysctl) || sysctl.starts_with("fs.mqueue.")
}

fn is_namespaced(sysctl: &str) -> bool {
    is_of_ipc(sysctl) || sysctl == "kernel.domainname" || sysctl.starts_with("net.")
}

/// Makes the new root this process's root and lets go of the old one, with all mounted on it.
fn enter_root(root: &OwnedFd) -> Result<(), Failure> {
    rustix::process::fchdir(root).at(|| "enter the container's root")?;
    // `pivot_root(".", ".")` puts the old root on top of the new one, where `.` then finds it; it
    // must be the only mount there.
    rustix::process::pivot_root(".", ".").at(|| "pivot_root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at(|| "unmount the old root")?;
    rustix::process::chdir("/").at(|| "enter /")
}

/// Enters the working directory, making it if it is missing.
fn enter_working_directory(cwd: &Path) -> Result<(), Failure> {
    let step = || format!("enter working directory {}", cwd.display());
    if !cwd.is_absolute() {
        return Err(Failure::Refused(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            cwd.display()
        )));
    }
    match rustix::process::chdir(cwd) {
        Err(rustix::io::Errno::NOENT) => {
            DirBuilder::new().recursive(true).mode(0o755).create(cwd).at(step)?;
            rustix::process::chdir(cwd).at(step)
        }
        result => result.at(step),
    }?;
    stay_inside(cwd)
}

/// Refuses a working directory that is outside of the root: a descriptor of somebody else's.
pub(super) fn stay_inside(cwd: &Path) -> Result<(), Failure> {
    let is_inside =
        rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.to_bytes().starts_with(b"/"));
    match is_inside {
        true => Ok(()),
        false => Err(Failure::Refused(format!(
            "the working directory {} is outside of the container",
            cwd.display()
        ))),
    }
}

/// Lets the container's user open its own standard streams again (`/dev/stdout`) where they are
/// pipes: their inode belongs to whoever made them.
pub(super) fn own_pipes(uid: u32) {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let is_pipe = rustix::fs::fstat(stream)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo());
        if is_pipe {
            // Not ours to change: the program can still use the stream it has.
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
}

/// Gives up root's privileges, as far as the process is not to have them.
pub(super) fn become_user(
    process: &Process,
    privileged: bool,
    filter: &Compiled,
    identity: &Identity,
) -> Result<(), Failure> {
    let of_process = Capabilities::kept(process)?;
    let kept = if privileged { Capabilities::all() } else { of_process };
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).at(|| "set supplementary groups")?;
    // While we still have CAP_SYS_ADMIN, without which a filter needs no_new_privs.
    filter.install()?;
    caps::limit_bounding_set(kept)?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .at(|| format!("become group {}", identity.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .at(|| format!("become user {}", identity.uid))?;
    caps::set(kept, identity.uid)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at(|| "set no_new_privs")?;
    }
    Ok(())
}

pub(super) fn report(
    socket: &OwnedFd,
    report: &Report,
    fd: Option<&OwnedFd>,
) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(report)?;
    let descriptors: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
