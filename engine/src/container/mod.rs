//! Containers: a process in its own namespaces, on its own root file system, without privileges.
//!
//! ```text
//! launch   makes the cgroups, starts the container's init (a copy of this process if that has one
//!          thread, else this program again), hands it an `Assignment` and hears its `Report`
//! init     process 1 of the container: builds the root file system, gives up its privileges,
//!          becomes the container's program
//! zygote   makes inits ahead, for who launches many
//! ```
//!
//! [`exec()`] starts another process in it, [`Running`] tells of one that somebody else launched.
//! A program that launches containers calls [`is_init`] first thing in `main`, and [`init_main`]
//! when it is. Needs root and Linux 5.12 (`mount_setattr(2)`). Nothing here knows an image, a
//! Dockerfile or a store.

mod caps;
pub mod cdi;
mod cgroup;
mod devices;
mod enter;
mod error;
mod exec;
mod init;
mod launch;
mod mounts;
mod offline;
pub mod options;
mod path;
mod pipes;
mod reaper;
mod rlimit;
mod rootfs;
mod running;
mod seccomp;
pub mod spec;
mod streams;
mod syscalls;
pub mod tty;
mod user;
mod wire;
mod zygote;

#[cfg(test)]
mod tests;

pub use caps::{DEFAULT_CAPABILITIES, capability_names};
pub use cgroup::{CgroupError, sweep};
#[cfg(test)]
pub(crate) use devices::RULES as DEVICE_RULES;
pub use enter::{ExecSpec, begin_exec, exec};
pub use error::LaunchError;
pub use init::{init_main, is_init};
pub(crate) use launch::own_program;
pub use launch::{Container, Exit, Launching, Stdio, Stream, launch, launch_from};
pub(crate) use offline::Offline;
pub use path::{MountPoint, remove_mount_points};
pub use pipes::Pipes;
pub use rootfs::{MASKED_PATHS, READ_ONLY_PATHS};
pub use running::{Running, Usage};
pub use seccomp::{Profile, ProfileError};
pub use spec::ContainerSpec;
pub use streams::Relayed;
pub use zygote::Zygote;
