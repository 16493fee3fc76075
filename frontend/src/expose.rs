//! The ports of `EXPOSE`, read after expansion: `[[ip:]host:]port[-port][/protocol]`.
//!
//! Opens no port. Addresses and host ports mean nothing in an image; they are checked and dropped.

use std::net::IpAddr;

/// A port that cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PortError {
    /// Nothing behind the last colon.
    #[error("invalid port: {text:?}: no port specified")]
    Missing {
        /// The specification.
        text: String,
    },
    /// A protocol other than tcp, udp and sctp.
    #[error("invalid port: {text:?}: invalid proto: {protocol}")]
    Protocol {
        /// The specification.
        text: String,
        /// The protocol.
        protocol: String,
    },
    /// An address that is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// A container port or range that is none.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// A host port or range that is none.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// Ranges of unequal length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The range in the container.
        container: String,
        /// The range on the host.
        host: String,
    },
}

/// One specification of an `EXPOSE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSpec<'a> {
    address: String,
    host: &'a str,
    container: &'a str,
    /// As written; `tcp` where nothing is written.
    protocol: &'a str,
}

/// Reads specifications into the ports of an image's config, such as `80/tcp`, in their order.
pub fn parse_ports(specs: &[String]) -> Result<Vec<String>, PortError> {
    let mut ports = Vec::new();
    for spec in specs {
        ports.extend(PortSpec::split(spec)?.ports()?);
    }
    Ok(ports)
}

impl<'a> PortSpec<'a> {
    /// Takes a specification apart.
    pub(crate) fn split(text: &'a str) -> Result<Self, PortError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (address, host, container) = match parts.as_slice() {
            [container] => (String::new(), "", *container),
            // An IPv6 address has colons of its own.
            [address @ .., host, container] => (address.join(":"), *host, *container),
            [] => (String::new(), "", ""),
        };
        let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
        if container.is_empty() {
            return Err(PortError::Missing { text: text.to_owned() });
        }
        match protocol.to_lowercase().as_str() {
            "" => Ok(Self { address, host, container, protocol: "tcp" }),
            "tcp" | "udp" | "sctp" => Ok(Self { address, host, container, protocol }),
            _ => Err(PortError::Protocol { text: text.to_owned(), protocol: protocol.to_owned() }),
        }
    }

    /// Returns whether the protocol is written in lower case, as it should be.
    pub(crate) fn is_lowercase(&self) -> bool {
        self.protocol == self.protocol.to_lowercase()
    }

    /// Returns whether the specification says anything of the host.
    pub(crate) fn names_host(&self) -> bool {
        !self.address.is_empty() || !self.host.is_empty()
    }

    fn ports(&self) -> Result<Vec<String>, PortError> {
        let bare = self.address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
        let address = bare.unwrap_or(&self.address);
        if !address.is_empty() && address.parse::<IpAddr>().is_err() {
            return Err(PortError::Address(address.to_owned()));
        }
        let (first, last) = parse_range(self.container)
            .ok_or_else(|| PortError::ContainerPort(self.container.to_owned()))?;
        if !self.host.is_empty() {
            let (from, to) =
                parse_range(self.host).ok_or_else(|| PortError::HostPort(self.host.to_owned()))?;
            // A host range for one container port is a choice, not a mapping.
            if first != last && to - from != last - first {
                let (container, host) = (self.container.to_owned(), self.host.to_owned());
                return Err(PortError::Ranges { container, host });
            }
        }
        let protocol = self.protocol.to_lowercase();
        Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: Result<&[&str], &str>) {
        let found = parse_ports(&[spec.to_owned()]).map_err(|error| error.to_string());
        let expected = expected.map(|ports| ports.iter().map(|port| (*port).to_owned()).collect());
        assert_eq!(found, expected.map_err(str::to_owned), "{spec}");
    }

    #[test]
    fn ports_lose_their_host_part() {
        check("80", Ok(&["80/tcp"]));
        check("80/UDP", Ok(&["80/udp"]));
        check("8000-8002", Ok(&["8000/tcp", "8001/tcp", "8002/tcp"]));
        check("127.0.0.1:8000-8010:80/sctp", Ok(&["80/sctp"]));
        check("[::1]:80:80", Ok(&["80/tcp"]));
        check("1::80", Err("invalid IP address: 1"));
        check("80/icmp", Err("invalid port: \"80/icmp\": invalid proto: icmp"));
        check("80:/tcp", Err("invalid port: \"80:/tcp\": no port specified"));
        check("81-80", Err("invalid containerPort: 81-80"));
        check("65536", Err("invalid containerPort: 65536"));
        check("x:80", Err("invalid hostPort: x"));
        check(
            "1-3:80-81",
            Err("invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        );
    }
}
