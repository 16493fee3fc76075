//! Containers on user-made networks: who has which address, and who reaches whom.

use super::*;
use crate::network::{
    Definitions, Dns, Endpoint, EndpointRequest, NetworkDefinition, NetworkRequest, Ports,
    parse_publish, record,
};

/// A store with the machine's runtime directory.
pub(super) struct Machine<'a> {
    pub(super) runtime: &'a Path,
    pub(super) store: Definitions,
    pub(super) world: &'a NetworkNamespace,
    _root: tempfile::TempDir,
}

/// As [`on_machine`], with a store, and fails if a bridge is left once its network is removed.
pub(super) fn on_machine_with_store(test: impl FnOnce(&Machine<'_>) + Send) {
    on_machine(|runtime, world| {
        let root = tempfile::tempdir().unwrap();
        let store = Definitions::new(root.path(), runtime);
        let machine = Machine { runtime, store, world, _root: root };
        test(&machine);
        for definition in machine.store.list().unwrap() {
            if !definition.is_predefined() {
                remove(&machine, &definition);
            }
        }
        sweep_all(runtime);
        let left = link::list(&Socket::route().unwrap()).unwrap();
        assert!(!left.iter().any(|link| link.name.starts_with("br-")), "{left:?}");
        let tables = nat::all_tables();
        assert!(!tables.iter().any(|table| table.starts_with("br-")), "{tables:?}");
    });
}

/// A process that another test is starting has all our descriptors until it executes.
fn remove(machine: &Machine<'_>, definition: &NetworkDefinition) {
    machine.store.remove(definition).unwrap();
    let socket = Socket::route().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while link::find(&socket, &definition.bridge_name()).unwrap().is_some() {
        assert!(Instant::now() < deadline, "the bridge is left");
        sweep(machine.runtime).unwrap();
    }
}

impl Machine<'_> {
    pub(super) fn network(&self, name: &str) -> NetworkDefinition {
        self.store.create(&NetworkRequest { name: name.into(), ..Default::default() }).unwrap()
    }

    pub(super) fn connect(
        &self,
        network: &NetworkDefinition,
        namespace: &NetworkNamespace,
        name: &str,
    ) -> Endpoint {
        self.try_connect(network, namespace, &request(name)).unwrap()
    }

    fn try_connect(
        &self,
        network: &NetworkDefinition,
        namespace: &NetworkNamespace,
        request: &EndpointRequest,
    ) -> Result<Endpoint, String> {
        Endpoint::connect(self.runtime, network, namespace, request)
            .map_err(|error| error.to_string())
    }
}

pub(super) fn request(name: &str) -> EndpointRequest {
    EndpointRequest {
        container: format!("{name:0<64}"),
        name: name.to_owned(),
        ..EndpointRequest::default()
    }
}

pub(super) fn namespace() -> NetworkNamespace {
    NetworkNamespace::new(false).unwrap()
}

fn reaches(from: &NetworkNamespace, to: &NetworkNamespace, address: impl Into<IpAddr>) -> bool {
    connect(from, &listen(to, address.into())).is_ok()
}

