//! What a container is to be, closed: nothing in it is left to look up or to decide.
//!
//! `RUN`, `run`, `exec` and compose all end in a [`ContainerSpec`]; only `launch` and the child it
//! starts read it. It knows no image, no Dockerfile and no store, only file systems to mount and a
//! process to start.

use std::path::PathBuf;

use cache::lower::Lower;
use serde::{Deserialize, Serialize};

use super::seccomp::Profile;

/// Everything the kernel is asked for to make one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Names the container in cgroups and messages: `[a-zA-Z0-9_.-]+`.
    pub id: String,
    /// The UTS host name. Not used in the host's UTS namespace.
    pub hostname: String,
    /// The NIS domain name, if it is to be set.
    pub domainname: Option<String>,
    /// What is mounted as `/`.
    pub rootfs: Rootfs,
    /// Mounts in the order they are made, after the standard ones (proc, sys, dev, ...).
    pub mounts: Vec<Mount>,
    /// The program to start.
    pub process: Process,
    /// The network namespace to live in.
    pub network: Network,
    /// The process namespace to live in.
    pub pid: Namespace,
    /// The UTS namespace to live in.
    pub uts: Namespace,
    /// The cgroup namespace to live in.
    pub cgroup_namespace: Namespace,
    /// The namespace of System V and POSIX shared memory to live in.
    pub ipc: Ipc,
    /// Limits for the container's cgroup.
    pub resources: Resources,
    /// Bytes of /dev/shm; 64 MiB when absent.
    pub shm_size: Option<u64>,
    /// Whether `/` is mounted read-only.
    pub read_only: bool,
    /// All capabilities, no seccomp filter, no masked paths, all devices.
    pub privileged: bool,
    /// The directory below which the container's cgroups are made, in each hierarchy.
    pub cgroup_parent: Option<String>,
    /// What confines system calls.
    pub seccomp: Seccomp,
    /// Kernel parameters, `net.ipv4.ip_forward` style names.
    pub sysctls: Vec<(String, String)>,
    /// Devices of the host beside the usual ones.
    pub devices: Vec<Device>,
    /// Devices that may be used, if a node of them is made.
    pub device_rules: Vec<DeviceRule>,
    /// Paths that are covered; docker's when absent. None are when privileged.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that are read-only; docker's when absent. None are when privileged.
    pub read_only_paths: Option<Vec<String>>,
    /// Whether process 1 is an init of ours that passes signals on to the program and reaps.
    pub init: bool,
}

/// A namespace to live in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The container's own.
    #[default]
    New,
    /// That of whoever launches.
    Host,
    /// An existing one, by a path such as `/proc/<pid>/ns/pid`.
    Path(PathBuf),
}

/// Shared memory and message queues, and with them /dev/shm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipc {
    /// The container's own.
    #[default]
    New,
    /// The container's own, without a /dev/shm.
    NoShm,
    /// Those of whoever launches.
    Host,
    /// Another container's.
    Join {
        /// Its namespace, as `/proc/<pid>/ns/ipc`.
        namespace: PathBuf,
        /// The mount namespace whose /dev/shm is shared, as `/proc/<pid>/ns/mnt`.
        mounts: PathBuf,
    },
}

/// A device of the host, or a directory with some: `--device host:container:rwm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where it is in the container.
    pub container: PathBuf,
    /// What may be done with it.
    pub access: Access,
}

/// A rule of what a container may do with devices; what no rule allows it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// The kind of device.
    pub kind: DeviceKind,
    /// All major numbers when absent.
    pub major: Option<u32>,
    /// All minor numbers when absent.
    pub minor: Option<u32>,
    /// What may be done.
    pub access: Access,
}

/// What a device node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Either.
    All,
    /// A block device.
    Block,
    /// A character device.
    Character,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
    /// Make a node of it.
    pub make: bool,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay. `lower` has the uppermost directory first. Without `upper` it is read-only.
    Overlay {
        /// Read-only layers, the uppermost first; two at least, or one and an upper directory.
        lower: Vec<Lower>,
        /// Where changes go, and overlay's work directory on the same file system.
        upper: Option<(PathBuf, PathBuf)>,
        /// Skips overlay's syncing: for what is thrown away after a crash.
        volatile: bool,
    },
    /// A directory, bound as it is.
    Directory(PathBuf),
}

impl Default for Rootfs {
    /// The directory of no name, which cannot be bound.
    fn default() -> Rootfs {
        Rootfs::Directory(PathBuf::new())
    }
}

