//! All that is known of a container, in the shape of docker's API, and what docker does not tell:
//! the monitor, and where the namespaces are.

use std::path::Path;

use anyhow::Context;
use cache::Store;
use cache::digest::Digest;
use cache::layer::walk::{HardLinks, Next, walk};
use cache::lower::Lower;
use engine::container::{MASKED_PATHS, READ_ONLY_PATHS};
use engine::containers::record::{EndpointSettings, Record};
use engine::containers::{Containers, Error, Observed, State, Status, ToldFiles, execs, log};
use engine::network::Definitions;
use fs_err as fs;
use serde_json::{Map, Value, json};

use crate::{container_row, network, port_map};

/// Finds a container by its name or id, also one that goes away meanwhile.
pub(crate) fn find(containers: &Containers<'_>, name: &str) -> anyhow::Result<Option<Observed>> {
    match containers.find(name).and_then(|id| containers.observe(&id)) {
        Ok(observed) => Ok(Some(observed)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What docker has for other systems, or does not set.
const NEVER_SET: [&str; 6] = [
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuCount",
    "CpuPercent",
    "IOMaximumIOps",
    "IOMaximumBandwidth",
];

/// How much of the disk a container takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Bytes of the files it has written.
    pub(crate) written: u64,
    /// The same with the image's.
    pub(crate) all: u64,
}

impl Sizes {
    /// Measures a container. What goes meanwhile does not count.
    pub(crate) fn of(containers: &Containers<'_>, record: &Record) -> Sizes {
        let written = tree_size(&containers.dir(&record.id).join("upper")).unwrap_or(0);
        let image = record.manifest.and_then(|digest| containers.store.peek_image(&digest).ok());
        Sizes { written, all: written + image.map_or(0, |image| image.size()) }
    }
}

/// The bytes of a directory's files, each counted once.
fn tree_size(path: &Path) -> anyhow::Result<u64> {
    let root = fs::File::open(path)?;
    let (mut bytes, mut links) = (0, HardLinks::default());
    walk(std::os::fd::AsFd::as_fd(&root), |found| {
        if links.seen(found).is_none() && found.file_type().is_file() {
            bytes += u64::try_from(found.stat().st_size).unwrap_or_default();
        }
        Ok::<_, cache::layer::Error>(Next::Enter)
    })
    .with_context(|| format!("measure {}", path.display()))?;
    Ok(bytes)
}

/// A container in the shape of docker's API, with every field that a template may ask for.
pub(crate) fn document(
    containers: &Containers<'_>,
    observed: &Observed,
    sized: bool,
) -> anyhow::Result<Value> {
    let Observed { record, state } = observed;
    let dir = containers.dir(&record.id);
    let argv = record.argv();
    let (path, args) = argv.split_first().map_or(("", &[][..]), |(path, args)| (path, args));
    let has_log = log::Plan::parse(&record.host_config.log_config).is_ok_and(|plan| plan.kept);
    let sizes = sized.then(|| Sizes::of(containers, record));
    let definitions = network::definitions(containers.store.root());
    let told = ToldFiles::find(&dir);
    let told = |file: fn(&ToldFiles) -> &Path| {
        told.as_ref().map_or_else(String::new, |told| file(told).display().to_string())
    };
    Ok(json!({
        "Id": record.id,
        "ID": record.id,
        "Created": record.created,
        "Path": path,
        "Args": args,
        "State": state_shown(state),
        "Image": record.image,
        "ResolvConfPath": told(|it| &it.resolv_conf),
        "HostnamePath": told(|it| &it.hostname),
        "HostsPath": told(|it| &it.hosts),
        "LogPath": if has_log { log::path(&dir, &record.id).display().to_string() } else { String::new() },
        "Name": format!("/{}", record.name),
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": Some(execs::listed(containers, &record.id)).filter(|ids| !ids.is_empty()),
        "HostConfig": host_config(record)?,
        "GraphDriver": { "Data": directories(containers.store, &dir, observed), "Name": "overlay2" },
        "SizeRw": sizes.map(|sizes| sizes.written),
        "SizeRootFs": sizes.map(|sizes| sizes.all),
        "Mounts": container_row::mounts(record).collect::<Vec<_>>(),
        "Config": config(record)?,
        "NetworkSettings": network_settings(observed, &definitions)?,
        "Namespaces": namespaces(state),
    }))
}

fn state_shown(state: &State) -> Value {
    json!({
        "Status": state.status.as_str(),
        "Running": state.status.is_active(),
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status::Dead,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
        "Health": state.health,
        "Monitor": if state.status.is_active() { state.monitor } else { 0 },
    })
}

/// Where the namespaces of a running container are.
fn namespaces(state: &State) -> Value {
    let mut found = Map::new();
    if state.pid != 0 {
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            found.insert(kind.to_owned(), format!("/proc/{}/ns/{kind}", state.pid).into());
        }
    }
    found.into()
}

/// Adds what Go leaves out of JSON and knows in templates.
fn with_absent(mut object: Value, names: &[&str]) -> Value {
    for name in names {
        if object.get(name).is_none() {
            object[*name] = Value::Null;
        }
    }
    object
}

fn config(record: &Record) -> anyhow::Result<Value> {
    let shown = serde_json::to_value(&record.config)?;
    Ok(with_absent(shown, &["ExposedPorts", "Healthcheck", "Shell", "StopSignal", "StopTimeout"]))
}

fn host_config(record: &Record) -> anyhow::Result<Value> {
    let mut host = record.host_config.clone();
    if !host.privileged {
        let all = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect());
        host.masked_paths = host.masked_paths.or_else(|| all(&MASKED_PATHS));
        host.readonly_paths = host.readonly_paths.or_else(|| all(&READ_ONLY_PATHS));
    }
    if host.memory > 0 && host.memory_swap == 0 {
        // As much swap as memory is the default.
        host.memory_swap = host.memory.saturating_mul(2).cast_signed();
    }
    let mut shown =
        with_absent(serde_json::to_value(&host)?, &["Init", "Mounts", "Sysctls", "Tmpfs"]);
    for name in NEVER_SET {
        shown[name] = 0.into();
    }
    for name in ["MaskedPaths", "ReadonlyPaths"] {
        if shown.get(name).is_none() {
            shown[name] = Value::Null;
        }
    }
    Ok(shown)
}

