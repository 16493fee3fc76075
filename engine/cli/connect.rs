//! `network connect` and `network disconnect`: which networks a container is on, running or not.

use std::process::ExitCode;

use anyhow::bail;
use engine::containers::protocol::Request;
use engine::containers::record::EndpointSettings;
use engine::containers::{Client, Containers, Record};

use crate::network::{ConnectArgs, DisconnectArgs, definitions};
use crate::paths::Home;

/// Connects a container to a network.
pub(crate) fn connect(home: &Home, args: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let definition = definitions(&home.root).find(&args.network)?;
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let mut record = containers.record(&containers.find(&args.container)?)?;
    let mode = record.host_config.network_mode.clone();
    if mode.starts_with("container:") {
        bail!(
            "container sharing network namespace with another container or host cannot be \
             connected to any other network"
        );
    }
    if mode == "host" || mode == "none" || definition.name == "host" || definition.name == "none" {
        bail!("container cannot be disconnected from host network or connected to host network");
    }
    if record.networks.contains_key(&definition.name) {
        bail!("endpoint with name {} already exists in network {}", record.name, definition.name);
    }
    let mut settings = EndpointSettings::default();
    if !args.alias.is_empty() {
        settings.aliases = Some(args.alias.clone());
    }
    for (key, address) in [
        ("IPv4Address", args.ip.map(std::net::IpAddr::from)),
        ("IPv6Address", args.ip6.map(std::net::IpAddr::from)),
    ] {
        if let Some(address) = address {
            let asked = settings.ipam_config.get_or_insert_default();
            asked.insert(key.to_owned(), address.to_string());
        }
    }
    settings.gw_priority = args.gw_priority.unwrap_or(0);
    let before = record.clone();
    record.networks.insert(definition.name, settings);
    change(&containers, &before, &record)
}

/// Takes a container from a network.
pub(crate) fn disconnect(home: &Home, args: &DisconnectArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let mut record = containers.record(&containers.find(&args.container)?)?;
    let before = record.clone();
    // A network that is gone still has a name.
    let name = match definitions(&home.root).find(&args.network) {
        Ok(definition) => definition.name,
        Err(_) if args.force => args.network.clone(),
        Err(error) => return Err(error.into()),
    };
    if record.networks.remove(&name).is_none() && !args.force {
        bail!("container {} is not connected to network {name}", record.id);
    }
    change(&containers, &before, &record)
}

/// Writes the record and has the monitor follow it; what it cannot do is taken back.
fn change(
    containers: &Containers<'_>,
    before: &Record,
    record: &Record,
) -> anyhow::Result<ExitCode> {
    containers.write_record(record)?;
    let told = match Client::connect(containers, &record.id, Request::Reload)? {
        Some(mut client) => client.done(),
        None => Ok(()),
    };
    if let Err(error) = told {
        containers.write_record(before)?;
        return Err(error.into());
    }
    Ok(ExitCode::SUCCESS)
}
