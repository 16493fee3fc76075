//! Who has a port: the process whose socket is bound to it, from `/proc` (`proc_pid_net(5)`).
//!
//! Sees the network namespace of the calling thread. Does not know why somebody has a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::grammar::Protocol;

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its command's name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// The container it has the port for, if whoever is told knows.
    pub container: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.container {
            Some(container) => write!(f, "held by container {container}"),
            None => write!(f, "held by {}, process {}", self.name, self.pid),
        }
    }
}

/// The state of a TCP socket that listens.
const LISTENING: &str = "0A";

/// Finds a process whose socket is in the way of one at this address and port.
pub(super) fn find(address: IpAddr, port: u16, protocol: Protocol) -> Option<Holder> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let sockets: Vec<u64> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|table| in_the_way(&table, address, port, protocol))
        .collect();
    owner(&sockets)
}

/// The inodes of the sockets in a table that are in the way.
fn in_the_way(table: &str, address: IpAddr, port: u16, protocol: Protocol) -> Vec<u64> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (bound, bound_port) = local.split_once(':')?;
        let bound = parse_address(bound)?;
        let meets = bound == address || bound.is_unspecified() || address.is_unspecified();
        let blocks = protocol != Protocol::Tcp || *state == LISTENING;
        let same_port = u16::from_str_radix(bound_port, 16).ok()? == port;
        (meets && blocks && same_port).then(|| inode.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// An address as the tables have it: words of four bytes, each in the machine's order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?.to_ne_bytes());
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The first process that has one of these sockets open.
fn owner(sockets: &[u64]) -> Option<Holder> {
    if sockets.is_empty() {
        return None;
    }
    let links: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end meanwhile.
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let has_one = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path())
                .is_ok_and(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
        });
        if has_one {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(Holder { name: name.trim_end().to_owned(), pid, container: None });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn the_process_that_has_a_port_is_found() {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert_eq!(find(any, port, Protocol::Tcp).unwrap().pid, std::process::id());
        assert_eq!(find("127.0.0.2".parse().unwrap(), port, Protocol::Tcp), None);
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        let found = find("::1".parse().unwrap(), port, Protocol::Udp).unwrap();
        assert_eq!(found.pid, std::process::id());
        assert!(found.to_string().starts_with("held by "), "{found}");
    }
}
