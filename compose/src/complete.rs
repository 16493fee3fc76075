//! Phases 11, 12 and 14: defaults, what excludes each other, and what is implied.
//!
//! Decides on nodes in long syntax; what services refer to is looked at later, in the typed model.

use std::collections::BTreeMap;

use crate::canonical::{clean, default};
use crate::error::{Mistake, Wrong};
use crate::merge::merge_at;
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::unique;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The mappings inside a mapping or list.
fn each(node: Option<&mut Node>) -> Vec<&mut Node> {
    match node.map(|node| &mut node.value) {
        Some(Value::List(list)) => list.iter_mut().collect(),
        Some(Value::Map(map)) => map.values_mut().collect(),
        _ => Vec::new(),
    }
}

/// Phase 11: what attributes are where nothing is said.
pub(crate) fn defaults(file: &mut Map) {
    for service in each(file.get_mut("services")) {
        if let Some(build) = service.get_mut("build") {
            default(build, "context", text("."));
        }
        for secret in each(service.get_mut("secrets")) {
            let source = secret.get("source").and_then(Node::as_text).unwrap_or_default();
            let target = text(&format!("/run/secrets/{source}"));
            default(secret, "target", target);
        }
        for port in each(service.get_mut("ports")) {
            default(port, "protocol", text("tcp"));
            default(port, "mode", text("ingress"));
        }
        for mount in each(service.get_mut("volumes")) {
            if let Some(bind) = mount.get_mut("bind") {
                default(bind, "create_host_path", Value::Bool(true));
            }
        }
        each(service.get_mut("gpus")).into_iter().for_each(device_count);
        let resources = service.get_mut("deploy").and_then(|deploy| deploy.get_mut("resources"));
        let reserved = resources.and_then(|resources| resources.get_mut("reservations"));
        let devices = reserved.and_then(|reserved| reserved.get_mut("devices"));
        each(devices).into_iter().for_each(device_count);
    }
}

fn device_count(request: &mut Node) {
    if request.get("device_ids").is_none() {
        default(request, "count", text("all"));
    }
}

/// Phase 12: attributes that exclude each other or need each other.
pub(crate) fn exclusions(file: &Map) -> Result<(), Mistake> {
    let root = Path::ROOT;
    for (kind, keys) in [
        ("configs", &["file", "environment", "content"][..]),
        ("secrets", &["file", "environment"]),
    ] {
        let path = root.key(kind);
        for (name, node) in file.get(kind).and_then(Node::as_map).into_iter().flatten() {
            file_object(node, &path.key(name), keys)?;
        }
    }
    for kind in ["volumes", "networks"] {
        let path = root.key(kind);
        for (name, node) in file.get(kind).and_then(Node::as_map).into_iter().flatten() {
            // Networks with more than a name are let pass, as docker compose does.
            if kind == "volumes" {
                external(node, &path.key(name))?;
            }
        }
    }
    let services = root.key("services");
    for (name, node) in file.get("services").and_then(Node::as_map).into_iter().flatten() {
        service(node, &services.key(name))?;
    }
    Ok(())
}

