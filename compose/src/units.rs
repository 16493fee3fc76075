//! Sizes and durations as people write them, read as Go's libraries read them.

/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

/// A size in bytes: `512m`, `1.5GiB`, `64`, also negative whole numbers. Units are binary.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| ram_in_bytes(text))
}

/// The same without a sign: go-units' `RAMInBytes`.
fn ram_in_bytes(text: &str) -> Option<i64> {
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let value: f64 = number.parse().ok().filter(|value: &f64| *value >= 0.0)?;
    let letters = match unit.as_str() {
        "" | "b" => return Some(value as i64),
        unit => unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit),
    };
    let power = "kmgtp".find(letters).filter(|_| letters.len() == 1)?;
    Some((value * 1024f64.powi(i32::try_from(power).ok()? + 1)) as i64)
}

/// A duration in nanoseconds: `1m30s`, `1.5h`, `2w3d`.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "d" => 24 * 3600 * SECOND,
            "w" => 7 * 24 * 3600 * SECOND,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit)?)?;
        any = true;
        rest = after;
    }
    let total = if negative { -total } else { total };
    any.then_some(())?;
    i64::try_from(total).ok()
}

/// A decimal number of units, exactly.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(unit)?;
    let mut step = unit;
    for digit in fraction.bytes() {
        step /= 10;
        value += i128::from(digit - b'0') * step;
    }
    Some(value)
}

/// A duration as Go writes it: `1h0m5s`, `1.5s`, `100ms`.
pub(crate) fn show_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", size % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{}{point}{fraction}{name}", size / unit)
    };
    match size {
        0..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let seconds = size / 1_000_000_000;
            let fraction = format!("{:09}", size % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = format!("{}{point}{fraction}s", seconds % 60);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{rest}"),
                (0, _) => format!("{sign}{minutes}m{rest}"),
                _ => format!("{sign}{hours}h{minutes}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_whatever_their_units_are_called() {
        let rows = [
            ("655360", Some(655_360)),
            ("-1", Some(-1)),
            ("1g", Some(1 << 30)),
            ("1.5 MiB", Some(3 << 19)),
            ("2KB", Some(2048)),
            ("32b", Some(32)),
            ("1x", None),
            ("", None),
            ("-1k", None),
            ("k", None),
            ("1kk", None),
        ];
        for (text, expected) in rows {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_read_and_print_as_go_does() {
        let rows = [
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("1500ms", "1.5s"),
            ("100ms", "100ms"),
            ("1h", "1h0m0s"),
            ("2d", "48h0m0s"),
            ("1w", "168h0m0s"),
            ("0", "0s"),
            ("1.5us", "1.5µs"),
            ("-2m", "-2m0s"),
            ("0.25h", "15m0s"),
        ];
        for (text, expected) in rows {
            assert_eq!(duration(text).map(show_duration).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "10", "10x", "s", ".s", "1.2.3s", "99999999999h", "-"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_references_sizes_read_alike() {
        crate::conformance::rows("compose-short-syntax/bytes.jsonl", |row| {
            let scalar = row["json_or_yaml_scalar"].as_str()?;
            let scalar = scalar.trim_matches('"');
            let found = bytes(scalar);
            let expected = row.get("bytes").and_then(serde_json::Value::as_i64);
            (found != expected).then(|| format!("found {found:?}"))
        });
        crate::conformance::rows("go-units/units.jsonl", |row| {
            if row["fn"].as_str() != Some("RAMInBytes") {
                return None;
            }
            let found = ram_in_bytes(row["input"].as_str()?);
            // Two rows give the result of another function's call, which says nothing here.
            let expected = row.get("expected").and_then(serde_json::Value::as_i64);
            let is_told = row.get("expected").is_none_or(serde_json::Value::is_i64);
            (is_told && found != expected).then(|| format!("found {found:?}"))
        });
    }
}
