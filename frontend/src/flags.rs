//! The `--name[=value]` flags of an instruction, and the comma-separated fields inside some of them.
//!
//! Knows the shapes of flags, not which instruction has which.

use std::collections::BTreeMap;

use crate::suggest::{self, Suggestion};

/// A flag that an instruction does not take in this way.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FlagError {
    /// A flag without its dashes.
    #[error("arg should start with -- : {arg}")]
    NotAFlag {
        /// The word found.
        arg: String,
    },
    /// A flag that the instruction does not have.
    #[error("unknown flag: {flag}{suggestion}")]
    Unknown {
        /// The flag with its dashes.
        flag: String,
        /// A flag that it may have meant.
        suggestion: Suggestion,
    },
    /// A flag given twice that may be given once.
    #[error("duplicate flag specified: {flag}")]
    Duplicate {
        /// The flag with its dashes.
        flag: String,
    },
    /// A flag without the value that it needs.
    #[error("missing a value on flag: {flag}")]
    MissingValue {
        /// The flag with its dashes.
        flag: String,
    },
    /// A value that is neither true nor false.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    NotBoolean {
        /// The flag with its dashes.
        flag: String,
        /// The value found.
        value: String,
    },
}

impl FlagError {
    /// Returns the word of the text that is wrong.
    pub fn subject(&self) -> &str {
        match self {
            Self::NotAFlag { arg } => arg,
            Self::Unknown { flag, .. }
            | Self::Duplicate { flag }
            | Self::MissingValue { flag }
            | Self::NotBoolean { flag, .. } => flag,
        }
    }
}

/// How often a flag may be given and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagKind {
    /// Once; alone, or with true or false.
    Bool,
    /// Once, with a value.
    One,
    /// Any number of times, each with a value.
    Many,
}

/// The flags given to an instruction.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Flags {
    /// Reads `args` by the flags that are known.
    pub(crate) fn parse(
        args: &[String],
        known: &[(&'static str, FlagKind)],
    ) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        // A lone `--` ends the flags, as in any command line.
        for arg in args.iter().take_while(|arg| *arg != "--") {
            let (flag, value) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (arg.as_str(), None),
            };
            let Some(written) = flag.strip_prefix("--") else {
                return Err(FlagError::NotAFlag { arg: arg.clone() });
            };
            let Some((name, kind)) = known.iter().find(|(name, _)| *name == written) else {
                let suggestion = suggest::nearest(written, known.iter().map(|(name, _)| *name));
                return Err(FlagError::Unknown { flag: flag.to_owned(), suggestion });
            };
            if *kind != FlagKind::Many && flags.values.contains_key(name) {
                return Err(FlagError::Duplicate { flag: flag.to_owned() });
            }
            let value = flag_value(flag, value, *kind)?;
            flags.values.entry(name).or_default().push(value);
        }
        Ok(flags)
    }

    /// Takes a flag's value; an empty one counts as not given.
    pub(crate) fn one(&mut self, name: &str) -> Option<String> {
        self.many(name).pop().filter(|value| !value.is_empty())
    }

    /// Takes all values of a flag.
    pub(crate) fn many(&mut self, name: &str) -> Vec<String> {
        self.values.remove(name).unwrap_or_default()
    }

    /// Takes a boolean flag, if it was given.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.one(name).map(|value| value == "true")
    }
}

fn flag_value(flag: &str, value: Option<&str>, kind: FlagKind) -> Result<String, FlagError> {
    let missing = || FlagError::MissingValue { flag: flag.to_owned() };
    if kind != FlagKind::Bool {
        return value.map(str::to_owned).ok_or_else(missing);
    }
    match value.map(str::to_lowercase).as_deref() {
        None | Some("true") => Ok("true".to_owned()),
        Some("false") => Ok("false".to_owned()),
        Some("") => Err(missing()),
        Some(_) => {
            let value = value.unwrap_or_default().to_owned();
            Err(FlagError::NotBoolean { flag: flag.to_owned(), value })
        }
    }
}

