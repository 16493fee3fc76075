//! A store's networks: a file for each that a user made, and the three that are always there.
//!
//! ```text
//! <store>/networks/
//!   <name>.json   what the network is, in the shape of docker's API
//!   .lock         held while one is made or removed
//! ```
//!
//! A bridge is made when the first container is connected, not with the definition. Does not know
//! containers but by what they told of themselves when they were connected.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cache::digest::Digest;
use fs_err::File;

use super::bridge::existing;
use super::definition::{ConnectedContainer, Driver, Ipam, IpamConfig, NetworkDefinition};
use super::definition_error::DefinitionError;
use super::files::{self, Files};
use super::ipam::{self, Asked, Taken};
use super::netlink::Socket;
use super::record::{self, EndpointRecord};
use super::reservation;
use super::sweep::sweep_away;
use super::{Error, link};
use crate::events::{Event, emit};

/// Names that nobody may give to a network.
const PREDEFINED: [(&str, Driver); 3] =
    [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::None)];
const RESERVED: [&str; 2] = ["default", "container"];

/// How long a container may take to be connected, or to leave.
const SETTLING: Duration = Duration::from_secs(1);

/// A network to be made.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Its driver; empty is `bridge`.
    pub driver: String,
    /// Its addresses.
    pub addresses: Asked,
    /// Whether it has no way out.
    pub internal: bool,
    /// Kept and shown.
    pub attachable: bool,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// What people say about it.
    pub labels: BTreeMap<String, String>,
}

/// The networks of a store.
pub struct Definitions {
    directory: PathBuf,
    runtime: PathBuf,
}

impl Definitions {
    /// The networks of the store at `root`; `runtime` is as for [`Network::open`](super::Network).
    pub fn new(root: &Path, runtime: &Path) -> Self {
        Definitions { directory: root.join("networks"), runtime: runtime.to_owned() }
    }

    /// Makes a network.
    pub fn create(&self, request: &NetworkRequest) -> Result<NetworkDefinition, DefinitionError> {
        check_name(&request.name)?;
        if !matches!(request.driver.as_str(), "" | "bridge") {
            return Err(DefinitionError::Driver { driver: request.driver.clone() });
        }
        let _lock = self.lock()?;
        let all = self.defined()?;
        if all.iter().any(|other| other.name == request.name) {
            return Err(DefinitionError::NameInUse { name: request.name.clone() });
        }
        let _subnets = reservation::lock(&self.runtime)?;
        let config = ipam::choose(&request.addresses, &self.taken(&all)?)?;
        let path = self.path(&request.name);
        let id = random_id().map_err(|source| file_error(&path, source))?;
        let definition = NetworkDefinition {
            created: jiff::Timestamp::now().to_string(),
            enable_ipv6: request.addresses.ipv6,
            ipam: Ipam { driver: "default".to_owned(), options: Some(BTreeMap::new()), config },
            internal: request.internal,
            attachable: request.attachable,
            options: request.options.clone(),
            labels: request.labels.clone(),
            path: Some(path.clone()),
            ..NetworkDefinition::predefined(&request.name, id, Driver::Bridge)
        };
        definition.check()?;
        let bridge = definition.bridge_name();
        let same = |other: &&NetworkDefinition| other.bridge_name() == bridge;
        if let Some(other) = self.list()?.iter().find(same) {
            let network = other.name.clone();
            return Err(DefinitionError::BridgeNameInUse { bridge, network });
        }
        if has_device(&bridge)? {
            return Err(DefinitionError::DeviceExists { bridge });
        }
        let bytes = serde_json::to_vec(&definition).expect("a definition prints into memory");
        files::write_whole(&self.directory, &file_name(&definition.name), &bytes)
            .map_err(|source| file_error(&path, source))?;
        if let Err(error) = self.reserve(&definition, &bridge) {
            let _ = fs_err::remove_file(&path);
            return Err(error.into());
        }
        self.tell("create", &definition);
        Ok(definition)
    }

