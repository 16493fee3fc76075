//! A monitor's loop: it waits for whatever happens, and does what is to be done then.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::Monitor;
use super::program::Running;
use crate::container;
use crate::containers::Result;
use crate::containers::attached::Peer;
use crate::containers::log::Output;
use crate::containers::protocol::Frame;

/// Bytes of input that wait for the program; more are not taken.
const MOST_INPUT: usize = 64 << 10;

/// As much as is read at once.
const CHUNK: usize = 16 << 10;

/// In so many pieces all is read that pipes can hold, 1 MiB each (`pipe(7)`). Who writes more has
/// outlived the program.
const MOST_AFTER_END: usize = 128;

/// What can become ready.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Signals,
    Listener,
    Peer(usize),
    End,
    Output(Output),
    Stdin,
    Health,
    /// A process beside the program, by its place.
    Exec(usize),
    /// What such a process writes and nobody reads: its place, and that of the output.
    Unread(usize, usize),
}

impl Monitor<'_> {
    /// Attends to the running program until it has ended and all it printed is passed on.
    pub(super) fn relay(&mut self, mut running: Running) -> Result<()> {
        let (mut ended, mut after_end) = (false, 0);
        loop {
            if let Some(watch) = &mut running.watch {
                watch.set_awaited(self.peers.iter().any(Peer::awaits_health));
            }
            let mut timeout = self.kill_at.map(|at| at.saturating_duration_since(Instant::now()));
            if ended {
                // What it printed last is in the pipes already.
                timeout = Some(Duration::ZERO);
            }
            let happened = self.wait(Some(&running), ended, timeout)?;
            let is_output =
                |(source, _): &&(Source, PollFlags)| matches!(source, Source::Output(_));
            let printed = happened.iter().find(is_output).is_some();
            for (source, events) in happened {
                match source {
                    Source::End => ended = true,
                    Source::Output(output) => self.pass_on(&mut running, output)?,
                    Source::Stdin => running.feed(),
                    Source::Health => self.hear_of_health(&running)?,
                    Source::Exec(index) => self.attend_to_exec(&mut running.execs[index]),
                    Source::Unread(index, slot) => running.execs[index].drop_output(slot),
                    other => self.attend_to(other, events, Some(&mut running))?,
                }
            }
            self.peers.retain(|peer| !peer.is_done());
            running.execs.retain(|exec| !exec.is_over());
            after_end += usize::from(ended);
            // Who reads slowly is given the rest when the container has ended.
            if ended && (!printed || after_end > MOST_AFTER_END) {
                break;
            }
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                self.kill_at = None;
                let _ = self.kill(&running, Signal::KILL);
            }
        }
        self.log.finish()?;
        self.kill_at = None;
        // The kernel waits for all who were started in the container before it lets process 1 go.
        running.watch = None;
        let ran_for = running.begun.elapsed().as_secs();
        let upper = self.containers.dir(&self.record.id).join("upper");
        let exit = running.container.wait()?;
        self.end_execs(running.execs);
        container::remove_mount_points(&upper, &exit.created);
        self.tell_end(exit.code, exit.oom_killed, ran_for);
        self.ended(exit.code, exit.oom_killed)
    }

    /// Waits while nothing runs, until it is time to start again; false if that is not wanted any
    /// more.
    pub(super) fn idle(&mut self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        while !self.state.manually_stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            for (source, events) in self.wait(None, false, Some(left))? {
                self.attend_to(source, events, None)?;
            }
            self.peers.retain(|peer| !peer.is_done());
        }
        Ok(false)
    }

    /// Waits until something happens or the time is up.
    fn wait(
        &self,
        running: Option<&Running>,
        ended: bool,
        timeout: Option<Duration>,
    ) -> Result<Vec<(Source, PollFlags)>> {
        let behind = self.peers.iter().any(Peer::is_behind);
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut polled = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        // Who sends more than the program takes has to wait; who asks for something else has not.
        let full = running.is_some_and(|running| running.input.len() > MOST_INPUT);
        for (index, peer) in self.peers.iter().enumerate() {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, !(full && peer.is_attached()));
            interest.set(PollFlags::OUT, peer.is_owed());
            sources.push(Source::Peer(index));
            polled.push(PollFd::from_borrowed_fd(peer.as_fd(), interest));
        }
        if let Some(running) = running {
            if !ended {
                sources.push(Source::End);
                polled.push(PollFd::new(&running.container.pidfd, PollFlags::IN));
            }
            for (output, fd) in [Output::Stdout, Output::Stderr].into_iter().zip(&running.outputs) {
                if let Some(fd) = fd.as_ref().filter(|_| ended || !behind) {
                    sources.push(Source::Output(output));
                    polled.push(PollFd::new(fd, PollFlags::IN));
                }
            }
            if let Some(stdin) = &running.stdin
                && !running.input.is_empty()
            {
                sources.push(Source::Stdin);
                polled.push(PollFd::new(stdin, PollFlags::OUT));
            }
            if let Some(watch) = &running.watch {
                sources.push(Source::Health);
                polled.push(PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN));
            }
            for (index, exec) in running.execs.iter().enumerate() {
                if let Some(fd) = exec.as_fd() {
                    sources.push(Source::Exec(index));
                    polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                }
                if self.is_alone(exec) {
                    for (slot, fd) in exec.outputs() {
                        sources.push(Source::Unread(index, slot));
                        polled.push(fd);
                    }
                }
            }
        }
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: time.subsec_nanos().into(),
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let events = polled.iter().map(PollFd::revents);
        Ok(sources.into_iter().zip(events).filter(|(_, events)| !events.is_empty()).collect())
    }

    /// Does what somebody else than the program wants.
    fn attend_to(
        &mut self,
        source: Source,
        events: PollFlags,
        running: Option<&mut Running>,
    ) -> Result<()> {
        match source {
            // The machine goes down: the program ends with it, and comes again with it.
            Source::Signals => {
                self.signals.wait()?;
                self.stop(running, None, None);
            }
            Source::Listener => {
                if let Ok((socket, _)) = self.listener.accept() {
                    self.peers.push(Peer::new(socket)?);
                }
            }
            Source::Peer(index) => {
                if events.contains(PollFlags::OUT) {
                    self.peers[index].flush();
                }
                if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    self.hear(index, running);
                }
            }
            Source::End | Source::Output(_) | Source::Stdin | Source::Health => {}
            Source::Exec(_) | Source::Unread(..) => {}
        }
        Ok(())
    }

    /// Passes on what the program printed.
    pub(super) fn pass_on(&mut self, running: &mut Running, output: Output) -> Result<()> {
        let slot = &mut running.outputs[output as usize];
        let Some(fd) = slot else { return Ok(()) };
        let mut buffer = [0; CHUNK];
        let bytes = match rustix::io::read(fd, &mut buffer) {
            // The far side of a terminal is closed: `EIO`.
            Ok(0) | Err(Errno::IO) => {
                *slot = None;
                return Ok(());
            }
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            Ok(read) => &buffer[..read],
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        let frame = match output {
            Output::Stdout => Frame::Stdout(bytes.to_vec()),
            Output::Stderr => Frame::Stderr(bytes.to_vec()),
        };
        for peer in self.peers.iter_mut().filter(|peer| peer.sees_output()) {
            peer.send(&frame);
        }
        // A full disk costs lines of the log, not the program.
        let _ = self.log.write(output, bytes);
        Ok(())
    }

    pub(super) fn hear_of_health(&mut self, running: &Running) -> Result<()> {
        let Some(watch) = &running.watch else { return Ok(()) };
        let found = watch.health();
        let before = self.state.health.replace(found.clone());
        if before.is_none_or(|before| before.status != found.status) {
            self.tell(&format!("health_status: {}", found.status), &[]);
        }
        let saved = self.save();
        self.tell_health();
        saved
    }
}
