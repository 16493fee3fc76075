//! What can go wrong between us and a registry, in the words of who reads it.

use std::io;
use std::path::PathBuf;

use cache::digest::Digest;

/// Why an image could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rules for registries cannot be read.
    #[error("cannot read the rules for registries in {}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The rules say that nothing comes from there.
    #[error("{name} is blocked by registries.json")]
    Blocked {
        /// The repository.
        name: String,
    },
    /// Certificates for a registry cannot be used.
    #[error("cannot use the certificate {} for registry {host}: {why}", path.display())]
    Certificate {
        /// The registry.
        host: String,
        /// The file, or the directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A name or a password cannot be had.
    #[error("cannot get the credentials for registry {host}")]
    Credentials {
        /// The registry.
        host: String,
        /// Why.
        source: crate::credentials::Error,
    },
    /// A registry cannot be reached, or breaks off.
    #[error("cannot {what} ({url})")]
    Request {
        /// What was wanted.
        what: String,
        /// Where.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// A registry says no.
    #[error("cannot {what}: {said}{}", hint(*status))]
    Refused {
        /// What was wanted.
        what: String,
        /// The status of its answer (RFC 9110).
        status: u16,
        /// What it says.
        said: String,
    },
    /// A registry's place for tokens gives none.
    #[error("cannot get a token of registry {host}: {said}{}", hint(*status))]
    Token {
        /// The registry.
        host: String,
        /// The status of the answer (RFC 9110).
        status: u16,
        /// What it says.
        said: String,
    },
    /// A registry does not know these credentials.
    #[error("cannot log in to registry {host}: {said}")]
    LogIn {
        /// The registry.
        host: String,
        /// What it says.
        said: String,
    },
    /// What answers is no registry.
    #[error("{host} does not answer as a registry (distribution API 2): {why}")]
    NoRegistry {
        /// The host.
        host: String,
        /// What it did.
        why: String,
    },
    /// A registry answers with something else than it should.
    #[error("the registry's answer cannot be used: {what}: {why}")]
    Answer {
        /// What was wanted.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A registry asks for a way of proving who we are that is not known here.
    #[error("registry {host} asks for authentication in a way not known here: {challenge}")]
    Challenge {
        /// The registry.
        host: String,
        /// What it asks.
        challenge: String,
    },
    /// A token's place would see a password in plain text.
    #[error(
        "registry {host} wants the password sent in plain text to {realm}; mark the registry as \
         insecure if that is meant"
    )]
    PlainRealm {
        /// The registry.
        host: String,
        /// Where the tokens are.
        realm: String,
    },
    /// A name is not in the registry.
    #[error("manifest for {name} not found: manifest unknown{}", in_brackets(said))]
    NotFound {
        /// The image.
        name: String,
        /// What the registry says beyond that.
        said: String,
    },
    /// A registry does not let us see a repository, which may be since there is none.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'rbuild \
         login': {said}"
    )]
    Denied {
        /// The repository.
        name: String,
        /// What the registry says.
        said: String,
    },
    /// No manifest of a list is for the platform that is wanted.
    #[error("no matching manifest for {wanted} in the manifest list of {name}: it has {there}")]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform.
        wanted: String,
        /// The platforms of the list.
        there: String,
    },
    /// The only manifest there is, is for another platform.
    #[error("image {name} was found but does not provide the platform {wanted}: it is for {found}")]
    OtherPlatform {
        /// The image.
        name: String,
        /// The platform that is wanted.
        wanted: String,
        /// The one there is.
        found: String,
    },
    /// A document has another digest than its name or the registry says.
    #[error("{what} has digest {found}, not {expected}")]
    Digest {
        /// The document or the blob.
        what: String,
        /// Of its bytes.
        found: Digest,
        /// Of its name.
        expected: Digest,
    },
    /// A blob is shorter or longer than its descriptor says.
    #[error("{what} is {found} bytes long, not {expected}")]
    Size {
        /// The blob.
        what: String,
        /// As it came.
        found: u64,
        /// As the manifest says.
        expected: u64,
    },
    /// A blob broke off, again and again.
    #[error("{what} broke off after {received} of {size} bytes, and again when it was resumed")]
    BrokenOff {
        /// The blob.
        what: String,
        /// How much came.
        received: u64,
        /// How much there is.
        size: u64,
        /// How it broke off the last time.
        source: io::Error,
    },
    /// A layer unpacks to more than is allowed.
    #[error(
        "{what} unpacks to more than {limit} bytes from {size}: if that is meant, set \
         \"max-layer-bytes\" in registries.json"
    )]
    Bomb {
        /// The layer.
        what: String,
        /// Bytes that are allowed.
        limit: u64,
        /// Bytes of the compressed layer.
        size: u64,
    },
    /// A layer is compressed in a way, or damaged so, that it cannot be read.
    #[error("{what} cannot be decompressed")]
    Decompress {
        /// The layer.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A layer cannot be kept.
    #[error("{what} cannot be stored")]
    Layer {
        /// The layer.
        what: String,
        /// Why.
        source: Box<cache::Error>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// A layer of an image that is to be pushed cannot be read.
    #[error("layer {layer} cannot be read to be pushed")]
    Read {
        /// Its diff id.
        layer: Digest,
        /// Why.
        source: io::Error,
    },
    /// Something else failed, so this was given up.
    #[error("given up")]
    GivenUp,
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => " (rbuild login tells the registry who you are)",
        _ => "",
    }
}
