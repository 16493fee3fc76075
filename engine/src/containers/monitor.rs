//! A container's monitor: a process of this program that starts the container's program, relays and
//! logs what it prints, and knows when and how it ended.
//!
//! One thread and one loop: everything that can happen is a descriptor that becomes readable, or a
//! point in time. Started by [`start`](super::start) with a closed assignment; ends with its
//! container.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cache::Store;
use cache::lower::Driver;
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};

use super::assemble::{self, Assembled, causes};
use super::attached::Peer;
use super::connect::Connected;
use super::directory::boot_id;
use super::health::{self, Watch};
use super::log::{self, LogWriter, Output};
use super::protocol::{Frame, Request};
use super::record::Record;
use super::restart::{self, Run};
use super::state::{Health, NEVER, State, Status, now};
use super::{Containers, Error, Result, exec, signal};
use crate::container::{self, Container, Stdio, Stream};
use crate::signals::{Signals, TERMINATE};
use crate::sys::process::{close_from, take_descriptor};

/// The `argv[0]` that makes a program a monitor.
pub(super) const MONITOR_NAME: &str = "rbuild-monitor";

/// Where it finds its assignment, and whoever started it.
pub(super) const ASSIGNMENT_FD: RawFd = 3;
pub(super) const STARTER_FD: RawFd = 4;

/// Seconds a program has to end when it is asked to, if nothing else is said.
const STOP_TIMEOUT: i64 = 10;

/// Bytes of input that wait for the program; more are not taken.
const MOST_INPUT: usize = 64 << 10;

/// The name of its socket in the container's directory.
pub(super) const SOCKET: &str = "control.sock";

/// As much as is read at once.
const CHUNK: usize = 16 << 10;

/// What a monitor is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) root: PathBuf,
    pub(super) driver: Driver,
    pub(super) id: String,
    /// Where it is written down who uses which address.
    pub(super) networks: PathBuf,
    /// The limit on open files that containers have, if ours is another one.
    pub(super) open_files: Option<(Option<u64>, Option<u64>)>,
}

/// Whether this process was started to be a monitor.
pub fn is_monitor() -> bool {
    std::env::args_os().next().is_some_and(|name| name == OsStr::new(MONITOR_NAME))
}

/// Starts the container this process was started for and attends to it until its end.
///
/// Only for the first thing in `main`, when [`is_monitor`] says so, with one thread running.
pub fn monitor_main() -> ! {
    let starter = take_descriptor(STARTER_FD).map(UnixStream::from);
    let assignment = take_descriptor(ASSIGNMENT_FD);
    let (Ok(starter), Ok(assignment)) = (starter, assignment) else {
        // Somebody else started us under this name: there is nobody to report to.
        std::process::exit(125);
    };
    // One that cannot be closed is of no harm but to who waits for its end.
    let _ = close_from(5);
    crate::sys::process::reset_signals();
    crate::sys::process::ignore_broken_pipes();
    // A monitor belongs to no terminal, and to no directory that somebody may want to unmount.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let failed = |mut starter: UnixStream, error: &Error| {
        let _ = starter.write_all(&Frame::Failed(125, causes(error)).encode());
    };
    let done = match read_assignment(File::from(assignment)) {
        Ok(assignment) => {
            crate::open_files::set_original(assignment.open_files);
            attend(&assignment, starter)
        }
        Err(error) => {
            failed(starter, &error.into());
            Ok(())
        }
    };
    std::process::exit(i32::from(done.is_err()))
}

fn read_assignment(mut file: File) -> io::Result<Assignment> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The whole life of a monitor. An error that comes before the program runs is told to the starter.
fn attend(assignment: &Assignment, starter: UnixStream) -> Result<()> {
    let mut early = starter.try_clone()?;
    let mut tell = |error: Error| {
        let _ = early.write_all(&Frame::Failed(125, causes(&error)).encode());
        error
    };
    let store = Store::open(&assignment.root).map_err(|error| tell(error.into()))?;
    store.set_driver(assignment.driver);
    let containers = Containers::open(&store).map_err(&mut tell)?;
    let mut monitor = Monitor::take_up(&containers, assignment, starter).map_err(&mut tell)?;
    monitor.run()
}

struct Monitor<'a> {
    containers: &'a Containers<'a>,
    networks: &'a Path,
    record: Record,
    state: State,
    peers: Vec<Peer>,
    listener: UnixListener,
    signals: Signals,
    log: LogWriter,
    /// Held as long as the container has a monitor.
    lock: File,
    /// Whether it is to be started again when it has ended, whatever its policy says.
    again: bool,
    /// When the program is killed, because it was asked to end and did not.
    kill_at: Option<Instant>,
    /// Whether it was asked to end.
    stopping: bool,
}

