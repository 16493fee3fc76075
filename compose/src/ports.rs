//! Published ports in short syntax: `80`, `8080:80`, `127.0.0.1:8000-8010:80-90/udp`, `[::1]:80:80`.
//!
//! Knows nothing of nodes or of who listens.

use std::net::IpAddr;

use crate::error::Wrong;

/// One port of a container and where it can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) host_ip: String,
    /// A port, a range of which one is taken, or nothing for any.
    pub(crate) published: String,
    pub(crate) target: u16,
    pub(crate) protocol: String,
}

/// Reads one entry; a range of container ports is several. In the order of docker: by the text `80/tcp`.
pub(crate) fn parse(spec: &str) -> Result<Vec<Published>, Wrong> {
    let wrong = |what, value: &str| Wrong::Port { what, value: value.to_owned() };
    let (addresses, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let mut parts = addresses.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let host_ip = parts.next().unwrap_or_default();
    let host_ip = host_ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(host_ip);
    if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
        return Err(wrong("ip address", host_ip));
    }
    if container.is_empty() {
        return Err(wrong("port, none specified", spec));
    }
    let (first, last) = range(container).ok_or_else(|| wrong("containerPort", container))?;
    let hosts = match host {
        "" => None,
        _ => Some(range(host).ok_or_else(|| wrong("hostPort", host))?),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong("proto", &protocol));
    }
    // A range of host ports for one container port is a choice; for several it is one each.
    let choice = hosts.filter(|(low, high)| first == last && low != high);
    if let Some((low, high)) = hosts
        && choice.is_none()
        && high - low != last - first
    {
        return Err(wrong("ranges specified for container and host ports", addresses));
    }
    let mut ports: Vec<Published> = (first..=last)
        .map(|target| Published {
            host_ip: host_ip.to_owned(),
            published: match (choice, hosts) {
                (Some((low, high)), _) => format!("{low}-{high}"),
                (None, Some((low, _))) => (low + (target - first)).to_string(),
                (None, None) => String::new(),
            },
            target,
            protocol: protocol.clone(),
        })
        .collect();
    ports.sort_by_cached_key(|port| port.target.to_string());
    Ok(ports)
}

/// A port or two with a dash.
fn range(text: &str) -> Option<(u16, u16)> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (digits(first)??, digits(last)??);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(spec: &str) -> String {
        match parse(spec) {
            Ok(ports) => {
                let one = |p: &Published| {
                    format!("{}|{}|{}/{}", p.host_ip, p.published, p.target, p.protocol)
                };
                ports.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Err(wrong) => wrong.to_string(),
        }
    }

    #[test]
    fn every_form_of_a_port_is_read() {
        let rows = [
            ("80", "||80/tcp"),
            ("8080:80/UDP", "|8080|80/udp"),
            ("127.0.0.1::80", "127.0.0.1||80/tcp"),
            ("[::1]:80:81", "::1|80|81/tcp"),
            ("::1:80:81", "::1|80|81/tcp"),
            ("8000-8001:80-81", "|8000|80/tcp |8001|81/tcp"),
            ("9-10", "||10/tcp ||9/tcp"),
            ("3000-3005:80", "|3000-3005|80/tcp"),
            ("80-80:8080", "|80|8080/tcp"),
            ("abc:80", "invalid hostPort: abc"),
            ("80/xyz", "invalid proto: xyz"),
            ("99999", "invalid containerPort: 99999"),
            ("127.0.1:80:80", "invalid ip address: 127.0.1"),
            ("80-82:80-81", "invalid ranges specified for container and host ports: 80-82:80-81"),
            ("8080:", "invalid port, none specified: 8080:"),
            ("9-8", "invalid containerPort: 9-8"),
        ];
        for (spec, expected) in rows {
            assert_eq!(shown(spec), expected, "{spec}");
        }
    }

    #[test]
    fn the_references_ports_read_alike() {
        crate::conformance::rows("compose-short-syntax/ports.jsonl", |row| {
            let found = parse(row["value"].as_str()?).map(|ports| {
                let one = |p: Published| {
                    let mut port = serde_json::json!({
                        "Protocol": p.protocol, "Target": p.target, "Mode": "ingress",
                    });
                    if !p.published.is_empty() {
                        port["Published"] = p.published.into();
                    }
                    if !p.host_ip.is_empty() {
                        port["HostIP"] = p.host_ip.into();
                    }
                    port
                };
                ports.into_iter().map(one).collect::<serde_json::Value>()
            });
            match (&found, row.get("expected")) {
                (Ok(ports), Some(expected)) if ports == expected => None,
                (Err(_), None) => None,
                _ => Some(format!("found {found:?}")),
            }
        });
    }
}
