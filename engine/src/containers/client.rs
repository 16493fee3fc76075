//! Talks to monitors: starts them, asks them.

use std::ffi::CString;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cache::digest::Digest;
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::monitor::{ASSIGNMENT_FD, Assignment, MONITOR_NAME, SOCKET, STARTER_FD};
use super::protocol::{Decoder, Frame, Request};
use super::{Containers, Error, Result, Status};
use crate::container::own_program;
use crate::foreign::{self, Foreign};
use crate::sys::process::{Spawn, spawn};

/// How long a process may take to end that was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// How long somebody else may take to start a container.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Whether a descriptor becomes readable in time.
fn readable(fd: BorrowedFd<'_>, time: Duration) -> io::Result<bool> {
    let time =
        Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&time)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// What came of waiting for a container to become healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Healthy,
    /// It is not, and why.
    Unhealthy(String),
    /// Its program has ended, with this exit code.
    Exited(i32),
}

/// A connection to a container's monitor.
pub struct Client {
    id: String,
    socket: UnixStream,
    decoder: Decoder,
}

/// Reads bytes, and keeps the descriptors that come with them.
struct WithDescriptors<'a> {
    socket: &'a UnixStream,
    received: Vec<OwnedFd>,
}

impl Read for WithDescriptors<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let iov = &mut [IoSliceMut::new(buffer)];
        let read = recvmsg(self.socket, iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.received.extend(descriptors);
            }
        }
        Ok(read.bytes)
    }
}

