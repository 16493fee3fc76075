//! The functions of templates: Go's own and those docker adds.
//!
//! Knows values only; where in a template it is called from is the caller's.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::format;

/// A function that templates may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    Json,
    Split,
    Join,
    Title,
    Lower,
    Upper,
    Pad,
    Truncate,
}

/// Name and number of arguments; without an upper bound there may be any number.
const FUNCTIONS: [(&str, Function, usize, Option<usize>); 25] = [
    ("and", Function::And, 1, None),
    ("or", Function::Or, 1, None),
    ("not", Function::Not, 1, Some(1)),
    ("eq", Function::Eq, 1, None),
    ("ne", Function::Ne, 2, Some(2)),
    ("lt", Function::Lt, 2, Some(2)),
    ("le", Function::Le, 2, Some(2)),
    ("gt", Function::Gt, 2, Some(2)),
    ("ge", Function::Ge, 2, Some(2)),
    ("len", Function::Len, 1, Some(1)),
    ("index", Function::Index, 1, None),
    ("slice", Function::Slice, 1, None),
    ("print", Function::Print, 0, None),
    ("printf", Function::Printf, 1, None),
    ("println", Function::Println, 0, None),
    ("html", Function::Html, 0, None),
    ("js", Function::Js, 0, None),
    ("json", Function::Json, 1, Some(1)),
    ("split", Function::Split, 2, Some(2)),
    ("join", Function::Join, 2, Some(2)),
    ("title", Function::Title, 1, Some(1)),
    ("lower", Function::Lower, 1, Some(1)),
    ("upper", Function::Upper, 1, Some(1)),
    ("pad", Function::Pad, 3, Some(3)),
    ("truncate", Function::Truncate, 2, Some(2)),
];

type Result<T> = std::result::Result<T, String>;

impl Function {
    /// Returns the function of that name.
    pub(super) fn of(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Tells whether this argument is the result, whatever follows.
    pub(super) fn decides(self, argument: &Value) -> bool {
        match self {
            Self::And => !is_true(argument),
            Self::Or => is_true(argument),
            _ => false,
        }
    }

    /// Calls the function; an error is what Go would say.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value> {
        let row = FUNCTIONS.iter().find(|row| row.1 == self);
        let (name, _, least, most) = *row.expect("every function has a row");
        let count = arguments.len();
        if count < least || most.is_some_and(|most| count > most) {
            let at_least = if most.is_none() { "at least " } else { "" };
            return Err(format!(
                "wrong number of args for {name}: want {at_least}{least} got {count}"
            ));
        }
        self.apply(arguments).map_err(|message| format!("error calling {name}: {message}"))
    }

    fn apply(self, arguments: &[Value]) -> Result<Value> {
        let first = arguments.first().unwrap_or(&Value::Null);
        let second = arguments.get(1).unwrap_or(&Value::Null);
        Ok(match self {
            Self::And | Self::Or => {
                let decisive = arguments.iter().find(|argument| self.decides(argument));
                decisive.or(arguments.last()).cloned().unwrap_or_default()
            }
            Self::Not => (!is_true(first)).into(),
            Self::Eq => equals_any(first, &arguments[1..])?.into(),
            Self::Ne => (!equals(first, second)?).into(),
            Self::Lt => order(first, second)?.is_lt().into(),
            Self::Le => order(first, second)?.is_le().into(),
            Self::Gt => order(first, second)?.is_gt().into(),
            Self::Ge => order(first, second)?.is_ge().into(),
            Self::Len => len(first)?.into(),
            Self::Index => {
                arguments[1..].iter().try_fold(first.clone(), |value, key| index(&value, key))?
            }
            Self::Slice => slice(first, &arguments[1..])?,
            Self::Print => format::print(arguments).into(),
            Self::Printf => format::printf(text(first)?, &arguments[1..]).into(),
            Self::Println => format::println(arguments).into(),
            Self::Html => escape_html(&format::print(arguments)).into(),
            Self::Js => escape_js(&format::print(arguments)).into(),
            Self::Json => first.to_string().into(),
            Self::Split => text(first)?.split(text(second)?).map(Value::from).collect(),
            Self::Join => join(first, text(second)?)?.into(),
            Self::Title => title(text(first)?).into(),
            Self::Lower => text(first)?.to_lowercase().into(),
            Self::Upper => text(first)?.to_uppercase().into(),
            Self::Pad => pad(text(first)?, position(second)?, position(&arguments[2])?).into(),
            Self::Truncate => truncate(text(first)?, position(second)?).into(),
        })
    }
}

/// Tells whether a value counts as true: not false, 0, empty or null.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// Tells an object that stands for Go's `map[string]string`, such as labels, from a struct.
pub(super) fn maps_strings(object: &Map<String, Value>) -> bool {
    object.values().all(Value::is_string)
}

/// Numbers compare by value, whole or not.
fn compare(first: &Value, second: &Value) -> Option<Ordering> {
    match (first, second) {
        (Value::Number(first), Value::Number(second)) => match (first.as_i64(), second.as_i64()) {
            (Some(first), Some(second)) => Some(first.cmp(&second)),
            _ => first.as_f64()?.partial_cmp(&second.as_f64()?),
        },
        (Value::String(first), Value::String(second)) => Some(first.cmp(second)),
        _ => None,
    }
}

