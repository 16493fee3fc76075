//! Netlink: requests as bytes, sent in one datagram, and the kernel's answers (`netlink(7)`).
//!
//! Does not know what a link or a firewall rule is; `link` and `nat` give the bytes a meaning.

use std::sync::{Mutex, MutexGuard};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// Bytes of `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// Marks an attribute whose value is attributes.
const NESTED: u16 = 0x8000;
/// The two flag bits of an attribute's type.
const TYPE_FLAGS: u16 = 0xc000;
/// The types of the messages that answer, or end an answer in many parts.
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
/// More than the kernel puts into one datagram of a dump.
const RECEIVE_BUFFER: usize = 32 * 1024;

/// A datagram that fits into the buffer that every socket has.
const ROOM: usize = 64 * 1024;

/// What the kernel would not do.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct Refusal {
    /// The step of ours that failed, as words: "create the bridge".
    pub step: &'static str,
    /// The kernel's reason.
    #[source]
    pub source: Errno,
}

/// One request. The first four bytes, its length, are kept true while it grows.
pub(super) struct Message {
    step: &'static str,
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a request: `fixed` is what the family puts between header and attributes.
    pub(super) fn new(step: &'static str, kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags as u16 | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        let mut message = Message { step, bytes };
        message.finish();
        message
    }

    /// Appends an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.finish();
        self
    }

    /// Appends a name, ended by a zero byte.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Appends an attribute made of the attributes that `inner` appends.
    pub(super) fn nest(mut self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self = self.attribute(kind | NESTED, &[]);
        let mut message = inner(self);
        let length = (message.bytes.len() - start) as u16;
        message.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    /// Appends bytes that are no attribute: the fixed part some nested requests begin with.
    pub(super) fn raw(mut self, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(value);
        self.finish();
        self
    }

    /// Changes a byte of the fixed part.
    #[cfg(test)]
    pub(super) fn set_byte(&mut self, at: usize, value: u8) {
        self.bytes[HEADER + at] = value;
    }

    /// Pads to four bytes and writes the length.
    fn finish(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
    }

    fn add_flags(&mut self, flags: i32) {
        let old = read_u16(&self.bytes, 6).expect("every message has a header");
        self.bytes[6..8].copy_from_slice(&(old | flags as u16).to_ne_bytes());
    }

    fn set_sequence(&mut self, sequence: u32) {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// One message of the kernel's answer, without its header.
pub(super) struct Reply {
    body: Vec<u8>,
}

impl Reply {
    /// The fixed part: the first `length` bytes, all zero where the kernel sent fewer.
    pub(super) fn fixed<const LENGTH: usize>(&self) -> [u8; LENGTH] {
        self.body.first_chunk().copied().unwrap_or([0; LENGTH])
    }

    /// The attributes behind a fixed part of that many bytes.
    pub(super) fn attributes(&self, fixed: usize) -> Attributes<'_> {
        Attributes(self.body.get(fixed..).unwrap_or_default())
    }
}

/// An attribute list: its types, without flag bits, and values.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of that type.
    pub(super) fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The value as a number in the machine's byte order.
    pub(super) fn number(self, kind: u16) -> Option<u32> {
        read_u32(self.get(kind)?, 0)
    }

    /// The value as text, without the zero byte that ends it.
    pub(super) fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(read_u16(self.0, 0)?);
        let kind = read_u16(self.0, 2)? & !TYPE_FLAGS;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A netlink socket. It stays in the network namespace of the thread that opened it.
///
/// Threads that share one take turns, each from its request to the end of the answer.
pub(super) struct Socket {
    descriptor: OwnedFd,
    next: Mutex<u32>,
}

/// A turn: requests that have been sent, and whose answers are to be read.
struct Conversation<'a> {
    descriptor: &'a OwnedFd,
    /// The sequence number of the first request.
    first: u32,
    /// What each request stands for.
    steps: Vec<&'static str>,
    _turn: MutexGuard<'a, u32>,
}

impl Socket {
    /// Opens a socket for links, addresses and routes (`rtnetlink(7)`).
    pub(super) fn route() -> Result<Self, Refusal> {
        Self::open(None)
    }

    /// Opens a socket for nf_tables.
    pub(super) fn netfilter() -> Result<Self, Refusal> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> Result<Self, Refusal> {
        let descriptor =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
                .map_err(|source| Refusal { step: "open a netlink socket", source })?;
        Ok(Socket { descriptor, next: Mutex::new(1) })
    }

    /// Sends the requests in one datagram and waits until the kernel has done all of them.
    ///
    /// The first failure is the answer; the requests behind it are tried all the same.
    pub(super) fn transact(&self, messages: Vec<Message>) -> Result<(), Refusal> {
        let last = messages.len() - 1;
        self.exchange(messages, last)
    }

    /// Sends a batch that takes effect as a whole or not at all, framed as nf_tables wants it.
    pub(super) fn transact_framed(
        &self,
        begin: Message,
        mut messages: Vec<Message>,
        end: Message,
    ) -> Result<(), Refusal> {
        messages.insert(0, begin);
        messages.push(end);
        // Kernels before 6.10 acknowledge no frame.
        let last = messages.len() - 2;
        self.exchange(messages, last)
    }