/// Whether a monitor has closed the connection, perhaps before it read what was sent.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Client {
    /// Connects to the monitor of a container and asks it something; nothing if it has none.
    pub fn connect(
        containers: &Containers<'_>,
        id: &str,
        request: Request,
    ) -> Result<Option<Client>> {
        if !containers.is_monitored(id)? {
            return Ok(None);
        }
        let dir = fs::File::open(containers.dir(id))?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let socket = match UnixStream::connect(path) {
            Ok(socket) => socket,
            // It ended meanwhile.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(Error::Talk { id: id.to_owned(), source }),
        };
        let mut client = Client { id: id.to_owned(), socket, decoder: Decoder::default() };
        match client.send(&Frame::Request(request)) {
            Err(Error::Talk { source, .. }) if has_ended(&source) => Ok(None),
            sent => sent.map(|()| Some(client)),
        }
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Frame) -> Result<()> {
        self.socket.write_all(&frame.encode()).map_err(|source| self.failed(source))
    }

    /// Waits for the next frame; none at the end.
    pub fn receive(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(Some(frame));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Waits for the next frame, as [`Client::receive`] does, and for the descriptors that come with
    /// it: as many as a process has streams.
    pub(super) fn receive_with_descriptors(&mut self) -> Result<(Option<Frame>, Vec<OwnedFd>)> {
        let mut from = WithDescriptors { socket: &self.socket, received: Vec::new() };
        let frame = loop {
            match self.decoder.next_frame() {
                Ok(None) => {}
                frame => break frame,
            }
            match self.decoder.fill(&mut from) {
                Ok(true) => {}
                Ok(false) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        let received = from.received;
        Ok((frame.map_err(|source| self.failed(source))?, received))
    }

    /// Reads what has come, once it is readable; false at the end.
    pub fn fill(&mut self) -> Result<bool> {
        match self.decoder.fill(&mut self.socket) {
            Err(error) if has_ended(&error) => Ok(false),
            filled => filled.map_err(|source| self.failed(source)),
        }
    }

    /// A frame that has come.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        self.decoder.next_frame().map_err(|source| self.failed(source))
    }

    /// Readable when there may be a frame.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A second handle for sending, for another thread.
    pub fn sender(&self) -> Result<Sender> {
        Ok(Sender(self.socket.try_clone()?))
    }

    /// Waits until what was asked for is done.
    pub fn done(&mut self) -> Result<()> {
        loop {
            match self.receive()? {
                Some(Frame::Refused(text)) => return Err(Error::Refused(text)),
                Some(Frame::Done | Frame::Exited(_)) | None => return Ok(()),
                Some(_) => {}
            }
        }
    }

    /// Waits so long until what was asked for is done; whether it is.
    pub fn done_within(&mut self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        loop {
            match self.next_frame()? {
                Some(Frame::Refused(text)) => return Err(Error::Refused(text)),
                Some(Frame::Done | Frame::Exited(_)) => return Ok(true),
                Some(_) => continue,
                None => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            if readable(self.socket.as_fd(), left).map_err(|source| self.failed(source))?
                && !self.fill()?
            {
                return Ok(true);
            }
        }
    }

    /// Kills a monitor that does not answer, and its container with it; returns when it has ended.
    pub(super) fn kill_monitor(&self, containers: &Containers<'_>) -> Result<()> {
        let talk = |errno: Errno| self.failed(errno.into());
        let pid = rustix::net::sockopt::socket_peercred(&self.socket).map_err(talk)?.pid;
        let monitor = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            opened => opened.map_err(talk)?,
        };
        // As long as its place is held the number is its own.
        if !containers.is_monitored(&self.id)? {
            return Ok(());
        }
        match pidfd_send_signal(&monitor, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(talk(errno)),
        }
        if readable(monitor.as_fd(), KILLED_WITHIN).map_err(|source| self.failed(source))? {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the monitor of container {}, process {pid}, does not answer and does not end when it is \
             killed: see what it waits for in /proc/{pid}/stack",
            self.id
        )))
    }

    /// Waits until the program has ended; none if the monitor was killed.
    pub fn exit(&mut self) -> Result<Option<i32>> {
        loop {
            match self.receive()? {
                Some(Frame::Exited(code) | Frame::Failed(code, _)) => return Ok(Some(code)),
                None => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// Waits for what came of [`Request::Healthy`].
    pub fn healthy(&mut self) -> Result<Verdict> {
        loop {
            match self.receive()? {
                Some(Frame::Done) => return Ok(Verdict::Healthy),
                Some(Frame::Refused(text)) => return Ok(Verdict::Unhealthy(text)),
                Some(Frame::Exited(code)) => return Ok(Verdict::Exited(code)),
                Some(Frame::Failed(code, text)) => return Err(Error::Start { text, code }),
                Some(_) => {}
                None => return Err(Error::NotRunning(self.id.clone())),
            }
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Talk { id: self.id.clone(), source }
    }
}

/// Sends frames to a monitor.
pub struct Sender(UnixStream);

impl Sender {
    /// Sends a frame; a monitor that is gone needs none.
    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.0.write_all(&frame.encode())
    }
}

/// Starts a container: gives it a monitor and waits until its program runs.
///
/// `networks` is where it is written down who uses which address. Returns the connection, on which
/// what the program prints comes if `request` says so.
pub fn start(
    containers: &Containers<'_>,
    id: &str,
    networks: &Path,
    request: Request,
) -> Result<Client> {
    let talk = |source| Error::Talk { id: id.to_owned(), source };
    // One that does not start may be gone with its record.
    let manifest = containers.record(id).ok().and_then(|record| record.manifest);
    let assignment = Assignment {
        root: containers.store.root().to_owned(),
        driver: containers.store.driver(),
        id: id.to_owned(),
        networks: networks.to_owned(),
        open_files: crate::open_files::original(),
    };
    let (ours, theirs) = UnixStream::pair().map_err(talk)?;
    let mut client = Client { id: id.to_owned(), socket: ours, decoder: Decoder::default() };
    client.send(&Frame::Request(request))?;
    spawn_monitor(&assignment, theirs.as_fd()).map_err(talk)?;
    drop(theirs);
    match client.receive()? {
        Some(Frame::Started) => Ok(client),
        Some(Frame::Failed(code, text)) => {
            let text = match foreign(containers, manifest, code) {
                Some(foreign) => format!("{text}: {foreign}"),
                None => text,
            };
            Err(Error::Start { text, code })
        }
        _ => Err(talk(io::Error::other("the monitor ended before it could say why"))),
    }
}

/// Starts a container that does not run, for nobody in particular. One that runs, or that somebody
/// else starts at this moment, is as it should be.
pub fn ensure_running(containers: &Containers<'_>, id: &str, networks: &Path) -> Result<()> {
    match containers.observe(id)?.state.status {
        Status::Running | Status::Restarting => Ok(()),
        Status::Paused => Err(Error::StartPaused),
        _ => {
            let request = Request::Attach { stdin: false, output: false, starter: true };
            match start(containers, id, networks, request) {
                Err(error) if !runs_soon(containers, id)? => Err(error),
                _ => Ok(()),
            }
        }
    }
}

/// Asks a container's program to end as [`stop`](super::stop) does, and starts it again; starts one
/// that does not run.
pub fn restart(
    containers: &Containers<'_>,
    id: &str,
    networks: &Path,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<()> {
    match Client::connect(containers, id, Request::Restart { signal, timeout })? {
        Some(mut client) => client.done(),
        None => ensure_running(containers, id, networks),
    }
}

/// Whether somebody else is starting a container, or has, just as we meant to. Who does has its
/// monitor's place before its state says anything.
fn runs_soon(containers: &Containers<'_>, id: &str) -> Result<bool> {
    let until = Instant::now() + STARTED_WITHIN;
    loop {
        // In this order: a monitor that has gone has said before what came of it.
        let monitored = containers.is_monitored(id)?;
        if matches!(containers.observe(id)?.state.status, Status::Running | Status::Restarting) {
            return Ok(true);
        }
        if !monitored || Instant::now() > until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Why a program was not started, if that is for its image's architecture.
fn foreign(containers: &Containers<'_>, image: Option<Digest>, code: i32) -> Option<Foreign> {
    let image = containers.store.peek_image(&image?).ok()?;
    foreign::reason(containers.store, &image.config.architecture, code)
}

fn spawn_monitor(assignment: &Assignment, starter: BorrowedFd<'_>) -> io::Result<()> {
    let memfd = rustix::fs::memfd_create("assignment", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memfd);
    file.write_all(&serde_json::to_vec(assignment)?)?;
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let name = CString::new(MONITOR_NAME).expect("the name has no NUL");
    // Nobody waits for it: it outlives us, and is init's child then.
    spawn(&Spawn {
        program: own_program()?.as_fd(),
        args: &[&name],
        namespaces: 0,
        cgroup: None,
        descriptors: &[
            (null.as_fd(), 0),
            (null.as_fd(), 1),
            (null.as_fd(), 2),
            (file.as_fd(), ASSIGNMENT_FD),
            (starter, STARTER_FD),
        ],
        copy: None,
    })
    .map(drop)
}