/// A program that runs.
struct Running {
    container: Container,
    /// Its outputs that are still open: pipes, or the terminal in the place of the first.
    outputs: [Option<OwnedFd>; 2],
    stdin: Option<OwnedFd>,
    input: VecDeque<u8>,
    /// Whether its input ends when what waits has been written.
    input_ends: bool,
    connected: Connected,
    begun: Instant,
    /// Who sees whether it is well, if somebody does.
    watch: Option<Watch>,
}

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
}

impl<'a> Monitor<'a> {
    fn take_up(
        containers: &'a Containers<'a>,
        assignment: &'a Assignment,
        starter: UnixStream,
    ) -> Result<Self> {
        let id = &assignment.id;
        let record = containers.record(id)?;
        let lock = containers.hold(id)?.ok_or_else(|| {
            Error::Refused(format!("container {} is already running", record.name))
        })?;
        let dir = containers.dir(id);
        let plan = log::Plan::parse(&record.host_config.log_config)?;
        Ok(Self {
            state: containers.written_state(id)?,
            listener: listen(&dir)?,
            log: LogWriter::open(&dir, id, plan)?,
            signals: Signals::take(&[TERMINATE])?,
            peers: vec![Peer::new(starter)?],
            networks: &assignment.networks,
            containers,
            record,
            lock,
            again: false,
            kill_at: None,
            stopping: false,
        })
    }

    fn run(&mut self) -> Result<()> {
        self.state.restart_count = 0;
        self.state.manually_stopped = false;
        let mut waited = None;
        loop {
            let begun = Instant::now();
            match self.launch() {
                Ok(running) => self.relay(running)?,
                // What ran once is tried again as if it had failed while running.
                Err((code, text)) if waited.is_some() => {
                    self.ended(code, false)?;
                    self.state.error = text;
                }
                Err((code, text)) => {
                    for peer in self.peers.iter_mut().filter(|peer| peer.restarts()) {
                        peer.dismiss(&Frame::Refused(text.clone()));
                    }
                    return self.not_started(code, text);
                }
            }
            if std::mem::take(&mut self.again) {
                self.state.manually_stopped = false;
                (self.state.restart_count, waited) = (0, None);
                continue;
            }
            let next = restart::after(
                &self.record.host_config.restart_policy,
                Run {
                    exit_code: self.state.exit_code,
                    ran_for: begun.elapsed(),
                    restarts: self.state.restart_count,
                    waited,
                    asked_to: self.state.manually_stopped,
                },
            );
            let Some(wait) = next else { return self.finish() };
            self.state.status = Status::Restarting;
            self.save()?;
            if !self.idle(wait)? {
                self.state.status = Status::Exited;
                return self.finish();
            }
            waited = Some(wait);
            self.state.restart_count += 1;
        }
    }

    /// Starts the program. Otherwise returns the exit code that docker gives then, and why.
    fn launch(&mut self) -> std::result::Result<Running, (i32, String)> {
        let refused = |error: &dyn std::error::Error| (125, causes(error));
        let assembled = assemble::assemble(self.containers, &self.record, self.networks);
        let Assembled { spec, connected, _volumes } = assembled.map_err(|error| refused(&error))?;
        let streams = Streams::make(&self.record).map_err(|error| refused(&error))?;
        let mut container = container::launch(&spec, streams.theirs)
            .map_err(|error| (error.exit_code(), causes(&error)))?;
        let (mut outputs, mut stdin) = (streams.outputs, streams.stdin);
        if let Some(master) = container.terminal.take() {
            stdin = Some(master.try_clone().map_err(|error| refused(&error))?);
            outputs = [Some(master), None];
        }
        for fd in outputs.iter().flatten().chain(&stdin) {
            // Whoever does not read or write must not keep us from the others.
            rustix::io::ioctl_fionbio(fd, true)
                .map_err(|error| refused(&io::Error::from(error)))?;
        }
        self.state = State {
            status: Status::Running,
            pid: container.pid.as_raw_nonzero().get().unsigned_abs(),
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: now(),
            finished_at: self.state.finished_at.clone(),
            restart_count: self.state.restart_count,
            monitor: std::process::id(),
            boot: boot_id(),
            networks: connected.networks.clone(),
            ports: connected.ports.clone(),
            cgroups: cgroups(&container),
            health: health::Plan::of(&self.record.config).map(|_| Health {
                status: health::STARTING.to_owned(),
                ..self.state.health.take().unwrap_or_default()
            }),
            ..State::default()
        };
        if let Some(health) = &mut self.state.health {
            health.failing_streak = 0;
        }
        self.save().map_err(|error| refused(&error))?;
        self.tell_connections("connect");
        self.containers.tell_volumes(&self.record, "mount");
        self.hear_first();
        self.tell("start", &[]);
        let restarted = self.peers.iter().any(Peer::restarts);
        for peer in &mut self.peers {
            if peer.is_starter() {
                peer.send(&Frame::Started);
            } else if peer.restarts() {
                peer.dismiss(&Frame::Done);
            }
        }
        if restarted {
            self.tell("restart", &[]);
        }
        let begun = Instant::now();
        Ok(Running {
            watch: self.watch(container.pid, begun),
            begun,
            container,
            outputs,
            stdin,
            input: VecDeque::new(),
            input_ends: false,
            connected,
        })
    }

