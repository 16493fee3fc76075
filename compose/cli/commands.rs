//! What `rbuild` is asked for, the program beside this one: builds, downloads, hooks. What they print is shown as it
//! comes; somebody who wants to stop stops them.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use compose::Project;
use compose::apply::{Apply, Cancel, Commands, Event};
use compose::failure::Failure;
use compose::make::files;
use compose::model::Hook;
use compose::observe::Observed;
use compose::reconcile::Up;
use engine::containers::Containers;
use engine::signals::die_with_parent;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::args::Globals;
use crate::build::{self, BuildArgs};
use crate::home::Here;
use crate::ui;

/// As many of a command's last lines are shown when it has failed.
const LAST_LINES: usize = 30;

/// `rbuild`, and how it is asked.
pub(crate) struct Rbuild<'a> {
    /// Which store.
    pub(crate) globals: &'a Globals,
    /// What is being worked on.
    pub(crate) project: &'a Project,
    /// Ends what runs.
    pub(crate) cancel: &'a Cancel,
    /// Whether builds print nothing.
    pub(crate) quiet_build: bool,
    /// What the verb `build` was told, if it is that.
    pub(crate) build: Option<&'a BuildArgs>,
}

/// What happens with what a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown<'a> {
    /// It is shown when the command has failed.
    Later,
    /// It is shown with this in front of each line, as a part of the answer.
    Answer(&'a str),
    /// It is shown beside the answer.
    Beside,
}

/// The program: the one in our own directory, else the one in PATH.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().ok().map(|path| path.with_file_name("rbuild"));
    own.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("rbuild"))
}

/// A command of `rbuild` on the same store.
pub(crate) fn rbuild(globals: &Globals) -> Command {
    let mut command = Command::new(program());
    if let Some(root) = &globals.root {
        command.env("RBUILD_ROOT", root);
    }
    if let Some(driver) = globals.storage_driver {
        command.env("RBUILD_DRIVER", driver.to_string());
    }
    command
}

/// Becomes a command; comes back only if that is not possible.
pub(crate) fn turn_into(mut command: Command) -> anyhow::Result<ExitCode> {
    ui::answered()?;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", program().display()))
}

impl<'a> Rbuild<'a> {
    /// What it takes to carry out a plan, when nothing special is wished.
    pub(crate) fn work(
        &'a self,
        here: &'a Here,
        containers: &'a Containers<'a>,
        observed: &'a Observed,
        listener: &'a (dyn Fn(Event<'_>) + Sync),
    ) -> Apply<'a> {
        Apply {
            containers,
            networks: &here.networks,
            project: self.project,
            observed,
            wishes: Up::default(),
            files: files::folder(here.store.root(), &self.project.name),
            commands: self,
            listener,
            cancel: self.cancel,
            parallel: self.globals.parallel(),
            stop_timeout: None,
            attaches: false,
            renew_volumes: false,
            deadline: None,
            turn: None,
        }
    }
}

