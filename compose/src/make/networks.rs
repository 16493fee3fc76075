//! Networks, a container's places on them, and the ports that it publishes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cache::oci::{Empty, StringMap};
use engine::containers::create::Request;
use engine::containers::record::{Config, EndpointSettings, HostConfig, PortBinding};
use engine::network::{AskedAddresses, NetworkRequest, Protocol, parse_expose};
use engine::volume::Draft;

use super::Error;
use super::container::{self, Container};
use super::error::Of;
use super::labels;
use crate::hash;
use crate::model::{Port, Project, Service, ServiceNetwork};

/// A network of a project; one that the project does not know is asked for with its default settings.
pub fn network(project: &Project, key: &str) -> NetworkRequest {
    let network = project.networks.get(key).cloned().unwrap_or_default();
    let pools = &network.ipam.config;
    let all = |text: fn(&crate::model::IpamPool) -> &String| {
        pools.iter().map(text).filter(|text| !text.is_empty()).cloned().collect()
    };
    NetworkRequest {
        name: network.name.clone(),
        driver: network.driver.clone(),
        addresses: AskedAddresses {
            subnets: all(|pool| &pool.subnet),
            ip_ranges: all(|pool| &pool.ip_range),
            gateways: all(|pool| &pool.gateway),
            auxiliary_addresses: pools.iter().flat_map(|pool| pool.aux_addresses.clone()).collect(),
            ipv6: network.enable_ipv6.unwrap_or(false),
        },
        internal: network.internal,
        attachable: network.attachable,
        options: network.driver_opts.0.clone(),
        labels: labels::resource(
            project,
            &network.labels.0,
            (labels::NETWORK, key),
            hash::network(&network),
        ),
    }
}

/// A volume of a project; one that the project does not know is asked for with its default settings.
pub fn volume(project: &Project, key: &str) -> Draft {
    let volume = project.volumes.get(key).cloned().unwrap_or_default();
    Draft {
        name: Some(volume.name.clone()),
        driver: volume.driver.clone(),
        options: volume.driver_opts.0.clone(),
        labels: labels::resource(
            project,
            &volume.labels.0,
            (labels::VOLUME, key),
            hash::volume(&volume),
        ),
    }
}

/// Publishes ports: for a one-off container, which publishes none by itself.
pub fn publish(service_name: &str, request: &mut Request, ports: &[Port]) -> Result<(), Error> {
    bind_ports(Of(service_name), ports, &mut request.config, &mut request.host_config)
}

/// Has a one-off container known by the names of its service too: `run --use-aliases`.
pub fn use_aliases(container: &Container<'_>, request: &mut Request) {
    for (key, settings) in &container.service.networks {
        let Some(network) = container.project.networks.get(key) else { continue };
        let Some(endpoint) = request.networks.get_mut(&network.name) else { continue };
        let aliases = endpoint.aliases.get_or_insert_default();
        aliases.push(container.service_name.to_owned());
        aliases.extend(settings.iter().flat_map(|settings| settings.aliases.clone()));
    }
}

/// Fills in a container's networks, ports, and what it is told of others.
pub(super) fn apply(
    container: &Container<'_>,
    service: &Service,
    config: &mut Config,
    host: &mut HostConfig,
) -> Result<BTreeMap<String, EndpointSettings>, Error> {
    let of = container.of();
    if !container.one_off {
        bind_ports(of, &service.ports, config, host)?;
    }
    for text in &service.expose {
        for port in parse_expose(text).map_err(|error| of.invalid("expose", error))? {
            config.exposed_ports.insert(port.to_string(), Empty {});
        }
    }
    host.links = links(container, service)?;
    if !service.network_mode.is_empty() {
        host.network_mode = match service.network_mode.as_str() {
            "default" => "bridge",
            // What docker calls a container without a network.
            "disabled" => "none",
            mode => mode,
        }
        .to_owned();
        check_mode(of, config, host)?;
        return Ok(BTreeMap::new());
    }
    places(container, service, host)
}

/// A container's places on the networks that its service names; the one of the highest priority is its mode.
fn places(
    container: &Container<'_>,
    service: &Service,
    host: &mut HostConfig,
) -> Result<BTreeMap<String, EndpointSettings>, Error> {
    let of = container.of();
    let priority = |key: &str| {
        let settings = service.networks.get(key).and_then(Option::as_ref);
        settings.map_or(0, |settings| settings.priority)
    };
    let mut keys: Vec<&str> = service.networks.keys().map(String::as_str).collect();
    // Stable: those of one priority stay in the order of their names.
    keys.sort_by_key(|key| std::cmp::Reverse(priority(key)));
    let mut networks = BTreeMap::new();
    host.network_mode = "none".to_owned();
    for (index, key) in keys.into_iter().enumerate() {
        let known = container.project.networks.get(key);
        let name = known.map_or(key, |network| network.name.as_str());
        if matches!(name, "bridge" | "host" | "none") {
            let why =
                "network-scoped alias is supported only for containers in user defined networks";
            return Err(of.invalid("networks", format!("{why}, write `network_mode: {name}`")));
        }
        let mut settings = endpoint(container, service, key, &host.links)?;
        if index == 0 {
            name.clone_into(&mut host.network_mode);
            first_address(of, service, &mut settings)?;
        }
        networks.insert(name.to_owned(), settings);
    }
    Ok(networks)
}

