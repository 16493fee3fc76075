//! Why a plan could not be made or carried out.

use crate::make;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A container.
    #[error(transparent)]
    Container(#[from] engine::containers::Error),
    /// A container, by its name.
    #[error("container {name}")]
    Of {
        /// The container.
        name: String,
        /// Why.
        source: engine::containers::Error,
    },
    /// A network.
    #[error(transparent)]
    Network(#[from] engine::network::DefinitionError),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] engine::volume::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] engine::images::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// A service cannot become a container.
    #[error("service {service:?}")]
    Make {
        /// The service.
        service: String,
        /// Why.
        source: make::Error,
    },
    /// A network that others make is not there.
    #[error(
        "network {name} declared as external, but could not be found: make it with: rbuild network create {name}"
    )]
    NoNetwork {
        /// Its name.
        name: String,
    },
    /// A volume that others make is not there.
    #[error("external volume {name:?} not found: make it with: rbuild volume create {name}")]
    NoVolume {
        /// Its name.
        name: String,
    },
    /// Others are on a network that has to be made anew.
    #[error(
        "network {name} is not what the compose file says and has to be made anew, but containers are on it that this \
         does not change: {}: stop them with: rbuild stop {}",
        users.join(", "),
        users.join(" ")
    )]
    NetworkInUse {
        /// Its name.
        name: String,
        /// The containers.
        users: Vec<String>,
    },
    /// Others have a volume that has to be made anew.
    #[error(
        "volume {name} is not what the compose file says, and cannot be made anew because containers have it that this \
         does not change: {}: remove them with: rbuild rm -f {}",
        users.join(", "),
        users.join(" ")
    )]
    VolumeInUse {
        /// Its name.
        name: String,
        /// The containers.
        users: Vec<String>,
    },
    /// An image is not there and may not be fetched.
    #[error("service {service:?} has no image: {image} is not here{why}")]
    NoImage {
        /// The service.
        service: String,
        /// The image.
        image: String,
        /// Why nothing is done about it.
        why: &'static str,
    },
    /// A service that another one needs is not as it should be.
    #[error("dependency failed to start: {text}")]
    Dependency {
        /// What it is.
        text: String,
    },
    /// A service that nobody else needs is not as it should be.
    #[error("{text}")]
    NotReady {
        /// What it is.
        text: String,
    },
    /// A build or a pull failed; what it printed says why.
    #[error("{text}")]
    Command {
        /// What failed.
        text: String,
    },
    /// A command that a service runs at its start or its end.
    #[error("{hook} hook of container {name} exited with status {code}")]
    Hook {
        /// Which kind.
        hook: &'static str,
        /// The container.
        name: String,
        /// The exit code.
        code: i32,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// It took too long.
    #[error("application not healthy after {seconds}s: {what} is not done")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A file in memory could not be made or removed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What was asked for is not possible.
    #[error("{0}")]
    Refused(String),
}
