//! The patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`.
//!
//! `*` is any run of characters, `?` any one, `\` makes the next `*`, `?` or `\` ordinary; neither
//! wildcard matches a newline. There are no bracket expressions. File names are matched elsewhere.

use std::collections::HashSet;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellPattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyOne,
    AnyRun,
}

/// How much a `*` takes when there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// As little as possible: `#` and `%`.
    Shortest,
    /// As much as possible: `##`, `%%` and replacements.
    Longest,
}

/// A backslash before a character that needs none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid escape '\\{}'", .0.unwrap_or(char::REPLACEMENT_CHARACTER))]
pub struct InvalidEscape(Option<char>);

impl ShellPattern {
    /// Parses a pattern. `\}` and `\/` stand for the character, for neither can be written
    /// otherwise inside `${...}`.
    pub fn parse(pattern: &str) -> Result<ShellPattern, InvalidEscape> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::AnyRun,
                '?' => Token::AnyOne,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    other => return Err(InvalidEscape(other)),
                },
                _ => Token::Literal(c),
            });
        }
        Ok(ShellPattern { tokens })
    }

    /// Takes a match off the front of `text`.
    pub fn trim_prefix(&self, text: &str, extent: Extent) -> String {
        let text: Vec<char> = text.chars().collect();
        let end = self.match_at(&text, 0, extent, &mut HashSet::new());
        text[end.unwrap_or(0)..].iter().collect()
    }

    /// Takes a match off the end of `text`.
    pub fn trim_suffix(&self, text: &str, extent: Extent) -> String {
        // The match that ends soonest from the right is the prefix of the mirror image.
        let mirrored = ShellPattern { tokens: self.tokens.iter().rev().copied().collect() };
        let text: String = text.chars().rev().collect();
        mirrored.trim_prefix(&text, extent).chars().rev().collect()
    }

    /// Puts `with` in the place of the first match.
    pub fn replace_first(&self, text: &str, with: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        let Some((start, end)) = self.find(&text, 0) else {
            return text.iter().collect();
        };
        let (head, tail) = (text[..start].iter(), text[end..].iter());
        head.copied().chain(with.chars()).chain(tail.copied()).collect()
    }

    /// Puts `with` in the place of every match. An empty match counts, but not right behind
    /// another match.
    pub fn replace_all(&self, text: &str, with: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        let mut replaced = String::new();
        let mut copied = 0;
        let mut from = 0;
        while let Some((start, end)) = self.find(&text, from) {
            replaced.extend(&text[copied..start]);
            if end > copied || start == 0 {
                replaced.push_str(with);
            }
            copied = end;
            from = if end > from { end } else { from + 1 };
        }
        replaced.extend(&text[copied..]);
        replaced
    }

    /// The leftmost match that begins at `from` or later.
    fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        let mut dead = HashSet::new();
        (from..=text.len()).find_map(|start| {
            let end = self.match_at(text, start, Extent::Longest, &mut dead)?;
            Some((start, end))
        })
    }

    /// Where a match that begins at `start` ends. Goes through (token, position) pairs, preferred
    /// ones first, and through none twice: `dead` has those from which there is no match.
    fn match_at(
        &self,
        text: &[char],
        start: usize,
        extent: Extent,
        dead: &mut HashSet<(usize, usize)>,
    ) -> Option<usize> {
        let mut open = vec![(0, start)];
        while let Some((token, at)) = open.pop() {
            let Some(kind) = self.tokens.get(token) else {
                return Some(at);
            };
            if !dead.insert((token, at)) {
                continue;
            }
            let any = text.get(at).is_some_and(|c| *c != '\n');
            match kind {
                Token::Literal(c) if text.get(at) == Some(c) => open.push((token + 1, at + 1)),
                Token::AnyOne if any => open.push((token + 1, at + 1)),
                Token::AnyRun if any && extent == Extent::Longest => {
                    open.extend([(token + 1, at), (token, at + 1)]);
                }
                Token::AnyRun if any => open.extend([(token, at + 1), (token + 1, at)]),
                Token::AnyRun => open.push((token + 1, at)),
                Token::Literal(_) | Token::AnyOne => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(pattern: &str) -> ShellPattern {
        ShellPattern::parse(pattern).unwrap()
    }

    #[test]
    fn trims_prefixes_and_suffixes() {
        // (text, pattern, #, ##, %, %%)
        let table = [
            ("xxyy", "*x", "xyy", "yy", "xxyy", "xxyy"),
            ("xxyy", "y*", "xxyy", "xxyy", "xxy", "xx"),
            ("xxyy", "*", "xxyy", "", "xxyy", ""),
            ("xxyy", "", "xxyy", "xxyy", "xxyy", "xxyy"),
            ("v1.2.3", "v", "1.2.3", "1.2.3", "v1.2.3", "v1.2.3"),
            ("v1.2.3", ".*", "v1.2.3", "v1.2.3", "v1.2", "v1"),
            ("a*b*", "\\*", "a*b*", "a*b*", "a*b", "a*b"),
            ("👽🚀", "?", "🚀", "🚀", "👽", "👽"),
            ("a\nb", "*b", "a\nb", "a\nb", "a\n", "a\n"),
            ("[a].(b)", "[a].", "(b)", "(b)", "[a].(b)", "[a].(b)"),
        ];
        for (text, source, shortest, longest, suffix, longest_suffix) in table {
            let pattern = pattern(source);
            let found = [
                pattern.trim_prefix(text, Extent::Shortest),
                pattern.trim_prefix(text, Extent::Longest),
                pattern.trim_suffix(text, Extent::Shortest),
                pattern.trim_suffix(text, Extent::Longest),
            ];
            assert_eq!(found, [shortest, longest, suffix, longest_suffix], "{text} {source}");
        }
    }

    #[test]
    fn replaces() {
        // (text, pattern, first, all)
        let table = [
            ("a-b-c", "-", "a+b-c", "a+b+c"),
            ("a-b-c", "?-", "+b-c", "++c"),
            ("a-b-c", "-*", "a+", "a+"),
            ("abc", "", "+abc", "+a+b+c+"),
            ("abc", "*", "+", "+"),
            ("abc", "x", "abc", "abc"),
            ("a/b", "\\/", "a+b", "a+b"),
        ];
        for (text, source, first, all) in table {
            let pattern = pattern(source);
            let found = [pattern.replace_first(text, "+"), pattern.replace_all(text, "+")];
            assert_eq!(found, [first, all], "{text} {source}");
        }
    }

    #[test]
    fn refuses_needless_escapes() {
        for (source, error) in
            [("\\x", "invalid escape '\\x'"), ("a\\", "invalid escape '\\\u{fffd}'")]
        {
            assert_eq!(ShellPattern::parse(source).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let source = "*a".repeat(30) + "b";
        let text = "a".repeat(300);
        assert_eq!(pattern(&source).trim_prefix(&text, Extent::Longest), text);
        assert_eq!(pattern(&source).replace_all(&text, "x"), text);
    }
}
