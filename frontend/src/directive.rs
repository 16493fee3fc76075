//! Parser directives: `# syntax=`, `# escape=` and `# check=` at the top of a Dockerfile.
//!
//! Finds them and refuses a duplicate; what `syntax` and `check` mean is decided elsewhere.

use serde_json::{Map, Value};

use crate::lines::{ParseError, ParseErrorKind, error_at};
use crate::reader::Reader;
use crate::span::Lines;

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// In lower case: `syntax`, `escape` or `check`.
    pub name: String,
    /// Everything behind the `=`, trimmed.
    pub value: String,
    /// Its line.
    pub lines: Lines,
}

impl Directive {
    /// The value up to the first space: the image of a `syntax` directive, without its options.
    pub fn first_word(&self) -> &str {
        self.value.split(' ').next().unwrap_or_default()
    }
}

/// Reads the directives of a Dockerfile. They end at the first line that is none; a line `#!...`
/// at the very top may precede them.
pub fn parse_directives(text: &[u8]) -> Result<Vec<Directive>, ParseError> {
    let mut directives: Vec<Directive> = Vec::new();
    for directive in scan(text, "#")? {
        let line = directive.lines.first;
        if directives.iter().any(|earlier| earlier.name == directive.name) {
            let kind = ParseErrorKind::DuplicateDirective(directive.name);
            return Err(error_at(kind, line, line));
        }
        if directive.name == "escape" && !matches!(directive.value.as_str(), "\\" | "`") {
            let kind = ParseErrorKind::EscapeToken(directive.value);
            return Err(error_at(kind, line, line));
        }
        directives.push(directive);
    }
    Ok(directives)
}

/// Finds the `syntax` directive in any of its forms: `# syntax=`, `// syntax=`, or a text that is
/// one JSON object with a `syntax` key. The last two belong to files that are no Dockerfiles but
/// are built by another frontend.
pub fn detect_syntax(text: &[u8]) -> Option<Directive> {
    for comment in ["#", "//"] {
        let found = scan(text, comment).ok()?.into_iter().find(|found| found.name == "syntax");
        if found.is_some() {
            return found;
        }
    }
    let mut reader = Reader::new(text);
    if reader.remainder().starts_with(b"#!") {
        reader.next_line().ok()?;
    }
    let object: Map<String, Value> = serde_json::from_slice(reader.remainder()).ok()?;
    let value = object.get("syntax")?.as_str()?.to_owned();
    Some(Directive { name: "syntax".to_owned(), value, lines: Lines { first: 1, last: 1 } })
}

/// Collects the directives that follow `comment` on the first lines.
fn scan(text: &[u8], comment: &str) -> Result<Vec<Directive>, ParseError> {
    let mut reader = Reader::new(text);
    let mut directives = Vec::new();
    while let Some(line) = reader.next_line()? {
        let text = line.text();
        if line.number == 1 && text.starts_with("#!") {
            continue;
        }
        let body = text.trim_start().strip_prefix(comment);
        let Some((name, value)) = body.and_then(|body| name_and_value(body.trim_start())) else {
            break;
        };
        let lines = Lines { first: line.number, last: line.number };
        directives.push(Directive { name, value, lines });
    }
    Ok(directives)
}

/// Takes `name = value` apart; any other name makes the line an ordinary comment.
fn name_and_value(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim_ascii_end().to_ascii_lowercase();
    let value = value.trim_ascii();
    let known = matches!(name.as_str(), "syntax" | "escape" | "check");
    (known && !value.is_empty()).then(|| (name, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_end_at_the_first_other_line() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let found: Vec<String> = parse_directives(text.as_bytes())
                .unwrap()
                .iter()
                .map(|found| format!("{}:{}={}", found.lines.first, found.name, found.value))
                .collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
        check("# syntax=a\n#check = skip=x \r\n# escape=`", "1:syntax=a 2:check=skip=x 3:escape=`");
        check("#!/bin/x\n  #\tSyntax=a b", "2:syntax=a b");
        check("\u{feff}# syntax=a", "1:syntax=a");
        check("# syntax=a\n\n# escape=`", "1:syntax=a");
        check("# other=a\n# escape=`", "");
        check("# text\n# escape=`", "");
        check("# syntax=\n# escape=`", "");
        check("FROM a\n# escape=`", "");
    }

    #[test]
    fn syntax_has_other_forms() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            let found = detect_syntax(text.as_bytes());
            assert_eq!(found.as_ref().map(Directive::first_word), expected, "{text}");
        }
        check("# syntax=a b", Some("a"));
        check("// check=x\n// syntax=a", Some("a"));
        check("#!x\n{\"syntax\": \"a\", \"b\": 1}", Some("a"));
        check("{\"syntax\": 1}", None);
        check("FROM a", None);
    }
}
