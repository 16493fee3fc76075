//! Sizes, spans of time and limits as people write and read them (docker's `go-units`).
//!
//! Knows no flag and no configuration key that uses them; exact durations are `duration`'s.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number, or a negative one.
    #[error("invalid size: '{0}'")]
    Number(String),
    /// A number with something behind it that is no unit.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Parses a size in powers of 1000: `32.5kB` is 32,500 bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    parse_scaled(text, 1000.0)
}

/// Parses a size of memory, in powers of 1024: `32k`, `32kb` and `32KiB` are 32,768 bytes.
pub fn parse_memory(text: &str) -> Result<u64, SizeError> {
    parse_scaled(text, 1024.0)
}

fn parse_scaled(text: &str, base: f64) -> Result<u64, SizeError> {
    let invalid = || SizeError::Number(text.to_owned());
    let is_numeric = |char: char| char.is_ascii_digit() || char == '.' || char == ' ';
    let end = text.rfind(is_numeric).ok_or_else(invalid)? + 1;
    let (number, suffix) = text.split_at(end);
    // One space may stand between number and unit.
    let number = number.strip_suffix(' ').unwrap_or(number);
    let number: f64 = number.parse().map_err(|_| invalid())?;
    if !number.is_finite() || number < 0.0 {
        return Err(invalid());
    }
    let suffix = suffix.to_ascii_lowercase();
    let power = power_of(&suffix).ok_or(SizeError::Suffix(suffix))?;
    Ok((number * base.powi(power)) as u64)
}

fn power_of(suffix: &str) -> Option<i32> {
    match suffix {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(1),
        "m" | "mb" | "mib" => Some(2),
        "g" | "gb" | "gib" => Some(3),
        "t" | "tb" | "tib" => Some(4),
        "p" | "pb" | "pib" => Some(5),
        _ => None,
    }
}

/// Prints a size with four digits in powers of 1000: `1.049MB`.
pub fn human_size(bytes: f64) -> String {
    human_size_with(bytes, 4)
}

/// Prints a size with so many digits in powers of 1000; docker's tables use three.
pub fn human_size_with(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, &DECIMAL, digits)
}

/// Prints a size with four digits in powers of 1024: `3.42GiB`.
pub fn memory_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(mut size: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while size >= base && unit < units.len() - 1 {
        size /= base;
        unit += 1;
    }
    format!("{}{}", general(size, digits), units[unit])
}

/// Prints as C's and Go's `%.*g` do: so many digits, no trailing zeros, an exponent if need be.
pub(crate) fn general(number: f64, digits: usize) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let digits = digits.max(1);
    let scientific = format!("{number:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("`e` prints an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = (digits as i32 - 1 - exponent) as usize;
    without_zeros(&format!("{number:.decimals$}")).to_owned()
}

fn without_zeros(number: &str) -> &str {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}

/// Prints roughly how long something took or is ago: `About an hour`, `3 weeks`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (duration.as_secs_f64() / 3600.0 + 0.5) as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A resource limit as `--ulimit` writes it, `Display`ed as `nofile=1024:2048`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// The limit's name, one of [`ULIMIT_NAMES`].
    pub name: String,
    /// What holds until the process asks for more; -1 is no limit.
    pub soft: i64,
    /// What the process may ask for; -1 is no limit.
    pub hard: i64,
}

/// The limits that can be set, each at the index that is its number in setrlimit(2).
pub const ULIMIT_NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// A text that is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UlimitError {
    /// No `name=`.
    #[error("invalid ulimit argument: {0}")]
    Argument(String),
    /// A limit that does not exist, or that docker does not set.
    #[error("invalid ulimit type: {0}")]
    Type(String),
    /// A bound that is not a whole number.
    #[error("invalid ulimit value: {0}")]
    Value(String),
    /// More than two bounds.
    #[error("too many limit value arguments - {0}, can only have up to two, `soft[:hard]`")]
    TooMany(String),
    /// No soft limit under a hard one.
    #[error(
        "ulimit soft limit must be less than or equal to hard limit: \
         soft: -1 (unlimited), hard: {0}"
    )]
    SoftUnlimited(i64),
    /// A soft limit above the hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    SoftAboveHard {
        /// The soft limit.
        soft: i64,
        /// The hard limit.
        hard: i64,
    },
}

impl FromStr for Ulimit {
    type Err = UlimitError;