fn file_object(node: &Node, path: &Path<'_>, keys: &'static [&'static str]) -> Result<(), Mistake> {
    let set = keys.iter().filter(|key| node.get(key).is_some()).count();
    let is_made_elsewhere = node.get("driver").is_some() || node.get("external").is_some();
    match set {
        0 if !is_made_elsewhere => Err(node.wrong_key(path, Wrong::OneOf { keys })),
        0 | 1 => Ok(()),
        _ => Err(node.wrong_key(path, Wrong::Exclusive { keys })),
    }
}

fn external(node: &Node, path: &Path<'_>) -> Result<(), Mistake> {
    if node.get("external").map(|node| &node.value) != Some(&Value::Bool(true)) {
        return Ok(());
    }
    for (key, value) in node.as_map().into_iter().flatten() {
        if !matches!(key.as_str(), "name" | "external") && !key.starts_with("x-") {
            return Err(value.wrong_key(path, Wrong::External { key: key.clone() }));
        }
    }
    Ok(())
}

fn service(node: &Node, path: &Path<'_>) -> Result<(), Mistake> {
    let ports = path.key("ports");
    let list = |node: Option<&'_ Node>| node.and_then(Node::as_list).unwrap_or_default().to_vec();
    for (index, port) in list(node.get("ports")).iter().enumerate() {
        if let Some(host) = port.get("host_ip")
            && host.as_text().is_none_or(|ip| ip.parse::<std::net::IpAddr>().is_err())
        {
            let value = host.plain().unwrap_or_default();
            return Err(host.wrong(&ports.index(index), Wrong::Port { what: "ip address", value }));
        }
    }
    let volumes = path.key("volumes");
    for (index, mount) in list(node.get("volumes")).iter().enumerate() {
        let is_bind = mount.get("type").and_then(Node::as_text) == Some("bind");
        let missing = match () {
            () if mount.as_map().is_none() => None,
            () if mount.get("target").is_none() => Some("target"),
            () if is_bind && mount.get("source").is_none() => Some("source"),
            () => None,
        };
        if let Some(key) = missing {
            return Err(mount.wrong(&volumes.index(index), Wrong::MissingKey { key }));
        }
    }
    let watch = node.get("develop").and_then(|develop| develop.get("watch"));
    for trigger in list(watch) {
        if let Some(blank) = trigger.get("path").filter(|path| path.as_text() == Some("")) {
            return Err(blank.wrong(&path.key("develop"), Wrong::Blank));
        }
    }
    let resources = node.get("deploy").and_then(|deploy| deploy.get("resources"));
    let devices = resources.and_then(|r| r.get("reservations")).and_then(|r| r.get("devices"));
    for request in list(node.get("gpus")).iter().chain(&list(devices)) {
        if request.get("count").is_some() && request.get("device_ids").is_some() {
            let keys = &["count", "device_ids"];
            return Err(request.wrong(path, Wrong::Exclusive { keys }));
        }
    }
    Ok(())
}

/// Values of variables that secrets and configs name, and of those that environments only name.
pub(crate) fn variables(file: &mut Map, environment: &BTreeMap<String, String>) {
    for kind in ["secrets", "configs"] {
        for resource in each(file.get_mut(kind)) {
            let name = resource.get("environment").and_then(Node::as_text);
            if let Some(value) = name.and_then(|name| environment.get(name)) {
                let value = text(value);
                default(resource, "#value", value);
            }
        }
    }
    for service in each(file.get_mut("services")) {
        for variable in
            service.get_mut("environment").and_then(Node::as_list_mut).into_iter().flatten()
        {
            let Some(name) = variable.as_text() else { continue };
            if let Some(value) = environment.get(name) {
                *variable = variable.text(format!("{name}={value}"));
            }
        }
    }
}

/// Phase 14: networks, names and dependencies that go without saying.
pub(crate) fn normalize(
    file: &mut Map,
    project: &str,
    environment: &BTreeMap<String, String>,
) -> Result<(), Mistake> {
    let mut uses_default = None;
    let services = Path::ROOT.key("services");
    for (name, service) in file.get_mut("services").and_then(Node::as_map_mut).into_iter().flatten()
    {
        let uses = join_network(service);
        uses_default = uses_default.or_else(|| uses.then(|| service.clone()));
        if service.get("pull_policy").and_then(Node::as_text) == Some("if_not_present") {
            let missing = service.text("missing");
            if let Some(map) = service.as_map_mut() {
                map.insert("pull_policy".to_owned(), missing);
            }
        }
        if let Some(build) = service.get_mut("build") {
            normalize_build(build, environment);
        }
        if let Some(variables) = service.get_mut("environment") {
            from_environment(variables, environment, true);
        }
        imply_dependencies(service);
        for mount in each(service.get_mut("volumes")) {
            if let Some(Value::Text(target)) = mount.get_mut("target").map(|node| &mut node.value) {
                *target = clean(target);
            }
        }
        inherit(service, &services.key(name))?;
    }
    if let Some(service) = uses_default {
        let networks = file
            .entry("networks".to_owned())
            .or_insert_with(|| service.with(Value::Map(Map::new())));
        default(networks, "default", Value::Null);
    }
    for kind in ["networks", "volumes", "configs", "secrets"] {
        for (key, resource) in file.get_mut(kind).and_then(Node::as_map_mut).into_iter().flatten() {
            let empty = resource.with(Value::Map(Map::new()));
            if resource.is_null() {
                *resource = empty;
            }
            let is_external = resource.get("external").and_then(Node::plain);
            let name = match is_external.as_deref() {
                Some("true") => key.clone(),
                _ => format!("{project}_{key}"),
            };
            default(resource, "name", Value::Text(name));
        }
    }
    Ok(())
}

/// Gives a service its network; true if that is the default one.
fn join_network(service: &mut Node) -> bool {
    if service.get("provider").is_some() || service.get("network_mode").is_some() {
        return false;
    }
    let networks = service.get("networks").and_then(Node::as_map);
    if let Some(networks) = networks.filter(|networks| !networks.is_empty()) {
        return networks.contains_key("default");
    }
    let networks = service.map([("default", Value::Null)]);
    if let Some(map) = service.as_map_mut() {
        map.insert("networks".to_owned(), networks);
    }
    true
}

fn normalize_build(build: &mut Node, environment: &BTreeMap<String, String>) {
    default(build, "context", text("."));
    if build.get("dockerfile_inline").is_none() {
        default(build, "dockerfile", text("Dockerfile"));
    }
    if let Some(args) = build.get_mut("args") {
        from_environment(args, environment, false);
    }
}

/// Gives names without values the values that they have outside; what has none there stays or goes.
fn from_environment(node: &mut Node, environment: &BTreeMap<String, String>, keeps_unset: bool) {
    match &mut node.value {
        Value::Map(map) => map.retain(|name, value| {
            let found = environment.get(name);
            if let Some(found) = found.filter(|_| value.is_null()) {
                value.value = text(found);
            }
            keeps_unset || !value.is_null()
        }),
        Value::List(list) => list.retain_mut(|item| {
            let Some(name) = item.as_text().filter(|item| !item.contains('=')) else {
                return true;
            };
            let found = environment.get(name).map(|value| format!("{name}={value}"));
            let stays = keeps_unset || found.is_some();
            if let Some(found) = found {
                item.value = Value::Text(found);
            }
            stays
        }),
        _ => {}
    }
}

/// Services whose namespaces, volumes or names are used must be there first.
fn imply_dependencies(service: &mut Node) {
    // Each stands where the service says what implies it.
    let mut implied: Vec<(String, Node)> = Vec::new();
    let mut imply = |name: &str, at: &Node, restart: bool| {
        let dependency = at.map([
            ("condition", text("service_started")),
            ("restart", Value::Bool(restart)),
            ("required", Value::Bool(true)),
        ]);
        implied.push((name.to_owned(), dependency));
    };
    let items = |key: &str| service.get(key).and_then(Node::as_list).unwrap_or_default().iter();
    for item in items("links") {
        if let Some(link) = item.as_text() {
            imply(link.split(':').next().unwrap_or(link), item, true);
        }
    }
    for node in ["network_mode", "ipc", "pid", "uts", "cgroup"].map(|key| service.get(key)) {
        let value = node.and_then(Node::as_text);
        if let (Some(node), Some(other)) = (node, value.and_then(|v| v.strip_prefix("service:"))) {
            imply(other, node, true);
        }
    }
    for item in items("volumes_from") {
        if let Some(from) = item.as_text().filter(|from| !from.starts_with("container:")) {
            imply(from.split(':').next().unwrap_or(from), item, false);
        }
    }
    if implied.is_empty() {
        return;
    }
    default(service, "depends_on", Value::Map(Map::new()));
    if let Some(map) = service.get_mut("depends_on").and_then(Node::as_map_mut) {
        for (name, dependency) in implied {
            map.entry(name).or_insert(dependency);
        }
    }
}

/// What containers that run before a service's do not take over from it.
const NOT_INHERITED: [&str; 20] = [
    "profiles",
    "deploy",
    "develop",
    "restart",
    "scale",
    "attach",
    "container_name",
    "provider",
    "external_links",
    "links",
    "pre_start",
    "post_start",
    "pre_stop",
    "volumes",
    "build",
    "depends_on",
    "expose",
    "healthcheck",
    "ports",
    "label_file",
];

fn inherit(service: &mut Node, path: &Path<'_>) -> Result<(), Mistake> {
    if service.get("pre_start").is_none() {
        return Ok(());
    }
    let mut base = service.clone();
    if let Some(map) = base.as_map_mut() {
        map.retain(|key, _| {
            !NOT_INHERITED.contains(&key.as_str())
                && !matches!(key.as_str(), "stdin_open" | "tty")
                && !key.starts_with("x-")
        });
    }
    for hook in each(service.get_mut("pre_start")) {
        let mut merged = merge_at(base.clone(), hook.clone(), path)?;
        unique::enforce_in_service(&mut merged);
        for (key, node) in merged.as_map_mut().into_iter().flatten() {
            match key.as_str() {
                "command" | "entrypoint" => {}
                "blkio_config" => each(Some(node)).into_iter().for_each(drop_repeated),
                _ => drop_repeated(node),
            }
        }
        *hook = merged;
    }
    Ok(())
}

/// What was inherited before, in a project that was printed and is loaded again, is not there twice.
fn drop_repeated(node: &mut Node) {
    if let Some(list) = node.as_list_mut() {
        let mut kept: Vec<Node> = Vec::with_capacity(list.len());
        for item in list.drain(..) {
            if !kept.contains(&item) {
                kept.push(item);
            }
        }
        *list = kept;
    }
}
