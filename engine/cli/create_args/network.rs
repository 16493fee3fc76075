//! What a container is connected to: the flags of networks, addresses, ports and names.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use cache::oci::Empty;
use clap::Args;
use engine::containers::record::{Config, EndpointSettings, HostConfig, PortBinding, PortMap};
use engine::network::{HostPorts, parse_expose, parse_publish};

/// What it is connected to.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct NetworkArgs {
    /// bridge, host, none, container:NAME or a network's name
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// A name of the container on its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Make another container known by its name, or by an alias
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Its hardware address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Publish a port of the container
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// Ask this name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Look for names in this domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set an option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Extra line for /etc/hosts, as name:address or name:host-gateway
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
}

impl NetworkArgs {
    pub(super) fn apply(
        &self,
        config: &mut Config,
        host: &mut HostConfig,
    ) -> anyhow::Result<BTreeMap<String, EndpointSettings>> {
        for text in &self.expose {
            for port in parse_expose(text)? {
                config.exposed_ports.insert(port.to_string(), Empty {});
            }
        }
        for text in &self.publish {
            publish(text, config, &mut host.port_bindings)?;
        }
        host.publish_all_ports = self.publish_all;
        host.dns.clone_from(&self.dns);
        host.dns_search.clone_from(&self.dns_search);
        host.dns_options.clone_from(&self.dns_option);
        for text in &self.add_host {
            text.parse::<engine::network::resolv::ExtraHost>()?;
        }
        host.extra_hosts.clone_from(&self.add_host);
        host.links = self.link.iter().map(|text| link(text)).collect::<anyhow::Result<_>>()?;
        let mut networks = BTreeMap::new();
        for text in &self.network {
            let (name, settings) = network(text)?;
            if host.network_mode.is_empty() {
                host.network_mode.clone_from(&name);
            }
            if networks.insert(name.clone(), settings).is_some() {
                bail!("network {name:?} is specified multiple times");
            }
        }
        if host.network_mode.is_empty() {
            host.network_mode = "bridge".to_owned();
        }
        self.first(host, &mut networks)?;
        Ok(networks)
    }

    /// What the flags say of the container's first network.
    fn first(
        &self,
        host: &HostConfig,
        networks: &mut BTreeMap<String, EndpointSettings>,
    ) -> anyhow::Result<()> {
        let mode = host.network_mode.as_str();
        if matches!(mode, "none" | "host") || mode.starts_with("container:") {
            let settings = networks.remove(mode).unwrap_or_default();
            if !mode.starts_with("container:") {
                self.for_any_network(mode, &settings)?;
            }
            if !networks.is_empty() {
                bail!(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                );
            }
            if mode.starts_with("container:") && !host.port_bindings.is_empty() {
                bail!("conflicting options: port publishing and the container type network mode");
            }
            return Ok(());
        }
        let settings = networks.entry(mode.to_owned()).or_default();
        if !self.network_alias.is_empty() {
            settings.aliases.get_or_insert_default().extend(self.network_alias.iter().cloned());
        }
        for (key, address) in [("IPv4Address", &self.ip), ("IPv6Address", &self.ip6)] {
            if let Some(address) = address {
                if address.parse::<std::net::IpAddr>().is_err() {
                    bail!("invalid IP address: {address}");
                }
                let asked = settings.ipam_config.get_or_insert_default();
                asked.insert(key.to_owned(), address.clone());
            }
        }
        if mode == "bridge" {
            self.for_any_network(mode, settings)?;
        }
        if let Some(address) = &self.mac_address {
            engine::network::parse_mac(address)?;
            settings.mac_address.clone_from(address);
        }
        Ok(())
    }

    /// Refuses what only networks have that users make.
    fn for_any_network(&self, network: &str, settings: &EndpointSettings) -> anyhow::Result<()> {
        let addresses = [&self.ip, &self.ip6].into_iter().any(Option::is_some);
        let what = if addresses || settings.ipam_config.is_some() {
            "user specified IP address is supported on user defined networks only"
        } else if !self.network_alias.is_empty() || settings.aliases.is_some() {
            "network-scoped alias is supported only for containers in user defined networks"
        } else {
            return Ok(());
        };
        bail!("invalid config for network {network}: invalid endpoint settings:\n{what}");
    }
}

/// `--link`: a container, and what it is called here; docker calls it by its name.
fn link(text: &str) -> anyhow::Result<String> {
    let (container, alias) = match text.split_once(':') {
        None => (text, text),
        Some(parts) => parts,
    };
    let (container, alias) = (container.trim_start_matches('/'), alias.trim_start_matches('/'));
    if container.is_empty() || alias.is_empty() || alias.contains([':', '/', ' ', '\t', '\n']) {
        bail!("bad format for links: {text}");
    }
    Ok(format!("{container}:{alias}"))
}

/// `--network`: a name, or `name=...,alias=...,ip=...`.
fn network(text: &str) -> anyhow::Result<(String, EndpointSettings)> {
    let mut settings = EndpointSettings::default();
    if !text.contains('=') {
        return Ok((text.to_owned(), settings));
    }
    let mut name = None;
    for part in text.split(',') {
        let (key, value) = part.split_once('=').with_context(|| {
            format!("invalid key value pair format in network options: {part:?}")
        })?;
        let mut address = |key: &str| {
            let asked = settings.ipam_config.get_or_insert_default();
            asked.insert(key.to_owned(), value.to_owned());
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = Some(value.to_owned()),
            "alias" => settings.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => address("IPv4Address"),
            "ip6" => address("IPv6Address"),
            "mac-address" => value.clone_into(&mut settings.mac_address),
            "gw-priority" => settings.gw_priority = value.parse().context("gw-priority")?,
            "driver-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let options = settings.driver_opts.get_or_insert_default();
                options.insert(name.to_owned(), value.to_owned());
            }
            other => bail!("invalid field key {other}"),
        }
    }
    Ok((name.context("network name is not specified")?, settings))
}

/// `-p`.
fn publish(text: &str, config: &mut Config, bindings: &mut PortMap) -> anyhow::Result<()> {
    for mapping in parse_publish(text)? {
        let port = mapping.container.to_string();
        config.exposed_ports.insert(port.clone(), Empty {});
        let host_port = match mapping.host_ports {
            HostPorts { first: 0, .. } => String::new(),
            HostPorts { first, last } if first == last => first.to_string(),
            HostPorts { first, last } => format!("{first}-{last}"),
        };
        let host_ip = mapping.host.map(|address| address.to_string()).unwrap_or_default();
        let binding = PortBinding { host_ip, host_port };
        bindings.entry(port).or_default().get_or_insert_default().push(binding);
    }
    Ok(())
}
