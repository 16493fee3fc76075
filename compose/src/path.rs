//! The way from a file's top to a value: what messages call it, and what rules go by.

use std::fmt;

/// A value's name and, by its parents, the names of everything around it. The top has no name.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The top of a file.
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Key("") };

    /// The value under a key.
    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// An item of a list.
    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// The names from the top; an item of a list is `[]`.
    pub(crate) fn steps(&self) -> Vec<&'a str> {
        let mut steps = Vec::with_capacity(8);
        let mut at = *self;
        while let Some(parent) = at.parent {
            steps.push(match at.step {
                Step::Key(key) => key,
                Step::Index(_) => "[]",
            });
            at = *parent;
        }
        steps.reverse();
        steps
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        parent.fmt(f)?;
        match self.step {
            Step::Key(key) if parent.parent.is_none() => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_reads_like_the_file() {
        let services = Path::ROOT.key("services");
        let web = services.key("web");
        let ports = web.key("ports");
        let first = ports.index(0);
        assert_eq!(first.to_string(), "services.web.ports[0]");
        assert_eq!(first.steps(), ["services", "web", "ports", "[]"]);
        assert_eq!(Path::ROOT.to_string(), "");
    }
}
