//! What a scalar of YAML is: null, a boolean, a number, or text.
//!
//! The rules are those of go-yaml, which docker compose reads with: YAML 1.2's core schema, and of 1.1 the old octal
//! numbers, `_` in numbers and dates; but neither `yes` as a boolean nor `22:22` as a number of base 60.

use crate::node::Value;

/// The value of a scalar, by its tag of the core schema if it has one; only plain ones are looked into.
pub(crate) fn value(text: &str, plain: bool, tag: Option<&str>) -> Value {
    match tag {
        Some("str") => Value::Text(text.to_owned()),
        Some("int" | "float" | "bool" | "null") => resolve(text),
        _ if plain => resolve(text),
        _ => Value::Text(text.to_owned()),
    }
}

fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-0" => return Value::Float(-0.0),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Value::Text(text.to_owned());
    }
    if let Some(time) = time(text) {
        return Value::Text(time);
    }
    let bare = text.replace('_', "");
    if let Some(value) = integer(&bare) {
        return Value::Int(value);
    }
    match is_decimal(&bare).then(|| bare.parse::<f64>()) {
        // A whole number beyond 64 bits keeps its digits: as a float it would be another number.
        Some(Ok(_)) if bare.bytes().all(|b| b.is_ascii_digit()) && bare.len() > 18 => {
            Value::Text(text.to_owned())
        }
        Some(Ok(value)) => Value::Float(value),
        _ => Value::Text(text.to_owned()),
    }
}

/// A whole number with Go's prefixes: `0x`, `0o`, `0b`, and `0` for octal.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -size } else { size }).ok()
}

/// Whether text is digits with at most a point and an exponent.
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let mantissa = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent = exponent.map(|text| text.strip_prefix(['-', '+']).unwrap_or(text));
    mantissa && exponent.is_none_or(|text| !text.is_empty() && digits(text))
}

/// A date, or a date and a time, as docker compose shows it: Go's way of printing a time.
fn time(text: &str) -> Option<String> {
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((&text[at..=at], &text[at + 1..]))),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = parts.next().filter(|year| year.len() == 4)?.parse::<u16>().ok()?;
    let month = number(parts.next()?, 1, 12)?;
    let days = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = number(parts.next()?, 1, days)?;
    if parts.next().is_some() {
        return None;
    }
    let (clock, zone) = match rest {
        None => ("00:00:00".to_owned(), "+0000 UTC".to_owned()),
        Some((" ", clock)) => (self::clock(clock)?, "+0000 UTC".to_owned()),
        Some((_, rest)) => {
            let at = rest.find(['Z', '+', '-'])?;
            (self::clock(&rest[..at])?, zone(&rest[at..])?)
        }
    };
    Some(format!("{year:04}-{month:02}-{day:02} {clock} {zone}"))
}

fn number(text: &str, least: u8, most: u8) -> Option<u8> {
    let digits = matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|value| (least..=most).contains(value))
}

fn clock(text: &str) -> Option<String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let hour = number(parts.next()?, 0, 23)?;
    let minute = number(parts.next()?, 0, 59)?;
    let second = number(parts.next()?, 0, 59)?;
    if parts.next().is_some() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{hour:02}:{minute:02}:{second:02}{point}{fraction}"))
}

fn zone(text: &str) -> Option<String> {
    if text == "Z" {
        return Some("+0000 UTC".to_owned());
    }
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 0, 23)?, number(minutes, 0, 59)?);
    let shown = format!("{}{hours:02}{minutes:02}", &text[..1]);
    Some(format!("{shown} {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_what_go_yaml_makes_of_them() {
        let rows: &[(&str, Value)] = &[
            ("yes", Value::Text("yes".to_owned())),
            ("22:22", Value::Text("22:22".to_owned())),
            ("1.10", Value::Float(1.1)),
            ("017", Value::Int(15)),
            ("0o17", Value::Int(15)),
            ("08", Value::Float(8.0)),
            ("1_000", Value::Int(1000)),
            ("-0x10", Value::Int(-16)),
            ("1e3", Value::Float(1000.0)),
            ("-0", Value::Float(-0.0)),
            (".5", Value::Float(0.5)),
            (".", Value::Text(".".to_owned())),
            ("-", Value::Text("-".to_owned())),
            ("1.2.3", Value::Text("1.2.3".to_owned())),
            ("18446744073709551615", Value::Text("18446744073709551615".to_owned())),
            ("2020-01-01", Value::Text("2020-01-01 00:00:00 +0000 UTC".to_owned())),
            ("2020-02-30", Value::Text("2020-02-30".to_owned())),
            ("2020-1-2T3:4:5.60Z", Value::Text("2020-01-02 03:04:05.6 +0000 UTC".to_owned())),
            ("~", Value::Null),
            ("True", Value::Bool(true)),
        ];
        for (text, expected) in rows {
            assert_eq!(value(text, true, None), *expected, "{text}");
        }
        assert_eq!(value("1", false, None), Value::Text("1".to_owned()));
        assert_eq!(value("1", true, Some("str")), Value::Text("1".to_owned()));
    }
}
