//! Which entries of a directory tree a walk keeps, given patterns to include and to exclude, and
//! what symbolic links drag in (fsutil's `filterFS` and `FollowLinks`).
//!
//! Reads nothing itself: the walker asks for each entry, and links are looked up by a closure.

use std::collections::BTreeSet;

use super::glob::{self, Glob};
use super::{Matches, PatternError, Patterns, clean};

/// The filter of one walk.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

/// What the walk does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Keep it, and every directory above it even where those were to be passed through.
    Keep,
    /// Leave it out, but look below if it is a directory.
    PassThrough,
    /// Leave it out with everything below.
    Prune,
}

/// What is known of a directory and matters to its entries.
#[derive(Clone, Debug)]
pub struct Directory {
    include: Option<Matches>,
    exclude: Option<Matches>,
}

impl Filter {
    /// Makes a filter; no pattern to include means that everything is.
    pub fn new<S: AsRef<str>>(include: &[S], exclude: &[S]) -> Result<Self, PatternError> {
        let parse = |patterns: &[S]| match patterns {
            [] => Ok(None),
            patterns => Patterns::new(patterns).map(Some),
        };
        Ok(Self { include: parse(include)?, exclude: parse(exclude)? })
    }

    /// Decides on the directory `path`, an entry of `parent`; at the top there is no parent.
    pub fn visit_directory(&self, path: &[u8], parent: Option<&Directory>) -> (Visit, Directory) {
        let include = self.include.as_ref().map(|patterns| {
            patterns.matches_below(path, parent.and_then(|parent| parent.include.as_ref()))
        });
        let exclude = self.exclude.as_ref().map(|patterns| {
            patterns.matches_below(path, parent.and_then(|parent| parent.exclude.as_ref()))
        });
        let directory = Directory { include, exclude };
        (self.decide(path, &directory), directory)
    }

    /// Decides on `path`, an entry of `parent` that is not a directory.
    pub fn keeps_file(&self, path: &[u8], parent: Option<&Directory>) -> bool {
        let included = self.include.as_ref().is_none_or(|patterns| {
            patterns.matches_file(path, parent.and_then(|parent| parent.include.as_ref()))
        });
        let excluded = || {
            self.exclude.as_ref().is_some_and(|patterns| {
                patterns.matches_file(path, parent.and_then(|parent| parent.exclude.as_ref()))
            })
        };
        included && !excluded()
    }

    fn decide(&self, path: &[u8], directory: &Directory) -> Visit {
        let mut visit = Visit::Keep;
        if let (Some(patterns), Some(found)) = (&self.include, &directory.include)
            && !found.matched
        {
            if !patterns.may_match_below(path) {
                return Visit::Prune;
            }
            visit = Visit::PassThrough;
        }
        if let (Some(patterns), Some(found)) = (&self.exclude, &directory.exclude)
            && found.matched
        {
            if !patterns.may_reinclude_below(path) {
                return Visit::Prune;
            }
            visit = Visit::PassThrough;
        }
        visit
    }
}

/// What stands at a path, as far as [`follow_links`] cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A symbolic link and the path in it.
    Link(String),
    /// A directory and the names in it.
    Directory(Vec<String>),
    /// A file of another kind, or nothing.
    Other,
}

/// How many links one path may lead through, as in the kernel; beyond that it is a loop.
const MAX_LINKS: usize = 40;

/// Returns `paths`, each of which may end in wildcards, and all that links on their way lead to.
///
/// Paths are relative to the root, links never lead out of it, and a path below another one of
/// the result is left out. `None` means that a link leads to the root itself, so all is needed.
/// `look_up` is asked for paths relative to the root, the root being `.`; links in the directory
/// part of what it is asked for have been followed already.
pub fn follow_links<E>(
    paths: &[String],
    mut look_up: impl FnMut(&str) -> Result<Entry, E>,
) -> Result<Option<Vec<String>>, E> {
    let mut needed = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut pending: Vec<_> = paths.iter().map(|path| (below_root(path), 0)).collect();
    while let Some((path, links)) = pending.pop() {
        if links > MAX_LINKS || !seen.insert(path.clone()) {
            continue;
        }
        let (reached, targets) = follow_to_first_link(&path, &mut look_up)?;
        needed.insert(reached);
        pending.extend(targets.into_iter().map(|target| (target, links + 1)));
    }
    Ok((!needed.contains(".")).then(|| without_nested(needed)))
}

