//! The lines of a Dockerfile: its text cut into directives and raw instructions.
//!
//! Joins continued lines, drops comments, takes here-documents off the lines that follow their
//! instruction, and remembers where everything stood. It knows which keywords may carry a
//! here-document and nothing else about instructions: an unknown keyword passes through.

use std::error::Error;
use std::fmt;

pub use crate::arguments::{
    NameValue, Separator, parse_json_array, parse_name_values, parse_words, split_blanks,
    split_instruction,
};
pub use crate::directive::{Directive, detect_syntax, parse_directives};
pub use crate::heredoc::Heredoc;
use crate::heredoc::{heredocs_of_line, is_terminator};
use crate::reader::{Line, MAX_LINE, Reader};
use crate::span::{Lines, Span};
use crate::words::WordError;

/// A Dockerfile as text: no instruction is understood yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at the top, in their order.
    pub directives: Vec<Directive>,
    /// Continues lines and quotes characters: `\`, or a backtick by `# escape=`.
    pub escape: char,
    /// The instructions in their order; never empty.
    pub instructions: Vec<RawInstruction>,
    /// What is accepted today but is a mistake.
    pub warnings: Vec<LineWarning>,
}

/// One instruction as it stands in the text: continued lines joined, comments between them dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawInstruction {
    /// The first word as written: `From`, `RUN`.
    pub keyword: String,
    /// The leading `--words`, quotes and escapes resolved, variables not expanded.
    pub flags: Vec<String>,
    /// What follows keyword and flags, trimmed.
    pub rest: String,
    /// The whole joined line.
    pub original: String,
    /// The here-documents in the order of their words in the line.
    pub heredocs: Vec<Heredoc>,
    /// The comment lines before it since the last instruction or empty comment, without `#`.
    pub comments: Vec<String>,
    /// From the keyword's line to the last one, bodies of here-documents included.
    pub lines: Lines,
    /// The bytes from the keyword to the end of the last line.
    pub span: Span,
}

/// A blank line between continued lines, which a later Dockerfile version may refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineWarning {
    /// The joined line of the instruction that has the blank line.
    pub original: String,
    /// The last of its lines, where BuildKit places this warning.
    pub lines: Lines,
}

/// A Dockerfile that cannot be cut into instructions, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// The lines that show it.
    pub lines: Lines,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Neither blank lines nor comments make an image.
    #[error("file with no instructions")]
    NoInstructions,
    /// A line that is longer than 65535 bytes.
    #[error("dockerfile line greater than max allowed size of {MAX_LINE}")]
    LineTooLong,
    /// A here-document whose terminator never comes.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// A here-document whose word has an open quote.
    #[error("failed to read the name of a heredoc")]
    HeredocName(#[source] WordError),
    /// `# escape=` with something else than a backslash or a backtick.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    /// The same directive twice.
    #[error("only one {0} parser directive can be used")]
    DuplicateDirective(String),
    /// An array in exec form with a number, an object or the like in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    /// `ENV name` and `LABEL name`.
    #[error("{0} must have two arguments")]
    MissingValue(String),
    /// `ENV a=1 b`.
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    MissingEquals(String),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Error for ParseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

impl RawInstruction {
    /// Reads the instruction inside an `ONBUILD`: its own keyword, flags and rest, at the same
    /// place and with the same here-documents. `None` where nothing follows.
    pub fn nested(&self, escape: char) -> Option<RawInstruction> {
        if self.rest.is_empty() {
            return None;
        }
        let (keyword, flags, rest) = split_instruction(&self.rest, escape);
        Some(RawInstruction {
            keyword,
            flags,
            rest,
            original: self.rest.clone(),
            comments: Vec::new(),
            ..self.clone()
        })
    }

    /// RUN, COPY and ADD take here-documents, also inside ONBUILD, but not in their JSON form.
    fn takes_heredocs(&self, escape: char) -> bool {
        if self.keyword.eq_ignore_ascii_case("onbuild") {
            let (keyword, _, rest) = split_instruction(&self.rest, escape);
            return takes_heredocs(&keyword, &rest);
        }
        takes_heredocs(&self.keyword, &self.rest)
    }
}

fn takes_heredocs(keyword: &str, rest: &str) -> bool {
    ["run", "copy", "add"].iter().any(|known| keyword.eq_ignore_ascii_case(known))
        && !matches!(parse_json_array(rest), Ok(Some(_)))
}

/// Cuts a Dockerfile into its instructions. Bytes that are not UTF-8 become U+FFFD.
pub fn parse(text: &[u8]) -> Result<Dockerfile, ParseError> {
    let directives = parse_directives(text)?;
    let mut parser = Parser {
        escape: directive_escape(&directives),
        directives_end: directives.last().map_or(0, |directive| directive.lines.last),
        reader: Reader::new(text),
        comments: Vec::new(),
        instructions: Vec::new(),
        warnings: Vec::new(),
    };
    while let Some(line) = parser.reader.next_line()? {
        parser.line(&line)?;
    }
    if parser.instructions.is_empty() {
        let line = parser.reader.number.max(1);
        return Err(error_at(ParseErrorKind::NoInstructions, line, line));
    }
    Ok(Dockerfile {
        directives,
        escape: parser.escape,
        instructions: parser.instructions,
        warnings: parser.warnings,
    })
}

fn directive_escape(directives: &[Directive]) -> char {
    let escape = directives.iter().find(|directive| directive.name == "escape");
    escape.and_then(|directive| directive.value.chars().next()).unwrap_or('\\')
}

pub(crate) fn error_at(kind: ParseErrorKind, first: usize, last: usize) -> ParseError {
    ParseError { kind, lines: Lines { first, last } }
}

struct Parser<'a> {
    reader: Reader<'a>,
    escape: char,
    /// The last line of the directives, which are no comments.
    directives_end: usize,
    comments: Vec<String>,
    instructions: Vec<RawInstruction>,
    warnings: Vec<LineWarning>,
}

