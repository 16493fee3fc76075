//! YAML text to [`Node`]s: the one module that knows the YAML parser.
//!
//! It reads the parser's events and not its ready-made tree: only so do `!reset` and the places of keys survive, is `<<`
//! ours to merge, and can aliases be counted before they fill the memory. What compose means by a value is not known here.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use crate::error::{Mistake, Wrong};
use crate::node::{Map, Node, Tag, Value};
use crate::place::{Place, Source};
use crate::scalar;

/// How deep values may be nested. People write ten levels; each costs stack in every phase.
const DEPTH_LIMIT: usize = 100;

/// How many values all aliases of a file may stand for: a thousand services that share a hundred values pass, a bomb does not.
const ALIAS_LIMIT: usize = 200_000;

/// The documents of a file, in order; null ones are left out.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Vec<Node>, Mistake> {
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(&source.text) {
        let (event, span) = event.map_err(|error| {
            let wrong = Wrong::Syntax(error.info().to_owned());
            mistake(source, position(*error.marker()), wrong)
        })?;
        builder.take(event, position(span.start))?;
    }
    builder.documents.retain(|document| !document.is_null());
    Ok(builder.documents)
}

fn position(marker: Marker) -> (u32, u32) {
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX);
    (line.max(1), u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1))
}

fn mistake(source: &Arc<Source>, (line, column): (u32, u32), wrong: Wrong) -> Mistake {
    let place = Place { source: Arc::clone(source), line, column };
    Mistake { wrong: Box::new(wrong), attribute: String::new(), place: Some(place) }
}

/// A value that has begun and not ended.
struct Open {
    at: (u32, u32),
    tag: Tag,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map { map: Map, key: Option<(String, (u32, u32))>, merged: Vec<Node> },
}

/// Puts events together to documents.
struct Builder<'a> {
    source: &'a Arc<Source>,
    open: Vec<Open>,
    /// What aliases stand for, and how many values that is.
    anchors: HashMap<usize, (Node, usize)>,
    expanded: usize,
    documents: Vec<Node>,
}

impl<'a> Builder<'a> {
    fn new(source: &'a Arc<Source>) -> Self {
        let documents = Vec::new();
        Self { source, open: Vec::new(), anchors: HashMap::new(), expanded: 0, documents }
    }

    fn take(&mut self, event: Event<'_>, at: (u32, u32)) -> Result<(), Mistake> {
        match event {
            Event::SequenceStart(anchor, tag) => {
                self.begin(at, anchor, kind(tag.as_deref()), Inside::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let inside = Inside::Map { map: Map::new(), key: None, merged: Vec::new() };
                self.begin(at, anchor, kind(tag.as_deref()), inside)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref();
                if self.wants_key() {
                    return self.key(&text, style, tag, at);
                }
                let plain = style == ScalarStyle::Plain;
                let core = tag.filter(|tag| tag.is_yaml_core_schema());
                let value = scalar::value(&text, plain, core.map(|tag| tag.suffix.as_str()));
                let mut node = Node::new(value, Arc::clone(self.source), at);
                node.tag = kind(tag);
                self.add(node, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Ok(()),
        }
    }

    fn begin(
        &mut self,
        at: (u32, u32),
        anchor: usize,
        tag: Tag,
        inside: Inside,
    ) -> Result<(), Mistake> {
        if self.wants_key() {
            let key = "a list or a mapping".to_owned();
            return Err(mistake(self.source, at, Wrong::KeyIsNoString { key }));
        }
        if self.open.len() == DEPTH_LIMIT {
            return Err(mistake(self.source, at, Wrong::TooDeep { limit: DEPTH_LIMIT }));
        }
        self.open.push(Open { at, tag, anchor, inside });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Mistake> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.inside {
            Inside::List(list) => Value::List(list),
            Inside::Map { mut map, merged, .. } => {
                merged.into_iter().try_for_each(|node| self.merge(&mut map, node))?;
                Value::Map(map)
            }
        };
        let mut node = Node::new(value, Arc::clone(self.source), open.at);
        node.tag = open.tag;
        self.add(node, open.anchor)
    }

    /// Adds what `<<` names where the mapping itself says nothing.
    fn merge(&self, map: &mut Map, from: Node) -> Result<(), Mistake> {
        // An alias has its anchor's place, which is not where the mistake is.
        let place = from.key_place();
        let sources = match from.value {
            Value::List(list) => list,
            _ => vec![from],
        };
        for source in sources {
            let Value::Map(entries) = source.value else {
                return Err(mistake(self.source, (place.line, place.column), Wrong::MergeKey));
            };
            for (key, node) in entries {
                map.entry(key).or_insert(node);
            }
        }
        Ok(())
    }

    /// Whether the next value is a mapping's key.
    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { inside: Inside::Map { key: None, .. }, .. }))
    }

