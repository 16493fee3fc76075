//! A container's network: the namespace it lives in, its places on networks, its published ports,
//! its name server, and the files that tell it of them.
//!
//! Decides from the record; `network` does it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::assemble::{causes, namespace_of};
use super::record::{EndpointSettings, PortBinding, PortMap, Record};
use super::told::Told;
use super::{Containers, Error, Result};
use crate::container::spec::{Mount, Network};
use crate::network::resolv::{self, ExtraHost, Reach};
use crate::network::{ContainerPort, HostPorts, PortError, PortMapping, Ports, parse_expose};
use crate::network::{
    Definitions, Driver, Endpoint, EndpointRequest, NetworkDefinition, NetworkNamespace, parse_mac,
};
use crate::network::{Dns, NAME_SERVER, Zone};

/// A container's network. What it holds is given back when it is dropped.
#[derive(Default)]
pub(super) struct Connected {
    pub(super) network: Network,
    pub(super) files: Vec<Mount>,
    /// As `inspect` shows them.
    pub(super) networks: BTreeMap<String, EndpointSettings>,
    pub(super) ports: PortMap,
    namespace: Option<NetworkNamespace>,
    endpoints: Vec<(NetworkDefinition, Endpoint)>,
    reserved: Option<Ports>,
    dns: Option<Dns>,
    /// Containers that it knows by names of its own, as they were when it was started.
    linked: Vec<(String, IpAddr)>,
    /// What the container is told whose network it shares: the names of that network are its too.
    shared: Option<Box<Told>>,
    told: Told,
    /// The container's, where the files are.
    dir: PathBuf,
}

/// Makes a container's network.
pub(super) fn connect(
    containers: &Containers<'_>,
    record: &Record,
    runtime: &Path,
) -> Result<Connected> {
    let mut connected = Connected::default();
    match record.host_config.network_mode.as_str() {
        "none" => connected.network = Network::None,
        "host" => connected.network = Network::Host,
        mode => match mode.strip_prefix("container:") {
            Some(name) => {
                connected.network = Network::Path(namespace_of(containers, name, "net")?);
                let dir = containers.dir(&containers.find(name)?);
                connected.shared = Told::of(&dir).map(Box::new);
            }
            None => connected.join(containers, record, runtime)?,
        },
    }
    connected.linked = connected.links(containers, record)?;
    connected.told = connected.tell(record)?;
    connected.dir = containers.dir(&record.id);
    connected.files = connected.told.files(&connected.dir, record)?;
    Ok(connected)
}

impl Connected {
    fn join(&mut self, containers: &Containers<'_>, record: &Record, runtime: &Path) -> Result<()> {
        let definitions = Definitions::new(containers.store.root(), runtime);
        let mut wanted = Vec::new();
        for (name, settings) in &record.networks {
            wanted.push((definitions.find(name).map_err(refused)?, settings));
        }
        // The one that has the way out comes first.
        let mode = &record.host_config.network_mode;
        wanted.sort_by_key(|(definition, settings)| {
            (-settings.gw_priority, definition.name != *mode)
        });
        let first = wanted.first().map(|(definition, _)| definition);
        self.reserved = reserve(containers, record, first)?;
        let ipv6 = wanted
            .iter()
            .any(|(definition, _)| definition.enable_ipv6 || definition.is_predefined());
        let namespace = NetworkNamespace::new(ipv6).map_err(refused)?;
        self.network = Network::Path(namespace.path());
        self.namespace = Some(namespace);
        for (definition, settings) in wanted {
            self.add(definition, settings, record, runtime)?;
        }
        self.publish()?;
        self.serve_names(record)
    }

    /// Has the published ports lead to the container over its first network with a way out.
    fn publish(&mut self) -> Result<()> {
        let endpoint = self.endpoints.iter().find(|(_, endpoint)| endpoint.leads_outside());
        self.ports.clear();
        if let (Some(ports), Some((_, endpoint))) = (&self.reserved, endpoint) {
            ports.publish(endpoint).map_err(refused)?;
            self.ports = published(ports);
        }
        Ok(())
    }

