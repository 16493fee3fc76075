//! Images on their way from and to registries (OCI distribution specification 1.1, and docker's
//! schema 2).
//!
//! ```text
//! settings    where an image's repository is, and how that host is spoken to
//! client      one host: requests, tokens (auth), again where that helps
//! document    what a name stands for there
//! upload      blobs and manifests into a repository
//! lookup      documents by tag or digest
//! layers      layers into the store
//! pull        an image into the store: document, configuration, layers, names
//! copy        images from one repository to another, lists of images
//! push        layers, a configuration and a manifest out of it
//! artifact    layers with something else than a configuration, there and back
//! ```
//!
//! Blocking sockets and a few threads: no more than four layers move at once. Prints nothing and
//! reads no environment: what may be used of a person comes in [`Settings`].

pub(crate) mod artifact;
mod auth;
mod client;
pub mod copy;
pub mod document;
mod download;
mod error;
mod layers;
mod lookup;
pub mod progress;
mod pull;
mod push;
mod settings;
mod tags;
mod upload;

pub use error::Error;
pub use pull::{Pulled, Remote};
pub use push::{Published, Push, Pushed, Words};
pub use settings::{Rule, Rules, Settings};
pub use tags::tags;

use crate::credentials::Credentials;

/// Asks a registry whether it knows who these credentials are of. Some give a token that stands for
/// the password from then on.
pub fn check_login(
    registry: &str,
    credentials: &Credentials,
    settings: &Settings,
) -> Result<Option<String>, Error> {
    let client = client::Client::connect_as(settings, settings.registry(registry), credentials)?;
    client.log_in().map_err(|error| match error {
        Error::Refused { status: 401, said, .. } | Error::Token { status: 401, said, .. } => {
            Error::LogIn { host: registry.to_owned(), said }
        }
        error => error,
    })
}
