//! The name server at 127.0.0.11 inside a container: it knows the containers on the networks that
//! the container is on, and asks the host's servers about all others.
//!
//! Its sockets are in the container's namespace, on ports that the kernel chose; rules there send
//! what is for port 53 to them. The questions it asks leave from the host's namespace, where all of
//! the host's servers answer. One thread does all of it.
//!
//! Does not know who connects containers: it reads what they tell of themselves (see `record`).

mod answer;
mod server;
mod upstream;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::namespace::NetworkNamespace;
use super::nat;
use super::netlink::Refusal;
use super::worker::Worker;
use server::{Server, State, Told};

/// The server's address, the same in every container.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const STACK: usize = 128 * 1024;

/// A network that a container is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The network's name, which may stand behind a container's.
    pub network: String,
    /// The bridge's directory ([`Endpoint::directory`](super::Endpoint::directory)).
    pub directory: PathBuf,
    /// Whether there is a way out; with none, names outside are not asked for.
    pub leads_outside: bool,
}

/// Why there is no name server.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Its sockets or its thread are not to be had.
    #[error("start the name server of the container")]
    Start {
        /// Why.
        source: io::Error,
    },
    /// Questions cannot be sent to it.
    #[error("redirect name service inside the container")]
    Redirect {
        /// What the kernel would not do.
        source: Refusal,
    },
}

/// A name server at work. It ends when dropped.
pub struct Dns {
    told: Arc<Mutex<Told>>,
    _server: Worker,
}

impl Dns {
    /// Starts to answer in a namespace. `servers` are asked about what is outside, in this order,
    /// from the calling thread's namespace.
    pub fn serve(
        namespace: &NetworkNamespace,
        zones: Vec<Zone>,
        servers: Vec<SocketAddr>,
    ) -> Result<Self, DnsError> {
        let start = |source| DnsError::Start { source };
        let (udp, tcp) = namespace.inside(open).map_err(start)??;
        let told = Arc::new(Mutex::new(Told { zones, edition: 1 }));
        let (random, known) = (seed().map_err(start)?, Arc::clone(&told));
        let work = move |wake| {
            let state = State::default();
            Server { udp, tcp, wake, told: known, servers, random, state }.run();
        };
        Ok(Dns { told, _server: Worker::start("dns", STACK, work).map_err(start)? })
    }

    /// Says which networks the container is on from now on.
    pub fn set_zones(&self, zones: Vec<Zone>) {
        let mut told = self.told.lock().expect("no holder panics");
        told.zones = zones;
        told.edition += 1;
    }
}

/// Opens the sockets, and has questions sent to them, in the calling thread's namespace.
fn open() -> Result<(UdpSocket, TcpListener), DnsError> {
    let bind = || {
        let udp = UdpSocket::bind((NAME_SERVER, 0))?;
        let tcp = TcpListener::bind((NAME_SERVER, 0))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let ports = (udp.local_addr()?.port(), tcp.local_addr()?.port());
        Ok((udp, tcp, ports))
    };
    let (udp, tcp, ports) = bind().map_err(|source| DnsError::Start { source })?;
    nat::redirect_dns(NAME_SERVER, ports.0, ports.1)
        .map_err(|source| DnsError::Redirect { source })?;
    Ok((udp, tcp))
}

fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fs_err::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
