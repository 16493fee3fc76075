//! Exit codes: docker's, by what went wrong.

use engine::container::LaunchError;
use engine::containers;
use engine::containers::exec::ExecError;

/// An error that has said all there is to say, and only ends the program with a code.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub(crate) struct Silent(pub(crate) u8);

/// An option was given what it cannot be; the source says why.
#[derive(Debug, thiserror::Error)]
#[error("invalid argument {value:?} for \"{flag}\" flag")]
pub(crate) struct InvalidArgument {
    /// The option, as its verb's help names it.
    pub(crate) flag: &'static str,
    /// What it was given.
    pub(crate) value: String,
}

/// The code to end with for an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    // A context is found by the whole error only.
    if error.downcast_ref::<InvalidArgument>().is_some() {
        return 125;
    }
    for cause in error.chain() {
        if let Some(Silent(code)) = cause.downcast_ref::<Silent>() {
            return *code;
        }
        if let Some(ExecError::Launch { code, .. }) = cause.downcast_ref() {
            return u8::try_from(*code).unwrap_or(126);
        }
        if let Some(error) = cause.downcast_ref::<LaunchError>() {
            return u8::try_from(error.exit_code()).unwrap_or(125);
        }
        if let Some(containers::Error::Start { code, .. }) = cause.downcast_ref() {
            return u8::try_from(*code).unwrap_or(125);
        }
    }
    match error.downcast_ref::<RunFailed>() {
        Some(RunFailed) => 125,
        None => 1,
    }
}

/// Marks errors of `run` that are ours and not the program's.
#[derive(Debug, thiserror::Error)]
#[error("cannot run the container")]
pub(crate) struct RunFailed;