fn equals(first: &Value, second: &Value) -> Result<bool> {
    match (first, second) {
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err(format!(
                "non-comparable types {}, {}",
                format::type_name(first),
                format::type_name(second)
            ))
        }
        (Value::Null, _) | (_, Value::Null) => Ok(first == second),
        (Value::Bool(first), Value::Bool(second)) => Ok(first == second),
        _ => match compare(first, second) {
            Some(ordering) => Ok(ordering.is_eq()),
            None => Err("incompatible types for comparison".to_owned()),
        },
    }
}

fn equals_any(first: &Value, others: &[Value]) -> Result<bool> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equals(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn order(first: &Value, second: &Value) -> Result<Ordering> {
    compare(first, second).ok_or_else(|| match (first, second) {
        (Value::Number(_) | Value::String(_), Value::Number(_) | Value::String(_)) => {
            "incompatible types for comparison".to_owned()
        }
        _ => "invalid type for comparison".to_owned(),
    })
}

fn len(value: &Value) -> Result<usize> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(elements) => Ok(elements.len()),
        Value::Object(object) => Ok(object.len()),
        Value::Null => Err("len of nil pointer".to_owned()),
        other => Err(format!("len of type {}", format::type_name(other))),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::Object(object), Value::String(key)) => Ok(match object.get(key) {
            Some(found) => found.clone(),
            // A missing label is an empty text, any other missing entry nothing.
            None if maps_strings(object) => "".into(),
            None => Value::Null,
        }),
        // Labels that are not there at all.
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Null, _) => Err("index of untyped nil".to_owned()),
        (Value::Array(elements), Value::Number(_)) => {
            let found = key.as_u64().and_then(|key| elements.get(usize::try_from(key).ok()?));
            found.cloned().ok_or_else(|| format!("index out of range: {key}"))
        }
        (Value::String(text), Value::Number(_)) => {
            let found =
                key.as_u64().and_then(|key| text.as_bytes().get(usize::try_from(key).ok()?));
            found.map(|byte| (*byte).into()).ok_or_else(|| format!("index out of range: {key}"))
        }
        (Value::Array(_) | Value::String(_), key) => {
            Err(format!("cannot index slice/array with type {}", format::type_name(key)))
        }
        (Value::Object(_), key) => {
            Err(format!("value has type {}; should be string", format::type_name(key)))
        }
        (other, _) => Err(format!("can't index item of type {}", format::type_name(other))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value> {
    let length = match value {
        Value::String(_) | Value::Array(_) => len(value)?,
        other => {
            return Err(format!("can't slice item of type {}", format::type_name(other)));
        }
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let bound = |index: usize, default: usize| match bounds.get(index) {
        None => Ok(default),
        Some(bound) => match position(bound)? {
            bound if bound <= length => Ok(bound),
            bound => Err(format!("index out of range: {bound}")),
        },
    };
    let (start, end) = (bound(0, 0)?, bound(1, length)?);
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    Ok(match value {
        Value::Array(elements) => elements[start..end].to_vec().into(),
        value => String::from_utf8_lossy(&text(value)?.as_bytes()[start..end]).into(),
    })
}

fn join(values: &Value, separator: &str) -> Result<String> {
    match values {
        Value::Null => Ok(String::new()),
        Value::Array(elements) => {
            let texts: Vec<&str> = elements.iter().map(text).collect::<Result<_>>()?;
            Ok(texts.join(separator))
        }
        other => Err(format!(
            "wrong type for value; expected []string; got {}",
            format::type_name(other)
        )),
    }
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| {
        format!("wrong type for value; expected string; got {}", format::type_name(value))
    })
}

fn position(value: &Value) -> Result<usize> {
    let number = value.as_number().and_then(Number::as_i64).ok_or_else(|| {
        format!("wrong type for value; expected int; got {}", format::type_name(value))
    })?;
    usize::try_from(number).map_err(|_| format!("index out of range: {number}"))
}

/// Puts the first letter of every word in upper case.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut capital = |char: char| {
        let first = !inside;
        inside = char.is_alphanumeric() || matches!(char, '_' | '\'');
        if first { char.to_uppercase().collect() } else { String::from(char) }
    };
    text.chars().map(&mut capital).collect()
}

fn pad(text: &str, before: usize, after: usize) -> String {
    match text {
        "" => String::new(),
        text => format!("{}{text}{}", " ".repeat(before), " ".repeat(after)),
    }
}

/// Keeps so many bytes, but no part of a character.
fn truncate(text: &str, length: usize) -> &str {
    &text[..text.floor_char_boundary(length)]
}

fn escape_html(text: &str) -> String {
    let escape = |char: char| match char {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        char => char.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Go's `JSEscapeString`: what a literal of JavaScript may hold, also inside HTML.
fn escape_js(text: &str) -> String {
    let escape = |char: char| match char {
        '\\' | '\'' | '"' => format!("\\{char}"),
        '<' | '>' | '&' | '=' | '\0'..' ' => format!("\\u{:04X}", u32::from(char)),
        // Of those that do not print, the ones that end a line there.
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
            format!("\\u{:04X}", u32::from(char))
        }
        char => char.to_string(),
    };
    text.chars().map(escape).collect()
}
