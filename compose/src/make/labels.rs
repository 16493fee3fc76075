//! Labels by which compose, and other programs, know whose a container, a network or a volume is.

use std::collections::BTreeMap;

use cache::oci::StringMap;

use super::container::Container;
use crate::hash;
use crate::model::{Project, Service};

/// The project.
pub const PROJECT: &str = "com.docker.compose.project";
/// The service.
pub const SERVICE: &str = "com.docker.compose.service";
/// A container's place among those of its service, from 1; one-off containers have none.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// `True` for a container of `run`, else `False`.
pub const ONEOFF: &str = "com.docker.compose.oneoff";
/// What a container, a network or a volume was made of; see [`crate::hash`].
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// The id of a container's image.
pub const IMAGE: &str = "com.docker.compose.image";
/// The version of the program that made it.
pub const VERSION: &str = "com.docker.compose.version";
/// The services that it waits for: `name:condition:restart`, with commas between.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The project's folder.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The project's compose files, with commas between.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The variable files that were named on the command line, with commas between.
pub const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";
/// The container that this one replaces.
pub const REPLACE: &str = "com.docker.compose.replace";
/// The key of a network in its project.
pub const NETWORK: &str = "com.docker.compose.network";
/// The key of a volume in its project.
pub const VOLUME: &str = "com.docker.compose.volume";
/// The hash of each of a service's attributes, by which it is told what has changed. Ours alone.
pub const ATTRIBUTES: &str = "io.rbuild.compose.attributes";
/// `pre_start` for a container that runs before a service's own.
pub const HOOK: &str = "com.docker.compose.hook";
/// Which of them it is, from 0.
pub const HOOK_INDEX: &str = "com.docker.compose.hook-index";
/// What a one-off container is told from others by.
pub const SLUG: &str = "com.docker.compose.slug";

/// The version that [`VERSION`] says.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// A container's labels: the service's, and compose's, which win. The hash is of the service as the project says it:
/// which containers it shares something with is seen from the container itself.
pub(super) fn container(container: &Container<'_>) -> StringMap {
    let (project, service) = (container.project, container.service);
    let mut labels = service.labels.0.clone();
    let mut set = |key: &str, value: String| labels.insert(key.to_owned(), value);
    set(PROJECT, project.name.clone());
    set(SERVICE, container.service_name.to_owned());
    set(VERSION, OURS.to_owned());
    set(WORKING_DIR, project.working_dir.display().to_string());
    set(CONFIG_FILES, joined(&project.compose_files));
    set(ONEOFF, if container.one_off { "True" } else { "False" }.to_owned());
    if !project.env_files.is_empty() {
        set(ENVIRONMENT_FILE, joined(&project.env_files));
    }
    set(IMAGE, container.image.to_owned());
    set(CONFIG_HASH, hash::service(service));
    let attributes = serde_json::to_string(&hash::attributes(service));
    set(ATTRIBUTES, attributes.expect("a map of texts can be written"));
    set(DEPENDS_ON, depends_on(service));
    if !container.one_off {
        set(NUMBER, container.number.to_string());
    }
    if container.previous.is_some() {
        let replaced = match service.container_name.as_str() {
            "" => format!("{}-{}", container.service_name, container.number),
            name => name.to_owned(),
        };
        set(REPLACE, replaced);
    }
    labels
}

/// The labels of a network or a volume, by `kind` and its key in the project.
pub(super) fn resource(
    project: &Project,
    own: &BTreeMap<String, String>,
    (kind, key): (&str, &str),
    hash: String,
) -> StringMap {
    let mut labels = own.clone();
    for (name, value) in
        [(PROJECT, project.name.as_str()), (VERSION, OURS), (kind, key), (CONFIG_HASH, &hash)]
    {
        labels.insert(name.to_owned(), value.to_owned());
    }
    labels
}

fn joined(paths: &[std::path::PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(",")
}

fn depends_on(service: &Service) -> String {
    let line = |(name, dependency): (&String, &crate::model::Dependency)| {
        format!("{name}:{}:{}", dependency.condition, dependency.restart)
    };
    service.depends_on.iter().map(line).collect::<Vec<_>>().join(",")
}
