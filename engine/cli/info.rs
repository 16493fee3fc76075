//! `info` and `version`: what this program is and what it finds on this machine.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use cache::Store;
use cache::lower::Driver;
use clap::Args;
use engine::containers::Status;
use engine::driver::{self, Choice};
use engine::units;
use serde_json::{Value, json};

use crate::in_use::InUse;
use crate::paths::Home;
use crate::{format, images, ui};

/// The version of docker's API whose command line this one follows.
const API: &str = "1.47";

/// The oldest version of docker's API that scripts may be written for.
const OLDEST_API: &str = "1.24";

/// What `info` and `version` are told.
#[derive(Args)]
pub(crate) struct InfoArgs {
    /// json or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Prints versions.
pub(crate) fn version(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    match &args.format {
        Some(format) => {
            ui::line(format::value(format, &versions(Spelling::Json), &versions(Spelling::Go))?);
        }
        None => ui::raw(version_text().as_bytes()),
    }
    Ok(ExitCode::SUCCESS)
}

/// How a field is called that Go and its JSON spell differently.
#[derive(Clone, Copy)]
enum Spelling {
    Json,
    Go,
}

/// Client and server as docker tells them apart; both are this program.
fn versions(spelling: Spelling) -> Value {
    let (api, oldest) = match spelling {
        Spelling::Json => ("ApiVersion", "MinAPIVersion"),
        Spelling::Go => ("APIVersion", "MinAPIVersion"),
    };
    let platform = frontend::platform::host();
    let kernel = kernel();
    let details = json!({
        "ApiVersion": API,
        "Arch": platform.architecture,
        "KernelVersion": kernel,
        "MinAPIVersion": OLDEST_API,
        "Os": platform.os,
    });
    json!({
        "Client": {
            "Platform": { "Name": "rbuild" },
            "Version": VERSION,
            api: API,
            "DefaultAPIVersion": API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": platform.os,
            "Arch": platform.architecture,
            "BuildTime": "",
            "Context": "default",
        },
        "Server": {
            "Platform": { "Name": "rbuild" },
            "Version": VERSION,
            api: API,
            oldest: OLDEST_API,
            "Os": platform.os,
            "Arch": platform.architecture,
            "Components": [{ "Name": "Engine", "Version": VERSION, "Details": details }],
            "GitCommit": "",
            "GoVersion": "",
            "KernelVersion": kernel,
            "Experimental": false,
            "BuildTime": "",
        },
    })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn version_text() -> String {
    let platform = frontend::platform::host();
    let platform = format!("{}/{}", platform.os, platform.architecture);
    let client = format!(
        "Client: rbuild\n Version:\t{VERSION}\n API version:\t{API}\n OS/Arch:\t{platform}\n Context:\tdefault\n"
    );
    let server = format!(
        "Server: rbuild (in the same process)\n Engine:\n  Version:\t{VERSION}\n  API version:\t{API} (minimum version {OLDEST_API})\n  OS/Arch:\t{platform}\n  Kernel:\t{}\n",
        kernel()
    );
    format::aligned(&format!("{client}\n{server}"), 20, 1)
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Prints what is found on this machine.
pub(crate) fn info(home: &Home, args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(&home.root)?;
    let known = known(&store, &driver::choose(&store, home.driver)?)?;
    match &args.format {
        Some(format) => ui::line(format::value(format, &known, &known)?),
        None => ui::raw(text(&known).as_bytes()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that `info` knows, by docker's names.
fn known(store: &Store, driver: &Choice) -> anyhow::Result<Value> {
    let parts = [contents(store, driver)?, abilities(), machine()?, client()];
    let fields = parts.into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Ok(Value::Object(fields.flatten().collect()))
}

fn contents(store: &Store, driver: &Choice) -> anyhow::Result<Value> {
    let layers = match driver.driver {
        Driver::Erofs => "tars, mounted as they are",
        Driver::Dir => "unpacked directories",
    };
    let containers = InUse::read(store)?.containers;
    let count = |wanted: &[Status]| {
        containers.iter().filter(|one| wanted.contains(&one.state.status)).count()
    };
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    Ok(json!({
        "ID": "",
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": images::all(store)?.len(),
        "Driver": driver.driver,
        "DriverStatus": [["Layers", layers], ["Chosen because", driver.why]],
        "DockerRootDir": store.root(),
    }))
}

fn abilities() -> Value {
    let mut security = vec!["name=seccomp,profile=builtin"];
    security.extend((!rustix::process::geteuid().is_root()).then_some("name=rootless"));
    security.push("name=cgroupns");
    json!({
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "none"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "IPv4Forwarding": true,
        "Debug": false,
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(),
        "SecurityOptions": security,
    })
}

fn machine() -> anyhow::Result<Value> {
    let uname = rustix::system::uname();
    let cpus = std::thread::available_parallelism().context("count the CPUs")?;
    Ok(json!({
        "SystemTime": engine::export::rfc3339(format::now()),
        "KernelVersion": kernel(),
        "OperatingSystem": operating_system(),
        "OSVersion": "",
        "OSType": frontend::platform::host().os,
        "Architecture": uname.machine().to_string_lossy(),
        "NCPU": cpus.get(),
        "MemTotal": memory(),
        "Name": uname.nodename().to_string_lossy(),
    }))
}

/// What docker tells of itself and of its settings, of which there are none here.
fn client() -> Value {
    json!({
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": VERSION,
        "Runtimes": { "rbuild": { "path": "rbuild" } },
        "DefaultRuntime": "rbuild",
        "Swarm": { "LocalNodeState": "inactive" },
        "LiveRestoreEnabled": false,
        "Isolation": "",
        "InitBinary": "",
        "Warnings": null,
        "ClientInfo": {
            "Debug": false,
            "Version": VERSION,
            "Context": "default",
            "Plugins": [],
            "Warnings": null,
        },
    })
}

fn text(known: &Value) -> String {
    let shown = |name: &str| match &known[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let status = |row: usize| known["DriverStatus"][row][1].as_str().unwrap_or_default().to_owned();
    let memory = units::memory_size(known["MemTotal"].as_f64().unwrap_or_default());
    let mut text =
        format!("Client: rbuild\n Version:    {VERSION}\n Context:    default\n\nServer:\n");
    let lines = [
        (" Containers", shown("Containers")),
        ("  Running", shown("ContainersRunning")),
        ("  Paused", shown("ContainersPaused")),
        ("  Stopped", shown("ContainersStopped")),
        (" Images", shown("Images")),
        (" Server Version", shown("ServerVersion")),
        (" Storage Driver", shown("Driver")),
        ("  Layers", status(0)),
        ("  Chosen because", status(1)),
        (" Cgroup Driver", shown("CgroupDriver")),
        (" Cgroup Version", shown("CgroupVersion")),
        (" Plugins", String::new()),
        ("  Volume", "local".to_owned()),
        ("  Network", "bridge host none".to_owned()),
    ];
    let mut add = |name: &str, value: &str| {
        text += format!("{name}: {value}").trim_end();
        text.push('\n');
    };
    lines.iter().for_each(|(name, value)| add(name, value));
    add(" Security Options", "");
    for option in known["SecurityOptions"].as_array().into_iter().flatten() {
        let mut parts = option.as_str().unwrap_or_default().split(',');
        let name = parts.next().unwrap_or_default();
        text += &format!("  {}\n", name.trim_start_matches("name="));
        parts.for_each(|part| text += &format!("   {}\n", part.replace("profile=", "Profile: ")));
    }
    for (name, field) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        text += &format!(" {name}: {}\n", shown(field));
    }
    text += &format!(
        " Total Memory: {memory}\n Name: {}\n Docker Root Dir: {}\n",
        shown("Name"),
        shown("DockerRootDir")
    );
    text
}

fn cgroup_version() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" }
}

fn operating_system() -> String {
    let text = fs_err::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Bytes of memory (proc_meminfo(5)).
fn memory() -> u64 {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes =
        total.and_then(|total| total.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_under_both_spellings() {
        for (template, expected) in [
            ("{{.Server.Version}}", VERSION),
            ("{{.Client.Version}}", VERSION),
            ("{{.Server.APIVersion}}", API),
            ("{{.Client.ApiVersion}}", API),
            ("{{(index .Server.Components 0).Name}}", "Engine"),
        ] {
            let text = format::value(template, &versions(Spelling::Json), &versions(Spelling::Go));
            assert_eq!(text.expect(template), expected, "{template}");
        }
        assert!(
            version_text().starts_with(&format!("Client: rbuild\n Version:           {VERSION}\n"))
        );
    }
}
