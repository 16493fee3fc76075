//! A value of a compose file before it is understood: what it is and where it stands.
//!
//! Every phase of loading turns nodes into nodes; only the last one, [`crate::field`], turns them into the model.
//! Knows nothing of how YAML is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Mistake, Wrong};
use crate::path::Path;
use crate::place::{Place, Source};

/// Names and values. Sorted by name, as everything that compose prints or hashes is.
pub(crate) type Map = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) value: Value,
    /// What its tag asks for.
    pub(crate) tag: Tag,
    source: Arc<Source>,
    at: (u32, u32),
    key_at: (u32, u32),
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// What a tag asks of merging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Nothing.
    #[default]
    None,
    /// `!reset`: what earlier files say here is forgotten, and so is this.
    Reset,
    /// `!override`: what earlier files say here is forgotten.
    Override,
}

impl PartialEq for Node {
    /// Places do not count.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    /// A value at a line and column of a file.
    pub(crate) fn new(value: Value, source: Arc<Source>, at: (u32, u32)) -> Self {
        Self { value, tag: Tag::None, source, at, key_at: at }
    }

    /// The same with the place of its key.
    pub(crate) fn keyed(self, key_at: (u32, u32)) -> Self {
        Self { key_at, ..self }
    }

    /// Another value at this node's place.
    pub(crate) fn with(&self, value: Value) -> Self {
        let source = Arc::clone(&self.source);
        Self { value, tag: Tag::None, source, at: self.at, key_at: self.key_at }
    }

    /// Text at this node's place.
    pub(crate) fn text(&self, text: impl Into<String>) -> Self {
        self.with(Value::Text(text.into()))
    }

    /// A mapping at this node's place.
    pub(crate) fn map<const N: usize>(&self, entries: [(&str, Value); N]) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), self.with(value)));
        self.with(Value::Map(entries.collect()))
    }

    /// Where the value stands.
    pub(crate) fn place(&self) -> Place {
        let (line, column) = self.at;
        Place { source: Arc::clone(&self.source), line, column }
    }

    /// Where its key stands; for what has none, the value.
    pub(crate) fn key_place(&self) -> Place {
        let (line, column) = self.key_at;
        Place { source: Arc::clone(&self.source), line, column }
    }

    /// The line of its key.
    pub(crate) fn key_line(&self) -> u32 {
        self.key_at.0
    }

    /// Something wrong with the value.
    pub(crate) fn wrong(&self, path: &Path<'_>, wrong: Wrong) -> Mistake {
        // Nothing has no place worth showing, but its key has.
        let place = if self.is_null() { self.key_place() } else { self.place() };
        Mistake { wrong: Box::new(wrong), attribute: path.to_string(), place: Some(place) }
    }

    /// Something wrong with its key.
    pub(crate) fn wrong_key(&self, path: &Path<'_>, wrong: Wrong) -> Mistake {
        Mistake {
            wrong: Box::new(wrong),
            attribute: path.to_string(),
            place: Some(self.key_place()),
        }
    }

    /// The text that it is.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The mapping that it is.
    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The mapping that it is, to be changed.
    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list that it is.
    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The list that it is, to be changed.
    pub(crate) fn as_list_mut(&mut self) -> Option<&mut Vec<Node>> {
        match &mut self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The value under a name, if this is a mapping that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.as_map()?.get(name)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.as_map_mut()?.get_mut(name)
    }

    /// Whether it is null.
    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// A scalar as text, as Go prints it: docker's words for numbers in environments and labels.
    pub(crate) fn plain(&self) -> Option<String> {
        Some(match &self.value {
            Value::Null => String::new(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => go_float(*value),
            Value::Text(text) => text.clone(),
            Value::List(_) | Value::Map(_) => return None,
        })
    }

    /// What kind of value it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "empty",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A number as Go's `%v` writes it: shortest, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size == 0.0 || (1e-4..1e6).contains(&size) {
        return value.to_string();
    }
    let shown = format!("{value:e}");
    let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

impl From<&Node> for serde_json::Value {
    fn from(node: &Node) -> Self {
        match &node.value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::from(*value),
            Value::Float(value) => Self::from(*value),
            Value::Text(text) => Self::String(text.clone()),
            Value::List(list) => list.iter().map(Self::from).collect(),
            Value::Map(map) => {
                Self::Object(map.iter().map(|(key, node)| (key.clone(), node.into())).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::go_float;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let shown = [1.5, 1e3, 0.5, 1e21, 1e6, 999_999.5, 1e-5, -2.5e-7, 0.0, -0.0, 123_456_789.25]
            .map(go_float);
        let expected = [
            "1.5",
            "1000",
            "0.5",
            "1e+21",
            "1e+06",
            "999999.5",
            "1e-05",
            "-2.5e-07",
            "0",
            "-0",
            "1.2345678925e+08",
        ];
        assert_eq!(shown, expected);
    }
}