    /// All networks, the predefined ones too, in the order of their names.
    pub fn list(&self) -> Result<Vec<NetworkDefinition>, DefinitionError> {
        let mut all = self.defined()?;
        all.extend(PREDEFINED.map(|(name, driver)| {
            NetworkDefinition::predefined(name, Digest::of(predefined_seed(name)).hex(), driver)
        }));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// The network of this name, of this id, or whose id begins so.
    pub fn find(&self, name: &str) -> Result<NetworkDefinition, DefinitionError> {
        let all = self.list()?;
        let exact =
            |definition: &&NetworkDefinition| definition.name == name || definition.id == name;
        if let Some(found) = all.iter().find(exact) {
            return Ok(found.clone());
        }
        let begins =
            |definition: &&NetworkDefinition| !name.is_empty() && definition.id.starts_with(name);
        let found: Vec<_> = all.iter().filter(begins).collect();
        match found.as_slice() {
            [] => Err(DefinitionError::NotFound { name: name.to_owned() }),
            [one] => Ok((*one).clone()),
            _ => Err(DefinitionError::Ambiguous { name: name.to_owned(), count: found.len() }),
        }
    }

    /// Who is connected to a network now.
    pub fn users(
        &self,
        definition: &NetworkDefinition,
    ) -> Result<Vec<EndpointRecord>, DefinitionError> {
        if definition.kind() != Driver::Bridge {
            return Ok(Vec::new());
        }
        Ok(record::live(&self.runtime.join(definition.bridge_name()))?)
    }

    /// The network with all that an inspection shows: who is connected, and the default bridge's
    /// subnets while it is up.
    pub fn inspect(
        &self,
        mut definition: NetworkDefinition,
    ) -> Result<NetworkDefinition, DefinitionError> {
        let users = self.users(&definition)?;
        let connected = users.iter().map(|user| (user.container.clone(), user.into()));
        definition.containers = connected.collect::<BTreeMap<String, ConnectedContainer>>();
        if definition.is_predefined() && definition.kind() == Driver::Bridge {
            let name = definition.bridge_name();
            definition.ipam.config = self.bridge_config(&name)?;
            definition.enable_ipv6 = definition.ipam.config.len() > 1;
            definition.options.insert("com.docker.network.bridge.name".to_owned(), name);
        }
        Ok(definition)
    }

    /// Removes a network that nobody is connected to.
    pub fn remove(&self, definition: &NetworkDefinition) -> Result<(), DefinitionError> {
        let name = definition.name.clone();
        let Some(path) = &definition.path else {
            return Err(DefinitionError::RemovePredefined { name });
        };
        let _lock = self.lock()?;
        // Before its bridge's directory is locked, and so made: another may have removed both.
        if !NetworkDefinition::read(path).is_ok_and(|there| there.id == definition.id) {
            return Err(DefinitionError::NotFound { name });
        }
        let bridge = definition.bridge_name();
        let files = self.unused(definition, &bridge)?;
        fs_err::remove_file(path).map_err(|source| file_error(path, source))?;
        self.tell("destroy", definition);
        Ok(sweep_away(files, &bridge)?)
    }

    /// The files of a network that nobody is connected to. Whoever uses the bridge and is not
    /// connected is about to be, or has just left: that is soon seen.
    fn unused(
        &self,
        definition: &NetworkDefinition,
        bridge: &str,
    ) -> Result<Files, DefinitionError> {
        let deadline = Instant::now() + SETTLING;
        loop {
            let files = Files::lock(&self.runtime, bridge)?;
            let users = self.users(definition)?;
            if !users.is_empty() {
                let user = |user: &EndpointRecord| {
                    let id = user.container.get(..12).unwrap_or(&user.container);
                    format!("name:{:?} id:{id:?}", user.name)
                };
                let users = users.iter().map(user).collect();
                return Err(DefinitionError::InUse { name: definition.name.clone(), users });
            }
            let leases = files.leases()?;
            if leases.is_unused().map_err(|source| files.failure(source))?
                || Instant::now() > deadline
            {
                return Ok(files);
            }
            drop((leases, files));
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the networks that nobody is connected to and that `chosen` picks; their names.
    pub fn prune(
        &self,
        chosen: impl Fn(&NetworkDefinition) -> bool,
    ) -> Result<Vec<String>, DefinitionError> {
        let mut removed = Vec::new();
        for definition in self.defined()?.into_iter().filter(chosen) {
            match self.remove(&definition) {
                Ok(()) => removed.push(definition.name),
                Err(DefinitionError::InUse { .. } | DefinitionError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    fn tell(&self, action: &str, definition: &NetworkDefinition) {
        let event = Event::now("network", action, &definition.id)
            .with("name", &definition.name)
            .with("type", "bridge");
        if let Some(root) = self.directory.parent() {
            emit(root, &event);
        }
    }

    /// Keeps the definition's subnets from being chosen by other stores.
    fn reserve(&self, definition: &NetworkDefinition, bridge: &str) -> Result<(), Error> {
        let Some(reservation) = definition.reservation() else { return Ok(()) };
        reservation::write(&Files::lock(&self.runtime, bridge)?, &reservation)
    }

    /// The networks that users made, in the order of their names.
    fn defined(&self) -> Result<Vec<NetworkDefinition>, DefinitionError> {
        let mut all = Vec::new();
        let names =
            files::names(&self.directory).map_err(|source| file_error(&self.directory, source))?;
        for name in names.iter().filter_map(|name| name.strip_suffix(".json")) {
            let path = self.path(name);
            match NetworkDefinition::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                definition => all.push(definition.map_err(|source| file_error(&path, source))?),
            }
        }
        Ok(all)
    }

    fn taken(&self, defined: &[NetworkDefinition]) -> Result<Taken, DefinitionError> {
        let refused = |source| Error::SetUpBridge { name: "of the new network".to_owned(), source };
        let socket = Socket::route().map_err(refused)?;
        let routed = link::routed(&socket).map_err(refused)?;
        let mut taken =
            Taken { routed_ipv4: routed.ipv4, routed_ipv6: routed.ipv6, ..Taken::default() };
        for (ipv4, ipv6) in defined.iter().map(NetworkDefinition::subnets) {
            taken.ipv4.extend(ipv4);
            taken.ipv6.extend(ipv6);
        }
        for reservation in reservation::all(&self.runtime)? {
            taken.ipv4.push(reservation.ipv4);
            taken.ipv6.extend(reservation.ipv6);
        }
        if let Some((bridge, _)) = existing(&socket, super::DEFAULT_BRIDGE).map_err(refused)? {
            taken.ipv4.push(bridge.ipv4);
            taken.ipv6.extend(bridge.ipv6);
        }
        Ok(taken)
    }

    /// A bridge's subnets as the kernel has them.
    fn bridge_config(&self, name: &str) -> Result<Vec<IpamConfig>, DefinitionError> {
        let refused = |source| Error::SetUpBridge { name: name.to_owned(), source };
        let socket = Socket::route().map_err(refused)?;
        let Some((bridge, _)) = existing(&socket, name).map_err(refused)? else {
            return Ok(Vec::new());
        };
        let config = |subnet: String, gateway: String| IpamConfig {
            subnet,
            gateway,
            ..IpamConfig::default()
        };
        let ipv6 = bridge.ipv6.zip(bridge.gateway_ipv6);
        let ipv6 = ipv6.map(|(subnet, gateway)| config(subnet.to_string(), gateway.to_string()));
        let ipv4 = config(bridge.ipv4.to_string(), bridge.gateway.to_string());
        Ok([Some(ipv4), ipv6].into_iter().flatten().collect())
    }

    fn lock(&self) -> Result<File, DefinitionError> {
        let path = self.directory.join(".lock");
        let lock = || {
            fs_err::create_dir_all(&self.directory)?;
            let file = File::create(&path)?;
            file.file().lock().map(|()| file)
        };
        lock().map_err(|source| file_error(&path, source))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(file_name(name))
    }
}

fn has_device(name: &str) -> Result<bool, Error> {
    let refused = |source| Error::SetUpBridge { name: name.to_owned(), source };
    let socket = Socket::route().map_err(refused)?;
    Ok(link::find(&socket, name).map_err(refused)?.is_some())
}

fn file_name(name: &str) -> String {
    format!("{name}.json")
}

fn file_error(path: &Path, source: io::Error) -> DefinitionError {
    DefinitionError::File { path: path.to_owned(), source }
}

/// What a predefined network's id is made of: it is the same in all stores.
fn predefined_seed(name: &str) -> String {
    format!("rbuild network {name}")
}

fn check_name(name: &str) -> Result<(), DefinitionError> {
    let is_predefined = PREDEFINED.iter().any(|(predefined, _)| *predefined == name);
    if is_predefined || RESERVED.contains(&name) {
        return Err(DefinitionError::Predefined { name: name.to_owned() });
    }
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let goes_on =
        name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | '-'));
    if begins && goes_on && name.len() <= 200 {
        return Ok(());
    }
    Err(DefinitionError::InvalidName { name: name.to_owned() })
}

/// 64 hexadecimal digits that nobody else has.
pub(super) fn random_id() -> io::Result<String> {
    let mut bytes = [0u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        _directory: tempfile::TempDir,
        runtime: PathBuf,
        stores: [Definitions; 2],
    }

    fn machine() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("run");
        let store = |name: &str| Definitions::new(&directory.path().join(name), &runtime);
        let stores = [store("one"), store("two")];
        Machine { _directory: directory, runtime, stores }
    }

    fn named(name: &str) -> NetworkRequest {
        NetworkRequest { name: name.to_owned(), ..NetworkRequest::default() }
    }

    fn with_subnet(name: &str, subnet: &str) -> NetworkRequest {
        let mut request = named(name);
        request.addresses.subnets.push(subnet.to_owned());
        request
    }

    #[test]
    fn a_definition_is_found_by_name_and_id_until_it_is_removed() {
        let machine = machine();
        let store = &machine.stores[0];
        let made = store.create(&named("web")).unwrap();
        assert_eq!(made.id.len(), 64);
        assert_eq!(made.bridge_name(), format!("br-{}", &made.id[..12]));
        for name in ["web", &made.id, &made.id[..12]] {
            assert_eq!(store.find(name).unwrap(), made, "{name}");
        }
        let names: Vec<_> = store.list().unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["bridge", "host", "none", "web"]);
        let again = store.create(&named("web")).unwrap_err();
        assert_eq!(again.to_string(), "network with name web already exists");
        store.remove(&made).unwrap();
        assert_eq!(store.find("web").unwrap_err().to_string(), "network web not found");
        assert!(!machine.runtime.join(made.bridge_name()).exists());
        assert!(matches!(store.remove(&made), Err(DefinitionError::NotFound { .. })));
    }

    #[test]
    fn what_cannot_be_a_network_is_refused() {
        let machine = machine();
        let store = &machine.stores[0];
        let check = |request: NetworkRequest, expected: &str| {
            let error = store.create(&request).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(named("bridge"), "operation is not permitted on predefined bridge network");
        check(named("../x"), "invalid network name \"../x\"");
        check(named(""), "invalid network name");
        check(NetworkRequest { driver: "overlay".into(), ..named("a") }, "driver \"overlay\"");
        for (option, value, expected) in [
            ("com.docker.network.driver.mtu", "big", "invalid value \"big\""),
            ("com.docker.network.bridge.name", "a-very-long-name", "invalid bridge name"),
            ("com.docker.network.bridge.name", "lo", "the device lo exists and is not"),
            ("com.docker.network.bridge.name", "rbuild0", "is already used by network bridge"),
            ("com.docker.network.bridge.enable_ip_masquerade", "x", "invalid value \"x\""),
        ] {
            let options = BTreeMap::from([(option.to_owned(), value.to_owned())]);
            check(NetworkRequest { options, ..named("a") }, expected);
        }
        assert_eq!(store.list().unwrap().len(), 3, "nothing half made is left");
        let host = store.find("host").unwrap();
        let error = store.remove(&host).unwrap_err().to_string();
        assert_eq!(error, "host is a pre-defined network and cannot be removed");
    }

    #[test]
    fn two_stores_never_choose_one_subnet() {
        let machine = machine();
        let [one, two] = &machine.stores;
        let first = one.create(&named("a")).unwrap();
        let second = two.create(&named("a")).unwrap();
        assert!(!first.subnets().0.unwrap().overlaps(&second.subnets().0.unwrap()));
        let taken = first.subnets().0.unwrap().to_string();
        let error = two.create(&with_subnet("b", &taken)).unwrap_err().to_string();
        assert_eq!(error, "Pool overlaps with other one on this address space");
        one.remove(&first).unwrap();
        two.create(&with_subnet("b", &taken)).unwrap();
    }

    #[test]
    fn a_definition_has_docker_s_shape() {
        let machine = machine();
        let made = machine.stores[0].create(&with_subnet("a", "10.77.0.0/24")).unwrap();
        let json = serde_json::to_value(&made).unwrap();
        let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "Name",
                "Id",
                "Created",
                "Scope",
                "Driver",
                "EnableIPv4",
                "EnableIPv6",
                "IPAM",
                "Internal",
                "Attachable",
                "Ingress",
                "ConfigFrom",
                "ConfigOnly",
                "Containers",
                "Options",
                "Labels"
            ]
        );
        assert_eq!(
            json["IPAM"],
            serde_json::json!({
                "Driver": "default",
                "Options": {},
                "Config": [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1"}],
            })
        );
    }

    #[test]
    fn prune_takes_what_is_chosen_and_unused() {
        let machine = machine();
        let store = &machine.stores[0];
        for name in ["a", "b"] {
            store.create(&named(name)).unwrap();
        }
        assert_eq!(store.prune(|definition| definition.name == "b").unwrap(), ["b"]);
        assert_eq!(store.prune(|_| true).unwrap(), ["a"]);
    }
}
