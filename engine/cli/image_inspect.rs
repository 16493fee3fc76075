//! `image inspect`: all that is known of an image, in the shape of docker's API.

use std::collections::BTreeSet;
use std::process::ExitCode;

use cache::Store;
use cache::digest::Digest;
use cache::lower::Driver;
use cache::oci::Manifest;
use clap::Args;
use engine::reference::Reference;
use serde_json::{Value, json};

use crate::images::Named;
use crate::inspect::print;
use crate::paths::Home;
use crate::{resolve, tags, ui};

/// What `image inspect` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct InspectArgs {
    /// json or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Print an image's manifest, byte by byte as its registry has it
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// Of an image for several platforms inspect that one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    names: Vec<String>,
}

/// Inspects images: prints what is found, then names what is not; one that is missing makes the
/// whole a failure.
pub(crate) fn inspect_images(home: &Home, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    if args.raw {
        return raw(&store, &args.names);
    }
    let wanted = args.platform.as_deref().map(frontend::platform::parse).transpose()?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &args.names {
        let image = match &wanted {
            Some(wanted) => resolve::find_for(&store, name, wanted)?,
            None => resolve::find(&store, name)?,
        };
        match image {
            Some(image) => found.push(shown(&store, image)?),
            None => missing.push(name),
        }
    }
    print(&found, args.format.as_deref())?;
    missing.iter().for_each(|name| ui::note(tags::missing(name)));
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the manifests of images: those of the registries they come from, else those they have here.
fn raw(store: &Store, names: &[String]) -> anyhow::Result<ExitCode> {
    for name in names {
        let Some(image) = resolve::find(store, name)? else {
            ui::note(tags::missing(name));
            return Ok(ExitCode::FAILURE);
        };
        let listed = store.list_images()?;
        let listed = listed.iter().filter(|listed| listed.digest == image.digest);
        // The store's own manifest and those for other platforms may be there too.
        let is_origin = |digest: &&Digest| {
            let manifest = store.read_blob(digest).ok();
            let manifest = manifest.and_then(|it| serde_json::from_slice::<Manifest>(&it).ok());
            **digest != image.digest && manifest.is_some_and(|it| it.config.digest == image.id())
        };
        let origin = listed.flat_map(|listed| &listed.documents).find(is_origin);
        ui::raw(&store.read_blob(origin.unwrap_or(&image.digest))?);
    }
    Ok(ExitCode::SUCCESS)
}

/// An image in the shape of docker's API, if there is one of this name or id.
pub(crate) fn find(store: &Store, name: &str) -> anyhow::Result<Option<Value>> {
    resolve::find(store, name)?.map(|image| shown(store, image)).transpose()
}

fn shown(store: &Store, image: cache::image::Image) -> anyhow::Result<Value> {
    let size = store.read_blob(&image.digest)?.len();
    Ok(document(&named(store, image)?, size, store.driver()))
}

fn named(store: &Store, image: cache::image::Image) -> anyhow::Result<Named> {
    let listed = store.list_images()?.into_iter().filter(|listed| listed.digest == image.digest);
    let names = listed.filter_map(|listed| Reference::parse(&listed.name?).ok()).collect();
    Ok(Named::new(image, names))
}

/// An image in the shape of docker's API, with every field that a template may ask for.
fn document(named: &Named, manifest_size: usize, driver: Driver) -> Value {
    let image = &named.image;
    let config = &image.config;
    let comment = config.history.last().and_then(|step| step.comment.clone());
    let names = named.names.iter().chain(&named.digests);
    let repositories: BTreeSet<String> = names.map(Reference::familiar_name).collect();
    let digests = repositories.iter().map(|name| format!("{name}@{}", named.digest_in(name)));
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
        "GraphDriver": { "Data": null, "Name": driver },
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
    use crate::format;
    use crate::inspect::without_absent;
    use cache::oci::ImageConfig;

    fn inspected(config: &ImageConfig) -> Value {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let (digest, _) = store.put_image(config, &Default::default()).expect("put");
        let names = ["docker.io/library/app:1", "ghcr.io/a/b:2"].map(str::to_owned);
        store.tag(&digest, &names).expect("tag");
        let image = store.read_image(&digest).expect("read");
        document(&named(&store, image).expect("name"), 7, Driver::Erofs)
    }

    #[test]
    fn an_image_is_shown_in_docker_s_shape() {
        let mut config = ImageConfig { os: "linux".into(), ..Default::default() };
        config.config.env.push("A=b".into());
        config.config.labels.insert("Shell".into(), String::new());
        let full = inspected(&config);
        assert_eq!(full["RepoTags"], json!(["app:1", "ghcr.io/a/b:2"]));
        assert_eq!(full["Descriptor"]["size"], 7);
        assert_eq!(full["GraphDriver"]["Name"], "erofs");
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
