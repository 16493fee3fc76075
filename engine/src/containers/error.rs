//! What can go wrong with a container, in docker's words where people look for them.

use std::io;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has this name or id.
    #[error("No such container: {0}")]
    NotFound(String),
    /// Several ids begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You \
         have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// No container can be called that.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// It must run for this.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// It must not run for this.
    #[error(
        "cannot remove container \"{0}\": container is running: stop the container before \
         removing or force remove"
    )]
    Running(String),
    /// It is paused.
    #[error("cannot start a paused container, try unpause instead")]
    StartPaused,
    /// What was asked for is not possible.
    #[error("{0}")]
    Refused(String),
    /// Its files say nothing that can be understood.
    #[error("{}: {why}; remove the container with: rbuild rm -f {id}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The container.
        id: String,
    },
    /// It could not be started.
    #[error("{text}")]
    Start {
        /// Why, with all causes.
        text: String,
        /// The exit code that docker gives then: 125, 126 or 127.
        code: i32,
    },
    /// Its monitor did not answer.
    #[error("talk to the monitor of container {id}")]
    Talk {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// Its log cannot be read.
    #[error("read the log of container {id}")]
    ReadLog {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// Its log cannot be followed.
    #[error(
        "watch the log of container {id}; perhaps fs.inotify.max_user_instances must be raised"
    )]
    WatchLog {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// A file in its directory could not be used.
    #[error("keep the container's files")]
    Io(#[from] io::Error),
    /// Its volumes.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// Its files cannot be read, packed or written.
    #[error(transparent)]
    Layer(#[from] cache::layer::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] cache::Error),
}
