//! The terminal: the one place of this program that writes to standard output and standard error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;

/// What the first part of the answer that could not be written met.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line of the answer.
pub(crate) fn line(text: impl std::fmt::Display) {
    raw(&format!("{text}\n"));
}

/// Prints the answer as it stands. Whether it arrived is for [`answered`] to tell.
pub(crate) fn raw(text: &str) {
    note_unwritten(io::stdout().write_all(text.as_bytes()));
}

fn note_unwritten(written: io::Result<()>) {
    match written {
        // A reader that has gone away wants no more of it.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            UNWRITTEN.lock().expect("no holder panics").get_or_insert(error);
        }
        _ => {}
    }
}

/// Fails if a part of the answer could not be written. Called when there is no more to come.
pub(crate) fn answered() -> anyhow::Result<()> {
    note_unwritten(io::stdout().flush());
    match UNWRITTEN.lock().expect("no holder panics").take() {
        Some(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
        None => Ok(()),
    }
}

/// Tells of something that keeps nothing from working.
pub(crate) fn warn(text: impl std::fmt::Display) {
    eprintln!("warning: {text}");
}

/// Says why nothing was done.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<compose::Error>() {
        Some(error) => eprintln!("{}", error.render()),
        None => eprintln!("{error:#}"),
    }
    ExitCode::FAILURE
}

/// Help, the version, or what is wrong with the command line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
