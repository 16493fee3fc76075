//! Phase 2: variables in values. Keys are not expanded.
//!
//! It comes before everything else, file by file, so that what follows sees numbers and booleans where variables stood.

use crate::error::{Mistake, Wrong};
use crate::node::{Node, Value};
use crate::path::Path;
use crate::template::{self, Variables};

/// Expands every text of a tree, and makes of it what its attribute is.
pub(crate) fn interpolate(node: &mut Node, variables: &mut Variables<'_>) -> Result<(), Mistake> {
    visit(node, &Path::ROOT, variables)
}

fn visit(node: &mut Node, path: &Path<'_>, variables: &mut Variables<'_>) -> Result<(), Mistake> {
    match &mut node.value {
        Value::Map(map) => {
            map.iter_mut().try_for_each(|(key, child)| visit(child, &path.key(key), variables))
        }
        Value::List(list) => list
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, child)| visit(child, &path.index(index), variables)),
        Value::Text(text) => {
            let expanded = match text.contains('$') {
                true => template::substitute(text, variables),
                false => Ok(std::mem::take(text)),
            };
            let cast = |text| match expected(path) {
                Some(kind) => kind.cast(text),
                None => Ok(Value::Text(text)),
            };
            match expanded.and_then(cast) {
                Ok(value) => {
                    node.value = value;
                    Ok(())
                }
                Err(wrong) => Err(node.wrong(path, wrong)),
            }
        }
        _ => Ok(()),
    }
}

/// What an attribute is, though it may be written as text.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Int,
    Float,
}

impl Kind {
    fn cast(self, text: String) -> Result<Value, Wrong> {
        let (value, expected) = match self {
            Self::Bool => (boolean(&text).map(Value::Bool), "a boolean"),
            Self::Int => (text.parse().ok().map(Value::Int), "an integer"),
            Self::Float => (text.parse().ok().map(Value::Float), "a number"),
        };
        value.ok_or(Wrong::Cast { expected, value: text })
    }
}

/// The words for true and false of YAML 1.1.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What the attribute at a path is, if it is no text.
fn expected(path: &Path<'_>) -> Option<Kind> {
    let steps = path.steps();
    match steps.as_slice() {
        ["services", _, attribute] => service_attribute(attribute),
        ["services", _, rest @ ..] => nested_attribute(rest),
        ["networks", _, "external" | "internal" | "attachable" | "enable_ipv4" | "enable_ipv6"]
        | ["volumes" | "secrets" | "configs", _, "external"] => Some(Kind::Bool),
        _ => None,
    }
}

fn service_attribute(name: &str) -> Option<Kind> {
    match name {
        "init" | "oom_kill_disable" | "privileged" | "read_only" | "stdin_open" | "tty" => {
            Some(Kind::Bool)
        }
        "cpu_count" | "cpu_period" | "cpu_quota" | "cpu_rt_period" | "cpu_rt_runtime"
        | "cpu_shares" | "oom_score_adj" | "pids_limit" | "scale" => Some(Kind::Int),
        "cpu_percent" | "cpus" => Some(Kind::Float),
        _ => None,
    }
}

fn nested_attribute(path: &[&str]) -> Option<Kind> {
    match path {
        ["depends_on", _, "required" | "restart"]
        | ["healthcheck", "disable"]
        | ["volumes", "[]", "read_only"]
        | ["volumes", "[]", "volume", "nocopy"] => Some(Kind::Bool),
        ["deploy", "replicas"]
        | ["deploy", "update_config" | "rollback_config", "parallelism"]
        | ["deploy", "restart_policy", "max_attempts"]
        | ["deploy", "placement", "max_replicas_per_node"]
        | ["healthcheck", "retries"]
        | ["ports", "[]", "target"]
        | ["ulimits", _]
        | ["ulimits", _, "hard" | "soft"] => Some(Kind::Int),
        ["deploy", "update_config" | "rollback_config", "max_failure_ratio"] => Some(Kind::Float),
        _ => None,
    }
}
