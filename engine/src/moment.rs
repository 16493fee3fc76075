//! Points in time as docker reads them: how long ago, seconds since 1970, or a date.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use crate::duration;

/// A text that is no time, in docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse value as time or duration: {0:?}")]
pub struct InvalidMoment(pub String);

/// Reads a time: how long before `now` (`42m`), seconds since 1970 with a fraction, a date, or a date
/// and a time with its zone or in UTC.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, InvalidMoment> {
    let invalid = || InvalidMoment(text.to_owned());
    if let Ok(ago) = duration::parse(text) {
        return now.checked_sub(SignedDuration::from_nanos(ago)).map_err(|_| invalid());
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if let (Ok(seconds), true) = (seconds.parse(), fraction.bytes().all(|it| it.is_ascii_digit())) {
        let nanoseconds = format!("{fraction:0<9.9}").parse().map_err(|_| invalid())?;
        return Timestamp::new(seconds, nanoseconds).map_err(|_| invalid());
    }
    let parse = |text: &str| Timestamp::from_str(text).ok();
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let completed = match time.len() {
        0 => format!("{date}T00:00:00Z"),
        2 => format!("{text}:00:00Z"),
        5 => format!("{text}:00Z"),
        _ => format!("{text}Z"),
    };
    parse(text).or_else(|| parse(&completed)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dockers() {
        let now: Timestamp = "2024-05-06T12:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("90s", "2024-05-06T11:58:30Z"),
            ("1h30m", "2024-05-06T10:30:00Z"),
            ("1714979289", "2024-05-06T07:08:09Z"),
            ("1714979289.5", "2024-05-06T07:08:09.5Z"),
            ("1714979289.000000001", "2024-05-06T07:08:09.000000001Z"),
            ("2024-05-06T07:08:09.25Z", "2024-05-06T07:08:09.25Z"),
            ("2024-05-06T09:08:09+02:00", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09.123", "2024-05-06T07:08:09.123Z"),
            ("2024-05-06T07:08", "2024-05-06T07:08:00Z"),
            ("2024-05-06T07", "2024-05-06T07:00:00Z"),
            ("2024-05-06", "2024-05-06T00:00:00Z"),
        ] {
            let time = parse(text, now).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(time.to_string(), expected, "{text}");
        }
        for bad in ["soon", "", "2024-13-01", "1.x"] {
            assert!(parse(bad, now).is_err(), "{bad}");
        }
    }
}
