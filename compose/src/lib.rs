//! Compose files: from their text to running containers, in stations.
//!
//! 1. **load** ([`load`]): files to a [`Project`], in numbered phases. Complete without any engine; nothing runs.
//! 2. **build**: images that services need and that are not there.
//! 3. **observe**: what of the project exists: containers, networks, volumes, by their labels.
//! 4. **reconcile**: the difference between the two as a plan, in which every step has a cause.
//! 5. **apply**: the plan carried out, in parallel where nothing orders it.
//!
//! What goes from one station to the next is a value that prints as text. Only the last one changes anything.
//!
//! The crate reads files, but neither its process's environment nor its standard input: both come in a [`Request`].

mod canonical;
mod complete;
#[cfg(test)]
mod conformance;
mod consistency;
mod discover;
mod dotenv;
pub mod error;
mod extends;
mod field;
pub mod hash;
mod include;
mod interpolate;
pub mod load;
mod merge;
pub mod model;
mod mount;
mod node;
mod path;
pub mod place;
mod ports;
pub mod print;
mod relative;
pub mod request;
mod reset;
mod scalar;
mod select;
mod shape;
mod template;
mod unique;
mod units;
mod validate;
mod variable_files;
mod words;
mod yaml;

pub use error::Error;
pub use model::Project;
pub use request::{Request, Skip};
pub use template::Variable;
