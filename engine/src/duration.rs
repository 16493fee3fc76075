//! Durations as Go writes them, `1h30m0.5s`; in image configs they are whole nanoseconds.
//!
//! Knows no calendar: the longest unit is the hour.

/// Nanoseconds in a microsecond.
pub const MICROSECOND: i64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: i64 = 1_000 * MICROSECOND;
/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000 * MILLISECOND;
/// Nanoseconds in a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Nanoseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;

/// A text that is no duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number where one must be, or one out of range.
    #[error("time: invalid duration \"{0}\"")]
    Invalid(String),
    /// A number that is the last thing in the text, and not 0.
    #[error("time: missing unit in duration \"{0}\"")]
    MissingUnit(String),
    /// A number with an unknown unit.
    #[error("time: unknown unit \"{unit}\" in duration \"{text}\"")]
    UnknownUnit {
        /// What stands where a unit should.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// Parses a signed sequence of numbers with units, such as `-1.5h` or `2m30s`, to nanoseconds.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let is_number = |char: char| char.is_ascii_digit() || char == '.';
        let (number, behind) = split_while(rest, is_number);
        let (unit, behind) = split_while(behind, |char| !is_number(char));
        if !number.contains(|char: char| char.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let unit = match unit_of(unit) {
            Some(nanoseconds) => nanoseconds,
            None if unit.is_empty() => return Err(DurationError::MissingUnit(text.to_owned())),
            None => {
                let unit = unit.to_owned();
                return Err(DurationError::UnknownUnit { unit, text: text.to_owned() });
            }
        };
        total += scale(number, unit).ok_or_else(invalid)?;
        rest = behind;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn split_while(text: &str, holds: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|char| !holds(char)).unwrap_or(text.len()))
}

fn unit_of(unit: &str) -> Option<i64> {
    match unit {
        "ns" => Some(1),
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(MICROSECOND),
        "ms" => Some(MILLISECOND),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        _ => None,
    }
}

/// Multiplies a decimal number exactly; digits below a nanosecond are cut off.
fn scale(number: &str, unit: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Eighteen digits are all that an hour in nanoseconds could need.
    let fraction = &fraction[..fraction.len().min(18)];
    let mut part = i128::from(unit);
    if fraction.is_empty() {
        part = 0;
    } else {
        part = part * fraction.parse::<i128>().ok()? / 10_i128.pow(fraction.len() as u32);
    }
    Some(i128::from(whole) * i128::from(unit) + part)
}

/// Prints nanoseconds as Go does: `1m30s`, `1h0m0s`, `1.5ms`, `0s`.
pub fn format(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let nanoseconds = nanoseconds.unsigned_abs();
    let decimal = |unit: i64| {
        let unit = unit.unsigned_abs();
        let digits = unit.ilog10() as usize;
        let number = format!("{}.{:0digits$}", nanoseconds / unit, nanoseconds % unit);
        number.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let magnitude = match i64::try_from(nanoseconds).unwrap_or(i64::MAX) {
        0 => "0s".to_owned(),
        1..MICROSECOND => format!("{nanoseconds}ns"),
        MICROSECOND..MILLISECOND => format!("{}\u{b5}s", decimal(MICROSECOND)),
        MILLISECOND..SECOND => format!("{}ms", decimal(MILLISECOND)),
        _ => clock(nanoseconds),
    };
    format!("{sign}{magnitude}")
}

/// Prints a second or more, hours and minutes only where there are any.
fn clock(nanoseconds: u64) -> String {
    let (minute, hour) = (MINUTE.unsigned_abs(), HOUR.unsigned_abs());
    let seconds = nanoseconds % minute;
    let fraction = format!("{:09}", seconds % SECOND.unsigned_abs());
    let seconds = format!("{}.{fraction}", seconds / SECOND.unsigned_abs());
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (nanoseconds / hour, nanoseconds % hour / minute) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, nanoseconds: i64, printed: &str) {
        assert_eq!(parse(text), Ok(nanoseconds), "{text}");
        assert_eq!(format(nanoseconds), printed);
        assert_eq!(parse(printed), Ok(nanoseconds), "{printed}");
    }

    #[test]
    fn durations_are_read_and_printed_as_in_go() {
        check("0", 0, "0s");
        check("1m30s", 90 * SECOND, "1m30s");
        check("90s", 90 * SECOND, "1m30s");
        check("1h", HOUR, "1h0m0s");
        check("-1.5h", -90 * MINUTE, "-1h30m0s");
        check("100ms", 100 * MILLISECOND, "100ms");
        check("1.5ms", 1_500_000, "1.5ms");
        check("10s", 10 * SECOND, "10s");
        check("+.5s", 500 * MILLISECOND, "500ms");
        check("1us", MICROSECOND, "1\u{b5}s");
        check("3ns", 3, "3ns");
        check("1m0.000000001s", MINUTE + 1, "1m0.000000001s");
        check("10m20.5s", 10 * MINUTE + 20_500 * MILLISECOND, "10m20.5s");
        check("9223372036854775807ns", i64::MAX, "2562047h47m16.854775807s");
        check("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s");
    }

    #[test]
    fn what_is_no_duration_is_refused_in_the_known_words() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).expect_err(text).to_string(), expected);
        };
        check("", "time: invalid duration \"\"");
        check("-", "time: invalid duration \"-\"");
        check("s", "time: invalid duration \"s\"");
        check(".s", "time: invalid duration \".s\"");
        check("3", "time: missing unit in duration \"3\"");
        check("1d", "time: unknown unit \"d\" in duration \"1d\"");
        check("1 s", "time: unknown unit \" s\" in duration \"1 s\"");
        check("9999999999h", "time: invalid duration \"9999999999h\"");
    }
}
