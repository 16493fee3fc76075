//! What a container is to be, closed: nothing in it is left to look up or to decide.
//!
//! `RUN`, `run`, `exec` and compose all end in a [`ContainerSpec`]; only `launch` and the child it
//! starts read it. It knows no image, no Dockerfile and no store, only file systems to mount and a
//! process to start.

use std::path::PathBuf;

use cache::lower::Lower;
use serde::{Deserialize, Serialize};

/// Everything the kernel is asked for to make one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Names the container in cgroups and messages: `[a-zA-Z0-9_.-]+`.
    pub id: String,
    /// The UTS host name.
    pub hostname: String,
    /// What is mounted as `/`.
    pub rootfs: Rootfs,
    /// Mounts in the order they are made, after the standard ones (proc, sys, dev, ...).
    pub mounts: Vec<Mount>,
    /// The program to start.
    pub process: Process,
    /// The network namespace to live in.
    pub network: Network,
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

/// The container's first process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Network {
    /// A new namespace with a loopback device only.
    None,
    /// The namespace of whoever launches.
    Host,
    /// An existing network namespace, by a path such as `/proc/<pid>/fd/<n>`.
    Path(PathBuf),
}

/// How system calls are confined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile.
    Default,
    /// No filter.
    Unconfined,
}

/// Limits of a container's cgroup; absent is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
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
}