impl Rbuild<'_> {
    /// Runs a command; each line that it prints is passed on, and the last ones say why it failed.
    fn run(&self, what: &str, command: &mut Command, shown: Shown<'_>) -> Result<i32, Failure> {
        let failed = |error: std::io::Error| Failure::Command { text: format!("{what}: {error}") };
        let (output, writer) = std::io::pipe().map_err(failed)?;
        let second = writer.try_clone().map_err(failed)?;
        let child = die_with_parent(command.stdout(writer).stderr(second)).spawn();
        let mut child = child.map_err(|error| Failure::Command {
            text: format!("{what}: cannot start {}: {error}", program().display()),
        })?;
        // The command holds the ends of the pipe that are written to.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let last = self.follow(output.into(), child.id(), shown).map_err(failed)?;
        let status = child.wait().map_err(failed)?;
        if self.cancel.is_canceled() && !status.success() {
            return Err(Failure::Interrupted);
        }
        match status.code() {
            Some(0) => Ok(0),
            Some(code) if what.is_empty() => Ok(code),
            _ => Err(Failure::Command { text: failure(what, &last, shown) }),
        }
    }

    /// Sends an image to its registry.
    pub(crate) fn push(&self, image: &str) -> Result<(), Failure> {
        let mut command = rbuild(self.globals);
        command.args(["push", "--quiet", image]).stdin(Stdio::null());
        self.run(&format!("push of {image}"), &mut command, Shown::Later).map(drop)
    }

    /// Reads what a process prints until its end; its last lines.
    fn follow(
        &self,
        output: OwnedFd,
        process: u32,
        shown: Shown<'_>,
    ) -> std::io::Result<Vec<String>> {
        let mut last: Vec<String> = Vec::new();
        let mut pending = Vec::new();
        let mut told = false;
        let mut file = std::fs::File::from(output);
        loop {
            if !told {
                let mut polled = [
                    PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(self.cancel.as_fd(), PollFlags::IN),
                ];
                match poll(&mut polled, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
                if !polled[1].revents().is_empty() {
                    told = true;
                    if let Some(pid) = Pid::from_raw(process.cast_signed()) {
                        let _ = kill_process(pid, Signal::TERM);
                    }
                }
                if polled[0].revents().is_empty() {
                    continue;
                }
            }
            let mut buffer = [0; 8 << 10];
            let read = file.read(&mut buffer)?;
            pending.extend_from_slice(&buffer[..read]);
            let whole = match read {
                0 => pending.len(),
                _ => pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1),
            };
            let text: Vec<u8> = pending.drain(..whole).collect();
            for line in String::from_utf8_lossy(&text).lines() {
                match shown {
                    Shown::Later => {}
                    Shown::Answer(prefix) => ui::line(format_args!("{prefix}{line}")),
                    Shown::Beside => ui::note(line),
                }
                last.push(line.to_owned());
                if last.len() > LAST_LINES {
                    last.remove(0);
                }
            }
            if read == 0 {
                return Ok(last);
            }
        }
    }
}

impl Commands for Rbuild<'_> {
    fn pull(&self, image: &str, platform: &str) -> Result<(), Failure> {
        let mut command = rbuild(self.globals);
        command.args(["pull", "--quiet"]).stdin(Stdio::null());
        if !platform.is_empty() {
            command.args(["--platform", platform]);
        }
        command.arg(image);
        self.run(&format!("pull of {image}"), &mut command, Shown::Later).map(drop)
    }

    fn build(&self, service: &str, images: &[String]) -> Result<(), Failure> {
        let mut command = rbuild(self.globals);
        let dockerfile = build::arguments(&mut command, self.project, service, images, self.build)?;
        command.stdin(match dockerfile {
            Some(text) => Stdio::from(in_memory(&text)?),
            None => Stdio::null(),
        });
        let prefix = format!("[{service}] ");
        let shown = if self.quiet_build { Shown::Later } else { Shown::Answer(&prefix) };
        self.run(&format!("build of service {service}"), &mut command, shown).map(drop)
    }

    fn remove_image(&self, image: &str) -> Result<bool, Failure> {
        let mut command = rbuild(self.globals);
        command.args(["rmi", image]).stdin(Stdio::null());
        self.run(&format!("removal of image {image}"), &mut command, Shown::Later).map(|_| true)
    }

    fn hook(&self, container: &str, hook: &Hook) -> Result<i32, Failure> {
        let mut command = rbuild(self.globals);
        command.arg("exec").stdin(Stdio::null());
        if hook.privileged {
            command.arg("--privileged");
        }
        for (flag, value) in [("--user", &hook.user), ("--workdir", &hook.working_dir)] {
            if !value.is_empty() {
                command.args([flag, value]);
            }
        }
        for (name, value) in &hook.environment.0 {
            match value {
                Some(value) => command.args(["--env", &format!("{name}={value}")]),
                None => command.args(["--env", name]),
            };
        }
        command.arg(container);
        command.args(hook.command.iter().flat_map(|command| &command.0));
        self.run("", &mut command, Shown::Beside)
    }
}

/// Why a command failed: what it printed last, of which only the error itself is said again if all was shown.
fn failure(what: &str, last: &[String], shown: Shown<'_>) -> String {
    if shown == Shown::Later {
        return format!("{what} failed:\n{}", last.join("\n"));
    }
    let error = last.iter().rev().find_map(|line| line.strip_prefix("ERROR: "));
    match error.or_else(|| last.iter().rev().map(String::as_str).find(|line| !line.is_empty())) {
        Some(line) => format!("{what} failed: {line}"),
        None => format!("{what} failed"),
    }
}

/// A file in memory to be read from its beginning.
fn in_memory(text: &str) -> std::io::Result<File> {
    let memory = rustix::fs::memfd_create("Dockerfile", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