/// One mount inside the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container; symlinks are resolved inside its root. A missing target
    /// is created (a directory, or a file when the source is one).
    pub target: PathBuf,
    /// What is seen there.
    pub source: MountSource,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MountSource {
    /// A host path (directory or file), with everything mounted below it.
    Bind(PathBuf),
    /// A host path, with more to say of the mounts below it.
    BindWith {
        /// The directory or file.
        path: PathBuf,
        /// What comes along of the mounts below it.
        below: Below,
        /// How mounts made below it later spread.
        propagation: Propagation,
    },
    /// A path inside a host directory that is not trusted: resolved with `RESOLVE_IN_ROOT`.
    BindIn {
        /// The host directory that bounds the resolution.
        root: PathBuf,
        /// The path inside it.
        path: PathBuf,
    },
    /// A path inside the merged view of directories (uppermost first); writes go to a scratch
    /// directory that is dropped with the container.
    Overlay {
        /// Read-only layers, the uppermost first; two at least, or one and an upper directory.
        lower: Vec<Lower>,
        /// Upper and work directory for a writable view.
        upper: Option<(PathBuf, PathBuf)>,
        /// The path inside the merged view.
        path: PathBuf,
    },
    /// An empty tmpfs.
    Tmpfs {
        /// Bytes; half of the memory when absent.
        size: Option<u64>,
        /// Mode bits of its root directory.
        mode: u32,
    },
    /// An empty tmpfs with options of its own. Without `mode` it has that of the directory it is
    /// mounted on, if there is one.
    TmpfsWith {
        /// The file system's options, as `("size", "64m")`; a flag has no value.
        options: Vec<(String, String)>,
        /// `MOUNT_ATTR_*` of `mount_setattr(2)`.
        attributes: u32,
    },
    /// A file on a private tmpfs with these bytes (secrets: they never touch a disk).
    File {
        /// The content.
        bytes: Vec<u8>,
        /// Mode bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// What a bind mount does with the mounts below its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Below {
    /// They are there, and read-only if the mount is.
    #[default]
    Followed,
    /// They are there, and as writable as they are on the host.
    Writable,
    /// They are not there.
    Absent,
}

/// How mounts made below a bind mount later, by the host or in the container, spread
/// (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host to the container; the source is on a shared or slave mount.
    Slave,
    /// Both ways; the source is on a shared mount.
    Shared,
}

/// The container's first process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value`, in order; a later one of the same name wins.
    pub env: Vec<String>,
    /// Absolute; created when missing (mode 0755, root).
    pub cwd: PathBuf,
    /// `user[:group]`, names or ids, resolved in the container's /etc/passwd and /etc/group;
    /// empty is root.
    pub user: String,
    /// More groups, names or ids.
    pub additional_groups: Vec<String>,
    /// The effective, permitted and bounding set, as `CAP_CHOWN`. Not used when privileged.
    pub capabilities: Vec<String>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Whether the process may not gain privileges by exec.
    pub no_new_privileges: bool,
    /// Whether the process gets a pseudo terminal as its controlling terminal and its stdio.
    pub terminal: bool,
    /// Rows and columns of the terminal at first.
    pub window: Option<(u16, u16)>,
    /// How much sooner than others it is killed for want of memory: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// A resource limit: `--ulimit name=soft:hard`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// As `nofile`.
    pub name: String,
    /// The soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// The network a container sees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Network {
    /// A new namespace with a loopback device only.
    #[default]
    None,
    /// The namespace of whoever launches.
    Host,
    /// An existing network namespace, by a path such as `/proc/<pid>/fd/<n>`.
    Path(PathBuf),
}

/// How system calls are confined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// A profile of the user's.
    Profile(Box<Profile>),
}

/// Limits of a container's cgroup; absent is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory the kernel tries to go back to when memory is scarce.
    pub memory_reservation: Option<u64>,
    /// How readily anonymous memory is swapped out, 0 to 100 (version 1 only).
    pub memory_swappiness: Option<u64>,
    /// Stops processes at the memory limit instead of killing one (version 1 only).
    pub oom_kill_disable: bool,
    /// Bytes of memory and swap together; -1 is unlimited swap.
    pub memory_swap: Option<i64>,
    /// CPU time in microseconds that may be used per period.
    pub cpu_quota: Option<i64>,
    /// The length of a period in microseconds; 100,000 when absent.
    pub cpu_period: Option<u64>,
    /// Relative weight, 1024 is normal (v1's scale).
    pub cpu_shares: Option<u64>,
    /// CPUs that may be used, as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used.
    pub cpuset_mems: Option<String>,
    /// Tasks at once; -1 is unlimited.
    pub pids: Option<i64>,
    /// Relative weight of block I/O, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// The same for single devices.
    pub blkio_weight_devices: Vec<DeviceLimit>,
    /// Bytes read per second.
    pub read_bps: Vec<DeviceLimit>,
    /// Bytes written per second.
    pub write_bps: Vec<DeviceLimit>,
    /// Reads per second.
    pub read_iops: Vec<DeviceLimit>,
    /// Writes per second.
    pub write_iops: Vec<DeviceLimit>,
}

/// A limit for one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Its node on the host, as /dev/sda.
    pub device: PathBuf,
    /// The limit.
    pub value: u64,
}
