//! What stands between `${` and `}`: a name, and how its value is tested, cut or changed.
//!
//! A part of [`crate::words`], which knows quotes and escapes and calls this one.

use crate::shell_pattern::{Extent, ShellPattern};
use crate::words::{Walk, WordErrorKind};

impl Walk<'_> {
    /// What follows `${`.
    pub(crate) fn braced(&mut self) -> Result<String, WordErrorKind> {
        match self.chars.peek() {
            None => return Err(WordErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(WordErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(WordErrorKind::MissingBrace),
            Some('}') => Ok(match self.value(&name) {
                None if self.rules.skip_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(modifier @ ('+' | '-' | '?')) => self.conditional(&name, modifier, false),
            Some(':') => match self.chars.next() {
                None => Err(WordErrorKind::MissingBrace),
                Some(modifier @ ('#' | '%')) => {
                    Err(WordErrorKind::UnsupportedModifier(format!(":{modifier}")))
                }
                Some(modifier) => self.conditional(&name, modifier, true),
            },
            Some(modifier @ ('#' | '%')) => self.trimmed(&name, modifier),
            Some('/') => self.replaced(&name),
            Some(other) => Err(WordErrorKind::UnsupportedModifier(other.to_string())),
        }
    }

    /// `-`, `+` and `?`; with a colon before them an empty value counts as unset.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        colon: bool,
    ) -> Result<String, WordErrorKind> {
        let word = self.operand('}', false, WordErrorKind::MissingBrace)?;
        let modifiers = format!("{}{modifier}", if colon { ":" } else { "" });
        let value = self.value(name);
        if value.is_none() && self.rules.skip_unset {
            return Ok(format!("${{{name}{modifiers}{word}}}"));
        }
        let usable = value.as_ref().filter(|value| !(colon && value.is_empty())).cloned();
        match modifier {
            '-' => Ok(usable.unwrap_or(word)),
            '+' => Ok(usable.map(|_| word).unwrap_or_default()),
            '?' => usable.ok_or_else(|| {
                let lack = if value.is_none() { "unset" } else { "empty" };
                let default = format!("is not allowed to be {lack}");
                let message = if word.is_empty() { default } else { word };
                WordErrorKind::Required { name: name.to_owned(), message }
            }),
            _ => Err(WordErrorKind::UnsupportedModifier(modifiers)),
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trimmed(&mut self, name: &str, modifier: char) -> Result<String, WordErrorKind> {
        let word = self.operand('}', true, WordErrorKind::MissingBrace)?;
        let value = self.value(name);
        if value.is_none() && self.rules.skip_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let (source, extent) = match word.strip_prefix(modifier) {
            Some(rest) => (rest, Extent::Longest),
            None => (word.as_str(), Extent::Shortest),
        };
        let pattern = pattern(source)?;
        Ok(match modifier {
            '#' => pattern.trim_prefix(&value, extent),
            _ => pattern.trim_suffix(&value, extent),
        })
    }

    /// `/pattern/text` and, for all matches, `//pattern/text`.
    fn replaced(&mut self, name: &str) -> Result<String, WordErrorKind> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let source = self.operand('/', true, WordErrorKind::MissingSlash)?;
        let with = self.operand('}', true, WordErrorKind::MissingBrace)?;
        let value = self.value(name);
        if value.is_none() && self.rules.skip_unset {
            return Ok(format!("${{{name}/{source}/{with}}}"));
        }
        let value = value.unwrap_or_default();
        let pattern = pattern(&source)?;
        Ok(if all {
            pattern.replace_all(&value, &with)
        } else {
            pattern.replace_first(&value, &with)
        })
    }

    /// Expands the part of a `${...}` that ends with `stop`; `missing` is the error where the
    /// word ends before, also inside a quote.
    fn operand(
        &mut self,
        stop: char,
        raw_escapes: bool,
        missing: WordErrorKind,
    ) -> Result<String, WordErrorKind> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.chars.peek().is_none() => Err(missing),
            Err(error) => Err(error),
        }
    }
}

fn pattern(source: &str) -> Result<ShellPattern, WordErrorKind> {
    ShellPattern::parse(source)
        .map_err(|error| WordErrorKind::InvalidPattern { pattern: source.to_owned(), error })
}
