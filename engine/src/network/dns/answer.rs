//! Answers about containers: names to addresses and back, from the records of the networks.
//!
//! Questions in, answers out. Does not know sockets, nor what is outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, PTR, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::network::record::EndpointRecord;

/// Seconds for which an answer may be kept, docker's.
const TTL: u32 = 600;
/// What a client takes over UDP if it says nothing (RFC 1035).
const SMALLEST: u16 = 512;
const REVERSE_IPV4: &str = ".in-addr.arpa";
const REVERSE_IPV6: &str = ".ip6.arpa";

/// A network's containers.
pub(super) struct Names {
    /// The network's name.
    pub(super) network: String,
    pub(super) records: Vec<EndpointRecord>,
}

/// How long an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The answer to a question about a container; none where somebody else must be asked. `turn` is
/// what rotates the addresses of a name that several containers have.
pub(super) fn answer(
    query: &Packet<'_>,
    networks: &[Names],
    turn: usize,
    transport: Transport,
) -> Option<Vec<u8>> {
    let question = query.questions.first()?;
    if question.qclass != QCLASS::CLASS(CLASS::IN) {
        return None;
    }
    let name = question.qname.to_string().to_ascii_lowercase();
    let mut data: Vec<RData<'_>> = match question.qtype {
        QTYPE::TYPE(TYPE::A) => {
            let records = find(&name, networks)?;
            records.iter().map(|record| RData::A(A::from(record.ipv4))).collect()
        }
        QTYPE::TYPE(TYPE::AAAA) => {
            let records = find(&name, networks)?.into_iter();
            records.filter_map(|record| Some(RData::AAAA(AAAA::from(record.ipv6?)))).collect()
        }
        QTYPE::TYPE(TYPE::PTR) => {
            let target = reverse(&name, networks)?;
            vec![RData::PTR(PTR(Name::new(&target).ok()?.into_owned()))]
        }
        _ => return None,
    };
    if !data.is_empty() {
        let by = turn % data.len();
        data.rotate_left(by);
    }
    let mut reply = reply(query, RCODE::NoError);
    let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
    reply.answers = data.into_iter().map(record).collect();
    let limit = match transport {
        Transport::Udp => query.opt().map_or(SMALLEST, |opt| opt.udp_packet_size).max(SMALLEST),
        Transport::Tcp => u16::MAX,
    };
    Some(fitting(reply, limit.into()))
}

/// An answer that says only what went wrong.
pub(super) fn failure(query: &Packet<'_>, code: RCODE) -> Vec<u8> {
    fitting(reply(query, code), usize::from(SMALLEST))
}

fn reply<'a>(query: &Packet<'a>, code: RCODE) -> Packet<'a> {
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    *reply.rcode_mut() = code;
    reply.questions.clone_from(&query.questions);
    reply
}

/// The bytes of an answer, without what is beyond the limit; a client that is told so asks again
/// over TCP.
fn fitting(mut reply: Packet<'_>, limit: usize) -> Vec<u8> {
    loop {
        let bytes = reply.build_bytes_vec_compressed().unwrap_or_default();
        if bytes.len() <= limit || reply.answers.is_empty() {
            return bytes;
        }
        reply.set_flags(PacketFlag::TRUNCATION);
        // Compressed, each address takes 16 or 28 bytes.
        let surplus = (bytes.len() - limit).div_ceil(28);
        reply.answers.truncate(reply.answers.len().saturating_sub(surplus));
    }
}

/// The containers of the first network that has the name, alone or with the network's behind it;
/// none where nobody has it.
fn find<'a>(name: &str, networks: &'a [Names]) -> Option<Vec<&'a EndpointRecord>> {
    let of = |network: &'a Names, name: &str| -> Vec<&'a EndpointRecord> {
        let has = |record: &&EndpointRecord| {
            record.names.iter().any(|own| own.eq_ignore_ascii_case(name))
        };
        network.records.iter().filter(has).collect()
    };
    let whole = networks.iter().map(|network| of(network, name));
    let (host, behind) = name.rsplit_once('.').unwrap_or((name, ""));
    let named = networks.iter().filter(|network| network.network.eq_ignore_ascii_case(behind));
    whole.chain(named.map(|network| of(network, host))).find(|records| !records.is_empty())
}

