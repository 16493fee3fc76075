//! Variables in text: `$V`, `${V}`, the operators `:-` `-` `:+` `+` `:?` `?`, and `$$`.
//!
//! Knows nothing of compose files: `.env` files and values are expanded by the same rules.

use crate::error::Wrong;

/// Where the values of variables come from, and who hears of those that are not set.
pub(crate) struct Variables<'a> {
    /// The value of a variable.
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Told the name of each variable that was needed and is not set.
    pub(crate) unset: &'a mut dyn FnMut(&str),
}

/// What follows a variable's name between braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Default,
    Alternative,
    Required,
}

/// One `${...}` taken apart; the word is not expanded.
#[derive(Debug, PartialEq, Eq)]
struct Braced<'a> {
    name: &'a str,
    /// The operator, whether an empty value counts as unset (`:`), and the word.
    operation: Option<(Operator, bool, &'a str)>,
}

/// Text with its variables replaced.
pub(crate) fn substitute(template: &str, variables: &mut Variables<'_>) -> Result<String, Wrong> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let invalid = || Wrong::Template { template: template.to_owned() };
            let end = closing(after).ok_or_else(invalid)?;
            let braced = braced(&after[..end]).ok_or_else(invalid)?;
            out.push_str(&expand(&braced, variables)?);
            rest = &after[end + 1..];
        } else {
            let end = name_end(rest);
            match end {
                // A lone dollar is one.
                0 => out.push('$'),
                _ => out.push_str(&value(&rest[..end], variables)),
            }
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(name: &str, variables: &mut Variables<'_>) -> String {
    (variables.lookup)(name).unwrap_or_else(|| {
        (variables.unset)(name);
        String::new()
    })
}

fn expand(braced: &Braced<'_>, variables: &mut Variables<'_>) -> Result<String, Wrong> {
    let Some((operator, empty_is_unset, word)) = braced.operation else {
        return Ok(value(braced.name, variables));
    };
    let found = (variables.lookup)(braced.name);
    let is_set = found.as_ref().is_some_and(|value| !(empty_is_unset && value.is_empty()));
    match (operator, is_set) {
        (Operator::Default | Operator::Required, true) => Ok(found.unwrap_or_default()),
        (Operator::Default, false) | (Operator::Alternative, true) => substitute(word, variables),
        (Operator::Alternative, false) => Ok(String::new()),
        (Operator::Required, false) => {
            let reason = substitute(word, variables)?;
            Err(Wrong::MissingVariable { variable: braced.name.to_owned(), reason })
        }
    }
}

/// As deep as variables may stand in each other's words.
const DEEPEST: usize = 200;

/// Where the brace closes that was opened just before; the last one if they do not pair up. None
/// if it does not, or if there are too many inside of each other.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if depth == DEEPEST => return None,
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    text.rfind('}')
}

fn braced(text: &str) -> Option<Braced<'_>> {
    let end = name_end(text);
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    if rest.is_empty() {
        return Some(Braced { name, operation: None });
    }
    let (empty_is_unset, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let operator = match rest.as_bytes().first()? {
        b'-' => Operator::Default,
        b'+' => Operator::Alternative,
        b'?' => Operator::Required,
        _ => return None,
    };
    Some(Braced { name, operation: Some((operator, empty_is_unset, &rest[1..])) })
}

/// The length of the variable's name that text begins with.
fn name_end(text: &str) -> usize {
    match text.as_bytes().first() {
        Some(b'_' | b'a'..=b'z' | b'A'..=b'Z') => {}
        _ => return 0,
    }
    text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
}

/// A variable that a compose file uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Variable {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// What it is where it is not set.
    #[serde(rename = "DefaultValue")]
    pub default: String,
    /// What is put in its place where it is set.
    #[serde(rename = "PresenceValue")]
    pub alternative: String,
    /// Whether the file cannot be used without it.
    #[serde(rename = "Required")]
    pub required: bool,
}

/// The variables of a text, also those inside defaults.
pub(crate) fn variables(template: &str, found: &mut dyn FnMut(Variable)) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = closing(after) else { return };
            if let Some(braced) = braced(&after[..end]) {
                note(&braced, found);
            }
            rest = &after[end + 1..];
        } else {
            let end = name_end(rest);
            if end > 0 {
                found(Variable { name: rest[..end].to_owned(), ..Variable::default() });
            }
            rest = &rest[end..];
        }
    }
}

fn note(braced: &Braced<'_>, found: &mut dyn FnMut(Variable)) {
    let mut variable = Variable { name: braced.name.to_owned(), ..Variable::default() };
    let mut nested = "";
    match braced.operation {
        Some((Operator::Default, _, word)) => {
            variable.default = word.to_owned();
            nested = word;
        }
        Some((Operator::Alternative, _, word)) => {
            variable.alternative = word.to_owned();
            nested = word;
        }
        Some((Operator::Required, ..)) => variable.required = true,
        None => {}
    }
    found(variable);
    variables(nested, found);
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
