//! What those who are connected ask of a monitor, and what it answers.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Monitor;
use super::program::{Running, cgroups};
use crate::containers::assemble::{self, causes};
use crate::containers::connect::Connected;
use crate::containers::health;
use crate::containers::protocol::{Frame, Request};
use crate::containers::state::Status;
use crate::containers::{Error, Result, exec, signal};
use crate::signals::TERMINATE;

/// Seconds a program has to end when it is asked to, if nothing else is said.
const STOP_TIMEOUT: i64 = 10;

/// Who waits this long to be started again has ended too often to become healthy soon. Docker says of one that waits that it is
/// unhealthy, and docker compose looks twice a second: it cannot miss this, as it may miss the shorter ones before.
const HOPELESS: Duration = Duration::from_millis(500);

impl Monitor<'_> {
    /// Does what a peer has asked or sent.
    pub(super) fn hear(&mut self, index: usize, mut running: Option<&mut Running>) {
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

    pub(super) fn answer(&mut self, index: usize, request: Request, running: Option<&mut Running>) {
        self.peers[index].request = Some(match &request {
            // A command may be long, and is of no use here.
            Request::Exec(_) => Request::Exec(exec::Request::default()),
            other => other.clone(),
        });
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
            (Request::Healthy, running) => match self.outlook(running.as_deref()) {
                Some(told) => told,
                None => return,
            },
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
            (Request::Exec(_), Some(_)) if paused => {
                refuse(format!("container {name} is paused, unpause the container before exec"))
            }
            (Request::Exec(request), Some(running)) => {
                match self.start_exec(index, request, running) {
                    Ok(()) => return,
                    Err(frame) => frame,
                }
            }
            (Request::Unpause, Some(_)) => refuse(format!("container {name} is not paused")),
        };
        self.peers[index].dismiss(&reply);
    }

    /// What to say to one who waits for the container to become healthy; nothing yet if it may.
    fn outlook(&self, running: Option<&Running>) -> Option<Frame> {
        let name = &self.record.name;
        let refuse = |text: String| Some(Frame::Refused(text));
        if health::Plan::of(&self.record.config).is_none() {
            return refuse(format!("container {name} has no healthcheck configured"));
        }
        match running {
            None if self.pause >= HOPELESS => refuse(self.why_restarting()),
            None => None,
            Some(running) if running.watch.is_none() && self.state.status != Status::Paused => {
                refuse(format!("container {name} cannot be probed: see whether it can be entered"))
            }
            Some(_) => self.verdict(),
        }
    }

    /// What is known of the health of a container that runs.
    fn verdict(&self) -> Option<Frame> {
        let health = self.state.health.as_ref()?;
        match health.status.as_str() {
            health::HEALTHY => Some(Frame::Done),
            health::UNHEALTHY => {
                let output = health.log.last().map_or("", |probe| probe.output.trim());
                let colon = if output.is_empty() { "" } else { ": " };
                let name = &self.record.name;
                Some(Frame::Refused(format!("container {name} is unhealthy{colon}{output}")))
            }
            _ => None,
        }
    }

    /// Tells those who wait for it what is known of the container's health now.
    pub(super) fn tell_health(&mut self) {
        if let Some(verdict) = self.verdict() {
            self.tell_who_await_health(&verdict);
        }
    }

    /// Tells those who wait for its health that there is none to be expected of a program that
    /// ends again and again.
    pub(super) fn despair(&mut self) {
        if self.pause >= HOPELESS {
            self.tell_who_await_health(&Frame::Refused(self.why_restarting()));
        }
    }

    fn why_restarting(&self) -> String {
        let (name, code) = (&self.record.name, self.state.exit_code);
        format!(
            "container {name} is unhealthy: it is restarting, its program ended with exit code {code}"
        )
    }

    fn tell_who_await_health(&mut self, frame: &Frame) {
        for peer in self.peers.iter_mut().filter(|peer| peer.awaits_health()) {
            peer.dismiss(frame);
        }
    }

    pub(super) fn kill(&self, running: &Running, signal: Signal) -> io::Result<()> {
        running.container.kill(signal)?;
        self.tell("kill", &[("signal", &signal.as_raw().to_string())]);
        Ok(())
    }

    pub(super) fn now_is(&mut self, status: Status) -> Frame {
        self.state.status = status;
        match self.save() {
            Ok(()) => Frame::Done,
            Err(error) => Frame::Refused(causes(&error)),
        }
    }

    /// Takes over what was changed in the record, or leaves everything as it was: whoever changed
    /// it takes that back when it is refused.
    pub(super) fn reload(&mut self, mut running: Option<&mut Running>) -> Result<()> {
        let record = self.containers.record(&self.record.id)?;
        let before = std::mem::replace(&mut self.record, record);
        let followed = self.follow(running.as_deref_mut());
        if followed.is_err() {
            self.record = before;
            // What cannot be undone either was refused all the same.
            let _ = self.follow(running);
        }
        followed
    }

    fn follow(&mut self, running: Option<&mut Running>) -> Result<()> {
        let Some(running) = running else { return Ok(()) };
        let connected = self.reconnect(&mut running.connected);
        let told = running.connected.tell_again(&self.record, running.container.pid);
        connected.and(told)?;
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
            if let Some(settings) = self.state.networks.remove(&name) {
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
        connected.rename(&self.record)?;
        connected.serve_names(&self.record)?;
        self.state.networks.clone_from(&connected.networks);
        self.state.ports.clone_from(&connected.ports);
        Ok(())
    }

    /// Asks the program to end, and has it killed when its time is up.
    pub(super) fn stop(
        &mut self,
        running: Option<&mut Running>,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) {
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
}