/// The name that goes with an address, as docker has it: `<container>.<network>`.
fn reverse(name: &str, networks: &[Names]) -> Option<String> {
    let address = reverse_address(name)?;
    networks.iter().find_map(|network| {
        let has = |record: &&EndpointRecord| {
            IpAddr::V4(record.ipv4) == address || record.ipv6.map(IpAddr::V6) == Some(address)
        };
        let record = network.records.iter().find(has)?;
        Some(format!("{}.{}", record.names.first()?, network.network))
    })
}

fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(REVERSE_IPV4) {
        let mut bytes = [0; 4];
        let mut parts = digits.rsplit('.');
        for byte in &mut bytes {
            *byte = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(bytes).into());
    }
    let mut number = 0;
    let mut count = 0;
    for digit in name.strip_suffix(REVERSE_IPV6)?.rsplit('.') {
        number = number << 4 | u128::from_str_radix(digit, 16).ok()?;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::tests::record;
    use simple_dns::Question;

    fn networks() -> Vec<Names> {
        let mut web = record("c1", 2, &["web", "www"]);
        web.ipv6 = Some("fd00::2".parse().unwrap());
        let replica = record("c2", 3, &["web2", "www"]);
        let db = record("c3", 9, &["db.main"]);
        vec![
            Names { network: "front".to_owned(), records: vec![web, replica] },
            Names { network: "back".to_owned(), records: vec![db, record("c4", 10, &["web"])] },
        ]
    }

    fn ask(name: &str, kind: TYPE, turn: usize) -> String {
        let mut query = Packet::new_query(7);
        query.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new(name).unwrap();
        query.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
        let Some(bytes) = answer(&query, &networks(), turn, Transport::Udp) else {
            return "outside".to_owned();
        };
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!((reply.id(), reply.rcode()), (7, RCODE::NoError));
        assert!(reply.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE));
        let text = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(address) => Ipv4Addr::from(address.address).to_string(),
            RData::AAAA(address) => Ipv6Addr::from(address.address).to_string(),
            RData::PTR(name) => name.0.to_string(),
            other => format!("{other:?}"),
        };
        reply.answers.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn containers_are_found_by_all_their_names() {
        assert_eq!(ask("web", TYPE::A, 0), "172.18.0.2");
        assert_eq!(ask("WEB", TYPE::A, 0), "172.18.0.2");
        assert_eq!(ask("www", TYPE::A, 0), "172.18.0.2 172.18.0.3");
        assert_eq!(ask("www", TYPE::A, 1), "172.18.0.3 172.18.0.2");
        assert_eq!(ask("www", TYPE::AAAA, 0), "fd00::2");
        assert_eq!(ask("web.back", TYPE::A, 0), "172.18.0.10");
        assert_eq!(ask("db.main", TYPE::A, 0), "172.18.0.9");
        assert_eq!(ask("db.main.back", TYPE::A, 0), "172.18.0.9");
        assert_eq!(ask("db.main", TYPE::AAAA, 0), "", "there is such a name, without IPv6");
        assert_eq!(ask("web.nowhere", TYPE::A, 0), "outside");
        assert_eq!(ask("web", TYPE::MX, 0), "outside");
    }

    #[test]
    fn addresses_are_found_backwards() {
        assert_eq!(ask("2.0.18.172.in-addr.arpa", TYPE::PTR, 0), "web.front");
        let ipv6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(ask(ipv6, TYPE::PTR, 0), "web.front");
        assert_eq!(ask("9.9.9.9.in-addr.arpa", TYPE::PTR, 0), "outside");
        assert_eq!(ask("1.2.3.in-addr.arpa", TYPE::PTR, 0), "outside");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said_to_be() {
        let many = (2..200).map(|offset| record(&offset.to_string(), offset, &["x"])).collect();
        let networks = [Names { network: "n".to_owned(), records: many }];
        let mut query = Packet::new_query(1);
        let name = Name::new("x").unwrap();
        query.questions.push(Question::new(name, TYPE::A.into(), CLASS::IN.into(), false));
        let udp = answer(&query, &networks, 0, Transport::Udp).unwrap();
        let cut = Packet::parse(&udp).unwrap();
        assert!(udp.len() <= 512 && cut.answers.len() > 20, "{}", cut.answers.len());
        assert!(cut.has_flags(PacketFlag::TRUNCATION));
        let tcp = answer(&query, &networks, 0, Transport::Tcp).unwrap();
        assert_eq!(Packet::parse(&tcp).unwrap().answers.len(), 198);
    }
}
