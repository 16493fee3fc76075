//! `inspect`: whatever has these names, looked for among containers, images, networks and volumes,
//! in this order; and how all of them are printed.

use std::process::ExitCode;

use anyhow::bail;
use cache::Store;
use clap::Args;
use engine::containers::Containers;
use engine::network::DefinitionError;
use engine::volume::{self, Volumes};
use serde::Serialize;
use serde_json::Value;

use crate::error::Silent;
use crate::paths::Home;
use crate::{container_inspect, format, image_inspect, network, ui};

/// What `inspect` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct InspectArgs {
    /// json or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Show how much containers have written
    #[arg(short, long)]
    size: bool,
    /// Only look for one kind of thing: container, image, network or volume
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    names: Vec<String>,
}

const KINDS: [&str; 4] = ["container", "image", "network", "volume"];

/// Inspects what has these names; one that is missing makes the whole a failure.
pub(crate) fn inspect(home: &Home, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let kinds = match args.kind.as_deref().filter(|kind| !kind.is_empty()) {
        None => &KINDS[..],
        Some(wanted) => match KINDS.iter().position(|kind| *kind == wanted) {
            Some(at) => &KINDS[at..=at],
            None => {
                bail!("{wanted:?} is not a valid value for --type: use one of {}", KINDS.join(", "))
            }
        },
    };
    look(home, args, kinds)
}

/// Inspects containers only.
pub(crate) fn inspect_containers(home: &Home, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    look(home, args, &KINDS[..1])
}

fn look(home: &Home, args: &InspectArgs, kinds: &[&str]) -> anyhow::Result<ExitCode> {
    if args.size && !kinds.contains(&"container") {
        ui::note(format_args!("WARNING: --size ignored for {}s", kinds[0]));
    }
    let store = home.open()?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &args.names {
        match find(&store, kinds, name, args.size)? {
            Some(document) => found.push(document),
            None => missing.push(name),
        }
    }
    print(&found, args.format.as_deref())?;
    let what = if let [kind] = kinds { kind } else { "object" };
    missing.iter().for_each(|name| ui::note(format_args!("Error: No such {what}: {name}")));
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find(store: &Store, kinds: &[&str], name: &str, sized: bool) -> anyhow::Result<Option<Value>> {
    for kind in kinds {
        let found = match *kind {
            "container" => container(store, name, sized)?,
            "image" => image_inspect::find(store, name)?,
            "network" => network_document(store, name)?,
            _ => volume_document(store, name)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn container(store: &Store, name: &str, sized: bool) -> anyhow::Result<Option<Value>> {
    let containers = Containers::open(store)?;
    let observed = container_inspect::find(&containers, name)?;
    observed.map(|one| container_inspect::document(&containers, &one, sized)).transpose()
}

fn network_document(store: &Store, name: &str) -> anyhow::Result<Option<Value>> {
    let definitions = network::definitions(store.root());
    match definitions.find(name) {
        Ok(definition) => network::document(&definitions, definition).map(Some),
        Err(DefinitionError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn volume_document(store: &Store, name: &str) -> anyhow::Result<Option<Value>> {
    match Volumes::open(store)?.get(name) {
        Ok(volume) => Ok(Some(serde_json::to_value(volume)?)),
        Err(volume::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Prints what was found, as JSON or by a template.
pub(crate) fn print(all: &[Value], format: Option<&str>) -> anyhow::Result<()> {
    let short = || all.iter().map(without_absent).collect::<Vec<_>>();
    match format {
        None | Some("") => ui::raw(indented(&Value::Array(short())).as_bytes()),
        Some("json") => ui::line(Value::Array(short())),
        Some(_) if all.is_empty() => ui::line(""),
        Some(template) => {
            for full in all {
                match format::value(template, &without_absent(full), full) {
                    Ok(text) => ui::line(text),
                    Err(error) => {
                        let text = error.to_string();
                        // Docker's: 64 for what is no template, 1 for one that asks for what is
                        // not there.
                        let code = if text.contains(": executing ") { 1 } else { 64 };
                        ui::note(text);
                        return Err(Silent(code).into());
                    }
                }
            }
        }
    }
    Ok(())
}

/// JSON indented by four, as docker's.
fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("a value prints into memory");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// What Go leaves out of JSON while it is empty, though its templates know it.
const LEFT_OUT: [&str; 16] = [
    "ArgsEscaped",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "ID",
    "Init",
    "Mounts",
    "OsVersion",
    "Shell",
    "SizeRootFs",
    "SizeRw",
    "StopSignal",
    "StopTimeout",
    "Sysctls",
    "Tmpfs",
    "Variant",
];

/// Objects of which the same is true. Those that people fill, as labels, are none of them.
const NESTED: [&str; 3] = ["Config", "HostConfig", "State"];

/// What is printed of a document: without what Go leaves out.
pub(crate) fn without_absent(full: &Value) -> Value {
    let Value::Object(fields) = full else { return full.clone() };
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let stays = |(name, value): &(&String, &Value)| {
        name.as_str() != "ID" && !(LEFT_OUT.contains(&name.as_str()) && is_empty(value))
    };
    let shorter = |(name, value): (&String, &Value)| {
        let nested = NESTED.contains(&name.as_str());
        (name.clone(), if nested { without_absent(value) } else { value.clone() })
    };
    Value::Object(fields.iter().filter(stays).map(shorter).collect())
}