    /// Whoever started us has sent its request before it did.
    fn hear_first(&mut self) {
        for index in 0..self.peers.len() {
            if self.peers[index].request.is_none() {
                self.hear(index, None);
            }
        }
    }

    /// Attends to the running program until it has ended and all it printed is passed on.
    fn relay(&mut self, mut running: Running) -> Result<()> {
        let mut ended = false;
        loop {
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
                    other => self.attend_to(other, events, Some(&mut running))?,
                }
            }
            self.peers.retain(|peer| !peer.is_done());
            if ended && !printed && !self.peers.iter().any(Peer::is_behind) {
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
        container::remove_mount_points(&upper, &exit.created);
        self.tell_end(exit.code, exit.oom_killed, ran_for);
        self.ended(exit.code, exit.oom_killed)
    }

    fn tell(&self, action: &str, extra: &[(&str, &str)]) {
        self.containers.tell(&self.record, action, extra);
    }

    fn tell_connections(&self, action: &str) {
        for (name, settings) in &self.state.networks {
            self.containers.tell_network(&self.record, action, name, &settings.network_id);
        }
    }

    fn tell_end(&mut self, code: i32, oom_killed: bool, ran_for: u64) {
        if oom_killed {
            self.tell("oom", &[]);
        }
        self.tell_connections("disconnect");
        self.containers.tell_volumes(&self.record, "unmount");
        let (code, ran_for) = (code.to_string(), ran_for.to_string());
        self.tell("die", &[("execDuration", &ran_for), ("exitCode", &code)]);
        if std::mem::take(&mut self.stopping) {
            self.tell("stop", &[]);
        }
    }

    /// Begins to look whether the program is well, if that is wanted. A container that nobody can
    /// look after runs all the same: its health stays unknown.
    fn watch(&self, pid: rustix::process::Pid, begun: Instant) -> Option<Watch> {
        let plan = health::Plan::of(&self.record.config)?;
        let request = exec::Request { args: plan.command.clone(), ..exec::Request::default() };
        let spec = exec::spec(&self.record, request).ok()?;
        let health = self.state.health.clone().unwrap_or_default();
        Watch::begin(plan, health, pid, spec, begun).ok()
    }

    fn hear_of_health(&mut self, running: &Running) -> Result<()> {
        let Some(watch) = &running.watch else { return Ok(()) };
        let found = watch.health();
        let before = self.state.health.replace(found.clone());
        if before.is_none_or(|before| before.status != found.status) {
            self.tell(&format!("health_status: {}", found.status), &[]);
        }
        self.save()
    }

    /// Waits while nothing runs, until it is time to start again; false if that is not wanted any
    /// more.
    fn idle(&mut self, time: Duration) -> Result<bool> {
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
        // Who sends more than the program takes has to wait.
        let full = running.is_some_and(|running| running.input.len() > MOST_INPUT);
        for (index, peer) in self.peers.iter().enumerate() {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, !full);
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
                if let Some(fd) = fd.as_ref().filter(|_| !behind) {
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
        }
        Ok(())
    }

