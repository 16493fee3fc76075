//! What a launching process and the init it started say to each other.
//!
//! The assignment is a file that is complete before init runs. Reports go over a socket that
//! closes when init becomes the container's program; each is one packet.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::devices::Node;
use super::path::MountPoint;
use super::seccomp::Compiled;
use super::spec::{ContainerSpec, Process};

/// The `argv[0]` that makes a program a container's init.
pub(super) const INIT_NAME: &str = "rbuild-init";

/// The `argv[0]` of an init that stays process 1, where people look for docker's.
pub(super) const REAPER_NAME: &str = "/sbin/docker-init";

/// The `argv[0]` that makes a program enter a container and become a process of it.
pub(super) const ENTER_NAME: &str = "rbuild-exec";

/// The `argv[0]` that makes a program make inits, and where it is asked for them.
pub(super) const ZYGOTE_NAME: &str = "rbuild-zygote";
pub(super) const ZYGOTE_FD: RawFd = 3;

/// Where they find their assignment, and where they report.
pub(super) const ASSIGNMENT_FD: RawFd = 3;
pub(super) const REPORT_FD: RawFd = 4;

/// What init is to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Assignment<'a> {
    pub(super) spec: Cow<'a, ContainerSpec>,
    /// What its program's system calls go through.
    pub(super) filter: Compiled,
    /// Where it is to be, and may be already.
    pub(super) birthplace: Option<Birthplace>,
    /// Directories of the cgroups to join beside that.
    pub(super) cgroups: Vec<PathBuf>,
    /// The cgroup file systems to show in the container.
    pub(super) cgroup_mounts: Vec<CgroupMount>,
    /// Whether a cgroup keeps the container from devices.
    pub(super) devices_confined: bool,
    /// Device nodes beside the usual ones.
    pub(super) devices: Vec<Node>,
}

/// What is to be done in a running container; a descriptor for its process 1 comes with it.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry<'a> {
    pub(super) process: Cow<'a, Process>,
    /// All capabilities, whatever the process has.
    pub(super) privileged: bool,
    pub(super) filter: Compiled,
    /// Where it is to be, and may be already.
    pub(super) birthplace: Option<Birthplace>,
    /// Directories of the cgroups to join beside that.
    pub(super) cgroups: Vec<PathBuf>,
}

/// A cgroup that a process is in from the start, if the one it is a copy of is there or if the kernel
/// can make it there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Birthplace {
    /// As seen from the host.
    pub(super) directory: PathBuf,
    /// Whether it is of version 2, where a process can be made (`CLONE_INTO_CGROUP`, clone(2)).
    pub(super) unified: bool,
    /// Whether other containers' processes are born there as well.
    pub(super) shared: bool,
}

impl Birthplace {
    /// Opens it for a process to be made there, if the kernel can.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        let directory = self.unified.then_some(&self.directory)?;
        // Who cannot be born there joins it, and says why that cannot be.
        open_cgroup(directory).ok()
    }
}

/// Opens a cgroup for processes to be made there.
pub(super) fn open_cgroup(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

/// Where [`Entry`] comes with the descriptor for the container's process 1.
pub(super) const TARGET_FD: RawFd = 5;

impl Assignment<'_> {
    /// Whether mounts are what keeps the container from devices: all are `nodev` but those of the
    /// usual device nodes.
    pub(super) fn mounts_confine_devices(&self) -> bool {
        !self.devices_confined && !self.spec.privileged
    }
}

/// A cgroup hierarchy to mount below /sys/fs/cgroup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum CgroupMount {
    /// The unified hierarchy, at /sys/fs/cgroup itself.
    Unified,
    /// A hierarchy of version 1 with these controllers, such as `cpu,cpuacct`.
    Legacy(String),
}

/// What the launching process answers to [`Report::Moved`].
pub(super) const FOLLOWED: &[u8] = b"followed";

/// What init tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// All is set up and the program is started next. The terminal's master side comes with this
    /// packet if one was asked for.
    Ready {
        /// The mount points that had to be made in the root file system, in the order of making.
        created: Vec<MountPoint>,
    },
    /// The process goes on as another child of the launching process, whose descriptor comes with
    /// this packet; the one that was started ends. The answer is [`FOLLOWED`].
    Moved {
        /// As the launching process sees it.
        pid: i32,
    },
    /// It could not be done.
    Failed(Failure),
}

/// Why init gave up.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// A step of setting up was refused by the kernel.
    Step { step: String, errno: i32 },
    /// What was asked for is not possible in this container.
    Refused(String),
    /// The program does not exist.
    NotFound(String),
    /// The program exists and cannot be executed.
    NotExecutable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Step { step, errno } => {
                write!(f, "{step}: {}", io::Error::from_raw_os_error(*errno))
            }
            Failure::Refused(text) | Failure::NotFound(text) | Failure::NotExecutable(text) => {
                f.write_str(text)
            }
        }
    }
}

/// Names the step in which a system call failed.
pub(super) trait AtStep<T> {
    /// `step` is only made when it is needed.
    fn at<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T> AtStep<T> for Result<T, Errno> {
    fn at<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|errno| Failure::Step { step: step().into(), errno: errno.raw_os_error() })
    }
}

impl<T> AtStep<T> for io::Result<T> {
    fn at<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| Failure::Step {
            step: step().into(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })
    }
}
