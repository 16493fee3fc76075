//! Containers that have a name and outlive the command that made them.
//!
//! ```text
//! <store>/containers/
//!   lock               held while names are given, taken or changed; never while a monitor is asked
//!   names/<name>       a link to the id that has the name
//!   <id>/              locked itself while its record is changed (`change`)
//!   <id>/config.json   what was asked (`record`), in docker's shapes
//!   <id>/state.json    what it is doing (`state`), written by its monitor
//!   <id>/lock          held by its monitor: who is not held does not run, whatever its state says
//!   <id>/control.sock  where its monitor listens (`protocol`)
//!   <id>/execs/<exec>  locked by its monitor while another process runs in it (`execs`)
//!   <id>/<id>-json.log what it printed (`log`)
//!   <id>/hosts, hostname, resolv.conf  mounted in its /etc, written anew at each start (`told`)
//!   <id>/upper, work   what it changed
//! ```
//!
//! The way of a container:
//!
//! ```text
//! create    image and wishes -> a record                         (create)
//! start     a monitor for it; hears whether it runs              (client)
//! monitor   record -> ContainerSpec -> running program           (monitor, assemble)
//!           relays, logs, probes, starts again                   (attached, log, restart)
//! ask       stop, kill, pause, attach, wait: frames to it        (client, protocol)
//! exec      another process, which the monitor starts too        (exec)
//! follow    what it prints, while it does                        (follow, log)
//! change    record -> another record, which a monitor follows    (change)
//! ```
//!
//! A monitor is a process of this program for each running container. All that it holds (addresses,
//! ports, the program itself) ends with it, so a monitor that was killed leaves a container that has
//! ended, and a state that says otherwise is known to be wrong by the free lock. `reconcile` makes the
//! states true again and removes what was left; `<store>/run/boot` names the boot in which it was
//! done last, and `<store>/events` tells what happened (`crate::events`).
//!
//! Knows nothing of the command line; prints nothing.

mod assemble;
mod attached;
mod boot;
mod change;
mod client;
pub mod commit;
mod connect;
pub mod copy;
pub mod create;
pub mod diff;
mod directory;
mod error;
mod event;
pub mod exec;
pub mod execs;
pub mod export;
pub mod files;
pub mod follow;
mod gpus;
mod health;
pub mod log;
mod monitor;
pub mod names;
pub mod protocol;
pub mod prune;
pub mod reconcile;
pub mod record;
mod removal;
mod restart;
pub mod signal;
pub mod state;
mod told;

pub use client::{Client, Sender, Verdict, ensure_running, restart, start};
pub use directory::{Containers, Observed};
pub use error::Error;
pub use monitor::{is_monitor, monitor_main};
pub use record::Record;
pub use removal::{Removed, remove, stop, users};
pub use state::{State, Status};
pub use told::ToldFiles;

/// What a function here returns.
pub type Result<T> = std::result::Result<T, Error>;