    /// Passes on what the program printed.
    fn pass_on(&mut self, running: &mut Running, output: Output) -> Result<()> {
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

    /// Does what a peer has asked or sent.
    fn hear(&mut self, index: usize, mut running: Option<&mut Running>) {
        for frame in self.peers[index].hear() {
            match (frame, running.as_deref_mut()) {
                (Frame::Request(request), running) => self.answer(index, request, running),
                (Frame::Stdin(bytes), Some(running)) => running.input.extend(bytes),
                (Frame::StdinEnd, Some(running))
                    if self.record.config.stdin_once || self.peers[index].is_starter() =>
                {
                    running.end_input(self.record.config.tty);
                }
                (Frame::Resize(rows, columns), Some(running)) => running.resize(rows, columns),
                (Frame::Signal(signal), Some(running)) => {
                    if let Some(signal) = Signal::from_named_raw(signal) {
                        let _ = self.kill(running, signal);
                    }
                }
                _ => {}
            }
        }
        if let Some(running) = running {
            running.feed();
        }
    }

    fn answer(&mut self, index: usize, request: Request, running: Option<&mut Running>) {
        self.peers[index].request = Some(request.clone());
        let refuse = |text: String| Frame::Refused(text);
        let name = self.record.name.clone();
        let paused = self.state.status == Status::Paused;
        let reply = match (request, running) {
            (Request::Attach { output, .. }, _) => {
                if output {
                    self.tell("attach", &[]);
                }
                return;
            }
            (Request::Wait, _) => return,
            (Request::Stop { signal, timeout }, running) => {
                self.state.manually_stopped = true;
                self.stop(running, signal, timeout);
                return;
            }
            (Request::Restart { signal, timeout }, running) => {
                self.again = true;
                self.state.manually_stopped = true;
                self.stop(running, signal, timeout);
                return;
            }
            (Request::Reload, running) => match self.reload(running) {
                Ok(()) => Frame::Done,
                Err(error) => refuse(causes(&error)),
            },
            (_, None) => refuse(format!(
                "Container {name} is restarting, wait until the container is running"
            )),
            (Request::Kill { signal }, Some(running)) => match Signal::from_named_raw(signal) {
                Some(signal) => {
                    // Docker takes these for the wish that it stay down.
                    self.state.manually_stopped |= matches!(signal, Signal::KILL | Signal::TERM);
                    let sent = self.kill(running, signal);
                    if signal == Signal::KILL && paused {
                        running.container.resume();
                    }
                    sent.map_or_else(|error| refuse(error.to_string()), |()| Frame::Done)
                }
                None => refuse(format!("Invalid signal: {signal}")),
            },
            (Request::Pause, Some(_)) if paused => {
                refuse(format!("container {name} is already paused"))
            }
            (Request::Pause, Some(running)) => {
                // A probe that is frozen could not be ended.
                running.watch = None;
                match running.container.pause() {
                    Ok(()) => {
                        self.tell("pause", &[]);
                        self.now_is(Status::Paused)
                    }
                    Err(error) => {
                        running.watch = self.watch(running.container.pid, running.begun);
                        refuse(causes(&error))
                    }
                }
            }
            (Request::Unpause, Some(running)) if paused => {
                running.container.resume();
                running.watch = self.watch(running.container.pid, running.begun);
                self.tell("unpause", &[]);
                self.now_is(Status::Running)
            }
            (Request::Unpause, Some(_)) => refuse(format!("container {name} is not paused")),
        };
        self.peers[index].dismiss(&reply);
    }

    fn kill(&self, running: &Running, signal: Signal) -> io::Result<()> {
        running.container.kill(signal)?;
        self.tell("kill", &[("signal", &signal.as_raw().to_string())]);
        Ok(())
    }

    fn now_is(&mut self, status: Status) -> Frame {
        self.state.status = status;
        match self.save() {
            Ok(()) => Frame::Done,
            Err(error) => Frame::Refused(causes(&error)),
        }
    }

    /// Takes over what was changed in the record.
    fn reload(&mut self, running: Option<&mut Running>) -> Result<()> {
        self.record = self.containers.record(&self.record.id)?;
        let Some(running) = running else { return Ok(()) };
        self.reconnect(&mut running.connected)?;
        let resources = assemble::resources(&self.record.host_config)?;
        running.container.update(&resources).map_err(|error| Error::Refused(causes(&error)))?;
        self.state.cgroups = cgroups(&running.container);
        self.save()
    }

    /// Connects the container to networks that it is to have, and takes it from those that not.
    fn reconnect(&mut self, connected: &mut Connected) -> Result<()> {
        let wanted = &self.record.networks;
        let gone: Vec<String> =
            connected.networks.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            connected.remove(&name)?;
            if let Some(settings) = self.state.networks.get(&name) {
                let id = &settings.network_id;
                self.containers.tell_network(&self.record, "disconnect", &name, id);
            }
        }
        for (name, settings) in wanted {
            if !connected.networks.contains_key(name) {
                connected.connect(self.containers, name, settings, &self.record, self.networks)?;
                let id = connected.networks.get(name).map_or("", |settings| &settings.network_id);
                self.containers.tell_network(&self.record, "connect", name, id);
            }
        }
        connected.serve_names(&self.record)?;
        self.state.networks.clone_from(&connected.networks);
        Ok(())
    }

