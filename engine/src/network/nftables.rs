//! The language of nf_tables: tables, chains and rules as netlink requests
//! (`linux/netfilter/nf_tables.h`).
//!
//! A rule is a list of expressions that work on one register. Does not know what a rule is for.

use super::netlink::{Attributes, Message, Refusal, Reply, Socket};
use super::subnet::{Address, Subnet};

// Attributes, which libc leaves out.
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_ADDRESS: u16 = 3;
const NFTA_NAT_PORT: u16 = 5;
/// What the routing tables are asked about a packet: the kind of the address it is for.
const FIB_ADDRESS_KIND: i32 = 3;
const FIB_OF_DESTINATION: i32 = 2;
/// A change of the destination.
const NAT_DESTINATION: i32 = 1;
/// The register that expressions work on, and the one that is the verdict.
const REGISTER: i32 = libc::NFT_REG_1;
/// A second one, for what takes two values.
const SECOND: i32 = libc::NFT_REG_2;
const VERDICT: i32 = libc::NFT_REG_VERDICT;
/// Conntrack's states as nf_tables' bits: established, or related to an established one.
const ESTABLISHED_OR_RELATED: u32 = 0b110;
/// Conntrack's status bit of a connection whose destination was changed (`IPS_DST_NAT`).
const REDIRECTED: u32 = 1 << 5;
/// Bytes of `struct nfgenmsg`.
const NFGENMSG: usize = 4;
/// The longest device name, with the zero byte that ends it.
const IFNAMSIZ: usize = 16;
/// The kind of user data that a listing shows as the rule's comment.
const COMMENT: u8 = 0;

/// The packets a table sees.
#[derive(Clone, Copy)]
pub(super) enum Family {
    Inet = libc::NFPROTO_INET as isize,
    Ipv4 = libc::NFPROTO_IPV4 as isize,
    Ipv6 = libc::NFPROTO_IPV6 as isize,
}

/// A chain's place: the family and name of its table, and its own name.
#[derive(Clone, Copy)]
pub(super) struct Chain<'a> {
    pub(super) family: Family,
    pub(super) table: &'a str,
    pub(super) name: &'a str,
}

/// Which packets a chain gets, when, and what becomes of those that no rule decides about.
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: i32,
    pub(super) priority: i32,
    pub(super) policy: i32,
}

/// The device a rule asks for.
#[derive(Clone, Copy)]
pub(super) enum Device {
    Input = libc::NFT_META_IIFNAME as isize,
    Output = libc::NFT_META_OIFNAME as isize,
}

/// How a rule compares.
#[derive(Clone, Copy)]
pub(super) enum Comparison {
    Equal = 0,
    Different = 1,
}

/// Which of a packet's addresses a rule asks for.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// The names of all tables of a family.
pub(super) fn tables(socket: &Socket, family: Family) -> Result<Vec<String>, Refusal> {
    let list = request("list the firewall's tables", libc::NFT_MSG_GETTABLE, 0, family);
    let name = |reply: &Reply| reply.attributes(NFGENMSG).text(NFTA_TABLE_NAME).map(str::to_owned);
    Ok(socket.dump(list)?.iter().filter_map(name).collect())
}

pub(super) fn table_exists(socket: &Socket, family: Family, name: &str) -> Result<bool, Refusal> {
    let message = request("look for the table", libc::NFT_MSG_GETTABLE, 0, family)
        .text(NFTA_TABLE_NAME, name);
    Ok(socket.get(message)?.is_some())
}

pub(super) fn new_table(family: Family, name: &str) -> Message {
    request("create the firewall's table", libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, family)
        .text(NFTA_TABLE_NAME, name)
}

pub(super) fn delete_table(family: Family, name: &str) -> Message {
    request("delete the firewall's table", libc::NFT_MSG_DELTABLE, 0, family)
        .text(NFTA_TABLE_NAME, name)
}

