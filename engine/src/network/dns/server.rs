//! The loop of the name server: one thread, which waits for nobody in particular.
//!
//! Each turn polls the clients' sockets and those of the questions that are outside. Does not know
//! what an answer says.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_dns::{Packet, RCODE};

use super::Zone;
use super::answer::{self, Names, Transport};
use super::upstream::{Progress, Question, framed};
use crate::network::record::Directory;

/// Questions that may be outside at once: each has a socket, and a process has some thousand.
const MOST_OUTSIDE: usize = 256;
const MOST_CLIENTS: usize = 64;
/// How long a client's connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// For when the machine has no more descriptors: others may be closed meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// Datagrams that are taken before others have their turn.
const BURST: usize = 64;
const HEADER: usize = 12;

/// What the server is told from outside while it runs.
#[derive(Default)]
pub(super) struct Told {
    pub(super) zones: Vec<Zone>,
    /// Counts the changes of the zones.
    pub(super) edition: u64,
}

pub(super) struct Server {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    /// Readable, or closed, when there is something to notice.
    pub(super) wake: OwnedFd,
    pub(super) told: Arc<Mutex<Told>>,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) random: u64,
    pub(super) state: State,
}

#[derive(Default)]
pub(super) struct State {
    edition: u64,
    networks: Vec<(Zone, Option<Directory>)>,
    clients: BTreeMap<u64, Client>,
    outside: Vec<(Asker, Question)>,
    next_client: u64,
    turn: usize,
}

#[derive(Clone, Copy)]
enum Asker {
    Udp(SocketAddr),
    Tcp(u64),
}

/// A connection, what of it was read and not yet answered, and what is still to be written.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
    unwritten: Vec<u8>,
    deadline: Instant,
}

/// Whose socket is ready.
enum Ready {
    Udp,
    Tcp,
    Client(u64),
    Outside(usize),
}

impl Server {
    pub(super) fn run(mut self) {
        loop {
            match self.wait() {
                Ok(Some(ready)) => self.serve(ready),
                Ok(None) => return,
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Waits until somebody is ready or a deadline has come; none is the end.
    fn wait<'a>(&'a self) -> rustix::io::Result<Option<Vec<Ready>>> {
        let own = [self.wake.as_fd(), self.udp.as_fd(), self.tcp.as_fd()];
        let mut polled: Vec<PollFd<'a>> =
            own.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).into();
        let mut whose = vec![Ready::Udp, Ready::Tcp];
        let mut add = |socket: BorrowedFd<'a>, flags, who| {
            whose.push(who);
            polled.push(PollFd::from_borrowed_fd(socket, flags));
        };
        for (id, client) in &self.state.clients {
            let flags = if client.unwritten.is_empty() { PollFlags::IN } else { PollFlags::OUT };
            add(client.stream.as_fd(), flags, Ready::Client(*id));
        }
        for (index, (_, question)) in self.state.outside.iter().enumerate() {
            if let Some((socket, flags)) = question.interest() {
                add(socket, flags, Ready::Outside(index));
            }
        }
        let timeout = self.timeout();
        rustix::io::retry_on_intr(|| poll(&mut polled, timeout.as_ref()))?;
        if !polled[0].revents().is_empty() {
            let mut bytes = [0; 64];
            if rustix::io::read(&self.wake, &mut bytes).is_ok_and(|length| length == 0) {
                return Ok(None);
            }
        }
        let ready = whose.into_iter().zip(&polled[1..]);
        let ready = ready.filter(|(_, polled)| !polled.revents().is_empty());
        Ok(Some(ready.map(|(who, _)| who).collect()))
    }

    /// The time to the first deadline.
    fn timeout(&self) -> Option<Timespec> {
        let clients = self.state.clients.values().map(|client| client.deadline);
        let outside = self.state.outside.iter().map(|(_, question)| question.deadline());
        let first = clients.chain(outside).min()?;
        Timespec::try_from(first.saturating_duration_since(Instant::now())).ok()
    }

    fn serve(&mut self, ready: Vec<Ready>) {
        let mut answered = Vec::new();
        for who in ready {
            match who {
                Ready::Udp => self.take_datagrams(),
                Ready::Tcp => self.take_client(),
                Ready::Client(id) => self.serve_client(id),
                Ready::Outside(index) => answered.push(index),
            }
        }
        self.go_on_outside(&answered);
        let now = Instant::now();
        self.state.clients.retain(|_, client| client.deadline > now);
    }

