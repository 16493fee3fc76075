//! The files that a copy or a bind mount takes from: named (here), listed (`walk`) and kept in little
//! room (`selected`), and digested (`digests`).
//!
//! A [`Tree`] is a build context, a stage's root file system, a download or a git checkout. What
//! is selected depends on names, kinds, modes and content, never on times, inodes or where the
//! tree is. Knows nothing of where the files go.

mod digests;
mod selected;
mod walk;

pub use digests::digest_of_attributes;
pub(crate) use selected::Xattrs;
pub use selected::{Entry, Selected};

use std::io;
use std::sync::RwLock;

use cache::context::ContextIndex;
use rustix::fs::OFlags;

use crate::pattern::glob::{self, Glob};
use crate::pattern::walk::{Directory, Filter, Visit};
use crate::view::{Metadata, View, join, split};

/// Fewer files or directories than this are worked on without waking the thread pool.
const FEW: usize = 16;

/// A path of as many bytes has no place in a system call with the zero at its end (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// As many bytes of a path that is too long tell which it is.
const SHOWN_OF_TOO_LONG: usize = 200;

/// A tree to take files from.
pub struct Tree {
    view: View,
    ignore: Filter,
    owners: Owners,
    index: Option<RwLock<ContextIndex>>,
}

/// Whose the selected files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Theirs.
    Kept,
    /// Root's: a build context's owners mean nothing in an image.
    Root,
}