impl Chain<'_> {
    pub(super) fn exists(&self, socket: &Socket) -> Result<bool, Refusal> {
        let message = request("look for the chain", libc::NFT_MSG_GETCHAIN, 0, self.family)
            .text(NFTA_CHAIN_TABLE, self.table)
            .text(NFTA_CHAIN_NAME, self.name);
        Ok(socket.get(message)?.is_some())
    }

    pub(super) fn create(&self, hook: &Hook) -> Message {
        let create = libc::NLM_F_CREATE;
        request("create the firewall's chain", libc::NFT_MSG_NEWCHAIN, create, self.family)
            .text(NFTA_CHAIN_TABLE, self.table)
            .text(NFTA_CHAIN_NAME, self.name)
            .nest(NFTA_CHAIN_HOOK, |message| {
                let message = number(message, NFTA_HOOK_HOOKNUM, hook.number);
                number(message, NFTA_HOOK_PRIORITY, hook.priority)
            })
            .attribute(NFTA_CHAIN_POLICY, &hook.policy.to_be_bytes())
            .text(NFTA_CHAIN_TYPE, hook.kind)
    }

    /// A rule behind those that are there.
    pub(super) fn append(&self, rule: impl FnOnce(Rule) -> Rule) -> Message {
        self.rule(libc::NLM_F_CREATE | libc::NLM_F_APPEND, rule)
    }

    /// A rule in front of those that are there, with a comment.
    pub(super) fn insert(&self, comment: &str, rule: impl FnOnce(Rule) -> Rule) -> Message {
        self.rule(libc::NLM_F_CREATE, rule).attribute(NFTA_RULE_USERDATA, &user_data(comment))
    }

    fn rule(&self, flags: i32, rule: impl FnOnce(Rule) -> Rule) -> Message {
        request("create the firewall's rule", libc::NFT_MSG_NEWRULE, flags, self.family)
            .text(NFTA_RULE_TABLE, self.table)
            .text(NFTA_RULE_CHAIN, self.name)
            .nest(NFTA_RULE_EXPRESSIONS, |message| rule(Rule(message)).0)
    }

    /// Requests that delete the rules with that comment.
    pub(super) fn delete_commented(
        &self,
        socket: &Socket,
        comment: &str,
    ) -> Result<Vec<Message>, Refusal> {
        let user_data = user_data(comment);
        let delete = |rule: Attributes<'_>| {
            let handle = rule.get(NFTA_RULE_HANDLE)?;
            (rule.get(NFTA_RULE_USERDATA) == Some(&user_data)).then(|| {
                request("delete the firewall's rule", libc::NFT_MSG_DELRULE, 0, self.family)
                    .text(NFTA_RULE_TABLE, self.table)
                    .text(NFTA_RULE_CHAIN, self.name)
                    .attribute(NFTA_RULE_HANDLE, handle)
            })
        };
        let list = request("list the firewall's rules", libc::NFT_MSG_GETRULE, 0, self.family)
            .text(NFTA_RULE_TABLE, self.table)
            .text(NFTA_RULE_CHAIN, self.name);
        let rules = socket.dump(list)?;
        Ok(rules.iter().filter_map(|rule| delete(rule.attributes(NFGENMSG))).collect())
    }
}

/// A rule's expressions so far: each matches, or acts on what those before it matched.
pub(super) struct Rule(Message);

impl Rule {
    /// Matches by the device a packet came from or leaves by.
    pub(super) fn device(self, device: Device, comparison: Comparison, name: &str) -> Self {
        let mut padded = [0; IFNAMSIZ];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.meta(device as i32).compare(comparison, &padded)
    }

    /// Matches packets from a subnet.
    pub(super) fn source<A: Address>(self, subnet: Subnet<A>) -> Self {
        self.address(End::Source, subnet)
    }

    /// Matches packets to a subnet.
    pub(super) fn destination<A: Address>(self, subnet: Subnet<A>) -> Self {
        self.address(End::Destination, subnet)
    }