/// Leaves out what lies below another path of the set.
fn without_nested(paths: BTreeSet<String>) -> Vec<String> {
    let nested = |path: &str| path.match_indices('/').any(|(end, _)| paths.contains(&path[..end]));
    paths.iter().filter(|path| !nested(path)).cloned().collect()
}

/// Goes down a path to its end or its first link; returns how far, and the paths to go on with.
fn follow_to_first_link<E>(
    path: &str,
    look_up: &mut impl FnMut(&str) -> Result<Entry, E>,
) -> Result<(String, Vec<String>), E> {
    let mut reached = ".".to_owned();
    let mut rest = Some(path);
    while let Some(remaining) = rest {
        let (name, further) = match remaining.split_once('/') {
            Some((name, further)) => (name, Some(further)),
            None => (remaining, None),
        };
        let mut targets = link_targets(&reached, name, look_up)?;
        reached = join(&reached, name);
        if !targets.is_empty() {
            for target in &mut targets {
                *target = below_root(&format!("{target}/{}", further.unwrap_or_default()));
            }
            return Ok((reached, targets));
        }
        rest = further;
    }
    Ok((reached, Vec::new()))
}

/// Returns where the entries of `dir` that `name` matches lead to.
fn link_targets<E>(
    dir: &str,
    name: &str,
    look_up: &mut impl FnMut(&str) -> Result<Entry, E>,
) -> Result<Vec<String>, E> {
    let names = match Glob::parse(name) {
        Ok(pattern) if glob::has_wildcards(name) => match look_up(dir)? {
            Entry::Directory(mut names) => {
                names.retain(|name| pattern.matches(name));
                names
            }
            _ => Vec::new(),
        },
        _ => vec![name.to_owned()],
    };
    let mut targets = Vec::new();
    for name in names {
        if let Entry::Link(target) = look_up(&join(dir, &name))? {
            let from = if target.starts_with('/') { "" } else { dir };
            targets.push(format!("{from}/{target}"));
        }
    }
    Ok(targets)
}

fn join(dir: &str, name: &str) -> String {
    if dir == "." { name.to_owned() } else { format!("{dir}/{name}") }
}

