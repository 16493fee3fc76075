//! Word expansion as a Dockerfile has it: quotes, escapes, `$name` and `${name...}`.
//!
//! It imitates a shell's rules where BuildKit does, and knows neither instructions nor where the
//! variables come from. Names found and missed are reported, so that misspelt ones can be told.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use crate::shell_pattern::InvalidEscape;

/// How deep `${...}` may nest: far beyond use, and far from the end of a thread's stack.
const MAX_DEPTH: usize = 100;

/// The value of a variable; `None` where it is unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The rules by which words are expanded.
#[derive(Clone, Debug)]
pub struct Lexer {
    escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escape characters stay in the result.
    pub raw_escapes: bool,
    /// Quotes are ordinary characters, as in the body of a here-document.
    pub skip_quotes: bool,
    /// Unset variables stay as they are written.
    pub skip_unset: bool,
}

/// One expanded word, and the variables it asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The word after expansion.
    pub text: String,
    /// The variables that are set.
    pub matched: BTreeSet<String>,
    /// The variables that are not.
    pub unmatched: BTreeSet<String>,
}

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}")]
pub struct WordError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    #[source]
    pub kind: WordErrorKind,
}

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordErrorKind {
    /// `'...`
    #[error("unexpected end of statement while looking for matching single-quote")]
    OpenSingleQuote,
    /// `"...`
    #[error("unexpected end of statement while looking for matching double-quote")]
    OpenDoubleQuote,
    /// `${name`
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name/pattern`
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}` and the like.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${name=...}` and other characters that ask for nothing.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${name?message}` of a variable that is unset, or empty after `:?`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The Dockerfile's message, or which of both it is.
        message: String,
    },
    /// `${a:-${b:-${c:-...` without end.
    #[error("substitutions nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// A pattern with a wrong escape in it.
    #[error("invalid pattern ({pattern}) in substitution: {error}")]
    InvalidPattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        error: InvalidEscape,
    },
}

impl Lexer {
    /// Makes a lexer that removes quotes and escapes and takes unset variables for empty ones.
    pub fn new(escape: char) -> Lexer {
        Lexer {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_quotes: false,
            skip_unset: false,
        }
    }

    /// Expands `word` into one word, whatever white space is in it.
    pub fn expand_word(&self, word: &str, env: Lookup<'_>) -> Result<Expansion, WordError> {
        let mut walk = self.walk(word, env);
        let (text, _) = walk.until(None, self.raw_escapes).map_err(|kind| at(word, kind))?;
        Ok(Expansion { text, matched: walk.matched, unmatched: walk.unmatched })
    }

    /// Expands `word` and splits the outcome at unquoted white space, that of values included.
    pub fn expand_words(&self, word: &str, env: Lookup<'_>) -> Result<Vec<String>, WordError> {
        let mut walk = self.walk(word, env);
        let (_, words) = walk.until(None, self.raw_escapes).map_err(|kind| at(word, kind))?;
        Ok(words)
    }

    fn walk<'a>(&'a self, word: &'a str, env: Lookup<'a>) -> Walk<'a> {
        Walk {
            rules: self,
            chars: word.chars().peekable(),
            env,
            raw_escapes: self.raw_escapes,
            depth: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        }
    }
}

fn at(word: &str, kind: WordErrorKind) -> WordError {
    WordError { word: word.to_owned(), kind }
}

/// The split form of what is being expanded.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    open: String,
}

impl Words {
    /// White space ends the open word.
    fn split_in(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.open.push(c);
            } else if !self.open.is_empty() {
                self.done.push(std::mem::take(&mut self.open));
            }
        }
    }

    /// White space is part of the word.
    fn keep(&mut self, text: &str) {
        self.open.push_str(text);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        self.done
    }
}