    fn address<A: Address>(self, end: End, subnet: Subnet<A>) -> Self {
        let length = usize::from(A::BITS / 8);
        let mask = Subnet::new(A::from_number(u128::MAX), subnet.prefix()).network();
        // Where the two protocols' headers have the source address; the other one is behind it.
        let first = if length == 4 { 12 } else { 8 };
        let offset = match end {
            End::Source => first,
            End::Destination => first + length as i32,
        };
        self.protocol_of::<A>()
            .payload(libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length as i32)
            .keep_bits(&bytes(mask))
            .compare(Comparison::Equal, &bytes(subnet.network()))
    }

    /// Matches packets of the protocol that has addresses of that kind.
    pub(super) fn protocol_of<A: Address>(self) -> Self {
        let protocol = family::<A>();
        self.meta(libc::NFT_META_NFPROTO).compare(Comparison::Equal, &[protocol as u8])
    }

    /// Matches packets to one of the machine's own addresses.
    pub(super) fn local_destination(self) -> Self {
        self.expression("fib", |data| {
            let data = number(data, NFTA_FIB_DREG, REGISTER);
            let data = number(data, NFTA_FIB_RESULT, FIB_ADDRESS_KIND);
            number(data, NFTA_FIB_FLAGS, FIB_OF_DESTINATION)
        })
        .compare(Comparison::Equal, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// Matches packets of a transport protocol (`IPPROTO_TCP` and its like) to a port.
    pub(super) fn port(self, protocol: i32, port: u16) -> Self {
        self.meta(libc::NFT_META_L4PROTO)
            .compare(Comparison::Equal, &[protocol as u8])
            // The three protocols with ports have the destination's at the same place.
            .payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)
            .compare(Comparison::Equal, &port.to_be_bytes())
    }

    /// Sends packets, and all of their connection, to another address and port.
    pub(super) fn redirect<A: Address>(self, address: A, port: u16) -> Self {
        self.load(REGISTER, &bytes(address)).load(SECOND, &port.to_be_bytes()).expression(
            "nat",
            |data| {
                let data = number(data, NFTA_NAT_TYPE, NAT_DESTINATION);
                let data = number(data, NFTA_NAT_FAMILY, family::<A>());
                let data = number(data, NFTA_NAT_ADDRESS, REGISTER);
                number(data, NFTA_NAT_PORT, SECOND)
            },
        )
    }

    /// Matches packets of a connection that has been let through before.
    pub(super) fn established(self) -> Self {
        self.tracked(libc::NFT_CT_STATE, ESTABLISHED_OR_RELATED)
    }

    /// Matches packets of a connection that [`Rule::redirect`] has changed.
    pub(super) fn redirected(self) -> Self {
        self.tracked(libc::NFT_CT_STATUS, REDIRECTED)
    }

    fn tracked(self, key: i32, bits: u32) -> Self {
        self.expression("ct", |data| number(number(data, NFTA_CT_DREG, REGISTER), NFTA_CT_KEY, key))
            .keep_bits(&bits.to_ne_bytes())
            .compare(Comparison::Different, &[0; 4])
    }

    /// Counts.
    pub(super) fn count(self) -> Self {
        self.expression("counter", |data| data)
    }

    /// Gives packets the address of the device they leave by.
    pub(super) fn masquerade(self) -> Self {
        self.expression("masq", |data| data)
    }

    /// Lets packets through, as far as this table goes.
    pub(super) fn accept(self) -> Self {
        self.verdict(libc::NF_ACCEPT)
    }

    /// Drops packets.
    pub(super) fn drop(self) -> Self {
        self.verdict(libc::NF_DROP)
    }

    /// Loads a property of the packet.
    fn meta(self, key: i32) -> Self {
        self.expression("meta", |data| {
            number(number(data, NFTA_META_DREG, REGISTER), NFTA_META_KEY, key)
        })
    }

    /// Loads bytes of one of the packet's headers.
    fn payload(self, header: i32, offset: i32, length: i32) -> Self {
        self.expression("payload", |data| {
            let data = number(data, NFTA_PAYLOAD_DREG, REGISTER);
            let data = number(data, NFTA_PAYLOAD_BASE, header);
            let data = number(data, NFTA_PAYLOAD_OFFSET, offset);
            number(data, NFTA_PAYLOAD_LEN, length)
        })
    }

    fn load(self, register: i32, value: &[u8]) -> Self {
        self.expression("immediate", |data| {
            number(data, NFTA_IMMEDIATE_DREG, register)
                .nest(NFTA_IMMEDIATE_DATA, |data| data.attribute(NFTA_DATA_VALUE, value))
        })
    }

    fn keep_bits(self, mask: &[u8]) -> Self {
        let zero = vec![0; mask.len()];
        self.expression("bitwise", |data| {
            let data = number(data, NFTA_BITWISE_SREG, REGISTER);
            let data = number(data, NFTA_BITWISE_DREG, REGISTER);
            number(data, NFTA_BITWISE_LEN, mask.len() as i32)
                .nest(NFTA_BITWISE_MASK, |value| value.attribute(NFTA_DATA_VALUE, mask))
                .nest(NFTA_BITWISE_XOR, |value| value.attribute(NFTA_DATA_VALUE, &zero))
        })
    }

    fn compare(self, comparison: Comparison, value: &[u8]) -> Self {
        self.expression("cmp", |data| {
            let data = number(data, NFTA_CMP_SREG, REGISTER);
            number(data, NFTA_CMP_OP, comparison as i32)
                .nest(NFTA_CMP_DATA, |data| data.attribute(NFTA_DATA_VALUE, value))
        })
    }

    fn verdict(self, code: i32) -> Self {
        self.expression("immediate", |data| {
            number(data, NFTA_IMMEDIATE_DREG, VERDICT).nest(NFTA_IMMEDIATE_DATA, |data| {
                data.nest(NFTA_DATA_VERDICT, |data| number(data, NFTA_VERDICT_CODE, code))
            })
        })
    }

    fn expression(self, name: &str, data: impl FnOnce(Message) -> Message) -> Self {
        Rule(self.0.nest(NFTA_LIST_ELEM, |element| {
            element.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data)
        }))
    }
}