/// Why files cannot be selected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is at the path.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// The tree was removed while it was in use.
    #[error("the directory was removed")]
    Removed,
    /// The path is a malformed pattern.
    #[error(transparent)]
    Pattern(#[from] crate::pattern::PatternError),
    /// The tree cannot be read.
    #[error("cannot read \"{path}\"")]
    Read {
        /// The path in the tree.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The tree cannot be looked into.
    #[error("cannot look into the source")]
    Io(#[from] io::Error),
}

/// Which files of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Selector<'a> {
    /// A path or pattern; with `parents`, `/./` ends what is not copied along.
    pub path: &'a str,
    /// Whether the path may be a pattern.
    pub wildcards: bool,
    /// Patterns of what is left out.
    pub excludes: &'a [String],
    /// Whether parent directories are kept.
    pub parents: bool,
}

impl Error {
    fn read(path: &[u8], source: io::Error) -> Self {
        Self::Read { path: shown(path), source }
    }
}

impl Tree {
    /// A tree all of which can be seen.
    pub fn new(view: View, owners: Owners) -> Self {
        Self { view, ignore: Filter::default(), owners, index: None }
    }

    /// A build context: what `ignore` leaves out is not there, owners do not count, and files seen
    /// before are known by their stat.
    pub fn context(view: View, ignore: Filter, index: ContextIndex) -> Self {
        Self { view, ignore, owners: Owners::Root, index: Some(RwLock::new(index)) }
    }

    /// What is behind the tree.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whose the files are.
    pub fn owners(&self) -> Owners {
        self.owners
    }

    /// Finds what a selector names. A pattern that matches nothing gives an empty list, a path
    /// without anything at it is an error.
    pub fn select(&self, selector: &Selector<'_>) -> Result<Vec<Selected>, Error> {
        // To us, who hold it open, a directory that was removed looks like an empty one.
        if self.view.metadata(b"")?.is_some_and(|root| root.links == 0) {
            return Err(Error::Removed);
        }
        let (root, include) = match selector.parents {
            false => (selector.path, None),
            true => {
                let (root, pattern) =
                    selector.path.split_once("/./").unwrap_or(("/", selector.path));
                // All of the root is what it is without a pattern.
                (root, Some(clean(pattern)).filter(|pattern| !pattern.is_empty()))
            }
        };
        let filter = Filter::new(include.as_slice(), selector.excludes)?;
        let mut selected = Vec::new();
        for path in self.matches(root, selector.wildcards)? {
            let name = split(&path).1.to_vec();
            let resolved = self.view.resolve(&path)?;
            let Some(metadata) = self.visible(&resolved)? else {
                return Err(Error::NotFound(shown(&path)));
            };
            let named_file = !metadata.is_dir() && selector.wildcards;
            if named_file && glob::has_wildcards(root) && !filter.keeps_file(&name, None) {
                continue;
            }
            let mut one = Selected::new(&name, &resolved, metadata);
            if one.is_dir() {
                walk::list_below(self, &filter, &mut one)?;
            }
            selected.push(one);
        }
        if include.is_some()
            && !glob::has_wildcards(selector.path)
            && selected.iter().all(|one| one.count() == 1)
        {
            return Err(Error::NotFound(shown(selector.path.replace("/./", "/").as_bytes())));
        }
        Ok(selected)
    }

    /// The paths that a pattern matches, sorted; a path that is no pattern matches itself.
    fn matches(&self, pattern: &str, wildcards: bool) -> Result<Vec<Vec<u8>>, Error> {
        let clean = clean(pattern);
        if !wildcards || !glob::has_wildcards(&clean) {
            return Ok(vec![unescape(&clean, wildcards)]);
        }
        let (fixed, wild) = split_at_wildcard(&clean);
        let dir = self.view.resolve(fixed.as_bytes())?;
        if !self.visible(&dir)?.is_some_and(|metadata| metadata.is_dir()) {
            return Ok(Vec::new());
        }
        let parts: Vec<_> = wild.split('/').map(Glob::parse).collect::<Result<_, _>>()?;
        // Directories by their path without links, and as they were named.
        let mut dirs = vec![(dir, fixed.into_bytes())];
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            let mut matched = Vec::new();
            for (dir, named) in dirs {
                for name in self.names(&dir)?.into_iter().filter(|name| part.matches(name)) {
                    let path = join(&dir, &name);
                    if self.visible(&path)?.is_some_and(|found| is_last || found.is_dir()) {
                        matched.push((path, join(&named, &name)));
                    }
                }
            }
            dirs = matched;
        }
        Ok(dirs.into_iter().map(|(_, named)| named).collect())
    }

    /// What is at a path without links, unless it is ignored.
    fn visible(&self, path: &[u8]) -> Result<Option<Metadata>, Error> {
        let metadata = self.view.metadata(path).map_err(|source| Error::read(path, source))?;
        let Some(metadata) = metadata else { return Ok(None) };
        if path.is_empty() {
            return Ok(Some(metadata));
        }
        let (parent, _) = split(path);
        let above = self.ignore_state(parent);
        let keep = if metadata.is_dir() {
            self.ignore.visit_directory(path, above.as_ref()).0 != Visit::Prune
        } else {
            self.ignore.keeps_file(path, above.as_ref())
        };
        Ok(keep.then_some(metadata))
    }

    /// What the ignore rules know of a directory's entries.
    fn ignore_state(&self, dir: &[u8]) -> Option<Directory> {
        let mut state: Option<Directory> = None;
        if dir.is_empty() {
            return None;
        }
        let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([dir.len()]) {
            state = Some(self.ignore.visit_directory(&dir[..end], state.as_ref()).1);
        }
        state
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Box<[u8]>>, Error> {
        let read = || -> io::Result<_> {
            let fd = self.view.open_at(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
            walk::names(fd)
        };
        read().map_err(|source| Error::read(dir, source))
    }
}

/// A path as people are shown it: absolute within its tree, and of one that is longer than the
/// kernel takes only the beginning.
pub(crate) fn shown(path: &[u8]) -> String {
    let end = if path.len() < LONGEST_PATH { path.len() } else { SHOWN_OF_TOO_LONG };
    let more = if end < path.len() { "…" } else { "" };
    format!("/{}{more}", String::from_utf8_lossy(&path[..end]).trim_start_matches('/'))
}

/// Go's `path.Clean` of a path taken from the root, without the leading slash: `..` ends there.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Removes the backslashes that keep wildcards from being such.
fn unescape(path: &str, wildcards: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' if wildcards => bytes.extend(rest.next()),
            byte => bytes.push(byte),
        }
    }
    bytes
}

