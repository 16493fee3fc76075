//! Cuts a template into text and the tokens of its actions.

use super::TemplateError;

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether white space stands before it; only inside actions.
    pub(super) spaced: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Text between actions, trimmed as their dashes ask for.
    Text(String),
    Open,
    Close,
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$name` or `$`, with the dollar.
    Variable(String),
    Word(String),
    Literal(serde_json::Value),
    Pipe,
    LeftParen,
    RightParen,
    Comma,
    Declare,
    Assign,
}

/// Makes the error that something is wrong at `position`.
pub(super) fn error(text: &str, position: usize, message: impl Into<String>) -> TemplateError {
    let line = 1 + text[..position.min(text.len())].matches('\n').count();
    TemplateError::Parse { line, message: message.into() }
}

/// Returns the tokens of a template.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { text, position: 0, tokens: Vec::new() };
    let mut trim = false;
    while lexer.position < text.len() {
        lexer.text_until_action(trim);
        trim = lexer.position < text.len() && lexer.action()?;
    }
    Ok(lexer.tokens)
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

struct Lexer<'a> {
    text: &'a str,
    position: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn push(&mut self, kind: Kind, length: usize, spaced: bool) {
        let start = self.position;
        self.position += length;
        self.tokens.push(Token { kind, start, end: self.position, spaced });
    }

    fn text_until_action(&mut self, trim_start: bool) {
        let length = self.rest().find("{{").unwrap_or(self.rest().len());
        let mut kept = &self.rest()[..length];
        if trim_start {
            kept = kept.trim_start_matches(SPACES);
        }
        if opens_with_trim(&self.rest()[length..]) {
            kept = kept.trim_end_matches(SPACES);
        }
        if kept.is_empty() {
            self.position += length;
        } else {
            self.push(Kind::Text(kept.to_owned()), length, false);
        }
    }

    /// Lexes from `{{` to `}}`; tells whether the text behind is to be trimmed.
    fn action(&mut self) -> Result<bool, TemplateError> {
        let open = self.position;
        let length = if opens_with_trim(self.rest()) { 3 } else { 2 };
        let inside = self.rest()[length..].trim_start_matches(SPACES);
        if inside.starts_with("/*") {
            return self.comment(self.text.len() - inside.len());
        }
        self.push(Kind::Open, length, false);
        loop {
            let rest = self.rest();
            let skipped = rest.len() - rest.trim_start_matches(SPACES).len();
            self.position += skipped;
            let spaced = skipped > 0;
            if self.rest().is_empty() {
                return Err(error(self.text, open, "unclosed action"));
            }
            if spaced && self.rest().starts_with("-}}") {
                self.push(Kind::Close, 3, spaced);
                return Ok(true);
            }
            if self.rest().starts_with("}}") {
                self.push(Kind::Close, 2, spaced);
                return Ok(false);
            }
            self.token(spaced)?;
        }
    }

    fn comment(&mut self, start: usize) -> Result<bool, TemplateError> {
        let inside = &self.text[start..];
        let end = inside.find("*/").ok_or_else(|| error(self.text, start, "unclosed comment"))?;
        let behind = &inside[end + 2..];
        let close = behind.trim_start_matches(SPACES);
        let trim = close.len() < behind.len() && close.starts_with("-}}");
        if !trim && !behind.starts_with("}}") {
            return Err(error(self.text, start, "comment ends before closing delimiter"));
        }
        self.position = self.text.len() - close.len() + if trim { 3 } else { 2 };
        Ok(trim)
    }

    fn token(&mut self, spaced: bool) -> Result<(), TemplateError> {
        let rest = self.rest();
        let first = rest.chars().next().expect("the rest is not empty");
        let name = |from: usize| word(&rest[from..]);
        let (kind, length) = match first {
            '|' => (Kind::Pipe, 1),
            '(' => (Kind::LeftParen, 1),
            ')' => (Kind::RightParen, 1),
            ',' => (Kind::Comma, 1),
            ':' if rest.starts_with(":=") => (Kind::Declare, 2),
            ':' => return Err(error(self.text, self.position, "expected :=")),
            '=' => (Kind::Assign, 1),
            '"' | '`' | '\'' => return self.quoted(first, spaced),
            '$' => (Kind::Variable(rest[..1 + name(1).len()].to_owned()), 1 + name(1).len()),
            '.' if rest[1..].starts_with(|char: char| char.is_ascii_digit()) => {
                return self.number(spaced);
            }
            '.' if name(1).is_empty() => (Kind::Dot, 1),
            '.' => (Kind::Field(name(1).to_owned()), 1 + name(1).len()),
            '0'..='9' | '+' | '-' => return self.number(spaced),
            _ if !name(0).is_empty() => (Kind::Word(name(0).to_owned()), name(0).len()),
            _ => {
                let what =
                    if spaced { "unrecognized character in action:" } else { "bad character" };
                let message = format!("{what} U+{:04X} '{first}'", first as u32);
                return Err(error(self.text, self.position, message));
            }
        };
        self.push(kind, length, spaced);
        Ok(())
    }

    fn number(&mut self, spaced: bool) -> Result<(), TemplateError> {
        let rest = self.rest();
        let belongs = |(index, char): &(usize, char)| {
            char.is_alphanumeric()
                || matches!(char, '.' | '_')
                // A sign stands first or behind the exponent's letter.
                || (matches!(char, '+' | '-')
                    && (*index == 0 || rest[..*index].ends_with(['e', 'E'])))
        };
        let length = rest.char_indices().take_while(belongs).map(|(_, char)| char.len_utf8()).sum();
        let word = &rest[..length];
        let value = parse_number(word).ok_or_else(|| {
            error(self.text, self.position, format!("bad number syntax: {word:?}"))
        })?;
        self.push(Kind::Literal(value), length, spaced);
        Ok(())
    }

    fn quoted(&mut self, quote: char, spaced: bool) -> Result<(), TemplateError> {
        let start = self.position;
        let kind = match quote {
            '`' => "unterminated raw quoted string",
            '"' => "unterminated quoted string",
            _ => "unterminated character constant",
        };
        let unterminated = || error(self.text, start, kind);
        let body = &self.rest()[1..];
        let mut value = String::new();
        let mut chars = body.char_indices();
        loop {
            let (index, char) = chars.next().ok_or_else(unterminated)?;
            if char == quote {
                let literal = match (quote, value.chars().next()) {
                    ('\'', Some(char)) => u32::from(char).into(),
                    ('\'', None) => return Err(unterminated()),
                    _ => value.into(),
                };
                self.push(Kind::Literal(literal), index + 2, spaced);
                return Ok(());
            }
            match char {
                '\n' if quote != '`' => return Err(unterminated()),
                '\\' if quote != '`' => {
                    let escaped = unescape(&mut chars).ok_or_else(unterminated)?;
                    value.push(escaped);
                }
                _ => value.push(char),
            }
        }
    }
}

fn opens_with_trim(text: &str) -> bool {
    text.strip_prefix("{{-").is_some_and(|rest| rest.starts_with(SPACES))
}

fn word(text: &str) -> &str {
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Reads what follows a backslash in a Go string.
fn unescape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let digits = match chars.next()?.1 {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'a' => return Some('\u{7}'),
        'b' => return Some('\u{8}'),
        'f' => return Some('\u{c}'),
        'v' => return Some('\u{b}'),
        char @ ('\\' | '"' | '\'') => return Some(char),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let hex: String = chars.by_ref().take(digits).map(|(_, char)| char).collect();
    char::from_u32(u32::from_str_radix(&hex, 16).ok()?)
}

fn parse_number(text: &str) -> Option<serde_json::Value> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |prefix: &str, radix: u32| {
        let digits = digits.strip_prefix(prefix)?;
        i64::from_str_radix(digits, radix).ok()
    };
    let whole = digits.parse::<i64>().ok();
    match whole.or(radix("0x", 16)).or(radix("0o", 8)).or(radix("0b", 2)) {
        Some(number) => Some((sign * number).into()),
        None => serde_json::Number::from_f64(plain.parse().ok()?).map(Into::into),
    }
}
