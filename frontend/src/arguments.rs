//! The ways in which instructions split their arguments: flags, words, pairs, JSON arrays.
//!
//! Expands nothing, and does not know which instruction uses which way.

use serde_json::Value;

use crate::lines::ParseErrorKind;

/// One pair of an ENV or LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameValue {
    /// As written, quotes kept.
    pub name: String,
    /// As written, quotes kept.
    pub value: String,
    /// What stood between them.
    pub separator: Separator,
}

/// What stands between a name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// `ENV name=value ...`
    Equals,
    /// `ENV name value`, the legacy form: one pair, the value being the rest of the line.
    Space,
}

/// Splits a joined line into its keyword, its flags and the trimmed rest.
///
/// Flags are the leading words that begin with `--`; a bare `--` ends them. In them, quotes group
/// and vanish, and the escape character makes the next one ordinary.
pub fn split_instruction(line: &str, escape: char) -> (String, Vec<String>, String) {
    let line = line.trim();
    let Some((keyword, mut rest)) = split_at_blanks(line) else {
        return (line.to_owned(), Vec::new(), String::new());
    };
    let mut flags = Vec::new();
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            break;
        }
        let (flag, behind) = take_flag(rest, escape);
        rest = behind;
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (keyword.to_owned(), flags, rest.trim().to_owned())
}

/// Takes the word at the start of `text`, which is a flag.
fn take_flag(text: &str, escape: char) -> (String, &str) {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (flag, &text[at..]),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => flag.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => flag.push(c),
        }
    }
    (flag, "")
}

/// Splits at the first run of blanks.
fn split_at_blanks(text: &str) -> Option<(&str, &str)> {
    let (head, tail) = text.split_once(is_blank)?;
    Some((head, tail.trim_start_matches(is_blank)))
}

/// Splits a trimmed rest at its blanks, without regard to quotes: the sources of a COPY.
pub fn split_blanks(rest: &str) -> Vec<String> {
    rest.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The white space that parts arguments; narrower than Unicode's.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Splits into words at white space outside quotes. Quotes and escapes stay in the words.
pub fn parse_words(rest: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        // Nothing can be escaped between single quotes; an escape at the very end is dropped.
        if c == escape && quote != Some('\'') {
            if let Some(escaped) = chars.next() {
                word.extend([c, escaped]);
            }
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Reads the pairs of an ENV or LABEL; `keyword` is for the error's text. The first word decides
/// the form: with a `=` in it, all words are pairs; without, the line is one pair.
pub fn parse_name_values(
    rest: &str,
    keyword: &str,
    escape: char,
) -> Result<Vec<NameValue>, ParseErrorKind> {
    let words = parse_words(rest, escape);
    if words.first().is_some_and(|first| !first.contains('=')) {
        let (name, value) = split_at_blanks(rest)
            .ok_or_else(|| ParseErrorKind::MissingValue(keyword.to_owned()))?;
        let (name, value) = (name.to_owned(), value.to_owned());
        return Ok(vec![NameValue { name, value, separator: Separator::Space }]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => Ok(NameValue {
            name: name.to_owned(),
            value: value.to_owned(),
            separator: Separator::Equals,
        }),
        None => Err(ParseErrorKind::MissingEquals(word.clone())),
    };
    words.iter().map(pair).collect()
}

/// Reads a JSON array of strings, the exec form of a command. `None` where the text is something
/// else, which makes it the shell form; only an array with arrays or objects in it is an error,
/// since nobody means that for a shell.
pub fn parse_json_array(rest: &str) -> Result<Option<Vec<String>>, ParseErrorKind> {
    let rest = rest.trim_start();
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(Value::Array(values)) = serde_json::from_str(rest) else {
        return Ok(None);
    };
    if values.iter().any(|value| value.is_array() || value.is_object()) {
        return Err(ParseErrorKind::NotStrings);
    }
    let string = |value| match value {
        Value::String(string) => Some(string),
        _ => None,
    };
    Ok(values.into_iter().map(string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_split() {
        #[track_caller]
        fn check(line: &str, keyword: &str, flags: &[&str], rest: &str) {
            let flags = flags.iter().map(|flag| flag.to_string()).collect();
            let expected = (keyword.to_owned(), flags, rest.to_owned());
            assert_eq!(split_instruction(line, '\\'), expected);
        }
        check("RUN", "RUN", &[], "");
        check(" RUN \t ls  -l ", "RUN", &[], "ls  -l");
        check("RUN --a --b=c ls --d", "RUN", &["--a", "--b=c"], "ls --d");
        check("RUN --a=\"b c\"'d e' f", "RUN", &["--a=b cd e"], "f");
        check("RUN --a=b\\ c\\\\ d", "RUN", &["--a=b c\\"], "d");
        check("RUN --a='b", "RUN", &["--a=b"], "");
        check("RUN --a -- --b", "RUN", &["--a"], "--b");
        check("RUN --a=é\u{a0}\u{e0} b", "RUN", &["--a=é"], "\u{e0} b");
        check("RUN -a", "RUN", &[], "-a");
        check("RUN\u{a0}a", "RUN\u{a0}a", &[], "");
    }

    #[test]
    fn words_split() {
        #[track_caller]
        fn check(rest: &str, words: &[&str]) {
            assert_eq!(parse_words(rest, '\\'), words);
        }
        check("", &[]);
        check(" a  'b c'd \"\" ", &["a", "'b c'd", "\"\""]);
        check("a=\"b\\\" c\" d", &["a=\"b\\\" c\"", "d"]);
        check("'a\\' b", &["'a\\'", "b"]);
        check("a\\", &["a"]);
        check("a \"b\\", &["a", "\"b"]);
        check("a\\'b c", &["a\\'b", "c"]);
    }

    #[test]
    fn pairs_split() {
        #[track_caller]
        fn check(rest: &str, expected: Result<&str, &str>) {
            let show = |pair: NameValue| {
                let separator = if pair.separator == Separator::Equals { "=" } else { " " };
                format!("[{}{separator}{}]", pair.name, pair.value)
            };
            let found = parse_name_values(rest, "ENV", '\\')
                .map(|pairs| pairs.into_iter().map(show).collect::<String>())
                .map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        }
        check("", Ok(""));
        check("a b=c  d", Ok("[a b=c  d]"));
        check("a=b=c d=", Ok("[a=b=c][d=]"));
        check("a='b c' d=e", Ok("[a='b c'][d=e]"));
        check("a", Err("ENV must have two arguments"));
        check(
            "a=1 b",
            Err("Syntax error - can't find = in \"b\". Must be of the form: name=value"),
        );
    }

    #[test]
    fn exec_form_is_an_array_of_strings() {
        assert_eq!(parse_json_array("sh -c a"), Ok(None));
        assert_eq!(parse_json_array("[ -f a ]"), Ok(None));
        assert_eq!(parse_json_array("[\"a\"] b"), Ok(None));
        assert_eq!(parse_json_array(" [\"a\", \"b\"] "), Ok(Some(vec!["a".into(), "b".into()])));
        assert_eq!(parse_json_array("[\"a\", [1]]"), Err(ParseErrorKind::NotStrings));
    }
}