/// A list of fields whose quotes do not match.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldsError {
    /// A quote inside a field that did not begin with one.
    #[error("parse error on line 1, column {column}: bare \" in non-quoted field")]
    BareQuote {
        /// Its byte, counted from 1.
        column: usize,
    },
    /// A quoted field that does not end, or does not end at its quote.
    #[error("parse error on line 1, column {column}: extraneous or missing \" in quoted-field")]
    Quote {
        /// Its byte, counted from 1.
        column: usize,
    },
}

/// Splits one line of comma-separated values (RFC 4180).
pub fn comma_fields(line: &str) -> Result<Vec<String>, FieldsError> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let column = line.len() - rest.len();
        let (field, length) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, column)?,
            None => {
                let field = rest.split(',').next().unwrap_or_default();
                if let Some(quote) = field.find('"') {
                    return Err(FieldsError::BareQuote { column: column + quote + 1 });
                }
                (field.to_owned(), field.len())
            }
        };
        fields.push(field);
        match rest[length..].strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// Reads a field behind its opening quote; returns it and its length in the text with both quotes.
fn quoted_field(text: &str, column: usize) -> Result<(String, usize), FieldsError> {
    let mut field = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if char != '"' {
            field.push(char);
            continue;
        }
        match chars.peek() {
            Some((_, '"')) => {
                chars.next();
                field.push('"');
            }
            None | Some((_, ',')) => return Ok((field, at + 2)),
            Some(_) => {
                return Err(FieldsError::Quote { column: column + at + 2 });
            }
        }
    }
    Err(FieldsError::Quote { column: column + text.len() + 2 })
}

/// Reads a truth value in any of Go's spellings.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str], expected: Result<&str, &str>) {
        let known = [("link", FlagKind::Bool), ("chown", FlagKind::One), ("mount", FlagKind::Many)];
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let found = Flags::parse(&args, &known)
            .map(|flags| format!("{:?}", flags.values))
            .map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{args:?}");
    }

    #[test]
    fn flags_are_read_by_kind() {
        check(&[], Ok("{}"));
        check(&["--link"], Ok(r#"{"link": ["true"]}"#));
        check(&["--link=FALSE"], Ok(r#"{"link": ["false"]}"#));
        check(&["--link="], Err("missing a value on flag: --link"));
        check(&["--link=x"], Err("expecting boolean value for flag --link, not: x"));
        check(&["--chown=a=b"], Ok(r#"{"chown": ["a=b"]}"#));
        check(&["--chown"], Err("missing a value on flag: --chown"));
        check(&["--chown=a", "--chown=b"], Err("duplicate flag specified: --chown"));
        check(&["--mount=a", "--mount=b"], Ok(r#"{"mount": ["a", "b"]}"#));
        check(&["--mont=a"], Err("unknown flag: --mont (did you mean mount?)"));
        check(&["--boo"], Err("unknown flag: --boo"));
        check(&["-x"], Err("arg should start with -- : -x"));
        check(&["--", "--boo"], Ok("{}"));
    }

    #[test]
    fn fields_follow_csv() {
        let check = |line: &str, expected: Result<&[&str], &str>| {
            let found = comma_fields(line).map_err(|error| error.to_string());
            let expected =
                expected.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect());
            assert_eq!(found, expected.map_err(str::to_owned), "{line}");
        };
        check("", Ok(&[""]));
        check("a,b=c,", Ok(&["a", "b=c", ""]));
        check(r#""a,b","c""d""#, Ok(&["a,b", "c\"d"]));
        check(r#"a,b"c"#, Err("parse error on line 1, column 4: bare \" in non-quoted field"));
        check(
            r#""a"b"#,
            Err("parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        );
        check(
            r#""a"#,
            Err("parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        );
    }
}
