//! As much of YAML as device descriptions are written in: mappings and lists in blocks, lists in
//! brackets, plain and quoted words. Everything else is refused by line, nothing is guessed.

use serde_json::{Map, Value};

/// A line without its comment: how far it is indented, and what it says.
#[derive(Clone, Debug)]
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

/// The value a text stands for, or what is wrong and where.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let content = without_comment(line).trim_end();
        let bare = content.trim_start();
        if bare.is_empty() || (bare == "---" && lines.is_empty()) {
            continue;
        }
        if bare.starts_with('\t') {
            return Err(format!("line {number}: indented by a tab"));
        }
        let indent = content.len() - bare.len();
        lines.push(Line { number, indent, text: bare.to_owned() });
    }
    lines.reverse();
    let Some(first) = lines.last() else {
        return Ok(Value::Null);
    };
    let indent = first.indent;
    let value = block(&mut lines, indent)?;
    match lines.last() {
        Some(line) => Err(format!("line {}: unexpected indentation", line.number)),
        None => Ok(value),
    }
}

/// A block whose lines, the next at the end of the list, are indented by so much.
fn block(lines: &mut Vec<Line>, indent: usize) -> Result<Value, String> {
    match lines.last() {
        Some(line) if is_item(&line.text) => list(lines, indent),
        _ => mapping(lines, indent),
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

fn list(lines: &mut Vec<Line>, indent: usize) -> Result<Value, String> {
    let mut items = Vec::new();
    while let Some(line) = lines.pop_if(|line| line.indent == indent && is_item(&line.text)) {
        let rest = line.text[1..].trim_start();
        if rest.is_empty() {
            items.push(nested(lines, indent, false)?);
        } else if is_item(rest) || key(rest).is_some() {
            // What follows the dash begins a block of its own.
            let inner = indent + line.text.len() - rest.len();
            lines.push(Line { number: line.number, indent: inner, text: rest.to_owned() });
            items.push(block(lines, inner)?);
        } else {
            items.push(word(rest, line.number)?);
        }
    }
    Ok(Value::Array(items))
}

fn mapping(lines: &mut Vec<Line>, indent: usize) -> Result<Value, String> {
    let mut map = Map::new();
    while let Some(line) = lines.pop_if(|line| line.indent == indent && !is_item(&line.text)) {
        let number = line.number;
        let (key, rest) =
            key(&line.text).ok_or_else(|| format!("line {number}: expected \"name: value\""))?;
        let value = match rest {
            "" => nested(lines, indent, true)?,
            rest => word(rest, number)?,
        };
        if map.insert(key.clone(), value).is_some() {
            return Err(format!("line {number}: {key} is given twice"));
        }
    }
    Ok(Value::Object(map))
}

/// What is indented below a line; a list below a name may be as far left as that.
fn nested(lines: &mut Vec<Line>, indent: usize, below_name: bool) -> Result<Value, String> {
    match lines.last() {
        Some(next) if next.indent > indent => {
            let indent = next.indent;
            block(lines, indent)
        }
        Some(next) if below_name && next.indent == indent && is_item(&next.text) => {
            list(lines, indent)
        }
        _ => Ok(Value::Null),
    }
}

/// A name and what follows its colon.
fn key(text: &str) -> Option<(String, &str)> {
    if let Some(quote) = text.chars().next().filter(|letter| "\"'".contains(*letter)) {
        let (name, rest) = text[1..].split_once(quote)?;
        return Some((name.to_owned(), rest.strip_prefix(':')?.trim_start()));
    }
    match text.split_once(": ") {
        Some((name, rest)) => Some((name.to_owned(), rest.trim_start())),
        None => Some((text.strip_suffix(':')?.to_owned(), "")),
    }
}

fn word(text: &str, number: usize) -> Result<Value, String> {
    let refuse = |what: &str| Err(format!("line {number}: {what}: {text}"));
    match text.chars().next() {
        Some('"') => match serde_json::from_str(text) {
            Ok(value) => Ok(value),
            Err(_) => refuse("a quoted word that JSON does not have"),
        },
        Some('\'') => match text[1..].strip_suffix('\'') {
            Some(inner) => Ok(Value::String(inner.replace("''", "'"))),
            None => refuse("a quote without its end"),
        },
        Some('&' | '*' | '!') => refuse("anchors, aliases and tags are not read"),
        Some('|' | '>') => refuse("texts of several lines are not read"),
        Some('[') => match text[1..].strip_suffix(']') {
            Some(inner) if !inner.contains(['[', '{', '"', '\'']) => {
                let words = inner.split(',').map(str::trim).filter(|word| !word.is_empty());
                words.map(|inner| word(inner, number)).collect()
            }
            _ => refuse("a list of more than words"),
        },
        Some('{') if text == "{}" => Ok(Value::Object(Map::new())),
        Some('{') => refuse("a mapping in braces is not read"),
        _ => Ok(plain(text)),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" | "~" => Value::Null,
        _ => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => Value::String(text.to_owned()),
        },
    }
}

/// A number sign begins a comment after a blank, and outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '#' && before.is_whitespace() => return &line[..at],
            None if "\"'".contains(letter) && " -[,:".contains(before) => quote = Some(letter),
            None => {}
        }
        before = letter;
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_become_values() {
        let text = "a: 1\nb:\n- x: y # no\n  z:\n    - \"#1\"\n    - it's\n- - p\n  - 'q''r'\nc: [ro, 2]\n\
                    d: {}\ne:\n\"f\": true\n";
        let expected = json!({
            "a": 1, "b": [{"x": "y", "z": ["#1", "it's"]}, ["p", "q'r"]], "c": ["ro", 2], "d": {},
            "e": null, "f": true,
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_not_read_is_named_by_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        };
        check("a: 1\n  b: 2\n", "line 2: unexpected indentation");
        check("a: |\n  x\n", "line 1: texts of several lines are not read: |");
        check("a: {b: c}\n", "line 1: a mapping in braces is not read: {b: c}");
        check("a: 1\na: 2\n", "line 2: a is given twice");
        check("just words\n", "line 1: expected \"name: value\"");
        check("a: 'b\n", "line 1: a quote without its end: 'b");
    }
}
