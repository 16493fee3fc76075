//! `network connect` and `network disconnect`: which networks a container is on, running or not.

use std::process::ExitCode;

use anyhow::bail;
use engine::containers::record::EndpointSettings;
use engine::containers::{Containers, Record};

use crate::network::{ConnectArgs, DisconnectArgs, definitions};
use crate::paths::Home;

const HOST: &str =
    "container cannot be disconnected from host network or connected to host network";

/// Connects a container to a network.
pub(crate) fn connect(home: &Home, args: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let name = definitions(&home.root).find(&args.network)?.name;
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let id = containers.find(&args.container)?;
    containers.change(&id, |record| {
        check(record, &name)?;
        record.networks.insert(name, settings(args));
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a container can be connected to a network that it is not on.
fn check(record: &Record, network: &str) -> anyhow::Result<()> {
    let mode = record.host_config.network_mode.as_str();
    if mode.starts_with("container:") {
        bail!(
            "container sharing network namespace with another container or host cannot be \
             connected to any other network"
        );
    }
    if [mode, network].iter().any(|name| matches!(*name, "host" | "none")) {
        bail!("{HOST}");
    }
    if record.networks.contains_key(network) {
        bail!("endpoint with name {} already exists in network {network}", record.name);
    }
    Ok(())
}

fn settings(args: &ConnectArgs) -> EndpointSettings {
    let mut settings = EndpointSettings {
        gw_priority: args.gw_priority.unwrap_or(0),
        ..EndpointSettings::default()
    };
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
    settings
}

/// Takes a container from a network.
pub(crate) fn disconnect(home: &Home, args: &DisconnectArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let id = containers.find(&args.container)?;
    // A network that is gone still has a name.
    let (name, known) = match definitions(&home.root).find(&args.network) {
        Ok(definition) => (definition.name, true),
        Err(_) if args.force => (args.network.clone(), false),
        Err(error) => return Err(error.into()),
    };
    // Docker's words for the two cases, and in both it is a failure, forced or not.
    let observed = containers.observe(&id)?;
    let runs = observed.state.status.is_active();
    if runs && name == "host" && observed.record.host_config.network_mode == "host" {
        bail!("{HOST}");
    }
    let the = if runs && known { "" } else { "the " };
    containers.change(&id, |record| {
        if record.networks.remove(&name).is_none() {
            bail!("container {id} is not connected to {the}network {name}");
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
