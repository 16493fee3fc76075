//! `inspect`: all that is known of an image, in the shape of docker's API.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use cache::Store;
use clap::Args;
use engine::reference::Reference;
use serde_json::{Value, json};

use crate::error::Silent;
use crate::images::Named;
use crate::{format, resolve, tags, ui};

/// What `inspect` and `image inspect` are told.
#[derive(Args)]
pub(crate) struct InspectArgs {
    /// json or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Only look for one kind of thing: image
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    names: Vec<String>,
}

/// Inspects whatever has these names; today those are images.
pub(crate) fn inspect(root: &Path, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let kinds = ["image", "container", "network", "volume"];
    if let Some(kind) = args.kind.as_deref().filter(|kind| !kinds.contains(kind)) {
        anyhow::bail!("{kind:?} is not a valid value for --type: use one of {}", kinds.join(", "));
    }
    let looks_for_images = args.kind.as_deref().is_none_or(|kind| kind == "image");
    show(root, args, looks_for_images, |name| {
        let what = args.kind.as_deref().unwrap_or("object");
        ui::note(format_args!("Error: No such {what}: {name}"));
    })
}

/// Inspects images.
pub(crate) fn inspect_images(root: &Path, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    show(root, args, true, |name| ui::note(tags::missing(name)))
}

/// Prints what is found, then names what is not; one that is missing makes the whole a failure.
fn show(
    root: &Path,
    args: &InspectArgs,
    looks_for_images: bool,
    say_missing: impl Fn(&str),
) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &args.names {
        let image = if looks_for_images { resolve::find(&store, name)? } else { None };
        match image {
            Some(image) => found.push(named(&store, image)?),
            None => missing.push(name),
        }
    }
    let mut all = Vec::new();
    for named in &found {
        let size = store.read_blob(&named.image.digest)?.len();
        all.push(document(named, size));
    }
    print(&all, args.format.as_deref())?;
    missing.iter().for_each(|name| say_missing(name));
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(all: &[Value], format: Option<&str>) -> anyhow::Result<()> {
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
                        ui::note(error);
                        // What docker ends with for a bad template.
                        return Err(Silent(64).into());
                    }
                }
            }
        }
    }
    Ok(())
}

/// JSON indented by four, as docker's.
fn indented(value: &Value) -> String {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("a value prints into memory");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

fn named(store: &Store, image: cache::image::Image) -> anyhow::Result<Named> {
    let listed = store.list_images()?.into_iter().filter(|listed| listed.digest == image.digest);
    let names = listed.filter_map(|listed| Reference::parse(&listed.name?).ok()).collect();
    Ok(Named::new(image, names))
}

/// What Go leaves out of JSON while it is empty, though its templates know it.
const LEFT_OUT: [&str; 9] = [
    "ID",
    "ArgsEscaped",
    "ExposedPorts",
    "Healthcheck",
    "OsVersion",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "Variant",
];

fn without_absent(full: &Value) -> Value {
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
        // Labels are people's own; nothing of theirs is left out.
        let value = if name == "Config" { without_absent(value) } else { value.clone() };
        (name.clone(), value)
    };
    Value::Object(fields.iter().filter(stays).map(shorter).collect())
}

/// An image in the shape of docker's API, with every field that a template may ask for.
fn document(named: &Named, manifest_size: usize) -> Value {
    let image = &named.image;
    let config = &image.config;
    let comment = config.history.last().and_then(|step| step.comment.clone());
    let repositories: BTreeSet<String> = named.names.iter().map(Reference::familiar_name).collect();
    let digests = repositories.iter().map(|name| format!("{name}@{}", image.digest));
    json!({
        "Id": image.id(),
        "ID": image.id(),
        "RepoTags": named.familiar(),
        "RepoDigests": digests.collect::<Vec<_>>(),
        "Parent": "",
        "Comment": comment.unwrap_or_default(),
        "Created": config.created.as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        "DockerVersion": "",
        "Author": config.author.as_deref().unwrap_or_default(),
        "Config": run_config(&config.config),
        "Architecture": config.architecture,
        "Variant": config.variant.as_deref().unwrap_or_default(),
        "Os": config.os,
        "OsVersion": config.other.get("os.version").cloned().unwrap_or_else(|| "".into()),
        "Size": image.size(),
        "GraphDriver": { "Data": null, "Name": "dir" },
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
        "Descriptor": {
            "mediaType": cache::oci::MANIFEST,
            "digest": image.digest,
            "size": manifest_size,
        },
    })
}

fn run_config(config: &cache::oci::RunConfig) -> Value {
    let mut shown = json!({
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "ExposedPorts": null,
        "Tty": false,
        "OpenStdin": false,
        "StdinOnce": false,
        "Env": config.env,
        "Cmd": config.cmd,
        "Healthcheck": null,
        "ArgsEscaped": config.args_escaped,
        "Image": "",
        "Volumes": null,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": null,
        "Labels": null,
        "StopSignal": config.stop_signal,
        "StopTimeout": null,
        "Shell": config.shell,
    });
    if let Some(healthcheck) = &config.healthcheck {
        shown["Healthcheck"] = json!(healthcheck);
    }
    if !config.exposed_ports.is_empty() {
        shown["ExposedPorts"] = json!(config.exposed_ports);
    }
    if !config.volumes.is_empty() {
        shown["Volumes"] = json!(config.volumes);
    }
    if !config.on_build.is_empty() {
        shown["OnBuild"] = json!(config.on_build);
    }
    if !config.labels.is_empty() {
        shown["Labels"] = json!(config.labels);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache::oci::ImageConfig;

    fn inspected(config: &ImageConfig) -> Value {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let (digest, _) = store.put_image(config, &Default::default()).expect("put");
        let names = ["docker.io/library/app:1", "ghcr.io/a/b:2"].map(str::to_owned);
        store.tag(&digest, &names).expect("tag");
        document(&named(&store, store.read_image(&digest).expect("read")).expect("name"), 7)
    }

    #[test]
    fn an_image_is_shown_in_docker_s_shape() {
        let mut config = ImageConfig { os: "linux".into(), ..Default::default() };
        config.config.env.push("A=b".into());
        config.config.labels.insert("Shell".into(), String::new());
        let full = inspected(&config);
        assert_eq!(full["RepoTags"], json!(["app:1", "ghcr.io/a/b:2"]));
        assert_eq!(full["Descriptor"]["size"], 7);
        let shown = without_absent(&full);
        let config = shown["Config"].as_object().expect("an object");
        assert!(!config.contains_key("Shell") && !config.contains_key("Healthcheck"));
        assert_eq!(shown["Config"]["Labels"], json!({"Shell": ""}));
        assert_eq!(shown["Config"]["Volumes"], Value::Null);
        for (template, expected) in [
            ("{{.Id}} {{.ID}}", format!("{0} {0}", full["Id"].as_str().expect("id"))),
            ("{{json .Config.Healthcheck}}", "null".to_owned()),
            ("{{.Config.StopSignal}}", String::new()),
            ("{{index .RepoTags 0}}", "app:1".to_owned()),
            ("{{json .Config.Env}}", "[\"A=b\"]".to_owned()),
            ("{{.Os}}/{{.Size}}", "linux/0".to_owned()),
        ] {
            assert_eq!(
                format::value(template, &shown, &full).expect(template),
                expected,
                "{template}"
            );
        }
    }
}
