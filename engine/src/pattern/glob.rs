//! One glob over bytes: Go's `filepath.Match`, and the `**` of ignore files on top of it.
//!
//! Knows no lists of patterns, no negation and no file system.

use super::PatternError;

/// A pattern taken apart, ready to be matched against any number of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    /// `?`: one character, but not a slash.
    One,
    /// `[a-z]`: one character, and as in Go that may be a slash.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `*`: any characters but slashes.
    Star,
    /// `**/`: nothing, or anything that ends with a slash.
    Directories,
    /// `**` at the end: anything at all.
    Rest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    SingleStars,
    DoubleStars,
}

impl Glob {
    /// Parses a pattern of Go's `filepath.Match`, where two stars are as good as one.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        Parser::new(pattern, Syntax::SingleStars).parse()
    }

    /// Parses a pattern in which `**` stands for any number of directories.
    pub fn parse_double_stars(pattern: &str) -> Result<Self, PatternError> {
        Parser::new(pattern, Syntax::DoubleStars).parse()
    }

    /// Tells whether the whole of `name` matches.
    pub fn matches(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        // Most names miss by their extension; that is cheaper to see than any star.
        if let Some(Token::Literal(end)) = self.tokens.last()
            && !name.ends_with(end)
        {
            return false;
        }
        walk(&self.tokens, name, Goal::Whole) == Outcome::Match
    }

    /// Tells whether some path below the directory `dir` could match.
    pub fn could_match_below(&self, dir: impl AsRef<[u8]>) -> bool {
        let mut prefix = dir.as_ref().to_vec();
        prefix.push(b'/');
        walk(&self.tokens, &prefix, Goal::Beginning) == Outcome::Match
    }
}

/// Tells whether `pattern`, in the syntax of Go's `filepath.Match`, matches the whole of `name`.
pub fn matches(pattern: &str, name: impl AsRef<[u8]>) -> Result<bool, PatternError> {
    Ok(Glob::parse(pattern)?.matches(name))
}

/// Tells whether `pattern` has characters that [`matches()`] does not take literally.
pub fn has_wildcards(pattern: &str) -> bool {
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

struct Parser<'a> {
    pattern: &'a str,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    syntax: Syntax,
    tokens: Vec<Token>,
}

impl<'a> Parser<'a> {
    fn new(pattern: &'a str, syntax: Syntax) -> Self {
        Self { pattern, rest: pattern.chars().peekable(), syntax, tokens: Vec::new() }
    }

    fn parse(mut self) -> Result<Glob, PatternError> {
        while let Some(char) = self.rest.next() {
            match char {
                '*' => self.stars(),
                '?' => self.tokens.push(Token::One),
                '[' => self.class()?,
                '\\' => {
                    let escaped = self.rest.next().ok_or_else(|| self.malformed())?;
                    self.literal(escaped);
                }
                _ => self.literal(char),
            }
        }
        Ok(Glob { tokens: self.tokens })
    }

    fn stars(&mut self) {
        if self.syntax == Syntax::SingleStars || self.rest.next_if_eq(&'*').is_none() {
            if self.tokens.last() != Some(&Token::Star) {
                self.tokens.push(Token::Star);
            }
            return;
        }
        // The slash belongs to the stars: `a/**/b` also matches `a/b`.
        _ = self.rest.next_if_eq(&'/');
        let at_end = self.rest.peek().is_none();
        self.tokens.push(if at_end { Token::Rest } else { Token::Directories });
    }

    fn class(&mut self) -> Result<(), PatternError> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        while ranges.is_empty() || self.rest.next_if_eq(&']').is_none() {
            let low = self.class_char()?;
            let high = match self.rest.next_if_eq(&'-') {
                Some(_) => self.class_char()?,
                None => low,
            };
            ranges.push((low, high));
        }
        self.tokens.push(Token::Class { negated, ranges });
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, PatternError> {
        let char = match self.rest.next() {
            None | Some('-' | ']') => None,
            Some('\\') => self.rest.next(),
            char => char,
        };
        char.ok_or_else(|| self.malformed())
    }

    fn literal(&mut self, char: char) {
        let mut buffer = [0; 4];
        let bytes = char.encode_utf8(&mut buffer).as_bytes();
        match self.tokens.last_mut() {
            Some(Token::Literal(literal)) => literal.extend_from_slice(bytes),
            _ => self.tokens.push(Token::Literal(bytes.to_vec())),
        }
    }

