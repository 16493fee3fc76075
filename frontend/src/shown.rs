//! Text of others as a terminal is shown it: without control characters, and of long lines the part
//! that matters.
//!
//! Prints nothing.

/// How many characters of a line are shown.
const WIDTH: usize = 200;

/// How many of them stand before what is pointed at, if there are more.
const BEFORE: usize = 80;

/// Returns text with its control characters escaped, but for line ends and tabs.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|char| push(&mut shown, char));
    shown
}

fn push(shown: &mut String, char: char) {
    match char {
        '\n' | '\t' => shown.push(char),
        char if char.is_control() => shown.extend(char.escape_default()),
        char => shown.push(char),
    }
}

/// Returns the beginning of a text that is longer than a line should be.
pub fn clipped(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A line of a file, and what stands below it to point at a part of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Marked {
    /// The line, or the part of it around what is pointed at.
    pub line: String,
    /// Blanks up to that part; a tab stays a tab, whatever it is worth.
    pub indent: String,
    /// As many as it is wide.
    pub carets: String,
}

impl Marked {
    /// Points at `width` characters of a line, from `column` on.
    pub fn new(line: &str, column: usize, width: usize) -> Self {
        let chars: Vec<char> = line.chars().collect();
        let column = column.min(chars.len());
        let last = chars.len().saturating_sub(WIDTH);
        let start = if column + width <= WIDTH { 0 } else { column.saturating_sub(BEFORE) };
        let start = start.min(last);
        let end = chars.len().min(start + WIDTH);
        let mut marked = Self {
            line: String::new(),
            indent: String::new(),
            // What is pointed at may be the end of the line.
            carets: "^".repeat(width.saturating_sub(chars.len() - column)),
        };
        if start > 0 {
            marked.line.push('…');
            marked.indent.push(' ');
        }
        for (at, char) in chars.iter().enumerate().take(end).skip(start) {
            let begin = marked.line.len();
            push(&mut marked.line, *char);
            let columns = marked.line[begin..].chars().count();
            if at < column {
                let blank = if *char == '\t' { "\t" } else { " " };
                marked.indent.push_str(&blank.repeat(columns));
            } else if at < column + width {
                marked.carets.push_str(&"^".repeat(columns));
            }
        }
        if end < chars.len() {
            marked.line.push('…');
        }
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, expected) in [
            ("plain\n\tä", "plain\n\tä"),
            ("\u{1b}[31mred\r\0", "\\u{1b}[31mred\\r\\u{0}"),
            ("\u{9b}2J", "\\u{9b}2J"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[track_caller]
    fn check(line: &str, column: usize, width: usize, expected: [&str; 3]) {
        let Marked { line, indent, carets } = Marked::new(line, column, width);
        assert_eq!([line.as_str(), indent.as_str(), carets.as_str()], expected);
    }

    #[test]
    fn carets_stand_below_what_is_meant() {
        check("RUN x", 4, 1, ["RUN x", "    ", "^"]);
        check("\tRUN", 1, 3, ["\tRUN", "\t", "^^^"]);
        check("", 0, 1, ["", "", "^"]);
        check("\u{1b}a b", 3, 1, ["\\u{1b}a b", "        ", "^"]);
    }

    #[test]
    fn long_lines_are_clipped_around_what_is_meant() {
        let a = |count| "a".repeat(count);
        check(&a(500), 0, 3, [&(a(200) + "…"), "", "^^^"]);
        check(&a(500), 0, 400, [&(a(200) + "…"), "", &"^".repeat(200)]);
        let around = format!("…{}…", a(200));
        check(&a(500), 250, 3, [&around, &" ".repeat(81), "^^^"]);
        check(&a(500), 497, 3, [&format!("…{}", a(200)), &" ".repeat(198), "^^^"]);
        assert_eq!(clipped(&a(201)), a(200) + "…");
        assert_eq!(clipped("short"), "short");
    }
}
