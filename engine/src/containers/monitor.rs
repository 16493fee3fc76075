//! A container's monitor: a process of this program that starts the container's program, relays and
//! logs what it prints, and knows when and how it ended.
//!
//! Here is its life: starting the program, again and again where its policy says so, and its end. What
//! happens while the program runs is in `relay`, what others ask in `answers`, the program's streams
//! in `program`, processes beside it in `execs`.
//!
//! One thread and one loop: everything that can happen is a descriptor that becomes readable, or a
//! point in time. Started by [`start`](super::start) with a closed assignment; ends with its
//! container.

mod answers;
mod execs;
mod program;
mod relay;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cache::lower::Driver;
use cache::{Store, TakenOut};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use self::program::{Running, Streams, cgroups};
use super::assemble::{self, Assembled, causes};
use super::attached::{self, Peer};
use super::boot::boot_id;
use super::health::{self, Watch};
use super::log::{self, LogWriter};
use super::protocol::Frame;
use super::record::Record;
use super::restart::{self, Run};
use super::state::{Health, NEVER, State, Status, now};
use super::{Containers, Error, Result, exec};
use crate::container;
use crate::signals::{Signals, TERMINATE};
use crate::sys::process::{close_from, take_descriptor};

/// The `argv[0]` that makes a program a monitor.
pub(super) const MONITOR_NAME: &str = "rbuild-monitor";

/// Where it finds its assignment, and whoever started it.
pub(super) const ASSIGNMENT_FD: RawFd = 3;
pub(super) const STARTER_FD: RawFd = 4;

/// The name of its socket in the container's directory.
pub(super) const SOCKET: &str = "control.sock";

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
    /// How long it waits to be started again, while it does.
    pause: Duration,
}

impl<'a> Monitor<'a> {
    fn take_up(
        containers: &'a Containers<'a>,
        assignment: &'a Assignment,
        starter: UnixStream,
    ) -> Result<Self> {
        let id = &assignment.id;
        let lock = containers.hold(id)?.ok_or_else(|| {
            let name = containers.record(id).map_or_else(|_| id.clone(), |record| record.name);
            Error::Refused(format!("container {name} is already running"))
        })?;
        let dir = containers.dir(id);
        // First: whoever changes the record from here on finds somebody to tell.
        let listener = listen(&dir)?;
        let record = containers.record(id)?;
        let plan = log::Plan::parse(&record.host_config.log_config)?;
        Ok(Self {
            state: containers.written_state(id)?,
            listener,
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
            pause: Duration::ZERO,
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
                self.tell_of_restart();
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
            self.tell_of_restart();
            self.state.status = Status::Restarting;
            self.save()?;
            self.pause = wait;
            self.despair();
            let is_time = self.idle(wait)?;
            self.pause = Duration::ZERO;
            if is_time {
                waited = Some(wait);
                self.state.restart_count += 1;
            } else if std::mem::take(&mut self.again) {
                self.state.manually_stopped = false;
                (self.state.restart_count, waited) = (0, None);
            } else {
                self.state.status = Status::Exited;
                return self.finish();
            }
        }
    }

    /// Tells that the program has ended, and that this is not the end.
    fn tell_of_restart(&mut self) {
        let frame = Frame::Restarts(self.state.exit_code);
        let hearing = self.peers.iter_mut().filter(|peer| peer.hears_of_restarts());
        hearing.for_each(|peer| peer.send(&frame));
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
            execs: Vec::new(),
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
            self.take_away().map(Some)
        } else {
            self.save().map(|()| None)
        };
        let failed = Frame::Failed(code, text);
        self.peers.iter_mut().for_each(|peer| peer.send(&failed));
        attached::finish(std::mem::take(&mut self.peers));
        self.clear_away(told?)
    }

    /// Ends with the program: tells all who wait, and removes what is not to stay.
    fn finish(&mut self) -> Result<()> {
        self.state.monitor = 0;
        let away = if self.record.host_config.auto_remove {
            self.take_away().map(Some)
        } else {
            self.save().map(|()| None)
        };
        // Whoever hears that it has ended finds its place free, and may start it again.
        let _ = self.lock.unlock();
        for peer in self.peers.iter_mut().filter(|peer| peer.waits()) {
            peer.send(&Frame::Exited(self.state.exit_code));
        }
        attached::finish(std::mem::take(&mut self.peers));
        self.clear_away(away?)
    }

    /// Takes the container out of sight, wherever we are killed together with its volumes.
    fn take_away(&self) -> Result<TakenOut> {
        // A disk so full that nothing can be written down keeps nobody from removing something.
        let _volumes = super::removal::part_with(self.containers, &self.record, true);
        self.containers.take_away(&self.record.id)
    }

    fn clear_away(&self, away: Option<TakenOut>) -> Result<()> {
        if let Some(away) = away {
            away.remove()?;
            self.tell("destroy", &[]);
            super::removal::remove_anonymous_volumes(self.containers, &self.record.mounts)?;
        }
        Ok(())
    }
}

/// Listens in a container's directory, however long its path is.
fn listen(dir: &Path) -> Result<UnixListener> {
    let _ = fs::remove_file(dir.join(SOCKET));
    let dir = fs::File::open(dir)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