#[test]
fn containers_reach_each_other_on_one_network_only() {
    on_machine_with_store(|machine| {
        let (front, back) = (machine.network("front"), machine.network("back"));
        let (web, db, other) = (namespace(), namespace(), namespace());
        let web_front = machine.connect(&front, &web, "web");
        let db_back = machine.connect(&back, &db, "db");
        let other_front = machine.connect(&front, &other, "other");
        assert!(reaches(&other, &web, web_front.record().ipv4));
        assert!(!reaches(&db, &web, web_front.record().ipv4));
        assert!(reaches(&web, machine.world, WORLD[0].parse::<IpAddr>().unwrap()));

        let web_back = machine.connect(&back, &web, "web");
        assert_eq!(web_back.record().device, "eth1");
        assert!(reaches(&web, &db, db_back.record().ipv4));
        web_back.disconnect().unwrap();
        assert_eq!(web.devices().unwrap(), ["lo", "eth0"]);
        assert!(!reaches(&web, &db, db_back.record().ipv4));

        // The way out goes over the network that is left.
        let web_back = machine.connect(&back, &web, "web");
        web_front.disconnect().unwrap();
        web_back.route_by_default(&web).unwrap();
        assert!(reaches(&web, machine.world, WORLD[0].parse::<IpAddr>().unwrap()));
        drop((other_front, db_back, web_back));
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    on_machine_with_store(|machine| {
        let internal = machine
            .store
            .create(&NetworkRequest { name: "in".into(), internal: true, ..Default::default() })
            .unwrap();
        let (one, two) = (namespace(), namespace());
        let first = machine.connect(&internal, &one, "one");
        let _second = machine.connect(&internal, &two, "two");
        assert!(reaches(&two, &one, first.record().ipv4));
        let world: IpAddr = WORLD[0].parse().unwrap();
        assert!(!reaches(&two, machine.world, world));
        // Not even for who makes a way.
        two.transact(vec![link::add_default_route(first.record().gateway.into())]).unwrap();
        assert!(!reaches(&two, machine.world, world));
        // Another network is the way out then.
        let open = machine.network("open");
        let _third = machine.connect(&open, &one, "one");
        assert!(reaches(&one, machine.world, world));
    });
}

#[test]
fn an_address_that_is_asked_for_is_had_by_one() {
    on_machine_with_store(|machine| {
        let mut wanted = NetworkRequest { name: "fixed".into(), ..Default::default() };
        wanted.addresses.subnets.push("10.77.0.0/24".into());
        wanted.addresses.subnets.push("fd00:77::/64".into());
        wanted.addresses.ipv6 = true;
        wanted.addresses.ip_ranges.push("10.77.0.128/29".into());
        wanted.addresses.gateways.push("10.77.0.254".into());
        wanted.addresses.auxiliary_addresses.insert("router".into(), "10.77.0.130".into());
        let network = machine.store.create(&wanted).unwrap();
        let (one, two) = (namespace(), namespace());
        let mut fixed = request("one");
        fixed.ipv4 = Some("10.77.0.9".parse().unwrap());
        fixed.ipv6 = Some("fd00:77::abcd:1".parse().unwrap());
        fixed.mac = Some([0x02, 0, 0, 0, 0, 9]);
        let first = machine.try_connect(&network, &one, &fixed).unwrap();
        let record = first.record();
        assert_eq!((Some(record.ipv4), record.ipv6), (fixed.ipv4, fixed.ipv6));
        assert_eq!(record.gateway.to_string(), "10.77.0.254");
        assert_eq!(record.mac_text(), "02:00:00:00:00:09");

        let refused = |ipv4: Option<&str>, ipv6: Option<&str>| {
            let mut wanted = request("two");
            wanted.ipv4 = ipv4.map(|address| address.parse().unwrap());
            wanted.ipv6 = ipv6.map(|address| address.parse().unwrap());
            machine.try_connect(&network, &two, &wanted).err().unwrap()
        };
        for address in ["10.77.0.9", "10.77.0.254", "10.77.0.130", "10.77.0.0", "10.77.0.255"] {
            let error = refused(Some(address), None);
            assert_eq!(error, format!("{address}: Address already in use"));
        }
        let error = refused(Some("10.77.0.10"), Some("fd00:77::abcd:1"));
        assert_eq!(error, "fd00:77::abcd:1: Address already in use");
        let outside = "no configured subnet contains IP address 10.78.0.1";
        assert_eq!(refused(Some("10.78.0.1"), None), outside);

        let second = machine.connect(&network, &two, "two");
        assert_eq!(second.record().ipv4.to_string(), "10.77.0.128", "the first of the range");
        assert!(reaches(&two, &one, record.ipv4));
        assert!(reaches(&two, &one, record.ipv6.unwrap()));
        assert!(reaches(&two, machine.world, WORLD[1].parse::<IpAddr>().unwrap()));
        drop(first);
        let mut again = request("three");
        again.ipv4 = fixed.ipv4;
        machine.try_connect(&network, &namespace(), &again).unwrap();
    });
}

#[test]
fn addresses_run_out_and_nothing_is_left() {
    on_machine_with_store(|machine| {
        let mut small = NetworkRequest { name: "small".into(), ..Default::default() };
        small.addresses.subnets.push("10.78.0.0/29".into());
        let network = machine.store.create(&small).unwrap();
        let namespaces: Vec<_> = (0..6).map(|_| namespace()).collect();
        let mut endpoints: Vec<_> = namespaces[..5]
            .iter()
            .enumerate()
            .map(|(index, namespace)| machine.connect(&network, namespace, &format!("c{index}")))
            .collect();
        let error = machine.try_connect(&network, &namespaces[5], &request("last")).err().unwrap();
        assert_eq!(error, "no address is free in 10.78.0.0/29");
        assert_eq!(namespaces[5].devices().unwrap(), ["lo"]);
        assert_eq!(machine.store.users(&network).unwrap().len(), 5);
        let inspected = machine.store.inspect(network.clone()).unwrap();
        assert_eq!(inspected.containers.len(), 5);
        let error = machine.store.remove(&network).unwrap_err().to_string();
        let expected = "network small has active endpoints (name:\"c0\" id:\"c00000000000\", ";
        assert!(error.starts_with(expected), "{error}");
        endpoints.remove(2);
        machine.connect(&network, &namespaces[5], "last");
    });
}

#[test]
fn a_running_container_is_connected_by_its_path() {
    on_machine_with_store(|machine| {
        let network = machine.network("late");
        let running = namespace();
        let opened = NetworkNamespace::open(&running.path()).unwrap();
        let mut endpoint = machine.connect(&network, &opened, "one");
        assert_eq!(running.devices().unwrap(), ["lo", "eth0"]);
        endpoint.rename("two", &["alias".to_owned()]).unwrap();
        let known = record::live(&endpoint.directory()).unwrap();
        assert_eq!(known[0].names, ["two", "alias"]);
        let missing = NetworkNamespace::open(Path::new("/nowhere")).err().unwrap();
        assert_eq!(missing.to_string(), "open the network namespace /nowhere");
    });
}

#[test]
fn the_default_bridge_has_no_fixed_addresses_and_no_names() {
    on_machine_with_store(|machine| {
        let network = machine.store.find("bridge").unwrap();
        assert!(!network.has_dns());
        let (one, two) = (namespace(), namespace());
        let mut fixed = request("one");
        fixed.ipv4 = Some("172.30.0.9".parse().unwrap());
        let error = machine.try_connect(&network, &one, &fixed).err().unwrap();
        assert_eq!(error, "user specified IP address is supported on user defined networks only");
        let first = machine.connect(&network, &one, "one");
        let _second = machine.connect(&network, &two, "two");
        assert!(reaches(&two, &one, first.record().ipv4));
        let inspected = machine.store.inspect(network.clone()).unwrap();
        assert_eq!(inspected.containers.len(), 2);
        assert_eq!(inspected.ipam.config[0].subnet, "172.30.0.0/16");
        for name in ["host", "none"] {
            let other = machine.store.find(name).unwrap();
            assert!(machine.try_connect(&other, &one, &request("one")).is_err());
        }
    });
}

#[test]
fn a_network_goes_only_when_the_last_has_left() {
    on_machine_with_store(|machine| {
        let network = machine.network("busy");
        let one = namespace();
        let endpoint = machine.connect(&network, &one, "one");
        assert!(machine.store.prune(|_| true).unwrap().is_empty());
        assert!(machine.store.remove(&network).is_err());
        endpoint.disconnect().unwrap();
        machine.store.remove(&network).unwrap();
        assert_eq!(one.devices().unwrap(), ["lo"]);
    });
}

#[test]
fn a_removed_network_is_not_made_again_by_who_knew_it() {
    on_machine_with_store(|machine| {
        let network = machine.network("gone");
        machine.store.remove(&network).unwrap();
        let error = machine.try_connect(&network, &namespace(), &request("one")).err().unwrap();
        assert!(error.starts_with("the network was removed"), "{error}");
        sweep(machine.runtime).unwrap();
        assert!(!machine.runtime.join(network.bridge_name()).exists());
    });
}

#[test]
fn who_removes_and_who_connects_at_once_leave_nothing() {
    on_machine_with_store(|machine| {
        let own = fs_err::File::open("/proc/thread-self/ns/net").unwrap();
        let enter = || {
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        };
        for round in 0..40_u64 {
            let network = machine.network("short");
            let start = std::sync::Barrier::new(5);
            thread::scope(|scope| {
                for index in 0..2 {
                    scope.spawn(|| {
                        enter();
                        start.wait();
                        thread::sleep(Duration::from_micros(round % 8 * 200));
                        let _ = machine.store.remove(&network);
                    });
                    let (network, start) = (&network, &start);
                    scope.spawn(move || {
                        enter();
                        let (namespace, name) = (namespace(), format!("c{index}"));
                        start.wait();
                        drop(machine.try_connect(network, &namespace, &request(&name)));
                    });
                }
                scope.spawn(|| {
                    enter();
                    start.wait();
                    sweep(machine.runtime).unwrap();
                });
            });
            // Who connected first was in the way of both who would remove it.
            if machine.store.find("short").is_ok() {
                remove(machine, &network);
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                sweep(machine.runtime).unwrap();
                match crate::network::files::names(machine.runtime).unwrap() {
                    left if left.is_empty() => break,
                    left => assert!(Instant::now() < deadline, "round {round}: {left:?}"),
                }
            }
        }
    });
}

#[test]
fn a_network_that_took_another_s_name_has_not_its_bridge() {
    on_machine_with_store(|machine| {
        let first = machine.network("name");
        let directory = machine.runtime.join(first.bridge_name());
        let reservation = fs_err::read(directory.join("reservation")).unwrap();
        machine.store.remove(&first).unwrap();
        let second = machine.network("name");
        let refused = machine.try_connect(&first, &namespace(), &request("late"));
        assert!(refused.is_err_and(|error| error.starts_with("the network was removed")));
        assert!(!directory.exists());
        let error = machine.store.remove(&first).unwrap_err().to_string();
        assert!(error.contains("not found"), "{error}");
        assert!(!directory.exists() && machine.store.find("name").is_ok());

        // As one that was killed while it removed the network leaves it.
        fs_err::create_dir_all(&directory).unwrap();
        fs_err::write(directory.join("reservation"), reservation).unwrap();
        sweep(machine.runtime).unwrap();
        assert!(!directory.exists() && machine.runtime.join(second.bridge_name()).exists());
    });
}

#[test]
fn sixteen_connect_at_once() {
    on_machine_with_store(|machine| {
        let network = machine.network("many");
        let (one, start) = (namespace(), Instant::now());
        let endpoint = machine.connect(&network, &one, "first");
        let connected = start.elapsed();
        let ports = Ports::reserve(&parse_publish("80").unwrap(), None).unwrap();
        ports.publish(&endpoint).unwrap();
        let published = start.elapsed() - connected;
        let dns = Dns::serve(&one, Vec::new(), Vec::new()).unwrap();
        let served = start.elapsed() - connected - published;
        drop((dns, ports, endpoint));
        let _ = writeln!(
            std::io::stdout(),
            "the bridge made and one connected in {connected:?}, a port published in \
             {published:?}, names served in {served:?}",
        );
        let start = Instant::now();
        let own = fs_err::File::open("/proc/thread-self/ns/net").unwrap();
        let addresses: BTreeSet<_> = thread::scope(|scope| {
            let connectors: Vec<_> = (0..16)
                .map(|index| {
                    let (network, own) = (&network, &own);
                    scope.spawn(move || {
                        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))
                            .unwrap();
                        let namespace = namespace();
                        let name = format!("c{index}");
                        let endpoint = Endpoint::connect(
                            machine.runtime,
                            network,
                            &namespace,
                            &request(&name),
                        )
                        .unwrap();
                        (endpoint.record().ipv4, endpoint, namespace)
                    })
                })
                .collect();
            let done: Vec<_> = connectors.into_iter().map(|one| one.join().unwrap()).collect();
            done.iter().map(|(address, ..)| *address).collect()
        });
        assert_eq!(addresses.len(), 16);
        let _ = writeln!(std::io::stdout(), "16 connected in {:?}", start.elapsed());
    });
}
