//! The frames of the ssh agent protocol (draft-ietf-sshm-ssh-agent): a length, a type, a body.
//!
//! Only the type of a request is looked at; what keys and signatures are is between the two ends.

use std::io::{self, Read, Write};

/// Asks the agent to forget all keys.
pub(super) const REMOVE_ALL_IDENTITIES: u8 = 19;

/// The answer to a request that is refused.
pub(super) const FAILURE: u8 = 5;

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const EXTENSION: u8 = 27;

/// OpenSSH's own limit.
const LONGEST: usize = 256 * 1024;

/// Tells whether a request only uses keys. `session-bind@openssh.com`, which every ssh client sends
/// first and which narrows what the connection may do, is an extension.
pub(super) fn only_uses_keys(message: &[u8]) -> bool {
    match message {
        [REQUEST_IDENTITIES | SIGN_REQUEST, ..] => true,
        [EXTENSION, rest @ ..] => {
            let name = rest.get(4..).unwrap_or_default();
            name.starts_with(b"session-bind@openssh.com") || name.starts_with(b"query")
        }
        _ => false,
    }
}

/// Reads one message; `None` at the end of the stream.
pub(super) fn read_message(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no ssh agent message"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Writes one message.
pub(super) fn write_message(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}
