//! The relay of published UDP ports, for what the kernel's rules do not send to the container by
//! themselves: what comes to `::1`, over IPv6 to a container that has none, and from a client that
//! has asked before the container was there, which the kernel remembers.
//!
//! One thread for all ports. Does not know what is published.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Route, Worker};

const STACK: usize = 128 * 1024;
/// How long a client may say nothing until it is forgotten; docker's.
const IDLE: Duration = Duration::from_secs(90);
/// Clients that are remembered; each has a socket.
const MOST_CLIENTS: usize = 128;
/// For when the machine has no more memory: others may end meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
const LARGEST: usize = 65_536;
/// Datagrams that are taken before others have their turn.
const BURST: usize = 64;

/// Who has asked at a port, and the socket that asks the container for them.
struct Client {
    route: usize,
    address: SocketAddr,
    target: SocketAddr,
    socket: UdpSocket,
    deadline: Instant,
}

/// Starts to relay what comes to bound sockets. Dropped, the relay closes them.
pub(super) fn start(routes: Vec<Route<UdpSocket>>) -> io::Result<Worker> {
    for route in &routes {
        route.socket.set_nonblocking(true)?;
    }
    Worker::start("udp relay", STACK, move |stopped| relay_all(&routes, &stopped))
}

fn relay_all(routes: &[Route<UdpSocket>], stopped: &OwnedFd) {
    let mut clients: Vec<Client> = Vec::new();
    // Not there until there is something to relay, which is seldom.
    let mut buffer = Vec::new();
    loop {
        let sockets = routes.iter().map(|route| route.socket.as_fd());
        let mut polled: Vec<PollFd<'_>> = std::iter::once(stopped.as_fd())
            .chain(sockets)
            .chain(clients.iter().map(|client| client.socket.as_fd()))
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let first = clients.iter().map(|client| client.deadline).min();
        let timeout = first.and_then(|first| {
            Timespec::try_from(first.saturating_duration_since(Instant::now())).ok()
        });
        if rustix::io::retry_on_intr(|| poll(&mut polled, timeout.as_ref())).is_err() {
            thread::sleep(PAUSE);
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        if ready[0] {
            return;
        }
        buffer.resize(LARGEST, 0);
        let (asked, answered) = ready[1..].split_at(routes.len());
        for (client, _) in clients.iter_mut().zip(answered).filter(|(_, ready)| **ready) {
            client.answer(&routes[client.route], &mut buffer);
        }
        for (route, _) in asked.iter().enumerate().filter(|(_, ready)| **ready) {
            ask(routes, route, &mut clients, &mut buffer);
        }
        let now = Instant::now();
        clients.retain(|client| client.deadline > now);
    }
}

/// Sends on what has come to a port. A datagram that cannot be is lost, as they are.
fn ask(routes: &[Route<UdpSocket>], route: usize, clients: &mut Vec<Client>, buffer: &mut [u8]) {
    for _ in 0..BURST {
        let Ok((length, address)) = routes[route].socket.recv_from(buffer) else { return };
        let Some(target) = routes[route].target() else { continue };
        let same = |client: &Client| {
            (client.route, client.address, client.target) == (route, address, target)
        };
        let at = match clients.iter().position(same) {
            Some(at) => at,
            None if clients.len() >= MOST_CLIENTS => continue,
            None => {
                let Ok(socket) = connect(target) else { continue };
                let deadline = Instant::now() + IDLE;
                clients.push(Client { route, address, target, socket, deadline });
                clients.len() - 1
            }
        };
        clients[at].deadline = Instant::now() + IDLE;
        let _ = clients[at].socket.send(&buffer[..length]);
    }
}

fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(target)?;
    Ok(socket)
}

impl Client {
    /// Sends back what the container says.
    fn answer(&mut self, route: &Route<UdpSocket>, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Ok(length) = self.socket.recv(buffer) else { return };
            self.deadline = Instant::now() + IDLE;
            let _ = route.socket.send_to(&buffer[..length], self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn each_client_gets_its_own_answers() {
        let container = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        let address = socket.local_addr().unwrap();
        let target = Arc::new(Mutex::new(Some(container.local_addr().unwrap())));
        let relay = start(vec![Route { socket, target }]).unwrap();
        let client = |word: &[u8]| {
            let client = UdpSocket::bind("[::1]:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(word, address).unwrap();
            client
        };
        let clients = [client(b"one"), client(b"two")];
        let mut buffer = [0; 16];
        for _ in &clients {
            let (length, from) = container.recv_from(&mut buffer).unwrap();
            let answer = [b"to ", &buffer[..length]].concat();
            container.send_to(&answer, from).unwrap();
        }
        for (client, expected) in clients.iter().zip([b"to one", b"to two"]) {
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
        drop(relay);
        UdpSocket::bind(address).unwrap();
    }
}
