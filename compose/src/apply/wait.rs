//! Waiting for containers: on what their monitors say.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use engine::containers::log::LogReader;
use engine::containers::protocol::{Frame, Request};
use engine::containers::{Client, Status};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Work, of};
use crate::failure::Failure;
use crate::plan::{self, Condition, Slot};

/// As many of a container's last lines are shown when it has ended too soon.
const LAST_LINES: usize = 10;

/// So long after its start a container that nobody looks after has not failed at once: as long as docker compose takes to
/// look for the first time.
const SETTLES: Duration = Duration::from_millis(500);

/// What a container came to.
pub(super) enum Came {
    Healthy,
    /// It is not, or cannot be.
    Unhealthy(String),
    Exited(i32),
}

impl Work<'_> {
    /// Waits until all containers of a service are in a condition.
    pub(super) fn wait_for(
        &self,
        service: &str,
        slots: &[Slot],
        condition: Condition,
        cause: &str,
    ) -> Result<(), Failure> {
        for slot in slots {
            let name = self.name(slot);
            let id = self.id(slot, &name)?;
            let done = match condition {
                Condition::Started => continue,
                Condition::Completed => "Exited",
                Condition::Healthy | Condition::Ready => "Healthy",
            };
            let waited = self.told(("Container", &name), ["Waiting", done], cause, || {
                self.wait_for_one(service, &id, &name, condition)
            });
            waited.map_err(|failure| match failure {
                Failure::Dependency { text } if cause == plan::FOR_ITSELF => {
                    Failure::NotReady { text }
                }
                failure => failure,
            })?;
        }
        Ok(())
    }

    /// What a service's container is called: as the project says, or as it is if there is none.
    fn name(&self, slot: &Slot) -> String {
        let Slot { service, number } = slot;
        let project = self.apply.project;
        if let Some(said) = project.services.get(service) {
            return crate::make::name(project, service, said, *number);
        }
        let instance = self.apply.observed.of_service(service).find(|it| it.number() == *number);
        instance.map_or_else(|| service.clone(), |it| it.name().to_owned())
    }

    fn wait_for_one(
        &self,
        service: &str,
        id: &str,
        name: &str,
        condition: Condition,
    ) -> Result<(), Failure> {
        let failed = |text: String| Failure::Dependency { text };
        if condition == Condition::Completed {
            return match self.come_to(id, name, Request::Wait)? {
                Came::Exited(0) => Ok(()),
                Came::Exited(code) => Err(failed(self.with_last_lines(
                    id,
                    format!("service {service:?} didn't complete successfully: exit {code}"),
                ))),
                Came::Healthy | Came::Unhealthy(_) => Ok(()),
            };
        }
        if condition == Condition::Ready && !self.is_probed(id, name)? {
            let observe = || self.apply.containers.observe(id).map_err(|source| of(name, source));
            let begun = observe()?.state.started_at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
            let age =
                Duration::try_from(Timestamp::now().duration_since(begun)).unwrap_or_default();
            if let Some(rest) = SETTLES.checked_sub(age) {
                self.come_by(id, name, Request::Wait, Some(Instant::now() + rest))?;
            }
            let state = observe()?.state;
            return match state.status {
                Status::Exited | Status::Dead => {
                    Err(failed(self.exited(id, name, state.exit_code)))
                }
                _ => Ok(()),
            };
        }
        match self.come_to(id, name, Request::Healthy)? {
            Came::Healthy => Ok(()),
            Came::Unhealthy(text) if self.is_unhealthy(id) => {
                Err(failed(self.with_last_lines(id, text)))
            }
            Came::Unhealthy(text) => Err(failed(text)),
            Came::Exited(code) => Err(failed(self.exited(id, name, code))),
        }
    }

    /// Whether a container was found not to be well, or ends again and again: what it prints may say why. One that nobody can
    /// look after is refused for another reason.
    fn is_unhealthy(&self, id: &str) -> bool {
        let seen = self.apply.containers.observe(id);
        seen.is_ok_and(|seen| seen.state.health.is_some_and(|it| it.status == "unhealthy"))
    }

    fn exited(&self, id: &str, name: &str, code: i32) -> String {
        self.with_last_lines(id, format!("container {name} exited ({code})"))
    }

    /// Whether somebody looks after the container's health.
    fn is_probed(&self, id: &str, name: &str) -> Result<bool, Failure> {
        let record = self.apply.containers.record(id).map_err(|source| of(name, source))?;
        let kind = record.config.healthcheck.as_ref().and_then(|check| check.test.first());
        Ok(kind.is_some_and(|kind| kind != "NONE"))
    }

    /// Asks a container's monitor, and waits for its answer.
    pub(super) fn come_to(&self, id: &str, name: &str, request: Request) -> Result<Came, Failure> {
        let came = self.come_by(id, name, request, None)?;
        Ok(came.expect("without an end to the waiting there is an answer"))
    }

    /// The same, and none if there is no answer until then.
    fn come_by(
        &self,
        id: &str,
        name: &str,
        request: Request,
        until: Option<Instant>,
    ) -> Result<Option<Came>, Failure> {
        let containers = self.apply.containers;
        let failed = |source| of(name, source);
        let exited = || -> Result<_, Failure> {
            Ok(Some(Came::Exited(containers.observe(id).map_err(failed)?.state.exit_code)))
        };
        let Some(mut client) = Client::connect(containers, id, request).map_err(failed)? else {
            return exited();
        };
        loop {
            while let Some(frame) = client.next_frame().map_err(failed)? {
                return Ok(Some(match frame {
                    Frame::Done => Came::Healthy,
                    Frame::Refused(text) => Came::Unhealthy(text),
                    Frame::Exited(code) | Frame::Failed(code, _) => Came::Exited(code),
                    Frame::Restarts(code) => {
                        // Who waits for its end may wait for ever.
                        self.tell(
                            ("Container", name),
                            "Restarting",
                            &format!("exited ({code})"),
                            false,
                        );
                        continue;
                    }
                    _ => continue,
                }));
            }
            if !self.wait_readable(&client, name, until)? {
                return Ok(None);
            }
            if !client.fill().map_err(failed)? {
                return exited();
            }
        }
    }

    /// Waits until a monitor says something; false if it does not until then. Fails if nobody wants to know any more, or it
    /// takes too long.
    fn wait_readable(
        &self,
        client: &Client,
        name: &str,
        until: Option<Instant>,
    ) -> Result<bool, Failure> {
        loop {
            let left = |end: Instant| end.saturating_duration_since(Instant::now());
            if let Some((deadline, seconds)) = self.apply.deadline
                && left(deadline).is_zero()
            {
                return Err(Failure::TimedOut { what: format!("container {name}"), seconds });
            }
            if until.is_some_and(|until| left(until).is_zero()) {
                return Ok(false);
            }
            let deadline = self.apply.deadline.map(|(deadline, _)| deadline);
            let time = deadline.into_iter().chain(until).map(left).min().map(|left| Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut polled = [
                PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.apply.cancel.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.off.as_fd(), PollFlags::IN),
            ];
            match poll(&mut polled, time.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(std::io::Error::from(errno).into()),
            }
            let [told, canceled, off] = polled.map(|fd| !fd.revents().is_empty());
            if told {
                return Ok(true);
            }
            if canceled || off {
                return Err(Failure::Interrupted);
            }
        }
    }

    /// A text, and below it what a container printed last.
    pub(super) fn with_last_lines(&self, id: &str, mut text: String) -> String {
        let dir = self.apply.containers.dir(id);
        if let Ok(mut log) = LogReader::open(&dir, id, Some(LAST_LINES)) {
            while let Ok(Some(line)) = log.next_line() {
                text.push_str("\n    ");
                text.push_str(line.text.trim_end());
            }
        }
        text
    }
}