    fn key(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&saphyr_parser::Tag>,
        at: (u32, u32),
    ) -> Result<(), Mistake> {
        let plain = style == ScalarStyle::Plain && tag.is_none();
        if plain && text != "<<" && !matches!(scalar::value(text, true, None), Value::Text(_)) {
            let wrong = Wrong::KeyIsNoString { key: text.to_owned() };
            return Err(mistake(self.source, at, wrong));
        }
        if let Some(Open { inside: Inside::Map { map, key, .. }, .. }) = self.open.last_mut() {
            if let Some(first) = map.get(text) {
                let wrong = Wrong::DuplicateKey { key: text.to_owned(), line: first.key_line() };
                return Err(mistake(self.source, at, wrong));
            }
            *key = Some((text.to_owned(), at));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: (u32, u32)) -> Result<(), Mistake> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(mistake(self.source, at, Wrong::AliasOfItself));
        };
        self.expanded = self.expanded.saturating_add(*size);
        if self.expanded > ALIAS_LIMIT {
            return Err(mistake(self.source, at, Wrong::TooManyAliases { limit: ALIAS_LIMIT }));
        }
        let node = node.clone();
        self.add(node, 0)
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        if anchor > 0 {
            let size = size(&node);
            self.expanded = self.expanded.saturating_add(size);
            let place = node.place();
            if self.expanded > ALIAS_LIMIT {
                let wrong = Wrong::TooManyAliases { limit: ALIAS_LIMIT };
                return Err(mistake(self.source, (place.line, place.column), wrong));
            }
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.documents.push(node),
            Some(Inside::List(list)) => list.push(node),
            Some(Inside::Map { map, key, merged }) => {
                if let Some((key, key_at)) = key.take() {
                    match key.as_str() {
                        "<<" => merged.push(node.keyed(key_at)),
                        _ => {
                            map.insert(key, node.keyed(key_at));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// How many values a value is.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Map(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn kind(tag: Option<&saphyr_parser::Tag>) -> Tag {
    match tag.map(|tag| (tag.handle.as_str(), tag.suffix.as_str())) {
        Some(("!", "reset")) => Tag::Reset,
        Some(("!", "override")) => Tag::Override,
        _ => Tag::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Node>, String> {
        let source = Arc::new(Source { name: "f".to_owned(), text: text.to_owned() });
        parse(&source).map_err(|error| crate::Error::from(error).render())
    }

    fn json(text: &str) -> String {
        let documents = read(text).expect("it is YAML");
        serde_json::Value::from(&documents[0]).to_string()
    }

    #[test]
    fn merge_keys_add_what_is_not_there() {
        let text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\n";
        assert_eq!(json(text), r#"{"a":{"x":1,"y":2},"b":{"y":3,"z":4},"c":{"x":5,"y":2,"z":4}}"#);
    }

    #[test]
    fn a_merge_of_text_is_shown_where_it_is_merged() {
        let error = read("a: &a text\nb:\n  <<: *a\n").unwrap_err();
        assert!(error.contains("f:3:3: the merge key `<<` needs a mapping"), "{error}");
    }

    #[test]
    fn an_alias_bomb_is_refused_where_it_bursts() {
        let mut text = "a0: &a0 [1,2,3,4,5,6,7,8,9,0]\n".to_owned();
        for level in 1..10 {
            let items = vec![format!("*a{}", level - 1); 10].join(",");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let error = read(&text).unwrap_err();
        assert!(error.contains("aliases expand to more than 200000 values\n 5 | a4"), "{error}");
    }

    #[test]
    fn a_key_twice_names_both_lines() {
        let error = read("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error, "f:3:1: mapping key \"a\" already defined at line 1\n 3 | a: 3\n   | ^");
    }

    #[test]
    fn an_anchor_inside_itself_is_refused() {
        let error = read("a: &a\n  b: *a\n").unwrap_err();
        assert!(error.contains("f:2:6: the alias refers to a value that contains it"), "{error}");
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let error = read(&"[".repeat(150)).unwrap_err();
        assert!(error.contains("nested more than 100 levels deep"), "{error}");
    }

    #[test]
    fn keys_are_strings() {
        let error = read("a:\n  1: x\n").unwrap_err();
        assert!(error.contains("f:2:3: non-string key: 1 (quote it)"), "{error}");
        assert_eq!(json("\"1\": x\n"), r#"{"1":"x"}"#);
    }
}
