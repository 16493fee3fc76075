//! Whether a container is well: a thread of its monitor that starts probes in it.
//!
//! The rules are docker's: the first probe comes after an interval, failures in the start period do
//! not count until one has succeeded, and a probe that takes too long has failed. The thread ends
//! with the [`Watch`]; a container that is paused or has ended has none.
//!
//! While somebody waits for a container that is still starting, extra probes come between those that
//! were declared. They can only bring good news early: one that fails is forgotten, and one that is
//! not done when the next declared probe is due makes way for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cache::oci::Healthcheck;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, Signal};

use super::assemble::causes;
use super::record::Config;
use super::state::{Health, Probe, now};
use crate::container::{self, ExecSpec, Running, Stdio};
use crate::duration;

/// Of a thread that reads small things and starts processes.
const STACK: usize = 128 << 10;

/// As many probes are kept.
const MOST_PROBES: usize = 5;

/// As many bytes of what each printed.
const MOST_OUTPUT: usize = 4096;

/// How a container is looked after; docker's defaults are filled in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The program that tells and its arguments.
    pub(super) command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Plan {
    /// Reads a container's plan; none if nobody is to look.
    pub(super) fn of(config: &Config) -> Option<Plan> {
        let check = config.healthcheck.as_ref()?;
        let (kind, words) = check.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let shell = config.shell.clone().filter(|shell| !shell.is_empty());
                let mut command =
                    shell.unwrap_or_else(|| ["/bin/sh", "-c"].map(str::to_owned).to_vec());
                command.extend_from_slice(words);
                command
            }
            _ => return None,
        };
        Some(Plan::with(check, command))
    }

    fn with(check: &Healthcheck, command: Vec<String>) -> Plan {
        let time = |nanoseconds: i64, default: u64| match u64::try_from(nanoseconds) {
            Ok(0) | Err(_) => Duration::from_secs(default),
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
        };
        Plan {
            command,
            interval: time(check.interval, 30),
            timeout: time(check.timeout, 30),
            start_period: time(check.start_period, 0),
            start_interval: time(check.start_interval, 5),
            retries: u32::try_from(check.retries).ok().filter(|retries| *retries > 0).unwrap_or(3),
        }
    }

    /// How long to wait for the next probe of a container that began so long ago.
    fn pause(&self, health: &Health, age: Duration) -> Duration {
        if age < self.start_period && health.status == STARTING {
            self.start_interval
        } else {
            self.interval
        }
    }

    /// Takes a probe into account that was begun at this age of the container.
    fn judge(&self, health: &mut Health, probe: Probe, age: Duration) {
        if probe.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HEALTHY.to_owned();
        } else if health.status != STARTING || age >= self.start_period {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                health.status = UNHEALTHY.to_owned();
            }
        }
        let superfluous = (health.log.len() + 1).saturating_sub(MOST_PROBES);
        health.log.drain(..superfluous);
        health.log.push(probe);
    }
}

pub(super) const STARTING: &str = "starting";
pub(super) const HEALTHY: &str = "healthy";
pub(super) const UNHEALTHY: &str = "unhealthy";

/// The first extra probe comes so soon after the program's start.
const FIRST_EXTRA: Duration = Duration::from_millis(10);

/// The pauses between extra probes grow from the one to the other: whoever waits hears late by little
/// more than a fifth of the time that the container took to become healthy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// When extra probes are made. Pure.
#[derive(Clone, Copy, Debug)]
struct Extra {
    due: Instant,
    pause: Duration,
}

impl Extra {
    /// Begins now, for a program that started at `begun`.
    fn begin(begun: Instant, now: Instant) -> Extra {
        Extra { due: now.max(begun + FIRST_EXTRA), pause: SHORTEST_PAUSE }
    }

    /// Takes a probe into account that has just ended: one that takes long is not to keep the
    /// machine from what it waits for.
    fn after_probe(&mut self, took: Duration, now: Instant) {
        self.due = now + self.pause.max(took).min(LONGEST_PAUSE);
        self.pause = (self.pause * 6 / 5).min(LONGEST_PAUSE);
    }
}

