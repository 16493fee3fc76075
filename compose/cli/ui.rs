//! The terminal: the one place of this program that writes to standard output and standard error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;

use frontend::shown::escaped;

/// What the first part of the answer that could not be written met.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line of the answer.
pub(crate) fn line(text: impl std::fmt::Display) {
    raw(format!("{text}\n"));
}

/// Prints the answer as it stands. Whether it arrived is for [`answered`] to tell.
pub(crate) fn raw(text: impl AsRef<[u8]>) {
    above_frame(|| note_unwritten(io::stdout().write_all(text.as_ref())));
}

/// Whether the reader of the answer has gone away.
pub(crate) fn is_unread() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

/// Waits until the reader of the answer has gone away, which may be never.
pub(crate) fn wait_until_unread() {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = io::stdout();
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    loop {
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut polled, None) {
            Ok(_) if polled[0].revents().intersects(gone) => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => loop {
                std::thread::park();
            },
        }
    }
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A list that is drawn in place on standard error: its lines, as they were drawn last. What else is printed comes
/// above it.
static FRAME: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Draws a list in place of the one that was drawn last. Lines are at most as wide as the screen.
pub(crate) fn set_frame(lines: &[String]) {
    let mut frame = FRAME.lock().expect("no holder panics");
    let text = erased(&frame) + &shown(lines);
    lines.clone_into(&mut frame);
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Leaves the list on the screen: what is printed next comes below it.
pub(crate) fn leave_frame() {
    FRAME.lock().expect("no holder panics").clear();
}

/// Prints something above the list, if there is one.
fn above_frame(print: impl FnOnce()) {
    let frame = FRAME.lock().expect("no holder panics");
    if frame.is_empty() {
        return print();
    }
    let _ = io::stderr().write_all(erased(&frame).as_bytes());
    print();
    let _ = io::stderr().write_all(shown(&frame).as_bytes());
}

/// What takes a list from the screen: the cursor goes up to its first line, and all below is cleared.
fn erased(frame: &[String]) -> String {
    match frame.len() {
        0 => String::new(),
        rows => format!("\x1b[{rows}A\r\x1b[J"),
    }
}

/// What shows a list, without the cursor jumping about, and without lines that are wider than we think being broken.
fn shown(lines: &[String]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    format!("\x1b[?25l\x1b[?7l{lines}\x1b[?7h\x1b[?25h")
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

/// Whether standard error is a terminal that can be drawn on.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard error is coloured.
pub(crate) fn stderr_colors() -> Colors {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if is_terminal() && !unwanted { Colors::Always } else { Colors::Never }
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
}

/// Whether the answer is coloured: as `--ansi` says, else on a terminal, unless `NO_COLOR` says otherwise
/// (no-color.org).
pub(crate) fn colors(ansi: &str) -> Colors {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match ansi {
        "always" => Colors::Always,
        "never" => Colors::Never,
        _ if io::stdout().is_terminal() && !unwanted => Colors::Always,
        _ => Colors::Never,
    }
}

/// Tells something beside the answer.
pub(crate) fn note(text: impl std::fmt::Display) {
    screen(&format!("{text}\n"));
}

/// Writes to standard error as it stands, in one go: what others write there comes before or after.
pub(crate) fn screen(text: &str) {
    above_frame(|| drop(io::stderr().write_all(text.as_bytes())));
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // A cause that is said already is not said again.
    texts.dedup_by(|cause, text| text.ends_with(cause.as_str()));
    texts.join(": ")
}

/// Tells of something that keeps nothing from working.
pub(crate) fn warn(text: impl std::fmt::Display) {
    note(escaped(&format!("warning: {text}")));
}

/// Says why nothing was done.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let text = match error.downcast_ref::<compose::Error>() {
        Some(error) => error.render(),
        None => format!("{error:#}"),
    };
    // What others have written does nothing to the terminal.
    eprintln!("{}", escaped(&text));
    ExitCode::FAILURE
}

/// Help, the version, or what is wrong with the command line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // What was typed stands in it as it was typed.
    let has_control = |arg: std::ffi::OsString| arg.to_string_lossy().contains(char::is_control);
    match error.use_stderr() && std::env::args_os().any(has_control) {
        true => eprint!("{}", escaped(&error.render().to_string())),
        false => drop(error.print()),
    }
    match error.use_stderr() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
