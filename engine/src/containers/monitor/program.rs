//! A container's program while it runs: its streams, and what waits to be read by it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use super::execs::Exec;
use crate::container::{Container, Stdio, Stream};
use crate::containers::connect::Connected;
use crate::containers::health::Watch;
use crate::containers::record::Record;

/// A program that runs.
pub(super) struct Running {
    pub(super) container: Container,
    /// Its outputs that are still open: pipes, or the terminal in the place of the first.
    pub(super) outputs: [Option<OwnedFd>; 2],
    pub(super) stdin: Option<OwnedFd>,
    pub(super) input: VecDeque<u8>,
    /// Whether its input ends when what waits has been written.
    pub(super) input_ends: bool,
    pub(super) connected: Connected,
    pub(super) begun: Instant,
    /// Who sees whether it is well, if somebody does.
    pub(super) watch: Option<Watch>,
    /// Processes that were started beside it.
    pub(super) execs: Vec<Exec>,
}

impl Running {
    /// Gives the program the input that it takes now.
    pub(super) fn feed(&mut self) {
        let Some(stdin) = &self.stdin else {
            self.input.clear();
            return;
        };
        while !self.input.is_empty() {
            match rustix::io::write(stdin, self.input.as_slices().0) {
                Ok(written) => drop(self.input.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.input.clear();
                    self.stdin = None;
                    return;
                }
            }
        }
        if self.input_ends {
            self.stdin = None;
        }
    }

    pub(super) fn end_input(&mut self, terminal: bool) {
        if terminal {
            // For a terminal's reader the end is a character.
            self.input.push_back(4);
        } else {
            self.input_ends = true;
        }
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let (Some(terminal), None) = (&self.outputs[0], &self.outputs[1]) {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // What is no terminal has no size.
            let _ = tcsetwinsize(terminal, size);
        }
    }
}

/// The program's three streams, and our ends of them.
pub(super) struct Streams {
    pub(super) theirs: Stdio,
    pub(super) outputs: [Option<OwnedFd>; 2],
    pub(super) stdin: Option<OwnedFd>,
}

impl Streams {
    pub(super) fn make(record: &Record) -> io::Result<Streams> {
        if record.config.tty {
            return Ok(Streams { theirs: Stdio::default(), outputs: [None, None], stdin: None });
        }
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let ((stdout, stdout_in), (stderr, stderr_in)) = (pipe()?, pipe()?);
        let mut theirs = Stdio::output(stdout_in, stderr_in);
        let mut stdin = None;
        if record.config.open_stdin {
            let (read, write) = pipe()?;
            theirs.stdin = Stream::File(read);
            stdin = Some(write);
        }
        Ok(Streams { theirs, outputs: [Some(stdout), Some(stderr)], stdin })
    }
}

/// The directories of a container's cgroups, by controller.
pub(super) fn cgroups(container: &Container) -> BTreeMap<String, String> {
    let shown = |(name, dir): (&str, &Path)| (name.to_owned(), dir.display().to_string());
    container.cgroups().map(shown).collect()
}
