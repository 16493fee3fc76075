//! `port`: a container's published ports.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use clap::Args;
use engine::containers::Containers;
use engine::containers::record::{PortBinding, PortMap};

use crate::port_map::{joined, map, parsed};
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

fn bindings(map: &PortMap) -> impl Iterator<Item = (&str, &PortBinding)> {
    map.iter().flat_map(|(port, bindings)| {
        bindings.iter().flatten().map(move |binding| (port.as_str(), binding))
    })
}

fn address(binding: &PortBinding) -> String {
    joined(&binding.host_ip, &binding.host_port)
}