/// Refuses what does not go with a network that is another's, in docker's words.
fn check_mode(of: Of<'_>, config: &Config, host: &HostConfig) -> Result<(), Error> {
    let mode = host.network_mode.as_str();
    let is_container = mode.starts_with("container:");
    let links = |kind: &str| {
        format!("{kind} can't be used with links. This would result in undefined behavior")
    };
    for (is_refused, attribute, why) in [
        (
            is_container && !host.port_bindings.is_empty(),
            "ports",
            "port publishing and the container type network mode".to_owned(),
        ),
        (
            is_container && !config.exposed_ports.is_empty(),
            "expose",
            "port exposing and the container type network mode".to_owned(),
        ),
        (is_container && !host.links.is_empty(), "links", links("container type network")),
        (mode == "host" && !host.links.is_empty(), "links", links("host type networking")),
    ] {
        if is_refused {
            return Err(of.invalid(attribute, format!("conflicting options: {why}")));
        }
    }
    Ok(())
}

/// A service's own `mac_address` is the one in its first network.
fn first_address(
    of: Of<'_>,
    service: &Service,
    settings: &mut EndpointSettings,
) -> Result<(), Error> {
    if service.mac_address.is_empty() {
        return Ok(());
    }
    if !settings.mac_address.is_empty() && settings.mac_address != service.mac_address {
        let why = "it is not the one that the service's first network has";
        return Err(of.invalid("mac_address", why));
    }
    check_mac(of, &service.mac_address)?;
    settings.mac_address.clone_from(&service.mac_address);
    Ok(())
}

fn check_mac(of: Of<'_>, text: &str) -> Result<(), Error> {
    engine::network::parse_mac(text).map(drop).map_err(|error| of.invalid("mac_address", error))
}

/// A container's place on a network.
fn endpoint(
    container: &Container<'_>,
    service: &Service,
    key: &str,
    links: &[String],
) -> Result<EndpointSettings, Error> {
    let asked = service.networks.get(key).and_then(Option::as_ref);
    let mut aliases = Vec::from_iter(Some(container.name()).filter(|name| !name.is_empty()));
    if !container.one_off {
        aliases.push(container.service_name.to_owned());
        aliases.extend(asked.into_iter().flat_map(|asked| asked.aliases.clone()));
    }
    let mut settings = EndpointSettings {
        aliases: Some(aliases),
        links: Some(links.to_vec()).filter(|links| !links.is_empty()),
        ..EndpointSettings::default()
    };
    let Some(asked) = asked else { return Ok(settings) };
    let of = container.of();
    settings.ipam_config = Some(addresses(of, asked)?);
    if !asked.mac_address.is_empty() {
        check_mac(of, &asked.mac_address)?;
        settings.mac_address.clone_from(&asked.mac_address);
    }
    settings.driver_opts = Some(asked.driver_opts.0.clone()).filter(|options| !options.is_empty());
    settings.gw_priority = asked.gw_priority;
    Ok(settings)
}

/// The addresses that it asks for.
fn addresses(of: Of<'_>, asked: &ServiceNetwork) -> Result<StringMap, Error> {
    let mut found = StringMap::new();
    for (key, attribute, text) in [
        ("IPv4Address", "ipv4_address", &asked.ipv4_address),
        ("IPv6Address", "ipv6_address", &asked.ipv6_address),
    ] {
        if text.is_empty() {
            continue;
        }
        let address: IpAddr = text
            .parse()
            .map_err(|_| of.invalid(attribute, format!("{text:?} is not an address")))?;
        found.insert(key.to_owned(), address.to_string());
    }
    if asked.link_local_ips.iter().any(|address| !address.is_empty()) {
        let why = "a container has one address of each kind in a network, see ipv4_address";
        return Err(of.unsupported("link_local_ips", why));
    }
    if !asked.interface_name.is_empty() {
        let why = "devices are called eth0, eth1 and so on, in the order of gw_priority";
        return Err(of.unsupported("interface_name", why));
    }
    Ok(found)
}

/// What links say: a container, and what it is called here. Linked services go by their containers' names, which stay
/// when one is made anew.
fn links(container: &Container<'_>, service: &Service) -> Result<Vec<String>, Error> {
    let project = container.project;
    let mut links = Vec::new();
    for link in &service.links {
        let (other, alias) = link.split_once(':').unwrap_or((link, link));
        let found = project.services.get(other).or_else(|| project.disabled_services.get(other));
        let Some(linked) = found else { continue };
        let count = container.others.get(other).map_or(0, Vec::len);
        for number in (1..).take(count) {
            let name = container::name(project, other, linked, number);
            links.push(format!("{name}:{alias}"));
            links.push(format!("{name}:{other}-{}", container.number));
            links.push(format!("{name}:{}-{other}-{}", project.name, container.number));
        }
    }
    for link in &service.external_links {
        let (other, alias) = link.split_once(':').unwrap_or((link, link));
        links.push(format!("{other}:{alias}"));
    }
    Ok(links)
}

/// A port as `port/protocol`.
fn target(of: Of<'_>, port: &Port) -> Result<String, Error> {
    let protocol = match port.protocol.as_str() {
        "" => Protocol::Tcp,
        text => text.parse().map_err(|error| of.invalid("ports", error))?,
    };
    Ok(format!("{}/{protocol}", port.target))
}

fn bind_ports(
    of: Of<'_>,
    ports: &[Port],
    config: &mut Config,
    host: &mut HostConfig,
) -> Result<(), Error> {
    for port in ports {
        let target = target(of, port)?;
        config.exposed_ports.insert(target.clone(), Empty {});
        let host_ip = match port.host_ip.as_str() {
            "" => String::new(),
            text => {
                let parsed: Result<IpAddr, _> = text.parse();
                let invalid = |_| of.invalid("ports", format!("{text:?} is not an address"));
                parsed.map_err(invalid)?.to_string()
            }
        };
        let binding = PortBinding { host_ip, host_port: port.published.clone() };
        let bindings = host.port_bindings.entry(target).or_default();
        bindings.get_or_insert_default().push(binding);
    }
    Ok(())
}