    /// Asks the program to end, and has it killed when its time is up.
    fn stop(&mut self, running: Option<&mut Running>, signal: Option<i32>, timeout: Option<i64>) {
        let Some(running) = running else { return };
        let own = self.record.config.stop_signal.as_deref().and_then(signal::number);
        let number = signal.or(own).unwrap_or(TERMINATE);
        let timeout = timeout.or(self.record.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = self.kill(running, signal);
        }
        self.stopping = true;
        running.container.resume();
        let at = u64::try_from(timeout).ok().map(|s| Instant::now() + Duration::from_secs(s));
        // Of two who ask, the more impatient one is heard.
        self.kill_at = [self.kill_at, at].into_iter().flatten().min();
    }

    /// Writes down that the program has ended.
    fn ended(&mut self, exit_code: i32, oom_killed: bool) -> Result<()> {
        self.state.status = Status::Exited;
        (self.state.pid, self.state.exit_code) = (0, exit_code);
        if let Some(health) = &mut self.state.health {
            // Docker's word for one that nobody looks after any more.
            health.status = health::UNHEALTHY.to_owned();
        }
        self.state.oom_killed = oom_killed;
        self.state.finished_at = now();
        self.state.networks.clear();
        self.state.ports.clear();
        self.state.cgroups.clear();
        Ok(())
    }

    fn save(&self) -> Result<()> {
        self.containers.write_state(&self.record.id, &self.state)
    }

    /// Ends because the program could not be started.
    fn not_started(&mut self, code: i32, text: String) -> Result<()> {
        self.hear_first();
        self.state.error = text.clone();
        self.state.exit_code = code;
        if self.state.started_at != NEVER {
            self.state.status = Status::Exited;
        }
        let told = if self.record.host_config.auto_remove {
            self.containers.take_away(&self.record.id).map(Some)
        } else {
            self.save().map(|()| None)
        };
        for mut peer in std::mem::take(&mut self.peers) {
            peer.send(&Frame::Failed(code, text.clone()));
            peer.finish();
        }
        self.clear_away(told?)
    }

    /// Ends with the program: tells all who wait, and removes what is not to stay.
    fn finish(&mut self) -> Result<()> {
        self.state.monitor = 0;
        let away = if self.record.host_config.auto_remove {
            self.containers.take_away(&self.record.id).map(Some)
        } else {
            self.save().map(|()| None)
        };
        // Whoever hears that it has ended finds its place free, and may start it again.
        let _ = self.lock.unlock();
        for mut peer in std::mem::take(&mut self.peers) {
            if peer.waits() {
                peer.send(&Frame::Exited(self.state.exit_code));
            }
            peer.finish();
        }
        self.clear_away(away?)
    }

    fn clear_away(&self, away: Option<PathBuf>) -> Result<()> {
        if let Some(away) = away {
            fs::remove_dir_all(away)?;
            self.tell("destroy", &[]);
            super::removal::remove_anonymous_volumes(self.containers, &self.record)?;
        }
        Ok(())
    }
}

impl Running {
    /// Gives the program the input that it takes now.
    fn feed(&mut self) {
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

    fn end_input(&mut self, terminal: bool) {
        if terminal {
            // For a terminal's reader the end is a character.
            self.input.push_back(4);
        } else {
            self.input_ends = true;
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let (Some(terminal), None) = (&self.outputs[0], &self.outputs[1]) {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // What is no terminal has no size.
            let _ = tcsetwinsize(terminal, size);
        }
    }
}

/// The program's three streams, and our ends of them.
struct Streams {
    theirs: Stdio,
    outputs: [Option<OwnedFd>; 2],
    stdin: Option<OwnedFd>,
}

impl Streams {
    fn make(record: &Record) -> io::Result<Streams> {
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

fn cgroups(container: &Container) -> BTreeMap<String, String> {
    let shown = |(name, dir): (&str, &Path)| (name.to_owned(), dir.display().to_string());
    container.cgroups().map(shown).collect()
}

/// Listens in a container's directory, however long its path is.
fn listen(dir: &Path) -> Result<UnixListener> {
    let _ = fs::remove_file(dir.join(SOCKET));
    let dir = fs::File::open(dir)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
