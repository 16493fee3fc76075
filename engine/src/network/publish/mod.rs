//! Published ports: the host's ports that lead to a container's.
//!
//! First the ports are reserved, by sockets that this process has for as long as the container
//! lives: whoever else wants one is told that it is taken, and nobody can lose it to a race. Then
//! the firewall sends what comes there to the container (see `nat`), and [`relay`] and
//! [`datagrams`] take what reaches the sockets all the same.
//!
//! Does not know which ports an image exposes; the caller has the list.

mod datagrams;
mod grammar;
mod holder;
mod relay;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol as SocketProtocol, SocketFlags, SocketType, bind, getsockname, ipproto,
    listen, socket_with, sockopt,
};

pub use grammar::{
    ContainerPort, HostPorts, InvalidPort, PortMapping, Protocol, parse_expose, parse_publish,
};
pub use holder::Holder;

use super::endpoint::Endpoint;
use super::worker::Worker;
use super::{Error, nat};

/// Connections that wait to be relayed.
const BACKLOG: i32 = 128;
/// How often another port is tried where one is free for IPv4 and not for IPv6.
const ATTEMPTS: usize = 32;

/// Why a port of the host is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody has it.
    #[error(
        "Bind for {address} failed: port is already allocated{}",
        holder.as_ref().map(|holder| format!(" ({holder})")).unwrap_or_default()
    )]
    Taken {
        /// The address and port.
        address: SocketAddr,
        /// Who has it, where that can be seen.
        holder: Option<Holder>,
    },
    /// Somebody has each of a range.
    #[error("Bind for {address}:{first}-{last} failed: all ports are allocated")]
    AllTaken {
        /// The address.
        address: IpAddr,
        /// The range's first port.
        first: u16,
        /// The range's last port.
        last: u16,
    },
    /// It cannot be bound for another reason, such as an address that is not the host's.
    #[error("Bind for {address} failed")]
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no thread for the relay.
    #[error("start the relay of published ports")]
    Relay {
        /// Why.
        source: io::Error,
    },
}

/// A port as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBinding {
    /// The container's port.
    pub container: ContainerPort,
    /// The host's address; unspecified is all of that kind.
    pub host: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// Where what comes to a port goes; none is nowhere.
type Target = Arc<Mutex<Option<SocketAddr>>>;

/// A socket of ours and where it leads.
struct Route<S> {
    socket: S,
    target: Target,
}

impl<S> Route<S> {
    fn target(&self) -> Option<SocketAddr> {
        *self.target.lock().expect("no holder panics")
    }
}

/// Ports of the host that are a container's while this lives.
pub struct Ports {
    bindings: Vec<PortBinding>,
    /// Sockets that only keep others from the port.
    _reserved: Vec<OwnedFd>,
    targets: Vec<(ContainerPort, Target)>,
    _relays: Vec<Worker>,
}

impl Ports {
    /// Reserves ports of the host; `default` is the address for mappings that have none, and none
    /// is all addresses. All are reserved or none.
    pub fn reserve(mappings: &[PortMapping], default: Option<IpAddr>) -> Result<Self, PortError> {
        let mut ports = Ports {
            bindings: Vec::new(),
            _reserved: Vec::new(),
            targets: Vec::new(),
            _relays: Vec::new(),
        };
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for mapping in mappings {
            let (host_port, sockets) = reserve_one(mapping, mapping.host.or(default))?;
            for (host, socket) in sockets {
                let container = mapping.container;
                ports.bindings.push(PortBinding { container, host, host_port });
                let target = Arc::new(Mutex::new(None));
                ports.targets.push((container, Arc::clone(&target)));
                match container.protocol {
                    Protocol::Tcp => {
                        tcp.push(Route { socket: TcpListener::from(socket), target });
                    }
                    Protocol::Udp => udp.push(Route { socket: UdpSocket::from(socket), target }),
                    Protocol::Sctp => ports._reserved.push(socket),
                }
            }
        }
        let failed = |source| PortError::Relay { source };
        if !tcp.is_empty() {
            ports._relays.push(relay::start(tcp).map_err(failed)?);
        }
        if !udp.is_empty() {
            ports._relays.push(datagrams::start(udp).map_err(failed)?);
        }
        Ok(ports)
    }

    /// What leads where.
    pub fn bindings(&self) -> &[PortBinding] {
        &self.bindings
    }

    /// Has the ports lead to a container, over its connection to a network. They do until that is
    /// dropped. Over a network without a way out nothing is published, as with docker.
    pub fn publish(&self, endpoint: &Endpoint) -> Result<(), Error> {
        if !endpoint.leads_outside() {
            return Ok(());
        }
        let record = endpoint.record();
        let redirect = |binding: &PortBinding| {
            let container = match binding.host {
                IpAddr::V4(_) => record.ipv4.into(),
                IpAddr::V6(_) => record.ipv6?.into(),
            };
            // No packet from ::1 leaves the host: that is the relay's.
            (binding.host != IpAddr::V6(Ipv6Addr::LOCALHOST)).then(|| nat::Redirect {
                host: binding.host,
                host_port: binding.host_port,
                container,
                container_port: binding.container.port,
                protocol: binding.container.protocol.number(),
            })
        };
        let redirects: Vec<_> = self.bindings.iter().filter_map(redirect).collect();
        endpoint.publish(&redirects)?;
        for (container, target) in &self.targets {
            let address = SocketAddr::from((record.ipv4, container.port));
            *target.lock().expect("no holder panics") = Some(address);
        }
        Ok(())
    }

