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

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::caps::Capabilities;
use super::spec::{Process, Seccomp};
use super::wire::{AtStep, Failure};
use crate::sys::process::install_filter;

/// A program for the kernel, as a launching process hands it to the init that installs it: whoever
/// starts many containers compiles once. None where nothing is filtered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Compiled(Option<Vec<u64>>);

/// The default profile that was compiled last, and for which capabilities.
static LAST: Mutex<Option<(Capabilities, Compiled)>> = Mutex::new(None);

impl Compiled {
    /// Compiles the filter for a process: what it may do depends on the capabilities it keeps.
    pub(super) fn compile(seccomp: &Seccomp, process: &Process) -> Result<Self, Failure> {
        let profile = match seccomp {
            Seccomp::Unconfined => return Ok(Self(None)),
            Seccomp::Default => None,
            Seccomp::Profile(profile) => Some(profile),
        };
        let kept = Capabilities::kept(process)?;
        if let Some(profile) = profile {
            let filter = profile.filter(kept).map_err(refusal)?;
            return Ok(Self::of(&compile::program(&filter).map_err(refusal)?));
        }
        let mut last = LAST.lock().expect("no holder panics");
        if let Some((_, program)) = last.as_ref().filter(|(known, _)| *known == kept) {
            return Ok(program.clone());
        }
        let program = Self::of(&compile::program(&builtin::filter(kept)).map_err(refusal)?);
        *last = Some((kept, program.clone()));
        Ok(program)
    }

    fn of(instructions: &[libc::sock_filter]) -> Self {
        let packed = |one: &libc::sock_filter| {
            u64::from(one.code) << 48
                | u64::from(one.jt) << 40
                | u64::from(one.jf) << 32
                | u64::from(one.k)
        };
        Self(Some(instructions.iter().map(packed).collect()))
    }

    /// Confines this thread.
    pub(super) fn install(&self) -> Result<(), Failure> {
        let Some(packed) = &self.0 else { return Ok(()) };
        let instruction = |one: &u64| libc::sock_filter {
            code: (one >> 48) as u16,
            jt: (one >> 40) as u8,
            jf: (one >> 32) as u8,
            k: *one as u32,
        };
        let program: Vec<libc::sock_filter> = packed.iter().map(instruction).collect();
        install_filter(&program).at(|| "install the seccomp filter")
    }
}

fn refusal(error: ProfileError) -> Failure {
    Failure::Refused(format!("seccomp profile: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_arrives_as_it_was_compiled() {
        let kept = Capabilities::of(["CAP_CHOWN"].into_iter());
        let compiled = compile::program(&builtin::filter(kept)).expect("compile");
        let sent = serde_json::to_vec(&Compiled::of(&compiled)).expect("write");
        let arrived: Compiled = serde_json::from_slice(&sent).expect("read");
        assert_eq!(arrived.0, Compiled::of(&compiled).0);
        let first = arrived.0.expect("a program")[0];
        let load = &compiled[0];
        assert_eq!((first >> 48, first as u32), (u64::from(load.code), load.k));
    }
}
