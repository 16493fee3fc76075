//! Processes in the container beside its program (`exec`): the monitor starts them, hears whether
//! their programs are executed, and writes down how they ended.
//!
//! Whoever asked for one has our ends of its streams, and what it writes does not come by here. The
//! ends that are read are kept here as well: once nobody else reads them, what comes is dropped, so
//! that neither the process nor what it leaves behind waits for a reader or is ended for want of one.
//! Nothing here waits:
//! what a container does to its own file system must not keep its monitor from hearing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use super::Monitor;
use super::program::Running;
use crate::container::{self, Container, LaunchError, Launching, Pipes, Stdio, Stream, begin_exec};
use crate::containers::assemble::causes;
use crate::containers::exec::{self, Streams};
use crate::containers::execs::{self, Listed};
use crate::containers::protocol::Frame;

/// As much as is dropped at once.
const CHUNK: usize = 16 << 10;

/// A process beside the container's program.
pub(super) struct Exec {
    id: String,
    /// Shows it to those who look.
    listed: Option<Listed>,
    /// What of its streams whoever asked for it has.
    streams: Streams,
    stage: Stage,
    /// Only until it has been given away: its reader waits for an end as long as one is open.
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
}

enum Stage {
    Starting(Launching),
    Running(Container),
    Over,
}

impl Exec {
    /// Readable when [`Monitor::attend_to_exec`] has something to do.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Starting(launching) => Some(launching.as_fd()),
            Stage::Running(process) => Some(process.pidfd.as_fd()),
            Stage::Over => None,
        }
    }

    /// Whether it has ended, and all that it has left behind.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over) && self.outputs.iter().all(Option::is_none)
    }

    /// What it writes to that is still open.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, PollFd<'_>)> {
        let open =
            |(slot, output)| Some((slot, PollFd::new(Option::as_ref(output)?, PollFlags::IN)));
        self.outputs.iter().enumerate().filter_map(open)
    }

    /// Drops a piece of what nobody reads.
    pub(super) fn drop_output(&mut self, slot: usize) {
        let Some(output) = &self.outputs[slot] else { return };
        match rustix::io::read(output, &mut [0; CHUNK]) {
            Ok(1..) | Err(Errno::INTR | Errno::AGAIN) => {}
            // The end, which on a terminal is `EIO`.
            Ok(0) | Err(_) => self.outputs[slot] = None,
        }
    }

    /// Takes up the process whose program runs now.
    fn started(&mut self, mut process: Container) -> io::Result<()> {
        if let Some(master) = process.terminal.take() {
            rustix::io::ioctl_fionbio(&master, true)?;
            self.outputs = [Some(master), None];
        }
        self.stage = Stage::Running(process);
        Ok(())
    }
}

impl Monitor<'_> {
    /// Starts a process for a peer, who hears of it later. Otherwise returns what to say at once.
    pub(super) fn start_exec(
        &mut self,
        index: usize,
        request: exec::Request,
        running: &mut Running,
    ) -> std::result::Result<(), Frame> {
        let refused = |error: &dyn std::error::Error| Frame::Refused(causes(error));
        let id = exec::new_id().map_err(|error| refused(&error))?;
        let (streams, tty, line) = (request.streams, request.tty, request.args.join(" "));
        let spec = exec::spec(&self.record, request).map_err(|error| refused(&error))?;
        // As docker does, also of one that cannot be started.
        for action in ["exec_create", "exec_start"] {
            self.tell(&format!("{action}: {line}"), &[("execID", &id)]);
        }
        let (theirs, ours) = match streams {
            Streams::Outputs | Streams::All if !tty => {
                Pipes::make(streams == Streams::All).map_err(|error| refused(&error))?
            }
            _ => {
                let null = || Stream::Null;
                let nowhere = Stdio { stdin: null(), stdout: null(), stderr: null() };
                (nowhere, Pipes { input: None, outputs: [None, None] })
            }
        };
        let launching = container::Running::find(running.container.pid, None)
            .map_err(LaunchError::Talk)
            .and_then(|container| begin_exec(&container, &spec, theirs))
            .map_err(|error| failed(&error))?;
        running.execs.push(Exec {
            // One that is not shown runs all the same.
            listed: execs::list_in(&self.containers.dir(&self.record.id), &id).ok(),
            id: id.clone(),
            streams,
            stage: Stage::Starting(launching),
            input: ours.input,
            outputs: ours.outputs,
        });
        self.peers[index].exec = Some(id);
        Ok(())
    }

    /// Whether nobody reads what a process writes.
    pub(super) fn is_alone(&self, exec: &Exec) -> bool {
        !self.peers.iter().any(|peer| peer.exec.as_ref() == Some(&exec.id))
    }

    /// Goes on with a process to which something has happened.
    pub(super) fn attend_to_exec(&mut self, exec: &mut Exec) {
        match std::mem::replace(&mut exec.stage, Stage::Over) {
            Stage::Starting(mut launching) => match launching.advance() {
                Ok(false) => exec.stage = Stage::Starting(launching),
                Ok(true) => self.exec_started(exec, launching.into_container()),
                Err(error) => self.exec_failed(exec, &error),
            },
            Stage::Running(process) => self.exec_ended(exec, process),
            Stage::Over => {}
        }
    }

    /// Ends what is left of processes when the container is gone.
    pub(super) fn end_execs(&mut self, execs: Vec<Exec>) {
        for mut exec in execs {
            match std::mem::replace(&mut exec.stage, Stage::Over) {
                Stage::Starting(launching) => {
                    drop(launching);
                    let gone = LaunchError::Refused("the container is not running".to_owned());
                    self.exec_failed(&mut exec, &gone);
                }
                Stage::Running(process) => {
                    let _ = process.kill(Signal::KILL);
                    self.exec_ended(&mut exec, process);
                }
                Stage::Over => {}
            }
        }
    }

    fn exec_started(&mut self, exec: &mut Exec, process: Container) {
        if let Err(error) = exec.started(process) {
            exec.stage = Stage::Over;
            return self.exec_failed(exec, &LaunchError::Talk(error));
        }
        let input = exec.input.take();
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.exec.as_ref() == Some(&exec.id))
        else {
            return;
        };
        if exec.streams == Streams::None {
            return peer.dismiss(&Frame::Started);
        }
        let ends = exec.outputs.iter().flatten().chain(&input).map(AsFd::as_fd);
        peer.send_with(&Frame::Started, &ends.collect::<Vec<_>>());
    }

    fn exec_failed(&mut self, exec: &mut Exec, error: &LaunchError) {
        exec.listed = None;
        exec.outputs = [None, None];
        self.dismiss_for(exec, &failed(error));
    }

    fn exec_ended(&mut self, exec: &mut Exec, process: Container) {
        let code = process.wait().map_or(-1, |exit| exit.code);
        exec.listed = None;
        self.tell("exec_die", &[("execID", &exec.id), ("exitCode", &code.to_string())]);
        self.dismiss_for(exec, &Frame::Exited(code));
    }

    fn dismiss_for(&mut self, exec: &Exec, frame: &Frame) {
        for peer in self.peers.iter_mut().filter(|peer| peer.exec.as_ref() == Some(&exec.id)) {
            peer.dismiss(frame);
        }
    }
}

fn failed(error: &LaunchError) -> Frame {
    Frame::Failed(exec::exit_code(error), causes(error))
}
