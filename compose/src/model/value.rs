//! Values that a compose file writes in several ways: durations, sizes, commands, pairs.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::error::{Mistake, Wrong};
use crate::field::{Field, wrong_kind};
use crate::node::{Node, Value};
use crate::path::Path;
use crate::{units, words};

/// A span of time in nanoseconds; written as `1m30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duration(pub i64);

impl Duration {
    /// The same as the standard library has it; nothing is shorter than zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&units::show_duration(self.0))
    }
}

impl Field for Duration {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let text = node.plain().unwrap_or_default();
        units::duration(&text)
            .map(Self)
            .ok_or_else(|| node.wrong(path, Wrong::Duration { value: text }))
    }

    fn is_absent(&self) -> bool {
        self.0 == 0
    }
}

/// A size in bytes; written as a decimal text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub i64);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl Field for Bytes {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let text = node.plain().unwrap_or_default();
        if node.is_null() {
            return Ok(Self(0));
        }
        units::bytes(&text).map(Self).ok_or_else(|| node.wrong(path, Wrong::Size { value: text }))
    }

    fn is_absent(&self) -> bool {
        self.0 == 0
    }
}

/// A number with the precision of docker compose, 32 bits; a whole one is written without a point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decimal(pub f64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            true => serializer.serialize_i64(self.0 as i64),
            false => serializer.serialize_f64(self.0),
        }
    }
}

impl Field for Decimal {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let text = node.plain().unwrap_or_default();
        if node.is_null() {
            return Ok(Self(0.0));
        }
        let value: Option<f32> = text.parse().ok();
        // By way of text, 0.1 of 32 bits is 0.1 of 64 bits, and not 0.10000000149.
        value
            .and_then(|value| value.to_string().parse().ok())
            .map(Self)
            .ok_or_else(|| node.wrong(path, Wrong::Number { value: text }))
    }

    fn is_absent(&self) -> bool {
        self.0 == 0.0
    }
}

/// A command as its words. `Some` and empty is "none", which is more than not saying anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Command(pub Vec<String>);

impl Field for Command {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match node.as_text() {
            Some(text) => words::split(text).map(Self).map_err(|wrong| node.wrong(path, wrong)),
            None => Vec::read(node, path).map(Self),
        }
    }

    fn is_absent(&self) -> bool {
        false
    }
}

/// A health check's command; a plain text is for the shell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Test(pub Vec<String>);

impl Field for Test {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match node.value {
            Value::Text(text) => Ok(Self(vec!["CMD-SHELL".to_owned(), text])),
            _ => Vec::read(node, path).map(Self),
        }
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names and values, from a mapping or a list of `name=value`. A name alone has an empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pairs(pub BTreeMap<String, String>);

impl Field for Pairs {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let environment = read_pairs(node, path)?;
        Ok(Self(environment.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect()))
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

/// Options of a driver: like [`Pairs`], but always a mapping.
pub type Options = Pairs;

/// Variables. One without a value is taken from the environment, and stays unset if it is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Environment(pub BTreeMap<String, Option<String>>);

impl Field for Environment {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        if let Some(list) = node.as_list() {
            for (index, item) in list.iter().enumerate() {
                let name = item.as_text().unwrap_or_default().split('=').next().unwrap_or_default();
                if name.ends_with(char::is_whitespace) {
                    let wrong = Wrong::TrailingSpace { name: name.to_owned() };
                    return Err(item.wrong(&path.index(index), wrong));
                }
            }
        }
        read_pairs(node, path).map(Self)
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

fn read_pairs(node: Node, path: &Path<'_>) -> Result<BTreeMap<String, Option<String>>, Mistake> {
    match node.value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Map(map) => map
            .into_iter()
            .map(|(key, value)| {
                let value = Option::<String>::read(value, &path.key(&key))?;
                Ok((key, value))
            })
            .collect(),
        Value::List(list) => Ok(list
            .into_iter()
            .filter_map(|item| item.plain())
            .map(|item| match item.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (item, None),
            })
            .collect()),
        _ => Err(wrong_kind(&node, path, "a mapping or a list")),
    }
}

/// Additional names of hosts and their addresses; written as `host=address`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(pub BTreeMap<String, Vec<String>>);

impl Hosts {
    /// `host=address` for every address, sorted.
    pub fn lines(&self) -> Vec<String> {
        let line = |(host, addresses): (&String, &Vec<String>)| {
            addresses.iter().map(|address| format!("{host}={address}")).collect::<Vec<_>>()
        };
        let mut lines: Vec<String> = self.0.iter().flat_map(line).collect();
        lines.sort();
        lines
    }

