//! The lines of a text, one after the other, with their numbers and offsets.
//!
//! Knows what ends a line and how long one may be, and nothing of Dockerfiles.

use std::borrow::Cow;

use crate::lines::{ParseError, ParseErrorKind, error_at};

/// The longest line that is accepted, in bytes and without its newline.
pub(crate) const MAX_LINE: usize = 65535;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line with its newline.
pub(crate) struct Line<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where it begins in the whole text.
    pub(crate) start: usize,
    /// Counted from 1.
    pub(crate) number: usize,
}

impl<'a> Line<'a> {
    /// The line without what ends it.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(trim_newline(self.bytes))
    }
}

fn trim_newline(line: &[u8]) -> &[u8] {
    let last = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    &line[..last.map_or(0, |last| last + 1)]
}

/// Gives the lines of a text one after the other, and refuses the overlong.
pub(crate) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// The number of the last line given; 0 before the first.
    pub(crate) number: usize,
    /// Where the text of the last line given ends, its newline not counted.
    pub(crate) end_of_line: usize,
}

impl<'a> Reader<'a> {
    /// Starts behind a byte order mark, if there is one.
    pub(crate) fn new(text: &'a [u8]) -> Reader<'a> {
        let at = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Reader { text, at, number: 0, end_of_line: at }
    }

    /// What has not been given yet.
    pub(crate) fn remainder(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    pub(crate) fn next_line(&mut self) -> Result<Option<Line<'a>>, ParseError> {
        let remainder = self.remainder();
        if remainder.is_empty() {
            return Ok(None);
        }
        let newline = remainder.iter().position(|byte| *byte == b'\n');
        let length = newline.unwrap_or(remainder.len());
        let bytes = &remainder[..newline.map_or(length, |at| at + 1)];
        self.number += 1;
        if length > MAX_LINE {
            return Err(error_at(ParseErrorKind::LineTooLong, self.number, self.number));
        }
        let line = Line { bytes, start: self.at, number: self.number };
        self.end_of_line = self.at + trim_newline(bytes).len();
        self.at += bytes.len();
        Ok(Some(line))
    }
}
