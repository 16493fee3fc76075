//! The options of `HEALTHCHECK`, with durations as Go reads and writes them.
//!
//! Runs no check.

use std::time::Duration;

use crate::error::InstructionError;
use crate::flags::{FlagKind, Flags};
use crate::instruction::Healthcheck;
use crate::lines::{RawInstruction, parse_json_array};

const FLAGS: [(&str, FlagKind); 5] = [
    ("interval", FlagKind::One),
    ("timeout", FlagKind::One),
    ("start-period", FlagKind::One),
    ("start-interval", FlagKind::One),
    ("retries", FlagKind::One),
];

/// Reads `HEALTHCHECK NONE` or `HEALTHCHECK [flags] CMD command`.
pub(crate) fn parse(raw: &RawInstruction) -> Result<Healthcheck, InstructionError> {
    let (word, command) = match raw.rest.split_once(|char: char| char.is_ascii_whitespace()) {
        Some((word, command)) => (word.to_uppercase(), command.trim_start()),
        None => (raw.rest.to_uppercase(), ""),
    };
    match word.as_str() {
        "" => {
            return Err(InstructionError::AtLeastOne { keyword: "HEALTHCHECK" });
        }
        "NONE" if command.is_empty() => {
            return Ok(Healthcheck { test: vec![word], ..Healthcheck::default() });
        }
        "NONE" => return Err(InstructionError::HealthcheckNone),
        _ => {}
    }
    let mut flags = Flags::parse(&raw.flags, &FLAGS).map_err(InstructionError::Flag)?;
    if word != "CMD" {
        return Err(InstructionError::HealthcheckType { word });
    }
    Ok(Healthcheck {
        test: parse_test(command)?,
        interval: interval(&mut flags, "interval")?,
        timeout: interval(&mut flags, "timeout")?,
        start_period: interval(&mut flags, "start-period")?,
        start_interval: interval(&mut flags, "start-interval")?,
        retries: flags.one("retries").map_or(Ok(0), |value| retries(&value))?,
    })
}

fn parse_test(command: &str) -> Result<Vec<String>, InstructionError> {
    let (kind, args) = match parse_json_array(command).map_err(InstructionError::Arguments)? {
        Some(args) => ("CMD", args),
        None if command.is_empty() => ("CMD-SHELL", Vec::new()),
        None => ("CMD-SHELL", vec![command.to_owned()]),
    };
    if args.is_empty() {
        return Err(InstructionError::HealthcheckCommand);
    }
    Ok([kind.to_owned()].into_iter().chain(args).collect())
}

fn interval(flags: &mut Flags, flag: &'static str) -> Result<Duration, InstructionError> {
    let Some(value) = flags.one(flag) else {
        return Ok(Duration::ZERO);
    };
    let nanos = parse_duration(&value).map_err(InstructionError::Duration)?;
    match u64::try_from(nanos) {
        Ok(0) => Ok(Duration::ZERO),
        Ok(nanos) if nanos >= 1_000_000 => Ok(Duration::from_nanos(nanos)),
        _ => Err(InstructionError::Interval { flag }),
    }
}

fn retries(value: &str) -> Result<u32, InstructionError> {
    let number: i32 = value.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let reason = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        InstructionError::Retries { value: value.to_owned(), reason }
    })?;
    u32::try_from(number).map_err(|_| InstructionError::NegativeRetries(number))
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration such as `1m30s`, `-1.5h` or `0` into nanoseconds; the error is Go's text.
fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let digits =
            rest.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters =
            behind.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        if !number.contains(|char: char| char.is_ascii_digit()) {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let part = scaled(number, *scale).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = behind;
    }
    Ok(if text.starts_with('-') { -total } else { total })
}

/// Multiplies a decimal number; what is left below one is dropped.
fn scaled(number: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    whole.checked_mul(scale)?.checked_add((fraction * scale as f64) as i64)
}

/// Writes a duration as Go does: `1h0m0s`, `1.5s`, `500ms`, `0s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |unit: u128| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        match fraction.trim_end_matches('0') {
            "" => (nanos / unit).to_string(),
            fraction => format!("{}.{fraction}", nanos / unit),
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(1_000_000)),
        _ => {
            let minutes = duration.as_secs() / 60;
            let seconds = format_seconds(duration);
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

fn format_seconds(duration: Duration) -> String {
    let fraction = format!("{:09}", duration.subsec_nanos());
    let seconds = duration.as_secs() % 60;
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds}s"),
        fraction => format!("{seconds}.{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_durations() {
        for (text, expected) in [
            ("0", "0s"),
            ("50ns", "50ns"),
            ("1500us", "1.5ms"),
            ("1.5s", "1.5s"),
            (".5s", "500ms"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1h2m3.004s", "1h2m3.004s"),
            ("2\u{b5}s", "2\u{b5}s"),
        ] {
            let nanos = parse_duration(text)
                .and_then(|nanos| u64::try_from(nanos).map_err(|e| e.to_string()));
            assert_eq!(
                nanos.map(|nanos| format_duration(Duration::from_nanos(nanos))),
                Ok(expected.to_owned())
            );
        }
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("10", "time: missing unit in duration \"10\""),
            ("10x", "time: unknown unit \"x\" in duration \"10x\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
        ] {
            assert_eq!(parse_duration(text), Err(expected.to_owned()));
        }
        assert_eq!(parse_duration("-1s"), Ok(-1_000_000_000));
    }
}