impl Parser<'_> {
    /// Takes a line that does not continue another one.
    fn line(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        let text = line.text();
        if let Some(comment) = comment_of(&text) {
            if line.number > self.directives_end {
                self.comment(comment);
            }
            return Ok(());
        }
        if text.trim().is_empty() {
            return Ok(());
        }
        self.instruction(line)
    }

    /// An empty comment parts the description of an instruction from what stands above it.
    fn comment(&mut self, comment: &str) {
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.to_owned());
        }
    }

    fn instruction(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        let text = line.text();
        let indent = text.len() - text.trim_start().len();
        let original = self.join(text.trim_start())?;
        let (keyword, flags, rest) = split_instruction(&original, self.escape);
        let mut instruction = RawInstruction {
            keyword,
            flags,
            rest,
            original,
            heredocs: Vec::new(),
            comments: std::mem::take(&mut self.comments),
            lines: Lines { first: line.number, last: self.reader.number },
            span: Span::default(),
        };
        if instruction.takes_heredocs(self.escape) {
            self.heredocs(&mut instruction)?;
        }
        instruction.lines.last = self.reader.number;
        instruction.span = Span { start: line.start + indent, end: self.reader.end_of_line };
        self.instructions.push(instruction);
        Ok(())
    }

    /// Joins a line with those that continue it. Comments among them vanish; so do blank lines,
    /// with a warning. A continuation at the end of the file is forgiven.
    fn join(&mut self, first: &str) -> Result<String, ParseError> {
        let (part, mut open) = cut_continuation(first, self.escape);
        let mut joined = part.to_owned();
        let mut blank = false;
        while open && let Some(line) = self.reader.next_line()? {
            let text = line.text();
            if comment_of(&text).is_some() {
                continue;
            }
            if text.trim().is_empty() {
                blank = true;
                continue;
            }
            let (part, more) = cut_continuation(&text, self.escape);
            joined.push_str(part);
            open = more;
        }
        if blank {
            let line = self.reader.number;
            let lines = Lines { first: line, last: line };
            self.warnings.push(LineWarning { original: joined.clone(), lines });
        }
        Ok(joined)
    }

    /// Reads the bodies of the here-documents that the instruction announces.
    fn heredocs(&mut self, instruction: &mut RawInstruction) -> Result<(), ParseError> {
        let Lines { first, last } = instruction.lines;
        let announced = heredocs_of_line(&instruction.original)
            .map_err(|error| error_at(ParseErrorKind::HeredocName(error), first, last))?;
        for mut heredoc in announced {
            loop {
                let Some(line) = self.reader.next_line()? else {
                    let kind = ParseErrorKind::UnterminatedHeredoc;
                    return Err(error_at(kind, first, self.reader.number));
                };
                if is_terminator(&heredoc, &line.text()) {
                    break;
                }
                heredoc.content.push_str(&String::from_utf8_lossy(line.bytes));
            }
            instruction.heredocs.push(heredoc);
        }
        Ok(())
    }
}

