//! A container's ports, and how lists show them. Both programs have this module.

use engine::containers::record::PortMap;
use engine::containers::{Observed, Status};

/// The ports of a container that runs on networks: published ones with where, exposed ones without.
pub(crate) fn map(observed: &Observed) -> PortMap {
    let (record, state) = (&observed.record, &observed.state);
    let mode = record.host_config.network_mode.as_str();
    let runs = matches!(state.status, Status::Running | Status::Paused);
    if !runs || matches!(mode, "host" | "none") || mode.starts_with("container:") {
        return PortMap::new();
    }
    let exposed = record.config.exposed_ports.keys();
    let mut map: PortMap = exposed.map(|port| (port.clone(), None)).collect();
    map.extend(state.ports.clone());
    map
}

/// The number and the protocol of `80/tcp`.
pub(crate) fn parsed(port: &str) -> (u16, &str) {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    (number.parse().unwrap_or_default(), protocol)
}

/// An address and a port, or ports, with brackets around what has colons itself.
pub(crate) fn joined(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Ports in a row that are published under their own numbers, or not at all.
struct Group<'a> {
    host: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl Group<'_> {
    fn text(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match self.host {
            "" => format!("{ports}/{}", self.protocol),
            host => format!("{}->{ports}/{}", joined(host, &ports), self.protocol),
        }
    }
}

/// A port of a container, and where it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port<'a> {
    pub(crate) private: u16,
    /// Empty if it is not published.
    pub(crate) host: &'a str,
    /// 0 if it is not published.
    pub(crate) public: u16,
    pub(crate) protocol: &'a str,
}

impl std::fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Port { private, host, public, protocol } = self;
        write!(f, "{private}/{protocol} -> {}", joined(host, &public.to_string()))
    }
}

/// All ports, one for each place where they are published, by their numbers.
pub(crate) fn list(map: &PortMap) -> Vec<Port<'_>> {
    let mut ports = Vec::new();
    for (port, bindings) in map {
        let (private, protocol) = parsed(port);
        match bindings.as_deref() {
            None | Some([]) => ports.push(Port { private, host: "", public: 0, protocol }),
            Some(bindings) => ports.extend(bindings.iter().map(|binding| {
                let public = binding.host_port.parse().unwrap_or_default();
                Port { private, host: &binding.host_ip, public, protocol }
            })),
        }
    }
    ports.sort_unstable();
    ports
}

/// All ports in a line, as `ps` shows them: first the groups that ended before their last port was
/// seen, then the others, then those published under other numbers.
pub(crate) fn summary(map: &PortMap) -> String {
    let (mut shown, mut elsewhere, mut groups) = (Vec::new(), Vec::new(), Vec::<Group<'_>>::new());
    for Port { private, host, public, protocol } in list(map) {
        if !host.is_empty() && public != private {
            let published = joined(host, &public.to_string());
            elsewhere.push(format!("{published}->{private}/{protocol}"));
            continue;
        }
        let same = |group: &&mut Group<'_>| (group.host, group.protocol) == (host, protocol);
        match groups.iter_mut().find(same) {
            Some(group) if group.last.checked_add(1) == Some(private) => group.last = private,
            Some(group) => {
                shown.push(group.text());
                (group.first, group.last) = (private, private);
            }
            None => groups.push(Group { host, protocol, first: private, last: private }),
        }
    }
    shown.extend(groups.iter().map(Group::text));
    shown.extend(elsewhere);
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use engine::containers::record::PortBinding;

    use super::*;

    fn check(ports: &[(&str, &[(&str, &str)])], expected: &str) {
        let binding = |(ip, port): &(&str, &str)| PortBinding {
            host_ip: (*ip).to_owned(),
            host_port: (*port).to_owned(),
        };
        let map = ports.iter().map(|(port, bindings)| {
            let bindings: Vec<_> = bindings.iter().map(binding).collect();
            ((*port).to_owned(), (!bindings.is_empty()).then_some(bindings))
        });
        assert_eq!(summary(&map.collect()), expected, "{ports:?}");
    }

    #[test]
    fn ports_are_listed_by_their_numbers() {
        let binding = |ip: &str| PortBinding { host_ip: ip.to_owned(), host_port: "90".to_owned() };
        let map = PortMap::from([
            ("8000/udp".to_owned(), None),
            ("80/tcp".to_owned(), Some(vec![binding("::"), binding("127.0.0.1")])),
        ]);
        let texts: Vec<String> = list(&map).iter().map(Port::to_string).collect();
        assert_eq!(texts, ["80/tcp -> 127.0.0.1:90", "80/tcp -> [::]:90", "8000/udp -> :0"]);
    }

    #[test]
    fn ports_are_summed_up_as_docker_does() {
        let (v4, v6) = ("0.0.0.0", "::");
        check(&[], "");
        check(&[("80/tcp", &[])], "80/tcp");
        check(
            &[("80/tcp", &[(v4, "8080"), (v6, "8080")])],
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        );
        check(
            &[("80/tcp", &[(v4, "80")]), ("81/tcp", &[(v4, "81")]), ("82/tcp", &[(v4, "82")])],
            "0.0.0.0:80-82->80-82/tcp",
        );
        check(
            &[("8/tcp", &[]), ("9/tcp", &[]), ("11/tcp", &[]), ("9/udp", &[])],
            "8-9/tcp, 11/tcp, 9/udp",
        );
        check(
            &[("443/tcp", &[]), ("80/tcp", &[("127.0.0.1", "8080")]), ("90/tcp", &[(v4, "90")])],
            "0.0.0.0:90->90/tcp, 443/tcp, 127.0.0.1:8080->80/tcp",
        );
    }
}
