//! `port`: a container's published ports; also how `ps` and `inspect` show them.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use clap::Args;
use engine::containers::record::{PortBinding, PortMap};
use engine::containers::{Containers, Observed, Status};

use crate::ui;

/// What `port` is told.
#[derive(Args)]
pub(crate) struct PortArgs {
    /// A name or an id
    container: String,
    /// Only where this port of the container is published
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Tells where a container's ports are published.
pub(crate) fn port(root: &Path, args: &PortArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    let observed = containers.observe(&containers.find(&args.container)?)?;
    let map = map(&observed);
    let Some(wanted) = &args.port else {
        let mut published: Vec<_> = bindings(&map).collect();
        published.sort_by_key(|(port, binding)| (parsed(port), &binding.host_ip));
        for (port, binding) in published {
            ui::line(format_args!("{port} -> {}", address(binding)));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    number.parse::<u16>().with_context(|| format!("invalid port: {wanted}"))?;
    let key = format!("{number}/{protocol}");
    match map.get(&key).and_then(Option::as_deref) {
        None | Some([]) => bail!("no public port '{key}' published for {}", args.container),
        Some(found) => found.iter().for_each(|binding| ui::line(address(binding))),
    }
    Ok(ExitCode::SUCCESS)
}

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

fn bindings(map: &PortMap) -> impl Iterator<Item = (&str, &PortBinding)> {
    map.iter().flat_map(|(port, bindings)| {
        bindings.iter().flatten().map(move |binding| (port.as_str(), binding))
    })
}

/// The number and the protocol of `80/tcp`.
fn parsed(port: &str) -> (u16, &str) {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    (number.parse().unwrap_or_default(), protocol)
}

fn address(binding: &PortBinding) -> String {
    joined(&binding.host_ip, &binding.host_port)
}

/// An address and a port, or ports, with brackets around what has colons itself.
fn joined(host: &str, port: &str) -> String {
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

/// All ports in a line, as `ps` shows them: first the groups that ended before their last port was
/// seen, then the others, then those published under other numbers.
pub(crate) fn summary(map: &PortMap) -> String {
    let mut ports = Vec::new();
    for (port, bindings) in map {
        let (private, protocol) = parsed(port);
        match bindings.as_deref() {
            None | Some([]) => ports.push((private, "", 0, protocol)),
            Some(bindings) => ports.extend(bindings.iter().map(|binding| {
                let public = binding.host_port.parse().unwrap_or_default();
                (private, binding.host_ip.as_str(), public, protocol)
            })),
        }
    }
    ports.sort_unstable();
    let (mut shown, mut elsewhere, mut groups) = (Vec::new(), Vec::new(), Vec::<Group<'_>>::new());
    for (private, host, public, protocol) in ports {
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