/// Splits a pattern before its first component with a wildcard.
fn split_at_wildcard(pattern: &str) -> (String, &str) {
    let mut end = 0;
    for part in pattern.split_inclusive('/') {
        if glob::has_wildcards(part) {
            break;
        }
        end += part.len();
    }
    let fixed = unescape(pattern[..end].trim_end_matches('/'), true);
    (String::from_utf8(fixed).expect("removing ASCII keeps UTF-8"), &pattern[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn check(ignore: &[&str], selector: Selector<'_>, expected: &str) {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path();
        for file in ["a/x.txt", "a/y.md", "a/b/z.txt", "c/x.txt", "[odd]", "keep/me/f"] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, file).expect("write");
        }
        symlink("/a/b", root.join("link")).expect("symlink");
        let ignore = Filter::new(&[], ignore).expect("patterns");
        let tree = Tree {
            view: View::open(root).expect("open"),
            ignore,
            owners: Owners::Root,
            index: None,
        };
        let found = match tree.select(&selector) {
            Err(error) => error.to_string(),
            Ok(selected) => selected
                .iter()
                .map(|one| {
                    let below = one.entries().map(|entry| entry.path_below(b""));
                    let below: Vec<_> =
                        below.map(|path| String::from_utf8_lossy(&path).into_owned()).collect();
                    format!("{}:{}", String::from_utf8_lossy(&one.name), below.join(","))
                })
                .collect::<Vec<_>>()
                .join(" "),
        };
        assert_eq!(found, expected, "{selector:?} ignoring {ignore:?}", ignore = tree.ignore);
    }

    fn path(path: &str) -> Selector<'_> {
        Selector { path, wildcards: true, excludes: &[], parents: false }
    }

    #[test]
    fn paths_and_patterns_select_files() {
        check(&[], path("a"), "a:,b,b/z.txt,x.txt,y.md");
        check(&[], path("./a/../a/."), "a:,b,b/z.txt,x.txt,y.md");
        check(&[], path("*/x.txt"), "x.txt: x.txt:");
        check(&[], path("../../a/x.txt"), "x.txt:");
        check(&[], path("[[]odd]"), "[odd]:");
        check(&[], path("link"), "link:,z.txt");
        check(&[], path("link/z.txt"), "z.txt:");
        check(&[], path("nope"), "\"/nope\": not found");
        check(&[], path("nope*"), "");
    }

    #[test]
    fn a_tree_that_was_removed_is_not_an_empty_one() {
        let dir = tempfile::tempdir().expect("tempdir");
        let tree = Tree::new(View::open(dir.path()).expect("open"), Owners::Root);
        assert_eq!(tree.select(&path("/")).expect("empty").len(), 1);
        dir.close().expect("remove");
        let error = tree.select(&path("/")).expect_err("removed");
        assert_eq!(error.to_string(), "the directory was removed");
    }

    /// Directories in each other, the last one with a file.
    fn nested(root: &std::path::Path, depth: usize) {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mode = rustix::fs::Mode::RWXU;
        let mut at = rustix::fs::open(root, flags, mode).expect("open");
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, "d", mode).expect("mkdir");
            at = rustix::fs::openat(&at, "d", flags, mode).expect("open");
        }
        rustix::fs::openat(&at, "file", OFlags::CREATE, mode).expect("create");
    }

    #[test]
    fn no_tree_is_too_deep_for_the_stack_and_what_has_no_path_is_an_error() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [deep, deeper] = ["deep", "deeper"].map(|name| dir.path().join(name));
        for (root, depth) in [(&deep, 1800), (&deeper, 2500)] {
            std::fs::create_dir(root).expect("mkdir");
            nested(root, depth);
        }
        let select = move || {
            let tree = |root| Tree::new(View::open(root).expect("open"), Owners::Root);
            let all = tree(&deep).select(&path("d")).expect("select").remove(0);
            assert_eq!(all.count(), 1801);
            assert!(all.entry(1800).path().ends_with(b"d/d/file"));
            let pattern = "*/".repeat(1800) + "f*";
            let matched = tree(&deep).select(&path(&pattern)).expect("select");
            assert_eq!(matched[0].name, b"file");
            tree(&deeper).select(&path("d")).expect_err("a path that is too long").to_string()
        };
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(select);
        let error = thread.expect("spawn").join().expect("no panic");
        assert!(error.starts_with("cannot read \"/d/d/d/"), "{error}");
        assert!(error.ends_with("…\"") && error.len() < 300, "{error}");
        cache::removal::remove_dir_all(dir.path().join("deeper")).expect("remove");
    }

    #[test]
    fn ignored_files_are_not_there_even_by_name() {
        check(&["a"], path("a"), "\"/a\": not found");
        check(&["a", "!a/b"], path("a"), "a:,b,b/z.txt");
        check(&["**/*.txt"], path("a"), "a:,b,y.md");
        check(&["a/x.txt"], path("*/x.txt"), "x.txt:");
        check(&["a"], path("link/z.txt"), "\"/link/z.txt\": not found");
    }

    #[test]
    fn excludes_and_parents_shape_what_is_below() {
        let excludes = ["*.md".to_owned(), "b".to_owned()];
        check(&[], Selector { excludes: &excludes, ..path("a") }, "a:,x.txt");
        let parents = |path| Selector { path, wildcards: true, excludes: &[], parents: true };
        check(&[], parents("keep/me/f"), ":,keep,keep/me,keep/me/f");
        check(&[], parents("keep/./me/f"), "keep:,me,me/f");
        check(&[], parents("**/*.txt"), ":,a,a/b,a/b/z.txt,a/x.txt,c,c/x.txt");
        check(&[], parents("keep/nope"), "\"/keep/nope\": not found");
    }
}
