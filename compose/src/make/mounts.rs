//! What a container has mounted, by docker compose's rules: what can be said as `-v` is, the rest as `--mount`.
//!
//! One target, one mount: a service's volumes before its secrets, these before its configs; what is carried over from
//! the container before comes last.

use cache::oci::StringMap;
use engine::containers::record::{HostConfig, Record};
use engine::volume::{ANONYMOUS, Resolved, api};

use super::container::Container;
use super::error::Of;
use super::{Error, files};
use crate::model::{self, BindOptions, Project, Service, VolumeOptions};

/// Fills in the mounts.
pub(super) fn apply(
    container: &Container<'_>,
    service: &Service,
    host: &mut HostConfig,
) -> Result<(), Error> {
    let of = container.of();
    let carried = container.previous.map(|previous| carried_over(previous, service));
    let mut targets = Vec::new();
    for mount in carried.unwrap_or_default() {
        if !service.volumes.iter().any(|own| own.target == mount.target && !is_anonymous(own)) {
            targets.push(mount.target.clone());
            host.mounts.push(mount);
        }
    }
    for volume in &service.volumes {
        if targets.contains(&volume.target) {
            continue;
        }
        targets.push(volume.target.clone());
        match as_bind(container.project, volume) {
            Some(bind) => host.binds.push(bind),
            None => host.mounts.push(as_mount(of, container.project, volume)?),
        }
    }
    for mount in files::mounts(container.project, service, container.files)? {
        if !targets.contains(&mount.target) {
            targets.push(mount.target.clone());
            host.mounts.push(mount);
        }
    }
    Ok(())
}

fn is_anonymous(mount: &model::Mount) -> bool {
    mount.kind == "volume" && mount.source.is_empty()
}

/// What the container before has where its image, or the service, wants a volume without a name.
fn carried_over(previous: &Record, service: &Service) -> Vec<api::Mount> {
    let volumes = previous.config.volumes.as_ref();
    let is_wanted = |target: &str| {
        volumes.is_some_and(|volumes| volumes.contains_key(target))
            || service.volumes.iter().any(|own| own.target == target && is_anonymous(own))
    };
    let carried = |mount: &Resolved| api::Mount {
        kind: mount.point.kind,
        source: match mount.point.kind {
            api::Kind::Bind => mount.point.source.clone(),
            _ => mount.point.name.clone(),
        },
        target: mount.point.destination.clone(),
        read_only: !mount.point.rw,
        volume_options: mount.is_unnamed().then(still_unnamed),
        ..api::Mount::default()
    };
    let mounts = previous.mounts.iter();
    mounts
        .filter(|mount| mount.is_listed() && mount.point.kind != api::Kind::Tmpfs)
        .filter(|mount| is_wanted(&mount.point.destination))
        .map(carried)
        .collect()
}

/// Says of a volume that has a name by now that nobody gave it one.
fn still_unnamed() -> api::VolumeOptions {
    let labels = StringMap::from([(ANONYMOUS.to_owned(), String::new())]);
    api::VolumeOptions { labels, ..api::VolumeOptions::default() }
}

/// A mount as `source:target:options`, if that can say it: only so a missing source is made.
fn as_bind(project: &Project, mount: &model::Mount) -> Option<String> {
    let source = match mount.kind.as_str() {
        "bind" if !needs_mount_for_bind(mount.bind.as_ref()) => mount.source.as_str(),
        "volume" if !needs_mount_for_volume(mount.volume.as_ref()) => {
            &project.volumes.get(&mount.source)?.name
        }
        _ => return None,
    };
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    if let Some(bind) = &mount.bind {
        options.extend([bind.selinux.as_str(), &bind.propagation]);
    }
    if mount.volume.as_ref().is_some_and(|volume| volume.nocopy) {
        options.push("nocopy");
    }
    options.retain(|option| !option.is_empty());
    Some(format!("{source}:{}:{}", mount.target, options.join(",")))
}

fn needs_mount_for_bind(bind: Option<&BindOptions>) -> bool {
    bind.is_some_and(|bind| {
        !bind.create_host_path.0 || !bind.propagation.is_empty() || !bind.recursive.is_empty()
    })
}

fn needs_mount_for_volume(volume: Option<&VolumeOptions>) -> bool {
    volume.is_some_and(|volume| {
        !volume.labels.0.is_empty() || !volume.subpath.is_empty() || volume.nocopy
    })
}

fn as_mount(of: Of<'_>, project: &Project, mount: &model::Mount) -> Result<api::Mount, Error> {
    let Some(kind) = api::Kind::parse(&mount.kind) else {
        let why = format!("there are no mounts of type {:?} on Linux without a swarm", mount.kind);
        return Err(of.unsupported("volumes", why));
    };
    if is_anonymous(mount) && mount.read_only {
        let why = "must not set ReadOnly mode when using anonymous volumes";
        return Err(of.invalid("volumes", why));
    }
    let named = project.volumes.get(&mount.source).filter(|_| kind == api::Kind::Volume);
    let mut made = api::Mount {
        kind,
        source: named.map_or_else(|| mount.source.clone(), |volume| volume.name.clone()),
        target: mount.target.clone(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        ..api::Mount::default()
    };
    match kind {
        api::Kind::Bind => {
            made.bind_options = mount.bind.as_ref().map(|it| bind_options(of, it)).transpose()?;
        }
        api::Kind::Volume => {
            made.volume_options = mount.volume.as_ref().map(|volume| api::VolumeOptions {
                no_copy: volume.nocopy,
                labels: volume.labels.0.clone(),
                subpath: volume.subpath.clone(),
                driver_config: None,
            });
        }
        api::Kind::Tmpfs => {
            made.tmpfs_options = mount.tmpfs.as_ref().map(|tmpfs| api::TmpfsOptions {
                size_bytes: u64::try_from(tmpfs.size.0).unwrap_or(0),
                mode: u32::try_from(tmpfs.mode).unwrap_or(0),
            });
        }
        api::Kind::Image => {
            made.image_options = mount
                .image
                .as_ref()
                .map(|image| api::ImageOptions { subpath: image.subpath.clone() });
        }
    }
    Ok(made)
}

fn bind_options(of: Of<'_>, bind: &BindOptions) -> Result<api::BindOptions, Error> {
    let propagation =
        match bind.propagation.as_str() {
            "" => None,
            word => Some(api::Propagation::parse(word).ok_or_else(|| {
                of.invalid("volumes", format!("invalid propagation mode: {word}"))
            })?),
        };
    Ok(api::BindOptions {
        propagation,
        create_mountpoint: bind.create_host_path.0,
        non_recursive: bind.recursive == "disabled",
        read_only_non_recursive: bind.recursive == "writable",
        read_only_force_recursive: bind.recursive == "readonly",
    })
}
