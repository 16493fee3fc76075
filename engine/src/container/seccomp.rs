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

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::caps::Capabilities;
use super::spec::{Process, Seccomp};
use super::wire::{AtStep, Failure};
use crate::sys::process::install_filter;

/// A program for the kernel, as a launching process hands it to the init that installs it: whoever
/// starts many containers compiles once. None where nothing is filtered.
#[derive(Clone, Debug, Default)]
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

/// Hexadecimal digits of an instruction.
const DIGITS: usize = 16;

/// One text of digits: as numbers, hundreds of instructions are most of what init has to parse.
impl Serialize for Compiled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const NIBBLES: &[u8; 16] = b"0123456789abcdef";
        let text = self.0.as_ref().map(|program| {
            let mut digits = Vec::with_capacity(program.len() * DIGITS);
            for byte in program.iter().flat_map(|packed| packed.to_be_bytes()) {
                digits.extend([NIBBLES[usize::from(byte >> 4)], NIBBLES[usize::from(byte & 15)]]);
            }
            String::from_utf8(digits).expect("hexadecimal digits are ASCII")
        });
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Compiled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<&str>::deserialize(deserializer)? else { return Ok(Self(None)) };
        let (instructions, rest) = text.as_bytes().as_chunks::<DIGITS>();
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let packed = |digits: &[u8; DIGITS]| {
            digits
                .iter()
                .try_fold(0, |packed, digit| Some(packed << 4 | u64::from(nibble(*digit)?)))
        };
        let program: Option<Vec<u64>> = instructions.iter().map(packed).collect();
        match program.filter(|_| rest.is_empty()) {
            Some(program) => Ok(Self(Some(program))),
            None => Err(D::Error::custom("the seccomp filter is not a text of hexadecimal digits")),
        }
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
        for damaged in ["\"0\"", "\"000000000000000G\"", "7"] {
            assert!(serde_json::from_str::<Compiled>(damaged).is_err(), "{damaged}");
        }
        let none = serde_json::to_vec(&Compiled(None)).expect("write");
        assert_eq!(serde_json::from_slice::<Compiled>(&none).expect("read").0, None);
        let first = arrived.0.expect("a program")[0];
        let load = &compiled[0];
        assert_eq!((first >> 48, first as u32), (u64::from(load.code), load.k));
    }
}
