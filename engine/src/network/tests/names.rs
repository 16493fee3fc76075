//! The name server inside a container.

use std::net::UdpSocket;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, TYPE};

use super::endpoints::{Machine, namespace, on_machine_with_store, request};
use super::*;
use crate::network::{Dns, Endpoint, NetworkDefinition, Zone};

const SERVER: &str = "127.0.0.11:53";

fn zone(network: &NetworkDefinition, endpoint: &Endpoint) -> Zone {
    Zone {
        network: network.name.clone(),
        directory: endpoint.directory(),
        leads_outside: endpoint.leads_outside(),
    }
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut query = Packet::new_query(77);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).unwrap().into_owned();
    query.questions.push(Question::new(name, QTYPE::TYPE(kind), CLASS::IN.into(), false));
    query.build_bytes_vec().unwrap()
}

fn text(reply: &[u8]) -> String {
    let reply = Packet::parse(reply).unwrap();
    assert_eq!(reply.id(), 77);
    if reply.rcode() != RCODE::NoError {
        return format!("{:?}", reply.rcode());
    }
    let one = |record: &ResourceRecord<'_>| match &record.rdata {
        RData::A(address) => Ipv4Addr::from(address.address).to_string(),
        RData::PTR(name) => name.0.to_string(),
        other => format!("{other:?}"),
    };
    let mut all: Vec<_> = reply.answers.iter().map(one).collect();
    all.sort();
    all.join(" ")
}

fn ask(namespace: &NetworkNamespace, name: &str, kind: TYPE) -> String {
    inside(namespace, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.connect(SERVER).unwrap();
        socket.send(&query(name, kind)).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        text(&buffer[..length])
    })
}

fn ask_tcp(namespace: &NetworkNamespace, name: &str, kind: TYPE) -> String {
    inside(namespace, || {
        let mut stream = TcpStream::connect(SERVER).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let query = query(name, kind);
        // In two parts, as a slow client may send it.
        let framed = [&(query.len() as u16).to_be_bytes(), query.as_slice()].concat();
        stream.write_all(&framed[..5]).unwrap();
        thread::sleep(Duration::from_millis(10));
        stream.write_all(&framed[5..]).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply).unwrap();
        text(&reply)
    })
}

/// A name server of the world: says 192.0.2.53 for every name but those of one label, which it does
/// not know. Over UDP names that begin with `large` are cut. It ends with the test's process.
fn outside() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    let reply = |query: &[u8], is_udp: bool| {
        let query = Packet::parse(query).unwrap();
        let mut reply = Packet::new_reply(query.id());
        reply.questions.clone_from(&query.questions);
        let name = query.questions[0].qname.clone();
        if !name.to_string().contains('.') {
            *reply.rcode_mut() = RCODE::NameError;
        } else if is_udp && name.to_string().starts_with("large") {
            reply.set_flags(PacketFlag::TRUNCATION);
        } else {
            let data = RData::A(A::from(Ipv4Addr::new(192, 0, 2, 53)));
            reply.answers.push(ResourceRecord::new(name, CLASS::IN, 1, data));
        }
        reply.build_bytes_vec().unwrap()
    };
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&reply(&buffer[..length], true), from).unwrap();
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            let reply = reply(&query, false);
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    address
}

fn two_on_a_network(
    machine: &Machine<'_>,
) -> (NetworkDefinition, [NetworkNamespace; 2], [Endpoint; 2]) {
    let network = machine.network("front");
    let namespaces = [namespace(), namespace()];
    let endpoints = ["web", "db"].map(|name| {
        let mut request = request(name);
        request.aliases.push("both".to_owned());
        let namespace = &namespaces[usize::from(name == "db")];
        Endpoint::connect(machine.runtime, &network, namespace, &request).unwrap()
    });
    (network, namespaces, endpoints)
}

#[test]
fn containers_find_each_other_and_the_world() {
    on_machine_with_store(|machine| {
        let (network, [web, _other], [web_endpoint, db_endpoint]) = two_on_a_network(machine);
        let zones = vec![zone(&network, &web_endpoint)];
        let dns = Dns::serve(&web, zones, vec![outside()]).unwrap();
        // The container's own server has the port.
        let _own = inside(&web, || UdpSocket::bind("0.0.0.0:53").unwrap());
        let [web_address, db_address] =
            [&web_endpoint, &db_endpoint].map(|endpoint| endpoint.record().ipv4.to_string());
        let both = format!("{web_address} {db_address}");
        assert_eq!(ask(&web, "db", TYPE::A), db_address);
        assert_eq!(ask(&web, "web", TYPE::A), web_address, "itself");
        assert_eq!(ask(&web, "both", TYPE::A), both);
        assert_eq!(ask(&web, "db.front", TYPE::A), db_address);
        assert_eq!(ask(&web, "db", TYPE::AAAA), "");
        assert_eq!(ask_tcp(&web, "db", TYPE::A), db_address);
        let [a, b, c, d] = db_endpoint.record().ipv4.octets();
        assert_eq!(ask(&web, &format!("{d}.{c}.{b}.{a}.in-addr.arpa"), TYPE::PTR), "db.front");
        assert_eq!(ask(&web, "example.org", TYPE::A), "192.0.2.53");
        assert_eq!(ask(&web, "nobody", TYPE::A), "NameError");
        assert_eq!(ask(&web, "large.org", TYPE::A), "", "the client is told to ask over TCP");
        assert_eq!(ask_tcp(&web, "large.org", TYPE::A), "192.0.2.53");

        // Who leaves is forgotten, who comes is known, at once.
        drop(db_endpoint);
        assert_eq!(ask(&web, "db", TYPE::A), "NameError");
        let late = namespace();
        let endpoint = machine.connect(&network, &late, "late");
        assert_eq!(ask(&web, "late", TYPE::A), endpoint.record().ipv4.to_string());
        dns.set_zones(Vec::new());
        assert_eq!(ask(&web, "late", TYPE::A), "ServerFailure");
        dns.set_zones(vec![zone(&network, &web_endpoint)]);
        assert_eq!(ask(&web, "late", TYPE::A), endpoint.record().ipv4.to_string());
    });
}

#[test]
fn a_silent_server_blocks_nobody() {
    on_machine_with_store(|machine| {
        let (network, [web, _other], [web_endpoint, _db]) = two_on_a_network(machine);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let servers = vec![silent.local_addr().unwrap(), outside()];
        let _dns = Dns::serve(&web, vec![zone(&network, &web_endpoint)], servers).unwrap();
        thread::scope(|scope| {
            let start = Instant::now();
            let slow: Vec<_> = (0..8)
                .map(|index| {
                    let web = &web;
                    scope.spawn(move || ask(web, &format!("h{index}.org"), TYPE::A))
                })
                .collect();
            thread::sleep(Duration::from_millis(50));
            assert_ne!(ask(&web, "db", TYPE::A), "");
            assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
            for one in slow {
                assert_eq!(one.join().unwrap(), "192.0.2.53", "the next server has answered");
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        });
    });
}

#[test]
fn an_internal_network_asks_nobody_outside() {
    on_machine_with_store(|machine| {
        let (network, [web, _other], [web_endpoint, _db]) = two_on_a_network(machine);
        let zone = Zone { leads_outside: false, ..zone(&network, &web_endpoint) };
        let _dns = Dns::serve(&web, vec![zone], vec![outside()]).unwrap();
        assert_ne!(ask(&web, "db", TYPE::A), "");
        assert_eq!(ask(&web, "example.org", TYPE::A), "ServerFailure");
    });
}
