//! Those who are connected to a monitor: what they are owed and what they send.
//!
//! Knows nothing of the program; the monitor hands frames to and fro.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::protocol::{Decoder, Frame, Request};

/// Bytes owed to one of them from which on the program has to wait.
const MOST_OWED: usize = 256 << 10;

/// How long those who do not read are waited for when all is over.
const PATIENCE: Duration = Duration::from_secs(600);

/// Somebody who is connected.
pub(super) struct Peer {
    socket: UnixStream,
    decoder: Decoder,
    owed: VecDeque<u8>,
    /// What it asked, once it has.
    pub(super) request: Option<Request>,
    /// The process that was started for it and whose streams it has.
    pub(super) exec: Option<String>,
    /// Whether it gets no answer any more: it leaves when it has been given all it is owed.
    leaving: bool,
    /// Whether it has hung up.
    gone: bool,
}

impl Peer {
    pub(super) fn new(socket: UnixStream) -> io::Result<Peer> {
        socket.set_nonblocking(true)?;
        let (decoder, owed) = (Decoder::default(), VecDeque::new());
        Ok(Peer { socket, decoder, owed, request: None, exec: None, leaving: false, gone: false })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether the program must wait for it.
    pub(super) fn is_behind(&self) -> bool {
        self.owed.len() > MOST_OWED
    }

    /// Whether it may send what the program reads.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.request, Some(Request::Attach { .. }))
    }

    pub(super) fn sees_output(&self) -> bool {
        matches!(self.request, Some(Request::Attach { output: true, .. }))
    }

    pub(super) fn hears_of_restarts(&self) -> bool {
        self.sees_output() || matches!(self.request, Some(Request::Wait))
    }

    pub(super) fn is_starter(&self) -> bool {
        matches!(self.request, Some(Request::Attach { starter: true, .. }))
    }

    /// Whether it waits for the program to be started again.
    pub(super) fn restarts(&self) -> bool {
        matches!(self.request, Some(Request::Restart { .. }))
    }

    /// Whether it waits for the container to become healthy.
    pub(super) fn awaits_health(&self) -> bool {
        !self.leaving && matches!(self.request, Some(Request::Healthy))
    }

    /// Whether it hears of the program's end.
    pub(super) fn waits(&self) -> bool {
        matches!(
            self.request,
            Some(Request::Attach { .. } | Request::Wait | Request::Healthy | Request::Stop { .. })
        )
    }

    /// Sends a frame as soon as it takes it.
    pub(super) fn send(&mut self, frame: &Frame) {
        self.owed.extend(frame.encode());
        self.flush();
    }

    /// Sends a frame and descriptors with it; one that is not owed anything takes both at once.
    pub(super) fn send_with(&mut self, frame: &Frame, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        let bytes = frame.encode();
        let sent = sendmsg(
            &self.socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        match sent {
            Ok(sent) => self.owed.extend(&bytes[sent..]),
            // It has hung up.
            Err(_) => self.leaving = true,
        }
    }

    /// Sends a last frame.
    pub(super) fn dismiss(&mut self, frame: &Frame) {
        self.send(frame);
        self.leaving = true;
    }

    /// Gives it what it takes now.
    pub(super) fn flush(&mut self) {
        while !self.owed.is_empty() {
            match self.socket.write(self.owed.as_slices().0) {
                Ok(written) => drop(self.owed.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.owed.clear();
                    self.leaving = true;
                }
            }
        }
    }

    /// Whether nothing is to be expected of it, nor it of us. One that has a process's streams may
    /// read what is in them until it hangs up.
    pub(super) fn is_done(&self) -> bool {
        self.leaving && self.owed.is_empty() && (self.exec.is_none() || self.gone)
    }

    /// What it has sent; one that talks nonsense or has hung up leaves.
    pub(super) fn hear(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let open = self.decoder.fill(&mut self.socket).unwrap_or(false);
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => {
                    self.leaving = true;
                    break;
                }
            }
        }
        if !open {
            self.owed.clear();
            (self.leaving, self.gone) = (true, true);
        }
        frames
    }
}

/// Gives all of them what they are owed, each at its own pace, but not for ever.
pub(super) fn finish(mut peers: Vec<Peer>) {
    let owed = |peers: &[Peer]| peers.iter().map(|peer| peer.owed.len()).sum::<usize>();
    let mut until = Instant::now() + PATIENCE;
    loop {
        let before = owed(&peers);
        peers.iter_mut().for_each(Peer::flush);
        peers.retain(Peer::is_owed);
        if owed(&peers) < before {
            until = Instant::now() + PATIENCE;
        }
        let left = until.saturating_duration_since(Instant::now());
        if peers.is_empty() || left.is_zero() {
            return;
        }
        let mut polled: Vec<PollFd<'_>> =
            peers.iter().map(|peer| PollFd::new(&peer.socket, PollFlags::OUT)).collect();
        let left =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut polled, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
