//! Lists of path patterns as ignore files, `--exclude` and include lists use them (moby's
//! `patternmatcher`), with [`glob`] below them and [`walk`] above.
//!
//! Paths are bytes with slashes, relative to the root of the walk. Nothing here touches a disk.

pub mod glob;
pub mod walk;

use glob::Glob;

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A bracket or an escape is not closed, or a range has no end.
    #[error("syntax error in pattern \"{pattern}\"")]
    Malformed {
        /// The pattern as it was written.
        pattern: String,
    },
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
}

/// An ordered list of patterns; `!` before one takes back what earlier ones matched.
///
/// A path matches if it or one of its parent directories does, and the last pattern that matches
/// decides.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    exception: bool,
    shape: Shape,
}

/// The four ways to match, cheapest first.
#[derive(Clone, Debug)]
enum Shape {
    Exact,
    /// `dir/**`: the text without the stars begins the path.
    Prefix,
    /// `**/name`: the text without the stars ends the path.
    Suffix,
    Glob(Glob),
}

/// What [`Patterns::matches_below`] found for a directory, to be handed on to its entries.
#[derive(Clone, Debug)]
pub struct Matches {
    /// Whether the directory itself matches.
    pub matched: bool,
    by_pattern: Vec<bool>,
}

impl Patterns {
    /// Parses patterns in their order; blank ones are left out.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let patterns = patterns
            .iter()
            .map(|pattern| pattern.as_ref().trim())
            .filter(|pattern| !pattern.is_empty())
            .map(|pattern| Pattern::parse(&clean(pattern)))
            .collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// Tells whether the list has no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Tells whether some pattern begins with `!`.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Tells whether `path` or one of its parents matches and no later `!` takes that back.
    pub fn matches_or_parent_matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.evaluate(path.as_ref(), None, |_| {})
    }

    /// Does the same for an entry of a directory whose own result, `parent`, is known.
    ///
    /// Without a parent this looks at all directories above `path` itself. As in moby, the two
    /// ways differ where a `!` matches a directory that nothing before it had matched: a walk
    /// forgets it, so of `["a/x", "!a"]` only the first counts for `a/x/y`.
    pub fn matches_below(&self, path: impl AsRef<[u8]>, parent: Option<&Matches>) -> Matches {
        let mut by_pattern = vec![false; self.patterns.len()];
        let matched = self.evaluate(path.as_ref(), parent, |index| by_pattern[index] = true);
        Matches { matched, by_pattern }
    }

    /// Tells what [`Self::matches_below`] would, for a path that has nothing below it.
    pub fn matches_file(&self, path: impl AsRef<[u8]>, parent: Option<&Matches>) -> bool {
        self.evaluate(path.as_ref(), parent, |_| {})
    }

    /// Tells whether something below `dir` may be taken back by a `!`.
    ///
    /// A matching directory for which this is false need not be read.
    pub fn may_reinclude_below(&self, dir: impl AsRef<[u8]>) -> bool {
        let dir = dir.as_ref();
        self.patterns.iter().any(|pattern| pattern.exception && pattern.could_match_below(dir))
    }

    /// Tells whether something below `dir`, which does not match itself, may match.
    pub fn may_match_below(&self, dir: impl AsRef<[u8]>) -> bool {
        let dir = dir.as_ref();
        self.patterns.iter().any(|pattern| !pattern.exception && pattern.could_match_below(dir))
    }

    fn evaluate(
        &self,
        path: &[u8],
        parent: Option<&Matches>,
        mut record: impl FnMut(usize),
    ) -> bool {
        let mut matched = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.by_pattern[index]);
            let matches = || match parent {
                Some(_) => pattern.matches(path),
                None => pattern.matches_path_or_parent(path),
            };
            // Only a pattern that would change the result is worth matching.
            if inherited || (pattern.exception == matched && matches()) {
                record(index);
                matched = !pattern.exception;
            }
        }
        matched
    }
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, PatternError> {
        let (exception, text) = match pattern.strip_prefix('!') {
            Some("") => return Err(PatternError::EmptyException),
            Some(text) => (true, text),
            None => (false, pattern),
        };
        Ok(Self { text: text.to_owned(), exception, shape: Shape::of(text)? })
    }

    fn matches_path_or_parent(&self, path: &[u8]) -> bool {
        if path == b"." {
            return false;
        }
        let is_slash = |(index, byte): (usize, &u8)| (*byte == b'/').then_some(index);
        let mut parents = path.iter().enumerate().filter_map(is_slash).map(|slash| &path[..slash]);
        self.matches(path) || parents.any(|parent| self.matches(parent))
    }

    fn matches(&self, path: &[u8]) -> bool {
        let text = self.text.as_bytes();
        match &self.shape {
            Shape::Exact => path == text,
            Shape::Prefix => path.starts_with(&text[..text.len() - 2]),
            Shape::Suffix => {
                let end = &text[2..];
                path.ends_with(end) || end.strip_prefix(b"/") == Some(path)
            }
            Shape::Glob(glob) => glob.matches(path),
        }
    }

    fn could_match_below(&self, dir: &[u8]) -> bool {
        let below = |text: &[u8]| text.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"));
        let text = self.text.as_bytes();
        match &self.shape {
            Shape::Exact => below(text),
            Shape::Prefix => {
                let beginning = &text[..text.len() - 2];
                below(beginning) || [dir, b"/"].concat().starts_with(beginning)
            }
            Shape::Suffix => true,
            Shape::Glob(glob) => glob.could_match_below(dir),
        }
    }
}

impl Shape {
    fn of(text: &str) -> Result<Self, PatternError> {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if plain(text) {
            Ok(Self::Exact)
        } else if text.strip_prefix("**").is_some_and(plain) {
            Ok(Self::Suffix)
        } else if text.strip_suffix("**").is_some_and(plain) {
            Ok(Self::Prefix)
        } else {
            Glob::parse_double_stars(text).map(Self::Glob)
        }
    }
}

/// Returns the shortest path equal to `path` by its text alone, as Go's `path.Clean` does.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests;