    /// Sends the requests; the one at `last` is to be acknowledged.
    ///
    /// The kernel takes requests in order, before the call that sends them returns, and reports a
    /// failure unasked. So one acknowledgement will do, and what is still to be read when a failure
    /// is seen can wait: its sequence number tells the next reader that it is not for them.
    fn exchange(&self, mut messages: Vec<Message>, last: usize) -> Result<(), Refusal> {
        messages[last].add_flags(libc::NLM_F_ACK);
        let conversation = self.send(messages)?;
        let mut answer = Ok(());
        loop {
            let done = conversation.receive(|index, kind, body| {
                if let (true, Some(source)) = (kind == ERROR, error_code(body)) {
                    answer = Err(conversation.refusal(index, source));
                }
                answer.is_err() || index == last
            })?;
            if done {
                return answer;
            }
        }
    }

    /// Asks for one object; none where the kernel knows no such thing.
    pub(super) fn get(&self, message: Message) -> Result<Option<Reply>, Refusal> {
        match self.ask(message, |kind| kind != DONE) {
            Ok(replies) => Ok(replies.into_iter().next()),
            Err(Refusal { source: Errno::NODEV | Errno::NOENT | Errno::NETUNREACH, .. }) => {
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Asks for all objects of a kind.
    pub(super) fn dump(&self, mut message: Message) -> Result<Vec<Reply>, Refusal> {
        message.add_flags(libc::NLM_F_DUMP);
        self.ask(message, |kind| kind == DONE)
    }

    /// Collects what is answered up to and with the message whose type `is_last` knows.
    fn ask(&self, message: Message, is_last: impl Fn(u16) -> bool) -> Result<Vec<Reply>, Refusal> {
        let conversation = self.send(vec![message])?;
        let mut replies = Vec::new();
        let mut failure = None;
        loop {
            let done = conversation.receive(|index, kind, body| {
                if kind == ERROR {
                    failure = error_code(body).map(|source| conversation.refusal(index, source));
                    return true;
                }
                if kind != DONE {
                    replies.push(Reply { body: body.to_vec() });
                }
                is_last(kind)
            })?;
            if done {
                return failure.map_or(Ok(replies), Err);
            }
        }
    }

    /// Numbers and sends the messages.
    fn send(&self, mut messages: Vec<Message>) -> Result<Conversation<'_>, Refusal> {
        let mut next = self.next.lock().expect("no holder of the turn panics");
        let first = *next;
        let mut datagram = Vec::new();
        for message in &mut messages {
            message.set_sequence(*next);
            *next = next.wrapping_add(1);
            datagram.extend_from_slice(&message.bytes);
        }
        let conversation = Conversation {
            descriptor: &self.descriptor,
            first,
            steps: messages.iter().map(|message| message.step).collect(),
            _turn: next,
        };
        if datagram.len() > ROOM {
            // It needs CAP_NET_ADMIN, as all that is sent here does; without it sending tells.
            let _ = set_socket_send_buffer_size_force(&self.descriptor, 2 * datagram.len());
        }
        rustix::io::retry_on_intr(|| send(&self.descriptor, &datagram, SendFlags::empty()))
            .map_err(|source| conversation.refusal(0, source))?;
        Ok(conversation)
    }
}

impl Conversation<'_> {
    /// Reads one datagram and shows `each` the answers in it, with the index of the request that
    /// they are for, until it has seen the last.
    fn receive(&self, mut each: impl FnMut(usize, u16, &[u8]) -> bool) -> Result<bool, Refusal> {
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let (_, length) = rustix::io::retry_on_intr(|| {
            recv(self.descriptor, &mut buffer[..], RecvFlags::empty())
        })
        .map_err(|source| self.refusal(0, source))?;
        let mut rest = &buffer[..length.min(RECEIVE_BUFFER)];
        while let (Some(size), Some(kind), Some(sequence)) =
            (read_u32(rest, 0), read_u16(rest, 4), read_u32(rest, 8))
        {
            let size = size as usize;
            let Some(body) = rest.get(HEADER..size) else {
                break;
            };
            let index = sequence.wrapping_sub(self.first) as usize;
            if index < self.steps.len() && each(index, kind, body) {
                return Ok(true);
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }

    fn refusal(&self, index: usize, source: Errno) -> Refusal {
        Refusal { step: self.steps[index], source }
    }
}

/// The errno in an NLMSG_ERROR; none where it acknowledges.
fn error_code(body: &[u8]) -> Option<Errno> {
    let code = read_u32(body, 0)? as i32;
    (code != 0).then(|| Errno::from_raw_os_error(-code))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_what_a_message_was_given() {
        let message = Message::new("test", 1, 0, &[7; 8])
            .text(3, "lo")
            .nest(18, |inner| inner.text(1, "veth").attribute(2, &5u32.to_ne_bytes()))
            .attribute(4, &1400u32.to_ne_bytes());
        assert_eq!(read_u32(&message.bytes, 0), Some(message.bytes.len() as u32));
        let reply = Reply { body: message.bytes[HEADER..].to_vec() };
        assert_eq!(reply.fixed::<8>(), [7; 8]);
        let attributes = reply.attributes(8);
        assert_eq!(attributes.text(3), Some("lo"));
        assert_eq!(attributes.number(4), Some(1400));
        let nested = Attributes(attributes.get(18).unwrap());
        assert_eq!(nested.text(1), Some("veth"));
        assert_eq!(nested.number(2), Some(5));
        assert_eq!(nested.get(9), None);
    }

    #[test]
    fn a_truncated_attribute_list_ends_early() {
        assert_eq!(Attributes(&[200, 0, 1, 0, 1]).count(), 0);
        assert_eq!(Attributes(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[]).count(), 0);
    }
}
