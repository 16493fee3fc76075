//! Seccomp filters: docker's default profile or one of the user's, compiled to BPF.
//!
//! ```text
//! builtin   the judgement docker's default profile has of each call
//! profile   a profile as docker reads it from a file, and its judgements
//! compile   judgements to a program for the kernel
//! ```

mod builtin;
mod compile;
mod profile;

pub use self::profile::{Profile, ProfileError};

use super::caps::Capabilities;
use super::spec::Seccomp;
use super::wire::{AtStep, Failure};
use crate::sys::process::install_filter;

/// Installs the filter for a container that keeps these capabilities.
pub(super) fn install(seccomp: &Seccomp, kept: Capabilities) -> Result<(), Failure> {
    let filter = match seccomp {
        Seccomp::Unconfined => return Ok(()),
        Seccomp::Default => builtin::filter(kept),
        Seccomp::Profile(profile) => profile.filter(kept).map_err(refusal)?,
    };
    let program = compile::program(&filter).map_err(refusal)?;
    install_filter(&program).at(|| "install the seccomp filter")
}

fn refusal(error: ProfileError) -> Failure {
    Failure::Refused(format!("seccomp profile: {error}"))
}
