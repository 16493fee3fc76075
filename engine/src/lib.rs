//! The engine: definitions in, layers and running containers out.
//!
//! A build passes nine stations: *ask* (argv to request), *parse*, *stage*, *resolve* (names of
//! bases to layers), *lower* (to a [`graph::Definition`]), then here: *schedule*
//! ([`schedule`]: which vertices may run), *look up* ([`keys`]: has this been done before),
//! *run* ([`step`], [`run`], [`copy`]: do it, keep the layer) and *export* ([`export`]: make an
//! image or files of it). [`solve`] is the loop that drives the middle ones.
//!
//! A container that has a name passes four: *create* ([`containers::create`]: image and wishes to a
//! record), *start* ([`containers::start`]: a monitor for it, a process of this program), *run* (the
//! monitor makes a closed specification of the record and [`container`] makes the kernel's objects of
//! that) and *ask* ([`containers::Client`]: whoever wants something of it tells its monitor). Steps of
//! builds are containers of [`container`] too, without a record or a monitor.
//!
//! What containers are given stands beside them: [`volume`] is what they have mounted and what
//! outlives them, [`network`] are bridges, addresses, published ports and names. [`events`] is the
//! diary in which all of them write down what happened. Nobody watches: each of these is found in the
//! store's files and the kernel, by whatever command looks.
//!
//! Images come and go three ways: [`registry`] speaks with registries, as whom [`credentials`] says,
//! [`archive`] reads and writes what `save` and `load` do, and [`cache_transfer`] carries the steps of
//! builds. [`platform`] chooses one of several images under a name, [`foreign`] tells whether the
//! kernel runs the programs of another platform.
//!
//! The engine has never heard of Dockerfiles. It does not print, read the environment or exit.

pub mod archive;
pub mod cache_transfer;
mod changes;
#[cfg(test)]
mod conformance;
pub mod container;
pub mod containers;
pub mod copy;
pub mod credentials;
pub mod driver;
pub mod duration;
pub mod events;
pub mod export;
pub mod foreign;
pub mod graph;
pub mod images;
pub mod keys;
#[cfg(test)]
mod layers_tests;
pub mod mode;
pub mod moment;
pub mod mounted;
pub mod network;
pub mod open_files;
mod overlay;
pub mod owner;
pub mod pattern;
pub mod place;
pub mod plan;
pub mod platform;
pub mod product;
pub mod progress;
pub mod reference;
pub mod registry;
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
