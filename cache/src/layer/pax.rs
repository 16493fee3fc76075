//! Extended records (POSIX pax interchange format): `<length> <key>=<value>\n`.
//!
//! Values are bytes throughout, as Go and GNU tar write them: names need not be UTF-8 and
//! attributes may hold anything. Does not know which record overrides which header field.

use std::collections::BTreeMap;

use super::entry::Timestamp;

/// The prefix of the records that hold extended attributes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Extended records by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// GNU's sparse map 0.0 repeats its two keys, so the order matters and they are kept apart.
    sparse: Vec<u64>,
}

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Adds a record.
    pub(super) fn insert(&mut self, key: &[u8], value: impl Into<Vec<u8>>) {
        self.values.insert(key.to_vec(), value.into());
    }

    /// Returns a record's value; an empty one counts as none, as the standard says.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// Returns the value of a record that is a decimal number, or the key if it is not.
    pub(super) fn number(&self, key: &'static str) -> Result<Option<u64>, &'static str> {
        self.get(key).map(|value| decimal(value).ok_or(key)).transpose()
    }

    /// Returns the extended attributes; these may be empty.
    pub(super) fn xattrs(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.values
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_vec(), value.clone())))
            .filter(|(name, _)| !name.is_empty())
            .collect()
    }

    /// Returns the numbers of GNU's sparse map 0.0, offsets and lengths in turn.
    pub(super) fn sparse(&self) -> &[u64] {
        &self.sparse
    }

    /// Encodes all records, sorted by key.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (key, value) in &self.values {
            let rest = key.len() + value.len() + b" =\n".len();
            text.extend_from_slice(record_length(rest).to_string().as_bytes());
            text.push(b' ');
            text.extend_from_slice(key);
            text.push(b'=');
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        text
    }

    /// Adds the records in `text`, overriding earlier ones; returns nothing if it is malformed.
    pub(super) fn parse(&mut self, mut text: &[u8]) -> Option<()> {
        while !text.is_empty() && text[0] != 0 {
            let space = text.iter().position(|&byte| byte == b' ')?;
            let length = usize::try_from(decimal(&text[..space])?).ok()?;
            if length <= space + 1 || length > text.len() {
                return None;
            }
            let record = text[space + 1..length].strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            self.add(&record[..equals], &record[equals + 1..])?;
            text = &text[length..];
        }
        Some(())
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"" => return None,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.push(decimal(value)?),
            b"path" | b"linkpath" if value.contains(&0) => return None,
            _ => self.insert(key, value),
        }
        Some(())
    }
}

/// Returns the length of a record including the digits of that length.
fn record_length(rest: usize) -> usize {
    let mut length = rest;
    loop {
        let digits = length.to_string().len();
        if rest + digits == length {
            return length;
        }
        length = rest + digits;
    }
}

/// Reads an unsigned decimal number without sign or blanks.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Writes a time as a decimal number of seconds, with as many decimals as it needs.
pub(super) fn encode_time(time: Timestamp) -> String {
    if time.nanoseconds == 0 {
        return time.seconds.to_string();
    }
    // The decimals count away from zero in the text, always forward in the value.
    let (sign, seconds, nanoseconds) = if time.seconds < 0 {
        ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanoseconds)
    } else {
        ("", time.seconds.unsigned_abs(), time.nanoseconds)
    };
    let mut text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.truncate(text.trim_end_matches('0').len());
    text
}

/// Reads what [`encode_time`] writes; digits beyond nanoseconds are cut off.
pub(super) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{decimals:0<9.9}").parse().ok()?;
    if !whole.starts_with('-') || nanoseconds == 0 {
        return Some(Timestamp { seconds, nanoseconds });
    }
    Some(Timestamp { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_written() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (1_700_000_000, 1, "1700000000.000000001"),
            (-1, 0, "-1"),
            (-1, 500_000_000, "-0.5"),
            (-2, 500_000_000, "-1.5"),
            (i64::MIN, 0, "-9223372036854775808"),
            (i64::MAX, 999_999_999, "9223372036854775807.999999999"),
        ] {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(encode_time(time), text);
            assert_eq!(parse_time(text.as_bytes()), Some(time), "{text}");
        }
        assert_eq!(parse_time(b"1.0000000019"), Some(Timestamp { seconds: 1, nanoseconds: 1 }));
        for invalid in ["", ".", "1.x", "x", "1.-5", "-9223372036854775808.5"] {
            assert_eq!(parse_time(invalid.as_bytes()), None, "{invalid}");
        }
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for (rest, length) in
            [(4, 5), (8, 9), (9, 11), (97, 99), (98, 101), (996, 999), (997, 1001)]
        {
            assert_eq!(record_length(rest), length);
        }
    }

    #[test]
    fn records_hold_any_bytes() {
        let mut records = Records::default();
        records.insert(b"path", *b"a\nb\xff");
        records.insert(b"SCHILY.xattr.user.x", *b"1=\n\0");
        records.insert(b"SCHILY.xattr.user.empty", *b"");
        let mut read = Records::default();
        assert_eq!(read.parse(&records.encode()), Some(()));
        assert_eq!(read.get("path"), Some(&b"a\nb\xff"[..]));
        let xattrs = BTreeMap::from([
            (b"user.x".to_vec(), b"1=\n\0".to_vec()),
            (b"user.empty".to_vec(), vec![]),
        ]);
        assert_eq!(read.xattrs(), xattrs);
    }

    #[test]
    fn malformed_records_are_refused() {
        for text in [
            "5 a=b",
            "4 a=\n\n",
            "x a=b\n",
            "0 \n",
            "99 a=b\n",
            "6 a=b\n\n x",
            "5 ab\n",
            "5 =b\n",
            "10 path=\0\n\n",
        ] {
            assert_eq!(Records::default().parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
