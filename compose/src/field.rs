//! Phase 15: from nodes to the typed model.
//!
//! [`Field`] is what every type of the model can do; [`record`] writes it for the ones that are made of attributes.
//! Absent and empty are the same in the model, as they are in docker compose, but where an `Option` tells them apart.

use std::collections::BTreeMap;

use crate::error::{Mistake, Wrong};
use crate::interpolate::boolean;
use crate::node::{Node, Value};
use crate::path::Path;

/// A part of the model.
pub(crate) trait Field: Sized + Default {
    /// Reads it; null is what is absent.
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake>;

    /// Whether it says nothing and is not written.
    fn is_absent(&self) -> bool;

    /// Drops what `x-*` keys say, here and inside.
    fn forget_extensions(&mut self) {}
}

/// The wrong kind of value.
pub(crate) fn wrong_kind(node: &Node, path: &Path<'_>, expected: &str) -> Mistake {
    node.wrong(path, Wrong::Type { expected: expected.to_owned(), found: node.kind() })
}

impl Field for String {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match node.value {
            Value::Text(text) => Ok(text),
            _ => node.plain().ok_or_else(|| wrong_kind(&node, path, "a string")),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Field for bool {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match &node.value {
            Value::Null => Ok(false),
            Value::Bool(value) => Ok(*value),
            Value::Text(text) => boolean(text)
                .ok_or_else(|| node.wrong(path, Wrong::Boolean { value: text.clone() })),
            _ => Err(wrong_kind(&node, path, "a boolean")),
        }
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

impl Field for i64 {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match &node.value {
            Value::Null => Ok(0),
            Value::Int(value) => Ok(*value),
            // A float that is whole fits where it came from digits.
            Value::Float(value) if value.fract() == 0.0 => Ok(*value as Self),
            Value::Text(text) => {
                text.parse().map_err(|_| node.wrong(path, Wrong::Number { value: text.clone() }))
            }
            _ => Err(wrong_kind(&node, path, "an integer")),
        }
    }

    fn is_absent(&self) -> bool {
        *self == 0
    }
}

impl Field for u16 {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let range = node.wrong(path, Wrong::Range { least: 0, most: i64::from(Self::MAX) });
        i64::read(node, path).and_then(|value| Self::try_from(value).map_err(|_| range))
    }

    fn is_absent(&self) -> bool {
        *self == 0
    }
}

impl Field for u64 {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        let range = node.wrong(path, Wrong::Range { least: 0, most: i64::MAX });
        i64::read(node, path).and_then(|value| Self::try_from(value).map_err(|_| range))
    }

    fn is_absent(&self) -> bool {
        *self == 0
    }
}

impl<T: Field> Field for Option<T> {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        if node.is_null() {
            return Ok(None);
        }
        T::read(node, path).map(Some)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn forget_extensions(&mut self) {
        self.iter_mut().for_each(T::forget_extensions);
    }
}

impl<T: Field> Field for Box<T> {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        T::read(node, path).map(Self::new)
    }

    fn is_absent(&self) -> bool {
        (**self).is_absent()
    }

    fn forget_extensions(&mut self) {
        (**self).forget_extensions();
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match node.value {
            Value::Null => Ok(Self::new()),
            Value::List(list) => list
                .into_iter()
                .enumerate()
                .map(|(index, item)| T::read(item, &path.index(index)))
                .collect(),
            // One text is a list of one.
            Value::Text(_) => Ok(vec![T::read(node, path)?]),
            _ => Err(wrong_kind(&node, path, "a list")),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn forget_extensions(&mut self) {
        self.iter_mut().for_each(T::forget_extensions);
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, Mistake> {
        match node.value {
            Value::Null => Ok(Self::new()),
            Value::Map(map) => map
                .into_iter()
                .map(|(key, value)| {
                    let value = T::read(value, &path.key(&key))?;
                    Ok((key, value))
                })
                .collect(),
            _ => Err(wrong_kind(&node, path, "a mapping")),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn forget_extensions(&mut self) {
        self.values_mut().for_each(T::forget_extensions);
    }
}

/// Declares a type of the model: `field: type = "key of the compose file"`, in the order in which they are written.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$about:meta])* $field:ident: $type:ty = $key:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
        pub struct $name {
            $(
                #[doc = concat!("`", $key, "`.")]
                $(#[$about])*
                #[serde(rename = $key, skip_serializing_if = "crate::field::Field::is_absent")]
                pub $field: $type,
            )*
            /// What its `x-*` keys say.
            #[serde(flatten)]
            pub extensions: crate::model::Extensions,
        }

        impl crate::field::Field for $name {
            fn read(
                node: crate::node::Node,
                path: &crate::path::Path<'_>,
            ) -> Result<Self, crate::error::Mistake> {
                let mut record = Self::default();
                if !node.is_null() && node.as_map().is_none() {
                    return Err(crate::field::wrong_kind(&node, path, "a mapping"));
                }
                let crate::node::Value::Map(map) = node.value else {
                    return Ok(record);
                };
                for (key, value) in map {
                    match key.as_str() {
                        $($key => {
                            record.$field = crate::field::Field::read(value, &path.key($key))?;
                        })*
                        extension if extension.starts_with("x-") => {
                            record.extensions.insert(key, (&value).into());
                        }
                        // What the schema lets pass and compose does not use.
                        _ => {}
                    }
                }
                Ok(record)
            }

            fn is_absent(&self) -> bool {
                self.extensions.is_empty() $(&& crate::field::Field::is_absent(&self.$field))*
            }

            fn forget_extensions(&mut self) {
                self.extensions.clear();
                $(crate::field::Field::forget_extensions(&mut self.$field);)*
            }
        }

        impl $name {
            /// Its keys in the order in which they are written.
            #[allow(dead_code, reason = "only some types need it")]
            pub(crate) const KEYS: &'static [&'static str] = &[$($key),*];
        }
    };
}

pub(crate) use record;
