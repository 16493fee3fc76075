//! Text that fits into a part of a terminal's line: without control characters, cut by columns.

use unicode_width::UnicodeWidthChar;

/// What a terminal would be left showing of a line: escape sequences are dropped, what a carriage
/// return goes back over is gone, tabs are spaces.
pub(super) fn clean(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut returned = false;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            '\x1b' => skip_sequence(&mut chars),
            '\r' => returned = true,
            '\x08' => {
                shown.pop();
            }
            '\t' => {
                let spaces = 8 - shown.chars().count() % 8;
                shown.extend(std::iter::repeat_n(' ', spaces));
            }
            '\n' => shown.push(' '),
            char if char.is_control() => {}
            char => {
                // Only what is written after the return covers what was there.
                if std::mem::take(&mut returned) {
                    shown.clear();
                }
                shown.push(char);
            }
        }
    }
    shown
}

/// Skips what follows an escape character (ECMA-48): a control sequence, a command string, or one
/// character with its intermediates.
fn skip_sequence(chars: &mut std::str::Chars<'_>) {
    match chars.next() {
        Some('[') => {
            chars.find(|char| ('\x40'..='\x7e').contains(char));
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut before = ' ';
            for char in chars {
                if char == '\x07' || (before == '\x1b' && char == '\\') {
                    break;
                }
                before = char;
            }
        }
        Some(' '..='/') => {
            chars.find(|char| ('\x30'..='\x7e').contains(char));
        }
        _ => {}
    }
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// The beginning of a text that takes at most so many columns.
pub(crate) fn fit(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    for (at, char) in text.char_indices() {
        taken += char_width(char);
        if taken > columns {
            return &text[..at];
        }
    }
    text
}

/// A text at the left and one at the right of so many columns. The left one gives way.
pub(super) fn spread(left: &str, right: &str, columns: usize) -> String {
    let left = fit(left, columns.saturating_sub(width(right) + 1));
    let gap = columns.saturating_sub(width(left) + width(right));
    format!("{left}{}{right}", " ".repeat(gap))
}

fn char_width(char: char) -> usize {
    char.width().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_a_terminal_would_show() {
        for (line, expected) in [
            ("plain", "plain"),
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("10%\r20%\r30%\r", "30%"),
            ("long text\rnew", "new"),
            ("a\tb", "a       b"),
            ("12345678\tb", "12345678        b"),
            ("\x1b]0;title\x07shown \x1b]8;;http://x\x1b\\link", "shown link"),
            ("\x1b(Bx\x1b=y\x1b", "xy"),
            ("ab\x08c", "ac"),
            ("bell\x07\0", "bell"),
            ("\x1b[2K\x1b[1Aafter", "after"),
        ] {
            assert_eq!(clean(line), expected, "{line:?}");
        }
    }

    #[test]
    fn texts_are_cut_by_columns() {
        for (text, columns, expected) in [
            ("abc", 5, "abc"),
            ("abc", 3, "abc"),
            ("abc", 2, "ab"),
            ("日本語", 5, "日本"),
            ("e\u{301}x", 1, "e\u{301}"),
            ("abc", 0, ""),
        ] {
            assert_eq!(fit(text, columns), expected, "{text:?} in {columns}");
        }
    }

    #[test]
    fn the_right_text_stays_at_the_edge() {
        for (left, right, columns, expected) in [
            ("left", "1.0s", 12, "left    1.0s"),
            ("left", "1.0s", 9, "left 1.0s"),
            ("left", "1.0s", 7, "le 1.0s"),
            ("日本語", "1s", 8, "日本  1s"),
        ] {
            assert_eq!(spread(left, right, columns), expected);
        }
    }
}