    /// Connects the container to one more network, by its name.
    pub(super) fn connect(
        &mut self,
        containers: &Containers<'_>,
        name: &str,
        settings: &EndpointSettings,
        record: &Record,
        runtime: &Path,
    ) -> Result<()> {
        let definitions = Definitions::new(containers.store.root(), runtime);
        let definition = definitions.find(name).map_err(refused)?;
        self.add(definition, settings, record, runtime)?;
        // Until now there may have been no way to the published ports.
        if self.ports.is_empty() { self.publish() } else { Ok(()) }
    }

    /// Connects the container to a network.
    fn add(
        &mut self,
        definition: NetworkDefinition,
        settings: &EndpointSettings,
        record: &Record,
        runtime: &Path,
    ) -> Result<()> {
        let namespace = self.namespace.as_ref().ok_or_else(|| {
            Error::Refused("container sharing network namespace with another container or host cannot be connected to any other network".to_owned())
        })?;
        if definition.kind() != Driver::Bridge {
            return Err(Error::Refused(
                "container cannot be connected to host or none networks beside others".to_owned(),
            ));
        }
        let request = request(record, settings, &definition)?;
        let endpoint =
            Endpoint::connect(runtime, &definition, namespace, &request).map_err(refused)?;
        let shown = shown(settings, &endpoint, &request);
        self.networks.insert(definition.name.clone(), shown);
        self.endpoints.push((definition, endpoint));
        Ok(())
    }

    /// Takes the container from a network.
    pub(super) fn remove(&mut self, name: &str) -> Result<()> {
        let at = self.endpoints.iter().position(|(definition, _)| definition.name == name);
        let Some(at) = at else {
            return Err(Error::Refused(format!("container is not connected to network {name}")));
        };
        if let Some(ports) = &self.reserved {
            ports.withdraw();
        }
        let (_, endpoint) = self.endpoints.remove(at);
        endpoint.disconnect().map_err(refused)?;
        self.networks.remove(name);
        if let Some(namespace) = &self.namespace
            && let Some((_, next)) = self.endpoints.iter().find(|(_, it)| it.leads_outside())
        {
            next.route_by_default(namespace).map_err(refused)?;
        }
        self.publish()
    }

    /// Tells others the name that the container has now.
    pub(super) fn rename(&mut self, record: &Record) -> Result<()> {
        for (definition, endpoint) in &mut self.endpoints {
            let Some(settings) = record.networks.get(&definition.name) else { continue };
            if endpoint.record().name != record.name {
                let request = request(record, settings, definition)?;
                endpoint.rename(&request.name, &request.aliases).map_err(refused)?;
                let shown = shown(settings, endpoint, &request);
                self.networks.insert(definition.name.clone(), shown);
            }
        }
        Ok(())
    }

    /// Has the files of the running container tell it of its network as it is now.
    pub(super) fn tell_again(&mut self, record: &Record, _: Pid) -> Result<()> {
        let told = self.tell(record)?;
        self.told.change_to(&told, &self.dir)?;
        self.told = told;
        Ok(())
    }

