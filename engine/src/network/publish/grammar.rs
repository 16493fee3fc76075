//! The grammar of `-p` and `--expose`: docker's forms and words.
//!
//! Texts in, values out. Does not know which ports are free.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in packets (`IPPROTO_TCP`).
    pub(super) fn number(self) -> i32 {
        match self {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
            Protocol::Sctp => libc::IPPROTO_SCTP,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            other => Err(InvalidPort::Protocol(other.to_owned())),
        }
    }
}

/// A port of a container, as `--expose` and an image's config have it: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// A range of the host's ports to choose one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPorts {
    /// The first; 0 is any free port of the machine.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// A port of a container that is to be reached through the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The host's address; none is all of them.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub host_ports: HostPorts,
    /// The container's.
    pub container: ContainerPort,
}

/// A text that says nothing about ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPort {
    /// There is no container's port.
    #[error("no port specified: {0}<empty>")]
    Missing(String),
    /// A protocol without ports.
    #[error("invalid proto: {0}")]
    Protocol(String),
    /// No address.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// No port or range of ports of a container.
    #[error("invalid containerPort: {0}")]
    Container(String),
    /// No port or range of ports of the host.
    #[error("invalid hostPort: {0}")]
    Host(String),
    /// Ranges that do not go together.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
    /// A key of the long form that means nothing.
    #[error("invalid field {0:?} in a published port: use target=, published= and protocol=")]
    Field(String),
    /// An `--expose` with an address or a host's port.
    #[error("invalid port format for --expose: {0}")]
    Expose(String),
}

/// Reads `[ip:][host[-host]:]container[-container][/protocol]`, or docker's long form
/// `published=host,target=container,protocol=tcp`. A range is a mapping for each of its ports; one
/// container port with a range of the host's is one mapping, to any of these.
pub fn parse_publish(text: &str) -> Result<Vec<PortMapping>, InvalidPort> {
    if text.contains('=') {
        return parse_publish(&short_form(text)?);
    }
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ports, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    if ports.is_empty() {
        return Err(InvalidPort::Missing(text.to_owned()));
    }
    let protocol = if protocol.is_empty() { Protocol::Tcp } else { protocol.parse()? };
    let address = parse_address(address)?;
    let invalid = || InvalidPort::Container(ports.to_owned());
    let (first, last) = range(ports).filter(|(first, _)| *first > 0).ok_or_else(invalid)?;
    let host_range = match host {
        "" => (0, 0),
        host => range(host).ok_or_else(|| InvalidPort::Host(host.to_owned()))?,
    };
    let is_any = host_range == (0, 0);
    if first != last && !is_any && last - first != host_range.1 - host_range.0 {
        let (container, host) = (ports.to_owned(), host.to_owned());
        return Err(InvalidPort::Ranges { container, host });
    }
    let mapping = |port: u16| {
        let host_ports = if first == last || is_any {
            HostPorts { first: host_range.0, last: host_range.1 }
        } else {
            let port = host_range.0 + (port - first);
            HostPorts { first: port, last: port }
        };
        PortMapping { host: address, host_ports, container: ContainerPort { port, protocol } }
    };
    Ok((first..=last).map(mapping).collect())
}

/// Reads `port[-port][/protocol]` (`--expose`).
pub fn parse_expose(text: &str) -> Result<Vec<ContainerPort>, InvalidPort> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let invalid = || InvalidPort::Expose(text.to_owned());
    let (first, last) = range(ports).filter(|(first, _)| *first > 0).ok_or_else(invalid)?;
    let protocol = protocol.parse()?;
    Ok((first..=last).map(|port| ContainerPort { port, protocol }).collect())
}

fn short_form(text: &str) -> Result<String, InvalidPort> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "target" | "port" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            // The other mode is for swarms.
            "mode" if matches!(value, "host" | "ingress") => {}
            _ => return Err(InvalidPort::Field(field.to_owned())),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn parse_address(text: &str) -> Result<Option<IpAddr>, InvalidPort> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare {
        "" => Ok(None),
        bare => bare.parse().map(Some).map_err(|_| InvalidPort::Address(text.to_owned())),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let printed = match parse_publish(text) {
            Ok(mappings) => {
                let one = |mapping: &PortMapping| {
                    let host = mapping.host.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
                    let HostPorts { first, last } = mapping.host_ports;
                    format!("{host} {first}-{last} {}", mapping.container)
                };
                mappings.iter().map(one).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(printed, expected, "{text:?}");
    }

    #[test]
    fn ports_are_published_in_docker_s_forms() {
        check("80", "* 0-0 80/tcp");
        check("8080:80", "* 8080-8080 80/tcp");
        check("8080:80/UDP", "* 8080-8080 80/udp");
        check("127.0.0.1:8080:80/sctp", "127.0.0.1 8080-8080 80/sctp");
        check("127.0.0.1::80", "127.0.0.1 0-0 80/tcp");
        check("[::1]:8080:80", "::1 8080-8080 80/tcp");
        check("::1:8080:80", "::1 8080-8080 80/tcp");
        check("80-82", "* 0-0 80/tcp, * 0-0 81/tcp, * 0-0 82/tcp");
        check("8000-8001:80-81", "* 8000-8000 80/tcp, * 8001-8001 81/tcp");
        check("8000-8010:80", "* 8000-8010 80/tcp");
        check("published=8080,target=80,protocol=udp", "* 8080-8080 80/udp");
        check("target=80", "* 0-0 80/tcp");
        check("", "no port specified: <empty>");
        check("8080:", "no port specified: 8080:<empty>");
        check("80/icmp", "invalid proto: icmp");
        check("host:80:80", "invalid IP address: host");
        check("[::1:80:80", "invalid IP address: [::1");
        check("80-70", "invalid containerPort: 80-70");
        check("0", "invalid containerPort: 0");
        check("80:http", "invalid containerPort: http");
        check("70000:80", "invalid hostPort: 70000");
        check("+80:80", "invalid hostPort: +80");
        check(
            "8000-8002:80-81",
            "invalid ranges specified for container and host Ports: 80-81 and 8000-8002",
        );
        check(
            "a=b",
            "invalid field \"a=b\" in a published port: use target=, published= and protocol=",
        );
    }

    #[test]
    fn exposed_ports_have_no_host() {
        let text = |text| match parse_expose(text) {
            Ok(ports) => ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(text("80-81/udp"), "80/udp 81/udp");
        assert_eq!(text("80"), "80/tcp");
        assert_eq!(text("8080:80"), "invalid port format for --expose: 8080:80");
        assert_eq!(text("80/x"), "invalid proto: x");
    }
}