/// Sends the requests as one transaction: all of them take effect, or none.
pub(super) fn commit(socket: &Socket, messages: Vec<Message>) -> Result<(), Refusal> {
    if messages.is_empty() {
        return Ok(());
    }
    let (begin, end) = (frame(libc::NFNL_MSG_BATCH_BEGIN), frame(libc::NFNL_MSG_BATCH_END));
    socket.transact_framed(begin, messages, end)
}

/// One end of a batch, which says whom the batch is for.
fn frame(kind: i32) -> Message {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    Message::new("commit the firewall's rules", kind as u16, 0, &[0, 0, high, low])
}

fn request(step: &'static str, kind: i32, flags: i32, family: Family) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    Message::new(step, kind, flags, &[family as u8, 0, 0, 0])
}

/// An address as packets have it.
fn bytes<A: Address>(address: A) -> Vec<u8> {
    address.number().to_be_bytes()[16 - usize::from(A::BITS / 8)..].to_vec()
}

fn family<A: Address>() -> i32 {
    if A::BITS == 32 { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 }
}

/// A number in network byte order, as all of nf_tables' are.
fn number(message: Message, kind: u16, value: i32) -> Message {
    message.attribute(kind, &value.to_be_bytes())
}

/// A comment as a rule's user data: its kind, its length, its text.
fn user_data(comment: &str) -> Vec<u8> {
    let text = format!("{comment}\0");
    [&[COMMENT, text.len() as u8], text.as_bytes()].concat()
}