    /// Has names answered where the container is on a network that has names.
    pub(super) fn serve_names(&mut self, record: &Record) -> Result<()> {
        let zones: Vec<Zone> = self
            .endpoints
            .iter()
            .filter(|(definition, _)| definition.has_dns())
            .map(|(definition, endpoint)| Zone {
                network: definition.name.clone(),
                directory: endpoint.directory(),
                leads_outside: endpoint.leads_outside(),
            })
            .collect();
        match (&self.dns, &self.namespace) {
            (Some(dns), _) => dns.set_zones(zones),
            (None, Some(namespace)) if !zones.is_empty() => {
                let host = resolv::host_resolv_conf().unwrap_or_default();
                let asked = asked_dns(record)?;
                let (_, servers) = resolv::with_name_server(&host, &asked, NAME_SERVER.into());
                self.dns = Some(Dns::serve(namespace, zones, servers).map_err(refused)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Where the containers are that its links name. They must run, as docker wants it.
    fn links(&self, containers: &Containers<'_>, record: &Record) -> Result<Vec<(String, IpAddr)>> {
        let mut linked = Vec::new();
        for link in &record.host_config.links {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            let other = containers.observe(&containers.find(name)?)?;
            if !other.state.status.is_active() {
                return Err(Error::Refused(format!(
                    "cannot link to a non running container: /{} as {alias}: start it first",
                    other.record.name
                )));
            }
            let addresses = &other.state.networks;
            let shared = self.networks.keys().find_map(|network| addresses.get(network));
            let address = shared.and_then(|settings| settings.ip_address.parse().ok());
            let address = address.ok_or_else(|| {
                Error::Refused(format!(
                    "cannot link to /{}: it is on none of this container's networks",
                    other.record.name
                ))
            })?;
            let names = [alias, other.record.config.hostname.as_str(), other.record.name.as_str()];
            let mut known: Vec<&str> = Vec::new();
            for name in names.into_iter().filter(|name| !name.is_empty()) {
                if !known.contains(&name) {
                    known.push(name);
                }
            }
            linked.push((known.join(" "), address));
        }
        Ok(linked)
    }

    /// What is told to the container of its network.
    fn tell(&self, record: &Record) -> Result<Told> {
        if let Some(shared) = &self.shared {
            return Ok(Told::clone(shared));
        }
        let (config, host) = (&record.config, &record.host_config);
        let records = || self.endpoints.iter().map(|(_, endpoint)| endpoint.record());
        let own: Vec<IpAddr> = records()
            .flat_map(|it| [Some(IpAddr::from(it.ipv4)), it.ipv6.map(IpAddr::from)])
            .flatten()
            .collect();
        let gateway = records().next().map_or(Ipv4Addr::LOCALHOST, |it| it.gateway);
        let mut extra = Vec::new();
        for text in &host.extra_hosts {
            let entry: ExtraHost = text.parse().map_err(refused)?;
            extra.push(entry.resolve(gateway.into()));
        }
        extra.extend(self.linked.iter().cloned());
        let full = format!("{}.{}", config.hostname, config.domainname);
        let names = match config.domainname.as_str() {
            "" => vec![config.hostname.as_str()],
            _ => vec![full.as_str(), config.hostname.as_str()],
        };
        let reach = match self.endpoints.is_empty() {
            true => Reach::Host,
            false => Reach::Bridge { ipv6: records().any(|it| it.ipv6.is_some()) },
        };
        let (dns, host_text) = (asked_dns(record)?, resolv::host_resolv_conf().unwrap_or_default());
        let servers = match &self.dns {
            Some(_) => resolv::with_name_server(&host_text, &dns, NAME_SERVER.into()).0,
            None => resolv::resolv_conf(&host_text, &dns, reach),
        };
        Ok(Told {
            hosts: resolv::hosts(&own, &names, &extra),
            own: resolv::own_hosts(&own, &names),
            servers,
        })
    }
}

fn request(
    record: &Record,
    settings: &EndpointSettings,
    definition: &NetworkDefinition,
) -> Result<EndpointRequest> {
    let asked = |key: &str| {
        settings.ipam_config.as_ref().and_then(|asked| asked.get(key)).filter(|it| !it.is_empty())
    };
    let invalid = |text: &String| Error::Refused(format!("invalid IP address: {text}"));
    let mut aliases = settings.aliases.clone().unwrap_or_default();
    if definition.has_dns() {
        aliases.push(record.short_id().to_owned());
        if record.config.hostname != record.short_id() {
            aliases.push(record.config.hostname.clone());
        }
    }
    Ok(EndpointRequest {
        container: record.id.clone(),
        name: record.name.clone(),
        aliases,
        ipv4: asked("IPv4Address").map(|it| it.parse().map_err(|_| invalid(it))).transpose()?,
        ipv6: asked("IPv6Address").map(|it| it.parse().map_err(|_| invalid(it))).transpose()?,
        mac: match settings.mac_address.as_str() {
            "" => None,
            text => Some(parse_mac(text).map_err(refused)?),
        },
    })
}

/// What `inspect` shows of a connection.
fn shown(
    settings: &EndpointSettings,
    endpoint: &Endpoint,
    request: &EndpointRequest,
) -> EndpointSettings {
    let record = endpoint.record();
    let text = |address: Option<std::net::Ipv6Addr>| {
        address.map(|address| address.to_string()).unwrap_or_default()
    };
    let mut names = vec![request.name.clone()];
    names.extend(request.aliases.iter().cloned());
    EndpointSettings {
        mac_address: record.mac_text(),
        network_id: record.network_id.clone(),
        endpoint_id: record.endpoint_id.clone(),
        gateway: record.gateway.to_string(),
        ip_address: record.ipv4.to_string(),
        ip_prefix_len: record.prefix,
        ipv6_gateway: text(record.gateway_ipv6),
        global_ipv6_address: text(record.ipv6),
        global_ipv6_prefix_len: record.prefix_ipv6.unwrap_or(0),
        dns_names: (request.aliases.len() > 1 || !request.aliases.is_empty()).then_some(names),
        ..settings.clone()
    }
}

/// Reserves the ports that the container publishes.
fn reserve(
    containers: &Containers<'_>,
    record: &Record,
    first: Option<&NetworkDefinition>,
) -> Result<Option<Ports>> {
    let host = &record.host_config;
    let mut mappings = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let container = container_port(port)?;
        for binding in bindings.iter().flatten() {
            mappings.push(mapping(container, binding)?);
        }
    }
    if host.publish_all_ports {
        for port in record.config.exposed_ports.keys() {
            if !host.port_bindings.contains_key(port) {
                mappings.push(mapping(container_port(port)?, &PortBinding::default())?);
            }
        }
    }
    if mappings.is_empty() {
        return Ok(None);
    }
    let default = first.and_then(NetworkDefinition::host_binding);
    Ports::reserve(&mappings, default).map(Some).map_err(|mut error| {
        if let PortError::Taken { holder: Some(holder), .. } = &mut error {
            holder.container = match holder.pid == std::process::id() {
                true => Some(record.name.clone()),
                false => containers.monitored_by(holder.pid),
            };
        }
        refused(error)
    })
}

fn container_port(text: &str) -> Result<ContainerPort> {
    let ports = parse_expose(text).map_err(refused)?;
    ports.into_iter().next().ok_or_else(|| Error::Refused(format!("invalid port: {text}")))
}

fn mapping(container: ContainerPort, binding: &PortBinding) -> Result<PortMapping> {
    let invalid = || Error::Refused(format!("invalid host port: {:?}", binding.host_port));
    let host = match binding.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse().map_err(|_| Error::Refused(format!("invalid host address: {text}")))?,
        ),
    };
    let port = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let host_ports = match binding.host_port.split_once('-') {
        _ if binding.host_port.is_empty() => HostPorts { first: 0, last: 0 },
        Some((first, last)) => HostPorts { first: port(first)?, last: port(last)? },
        None => HostPorts { first: port(&binding.host_port)?, last: port(&binding.host_port)? },
    };
    Ok(PortMapping { host, host_ports, container })
}

/// The published ports as `inspect` shows them.
fn published(ports: &Ports) -> PortMap {
    let mut map = PortMap::new();
    for binding in ports.bindings() {
        let shown = PortBinding {
            host_ip: binding.host.to_string(),
            host_port: binding.host_port.to_string(),
        };
        map.entry(binding.container.to_string()).or_default().get_or_insert_default().push(shown);
    }
    map
}

fn asked_dns(record: &Record) -> Result<resolv::Dns> {
    let host = &record.host_config;
    let invalid = |text: &String| Error::Refused(format!("{text} is not an ip address"));
    let servers = host
        .dns
        .iter()
        .map(|text| text.parse().map_err(|_| invalid(text)))
        .collect::<Result<_>>()?;
    Ok(resolv::Dns { servers, search: host.dns_search.clone(), options: host.dns_options.clone() })
}

fn refused(error: impl std::error::Error) -> Error {
    Error::Refused(causes(&error))
}
