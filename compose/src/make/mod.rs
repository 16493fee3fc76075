//! From the model to what the engine is asked for: containers, networks and volumes.
//!
//! Touches nothing but in [`files::write`]: the same project gives the same requests, in docker compose's words, labels
//! and order of precedence. Does not know what is there already, nor images: what is not said here, the engine takes
//! from them.
//!
//! ```text
//! container   a service's container: its program, its namespaces, its restarts
//! mounts      binds, volumes, tmpfs, and what is carried over from the container before
//! files       secrets and configs, as files in memory where they are no files on disk
//! networks    places on networks; networks themselves; ports
//! limits      what it may use: memory, CPUs, devices
//! labels      what tells other programs whose a container is
//! ```
//!
//! What docker compose leaves without effect on Linux has none here either: `annotations` (kept by nobody),
//! `bind.selinux` of a `--mount`, `cpu_count`, `cpu_percent`, `credential_spec`, `deploy.labels`, `deploy.placement`,
//! `deploy.update_config`, `deploy.resources.reservations.cpus`, `ipam.driver`, `ipam.options`,
//! `enable_ipv4`. What the engine cannot do is an error that says so: `cpu_rt_period`, `cpu_rt_runtime`,
//! `interface_name`, `isolation`,
//! `link_local_ips`, `models`, `provider`, `runtime` (but `runc`), `storage_opt`, `use_api_socket`,
//! `userns_mode` (but `host`), mounts of the types `npipe` and `cluster`, external secrets and configs.

pub mod container;
mod error;
pub mod files;
pub mod labels;
mod limits;
mod mounts;
pub mod networks;
#[cfg(test)]
mod tests;

pub use container::{Container, name, request};
pub use error::Error;
pub use networks::{network, volume};
