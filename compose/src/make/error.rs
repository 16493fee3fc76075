//! Why something of a project cannot be made.

use std::io;
use std::path::PathBuf;

/// Why something of a project cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An attribute that there is nothing for here.
    #[error("service {service:?}: {attribute} is not supported: {why}")]
    Unsupported {
        /// The service.
        service: String,
        /// The attribute.
        attribute: &'static str,
        /// What stands in the way, and what to write instead.
        why: String,
    },
    /// A value that means nothing.
    #[error("service {service:?}: {attribute}: {why}")]
    Invalid {
        /// The service.
        service: String,
        /// The attribute.
        attribute: &'static str,
        /// What is wrong with the value.
        why: String,
    },
    /// A service whose containers are to be shared has none.
    #[error(
        "service {service:?}: cannot share {what} with service {other:?}: it has no container, start it first"
    )]
    NoContainer {
        /// The service.
        service: String,
        /// What was to be shared.
        what: &'static str,
        /// The service without containers.
        other: String,
    },
    /// A secret or a config that is said to be elsewhere.
    #[error("unsupported external {kind} {name}: give it a `file` or an `environment`")]
    External {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A secret or a config that a swarm's driver would give.
    #[error("{kind} {name:?}: {attribute} is not supported: drivers are of swarms only")]
    Driver {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// `driver` or `template_driver`.
        attribute: &'static str,
    },
    /// A secret or a config of a variable that is not set.
    #[error("environment variable {variable:?} required by {kind} {name:?} is not set")]
    NoVariable {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The variable.
        variable: String,
    },
    /// The owner of a secret or a config is no number.
    #[error("{kind} {name:?}: {attribute} {value:?} is not a number")]
    Owner {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// `uid` or `gid`.
        attribute: &'static str,
        /// What stands there.
        value: String,
    },
    /// The file of a secret or a config cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file for containers cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Builds the errors of one service.
#[derive(Clone, Copy)]
pub(super) struct Of<'a>(pub(super) &'a str);

impl Of<'_> {
    pub(super) fn invalid(self, attribute: &'static str, why: impl ToString) -> Error {
        Error::Invalid { service: self.0.to_owned(), attribute, why: why.to_string() }
    }

    pub(super) fn unsupported(self, attribute: &'static str, why: impl ToString) -> Error {
        Error::Unsupported { service: self.0.to_owned(), attribute, why: why.to_string() }
    }
}
