//! What can go wrong with volumes and mounts, in docker's words where people look for them.

use std::io;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was typed is no mount.
    #[error("{0}")]
    Syntax(String),
    /// `-v` and the like name something that cannot be mounted.
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    /// The same, with the reason.
    #[error("invalid volume specification: '{text}': {why}")]
    SpecificationOf {
        /// What was typed.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// Options behind the target say what no mount can be.
    #[error("invalid mode: {0}")]
    Mode(String),
    /// A mount's parts do not go together.
    #[error("invalid mount config for type \"{kind}\": {why}")]
    Config {
        /// The mount's kind.
        kind: String,
        /// What is wrong.
        why: String,
    },
    /// Two mounts have one target.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// A volume's name is none.
    #[error("create {name}: {why}")]
    Name {
        /// What was to be its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// There is one driver.
    #[error(
        "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found; \
         the driver there is is called local"
    )]
    Driver {
        /// The volume.
        name: String,
        /// The driver that was asked for.
        driver: String,
    },
    /// The driver cannot do with its options.
    #[error("create {name}: {why}")]
    Option {
        /// The volume.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// There is no such volume.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// Containers use it.
    #[error("remove {name}: volume is in use - [{}]", users.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// The containers' ids.
        users: Vec<String>,
    },
    /// Its file says nothing that can be understood.
    #[error(
        "volume {name}: {} is damaged: {why}; its files are in _data beside it, remove it with: \
         rbuild volume rm {name}",
        path.display()
    )]
    Damaged {
        /// The volume.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// What its options name could not be mounted.
    #[error("failed to mount local volume: mount {device}:{}, data: {data}", at.display())]
    Mount {
        /// What was to be mounted.
        device: String,
        /// Where.
        at: PathBuf,
        /// The options, without passwords.
        data: String,
        /// Why not.
        source: io::Error,
    },
    /// A name in its options is no address.
    #[error("error resolving passed in network volume address {0}")]
    Address(String, #[source] io::Error),
    /// An image's `VOLUME` is a file there.
    #[error("cannot mount volume over existing file, file exists {0}")]
    OverFile(String),
    /// The image's files could not be copied into it.
    #[error("fill volume {name} from {path} of the image")]
    Fill {
        /// The volume.
        name: String,
        /// The directory in the image.
        path: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The source of a bind could not be made.
    #[error("error while creating mount source path '{}'", path.display())]
    Source {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// A file of the volumes could not be read or written; the message has its path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// A mount whose parts do not go together.
    pub(super) fn config(kind: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Config { kind: kind.into(), why: why.into() }
    }
}