/// One pass over a word.
pub(crate) struct Walk<'a> {
    pub(crate) rules: &'a Lexer,
    pub(crate) chars: Peekable<Chars<'a>>,
    env: Lookup<'a>,
    /// Patterns need their escapes, whatever the lexer says.
    raw_escapes: bool,
    /// How many `${` are open.
    depth: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl Walk<'_> {
    /// Expands up to the character `stop`, which is consumed, or to the end where `stop` is
    /// `None`. Gives the text as one word and as split words.
    pub(crate) fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), WordErrorKind> {
        if self.depth == MAX_DEPTH {
            return Err(WordErrorKind::TooDeep);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let mut text = String::new();
        let mut words = Words::default();
        loop {
            let Some(&c) = self.chars.peek() else {
                if stop.is_some() {
                    return Err(WordErrorKind::MissingBrace);
                }
                break;
            };
            if stop == Some(c) {
                self.chars.next();
                break;
            }
            let part = self.part(c)?;
            match c {
                '$' => words.split_in(&part),
                '\'' | '"' | '<' => words.keep(&part),
                _ if c == self.rules.escape => words.keep(&part),
                _ => words.split_in(&part),
            }
            text.push_str(&part);
        }
        self.raw_escapes = outer;
        self.depth -= 1;
        Ok((text, words.finish()))
    }

    /// Expands what begins with the next character, `c`.
    fn part(&mut self, c: char) -> Result<String, WordErrorKind> {
        match c {
            '$' => self.variable(),
            '\'' if !self.rules.skip_quotes => self.single_quoted(),
            '"' if !self.rules.skip_quotes => self.double_quoted(),
            '<' => Ok(self.possible_heredoc()),
            _ if c == self.rules.escape => Ok(self.escaped()),
            _ => {
                self.chars.next();
                Ok(c.to_string())
            }
        }
    }

    /// The character behind an escape; at the end of the word, nothing.
    fn escaped(&mut self) -> String {
        let escape = self.chars.next().filter(|_| self.raw_escapes);
        escape.into_iter().chain(self.chars.next()).collect()
    }

    /// Keeps the white space of `<< EOF` and `<<- EOF` from splitting the word. (BuildKit misses
    /// the second, which a shell accepts.)
    fn possible_heredoc(&mut self) -> String {
        self.chars.next();
        let mut part = String::from("<");
        if self.chars.next_if_eq(&'<').is_some() {
            part.push('<');
            part.extend(self.chars.next_if_eq(&'-'));
            while let Some(c) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                part.push(c);
            }
        }
        part
    }

    /// Nothing is special between single quotes.
    fn single_quoted(&mut self) -> Result<String, WordErrorKind> {
        let quote = self.chars.next().filter(|_| self.rules.raw_quotes);
        let mut part: String = quote.into_iter().collect();
        loop {
            match self.chars.next() {
                None => return Err(WordErrorKind::OpenSingleQuote),
                Some('\'') => break,
                Some(c) => part.push(c),
            }
        }
        part.extend(quote);
        Ok(part)
    }

    /// Between double quotes variables are expanded, and `"`, `$` and the escape can be escaped.
    fn double_quoted(&mut self) -> Result<String, WordErrorKind> {
        let quote = self.chars.next().filter(|_| self.rules.raw_quotes);
        let mut part: String = quote.into_iter().collect();
        loop {
            let c = *self.chars.peek().ok_or(WordErrorKind::OpenDoubleQuote)?;
            if c == '$' {
                part.push_str(&self.variable()?);
                continue;
            }
            self.chars.next();
            if c == '"' {
                break;
            }
            if c != self.rules.escape {
                part.push(c);
                continue;
            }
            if self.raw_escapes {
                part.push(c);
            }
            match self.chars.peek().copied() {
                None => {}
                Some(next) if next == '"' || next == '$' || next == c => {
                    part.push(next);
                    self.chars.next();
                }
                Some(_) => part.push(c),
            }
        }
        part.extend(quote);
        Ok(part)
    }

    /// `$name`, `${...}`, or a dollar sign that begins neither.
    fn variable(&mut self) -> Result<String, WordErrorKind> {
        self.chars.next();
        if self.chars.next_if_eq(&'{').is_some() {
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.value(&name) {
            None if self.rules.skip_unset => format!("${name}"),
            value => value.unwrap_or_default(),
        })
    }

    /// A name: digits, or one special parameter, or letters, digits and underscores.
    pub(crate) fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.chars.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    pub(crate) fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.env)(name);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        names.insert(name.to_owned());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "A" => "a",
            "EMPTY" => "",
            "SPACED" => " b  c ",
            "PATH" => "/usr/bin:/bin",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn expand(lexer: &Lexer, word: &str) -> String {
        match lexer.expand_word(word, &env) {
            Ok(found) => found.text,
            Err(error) => format!("error: {}", error.kind),
        }
    }

    #[test]
    fn words_are_expanded() {
        #[track_caller]
        fn check(word: &str, expected: &str) {
            assert_eq!(expand(&Lexer::new('\\'), word), expected, "{word}");
        }
        check("$A-${A}-$B-\\$A-'$A'-\"$A\"", "a-a--$A-$A-a");
        check("$", "$");
        check("a\\", "a");
        check("\"\\a\\\"\\\\\"", "\\a\"\\");
        check("${B:-${EMPTY:-$A}}", "a");
        check("${EMPTY-x}${EMPTY:-y}${A:+z}${EMPTY:+z}", "yz");
        check("${B:-'}'}", "}");
        check("${PATH#*/}|${PATH##*/}|${PATH%/*}|${PATH%%/*}", "usr/bin:/bin|bin|/usr/bin:|");
        check("${PATH/bin/x}|${PATH//bin/x}|${PATH//\\//_}", "/usr/x:/bin|/usr/x:/x|_usr_bin:_bin");
        check("${PATH//bin/\\$1}", "/usr/\\$1:/\\$1");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        #[track_caller]
        fn check(word: &str, expected: &str) {
            assert_eq!(expand(&Lexer::new('\\'), word), format!("error: {expected}"), "{word}");
        }
        check("'a", "unexpected end of statement while looking for matching single-quote");
        check("\"a", "unexpected end of statement while looking for matching double-quote");
        check("${A", "syntax error: missing '}'");
        check("${A:-b", "syntax error: missing '}'");
        check("${A:-'b}", "syntax error: missing '}'");
        check("${A/b}", "syntax error: missing '/' in ${}");
        check("${}", "syntax error: bad substitution");
        check("${A=b}", "unsupported modifier (=) in substitution");
        check("${A:=b}", "unsupported modifier (:=) in substitution");
        check("${A:#b}", "unsupported modifier (:#) in substitution");
        check("${B?}", "B: is not allowed to be unset");
        check("${EMPTY:?}", "EMPTY: is not allowed to be empty");
        check("${B:?give $A}", "B: give a");
        check("${A#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'");
        check(&"${A:-".repeat(10000), "substitutions nested more than 100 deep");
    }

    #[test]
    fn words_are_split_after_expansion() {
        #[track_caller]
        fn check(word: &str, expected: &[&str]) {
            let found = Lexer::new('\\').expand_words(word, &env);
            assert_eq!(found.unwrap(), expected, "{word}");
        }
        check("", &[]);
        check("x$SPACED$A", &["x", "b", "c", "a"]);
        check("x\"$SPACED\"y z\\ z", &["x b  c y", "z z"]);
        check("x${B:-y z}$A", &["xy", "za"]);
        check("a << b <<- c < d", &["a", "<< b", "<<- c", "<", "d"]);
    }

    #[test]
    fn rules_change_what_stays() {
        #[track_caller]
        fn check(change: impl Fn(&mut Lexer), word: &str, expected: &str) {
            let mut lexer = Lexer::new('`');
            change(&mut lexer);
            assert_eq!(expand(&lexer, word), expected, "{word}");
        }
        check(|_| {}, "`$A\\$A'b'\"`\"\"", "$A\\ab\"");
        check(|lexer| lexer.raw_quotes = true, "'a'\"b\"`c", "'a'\"b\"c");
        check(|lexer| lexer.raw_escapes = true, "`a\"`\"\"", "`a`\"");
        check(|lexer| lexer.skip_quotes = true, "it's \"$A\"", "it's \"a\"");
        check(
            |lexer| lexer.skip_unset = true,
            "$A$B${B}${B:-$A}${B/x/y}",
            "a$B${B}${B:-a}${B/x/y}",
        );
    }

    #[test]
    fn names_are_reported() {
        let found = Lexer::new('\\').expand_word("$A${B:-$C}${EMPTY}", &env).unwrap();
        assert_eq!(found.matched, ["A", "EMPTY"].map(String::from).into());
        assert_eq!(found.unmatched, ["B", "C"].map(String::from).into());
    }
}
