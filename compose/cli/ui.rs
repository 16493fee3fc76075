//! The terminal: the one place of this program that writes to standard output and standard error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;

use compose::failure::Failure;
use frontend::shown::escaped;

use crate::interrupt::INTERRUPTED;

pub(crate) use crate::terminal::{
    Colors, Size, answered, is_terminal, is_unread, size, stderr_colors, stdout_is_terminal,
};
use crate::terminal::{control_was_typed, note_unwritten};

/// Prints a line of the answer.
pub(crate) fn line(text: impl std::fmt::Display) {
    raw(format!("{text}\n"));
}

/// Prints the answer as it stands. Whether it arrived is for [`answered`] to tell.
pub(crate) fn raw(text: impl AsRef<[u8]>) {
    let print = || note_unwritten(io::stdout().write_all(text.as_ref()));
    // Elsewhere whoever reads may keep this waiting, and nothing but this.
    if stdout_is_terminal() { above_frame(print) } else { print() }
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
    if !is_terminal() {
        return print();
    }
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

/// Whether the answer is coloured: as `--ansi` says, else on a terminal, unless `NO_COLOR` says otherwise
/// (no-color.org).
pub(crate) fn colors(ansi: &str) -> Colors {
    match ansi {
        "always" => Colors::Always,
        "never" => Colors::Never,
        _ => Colors::on(stdout_is_terminal()),
    }
}

/// Tells something beside the answer, unless nobody reads it: what is done does not wait for that.
pub(crate) fn note(text: impl std::fmt::Display) {
    if is_terminal() || takes_more() {
        screen(format!("{text}\n"));
    }
}

/// Whether standard error can be written to, or soon can.
fn takes_more() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    // What cannot be waited for can be written to.
    !matches!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 })), Ok(0))
}

/// Writes to standard error as it stands, in one go: what others write there comes before or after.
pub(crate) fn screen(text: impl AsRef<[u8]>) {
    above_frame(|| drop(io::stderr().write_all(text.as_ref())));
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

/// Says why nothing was done; with the code of docker compose if somebody wanted that.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let text = match error.downcast_ref::<compose::Error>() {
        Some(error) => error.render(),
        None => format!("{error:#}"),
    };
    // What others have written does nothing to the terminal.
    eprintln!("{}", escaped(&text));
    match error.downcast_ref() {
        Some(Failure::Interrupted) => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    }
}

/// Help, the version, or what is wrong with the command line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // What was typed stands in it as it was typed.
    match error.use_stderr() && control_was_typed() {
        true => eprint!("{}", escaped(&error.render().to_string())),
        false => drop(error.print()),
    }
    match error.use_stderr() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
