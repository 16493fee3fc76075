//! `!reset` and `!override`: which attributes of earlier files a later file forgets.

use crate::node::{Map, Node, Tag, Value};

/// The attributes that a document forgets of what was there before it, as names from the top.
#[derive(Debug, Default)]
pub(crate) struct Resets(Vec<Vec<String>>);

impl Resets {
    /// Takes the tags out of a document: what is reset is gone, what overrides stays.
    pub(crate) fn take(document: &mut Node) -> Self {
        let mut resets = Self::default();
        resets.visit(document, &mut Vec::new());
        resets
    }

    fn visit(&mut self, node: &mut Node, path: &mut Vec<String>) {
        if std::mem::take(&mut node.tag) == Tag::Override {
            self.0.push(path.clone());
        }
        match &mut node.value {
            Value::Map(map) => {
                map.retain(|key, child| {
                    path.push(key.clone());
                    let stays = child.tag != Tag::Reset;
                    match stays {
                        true => self.visit(child, path),
                        false => self.0.push(path.clone()),
                    }
                    path.pop();
                    stays
                });
            }
            Value::List(list) => {
                list.retain(|item| item.tag != Tag::Reset);
                for (index, item) in list.iter_mut().enumerate() {
                    path.push(index.to_string());
                    self.visit(item, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    /// Removes what is forgotten from what was there before.
    pub(crate) fn apply(&self, before: &mut Map) {
        for path in &self.0 {
            remove(before, path);
        }
    }

    /// The same for what one service was made from.
    pub(crate) fn apply_to_service(&self, name: &str, service: &mut Node) {
        for path in &self.0 {
            if let ([first, second, rest @ ..], Some(map)) = (path.as_slice(), service.as_map_mut())
                && first == "services"
                && second == name
            {
                remove(map, rest);
            }
        }
    }
}

fn remove(map: &mut Map, path: &[String]) {
    match path {
        [] => {}
        [key] => {
            map.remove(key);
        }
        [key, rest @ ..] => {
            if let Some(inner) = map.get_mut(key).and_then(Node::as_map_mut) {
                remove(inner, rest);
            }
        }
    }
}