    /// Has the ports lead nowhere, though they stay reserved: for when the container has left the
    /// network over which it was reached, and its address may be another's.
    pub fn withdraw(&self) {
        for (_, target) in &self.targets {
            *target.lock().expect("no holder panics") = None;
        }
    }
}

type Reserved = (u16, Vec<(IpAddr, OwnedFd)>);

/// Reserves one port of those that a mapping allows.
fn reserve_one(mapping: &PortMapping, host: Option<IpAddr>) -> Result<Reserved, PortError> {
    let HostPorts { first, last } = mapping.host_ports;
    let protocol = mapping.container.protocol;
    if first == 0 {
        let mut attempt = reserve_port(host, 0, protocol);
        for _ in 0..ATTEMPTS {
            match attempt {
                Err(PortError::Taken { .. }) => attempt = reserve_port(host, 0, protocol),
                done => return done,
            }
        }
        return attempt;
    }
    if first == last {
        return reserve_port(host, first, protocol);
    }
    for port in first..=last {
        match reserve_port(host, port, protocol) {
            Err(PortError::Taken { .. }) => {}
            done => return done,
        }
    }
    let address = host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Err(PortError::AllTaken { address, first, last })
}

/// Reserves a port, or with 0 one that the kernel chooses, on the address or on all.
fn reserve_port(
    host: Option<IpAddr>,
    port: u16,
    protocol: Protocol,
) -> Result<Reserved, PortError> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let (port, socket) = bind_socket(host.unwrap_or(any), port, protocol)?;
    let mut sockets: Vec<_> =
        socket.map(|socket| (host.unwrap_or(any), socket)).into_iter().collect();
    if host.is_none() {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        match bind_socket(any, port, protocol) {
            Ok((_, socket)) => sockets.extend(socket.map(|socket| (any, socket))),
            // A machine without IPv6 has nothing to reserve there.
            Err(PortError::Bind { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((port, sockets))
}

/// Binds a socket; none for a protocol that the machine does not have, which needs no reservation.
fn bind_socket(
    address: IpAddr,
    port: u16,
    protocol: Protocol,
) -> Result<(u16, Option<OwnedFd>), PortError> {
    let wanted = SocketAddr::new(address, port);
    let failed = |errno: Errno| match errno {
        Errno::ADDRINUSE => {
            PortError::Taken { address: wanted, holder: holder::find(address, port, protocol) }
        }
        errno => PortError::Bind { address: wanted, source: errno.into() },
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number): (SocketType, Option<SocketProtocol>) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC, number) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => {
            return Ok((port, None));
        }
        socket => socket.map_err(failed)?,
    };
    let set_up = || {
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if protocol == Protocol::Tcp {
            // Connections of who had the port before may be closing still.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &wanted)?;
        if protocol == Protocol::Tcp {
            listen(&socket, BACKLOG)?;
        }
        getsockname(&socket)
    };
    let bound = set_up().map_err(failed)?;
    let bound = SocketAddr::try_from(bound).map_err(failed)?;
    Ok((bound.port(), Some(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(text: &str) -> Result<Ports, PortError> {
        Ports::reserve(&parse_publish(text).unwrap(), None)
    }

    #[test]
    fn a_port_is_one_container_s_and_its_holder_is_named() {
        let first = reserve("127.0.0.1::80").unwrap();
        let port = first.bindings()[0].host_port;
        assert!(port >= 1024);
        let taken = reserve(&format!("127.0.0.1:{port}:81")).err().unwrap().to_string();
        let expected =
            format!("Bind for 127.0.0.1:{port} failed: port is already allocated (held by ");
        assert!(taken.starts_with(&expected), "{taken}");
        assert!(taken.ends_with(&format!(", process {})", std::process::id())), "{taken}");
        let range = reserve(&format!("127.0.0.1:{port}-{port}:82")).err().unwrap();
        assert!(matches!(range, PortError::Taken { .. }));
        drop(first);
        reserve(&format!("127.0.0.1:{port}:81")).unwrap();
    }

    #[test]
    fn all_addresses_are_reserved_for_both_kinds() {
        let ports = reserve("80/udp").unwrap();
        let hosts: Vec<_> = ports.bindings().iter().map(|one| one.host.to_string()).collect();
        assert_eq!(hosts, ["0.0.0.0", "::"]);
        assert_eq!(ports.bindings()[0].host_port, ports.bindings()[1].host_port);
        let none = reserve("203.0.113.7:80:80").err().unwrap();
        assert_eq!(none.to_string(), "Bind for 203.0.113.7:80 failed");
    }

    #[test]
    fn a_range_gives_the_first_free_port_and_ends() {
        let first = reserve("127.0.0.1::80").unwrap();
        let port = first.bindings()[0].host_port;
        let Some(next) = port.checked_add(1) else { return };
        if let Ok(second) = reserve(&format!("127.0.0.1:{port}-{next}:80")) {
            assert_eq!(second.bindings()[0].host_port, next);
            let none = reserve(&format!("127.0.0.1:{port}-{next}:80")).err().unwrap().to_string();
            let expected =
                format!("Bind for 127.0.0.1:{port}-{next} failed: all ports are allocated");
            assert_eq!(none, expected);
        }
    }
}
