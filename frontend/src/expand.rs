//! Expansion of variables in the fields of an instruction.
//!
//! Knows where variables come from only as a function, and keeps the names that were asked for.

use std::collections::BTreeSet;

use crate::words::{Expansion, Lexer, WordError};

/// Expands words with the variables of one place in the file.
pub struct Expander<'a> {
    lexer: Lexer,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The variables that were found.
    pub matched: BTreeSet<String>,
    /// The variables that were not found, those with a default in place included.
    pub unmatched: BTreeSet<String>,
}

impl<'a> Expander<'a> {
    /// Makes an expander for a file with this escape character.
    pub fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let (matched, unmatched) = (BTreeSet::new(), BTreeSet::new());
        Self { lexer: Lexer::new(escape), lookup, matched, unmatched }
    }

    /// Expands to one word; quotes are removed.
    pub fn word(&mut self, word: &str) -> Result<String, WordError> {
        let expansion = self.lexer.expand_word(word, self.lookup)?;
        Ok(self.note(expansion))
    }

    /// Expands to any number of words.
    pub fn words(&mut self, word: &str) -> Result<Vec<String>, WordError> {
        self.lexer.expand_words(word, self.lookup)
    }

    /// Expands a heredoc's body: quotes are ordinary characters, and the escape is a backslash
    /// whatever the file says.
    pub fn text(&mut self, text: &str) -> Result<String, WordError> {
        let mut lexer = Lexer::new('\\');
        lexer.skip_quotes = true;
        let expansion = lexer.expand_word(text, self.lookup)?;
        Ok(self.note(expansion))
    }

    fn note(&mut self, expansion: Expansion) -> String {
        self.matched.extend(expansion.matched);
        self.unmatched.extend(expansion.unmatched);
        expansion.text
    }
}
