//! `.env` files: `NAME=value` lines with quotes, comments, escapes, several lines in quotes, `export`, and variables.
//!
//! Reads text, not files; who wins over whom is the caller's to say.

use std::collections::BTreeMap;

use crate::error::Wrong;
use crate::template::{self, Variables};

/// Something wrong in a line.
#[derive(Debug)]
pub(crate) struct LineError {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) wrong: Wrong,
}

/// Reads the lines of a text into `values`. Variables are looked up outside first, then among the lines above.
///
/// A value may have no name, as in the reference. What is wrong with the first of them is returned, for who cannot take it.
pub(crate) fn read(
    text: &str,
    values: &mut BTreeMap<String, String>,
    outside: &mut Variables<'_>,
) -> Result<Option<LineError>, LineError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { rest: text, line: 1, nameless: None };
    while reader.skip_to_statement() {
        reader.statement(values, outside)?;
    }
    Ok(reader.nameless)
}

/// Reads lines as `docker run --env-file` does: nothing is expanded or unquoted.
pub(crate) fn read_raw(
    text: &str,
    values: &mut BTreeMap<String, String>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(), LineError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line, lookup(line)),
        };
        let wrong = match key {
            "" => Some(Wrong::NoVariableName { text: line.to_owned() }),
            key => key.contains(char::is_whitespace).then_some(Wrong::KeyWithSpace),
        };
        if let Some(wrong) = wrong {
            return Err(LineError { line: index + 1, wrong });
        }
        if let Some(value) = value {
            values.insert(key.to_owned(), value);
        }
    }
    Ok(())
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    nameless: Option<LineError>,
}

