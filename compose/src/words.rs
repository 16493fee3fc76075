//! A command written as one text, split as docker compose splits it: quotes and backslashes of a shell, nothing else of it.

use crate::error::Wrong;

/// The words of a command. What stands behind an unquoted `;`, `&`, `|`, `<` or `>` is dropped, as it is there.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Wrong> {
    let wrong = || Wrong::Command { value: text.to_owned() };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some('\''), '\\') => word.get_or_insert_default().push('\\'),
            (_, '\\') => word.get_or_insert_default().push(characters.next().ok_or_else(wrong)?),
            (Some(open), close) if open == close => {
                // What a shell would run stays as written, but in one word.
                if matches!(close, '`' | ')') {
                    word.get_or_insert_default().push(close);
                }
                quote = None;
            }
            (Some(_), inside) => word.get_or_insert_default().push(inside),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '`') => {
                quote = Some('`');
                word.get_or_insert_default().push('`');
            }
            (None, '(') if word.as_ref().is_some_and(|word| word.ends_with('$')) => {
                quote = Some(')');
                word.get_or_insert_default().push('(');
            }
            (None, ';' | '&' | '|' | '<' | '>') => break,
            (None, '(' | ')') => return Err(wrong()),
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (None, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err(wrong());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_hold_words_together() {
        let rows: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("  a  b\n c ", &["a", "b", "c"]),
            (r#"sh -c "echo 'a b' \"c\"""#, &["sh", "-c", "echo 'a b' \"c\""]),
            (r"a\ b '\n' ''", &["a b", "\\n", ""]),
            ("a'b'\"c\"", &["abc"]),
            ("a && b", &["a"]),
            ("--x=\"y z\"", &["--x=y z"]),
            ("a $HOME", &["a", "$HOME"]),
            ("`b c` $(d e)", &["`b c`", "$(d e)"]),
        ];
        for (text, expected) in rows {
            assert_eq!(split(text).expect(text), expected, "{text}");
        }
        for text in ["'a", "\"a", "a\\", "(a)"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