/// A container being looked after. Dropping it kills a probe that runs and waits for its end.
pub(super) struct Watch {
    /// The thread writes a byte for each result, reads one when somebody begins or ceases to wait,
    /// and ends when this is shut.
    socket: UnixStream,
    health: Arc<Mutex<Health>>,
    awaited: bool,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
struct Watcher {
    socket: UnixStream,
    health: Arc<Mutex<Health>>,
    plan: Plan,
    container: Pid,
    spec: ExecSpec,
    begun: Instant,
    /// When the next probe is due that was declared.
    due: Instant,
    /// When the next one is due beside it, as long as somebody waits.
    extra: Option<Extra>,
}

/// Why a probe is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    Declared,
    Awaited,
}

impl Watch {
    /// Begins to look after a container whose program started at `begun`. `spec` is what starts a
    /// process in it.
    pub(super) fn begin(
        plan: Plan,
        health: Health,
        container: Pid,
        spec: ExecSpec,
        begun: Instant,
    ) -> io::Result<Watch> {
        let (ours, theirs) = UnixStream::pair()?;
        let health = Arc::new(Mutex::new(health));
        let due = Instant::now() + plan.pause(&lock(&health), begun.elapsed());
        let watcher = Watcher {
            socket: theirs,
            health: Arc::clone(&health),
            plan,
            container,
            spec,
            begun,
            due,
            extra: None,
        };
        let thread = std::thread::Builder::new()
            .name("health".to_owned())
            .stack_size(STACK)
            .spawn(move || watcher.run())?;
        Ok(Watch { socket: ours, health, awaited: false, thread: Some(thread) })
    }

    /// Says whether somebody waits for the container to become healthy.
    pub(super) fn set_awaited(&mut self, awaited: bool) {
        if self.awaited != awaited
            && send(&self.socket, &[u8::from(awaited)], SendFlags::NOSIGNAL).is_ok()
        {
            self.awaited = awaited;
        }
    }

