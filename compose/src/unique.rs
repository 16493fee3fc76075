//! Phase 7: lists in which each thing may be said once. What is said later wins, at the place of what it replaces.

use std::collections::HashMap;

use crate::mount;
use crate::node::{Node, Value};
use crate::path::Path;

/// Removes what is said again from every list that is a set by some name.
pub(crate) fn enforce(node: &mut Node) {
    visit(node, &Path::ROOT);
}

/// The same for a service that stands alone.
pub(crate) fn enforce_in_service(service: &mut Node) {
    let services = Path::ROOT.key("services");
    visit(service, &services.key("x"));
}

fn visit(node: &mut Node, path: &Path<'_>) {
    match &mut node.value {
        Value::Map(map) => map.iter_mut().for_each(|(key, child)| visit(child, &path.key(key))),
        Value::List(list) => {
            if let Some(index) = index(&path.steps()) {
                *list = deduplicated(std::mem::take(list), index);
            }
        }
        _ => {}
    }
}

fn deduplicated(list: Vec<Node>, index: Index) -> Vec<Node> {
    let mut kept: Vec<Node> = Vec::with_capacity(list.len());
    let mut known: HashMap<String, usize> = HashMap::new();
    for item in list {
        // What has no name is for validation to refuse; it replaces nothing.
        let Some(name) = name(&item, index) else {
            kept.push(item);
            continue;
        };
        match known.get(&name) {
            Some(at) => kept[*at] = item,
            None => {
                known.insert(name, kept.len());
                kept.push(item);
            }
        }
    }
    kept
}

/// What two items of a list have in common if one replaces the other.
#[derive(Clone, Copy)]
enum Index {
    /// What stands before `=`.
    Key,
    /// Where a mount or a device is seen in the container.
    Target,
    Device,
    /// Where a file is seen, which has this default folder.
    File(&'static str),
    Port,
    Number,
    Path,
}

fn index(path: &[&str]) -> Option<Index> {
    match path {
        ["networks", _, "labels"] => Some(Index::Key),
        ["services", _, rest @ ..] => match rest {
            [
                "annotations" | "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search"
                | "environment" | "labels" | "links" | "profiles" | "sysctls" | "tmpfs",
            ]
            | ["build", "args" | "additional_contexts" | "tags" | "labels"]
            | ["deploy", "labels"]
            | ["networks", _, "aliases" | "link_local_ips"] => Some(Index::Key),
            ["volumes"] => Some(Index::Target),
            ["devices"] => Some(Index::Device),
            ["configs"] => Some(Index::File("")),
            ["secrets"] => Some(Index::File("/run/secrets")),
            ["env_file"] => Some(Index::Path),
            ["expose"] => Some(Index::Number),
            ["ports"] => Some(Index::Port),
            _ => None,
        },
        _ => None,
    }
}

fn name(item: &Node, index: Index) -> Option<String> {
    let text = |key: &str| item.get(key).and_then(Node::plain);
    match (index, item.as_text()) {
        (Index::Key, Some(text)) => Some(text.split('=').next().unwrap_or(text).to_owned()),
        (Index::Target, Some(text)) => mount::parse(text).ok().map(|mount| mount.target),
        (Index::Device, Some(text)) => {
            let mut parts = text.split(':');
            let first = parts.next()?;
            Some(parts.next().unwrap_or(first).to_owned())
        }
        (Index::Target | Index::Device, None) => text("target"),
        (Index::File(folder), Some(name)) => Some(format!("{folder}/{name}")),
        (Index::File(folder), None) => {
            text("target").or_else(|| Some(format!("{folder}/{}", text("source")?)))
        }
        (Index::Path, Some(path)) => Some(path.to_owned()),
        (Index::Path, None) => text("path"),
        (Index::Number, _) => item.plain(),
        (Index::Port, _) if item.as_map().is_none() => item.plain(),
        (Index::Port, _) => {
            let host = text("host_ip").unwrap_or_else(|| "0.0.0.0".to_owned());
            let protocol = text("protocol").unwrap_or_else(|| "tcp".to_owned());
            Some(format!(
                "{host}:{}:{}/{protocol}",
                text("published").unwrap_or_default(),
                text("target")?
            ))
        }
        (Index::Key, None) => None,
    }
}
