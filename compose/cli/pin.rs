//! `config --resolve-image-digests` and `--lock-image-digests`: images by their digests in place of their tags.
//!
//! An image that is here and came from a registry has the digest that it has there; for others the registry is asked.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, bail};
use compose::Project;
use compose::load::Warnings;
use compose::model::Service;
use engine::reference::Reference;
use serde_json::Value;

use crate::args::Globals;
use crate::commands::{program, rbuild};
use crate::home::Here;

/// Gives images that have none their digests.
pub(crate) fn resolve(globals: &Globals, images: Vec<&mut String>) -> anyhow::Result<()> {
    // A project can be printed where there is no store.
    let here = Here::look(globals).ok();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for image in images.into_iter().filter(|image| !image.is_empty()) {
        if let Some(pinned) = known.get(image) {
            pinned.clone_into(image);
            continue;
        }
        let reference = Reference::parse(image)?;
        let pinned = match &reference.digest {
            Some(_) => reference.for_pull().to_string(),
            None => {
                let name = reference.or_latest();
                let here = here.as_ref().and_then(|here| local(here, &name));
                let digest = match here {
                    Some(digest) => digest,
                    None => remote(globals, &name)
                        .with_context(|| format!("failed to resolve digest for {name}"))?,
                };
                format!("{name}@{digest}")
            }
        };
        known.insert(std::mem::replace(image, pinned.clone()), pinned);
    }
    Ok(())
}

/// The digest by which a registry knows an image that is here.
fn local(here: &Here, name: &Reference) -> Option<String> {
    let image = engine::images::find(&here.store, &name.to_string()).ok()??;
    let listed = here.store.list_images().ok()?.into_iter();
    let names = listed.filter(|it| it.digest == image.digest).filter_map(|it| it.name);
    let mut names = names.filter_map(|text| Reference::parse(&text).ok());
    names.find(|it| it.digest.is_some() && it.name() == name.name())?.digest
}

/// The digest that a registry says.
fn remote(globals: &Globals, name: &Reference) -> anyhow::Result<String> {
    let mut command = rbuild(globals);
    command.args(["manifest", "inspect", "--verbose", &name.to_string()]).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("start {}", program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.trim().trim_start_matches("ERROR: "));
    }
    let shown: Value = serde_json::from_slice(&output.stdout).context("read its answer")?;
    let digest = shown["Descriptor"]["digest"].as_str();
    digest.map(str::to_owned).context("its answer has no digest")
}

/// The images of a project: those of services, of what runs before them, and those that are mounted.
pub(crate) fn images(project: &mut Project) -> Vec<&mut String> {
    let all: Vec<String> = project.all_services().keys().map(|name| (*name).to_owned()).collect();
    let mut images = Vec::new();
    for service in project.services.values_mut() {
        images.push(&mut service.image);
        images.extend(service.pre_start.iter_mut().map(|hook| &mut hook.image));
        let volumes = service.volumes.iter_mut().filter(|volume| volume.kind == "image");
        let sources = volumes.map(|volume| &mut volume.source);
        images.extend(sources.filter(|source| !all.contains(source)));
    }
    images
}

/// The same of a project whose variables have no values yet.
pub(crate) fn images_untyped(model: &mut Value) -> Vec<&mut String> {
    let Some(services) = model.get_mut("services").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let all: Vec<String> = services.keys().cloned().collect();
    let mut found = Vec::new();
    for (key, value) in services.values_mut().filter_map(Value::as_object_mut).flatten() {
        match (key.as_str(), value) {
            ("image", image) => found.push(image),
            ("pre_start", Value::Array(hooks)) => {
                found.extend(hooks.iter_mut().filter_map(|hook| hook.get_mut("image")));
            }
            ("volumes", Value::Array(volumes)) => {
                let mounted = volumes.iter_mut().filter(|volume| volume["type"] == "image");
                let sources = mounted.filter_map(|volume| volume.get_mut("source"));
                let is_service =
                    |source: &Value| all.iter().any(|name| source.as_str() == Some(name));
                found.extend(sources.filter(|source| !is_service(source)));
            }
            _ => {}
        }
    }
    let texts = found.into_iter().filter_map(|value| match value {
        Value::String(text) => Some(text),
        _ => None,
    });
    texts.collect()
}

/// A project of nothing but images, to be laid over the other one.
pub(crate) fn lock(project: Project, warnings: &mut Warnings) -> Project {
    let services = project.services.into_iter().map(|(name, service)| {
        if service.pre_start.iter().any(|hook| !hook.image.is_empty()) {
            warnings.push(hooks_stay(&name));
        }
        let mut volumes = service.volumes;
        volumes.retain(|volume| volume.kind == "image");
        (name, Service { image: service.image, volumes, ..Service::default() })
    });
    Project { services: services.collect(), ..Project::default() }
}

/// The same of a project whose variables have no values yet.
pub(crate) fn lock_untyped(model: &mut Value, warnings: &mut Warnings) {
    let Some(model) = model.as_object_mut() else { return };
    model.retain(|key, _| key == "services");
    let services = model.values_mut().filter_map(Value::as_object_mut).flatten();
    for (name, service) in services {
        let Some(service) = service.as_object_mut() else { continue };
        let hooks = service.get("pre_start").and_then(Value::as_array).into_iter().flatten();
        if hooks.into_iter().any(|hook| hook.get("image").is_some()) {
            warnings.push(hooks_stay(name));
        }
        if let Some(volumes) = service.get_mut("volumes").and_then(Value::as_array_mut) {
            volumes.retain(|volume| volume["type"] == "image");
        }
        let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        service.retain(|key, value| key == "image" || key == "volumes" && !is_empty(value));
    }
}

fn hooks_stay(service: &str) -> String {
    format!(
        "service {service:?}: pre_start hook images are not pinned in the override file produced by \
         --lock-image-digests, use the full --resolve-image-digests output to pin them"
    )
}
