//! The relay of published TCP ports, for what the kernel's rules do not send to the container by
//! themselves: what comes to `::1`, and over IPv6 to a container that has none.
//!
//! One thread accepts; each connection has two of its own, with small stacks, which end with it.
//! Does not know what is published.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::{Route, Worker};

const STACK: usize = 64 * 1024;
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// For when the machine has no more descriptors or threads: others may end meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts to relay what comes to listening sockets. Dropped, the relay takes no more connections and
/// closes them.
pub(super) fn start(routes: Vec<Route<TcpListener>>) -> io::Result<Worker> {
    Worker::start("port relay", STACK, move |stopped| accept_all(&routes, &stopped))
}

fn accept_all(routes: &[Route<TcpListener>], stopped: &OwnedFd) {
    for route in routes {
        // A connection may be gone before it is accepted.
        let _ = route.socket.set_nonblocking(true);
    }
    loop {
        let listeners = routes.iter().map(|route| route.socket.as_fd());
        let mut waiting: Vec<PollFd<'_>> = std::iter::once(stopped.as_fd())
            .chain(listeners)
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        if rustix::io::retry_on_intr(|| poll(&mut waiting, None)).is_err() {
            thread::sleep(PAUSE);
            continue;
        }
        if !waiting[0].revents().is_empty() {
            return;
        }
        for (route, polled) in routes.iter().zip(&waiting[1..]) {
            if polled.revents().is_empty() {
                continue;
            }
            match route.socket.accept() {
                Ok((client, _)) => relay(client, route.target()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

/// Relays one connection on threads of its own; one that cannot be is closed.
fn relay(client: TcpStream, target: Option<SocketAddr>) {
    let Some(target) = target else { return };
    let connection = thread::Builder::new().name("port relay".into()).stack_size(STACK);
    let _ = connection.spawn(move || {
        let connect = || {
            let container = TcpStream::connect_timeout(&target, CONNECT_PATIENCE)?;
            Ok::<_, io::Error>((client.try_clone()?, container.try_clone()?, container))
        };
        let Ok((from_client, to_container, from_container)) = connect() else { return };
        let backwards = thread::Builder::new().name("port relay".into()).stack_size(STACK);
        if backwards.spawn(move || copy(from_container, client)).is_ok() {
            copy(from_client, to_container);
        }
    });
}

/// Copies until the one end says no more, and says so to the other.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let copied = io::copy(&mut from, &mut to);
    let _ = to.flush();
    let _ = to.shutdown(Shutdown::Write);
    if copied.is_err() {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::{Arc, Mutex};

    #[test]
    fn both_directions_are_relayed_to_their_ends() {
        let container = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(None));
        let relay = start(vec![Route { socket: listener, target: Arc::clone(&target) }]).unwrap();
        let mut nowhere = TcpStream::connect(address).unwrap();
        assert_eq!(nowhere.read_to_end(&mut Vec::new()).unwrap(), 0);

        *target.lock().unwrap() = Some(container.local_addr().unwrap());
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut served = container.accept().unwrap().0;
        let mut question = String::new();
        served.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        served.write_all(b"answer").unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
        drop(relay);
        assert!(TcpStream::connect(address).is_err());
    }
}