/// Cleans `path` as if the root of the walk were `/`, and returns it relative to that root.
fn below_root(path: &str) -> String {
    match clean(&format!("/{path}")).trim_start_matches('/') {
        "" => ".".to_owned(),
        path => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use serde_json::Value;

    use super::*;
    use crate::conformance;

    /// A tree in memory: path -> what stands there; sorted as a walk meets it.
    type Tree = BTreeMap<Vec<String>, Kind>;

    #[derive(Clone, Debug)]
    enum Kind {
        Directory,
        File,
        Link(String),
    }

    fn key(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    /// Walks as the context scan does: parents only where something in them is kept.
    fn walk(tree: &Tree, filter: &Filter) -> Vec<String> {
        let mut open: BTreeMap<Vec<String>, Directory> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        for (path, kind) in tree {
            let parent = &path[..path.len() - 1];
            if !parent.is_empty() && !open.contains_key(parent) {
                continue;
            }
            let text = path.join("/");
            let keep = if let Kind::Directory = kind {
                let (visit, directory) = filter.visit_directory(text.as_bytes(), open.get(parent));
                if visit != Visit::Prune {
                    open.insert(path.clone(), directory);
                }
                visit == Visit::Keep
            } else {
                filter.keeps_file(text.as_bytes(), open.get(parent))
            };
            if keep {
                kept.extend((1..=path.len()).map(|depth| path[..depth].to_vec()));
            }
        }
        kept.into_iter().map(|path| path.join("/")).collect()
    }

    fn look_up(tree: &Tree, path: &str) -> Result<Entry, Infallible> {
        let dir = if path == "." { Vec::new() } else { key(path) };
        let kind = if path == "." { Some(&Kind::Directory) } else { tree.get(&dir) };
        Ok(match kind {
            Some(Kind::Link(target)) => Entry::Link(target.clone()),
            Some(Kind::Directory) => {
                let inside =
                    |path: &&Vec<String>| path.len() == dir.len() + 1 && path.starts_with(&dir);
                Entry::Directory(
                    tree.keys().filter(inside).map(|path| path[dir.len()].clone()).collect(),
                )
            }
            Some(Kind::File) | None => Entry::Other,
        })
    }

    fn links(links: &[(&str, &str)]) -> Tree {
        let link = |(path, target): &(&str, &str)| (key(path), Kind::Link((*target).to_owned()));
        links.iter().map(link).collect()
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let check = |tree: &Tree, paths: &[&str], expected: Option<&[&str]>| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let found = follow_links(&paths, |path| look_up(tree, path)).expect("infallible");
            let expected =
                expected.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
            assert_eq!(found, expected, "{paths:?}");
        };
        let tree = links(&[("l", "dir"), ("up", "../../x"), ("loop", "loop/x"), ("all", "/")]);
        check(&tree, &["l/a", "l/b"], Some(&["dir/a", "dir/b", "l"]));
        check(&tree, &["up"], Some(&["up", "x"]));
        check(&tree, &["loop"], Some(&["loop"]));
        check(&tree, &["all"], None);
        check(&tree, &["a", "a/b"], Some(&["a"]));
    }

    #[test]
    fn every_case_of_the_copy_suite_holds() {
        for suite in conformance::rows("dockerignore", "fsutil_copy_include_exclude.json") {
            let dirs = conformance::strings(&suite["tree"]["dirs"]);
            let files = conformance::strings(&suite["tree"]["files"]);
            let dirs = dirs.iter().map(|path| (key(path), Kind::Directory));
            let tree = dirs.chain(files.iter().map(|path| (key(path), Kind::File))).collect();
            for case in suite["cases"].as_array().expect("cases") {
                let include = conformance::strings(&case["include"]);
                let exclude = conformance::strings(&case["exclude"]);
                let filter = Filter::new(&include, &exclude).expect("well formed");
                let mut expected = conformance::strings(&case["result"]);
                expected.sort_by_key(|path| key(path));
                assert_eq!(walk(&tree, &filter), expected, "{case}");
            }
        }
    }

    fn read_tree(lines: &Value) -> Tree {
        let read = |line: &String| {
            let words: Vec<&str> = line.split(' ').collect();
            let kind = match words[2] {
                "dir" => Kind::Directory,
                "symlink" => Kind::Link(words[3].to_owned()),
                _ => Kind::File,
            };
            (key(words[1]), kind)
        };
        conformance::strings(lines).iter().map(read).collect()
    }

    #[test]
    fn every_row_of_the_walk_suite_holds() {
        for row in conformance::rows("dockerignore", "fsutil_walk_filter.jsonl") {
            let tree = read_tree(&row["tree"]);
            let mut include = conformance::strings(&row["opt"]["IncludePatterns"]);
            let follow = conformance::strings(&row["opt"]["FollowPaths"]);
            let followed = follow_links(&follow, |path| look_up(&tree, path)).expect("infallible");
            include.extend(followed.into_iter().flatten());
            let exclude = conformance::strings(&row["opt"]["ExcludePatterns"]);
            let filter = Filter::new(&include, &exclude).expect("well formed");
            let lines = conformance::strings(&row["walk"]);
            let expected: Vec<_> =
                lines.iter().map(|line| line.split(' ').next_back().expect("a path")).collect();
            assert_eq!(walk(&tree, &filter), expected, "{row}");
        }
    }
}