    /// Readable when there is a result.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// How the container is now.
    pub(super) fn health(&self) -> Health {
        let mut bytes = [0; 64];
        let _ = recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT);
        lock(&self.health).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(health: &Mutex<Health>) -> MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Watcher {
    fn run(mut self) {
        while let Some(reason) = self.sleep() {
            let (start, age, begun) = (now(), self.begun.elapsed(), Instant::now());
            let mut until = begun + self.plan.timeout;
            if reason == Reason::Awaited {
                until = until.min(self.due);
            }
            let Some((exit_code, output)) = self.probe(until) else { return };
            if let Some(extra) = &mut self.extra {
                extra.after_probe(begun.elapsed(), Instant::now());
            }
            if reason == Reason::Awaited && exit_code != 0 {
                continue;
            }
            let probe = Probe { start, end: now(), exit_code, output };
            let pause = {
                let mut health = lock(&self.health);
                self.plan.judge(&mut health, probe, age);
                self.plan.pause(&health, self.begun.elapsed())
            };
            self.due = Instant::now() + pause;
            // The monitor may have hung up: that must not end it.
            if send(&self.socket, &[1], SendFlags::NOSIGNAL).is_err() {
                return;
            }
        }
    }

    /// Waits until it is time for the next probe; none if nobody wants to know any more.
    fn sleep(&mut self) -> Option<Reason> {
        loop {
            let now = Instant::now();
            if self.due <= now {
                return Some(Reason::Declared);
            }
            let is_starting = lock(&self.health).status == STARTING;
            let extra = self.extra.filter(|_| is_starting).map(|extra| extra.due);
            if extra.is_some_and(|due| due <= now) {
                return Some(Reason::Awaited);
            }
            let next = extra.map_or(self.due, |extra| extra.min(self.due));
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            match wait(&mut polled, next.saturating_duration_since(now)) {
                Ok(0) => {}
                Ok(_) if self.hear() => {}
                _ => return None,
            }
        }
    }

    /// Hears whether somebody waits; false if nobody wants to know any more.
    fn hear(&mut self) -> bool {
        let mut byte = [0];
        match recv(&self.socket, &mut byte[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return false,
            Ok(_) if byte == [0] => self.extra = None,
            Ok(_) => self.extra = Some(Extra::begin(self.begun, Instant::now())),
            Err(errno) => return matches!(errno, Errno::AGAIN | Errno::INTR),
        }
        true
    }

    /// Runs a probe: how it ended and what it printed; nothing if nobody wants to know any more.
    fn probe(&mut self, until: Instant) -> Option<(i32, String)> {
        let failed = |error: &dyn std::error::Error| Some((-1, causes(error)));
        let (read, write) = match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
            Ok(pipe) => pipe,
            Err(errno) => return failed(&errno),
        };
        let stderr = match write.try_clone() {
            Ok(stderr) => stderr,
            Err(error) => return failed(&error),
        };
        let started = Running::find(self.container, None).map_err(|error| causes(&error)).and_then(
            |running| {
                container::exec(&running, &self.spec, Stdio::output(write, stderr))
                    .map_err(|error| causes(&error))
            },
        );
        match started {
            Ok(process) => self.attend(process, &read, until),
            Err(text) => Some((-1, text)),
        }
    }

    fn attend(
        &mut self,
        process: container::Container,
        output: &OwnedFd,
        until: Instant,
    ) -> Option<(i32, String)> {
        let mut printed = Printed::default();
        let mut open = true;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut polled = vec![
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&process.pidfd, PollFlags::IN),
            ];
            if open {
                polled.push(PollFd::new(output, PollFlags::IN));
            }
            let waited = wait(&mut polled, left);
            let ready = |index: usize| polled.get(index).is_some_and(|it| !it.revents().is_empty());
            let (told, ended, readable) = (ready(0), ready(1), ready(2));
            if waited.is_err() || told && !self.hear() {
                // Dropping the process kills it and waits for it.
                return None;
            }
            if readable {
                open = printed.read(output);
            } else if ended {
                let code = process.wait().map_or(-1, |exit| exit.code);
                return Some((code, printed.text()));
            }
            if left.is_zero() {
                let _ = process.kill(Signal::KILL);
                let _ = process.wait();
                return Some((-1, self.took_too_long(printed.text())));
            }
        }
    }

    fn took_too_long(&self, printed: String) -> String {
        let timeout =
            duration::format(i64::try_from(self.plan.timeout.as_nanos()).unwrap_or(i64::MAX));
        match printed.as_str() {
            "" => format!("Health check exceeded timeout ({timeout})"),
            _ => format!("Health check exceeded timeout ({timeout}): {printed}"),
        }
    }
}

/// What a probe printed, as far as it is kept.
#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    cut: bool,
}

impl Printed {
    /// Reads what is there; false at the end.
    fn read(&mut self, from: &OwnedFd) -> bool {
        let mut buffer = [0; 1024];
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                let kept = read.min(MOST_OUTPUT - self.bytes.len());
                self.bytes.extend_from_slice(&buffer[..kept]);
                self.cut |= kept < read;
                true
            }
            Err(errno) => errno == Errno::INTR,
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut { text + "..." } else { text }
    }
}

