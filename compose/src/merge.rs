//! Phase 6: what a later file says is laid over what earlier files say.
//!
//! Mappings merge by key, lists are joined, anything else is replaced; the exceptions are in [`rule`]. What must be
//! unique in a joined list is [`crate::unique`]'s to see to.

use crate::error::{Mistake, Wrong};
use crate::node::{Map, Node, Value};
use crate::path::Path;

/// Lays one file over another.
pub(crate) fn merge(base: Node, over: Node) -> Result<Node, Mistake> {
    merge_at(base, over, &Path::ROOT)
}

/// Lays a value over another one at an attribute.
pub(crate) fn merge_at(base: Node, over: Node, path: &Path<'_>) -> Result<Node, Mistake> {
    match rule(&path.steps()) {
        Rule::Default => merge_by_kind(base, over, path),
        Rule::Replace => Ok(over),
        Rule::Sequence => Ok(joined(base, over, false)),
        Rule::Hosts => Ok(joined(base, over, true)),
        Rule::Build => merge_maps(build(base), build(over), path),
        Rule::Names(default) => merge_maps(named(base, default), named(over, default), path),
        Rule::Logging => {
            let drivers = (base.get("driver"), over.get("driver"));
            match drivers {
                // Options of one driver mean nothing to another.
                (Some(one), Some(other)) if one != other => Ok(over),
                _ => merge_maps(base, over, path),
            }
        }
        Rule::IpamConfig => merge_pools(base, over, path),
    }
}

/// How an attribute is merged.
enum Rule {
    Default,
    Replace,
    /// As lists, whether they are written as lists or as mappings.
    Sequence,
    Hosts,
    Build,
    /// As mappings, also where written as a list of names; each name then has these values.
    Names(&'static [(&'static str, Value)]),
    Logging,
    IpamConfig,
}

const DEPENDENCY: &[(&str, Value)] = &[("required", Value::Bool(true))];

fn rule(path: &[&str]) -> Rule {
    match path {
        ["networks", _, "ipam", "config"] => Rule::IpamConfig,
        ["networks" | "volumes", _, "labels"] => Rule::Sequence,
        ["services", _, rest @ ..] => match rest {
            ["command" | "entrypoint"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
            ["build"] => Rule::Build,
            ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Hosts,
            ["depends_on"] => Rule::Names(DEPENDENCY),
            ["models" | "networks"] => Rule::Names(&[]),
            ["logging"] => Rule::Logging,
            [
                "annotations" | "dns" | "dns_opt" | "dns_search" | "env_file" | "label_file"
                | "environment" | "labels" | "sysctls" | "tmpfs",
            ]
            | ["build", "args" | "additional_contexts" | "labels"]
            | ["deploy", "labels"]
            | ["volumes", _, "volume", "labels"] => Rule::Sequence,
            _ => Rule::Default,
        },
        _ => Rule::Default,
    }
}

fn merge_by_kind(mut base: Node, over: Node, path: &Path<'_>) -> Result<Node, Mistake> {
    if over.is_null() {
        return Ok(base);
    }
    match (&mut base.value, &over.value) {
        (Value::Map(_), Value::Map(_)) => merge_maps(base, over, path),
        (Value::List(list), Value::List(more)) => {
            list.extend(more.iter().cloned());
            Ok(base)
        }
        (Value::Map(_) | Value::List(_), _) => {
            let wrong = Wrong::Merge { base: base.kind(), over: over.kind() };
            Err(over.wrong(path, wrong))
        }
        _ => Ok(over),
    }
}

fn merge_maps(mut base: Node, over: Node, path: &Path<'_>) -> Result<Node, Mistake> {
    let Value::Map(entries) = over.value else {
        return Ok(base);
    };
    let Some(map) = base.as_map_mut() else {
        return Ok(base.with(Value::Map(entries)));
    };
    for (key, node) in entries {
        let merged = match map.remove(&key) {
            Some(old) => merge_at(old, node, &path.key(&key))?,
            None => node,
        };
        map.insert(key, merged);
    }
    Ok(base)
}

/// Joins what both say as a list; hosts that are there already are not added again.
fn joined(base: Node, over: Node, only_new: bool) -> Node {
    let mut list = sequence(&base);
    let more = sequence(&over);
    let known = list.len();
    for item in more {
        if !(only_new && list[..known].contains(&item)) {
            list.push(item);
        }
    }
    base.with(Value::List(list))
}

/// A value as a list: of a mapping, `key=value` in order.
fn sequence(node: &Node) -> Vec<Node> {
    match &node.value {
        Value::List(list) => list.clone(),
        Value::Text(_) => vec![node.clone()],
        Value::Map(map) => {
            let mut list: Vec<Node> =
                map.iter().flat_map(|(key, value)| pairs(key, value)).collect();
            list.sort_by(|a, b| a.as_text().cmp(&b.as_text()));
            list
        }
        _ => Vec::new(),
    }
}

fn pairs(key: &str, value: &Node) -> Vec<Node> {
    let pair = |value: &Node| value.text(format!("{key}={}", value.plain().unwrap_or_default()));
    match &value.value {
        Value::Null => vec![value.text(key)],
        Value::List(list) => list.iter().map(pair).collect(),
        _ => vec![pair(value)],
    }
}

fn build(node: Node) -> Node {
    match &node.value {
        Value::Text(context) => node.map([("context", Value::Text(context.clone()))]),
        _ => node,
    }
}

/// A list of names as a mapping.
fn named(node: Node, default: &'static [(&'static str, Value)]) -> Node {
    let Value::List(list) = &node.value else {
        return node;
    };
    let value = |name: &Node| match default {
        [] => name.with(Value::Null),
        default => {
            let mut map: Map =
                default.iter().map(|(k, v)| ((*k).to_owned(), name.with(v.clone()))).collect();
            map.insert("condition".to_owned(), name.text("service_started"));
            name.with(Value::Map(map))
        }
    };
    let map =
        list.iter().filter_map(|name| Some((name.as_text()?.to_owned(), value(name)))).collect();
    node.with(Value::Map(map))
}

/// Pools of addresses belong together by their subnet.
fn merge_pools(base: Node, over: Node, path: &Path<'_>) -> Result<Node, Mistake> {
    let mut pools: Vec<Node> = base.as_list().unwrap_or_default().to_vec();
    for pool in over.as_list().unwrap_or_default() {
        match pools.iter().position(|known| known.get("subnet") == pool.get("subnet")) {
            Some(at) => pools[at] = merge_maps(pools[at].clone(), pool.clone(), path)?,
            None => pools.push(pool.clone()),
        }
    }
    Ok(base.with(Value::List(pools)))
}
