//! Phase 9: short syntax becomes long syntax, so that later phases know one form of everything.
//!
//! Expects what [`crate::validate`] has passed; what is of another kind stays as it is, for the last phase to refuse.

use crate::error::{Mistake, Wrong};
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::{mount, ports};

/// Whether text that cannot be read is an error, or may still have variables in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Refuse,
    Keep,
}

/// Rewrites a file in long syntax.
pub(crate) fn canonical(file: &mut Map, unreadable: Unreadable) -> Result<(), Mistake> {
    let services = Path::ROOT.key("services");
    for (name, service) in file.get_mut("services").and_then(Node::as_map_mut).into_iter().flatten()
    {
        canonical_service(service, &services.key(name), unreadable)?;
    }
    for kind in ["volumes", "networks", "secrets", "configs"] {
        let path = Path::ROOT.key(kind);
        for (name, resource) in file.get_mut(kind).and_then(Node::as_map_mut).into_iter().flatten()
        {
            external(resource, &path.key(name))?;
        }
    }
    Ok(())
}

fn canonical_service(
    service: &mut Node,
    path: &Path<'_>,
    unreadable: Unreadable,
) -> Result<(), Mistake> {
    let Some(map) = service.as_map_mut() else {
        return Ok(());
    };
    for (key, node) in map.iter_mut() {
        let path = path.key(key);
        match key.as_str() {
            "build" => canonical_build(node, &path, unreadable)?,
            "extends" => text_as(node, "service"),
            "depends_on" => depends_on(node),
            "env_file" => env_file(node),
            "label_file" | "dns" => text_as_list(node),
            "networks" | "models" => names_as_map(node),
            "gpus" if node.as_text().is_some() => {
                let all = node.map([("count", Value::Text("all".to_owned()))]);
                *node = node.with(Value::List(vec![all]));
            }
            "secrets" | "configs" => files(node),
            "volumes" => each(node, &path, |item, path| canonical_mount(item, path, unreadable))?,
            "devices" => each(node, &path, |item, path| device(item, path, unreadable))?,
            "ports" => canonical_ports(node, &path, unreadable)?,
            "develop" => {
                let watches = node.get_mut("watch").and_then(Node::as_list_mut);
                for watch in watches.into_iter().flatten() {
                    watch.get_mut("ignore").map(text_as_list);
                    watch.get_mut("include").map(text_as_list);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn canonical_build(
    node: &mut Node,
    path: &Path<'_>,
    unreadable: Unreadable,
) -> Result<(), Mistake> {
    text_as(node, "context");
    for (key, node) in node.as_map_mut().into_iter().flatten() {
        let path = path.key(key);
        match key.as_str() {
            "secrets" => files(node),
            "provenance" | "sbom" => {
                if let Some(text) = node.plain() {
                    *node = node.text(text);
                }
            }
            "additional_contexts" => pairs(node, &path, unreadable)?,
            "ssh" => ssh(node, &path)?,
            _ => {}
        }
    }
    Ok(())
}

fn each(
    node: &mut Node,
    path: &Path<'_>,
    mut change: impl FnMut(&mut Node, &Path<'_>) -> Result<(), Mistake>,
) -> Result<(), Mistake> {
    let items = node.as_list_mut().into_iter().flatten().enumerate();
    items.into_iter().try_for_each(|(index, item)| change(item, &path.index(index)))
}

/// `text` is `{key: text}`.
fn text_as(node: &mut Node, key: &str) {
    if let Some(text) = node.as_text() {
        *node = node.map([(key, Value::Text(text.to_owned()))]);
    }
}

fn text_as_list(node: &mut Node) {
    if node.as_text().is_some() {
        *node = node.with(Value::List(vec![node.clone()]));
    }
}

fn names_as_map(node: &mut Node) {
    if let Some(list) = node.as_list() {
        let entry = |name: &Node| Some((name.as_text()?.to_owned(), name.with(Value::Null)));
        let map = list.iter().filter_map(entry).collect();
        *node = node.with(Value::Map(map));
    }
}

fn depends_on(node: &mut Node) {
    let text = |text: &str| Value::Text(text.to_owned());
    if let Some(list) = node.as_list() {
        let entry = |name: &Node| {
            let value =
                name.map([("condition", text("service_started")), ("required", Value::Bool(true))]);
            Some((name.as_text()?.to_owned(), value))
        };
        let map = list.iter().filter_map(entry).collect();
        *node = node.with(Value::Map(map));
        return;
    }
    for dependency in node.as_map_mut().into_iter().flat_map(Map::values_mut) {
        default(dependency, "condition", text("service_started"));
        default(dependency, "required", Value::Bool(true));
    }
}

/// Gives a mapping a value that it has not.
pub(crate) fn default(node: &mut Node, key: &str, value: Value) {
    let value = node.with(value);
    if let Some(map) = node.as_map_mut() {
        map.entry(key.to_owned()).or_insert(value);
    }
}

fn env_file(node: &mut Node) {
    text_as_list(node);
    for file in node.as_list_mut().into_iter().flatten() {
        text_as(file, "path");
        default(file, "required", Value::Bool(true));
    }
}

fn files(node: &mut Node) {
    for file in node.as_list_mut().into_iter().flatten() {
        text_as(file, "source");
    }
}

/// `key=value` as a mapping.
fn pairs(node: &mut Node, path: &Path<'_>, unreadable: Unreadable) -> Result<(), Mistake> {
    let Some(list) = node.as_list() else {
        return Ok(());
    };
    let mut map = Map::new();
    for (index, item) in list.iter().enumerate() {
        let text = item.as_text().unwrap_or_default();
        match text.split_once('=') {
            Some((key, value)) => {
                map.insert(key.to_owned(), item.text(value));
            }
            None if unreadable == Unreadable::Keep => return Ok(()),
            None => {
                return Err(item.wrong(&path.index(index), Wrong::Pair { value: text.to_owned() }));
            }
        }
    }
    *node = node.with(Value::Map(map));
    Ok(())
}

/// Keys of an agent: `default`, or `id=path`.
fn ssh(node: &mut Node, path: &Path<'_>) -> Result<(), Mistake> {
    let Some(list) = node.as_list() else {
        return Ok(());
    };
    let mut map = Map::new();
    for (index, item) in list.iter().enumerate() {
        let text = item.as_text().unwrap_or_default();
        let (id, value) = match text.split_once('=') {
            Some((id, key)) => (id, item.text(key)),
            None if text == "default" => (text, item.with(Value::Null)),
            None => {
                return Err(item.wrong(&path.index(index), Wrong::Pair { value: text.to_owned() }));
            }
        };
        map.insert(id.to_owned(), value);
    }
    *node = node.with(Value::Map(map));
    Ok(())
}

fn canonical_mount(
    node: &mut Node,
    path: &Path<'_>,
    unreadable: Unreadable,
) -> Result<(), Mistake> {
    let Some(text) = node.as_text() else {
        return Ok(());
    };
    let short = match mount::parse(text) {
        Ok(short) => short,
        Err(_) if unreadable == Unreadable::Keep => return Ok(()),
        Err(wrong) => return Err(node.wrong(path, wrong)),
    };
    let kind = if short.is_bind { "bind" } else { "volume" };
    let mut bind = Map::new();
    if short.is_bind {
        // In short syntax, a source that is missing is made, as docker always did.
        bind.insert("create_host_path".to_owned(), node.with(Value::Bool(true)));
    }
    // Volumes may have these too; they stay options of a bind mount.
    for (key, value) in [("propagation", short.propagation), ("selinux", short.selinux)] {
        if let Some(value) = value {
            bind.insert(key.to_owned(), node.text(value));
        }
    }
    let mut volume = Map::new();
    if short.nocopy {
        volume.insert("nocopy".to_owned(), node.with(Value::Bool(true)));
    }
    let target = Value::Text(clean(&short.target));
    let mut mount = node.map([("type", Value::Text(kind.to_owned())), ("target", target)]);
    if let Some(map) = mount.as_map_mut() {
        if !bind.is_empty() {
            map.insert("bind".to_owned(), node.with(Value::Map(bind)));
        }
        if !short.is_bind || !volume.is_empty() {
            map.insert("volume".to_owned(), node.with(Value::Map(volume)));
        }
        if !short.source.is_empty() {
            map.insert("source".to_owned(), node.text(short.source));
        }
        if short.read_only {
            map.insert("read_only".to_owned(), node.with(Value::Bool(true)));
        }
    }
    *node = mount;
    Ok(())
}

/// A path without `.`, `..` and double slashes: Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn device(node: &mut Node, path: &Path<'_>, unreadable: Unreadable) -> Result<(), Mistake> {
    let Some(text) = node.as_text() else {
        return Ok(());
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ if unreadable == Unreadable::Keep => return Ok(()),
        _ => return Err(node.wrong(path, Wrong::Device { value: text.to_owned() })),
    };
    let target = if target.is_empty() { source } else { target };
    let text = |text: &str| Value::Text(text.to_owned());
    *node = node.map([
        ("source", text(source)),
        ("target", text(target)),
        ("permissions", text(permissions)),
    ]);
    Ok(())
}

fn canonical_ports(
    node: &mut Node,
    path: &Path<'_>,
    unreadable: Unreadable,
) -> Result<(), Mistake> {
    let Some(list) = node.as_list() else {
        return Ok(());
    };
    let mut all = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        if item.as_map().is_some() {
            all.push(item.clone());
            continue;
        }
        match ports::parse(&item.plain().unwrap_or_default()) {
            Ok(ports) => all.extend(ports.into_iter().map(|port| long_port(item, port))),
            Err(_) if unreadable == Unreadable::Keep => return Ok(()),
            Err(wrong) => return Err(item.wrong(&path.index(index), wrong)),
        }
    }
    *node = node.with(Value::List(all));
    Ok(())
}

fn long_port(item: &Node, port: ports::Published) -> Node {
    let mut long = item.map([
        ("mode", Value::Text("ingress".to_owned())),
        ("target", Value::Int(i64::from(port.target))),
        ("protocol", Value::Text(port.protocol)),
    ]);
    for (key, text) in [("host_ip", port.host_ip), ("published", port.published)] {
        if !text.is_empty() {
            default(&mut long, key, Value::Text(text));
        }
    }
    long
}

/// `external: {name: x}` of old is `external: true` with a name.
fn external(resource: &mut Node, path: &Path<'_>) -> Result<(), Mistake> {
    let Some(external) = resource.get("external").filter(|node| node.as_map().is_some()) else {
        return Ok(());
    };
    let name = external.get("name").cloned();
    let is_true = external.with(Value::Bool(true));
    if let (Some(outer), Some(inner)) = (resource.get("name"), &name)
        && outer != inner
    {
        return Err(inner.wrong(path, Wrong::ExternalName));
    }
    if let Some(map) = resource.as_map_mut() {
        map.insert("external".to_owned(), is_true);
        if let Some(name) = name {
            map.insert("name".to_owned(), name);
        }
    }
    Ok(())
}
