//! Regular expressions for names: what the filters of `ps` understand of Go's.
//!
//! Literals, `.`, classes, groups, `|`, `^`, `$`, `*`, `+`, `?` and escaped characters. Matches by
//! trying: fine for names of some dozens of characters. No counts and no named classes.

/// A regular expression.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Vec<Piece>>);

/// An atom, and how often it may come.
#[derive(Debug)]
struct Piece {
    atom: Atom,
    least: usize,
    most: usize,
}

#[derive(Debug)]
enum Atom {
    Char(char),
    Any,
    Class { negated: bool, ranges: Vec<(char, char)> },
    Group(Vec<Vec<Piece>>),
    Start,
    End,
}

impl Pattern {
    /// Reads a regular expression; nothing if it is none.
    pub(super) fn parse(text: &str) -> Option<Pattern> {
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        let alternatives = alternatives(&chars, &mut at)?;
        (at == chars.len()).then_some(Pattern(alternatives))
    }

    /// Whether it matches somewhere in a text.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        (0..=text.len()).any(|at| any(&self.0, &text, at, &mut |_| true))
    }
}

fn alternatives(text: &[char], at: &mut usize) -> Option<Vec<Vec<Piece>>> {
    let mut all = vec![Vec::new()];
    while let Some(char) = text.get(*at).copied().filter(|char| *char != ')') {
        *at += 1;
        let atom = match char {
            '|' => {
                all.push(Vec::new());
                continue;
            }
            '.' => Atom::Any,
            '^' => Atom::Start,
            '$' => Atom::End,
            '[' => class(text, at)?,
            '(' => {
                if text[*at..].starts_with(&['?', ':']) {
                    *at += 2;
                }
                let group = alternatives(text, at)?;
                *at += 1;
                (text.get(*at - 1) == Some(&')')).then_some(Atom::Group(group))?
            }
            '\\' => {
                *at += 1;
                // What is escaped stands for itself, unless it is a letter.
                Atom::Char(*text.get(*at - 1).filter(|char| !char.is_alphanumeric())?)
            }
            '*' | '+' | '?' => return None,
            other => Atom::Char(other),
        };
        let (least, most) = match text.get(*at) {
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            Some('?') => (0, 1),
            _ => (1, 1),
        };
        *at += usize::from((least, most) != (1, 1));
        all.last_mut().expect("there is always one").push(Piece { atom, least, most });
    }
    Some(all)
}

fn class(text: &[char], at: &mut usize) -> Option<Atom> {
    let negated = text.get(*at) == Some(&'^');
    *at += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        let first = *text.get(*at)?;
        if first == ']' && !ranges.is_empty() {
            *at += 1;
            return Some(Atom::Class { negated, ranges });
        }
        *at += 1;
        let last = match text.get(*at..*at + 2) {
            Some(['-', last]) if *last != ']' => {
                *at += 2;
                *last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
}

type Rest<'a> = &'a mut dyn FnMut(usize) -> bool;

fn any(alternatives: &[Vec<Piece>], text: &[char], at: usize, rest: Rest<'_>) -> bool {
    alternatives.iter().any(|pieces| all(pieces, text, at, rest))
}

fn all(pieces: &[Piece], text: &[char], at: usize, rest: Rest<'_>) -> bool {
    match pieces.split_first() {
        None => rest(at),
        Some((piece, others)) => {
            repeated(piece, 0, text, at, &mut |at| all(others, text, at, rest))
        }
    }
}

fn repeated(piece: &Piece, count: usize, text: &[char], at: usize, rest: Rest<'_>) -> bool {
    let again = count < piece.most
        && once(&piece.atom, text, at, &mut |next| {
            // What matches nothing would do so for ever.
            (next > at || count < piece.least) && repeated(piece, count + 1, text, next, rest)
        });
    again || (count >= piece.least && rest(at))
}

fn once(atom: &Atom, text: &[char], at: usize, rest: Rest<'_>) -> bool {
    let char = text.get(at);
    let fits = match atom {
        Atom::Start => return at == 0 && rest(at),
        Atom::End => return at == text.len() && rest(at),
        Atom::Group(alternatives) => return any(alternatives, text, at, rest),
        Atom::Char(wanted) => char == Some(wanted),
        Atom::Any => char.is_some(),
        Atom::Class { negated, ranges } => char.is_some_and(|char| {
            ranges.iter().any(|(first, last)| (first..=last).contains(&char)) != *negated
        }),
    };
    fits && rest(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_go_s_do() {
        for (pattern, text, expected) in [
            ("web", "my-web-1", true),
            ("^web", "my-web", false),
            ("^/?web$", "web", true),
            ("^/?web$", "/web", true),
            ("web.1", "web-1", true),
            ("web\\.1", "web-1", false),
            ("^(web|db)-[0-9]+$", "db-12", true),
            ("^(?:web|db)-[0-9]+$", "db-", false),
            ("^[^a-c]*$", "xyz", true),
            ("^[^a-c]*$", "xay", false),
            ("^(a*)*$", "aab", false),
            ("a|b$", "cb", true),
            ("", "anything", true),
        ] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(text), expected, "{pattern} {text}");
        }
        for bad in ["*a", "a(b", "a)", "[a", "\\"] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }
}
