//! The terminal: the one place that writes to standard output and standard error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use frontend::shown::escaped;

use crate::error::Silent;
pub(crate) use crate::terminal::{
    Colors, Size, answered, is_terminal, is_unread, size, stderr_colors as colors,
    stdout_is_terminal,
};
use crate::terminal::{control_was_typed, note_unwritten};

/// Red, for what went wrong.
const RED: &str = "31";

/// Prints a line of the answer.
pub(crate) fn line(text: impl std::fmt::Display) {
    raw(format!("{text}\n").as_bytes());
}

/// Prints the answer as it stands. Whether it arrived is for [`answered`] to tell.
pub(crate) fn raw(bytes: &[u8]) {
    note_unwritten(io::stdout().write_all(bytes));
}

/// Passes on what another program prints, which cannot go on if nobody takes it.
pub(crate) fn pass_on(bytes: &[u8], to: &str, mut stream: impl Write) -> anyhow::Result<()> {
    let written = stream.write_all(bytes).and_then(|()| stream.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => anyhow::anyhow!("write {to}: broken pipe"),
        _ => anyhow::Error::new(error).context(format!("write {to}")),
    })
}

/// Tells something beside the answer.
pub(crate) fn note(text: impl std::fmt::Display) {
    screen(&format!("{text}\n"));
}

/// Writes to standard error as it stands, in one go: what others write there comes before or after.
pub(crate) fn screen(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether somebody sits there: standard input and output are a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && stdout_is_terminal()
}

/// An error with what helps to understand it: printed above it, where it happened; below it, what
/// to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Report {
    /// What failed, in a line.
    pub(crate) what: String,
    /// Lines that show where, or nothing.
    pub(crate) place: String,
    /// What may help, or nothing.
    pub(crate) hint: Option<String>,
}

/// Prints what clap has to say: help, or what was typed wrong (docker's exit code for it is 125).
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        print_usage(error);
        return ExitCode::from(125);
    }
    let printed = error.print();
    note_unwritten(printed);
    match answered() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            self::error(&failed);
            ExitCode::FAILURE
        }
    }
}

/// Prints what was typed wrong, which stands in it as it was typed.
fn print_usage(error: &clap::Error) {
    match control_was_typed() {
        true => screen(&escaped(&error.render().to_string())),
        false => drop(error.print()),
    }
}

/// Prints an error: what failed, then each cause, once; around it what helps. What others have
/// written does nothing to the terminal.
pub(crate) fn error(error: &anyhow::Error) {
    if error.downcast_ref::<Silent>().is_some() {
        return;
    }
    let report = error.downcast_ref::<Report>();
    if let Some(report) = report {
        screen(&escaped(&report.place));
    }
    let (what, detail) = said(error.chain().map(|cause| escaped(&cause.to_string())));
    note(format_args!("{} {what}", colors().paint(RED, "ERROR:")));
    screen(&detail);
    if let Some(hint) = report.and_then(|report| report.hint.as_ref()) {
        note(escaped(hint));
    }
}

/// The first lines of an error and its causes as one line, and all that they say on further lines.
fn said(chain: impl Iterator<Item = String>) -> (String, String) {
    let mut heads: Vec<String> = Vec::new();
    let mut detail = String::new();
    for text in chain {
        let (head, more) = text.split_once('\n').unwrap_or((&text, ""));
        // A message that was rendered for itself says so at its beginning.
        let head = head.strip_prefix("error: ").unwrap_or(head).trim_end_matches([' ', ':']);
        if heads.iter().any(|said| said.ends_with(head)) {
            continue;
        }
        if heads.last().is_some_and(|said| head.starts_with(said.as_str())) {
            heads.pop();
        }
        heads.push(head.to_owned());
        if !more.is_empty() {
            detail.push_str(more);
            detail.push_str(if more.ends_with('\n') { "" } else { "\n" });
        }
    }
    (heads.join(": "), detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        for (chain, what, detail) in [
            (&["one"][..], "one", ""),
            (&["open it", "not found"], "open it: not found", ""),
            (&["open it: not found", "not found"], "open it: not found", ""),
            (&["open it", "open it: not found", "not found"], "open it: not found", ""),
            (&["same", "same"], "same", ""),
            (&["error: bad word\n --> f:1\n"], "bad word", " --> f:1\n"),
            (&["build", "cannot read\nline 1"], "build: cannot read", "line 1\n"),
        ] {
            let said = said(chain.iter().map(|text| (*text).to_owned()));
            assert_eq!(said, (what.to_owned(), detail.to_owned()), "{chain:?}");
        }
    }
}