    fn malformed(&self) -> PatternError {
        PatternError::Malformed { pattern: self.pattern.to_owned() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// The text must match from end to end.
    Whole,
    /// The text must be how some longer, matching text begins.
    Beginning,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Match,
    Miss,
    /// A star tried all it could. An earlier star of the same directory need not try on: whatever
    /// it would leave to the later one, that one has seen. This keeps matching polynomial.
    StarMiss,
}

fn walk(tokens: &[Token], text: &[u8], goal: Goal) -> Outcome {
    if text.is_empty() && goal == Goal::Beginning {
        return Outcome::Match;
    }
    let Some((token, rest)) = tokens.split_first() else {
        return if text.is_empty() { Outcome::Match } else { Outcome::Miss };
    };
    match token {
        Token::Literal(literal) => match text.strip_prefix(literal.as_slice()) {
            Some(text) => walk(rest, text, goal),
            None if goal == Goal::Beginning && literal.starts_with(text) => Outcome::Match,
            None => Outcome::Miss,
        },
        Token::One => match split_char(text) {
            Some((char, text)) if char != '/' => walk(rest, text, goal),
            _ => Outcome::Miss,
        },
        Token::Class { negated, ranges } => match split_char(text) {
            Some((char, text)) if *negated != contains(ranges, char) => walk(rest, text, goal),
            _ => Outcome::Miss,
        },
        Token::Star => walk_star(rest, text, goal),
        Token::Directories => walk_directories(rest, text, goal),
        Token::Rest => Outcome::Match,
    }
}

fn walk_star(rest: &[Token], text: &[u8], goal: Goal) -> Outcome {
    let name = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
    let shortest = if rest.is_empty() { name } else { 0 };
    for taken in shortest..=name {
        match walk(rest, &text[taken..], goal) {
            Outcome::Miss => {}
            outcome => return outcome,
        }
    }
    Outcome::StarMiss
}

fn walk_directories(rest: &[Token], mut text: &[u8], goal: Goal) -> Outcome {
    if goal == Goal::Beginning {
        return Outcome::Match;
    }
    loop {
        if walk(rest, text, goal) == Outcome::Match {
            return Outcome::Match;
        }
        match text.iter().position(|byte| *byte == b'/') {
            Some(slash) => text = &text[slash + 1..],
            None => return Outcome::Miss,
        }
    }
}

fn contains(ranges: &[(char, char)], char: char) -> bool {
    ranges.iter().any(|(low, high)| (*low..=*high).contains(&char))
}

/// Takes the first character off; a byte that is not UTF-8 counts as one, as in Go.
fn split_char(text: &[u8]) -> Option<(char, &[u8])> {
    let first = *text.first()?;
    if first.is_ascii() {
        return Some((char::from(first), &text[1..]));
    }
    let beginning = &text[..text.len().min(4)];
    let valid = match str::from_utf8(beginning) {
        Ok(valid) => valid,
        Err(error) => str::from_utf8(&beginning[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(char) => Some((char, &text[char.len_utf8()..])),
        None => Some((char::REPLACEMENT_CHARACTER, &text[1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: impl AsRef<[u8]>, expected: bool) {
        let name = name.as_ref();
        let found = matches(pattern, name).expect("well formed");
        assert_eq!(found, expected, "{pattern} on {}", name.escape_ascii());
    }

    #[test]
    fn single_stars_match_as_in_go() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbX", false),
            ("*", "a/b", false),
            ("**", "ab", true),
            ("**/b", "a/a/b", false),
            ("a[^b]c", "a/c", true),
            ("[a-cx]?", "b\u{e9}", true),
            ("\\*\\[", "*[", true),
        ] {
            check(pattern, name, expected);
        }
    }

    #[test]
    fn names_need_not_be_utf8() {
        check("a?b", b"a\xffb", true);
        check("a??b", b"a\xc3\x28b", true);
        check("a*", b"a\xff\xfe", true);
        check("[^a]", b"\xff", true);
    }

    #[test]
    fn double_stars_cross_directories() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let glob = Glob::parse_double_stars(pattern).expect("well formed");
            assert_eq!(glob.matches(name), expected, "{pattern} on {name}");
        };
        check("a/**/b*", "a/b", true);
        check("a/**/b*", "a/x/y/bc", true);
        check("a/**/b*", "ax/b", false);
        check("**/*.go", "main.go", true);
        check("**/*.go", "x/y/main.go", true);
        check("*a**b", "aXab", true);
        check("x*/**", "x1/y/z", true);
        check("x*/**", "x1", false);
        check("**/a*b/**/c*d", "q/axb/r/s/cd", true);
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let glob = Glob::parse(&format!("{}b", "*a".repeat(40))).expect("well formed");
        assert!(!glob.matches("a".repeat(200)));
    }

    #[test]
    fn a_directory_is_worth_entering_if_its_path_can_begin_a_match() {
        let check = |pattern: &str, dir: &str, expected: bool| {
            let glob = Glob::parse_double_stars(pattern).expect("well formed");
            assert_eq!(glob.could_match_below(dir), expected, "{pattern} below {dir}");
        };
        check("a/b/c", "a", true);
        check("a/b/c", "a/b", true);
        check("a/b/c", "a/b/c", false);
        check("a/b/c", "a/x", false);
        check("a/*/c", "a/x", true);
        check("a/*", "ab", false);
        check("*.go", "x", false);
        check("**/*.go", "x/y/z", true);
        check("x/**", "y", false);
    }

    #[test]
    fn wildcards_are_found_unless_escaped() {
        for (pattern, expected) in [("a*", true), ("a\\*", false), ("[x", true), ("a]", false)] {
            assert_eq!(has_wildcards(pattern), expected, "{pattern}");
        }
    }
}
