//! How Go prints values: `{{.}}`, `print`, `println` and the verbs of `printf`.
//!
//! An object prints as a Go map, `map[a:1 b:2]`, as JSON does not tell it from a struct.

use serde_json::Value;

use super::nil::Nil;
use crate::units::general;

/// Prints the value of an action; `nil` is what it is if it is null.
pub(super) fn printed(value: &Value, nil: Option<Nil>) -> String {
    match (value, nil) {
        (Value::Null, None) => "<no value>".to_owned(),
        (Value::Null, Some(nil)) => display(&nil.value()),
        (value, _) => display(value),
    }
}

/// Prints as `%v` does.
fn display(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => shortest(float),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(display).collect();
            format!("[{}]", elements.join(" "))
        }
        Value::Object(object) => {
            let mut entries: Vec<String> =
                object.iter().map(|(key, value)| format!("{key}:{}", display(value))).collect();
            entries.sort_unstable();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// Prints as few digits as tell the number from its neighbours.
fn shortest(number: f64) -> String {
    let scientific = format!("{number:e}");
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok());
    match exponent {
        Some(-4..=20) | None => number.to_string(),
        Some(_) => general(number, scientific.chars().filter(char::is_ascii_digit).count().min(17)),
    }
}

/// Returns the name of the Go type that the value would have.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Prints values with a space between two of which neither is a text.
pub(super) fn print(values: &[Value]) -> String {
    let mut output = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 && !value.is_string() && !values[index - 1].is_string() {
            output.push(' ');
        }
        output.push_str(&display(value));
    }
    output
}

/// Prints values with spaces between and a line end behind.
pub(super) fn println(values: &[Value]) -> String {
    let values: Vec<String> = values.iter().map(display).collect();
    format!("{}\n", values.join(" "))
}

/// Prints by a format; what does not fit is printed as a note, never an error, as in Go.
pub(super) fn printf(format: &str, values: &[Value]) -> String {
    let mut output = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        output.push_str(&rest[..percent]);
        let (directive, behind) = Directive::parse(&rest[percent + 1..], &mut values);
        output.push_str(&match directive.verb {
            None => "%!(NOVERB)".to_owned(),
            Some('%') => "%".to_owned(),
            Some(verb) => match values.next() {
                Some(value) => directive.padded(directive.formatted(verb, value)),
                None => format!("%!{verb}(MISSING)"),
            },
        });
        rest = behind;
    }
    output.push_str(rest);
    let extra: Vec<String> =
        values.map(|value| format!("{}={}", type_name(value), display(value))).collect();
    if !extra.is_empty() {
        output.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    output
}

/// `%-08.3f` and its like.
#[derive(Default)]
struct Directive {
    left: bool,
    zeros: bool,
    plus: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
    verb: Option<char>,
}

impl Directive {
    /// Parses what follows the `%`; a `*` takes its number from `values`.
    fn parse<'a>(text: &'a str, values: &mut std::slice::Iter<'_, Value>) -> (Self, &'a str) {
        let mut directive = Self::default();
        let verb = text.trim_start_matches(['-', '0', '+', '#', ' ']);
        for flag in text[..text.len() - verb.len()].chars() {
            match flag {
                '-' => directive.left = true,
                '0' => directive.zeros = true,
                '+' => directive.plus = true,
                '#' => directive.sharp = true,
                _ => {}
            }
        }
        let (width, mut rest) = number(verb, values);
        directive.width = width.unwrap_or(0);
        if let Some(behind) = rest.strip_prefix('.') {
            let (precision, behind) = number(behind, values);
            directive.precision = Some(precision.unwrap_or(0));
            rest = behind;
        }
        let mut chars = rest.chars();
        directive.verb = chars.next();
        (directive, chars.as_str())
    }

    fn formatted(&self, verb: char, value: &Value) -> String {
        let whole = || value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
        let sign = |number: String| {
            if self.plus && !number.starts_with('-') { format!("+{number}") } else { number }
        };
        let formatted = match verb {
            'v' => Some(display(value)),
            's' if !value.is_number() && !value.is_boolean() => Some(display(value)),
            'q' => value.as_str().map(|text| format!("{text:?}")),
            'T' => Some(type_name(value).to_owned()),
            't' => value.as_bool().map(|bool| bool.to_string()),
            'd' => whole().map(|number| sign(number.to_string())),
            'x' => match value {
                Value::String(text) => {
                    Some(text.bytes().map(|byte| format!("{byte:02x}")).collect())
                }
                _ => whole()
                    .map(|number| format!("{}{number:x}", if self.sharp { "0x" } else { "" })),
            },
            'X' => whole().map(|number| format!("{number:X}")),
            'o' => whole().map(|number| format!("{number:o}")),
            'b' => whole().map(|number| format!("{number:b}")),
            'c' => {
                whole().and_then(|number| char::from_u32(number.try_into().ok()?)).map(String::from)
            }
            'f' | 'g' | 'e' if value.is_f64() => {
                value.as_f64().map(|number| sign(self.float(verb, number)))
            }
            _ => None,
        };
        match (formatted, self.precision) {
            (None, _) => format!("%!{verb}({}={})", type_name(value), display(value)),
            (Some(text), Some(length)) if verb == 's' => text.chars().take(length).collect(),
            (Some(text), _) => text,
        }
    }

    fn float(&self, verb: char, number: f64) -> String {
        match (verb, self.precision) {
            ('f', precision) => format!("{number:.*}", precision.unwrap_or(6)),
            ('g', Some(digits)) => general(number, digits),
            ('g', None) => shortest(number),
            (_, precision) => {
                let printed = format!("{number:.*e}", precision.unwrap_or(6));
                let (mantissa, exponent) = printed.split_once('e').expect("`e` prints an exponent");
                let (sign, digits) = match exponent.strip_prefix('-') {
                    Some(digits) => ('-', digits),
                    None => ('+', exponent),
                };
                format!("{mantissa}e{sign}{digits:0>2}")
            }
        }
    }

    fn padded(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        let is_number = matches!(self.verb, Some('d' | 'f' | 'g' | 'e' | 'x' | 'X' | 'o' | 'b'));
        match text.strip_prefix(['-', '+']) {
            Some(digits) if self.zeros && is_number => {
                format!("{}{}{digits}", &text[..1], "0".repeat(missing))
            }
            _ => format!("{}{text}", if self.zeros { "0" } else { " " }.repeat(missing)),
        }
    }
}

fn number<'a>(text: &'a str, values: &mut std::slice::Iter<'_, Value>) -> (Option<usize>, &'a str) {
    if let Some(rest) = text.strip_prefix('*') {
        let value = values.next().and_then(Value::as_u64);
        return (value.and_then(|value| usize::try_from(value).ok()), rest);
    }
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().ok(), &text[end..])
}
