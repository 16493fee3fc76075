//! Where something stands in a compose file, and how that place is shown to a person.
//!
//! Knows nothing of YAML.

use std::fmt::Write;
use std::sync::Arc;

/// How many characters of a line are shown.
const WIDTH: usize = 160;

/// A compose file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name, as messages say it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A line and a column of a compose file, both counted from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Place {
    /// `file:line:column`.
    pub fn name(&self) -> String {
        format!("{}:{}:{}", self.source.name, self.line, self.column)
    }

    /// The line with a caret under the word at this place, two lines of text.
    pub fn excerpt(&self) -> String {
        let index = (self.line as usize).saturating_sub(1);
        let Some(line) = self.source.text.lines().nth(index) else {
            return String::new();
        };
        let number = self.line.to_string();
        let before = (self.column as usize).saturating_sub(1);
        // Of a line that fits on no screen, the part around the place.
        let cut = before.saturating_sub(WIDTH / 2);
        let line: String = line.chars().skip(cut).take(WIDTH).collect();
        let before = before - cut;
        // A tab stays a tab, so that the caret stands under its character whatever a tab is worth.
        let indent: String =
            line.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let word = word_length(&line.chars().skip(before).collect::<String>());
        let mut shown = String::new();
        let _ = writeln!(shown, " {number} | {line}");
        let _ = write!(shown, " {} | {indent}{}", " ".repeat(number.len()), "^".repeat(word));
        shown
    }
}

/// How long the word is that text begins with: up to its closing quote, or to what ends a plain one.
fn word_length(text: &str) -> usize {
    let plain = || text.chars().take_while(|c| !" ,:]}".contains(*c)).count();
    let quoted = |quote: char| {
        let inside = text.chars().skip(1).position(|c| c == quote);
        inside.map_or_else(plain, |at| at + 2)
    };
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(quote),
        _ => plain().max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_a_caret_under_the_whole_word() {
        let text = "services:\n  web:\n    prots: []\n".to_owned();
        let source = Arc::new(Source { name: "compose.yaml".to_owned(), text });
        let place = Place { source, line: 3, column: 5 };
        assert_eq!(place.name(), "compose.yaml:3:5");
        assert_eq!(place.excerpt(), " 3 |     prots: []\n   |     ^^^^^");
    }
}