/// The text of a comment line, trimmed and without its `#`.
fn comment_of(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('#').map(str::trim)
}

/// Cuts the escape character off the end of a line that goes on in the next one. Two of them are
/// an escaped one and continue nothing.
fn cut_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(head) if !head.ends_with(escape) => (head, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints what a text is cut into: a line per instruction, warning and directive.
    fn show(text: &[u8]) -> String {
        let file = match parse(text) {
            Ok(file) => file,
            Err(error) => return format!("{} {error}", show_lines(error.lines)),
        };
        let mut shown: Vec<String> = Vec::new();
        for directive in &file.directives {
            let Directive { name, value, lines } = directive;
            shown.push(format!("{} #{name}={value}", show_lines(*lines)));
        }
        for raw in &file.instructions {
            let RawInstruction { keyword, flags, rest, comments, lines, .. } = raw;
            let mut line = format!("{} {keyword}{flags:?}{rest}", show_lines(*lines));
            for comment in comments {
                line += &format!(" #{comment}");
            }
            for heredoc in &raw.heredocs {
                line += &format!(" <<{}{:?}", heredoc.name, heredoc.content);
            }
            shown.push(line);
        }
        for warning in &file.warnings {
            shown.push(format!("{} blank: {}", show_lines(warning.lines), warning.original));
        }
        shown.join("\n")
    }

    fn show_lines(lines: Lines) -> String {
        format!("{}-{}", lines.first, lines.last)
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(show(text.as_bytes()), expected.join("\n"), "{text}");
    }

    #[test]
    fn lines_are_joined() {
        check("FROM a", &["1-1 FROM[]a"]);
        check("\u{feff}FROM a\r\nRUN b \\\r\n  c\r\n", &["1-1 FROM[]a", "2-3 RUN[]b   c"]);
        check("  from\ta  \n\n", &["1-1 from[]a"]);
        check("RUN a \\\n# no\n  # no\n b", &["1-4 RUN[]a  b"]);
        check("RUN a \\ \t\nb \\\\\nCMD", &["1-2 RUN[]a b \\\\", "3-3 CMD[]"]);
        check("\\\nRUN a", &["1-2 RUN[]a"]);
        check("RUN a \\", &["1-1 RUN[]a"]);
        check("# escape=`\nRUN a\\ `\nb", &["1-1 #escape=`", "2-3 RUN[]a\\ b"]);
        check("GARBLE x", &["1-1 GARBLE[]x"]);
    }

    #[test]
    fn blank_lines_in_continuations_warn() {
        check(
            "RUN a \\\n\n \n  b\nCMD c",
            &["1-4 RUN[]a   b", "5-5 CMD[]c", "4-4 blank: RUN a   b"],
        );
        check("CMD a \\\n\n", &["1-2 CMD[]a", "2-2 blank: CMD a "]);
    }

    #[test]
    fn comments_describe_the_next_instruction() {
        check("# a\n\n#b\nFROM x\n# c\n#\n # d\nRUN y", &["4-4 FROM[]x #a #b", "8-8 RUN[]y #d"]);
        check("# syntax=x\n# a\nFROM b", &["1-1 #syntax=x", "3-3 FROM[]b #a"]);
    }

    #[test]
    fn heredocs_are_taken_off() {
        check(
            "RUN <<EOF\n# a\n\tb\\\nEOF\nCMD c",
            &["1-4 RUN[]<<EOF <<EOF\"# a\\n\\tb\\\\\\n\"", "5-5 CMD[]c"],
        );
        check(
            "ONBUILD COPY <<-A <<B /d\n\tA\n1\r\nB",
            &["1-4 ONBUILD[]COPY <<-A <<B /d <<A\"\" <<B\"1\\r\\n\""],
        );
        check(
            "RUN [\"<<EOF\"]\nRUN cat \\\n <<E\nE",
            &["1-1 RUN[][\"<<EOF\"]", "2-4 RUN[]cat  <<E <<E\"\""],
        );
        check("RUN echo 'a <<EOF\nCMD b", &["1-1 RUN[]echo 'a <<EOF", "2-2 CMD[]b"]);
        check("CMD cat <<EOF\nEOF", &["1-1 CMD[]cat <<EOF", "2-2 EOF[]"]);
    }

    #[test]
    fn errors_have_lines() {
        check("", &["1-1 file with no instructions"]);
        check("# a\n\n#b\n", &["3-3 file with no instructions"]);
        check("FROM a\nRUN <<A <<B\nA\nx", &["2-4 unterminated heredoc"]);
        check("RUN <<'A' <<B'\nA", &["1-1 RUN[]<<'A' <<B'", "2-2 A[]"]);
        check(
            "# syntax=a\n# escape=a\nFROM b",
            &["2-2 invalid escape token 'a' does not match ` or \\"],
        );
        check("#check=a\n#CHECK = b\nFROM b", &["2-2 only one check parser directive can be used"]);
        let longest = "x".repeat(MAX_LINE - 4);
        check(&format!("RUN {longest}\nCMD\n"), &[&format!("1-1 RUN[]{longest}"), "2-2 CMD[]"]);
        check(
            &format!("CMD\nRUN {longest}x"),
            &["2-2 dockerfile line greater than max allowed size of 65535"],
        );
    }

    #[test]
    fn spans_show_the_text_of_an_instruction() {
        let text = "\u{feff}# a\n  FROM b\r\nRUN \\\n\n  <<E\r\nc\nE\n\n";
        let file = parse(text.as_bytes()).unwrap();
        let spans: Vec<&str> =
            file.instructions.iter().map(|raw| &text[raw.span.start..raw.span.end]).collect();
        assert_eq!(spans, ["FROM b", "RUN \\\n\n  <<E\r\nc\nE"]);
    }

    #[test]
    fn nested_instructions_keep_their_place() {
        let file = parse(b"# x\nONBUILD  RUN --mount=a <<E\nb\nE").unwrap();
        let nested = file.instructions[0].nested('\\').unwrap();
        assert_eq!((nested.keyword.as_str(), nested.rest.as_str()), ("RUN", "<<E"));
        assert_eq!(nested.flags, ["--mount=a"]);
        assert_eq!(nested.original, "RUN --mount=a <<E");
        assert_eq!(nested.heredocs, file.instructions[0].heredocs);
        assert_eq!(nested.lines, Lines { first: 2, last: 4 });
        assert_eq!(parse(b"ONBUILD").unwrap().instructions[0].nested('\\'), None);
    }

    /// Whatever the text: no panic, and the instructions stand one behind the other.
    #[test]
    fn any_text_has_ordered_places() {
        let pieces: [&[u8]; 20] = [
            b"RUN ",
            b"ONBUILD ",
            b"COPY ",
            b"ENV ",
            b"--a='b ",
            b"<<A",
            b"<<-'A'",
            b"A",
            b"\n",
            b"\n",
            b"\r\n",
            b"\\\n",
            b"\\",
            b"# escape=`",
            b"#",
            b"`\n",
            b" ",
            b"\t",
            b"\xff\"",
            b"${x:-",
        ];
        let mut seed = 1u64;
        for _ in 0..5000 {
            let mut text = Vec::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.extend(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            let Ok(file) = parse(&text) else {
                continue;
            };
            let mut end = Span::default();
            let mut last = 0;
            for raw in &file.instructions {
                assert!(raw.span.start >= end.end && raw.span.start <= raw.span.end, "{raw:?}");
                assert!(raw.lines.first > last && raw.lines.first <= raw.lines.last, "{raw:?}");
                (end, last) = (raw.span, raw.lines.last);
            }
            assert!(end.end <= text.len());
        }
    }
}