    fn take_datagrams(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..BURST {
            match self.udp.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let query = buffer[..length].to_vec();
                    self.answer(&query, Asker::Udp(from));
                }
                // An earlier answer may not have arrived; that is the asker's loss.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    fn take_client(&mut self) {
        let Ok((stream, _)) = self.tcp.accept() else { return };
        if self.state.clients.len() >= MOST_CLIENTS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let deadline = Instant::now() + IDLE;
        let client = Client { stream, read: Vec::new(), unwritten: Vec::new(), deadline };
        self.state.clients.insert(self.state.next_client, client);
        self.state.next_client += 1;
    }

    fn serve_client(&mut self, id: u64) {
        let Some(client) = self.state.clients.get_mut(&id) else { return };
        client.deadline = Instant::now() + IDLE;
        if client.exchange().is_err() {
            self.state.clients.remove(&id);
            return;
        }
        let queries: Vec<_> = std::iter::from_fn(|| framed(&mut client.read)).collect();
        for query in queries {
            self.answer(&query, Asker::Tcp(id));
        }
    }

    /// Answers, or asks outside.
    fn answer(&mut self, query: &[u8], asker: Asker) {
        if query.len() < HEADER {
            return;
        }
        let transport = match asker {
            Asker::Udp(_) => Transport::Udp,
            Asker::Tcp(_) => Transport::Tcp,
        };
        self.notice_zones();
        // What this parser does not know may be no riddle to the servers outside.
        if let Ok(packet) = Packet::parse(query) {
            let names = self.names();
            self.state.turn = self.state.turn.wrapping_add(1);
            if let Some(bytes) = answer::answer(&packet, &names, self.state.turn, transport) {
                self.reply(asker, &bytes);
                return;
            }
        }
        let may_ask = self.state.networks.iter().any(|(zone, _)| zone.leads_outside);
        if !may_ask || self.state.outside.len() >= MOST_OUTSIDE {
            self.fail(asker, query);
            return;
        }
        let id = self.random_id();
        let (question, progress) = Question::ask(query, id, transport, &self.servers);
        match progress {
            Progress::Waiting => self.state.outside.push((asker, question)),
            _ => self.fail(asker, query),
        }
    }

    /// Goes on with all questions outside; those at the places in `ready` have something to read.
    fn go_on_outside(&mut self, ready: &[usize]) {
        let outside = std::mem::take(&mut self.state.outside);
        for (index, (asker, mut question)) in outside.into_iter().enumerate() {
            match question.step(ready.contains(&index), &self.servers) {
                Progress::Waiting => self.state.outside.push((asker, question)),
                Progress::Answered(bytes) => self.reply(asker, &bytes),
                Progress::Failed => self.fail(asker, question.query()),
            }
        }
    }

    fn fail(&mut self, asker: Asker, query: &[u8]) {
        if let Ok(packet) = Packet::parse(query) {
            self.reply(asker, &answer::failure(&packet, RCODE::ServerFailure));
        }
    }

    fn reply(&mut self, asker: Asker, bytes: &[u8]) {
        match asker {
            // A lost datagram is asked for again.
            Asker::Udp(to) => drop(self.udp.send_to(bytes, to)),
            Asker::Tcp(id) => {
                let Some(client) = self.state.clients.get_mut(&id) else { return };
                let Ok(length) = u16::try_from(bytes.len()) else { return };
                client.unwritten.extend_from_slice(&length.to_be_bytes());
                client.unwritten.extend_from_slice(bytes);
                client.deadline = Instant::now() + IDLE;
            }
        }
    }

    fn notice_zones(&mut self) {
        let told = self.told.lock().expect("no holder panics");
        if told.edition != self.state.edition {
            self.state.edition = told.edition;
            let open = |zone: &Zone| (zone.clone(), Directory::open(&zone.directory).ok());
            self.state.networks = told.zones.iter().map(open).collect();
        }
    }

    /// Who is on the networks now. A network that cannot be read has nobody on it.
    fn names(&mut self) -> Vec<Names> {
        let names = |(zone, directory): &mut (Zone, Option<Directory>)| Names {
            network: zone.network.clone(),
            records: directory
                .as_mut()
                .and_then(|directory| directory.records().ok())
                .unwrap_or_default(),
        };
        self.state.networks.iter_mut().map(names).collect()
    }

    /// The next number of a sequence that begins at random (splitmix64).
    fn random_id(&mut self) -> u16 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 40) as u16
    }
}

impl Client {
    /// Writes what there is to write, else reads what there is to read.
    fn exchange(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        let done = if self.unwritten.is_empty() {
            self.stream.read(&mut buffer)
        } else {
            self.stream.write(&self.unwritten)
        };
        match done {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) if self.unwritten.is_empty() => {
                self.read.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Ok(length) => {
                self.unwritten.drain(..length);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}
