//! Why a container could not be launched.

use std::io;

use thiserror::Error;

use super::cgroup::CgroupError;
use super::wire::Failure;

/// A container was not launched; nothing of it is left.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The container's cgroups could not be made, or not with the limits asked for.
    #[error("prepare the container's cgroups")]
    Cgroup(#[source] CgroupError),
    /// A device that was asked for is not there, or is none.
    #[error("add a device to the container")]
    Device(#[source] io::Error),
    /// The program could not start itself again in new namespaces.
    #[error("start the container's init")]
    Spawn(#[source] io::Error),
    /// The specification did not get to the init, or its report not back.
    #[error("talk to the container's init")]
    Talk(#[source] io::Error),
    /// The kernel refused a step of setting up the container.
    #[error("{step}")]
    Setup {
        /// What was tried, as "mount /proc".
        step: String,
        /// Why not.
        source: io::Error,
    },
    /// The specification asks for what this container cannot have.
    #[error("{0}")]
    Refused(String),
    /// The program to run is not there (docker's exit code 127).
    #[error("{0}")]
    NotFound(String),
    /// The program to run cannot be executed (docker's exit code 126).
    #[error("{0}")]
    NotExecutable(String),
    /// The init ended without a word.
    #[error("the container's init ended before it started the program")]
    InitDied,
}

impl LaunchError {
    /// The exit code docker's command line has for this failure.
    pub fn exit_code(&self) -> i32 {
        match self {
            LaunchError::NotFound(_) => 127,
            LaunchError::NotExecutable(_) => 126,
            _ => 125,
        }
    }
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> LaunchError {
        match failure {
            Failure::Step { step, errno } => {
                LaunchError::Setup { step, source: io::Error::from_raw_os_error(errno) }
            }
            Failure::Refused(text) => LaunchError::Refused(text),
            Failure::NotFound(text) => LaunchError::NotFound(text),
            Failure::NotExecutable(text) => LaunchError::NotExecutable(text),
        }
    }
}