    /// Parses `name=soft[:hard]`; without a hard limit both are the same.
    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let (name, limits) = text.split_once('=').ok_or(UlimitError::Argument(text.to_owned()))?;
        // The address space is left out as docker leaves it out: a container could not start.
        if name == "as" || !ULIMIT_NAMES.contains(&name) {
            return Err(UlimitError::Type(name.to_owned()));
        }
        let bound = |text: &str| text.parse().map_err(|_| UlimitError::Value(text.to_owned()));
        let (soft, hard) = match limits.split_once(':') {
            Some((_, hard)) if hard.contains(':') => {
                return Err(UlimitError::TooMany(limits.to_owned()));
            }
            Some((soft, hard)) => (bound(soft)?, bound(hard)?),
            None => (bound(limits)?, bound(limits)?),
        };
        match (soft, hard) {
            (_, -1) => {}
            (-1, hard) => return Err(UlimitError::SoftUnlimited(hard)),
            (soft, hard) if soft > hard => return Err(UlimitError::SoftAboveHard { soft, hard }),
            _ => {}
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conformance, duration};

    #[test]
    fn numbers_print_as_percent_g() {
        let check = |number: f64, digits: usize, expected: &str| {
            assert_eq!(general(number, digits), expected);
        };
        check(0.0, 4, "0");
        check(1.0, 4, "1");
        check(1023.96, 4, "1024");
        check(1234.5, 3, "1.23e+03");
        check(0.000_012_345, 3, "1.23e-05");
        check(0.000_123_45, 3, "0.000123");
        check(99.99, 3, "100");
        check(100.0, 1, "1e+02");
    }

    #[test]
    fn limits_need_a_known_name_and_ordered_bounds() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = text.parse::<Ulimit>();
            let printed = found.map(|ulimit| ulimit.to_string()).map_err(|error| error.to_string());
            assert_eq!(printed.as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("nofile=512", Ok("nofile=512:512"));
        check("nofile=512:1024", Ok("nofile=512:1024"));
        check("core=-1", Ok("core=-1:-1"));
        check("core=5:-1", Ok("core=5:-1"));
        check("nofile", Err("invalid ulimit argument: nofile"));
        check("as=1", Err("invalid ulimit type: as"));
        check("nofile=x", Err("invalid ulimit value: x"));
        check(
            "nofile=1:2:3",
            Err("too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"),
        );
        check(
            "nofile=2:1",
            Err("ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        );
    }

    /// Rows that do not apply: two whose expected value is a Go variable (`tmp`).
    #[test]
    fn every_row_of_the_size_suite_holds() {
        for row in conformance::rows("go-units", "units.jsonl") {
            let text = row["input"].as_str().unwrap_or_default();
            let number = row["input"].as_f64().unwrap_or_default();
            let expected = &row["expected"];
            match row["fn"].as_str().expect("a function") {
                "FromHumanSize" | "RAMInBytes" if expected == "tmp" => {}
                "FromHumanSize" => assert_eq!(parse_size(text).ok(), expected.as_u64(), "{row}"),
                "RAMInBytes" => assert_eq!(parse_memory(text).ok(), expected.as_u64(), "{row}"),
                "HumanSize" => assert_eq!(&human_size(number), expected, "{row}"),
                "BytesSize" => assert_eq!(&memory_size(number), expected, "{row}"),
                "HumanDuration" => {
                    let argument = row["expr"].as_str().expect("a call");
                    let found = human_duration(go_duration(argument));
                    assert_eq!(format!("\"{found}\""), *expected, "{row}");
                }
                other => panic!("unknown function {other}"),
            }
        }
    }

    /// Evaluates `HumanDuration(2*week+4*day)`.
    fn go_duration(call: &str) -> Duration {
        let terms = call.trim_start_matches("HumanDuration(").trim_end_matches(')');
        let nanoseconds: i64 = terms
            .split('+')
            .map(|term| {
                let (count, unit) = term.split_once('*').expect("a product");
                let count: i64 = count.parse().expect("a number");
                count
                    * match unit {
                        "time.Millisecond" => duration::MILLISECOND,
                        "time.Second" => duration::SECOND,
                        "time.Minute" => duration::MINUTE,
                        "time.Hour" => duration::HOUR,
                        "day" => 24 * duration::HOUR,
                        "week" => 7 * 24 * duration::HOUR,
                        "month" => 30 * 24 * duration::HOUR,
                        "year" => 365 * 24 * duration::HOUR,
                        other => panic!("unknown unit {other}"),
                    }
            })
            .sum();
        Duration::from_nanos(nanoseconds as u64)
    }
}
