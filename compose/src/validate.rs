//! Phase 8: every value is of a kind that its attribute may be, and every key is known.
//!
//! Reports what stands first in the files, with what a misspelt key may have meant.

use frontend::suggest::nearest;

use crate::error::{Mistake, Wrong};
use crate::node::{Node, Value};
use crate::path::Path;
use crate::shape::{FILE, Object, SERVICE, Shape};

/// Checks a whole file, or what several came to.
pub(crate) fn validate(file: &Node) -> Result<(), Mistake> {
    let mut found = Vec::new();
    check_object(file, &Path::ROOT, &FILE, &mut found);
    let first = found.into_iter().min_by_key(|mistake: &Mistake| {
        mistake.place.as_ref().map(|place| (place.source.name.clone(), place.line, place.column))
    });
    first.map_or(Ok(()), Err)
}

fn check(node: &Node, path: &Path<'_>, shape: &Shape, found: &mut Vec<Mistake>) {
    if !is_of_kind(&node.value, shape) {
        let expected = words(shape);
        found.push(node.wrong(path, Wrong::Type { expected, found: node.kind() }));
        return;
    }
    match shape {
        Shape::Choice(allowed) => check_choice(node, path, allowed, found),
        Shape::Bounded(least, most) => {
            if let Value::Int(value) = node.value
                && !(*least..=*most).contains(&value)
            {
                found.push(node.wrong(path, Wrong::Range { least: *least, most: *most }));
            }
        }
        Shape::List(item) => check_items(node, path, item, found),
        Shape::Set(item) => {
            check_items(node, path, item, found);
            check_unique(node, path, found);
        }
        Shape::Map(value) => check_values(node, path, value, found),
        Shape::Named(value) => {
            for (key, child) in node.as_map().into_iter().flatten() {
                if !is_name(key) {
                    found.push(child.wrong_key(path, Wrong::Name { name: key.clone() }));
                }
            }
            check_values(node, path, value, found);
        }
        Shape::Object(object) => check_object(node, path, object, found),
        Shape::Either(shapes) => {
            if let Some(shape) = shapes.iter().find(|shape| is_of_kind(&node.value, shape)) {
                check(node, path, shape, found);
            }
        }
        Shape::Any | Shape::Text | Shape::Bool | Shape::Int | Shape::Number | Shape::Null => {}
    }
}

/// Whether a value is of the shape's kind, whatever is inside it.
fn is_of_kind(value: &Value, shape: &Shape) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Text | Shape::Choice(_) => matches!(value, Value::Text(_)),
        Shape::Bool => matches!(value, Value::Bool(_)),
        Shape::Int | Shape::Bounded(..) => match value {
            Value::Int(_) => true,
            Value::Float(value) => value.fract() == 0.0,
            _ => false,
        },
        Shape::Number => matches!(value, Value::Int(_) | Value::Float(_)),
        Shape::Null => *value == Value::Null,
        Shape::List(_) | Shape::Set(_) => matches!(value, Value::List(_)),
        Shape::Map(_) | Shape::Named(_) | Shape::Object(_) => matches!(value, Value::Map(_)),
        Shape::Either(shapes) => shapes.iter().any(|shape| is_of_kind(value, shape)),
    }
}

/// What a shape is called in messages.
fn words(shape: &Shape) -> String {
    match shape {
        Shape::Any => "anything".to_owned(),
        Shape::Text | Shape::Choice(_) => "a string".to_owned(),
        Shape::Bool => "a boolean".to_owned(),
        Shape::Int | Shape::Bounded(..) => "an integer".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::Null => "empty".to_owned(),
        Shape::List(_) | Shape::Set(_) => "a list".to_owned(),
        Shape::Map(_) | Shape::Named(_) | Shape::Object(_) => "a mapping".to_owned(),
        Shape::Either(shapes) => {
            let mut all: Vec<String> =
                shapes.iter().filter(|shape| !matches!(shape, Shape::Null)).map(words).collect();
            all.dedup();
            all.join(" or ")
        }
    }
}

fn check_items(node: &Node, path: &Path<'_>, item: &Shape, found: &mut Vec<Mistake>) {
    for (index, child) in node.as_list().into_iter().flatten().enumerate() {
        check(child, &path.index(index), item, found);
    }
}

fn check_values(node: &Node, path: &Path<'_>, value: &Shape, found: &mut Vec<Mistake>) {
    for (key, child) in node.as_map().into_iter().flatten() {
        check(child, &path.key(key), value, found);
    }
}

fn check_choice(
    node: &Node,
    path: &Path<'_>,
    allowed: &'static [&'static str],
    found: &mut Vec<Mistake>,
) {
    let value = node.as_text().unwrap_or_default();
    if !allowed.contains(&value) {
        let suggestion = nearest(value, allowed.iter().copied());
        found
            .push(node.wrong(path, Wrong::Choice { value: value.to_owned(), allowed, suggestion }));
    }
}

fn check_unique(node: &Node, path: &Path<'_>, found: &mut Vec<Mistake>) {
    let mut seen = std::collections::HashSet::new();
    for (index, child) in node.as_list().into_iter().flatten().enumerate() {
        let shown = serde_json::Value::from(child).to_string();
        if seen.contains(&shown) {
            found.push(child.wrong(&path.index(index), Wrong::NotUnique { item: shown }));
            return;
        }
        seen.insert(shown);
    }
}

fn check_object(node: &Node, path: &Path<'_>, object: &Object, found: &mut Vec<Mistake>) {
    let Some(map) = node.as_map() else {
        return;
    };
    let inherited = if object.service { SERVICE.keys } else { &[] };
    let known = || object.keys.iter().chain(inherited);
    for (key, child) in map {
        match known().find(|(known, _)| known == key) {
            Some((_, shape)) => check(child, &path.key(key), shape, found),
            None if object.extensions && key.starts_with("x-") => {}
            None => {
                let suggestion = nearest(key, known().map(|(known, _)| *known));
                found.push(
                    child.wrong_key(path, Wrong::UnknownKey { key: key.clone(), suggestion }),
                );
            }
        }
    }
    for key in object.required {
        if !map.contains_key(*key) {
            found.push(node.wrong(path, Wrong::MissingKey { key }));
        }
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.bytes().all(allowed)
}
