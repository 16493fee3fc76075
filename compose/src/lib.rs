//! Compose files: from their text to running containers, in stations.
//!
//! 1. **load** ([`load`]): files to a [`Project`], in numbered phases. Complete without any engine; nothing runs.
//! 2. **observe** ([`observe`]): what of the project exists: containers, networks, volumes, by their labels.
//! 3. **reconcile** ([`reconcile`], [`restart`], [`teardown`], [`images`]): the difference between the two as a [`plan`],
//!    in which every step has a cause. Pure.
//! 4. **apply** ([`apply`]): the plan carried out, in parallel where nothing orders it: images are built and fetched,
//!    networks, volumes and containers ([`make`]) made, started, waited for, stopped and removed.
//!
//! What goes from one station to the next is a value that prints as text. Only the last one changes anything, and what
//! takes seconds (builds, downloads) it asks of whoever calls it ([`apply::Commands`]).
//!
//! The crate reads files, but neither its process's environment nor its standard input: both come in a [`Request`].

pub mod apply;
mod cancel;
mod canonical;
mod complete;
#[cfg(test)]
mod conformance;
mod consistency;
mod discover;
mod dotenv;
pub mod error;
mod extends;
pub mod failure;
mod field;
pub mod hash;
pub mod images;
mod include;
mod interpolate;
pub mod load;
mod locate;
pub mod make;
mod merge;
pub mod model;
mod mount;
mod node;
pub mod observe;
pub mod one_off;
pub mod order;
mod path;
pub mod place;
pub mod plan;
mod ports;
pub mod print;
pub mod reconcile;
#[cfg(test)]
mod reconcile_tests;
mod relative;
pub mod request;
mod reset;
pub mod restart;
pub mod runnable;
mod scalar;
mod select;
mod shape;
pub mod teardown;
mod template;
mod unique;
mod units;
mod validate;
mod variable_files;
pub mod watch;
mod words;
mod yaml;

pub use discover::check_name;
pub use error::Error;
pub use model::Project;
pub use request::{Request, Skip};
pub use template::Variable;
