//! Whether a container runs, and how it ended: `state.json`, which its monitor writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{EndpointSettings, PortMap};

/// Docker's word for no time at all.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// What a container is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has not been started.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its program has ended and is started again soon.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its program has ended.
    Exited,
    /// It could not be removed whole.
    Dead,
}

impl Status {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// Whether there must be a monitor.
    pub fn is_active(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }
}

/// What is known of a container's life. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What it is doing.
    pub status: Status,
    /// Its first process as the host sees it; 0 if there is none.
    pub pid: u32,
    /// How its program ended last.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// When its program was last started.
    pub started_at: String,
    /// When it last ended.
    pub finished_at: String,
    /// How often it was started again by its policy.
    pub restart_count: u32,
    /// Whether somebody asked it to stop: it is not started again by itself then.
    pub manually_stopped: bool,
    /// The monitor's process.
    pub monitor: u32,
    /// Which boot of the machine this was written in.
    pub boot: String,
    /// How it is, if somebody looks.
    pub health: Option<Health>,
    /// What networks it has.
    pub networks: BTreeMap<String, EndpointSettings>,
    /// What ports are published.
    pub ports: PortMap,
    /// Its cgroups' directories, by controller.
    pub cgroups: BTreeMap<String, String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
            restart_count: 0,
            manually_stopped: false,
            monitor: 0,
            boot: String::new(),
            health: None,
            networks: BTreeMap::new(),
            ports: PortMap::new(),
            cgroups: BTreeMap::new(),
        }
    }
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Probes in a row that failed.
    pub failing_streak: u32,
    /// The last five probes.
    pub log: Vec<Probe>,
}

/// One probe of a container's health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Probe {
    /// When it began.
    pub start: String,
    /// When it ended.
    pub end: String,
    /// 0 is healthy.
    pub exit_code: i32,
    /// The first 4096 bytes of what it printed.
    pub output: String,
}

/// Now, as a state says it.
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}