    fn add(&mut self, host: &str, addresses: &str) -> Result<(), Wrong> {
        if host.is_empty() || host.contains([':', '=']) {
            return Err(Wrong::HostName { host: host.to_owned() });
        }
        let bare = |address: &str| {
            let inside = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            inside.filter(|inside| !inside.is_empty()).unwrap_or(address).to_owned()
        };
        self.0.entry(host.to_owned()).or_default().extend(addresses.split(',').map(bare));
        Ok(())
    }

    fn add_line(&mut self, line: &str) -> Result<(), Wrong> {
        let pair = line.split_once('=').or_else(|| line.split_once(':'));
        let (host, addresses) =
            pair.ok_or_else(|| Wrong::HostWithoutAddress { value: line.to_owned() })?;
        self.add(host, addresses)
    }
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lines().serialize(serializer)
    }
}

impl Field for Hosts {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let mut hosts = Self::default();
        match &node.value {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    hosts
                        .add_line(&item.plain().unwrap_or_default())
                        .map_err(|wrong| item.wrong(&path.index(index), wrong))?;
                }
            }
            Value::Map(map) => {
                for (host, value) in map {
                    let addresses = Vec::<String>::read(value.clone(), &path.key(host))?;
                    for address in addresses {
                        hosts.add(host, &address).map_err(|wrong| value.wrong_key(path, wrong))?;
                    }
                }
            }
            Value::Null => {}
            _ => return Err(wrong_kind(&node, path, "a mapping or a list")),
        }
        Ok(hosts)
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

/// The mode of a file; written in octal. Text is octal, a number is a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0{:o}", self.0))
    }
}

impl Field for FileMode {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let value = match &node.value {
            Value::Text(text) => {
                let digits = text.strip_prefix("0o").unwrap_or(text);
                u32::from_str_radix(digits, 8).ok()
            }
            Value::Int(value) => u32::try_from(*value).ok(),
            _ => None,
        };
        let wrong = || Wrong::Number { value: node.plain().unwrap_or_default() };
        value.map(Self).ok_or_else(|| node.wrong(path, wrong()))
    }

    fn is_absent(&self) -> bool {
        false
    }
}

/// How many devices are asked for; -1 is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DeviceCount(pub i64);

impl Field for DeviceCount {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match node.as_text() {
            Some(text) if text.eq_ignore_ascii_case("all") => Ok(Self(-1)),
            _ => i64::read(node, path).map(Self),
        }
    }

    fn is_absent(&self) -> bool {
        self.0 == 0
    }
}

/// A limit of processes: one number for both, or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// What holds.
    pub soft: i64,
    /// How far a process may raise it.
    pub hard: i64,
    /// Whether it was written as one number.
    pub is_single: bool,
}

impl Serialize for Ulimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A single zero is written as two, as docker compose does; the config hash depends on it.
        if self.is_single && self.soft != 0 {
            return serializer.serialize_i64(self.soft);
        }
        use serde::ser::SerializeStruct;
        let mut both = serializer.serialize_struct("Ulimit", 2)?;
        both.serialize_field("soft", &self.soft)?;
        both.serialize_field("hard", &self.hard)?;
        both.end()
    }
}

impl Field for Ulimit {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        if node.as_map().is_none() {
            let both = i64::read(node, path)?;
            return Ok(Self { soft: both, hard: both, is_single: true });
        }
        let one = |key: &str| {
            node.get(key).cloned().map_or(Ok(0), |value| i64::read(value, &path.key(key)))
        };
        Ok(Self { soft: one("soft")?, hard: one("hard")?, is_single: false })
    }

    fn is_absent(&self) -> bool {
        false
    }
}

/// Agents and keys for a build, by id; one without a path is the caller's agent. Written as `id` or `id=path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh(pub BTreeMap<String, Option<String>>);

impl Serialize for Ssh {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = |(id, path): (&String, &Option<String>)| match path {
            Some(path) => format!("{id}={path}"),
            None => id.clone(),
        };
        serializer.collect_seq(self.0.iter().map(line))
    }
}

impl Field for Ssh {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        read_pairs(node, path).map(Self)
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

/// A boolean that is true where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OptOut(pub bool);

impl Default for OptOut {
    fn default() -> Self {
        Self(true)
    }
}

impl Field for OptOut {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        Ok(Option::<bool>::read(node, path)?.map_or_else(Self::default, Self))
    }

    fn is_absent(&self) -> bool {
        self.0
    }
}

/// A boolean that is written whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Stated(pub bool);

impl Field for Stated {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        bool::read(node, path).map(Self)
    }

    fn is_absent(&self) -> bool {
        false
    }
}

/// Something that was found out while loading and is never written, such as a secret's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Hidden(pub Option<String>);

impl Field for Hidden {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        Option::read(node, path).map(Self)
    }

    fn is_absent(&self) -> bool {
        true
    }
}