/// The directories of a container's root file system, as docker names them. The whole is mounted
/// where only the container's own processes see it: there one looks through one of them.
fn directories(store: &Store, dir: &Path, observed: &Observed) -> Value {
    // A layer that is gone is not shown; there is more to see than that.
    let lower = store.lower(&observed.record.layers).unwrap_or_default();
    let lower = lower.iter().map(|lower| match lower {
        Lower::Directory(path) | Lower::Erofs { index: path, .. } => path,
    });
    // What overlay wants beside a single layer is no layer.
    let scratch = store.root().join("tmp");
    let lower = lower.filter(|path| !path.starts_with(&scratch));
    let merged = match observed.state.pid {
        0 => String::new(),
        pid => format!("/proc/{pid}/root"),
    };
    json!({
        "LowerDir": lower.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":"),
        "MergedDir": merged,
        "UpperDir": dir.join("upper"),
        "WorkDir": dir.join("work"),
    })
}

fn network_settings(observed: &Observed, definitions: &Definitions) -> anyhow::Result<Value> {
    let Observed { record, state } = observed;
    let mut networks = Map::new();
    for name in container_row::networks(record) {
        let mut endpoint = state.networks.get(name).or_else(|| record.networks.get(name)).cloned();
        let endpoint = endpoint.get_or_insert_with(EndpointSettings::default);
        if endpoint.network_id.is_empty() {
            // A network may be gone while nobody uses it.
            endpoint.network_id = definitions.find(name).map(|it| it.id).unwrap_or_default();
        }
        networks.insert(name.to_owned(), serde_json::to_value(endpoint)?);
    }
    let runs = matches!(state.status, Status::Running | Status::Paused);
    let default = state.networks.get("bridge").filter(|_| runs).cloned().unwrap_or_default();
    Ok(json!({
        "Bridge": "",
        "SandboxID": if runs { Digest::of(format!("{} {}", record.id, state.started_at)).hex() } else { String::new() },
        "SandboxKey": if runs { format!("/proc/{}/ns/net", state.pid) } else { String::new() },
        "Ports": port_map::map(observed),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": default.endpoint_id,
        "Gateway": default.gateway,
        "GlobalIPv6Address": default.global_ipv6_address,
        "GlobalIPv6PrefixLen": default.global_ipv6_prefix_len,
        "IPAddress": default.ip_address,
        "IPPrefixLen": default.ip_prefix_len,
        "IPv6Gateway": default.ipv6_gateway,
        "MacAddress": default.mac_address,
        "Networks": networks,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::containers::record::{Config, HostConfig, PortBinding};
    use engine::volume::Resolved;

    fn shown(state: State) -> Value {
        let directory = tempfile::tempdir().expect("tempdir");
        let store = Store::open(directory.path()).expect("open");
        let containers = Containers::open(&store).expect("containers");
        let words = |text: &str| Some(text.split(' ').map(str::to_owned).collect());
        let tmpfs = serde_json::from_value(json!({"Origin": "Tmpfs"})).expect("a mount");
        let record = Record {
            name: "web".to_owned(),
            config: Config {
                entrypoint: words("nginx -g"),
                cmd: words("daemon"),
                exposed_ports: [("443/tcp".to_owned(), Default::default())].into(),
                ..Config::default()
            },
            host_config: HostConfig { network_mode: "bridge".to_owned(), ..HostConfig::default() },
            mounts: vec![Resolved::default(), tmpfs],
            networks: [("bridge".to_owned(), EndpointSettings::default())].into(),
            ..Record::default()
        };
        let record = containers.add(record).expect("add");
        let upper = containers.dir(&record.id).join("upper");
        fs::write(upper.join("file"), "x".repeat(1000)).expect("write");
        document(&containers, &Observed { record, state }, true).expect("document")
    }

    #[test]
    fn a_container_that_was_made_is_shown() {
        let full = shown(State::default());
        assert_eq!((&full["Path"], &full["Args"]), (&"nginx".into(), &json!(["-g", "daemon"])));
        assert_eq!((&full["Name"], &full["SizeRw"]), (&"/web".into(), &1000.into()));
        assert_eq!(full["State"]["Health"], Value::Null);
        assert_eq!(
            (&full["Namespaces"], &full["NetworkSettings"]["Ports"]),
            (&json!({}), &json!({}))
        );
        assert_eq!(full["Mounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(full["HostConfig"]["ReadonlyPaths"][0], "/proc/bus");
        let network = &full["NetworkSettings"]["Networks"]["bridge"];
        assert_eq!(network["NetworkID"].as_str().map(str::len), Some(64));
        let short = crate::inspect::without_absent(&full);
        assert!(short["State"].get("Health").is_none() && short.get("ID").is_none());
        assert!(short["HostConfig"].get("Init").is_none());
        for (template, expected) in [
            ("{{.State.Status}} {{.State.Running}}", "created false"),
            ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
            ("{{.ID}}", full["Id"].as_str().expect("id")),
            ("{{.NetworkSettings.IPAddress}}", ""),
            ("{{range .Mounts}}{{.Destination}}{{end}}", ""),
        ] {
            let text = crate::format::value(template, &short, &full).expect(template);
            assert_eq!(text, expected, "{template}");
        }
    }

    #[test]
    fn a_container_that_runs_shows_its_addresses_and_ports() {
        let endpoint =
            EndpointSettings { ip_address: "172.17.0.2".to_owned(), ..Default::default() };
        let binding = PortBinding { host_ip: "0.0.0.0".to_owned(), host_port: "8080".to_owned() };
        let full = shown(State {
            status: Status::Running,
            pid: 7,
            monitor: 6,
            networks: [("bridge".to_owned(), endpoint)].into(),
            ports: [("80/tcp".to_owned(), Some(vec![binding]))].into(),
            ..State::default()
        });
        assert_eq!((&full["State"]["Pid"], &full["State"]["Monitor"]), (&7.into(), &6.into()));
        assert_eq!(full["Namespaces"]["net"], "/proc/7/ns/net");
        assert_eq!(full["GraphDriver"]["Data"]["MergedDir"], "/proc/7/root");
        let network = &full["NetworkSettings"];
        assert_eq!(network["IPAddress"], "172.17.0.2");
        assert_eq!(network["SandboxKey"], "/proc/7/ns/net");
        let ports = json!({
            "443/tcp": null,
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
        });
        assert_eq!(network["Ports"], ports);
        let template = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
        assert_eq!(crate::format::value(template, &full, &full).expect(template), "8080");
    }
}
