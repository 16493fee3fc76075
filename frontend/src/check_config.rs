//! Which build checks run and whether they fail the build: `# check=skip=A,B;error=true`.
//!
//! Knows rules by name only, and takes names that no rule has.

use std::collections::BTreeSet;

use crate::flags::parse_bool;

/// The options of the build checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckConfig {
    /// Rules that do not run.
    pub skip: BTreeSet<String>,
    /// Whether no rule runs, experimental ones aside.
    pub skip_all: bool,
    /// Experimental rules that run.
    pub experimental: BTreeSet<String>,
    /// Whether all experimental rules run.
    pub experimental_all: bool,
    /// Whether a warning fails the build.
    pub error: bool,
}

/// Options that cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckConfigError {
    /// An option that does not exist, or has no value.
    #[error("invalid check option {0:?}")]
    Option(String),
    /// A value of `error` that is not a truth value.
    #[error("failed to parse check option {0:?}: invalid syntax")]
    Error(String),
}

impl CheckConfig {
    /// Reads `skip=names;experimental=names;error=bool`, each part optional, `all` for any name.
    pub fn parse(text: &str) -> Result<Self, CheckConfigError> {
        let mut config = Self::default();
        if text.trim().is_empty() {
            return Ok(config);
        }
        for part in text.trim().splitn(3, ';') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| CheckConfigError::Option(part.to_owned()))?;
            let value = value.trim();
            match key.trim() {
                "skip" if value == "all" => config.skip_all = true,
                "skip" => config.skip = names(value),
                "experimental" if value == "all" => config.experimental_all = true,
                "experimental" => config.experimental = names(value),
                "error" => {
                    config.error = parse_bool(value)
                        .ok_or_else(|| CheckConfigError::Error(part.to_owned()))?;
                }
                key => return Err(CheckConfigError::Option(key.to_owned())),
            }
        }
        Ok(config)
    }

    /// Returns these options with what a comment `check=...` above one instruction adds to them.
    ///
    /// What stands behind a space in the comment is its reason. Options that cannot be read are
    /// an ordinary comment.
    pub(crate) fn with_comments(&self, comments: &[String]) -> Self {
        let options = comments.iter().find_map(|comment| check_comment(comment)).map(Self::parse);
        let Some(Ok(added)) = options else {
            return self.clone();
        };
        Self {
            skip: &self.skip | &added.skip,
            skip_all: self.skip_all || added.skip_all,
            experimental: &self.experimental | &added.experimental,
            experimental_all: self.experimental_all || added.experimental_all,
            error: self.error,
        }
    }

    /// Returns whether a rule runs.
    pub(crate) fn allows(&self, rule: &str, experimental: bool) -> bool {
        if experimental {
            self.experimental_all || self.experimental.contains(rule)
        } else {
            !self.skip_all && !self.skip.contains(rule)
        }
    }
}

fn names(list: &str) -> BTreeSet<String> {
    list.split(',').map(|name| name.trim().to_owned()).collect()
}

fn check_comment(comment: &str) -> Option<&str> {
    let (name, value) = comment.split_once('=')?;
    let options = value.trim().split(' ').next()?;
    name.trim_end().eq_ignore_ascii_case("check").then_some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = CheckConfig::parse(text).map_err(|error| error.to_string());
            let found = found.map(|config| {
                let CheckConfig { skip, skip_all, experimental, experimental_all, error } = config;
                format!("{skip:?} {skip_all} {experimental:?} {experimental_all} {error}")
            });
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check("", Ok("{} false {} false false"));
        check("skip=A, B ; error=1", Ok("{\"A\", \"B\"} false {} false true"));
        check("skip=all;experimental=all", Ok("{} true {} true false"));
        check("experimental=X", Ok("{} false {\"X\"} false false"));
        check("skip", Err("invalid check option \"skip\""));
        check("skp=A", Err("invalid check option \"skp\""));
        check("error=maybe", Err("failed to parse check option \"error=maybe\": invalid syntax"));
    }

    #[test]
    fn comments_add_to_options() {
        let config = CheckConfig::parse("skip=A").unwrap();
        let merged =
            config.with_comments(&["a remark".to_owned(), "check=skip=B // because".to_owned()]);
        assert!(
            !merged.allows("A", false) && !merged.allows("B", false) && merged.allows("C", false)
        );
        assert_eq!(config.with_comments(&["check=oops".to_owned()]), config);
    }
}
