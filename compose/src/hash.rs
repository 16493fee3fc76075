//! Config hashes: a container whose hash is not its service's any more is made anew.
//!
//! They are docker compose's: SHA-256 of the service's JSON as Go writes it, without what can change while the
//! container stays. So containers that one of the two programs has made are up to date for the other.
//!
//! The content of secrets and configs is no part of them: a container keeps what it was made with until it is made anew,
//! which is what docker compose does too.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::model::{Network, Service, Volume};
use crate::print::service_json;

/// The order of a service's attributes in its hash, which is older than the one in which docker compose prints them.
const ORDER: [&str; 92] = [
    "profiles",
    "annotations",
    "attach",
    "build",
    "develop",
    "blkio_config",
    "cap_add",
    "cap_drop",
    "cgroup_parent",
    "cgroup",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpus",
    "cpuset",
    "cpu_shares",
    "command",
    "configs",
    "container_name",
    "credential_spec",
    "depends_on",
    "deploy",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "provider",
    "environment",
    "env_file",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "group_add",
    "gpus",
    "hostname",
    "healthcheck",
    "image",
    "init",
    "ipc",
    "isolation",
    "labels",
    "label_file",
    "links",
    "logging",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "mem_swappiness",
    "mac_address",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "privileged",
    "pull_policy",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
    "pre_start",
    "post_start",
    "pre_stop",
];

/// The hash of a service whose environment is complete.
pub fn service(service: &Service) -> String {
    digest(&hashed(service).into())
}

/// A hash of each of the attributes that are part of a service's, which is not docker compose's: eight digits, enough to
/// tell which of them has changed.
pub fn attributes(service: &Service) -> BTreeMap<String, String> {
    let said = |value: &Value| !value.is_null();
    let all = hashed(service).into_iter().filter(|(_, value)| said(value));
    all.map(|(name, value)| (name, digest(&value)[..8].to_owned())).collect()
}

/// What a service's hash is of.
fn hashed(service: &Service) -> Map<String, Value> {
    let mut service = service.clone();
    service.build = None;
    service.pull_policy = String::new();
    service.scale = None;
    if let Some(deploy) = &mut service.deploy {
        deploy.replicas = None;
    }
    service.depends_on.clear();
    service.profiles.clear();
    let Value::Object(mut json) = service_json(&mut service) else {
        return Map::new();
    };
    ORDER.iter().filter_map(|key| json.shift_remove_entry(*key)).collect()
}

/// The hash of a network.
pub fn network(network: &Network) -> String {
    let mut network = network.clone();
    crate::field::Field::forget_extensions(&mut network);
    digest(&crate::print::network_json(&network))
}

/// The hash of a volume.
pub fn volume(volume: &Volume) -> String {
    let mut volume = volume.clone();
    crate::field::Field::forget_extensions(&mut volume);
    if volume.driver.is_empty() {
        volume.driver = "local".to_owned();
    }
    digest(&serde_json::json!(volume))
}

fn digest(value: &Value) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(go_json(value).as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// JSON as Go's encoder writes it: `<`, `>`, `&` and two line ends of Unicode are escaped.
fn go_json(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Command;

    #[test]
    fn hashes_are_docker_composes() {
        let mut plain = Service {
            image: "x".to_owned(),
            network_mode: "none".to_owned(),
            ..Service::default()
        };
        let expected = "fa20853724571420c95893478b6c90c02b3478d444ede888a8b66d867a9bb9f4";
        assert_eq!(service(&plain), expected);
        // What does not change the container does not change the hash.
        plain.scale = Some(3);
        plain.profiles = vec!["p".to_owned()];
        assert_eq!(service(&plain), expected);
        plain.command = Some(Command(vec!["a".to_owned()]));
        assert_ne!(service(&plain), expected);
    }

    #[test]
    fn json_is_escaped_as_go_escapes_it() {
        assert_eq!(go_json(&serde_json::json!({"a": "<&>"})), r#"{"a":"\u003c\u0026\u003e"}"#);
    }
}