fn wait(polled: &mut [PollFd<'_>], time: Duration) -> Result<usize, Errno> {
    let time =
        Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    match poll(polled, Some(&time)) {
        Err(Errno::INTR) => Ok(0),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(check: Healthcheck) -> Plan {
        Plan::with(&check, Vec::new())
    }

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn what_is_run_is_what_was_asked_for() {
        let check = |test: &[&str], shell: Option<&[&str]>, expected: Option<&[&str]>| {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let healthcheck = Some(Healthcheck { test: words(test), ..Healthcheck::default() });
            let config = Config { healthcheck, shell: shell.map(words), ..Config::default() };
            assert_eq!(Plan::of(&config).map(|plan| plan.command), expected.map(words), "{test:?}");
        };
        check(&["NONE"], None, None);
        check(&[], None, None);
        check(&["CMD", "a", "b c"], None, Some(&["a", "b c"]));
        check(&["CMD-SHELL", "a b"], None, Some(&["/bin/sh", "-c", "a b"]));
        check(&["CMD-SHELL", "a b"], Some(&["bash", "-ec"]), Some(&["bash", "-ec", "a b"]));
        assert_eq!(Plan::of(&Config::default()), None);
    }

    #[test]
    fn defaults_are_dockers() {
        let plan = plan(Healthcheck::default());
        assert_eq!((plan.interval.as_secs(), plan.timeout.as_secs()), (30, 30));
        assert_eq!((plan.start_period.as_secs(), plan.start_interval.as_secs()), (0, 5));
        assert_eq!(plan.retries, 3);
    }

    /// Runs probes with these exit codes, begun at these seconds, and tells each status.
    fn statuses(check: Healthcheck, probes: &[(u64, i32)]) -> Vec<String> {
        let plan = plan(check);
        let mut health = Health { status: STARTING.to_owned(), ..Health::default() };
        let mut run = |&(age, exit_code): &(u64, i32)| {
            let probe = Probe { exit_code, ..Probe::default() };
            plan.judge(&mut health, probe, Duration::from_secs(age));
            assert!(health.log.len() <= MOST_PROBES);
            format!("{} {}", health.status, health.failing_streak)
        };
        probes.iter().map(&mut run).collect()
    }

    #[test]
    fn statuses_follow_dockers_rules() {
        let two = Healthcheck { retries: 2, ..Healthcheck::default() };
        assert_eq!(
            statuses(two.clone(), &[(1, 1), (2, 1), (3, 0), (4, -1), (5, 0)]),
            ["starting 1", "unhealthy 2", "healthy 0", "healthy 1", "healthy 0"]
        );
        let slow = Healthcheck { start_period: 10 * SECOND, ..two };
        assert_eq!(
            statuses(slow.clone(), &[(1, 1), (9, 1), (10, 1), (11, 1)]),
            ["starting 0", "starting 0", "starting 1", "unhealthy 2"]
        );
        // Once it has been well, failures count at once.
        assert_eq!(
            statuses(slow, &[(1, 0), (2, 1), (3, 1)]),
            ["healthy 0", "healthy 1", "unhealthy 2"]
        );
    }

    #[test]
    fn probes_come_sooner_in_the_start_period() {
        let plan = plan(Healthcheck {
            start_period: 10 * SECOND,
            start_interval: SECOND,
            ..Healthcheck::default()
        });
        let at = |status: &str, age| {
            let health = Health { status: status.to_owned(), ..Health::default() };
            plan.pause(&health, Duration::from_secs(age)).as_secs()
        };
        assert_eq!((at(STARTING, 1), at(HEALTHY, 1), at(STARTING, 10)), (1, 30, 30));
    }

    #[test]
    fn extra_probes_bring_news_in_little_more_than_a_fifth_of_the_time_it_took() {
        let begun = Instant::now();
        let mut extra = Extra::begin(begun, begun);
        assert_eq!(extra.due, begun + FIRST_EXTRA);
        let (mut last, mut count) = (extra.due, 1);
        while last < begun + Duration::from_secs(60) {
            extra.after_probe(Duration::ZERO, extra.due);
            let (took, late) = (last - begun, extra.due - last);
            let bound = (took / 5 + SHORTEST_PAUSE).min(LONGEST_PAUSE);
            assert!(late <= bound, "{took:?} {late:?}");
            (last, count) = (extra.due, count + 1);
        }
        assert!(count < 100, "{count}");
    }

    #[test]
    fn extra_probes_that_take_long_come_seldom() {
        let begun = Instant::now();
        let late = begun + Duration::from_secs(5);
        let mut extra = Extra::begin(begun, late);
        assert_eq!(extra.due, late);
        for (took, pause) in [(300, 300), (0, 24), (60_000, 1000)] {
            extra.after_probe(Duration::from_millis(took), late);
            assert_eq!(extra.due, late + Duration::from_millis(pause), "{took}");
        }
    }
}
