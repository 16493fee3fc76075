//! A question on its way to the host's name servers, one after the other, by the transport that
//! the client chose.
//!
//! Nothing here waits: the server's loop polls the socket and calls [`Question::step`]. Does not
//! know who asked.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::answer::Transport;

/// How long each server has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a message's header.
const HEADER: usize = 12;
const RESPONSE_CODE: u8 = 0x0f;
const IS_RESPONSE: u8 = 0x80;
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// A question that waits for an answer from outside.
pub(super) struct Question {
    query: Vec<u8>,
    /// The number it goes by outside, which nobody who asks can choose.
    id: u16,
    transport: Transport,
    /// The server that is asked.
    server: usize,
    socket: Option<Socket>,
    deadline: Instant,
    /// A server's refusal, for when there is no better answer.
    refusal: Option<Vec<u8>>,
}

enum Socket {
    Udp(UdpSocket),
    /// What is still to be written, and what was read.
    Tcp(TcpStream, Vec<u8>, Vec<u8>),
}

/// What became of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Answered(Vec<u8>),
    /// No server has answered.
    Failed,
}

impl Question {
    /// Asks the first server. `query` is the client's message, at least a header long.
    pub(super) fn ask(
        query: &[u8],
        id: u16,
        transport: Transport,
        servers: &[SocketAddr],
    ) -> (Self, Progress) {
        let mut question = Question {
            query: query.to_vec(),
            id,
            transport,
            server: 0,
            socket: None,
            deadline: Instant::now(),
            refusal: None,
        };
        let progress = question.start(servers);
        (question, progress)
    }

    /// The client's message.
    pub(super) fn query(&self) -> &[u8] {
        &self.query
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self.socket.as_ref()? {
            Socket::Udp(socket) => Some((socket.as_fd(), PollFlags::IN)),
            Socket::Tcp(stream, unwritten, _) if unwritten.is_empty() => {
                Some((stream.as_fd(), PollFlags::IN))
            }
            Socket::Tcp(stream, ..) => Some((stream.as_fd(), PollFlags::OUT)),
        }
    }

    /// Goes on, now that the socket is `ready` or time has passed.
    pub(super) fn step(&mut self, ready: bool, servers: &[SocketAddr]) -> Progress {
        if ready {
            match self.receive() {
                Ok(Some(mut answer)) => {
                    answer[..2].copy_from_slice(&self.query[..2]);
                    let code = answer[3] & RESPONSE_CODE;
                    if code != SERVER_FAILURE && code != REFUSED {
                        return Progress::Answered(answer);
                    }
                    self.refusal = Some(answer);
                    return self.ask_next(servers);
                }
                Ok(None) => {}
                Err(_) => return self.ask_next(servers),
            }
        }
        if Instant::now() >= self.deadline { self.ask_next(servers) } else { Progress::Waiting }
    }

    fn ask_next(&mut self, servers: &[SocketAddr]) -> Progress {
        self.server += 1;
        self.start(servers)
    }

    /// Asks the server whose turn it is; one that cannot be asked is passed over.
    fn start(&mut self, servers: &[SocketAddr]) -> Progress {
        while let Some(server) = servers.get(self.server) {
            match self.connect(*server) {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.deadline = Instant::now() + PATIENCE;
                    return Progress::Waiting;
                }
                Err(_) => self.server += 1,
            }
        }
        self.socket = None;
        self.refusal.take().map_or(Progress::Failed, Progress::Answered)
    }

    fn connect(&self, server: SocketAddr) -> io::Result<Socket> {
        let mut message = self.query.clone();
        message[..2].copy_from_slice(&self.id.to_be_bytes());
        if self.transport == Transport::Udp {
            let any = match server {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            socket.connect(server)?;
            socket.send(&message)?;
            return Ok(Socket::Udp(socket));
        }
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let length = u16::try_from(message.len()).map_err(|_| ErrorKind::InvalidInput)?;
        let framed = [&length.to_be_bytes(), message.as_slice()].concat();
        Ok(Socket::Tcp(TcpStream::from(socket), framed, Vec::new()))
    }

    /// Takes what has come; an answer if that is all of one.
    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 4096];
        let answer = match self.socket.as_mut() {
            None => return Ok(None),
            Some(Socket::Udp(socket)) => match socket.recv(&mut buffer) {
                Ok(length) => buffer[..length].to_vec(),
                Err(error) => return later(error),
            },
            Some(Socket::Tcp(stream, unwritten, read)) => {
                if !unwritten.is_empty() {
                    match stream.write(unwritten) {
                        Ok(length) => drop(unwritten.drain(..length)),
                        Err(error) => return later(error),
                    }
                    return Ok(None);
                }
                match stream.read(&mut buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(length) => read.extend_from_slice(&buffer[..length]),
                    Err(error) => return later(error),
                }
                match framed(read) {
                    Some(message) => message,
                    None => return Ok(None),
                }
            }
        };
        let is_ours = answer.len() >= HEADER
            && answer[..2] == self.id.to_be_bytes()
            && answer[2] & IS_RESPONSE != 0;
        // What somebody else sent is not the answer, and the answer may still come.
        Ok(is_ours.then_some(answer))
    }
}

fn later<T>(error: io::Error) -> io::Result<Option<T>> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

/// Takes the first message out of what was read from a stream, once it is whole.
pub(super) fn framed(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*read.first_chunk()?));
    let message = read.get(2..2 + length)?.to_vec();
    read.drain(..2 + length);
    Some(message)
}
