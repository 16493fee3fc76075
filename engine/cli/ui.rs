//! The terminal: the one place that writes to standard output and standard error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal, Write};

use crate::error::Silent;

/// Prints a line of the answer.
pub(crate) fn line(text: impl std::fmt::Display) {
    // A reader that has gone away wants no more of it.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints the answer as it stands.
pub(crate) fn raw(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes);
}

/// Tells something beside the answer.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether standard error is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints an error: what failed, then each cause, once.
pub(crate) fn error(error: &anyhow::Error) {
    if error.downcast_ref::<Silent>().is_some() {
        return;
    }
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if said.last().is_none_or(|last| !last.ends_with(&text)) {
            said.push(text);
        }
    }
    note(format_args!("ERROR: {}", said.join(": ")));
}
