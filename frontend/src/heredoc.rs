//! Here-documents: the words that announce them (`<<EOF`, `3<<-'EOF'`) and what ends them.
//!
//! Which instruction may have one, and what its content is for, is decided elsewhere.

use crate::words::{Lexer, WordError};

/// A here-document of a RUN, COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that announces it, quotes resolved; it is the terminator too.
    pub name: String,
    /// Whether variables in the content are expanded: no part of the word was quoted.
    pub expand: bool,
    /// Whether leading tabs are dropped: `<<-`. They are still in `content`.
    pub chomp: bool,
    /// The file descriptor before the `<<`; 0 where there is none.
    pub fd: u32,
    /// The lines between the instruction and the terminator, as they stand in the file.
    pub content: String,
}

impl Heredoc {
    /// The content, without the leading tabs of each line where `<<-` asks for that.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// Reads a word such as `<<EOF`; the content stays empty. `None` where it announces nothing.
pub fn parse_heredoc(word: &str) -> Result<Option<Heredoc>, WordError> {
    let mark = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &word[..word.len() - mark.len()];
    let Some(rest) = mark.strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_ascii_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }

    let mut lexer = Lexer::new('\\');
    lexer.skip_unset = true;
    let [name] = &lexer.expand_words(rest, &no_variables)?[..] else {
        return Ok(None);
    };
    lexer.raw_quotes = true;
    let quoted = lexer.expand_words(rest, &no_variables)?;
    let expand = count_quotes(name) == quoted.iter().map(|word| count_quotes(word)).sum::<usize>();
    let fd = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u32::MAX) };
    Ok(Some(Heredoc { name: name.clone(), expand, chomp, fd, content: String::new() }))
}

/// The here-documents that a joined line announces, in order. A line whose quotes do not close
/// announces none: the shell that runs it will complain.
pub(crate) fn heredocs_of_line(line: &str) -> Result<Vec<Heredoc>, WordError> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let mut lexer = Lexer::new('\\');
    lexer.raw_quotes = true;
    lexer.raw_escapes = true;
    lexer.skip_unset = true;
    let words = lexer.expand_words(line, &no_variables).unwrap_or_default();
    words.iter().filter_map(|word| parse_heredoc(word).transpose()).collect()
}

/// Whether a line, without its newline, ends the here-document.
pub(crate) fn is_terminator(heredoc: &Heredoc, line: &str) -> bool {
    let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
    line == heredoc.name
}

fn no_variables(_: &str) -> Option<String> {
    None
}

fn count_quotes(word: &str) -> usize {
    word.matches(['\'', '"']).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_announce_heredocs() {
        #[track_caller]
        fn check(word: &str, expected: &str) {
            let shown = match parse_heredoc(word) {
                Ok(Some(Heredoc { name, expand, chomp, fd, .. })) => {
                    let expand = if expand { " expand" } else { "" };
                    let chomp = if chomp { " chomp" } else { "" };
                    format!("{fd} {name}{expand}{chomp}")
                }
                Ok(None) => "none".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{word}");
        }
        check("<<EOF", "0 EOF expand");
        check("3<<-EOF", "3 EOF expand chomp");
        check("99999999999<<EOF", "4294967295 EOF expand");
        check("<<E'O'F", "0 EOF");
        check("<<\"a b\"", "0 a b");
        check("<<${A}", "0 ${A} expand");
        check("<<''", "none");
        check("a<<EOF", "none");
        check("<<a<b", "none");
        check("<<'a", "failed to process \"'a\"");
    }

    #[test]
    fn chomping_drops_leading_tabs_only() {
        let mut heredoc = parse_heredoc("<<-A").unwrap().unwrap();
        heredoc.content = "\t\ta\tb\n\t\n  \tc\n".to_owned();
        assert_eq!(heredoc.chomped(), "a\tb\n\n  \tc\n");
        heredoc.chomp = false;
        assert_eq!(heredoc.chomped(), heredoc.content);
    }
}
