//! The streams that a program of this package answers on: whether the answer arrives, whether they
//! are terminals, and how large and how colourful these are.
//!
//! Both programs have it; what they print, and in which order, is their own `ui`'s.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

/// What the first part of the answer that could not be written met; empty while all could.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// Notes how a part of the answer was written. Whether all of it was is for [`answered`] to tell.
pub(crate) fn note_unwritten(written: io::Result<()>) {
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

/// Whether the reader of the answer has gone away.
pub(crate) fn is_unread() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

/// Whether standard error is a terminal that can be drawn on.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The size of the terminal that standard error is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// How large the terminal is now.
pub(crate) fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => Size { columns: 80, rows: 24 },
    }
}

/// Whether something is shown in colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colors {
    Always,
    Never,
}

impl Colors {
    /// A text in a colour, by its number in ECMA-48's SGR.
    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Always => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Never => text.to_owned(),
        }
    }

    /// Colours where they can be seen, unless `NO_COLOR` says otherwise (no-color.org).
    pub(crate) fn on(is_terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_terminal && !unwanted { Self::Always } else { Self::Never }
    }
}

/// Whether standard error is coloured.
pub(crate) fn stderr_colors() -> Colors {
    Colors::on(is_terminal())
}

/// Whether a control character was typed, which must not come back as it was.
pub(crate) fn control_was_typed() -> bool {
    std::env::args_os().any(|arg| arg.to_string_lossy().contains(char::is_control))
}
