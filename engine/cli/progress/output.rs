//! A step's output as lines; the last of them are kept. Does not look into the lines.

use std::collections::VecDeque;
use std::time::Duration;

/// As many bytes are kept of a step's output.
const KEPT: usize = 256 << 10;

/// A line of more bytes is cut.
const LONGEST: usize = 16 << 10;

/// A line that a step printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// How long after the step's beginning it was complete.
    pub(super) at: Duration,
    /// The line without its end.
    pub(super) text: String,
}

/// A step's output.
#[derive(Debug, Default)]
pub(super) struct Output {
    kept: VecDeque<Line>,
    kept_bytes: usize,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
}

impl Output {
    /// Adds what was printed; the lines that are now complete are returned.
    pub(super) fn push(&mut self, bytes: &[u8], at: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > LONGEST {
                lines.extend(self.flush(at));
            }
        }
        lines
    }

    /// Takes a line that has no end for a whole one.
    pub(super) fn flush(&mut self, at: Duration) -> Option<Line> {
        if self.partial.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned();
        let line = Line { at, text };
        self.keep(line.clone());
        Some(line)
    }

    /// The last lines, at most so many.
    pub(super) fn last(&self, most: usize) -> Vec<&Line> {
        self.kept.iter().skip(self.kept.len().saturating_sub(most)).collect()
    }

    /// The texts of the last lines, at most so many, one without an end included.
    pub(super) fn last_texts(&self, most: usize) -> Vec<String> {
        let partial = String::from_utf8_lossy(&self.partial);
        let partial = Some(partial.trim_end()).filter(|text| !text.is_empty());
        let whole = self.last(most.saturating_sub(usize::from(partial.is_some())));
        whole.iter().map(|line| line.text.as_str()).chain(partial).map(str::to_owned).collect()
    }

    fn keep(&mut self, line: Line) {
        self.kept_bytes += line.text.len() + size_of::<Line>();
        self.kept.push_back(line);
        while self.kept_bytes > KEPT
            && let Some(first) = self.kept.pop_front()
        {
            self.kept_bytes -= first.text.len() + size_of::<Line>();
        }
    }
}

/// A line's time as BuildKit prints it: the fewer digits, the more seconds.
pub(super) fn seconds(at: Duration) -> String {
    let seconds = at.as_secs_f64();
    let digits = match at.as_secs() {
        0..10 => 3,
        10..100 => 2,
        _ => 1,
    };
    format!("{seconds:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_millis(1500);

    fn check(pieces: &[&str], expected: &[&str]) {
        let mut output = Output::default();
        let mut lines: Vec<Line> =
            pieces.iter().flat_map(|piece| output.push(piece.as_bytes(), AT)).collect();
        lines.extend(output.flush(AT));
        let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, expected, "{pieces:?}");
    }

    #[test]
    fn output_is_cut_at_line_ends_wherever_it_was_cut_before() {
        check(&["one\ntwo\n"], &["one", "two"]);
        check(&["o", "ne\n\ntw", "o"], &["one", "", "two"]);
        check(&["dos\r\n", "\r\n"], &["dos", ""]);
        check(&["10%\r20%\r", "30%\n"], &["10%\r20%\r30%"]);
        check(&[""], &[]);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut output = Output::default();
        for number in 0..100_000 {
            output.push(format!("line {number}\n").as_bytes(), AT);
        }
        assert!(output.kept_bytes <= KEPT);
        let last: Vec<_> = output.last(2).iter().map(|line| line.text.clone()).collect();
        assert_eq!(last, ["line 99998", "line 99999"]);
        output.push(b"and then", AT);
        assert_eq!(output.last_texts(2), ["line 99999", "and then"]);
    }

    #[test]
    fn a_line_without_an_end_does_not_grow_forever() {
        let mut output = Output::default();
        for _ in 0..1000 {
            output.push(&[b'x'; 1000], AT);
        }
        assert!(output.partial.len() <= LONGEST + 1000);
    }

    #[test]
    fn times_lose_digits_as_they_grow() {
        for (millis, expected) in
            [(0, "0.000"), (9_999, "9.999"), (12_345, "12.35"), (123_456, "123.5")]
        {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
    }
}