impl Reader<'_> {
    /// Skips white space and comments; false at the end of the text.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let trimmed = self.rest.trim_start();
            self.line += newlines(&self.rest[..self.rest.len() - trimmed.len()]);
            self.rest = trimmed;
            if !trimmed.starts_with('#') {
                return !trimmed.is_empty();
            }
            self.rest = trimmed.find('\n').map_or("", |at| &trimmed[at..]);
        }
    }

    fn statement(
        &mut self,
        values: &mut BTreeMap<String, String>,
        outside: &mut Variables<'_>,
    ) -> Result<(), LineError> {
        let text = self.rest.lines().next().unwrap_or_default();
        let (key, has_value) = self.key()?;
        if key.contains(' ') {
            return Err(self.error(Wrong::KeyWithSpace));
        }
        if key.is_empty() && has_value && self.nameless.is_none() {
            self.nameless = Some(self.error(Wrong::NoVariableName { text: text.to_owned() }));
        }
        if !has_value {
            self.line += 1;
            // Named alone, a variable is taken over from outside.
            if let Some(value) = (outside.lookup)(&key) {
                values.insert(key, value);
            }
            return Ok(());
        }
        let value = self.value(values, outside)?;
        values.insert(key, value);
        Ok(())
    }

    /// The name before `=`, `:` or the end of the line, and whether a value follows.
    fn key(&mut self) -> Result<(String, bool), LineError> {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(char::is_whitespace)
        {
            self.rest = after.trim_start_matches(is_blank);
        }
        for (at, character) in self.rest.char_indices() {
            match character {
                '=' | ':' | '\n' => {
                    let key = self.rest[..at].trim_end().to_owned();
                    let has_value = character != '\n';
                    self.rest = self.rest[at + 1..].trim_start_matches(is_blank);
                    return Ok((key, has_value));
                }
                '_' | '.' | '-' | '[' | ']' => {}
                _ if is_blank(character) || character.is_alphanumeric() => {}
                _ => {
                    let text = self.rest.lines().next().unwrap_or_default().to_owned();
                    return Err(self.error(Wrong::VariableName { character, text }));
                }
            }
        }
        // A name alone on the last line, without a line's end, names nothing: so it is in the reference.
        self.rest = "";
        Ok((String::new(), false))
    }

    fn value(
        &mut self,
        values: &BTreeMap<String, String>,
        outside: &mut Variables<'_>,
    ) -> Result<String, LineError> {
        let expand = |text: &str, outside: &mut Variables<'_>| {
            let lookup = |name: &str| (outside.lookup)(name).or_else(|| values.get(name).cloned());
            let mut both = Variables { lookup: &lookup, unset: &mut *outside.unset };
            template::substitute(text, &mut both)
        };
        let at = self.line;
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let text = self.quoted(quote)?;
                match quote {
                    '"' => expand(&unescape(&text), outside),
                    _ => Ok(text),
                }
            }
            _ => {
                let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
                self.rest = rest;
                self.line += 1;
                let line = line.split_once(" #").map_or(line, |(value, _)| value);
                expand(line.trim_end(), outside)
            }
        }
        .map_err(|wrong| LineError { line: at, wrong })
    }

    /// The text up to the closing quote. A backslash keeps that quote from closing and stays before anything else.
    fn quoted(&mut self, quote: char) -> Result<String, LineError> {
        let mut text = String::new();
        let mut escaped = false;
        for (at, character) in self.rest.char_indices().skip(1) {
            if character == quote && !escaped {
                let taken = &self.rest[..at];
                self.line += newlines(taken);
                self.rest = &self.rest[at + 1..];
                return Ok(text);
            }
            if character == '\\' && !escaped {
                escaped = true;
                continue;
            }
            if escaped && character != quote {
                text.push('\\');
            }
            escaped = false;
            text.push(character);
        }
        let text = self.rest.lines().next().unwrap_or_default().to_owned();
        Err(self.error(Wrong::Unterminated { text }))
    }

    fn error(&self, wrong: Wrong) -> LineError {
        LineError { line: self.line, wrong }
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

/// White space that does not end a line.
fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// Replaces the escapes of double quotes; `\$` becomes what a template takes for a dollar.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        let Some(next) = characters.next() else {
            out.push('\\');
            break;
        };
        match next {
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            '"' | '\\' => out.push(next),
            '$' => out.push_str("$$"),
            '0' => {
                let mut digits = String::new();
                while let Some(digit) =
                    characters.peek().filter(|c| c.is_digit(8) && digits.len() < 3)
                {
                    digits.push(*digit);
                    characters.next();
                }
                let code = u32::from_str_radix(&digits, 8).ok().filter(|_| digits.len() == 3);
                match code.filter(|code| *code < 256).and_then(char::from_u32) {
                    Some(character) => out.push(character),
                    None => {
                        out.push_str("\\0");
                        out.push_str(&digits);
                    }
                }
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(
        text: &str,
        outside: &dyn Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut values = BTreeMap::new();
        let mut variables = Variables { lookup: outside, unset: &mut |_| {} };
        read(text, &mut values, &mut variables).map_err(shown)?;
        Ok(values)
    }

    fn shown(error: LineError) -> String {
        format!("line {}: {}", error.line, error.wrong)
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = parse(text, &|name| (name == "SHELL_VAR").then(|| "shell".to_owned()));
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(found, Ok(expected), "{text}");
    }

    #[test]
    fn quotes_comments_and_escapes_are_a_shells_or_nearly() {
        check("A=1\n# no\nexport B = two words # comment\n", &[("A", "1"), ("B", "two words")]);
        check(
            "A='$X \\n # kept'\nB=\"x\\ny # kept\" # gone\n",
            &[("A", "$X \\n # kept"), ("B", "x\ny # kept")],
        );
        check("A=\"first\nsecond\"\nB=3", &[("A", "first\nsecond"), ("B", "3")]);
        check("A=a#b\nB=\nC: yaml", &[("A", "a#b"), ("B", ""), ("C", "yaml")]);
        check(
            "A=$SHELL_VAR\nB=${A}-${X:-d}\nC='${A}'",
            &[("A", "shell"), ("B", "shell-d"), ("C", "${A}")],
        );
        check("A=\"\\$X \\101 \\0101\"", &[("A", "$X \\101 A")]);
        check("SHELL_VAR\nOTHER\nA=1", &[("SHELL_VAR", "shell"), ("A", "1")]);
        check("\u{feff}A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]);
    }

    #[test]
    fn what_cannot_be_read_names_its_line() {
        let error = |text: &str| parse(text, &|_| None).unwrap_err();
        assert_eq!(error("A=1\nB C=2\n"), "line 2: key cannot contain a space");
        assert_eq!(error("A=1\nB C\nD=1\n"), "line 2: key cannot contain a space");
        assert_eq!(error("X\nB C=2"), "line 2: key cannot contain a space");
        assert_eq!(
            error("A=1\n\nB%=2\n"),
            "line 3: unexpected character '%' in variable name \"B%=2\""
        );
        assert_eq!(error("A=\"x\n"), "line 1: unterminated quoted value \"x");
        assert_eq!(error("\nA=${B:?no}\n"), "line 2: required variable B is missing a value: no");
    }

    #[test]
    fn a_value_without_a_name_is_told() {
        let told = |text: &str| {
            let mut variables = Variables { lookup: &|_| None, unset: &mut |_| {} };
            let nameless = read(text, &mut BTreeMap::new(), &mut variables).expect("it reads");
            nameless.map(shown)
        };
        for (text, line) in [
            ("A=1\n\n=x\n=y\n", "3: no variable name on line '=x'"),
            (": x", "1: no variable name on line ': x'"),
            ("export =x # y", "1: no variable name on line 'export =x # y'"),
        ] {
            assert_eq!(told(text), Some(format!("line {line}")), "{text}");
        }
        // Neither says that anything is to have a value.
        for text in ["export\nA=1\n", "export \n", "A=1\nexport", "NAME"] {
            assert_eq!(told(text), None, "{text}");
        }
        let raw = read_raw("A=1\n=x\n", &mut BTreeMap::new(), &|_| None);
        assert_eq!(
            shown(raw.expect_err("it has no name")),
            "line 2: no variable name on line '=x'"
        );
    }

    #[test]
    fn raw_lines_are_taken_as_they_are() {
        let mut values = BTreeMap::new();
        read_raw("A='$X' # y\n#c\nB\nC\n", &mut values, &|name| {
            (name == "B").then(|| "b".to_owned())
        })
        .expect("they are lines");
        let found: Vec<_> = values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, [("A", "'$X' # y"), ("B", "b")]);
    }

    #[test]
    fn the_references_files_read_alike() {
        crate::conformance::rows("compose-interpolation/dotenv.jsonl", |row| {
            let env = row.get("env").and_then(|env| env.as_object()).cloned().unwrap_or_default();
            let lookup = |name: &str| env.get(name).and_then(|v| v.as_str()).map(str::to_owned);
            if row.get("kind").and_then(|kind| kind.as_str()) == Some("expandVariables") {
                let mut variables = Variables { lookup: &lookup, unset: &mut |_| {} };
                let found = template::substitute(row["input"].as_str()?, &mut variables).ok();
                let expected = row["expected_string"].as_str().map(str::to_owned);
                return (found != expected).then(|| format!("found {found:?}"));
            }
            let src = row["src"].as_str().unwrap_or_default();
            // One row sets its variable outside, two are of a function that drops names that begin with digits.
            let outside = |name: &str| match (src, name) {
                ("TestSubstitutionsWithEnvFileDefaultValuePrecedence", "OPTION_A") => {
                    Some("5".to_owned())
                }
                _ => lookup(name),
            };
            let mut found = parse(row["input"].as_str()?, &outside);
            if src.contains("DefaultValuePrecedence") {
                found = found.map(|values| {
                    values.into_iter().chain([("OPTION_A".to_owned(), "5".to_owned())]).collect()
                });
            }
            let expected = row.get("expected").and_then(|expected| expected.as_object());
            if row.get("file").is_some()
                && let (Ok(values), Some(expected)) = (&mut found, expected)
            {
                values.retain(|name, _| expected.contains_key(name));
            }
            crate::conformance::compare(row, found.map(|values| serde_json::json!(values)))
        });
    }
}
