//! Where in the files something stands that was found wrong in the typed model, which knows no places.
//!
//! Looks at the services as they were before they were typed; decides nothing about what is wrong.

use std::path::Path;

use crate::error::{Error, Mistake, Wrong};
use crate::node::{Node, Value};
use crate::place::Place;

/// Gives an error its place, if it has none and can be found.
pub(crate) fn locate(error: Error, services: &Node) -> Error {
    match error {
        Error::Mistake(mut mistake) if mistake.place.is_none() => {
            mistake.place = place_of(&mistake, services);
            Error::Mistake(mistake)
        }
        Error::DependencyCycle { chain, place: None } => {
            let [first, second, ..] = chain.as_slice() else {
                return Error::DependencyCycle { chain, place: None };
            };
            let waits = services.get(first).and_then(|service| service.get("depends_on"));
            let place = waits.map(|waits| named(waits, second).unwrap_or_else(|| shown(waits)));
            Error::DependencyCycle { chain, place }
        }
        Error::ServiceFile { what, path, service, place: None } => {
            let files = services.get(&service).and_then(|node| node.get(&format!("{what}_file")));
            let place = files.and_then(|files| file(files, &path));
            Error::ServiceFile { what, path, service, place }
        }
        other => other,
    }
}

fn place_of(mistake: &Mistake, services: &Node) -> Option<Place> {
    let (service, name) = match mistake.wrong.as_ref() {
        Wrong::Undefined { service, name, .. }
        | Wrong::UndefinedService { service, name, .. }
        | Wrong::DisabledService { service, name, .. } => (service, Some(name)),
        Wrong::Inconsistent { service, .. } | Wrong::NoImage { service } => (service, None),
        _ => return None,
    };
    let top = services.get(service)?;
    // Names of services may have dots, so the path is cut where the service's name ends.
    let attribute = mistake.attribute.strip_prefix("services.")?.strip_prefix(service.as_str())?;
    let mut node = top;
    for key in attribute.split('.').filter(|key| !key.is_empty()) {
        match node.get(key) {
            Some(inner) => node = inner,
            None => break,
        }
    }
    Some(name.and_then(|name| named(node, name)).unwrap_or_else(|| shown(node)))
}

/// Where a list or a mapping names something: as an item, a key, a `source`, or `service:name`.
fn named(node: &Node, name: &str) -> Option<Place> {
    let says = |node: &Node| {
        let text = node.as_text().unwrap_or_default();
        text == name || text.strip_prefix("service:") == Some(name)
    };
    match &node.value {
        Value::Map(map) => match map.get(name) {
            Some(value) => Some(value.key_place()),
            None => map.values().find(|value| says(value)).map(Node::place),
        },
        Value::List(list) => list.iter().find_map(|item| {
            let source = item.get("source").unwrap_or(item);
            says(source).then(|| source.place())
        }),
        _ => None,
    }
}

/// Where a file is named, as an item or as a `path`.
fn file(files: &Node, path: &Path) -> Option<Place> {
    files.as_list()?.iter().find_map(|item| {
        let named = item.get("path").unwrap_or(item);
        (named.as_text().map(Path::new) == Some(path)).then(|| named.place())
    })
}

/// The place that tells most: of a value on its own line the value, of what has lines below it the key.
fn shown(node: &Node) -> Place {
    match node.value {
        Value::List(_) | Value::Map(_) | Value::Null => node.key_place(),
        _ => node.place(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::place::Source;

    const FILE: &str = "\
a.b:
  depends_on: {db: null}
  networks: [x, front]
  secrets:
    - source: token
  build:
    additional_contexts: {base: 'service:other'}
  network_mode: host
";

    fn found(attribute: &str, wrong: Wrong) -> Option<(u32, u32)> {
        let source = Arc::new(Source { name: "f".to_owned(), text: FILE.to_owned() });
        let services = crate::yaml::parse(&source).expect("it is YAML").remove(0);
        let attribute = format!("services.a.b{attribute}");
        let mistake = Mistake { wrong: Box::new(wrong), attribute, place: None };
        match locate(mistake.into(), &services) {
            Error::Mistake(mistake) => mistake.place.map(|place| (place.line, place.column)),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn references_are_found_in_every_form() {
        let undefined = |attribute: &str, name: &str| {
            let (service, name) = ("a.b".to_owned(), name.to_owned());
            let suggestion = frontend::suggest::nearest("", []);
            found(attribute, Wrong::Undefined { service, what: "network", name, suggestion })
        };
        assert_eq!(undefined(".networks", "front"), Some((3, 17)));
        assert_eq!(undefined(".secrets", "token"), Some((5, 15)));
        assert_eq!(undefined(".depends_on", "db"), Some((2, 16)));
        assert_eq!(undefined(".build.additional_contexts", "other"), Some((7, 33)));
        assert_eq!(undefined(".networks", "nowhere"), Some((3, 3)));
    }

    #[test]
    fn what_is_wrong_with_an_attribute_is_shown_at_its_value_or_its_key() {
        let inconsistent = |attribute: &str| {
            let (service, reason) = ("a.b".to_owned(), String::new());
            found(attribute, Wrong::Inconsistent { service, reason })
        };
        assert_eq!(inconsistent(".network_mode"), Some((8, 17)));
        assert_eq!(inconsistent(".build.dockerfile"), Some((6, 3)));
        assert_eq!(found("", Wrong::NoImage { service: "a.b".to_owned() }), Some((1, 1)));
        assert_eq!(found("", Wrong::NoImage { service: "a".to_owned() }), None);
    }
}
