//! The engine: definitions in, layers and running containers out.
//!
//! A build passes nine stations: *ask* (argv to request), *parse*, *stage*, *resolve* (names of
//! bases to layers), *lower* (to a [`graph::Definition`]), then here: *schedule*
//! ([`schedule`]: which vertices may run), *look up* ([`keys`]: has this been done before),
//! *run* ([`step`], [`run`], [`copy`]: do it, keep the layer) and *export* ([`export`]: make an
//! image or files of it). [`solve`] is the loop that drives the middle ones.
//!
//! The engine has never heard of Dockerfiles. It does not print, read the environment or exit.

pub mod cache_transfer;
#[cfg(test)]
mod conformance;
pub mod container;
pub mod containers;
pub mod copy;
pub mod driver;
pub mod duration;
pub mod events;
pub mod export;
pub mod graph;
pub mod keys;
#[cfg(test)]
mod layers_tests;
pub mod mode;
pub mod mounted;
pub mod network;
pub mod open_files;
mod overlay;
pub mod owner;
pub mod pattern;
pub mod place;
pub mod plan;
pub mod product;
pub mod progress;
pub mod reference;
pub mod run;
pub mod schedule;
pub mod session;
pub mod signals;
pub mod solve;
pub mod source;
pub mod ssh_agent;
pub mod step;
mod sys;
pub mod template;
pub mod tree;
pub mod units;
pub mod view;
pub mod volume;
mod waiting;
