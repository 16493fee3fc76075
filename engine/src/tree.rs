//! The files that a copy or a bind mount takes from: selected and listed, and digested (`digests`).
//!
//! A [`Tree`] is a build context, a stage's root file system, a download or a git checkout. What
//! is selected depends on names, kinds, modes and content, never on times, inodes or where the
//! tree is. Knows nothing of where the files go.

mod digests;

pub use digests::digest_of_attributes;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::RwLock;

use cache::context::ContextIndex;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::fs::{AtFlags, Dir, FileType, OFlags};

use crate::pattern::glob::{self, Glob};
use crate::pattern::walk::{Directory, Filter, Visit};
use crate::view::{Metadata, View, join, metadata_at, split};

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

/// A file or directory that a selector named, with all that is selected below it. A large tree has
/// too many entries for each to be memory of its own: they stand in the listings of their
/// directories.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Its last component, as it was named.
    pub name: Vec<u8>,
    /// Where in a path the part below what was named starts.
    below: usize,
    /// What it is in, with it alone; then it and all directories below it.
    listings: Vec<Listing>,
    /// Listings and places in them: itself first, then everything below it, parents before
    /// children, names sorted.
    order: Vec<(u32, u32)>,
    /// Which listings are of directories with extended attributes, by where these are in others.
    with_xattrs: BTreeMap<(u32, u32), u32>,
}

/// What is selected in one directory, by name.
#[derive(Clone, Debug, Default)]
struct Listing {
    /// The directory's path.
    path: Vec<u8>,
    /// All names, one after the other.
    names: Vec<u8>,
    /// Where among the names each ends.
    ends: Vec<u32>,
    metadata: Vec<Metadata>,
    /// The directory's own extended attributes.
    xattrs: Xattrs,
}

/// Extended attributes by their full names.
type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

impl Listing {
    fn push(&mut self, name: &[u8], metadata: Metadata) {
        self.names.extend(name);
        self.ends.push(short(self.names.len()));
        self.metadata.push(metadata);
    }

    fn name(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.names[start as usize..self.ends[place] as usize]
    }
}

/// A number of things that are all in memory, in four bytes.
fn short(number: usize) -> u32 {
    u32::try_from(number).expect("no directory has names of four gigabytes")
}

impl Error {
    fn read(path: &[u8], source: io::Error) -> Self {
        Self::Read { path: shown(path), source }
    }
}

impl Selected {
    fn new(name: &[u8], path: &[u8], metadata: Metadata) -> Self {
        let (dir, last) = split(path);
        let mut listing = Listing { path: dir.to_vec(), ..Listing::default() };
        listing.push(last, metadata);
        let below = if path.is_empty() { 0 } else { path.len() + 1 };
        Self {
            name: name.to_vec(),
            below,
            listings: vec![listing],
            order: vec![(0, 0)],
            with_xattrs: BTreeMap::new(),
        }
    }

    /// Whether a directory was named.
    pub fn is_dir(&self) -> bool {
        self.root().metadata().is_dir()
    }

    /// How many files and directories there are.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// What was named.
    pub fn root(&self) -> Entry<'_> {
        self.entry(0)
    }

    /// What was named, then everything below it, parents before children, names sorted.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slice(0..self.count())
    }

    /// Some of the entries, by their places.
    pub fn slice(&self, places: Range<usize>) -> impl Iterator<Item = Entry<'_>> {
        places.map(|place| self.entry(place))
    }

    fn entry(&self, place: usize) -> Entry<'_> {
        let (listing, place) = self.order[place];
        Entry { of: self, listing, place }
    }
}

/// One selected file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    of: &'a Selected,
    listing: u32,
    place: u32,
}

impl<'a> Entry<'a> {
    fn listing(&self) -> &'a Listing {
        &self.of.listings[self.listing as usize]
    }

    /// What it is.
    pub fn metadata(&self) -> &'a Metadata {
        &self.listing().metadata[self.place as usize]
    }

    /// Its extended attributes, if it is a directory below what was named.
    pub fn xattrs(&self) -> Option<&'a BTreeMap<Vec<u8>, Vec<u8>>> {
        let listing = self.of.with_xattrs.get(&(self.listing, self.place))?;
        Some(&self.of.listings[*listing as usize].xattrs)
    }

    /// Its path in the tree, without links.
    pub fn path(&self) -> Vec<u8> {
        let listing = self.listing();
        join(&listing.path, listing.name(self.place as usize))
    }

    /// Whether it is what was named, and not below it.
    pub fn is_root(&self) -> bool {
        self.listing == 0
    }

    /// Its path below `to`, if what was named is there.
    pub fn path_below(&self, to: &[u8]) -> Vec<u8> {
        if self.is_root() {
            return to.to_vec();
        }
        let listing = self.listing();
        let dir = listing.path.get(self.of.below..).unwrap_or_default();
        let parts = [to, dir, listing.name(self.place as usize)];
        let length = parts.iter().map(|part| part.len() + 1).sum::<usize>() - 1;
        let mut path = Vec::with_capacity(length);
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(part);
        }
        path
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
                self.list_below(&filter, &mut one)?;
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

    /// Lists everything selected below the directory that is the only entry.
    fn list_below(&self, filter: &Filter, selected: &mut Selected) -> Result<(), Error> {
        let path = selected.root().path();
        let walk = Walk { tree: self, filter, below: selected.below };
        let rules = Rules { ignored: self.ignore_state(&path), filtered: None };
        let listed = walk.below(Unlisted { path, rules })?;
        let first = selected.listings.len();
        selected.order.reserve_exact(listed.iter().map(|dir| dir.listing.ends.len()).sum());
        for Placed { listing, place, below } in in_order(&listed) {
            let at = (short(first + listing), short(place));
            selected.order.push(at);
            if let Some(below) = below.filter(|below| !listed[*below].listing.xattrs.is_empty()) {
                selected.with_xattrs.insert(at, short(first + below));
            }
        }
        selected.listings.extend(listed.into_iter().map(|dir| dir.listing));
        Ok(())
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
            list(fd)
        };
        read().map_err(|source| Error::read(dir, source))
    }
}

/// One listing of all that is below a directory.
struct Walk<'a> {
    tree: &'a Tree,
    filter: &'a Filter,
    /// Where in a path the part below the directory starts.
    below: usize,
}

/// What the rules know of a directory's entries.
#[derive(Default)]
struct Rules {
    ignored: Option<Directory>,
    filtered: Option<Directory>,
}

/// A directory yet to be listed.
struct Unlisted {
    path: Vec<u8>,
    rules: Rules,
}

/// A directory that was listed.
#[derive(Default)]
struct Listed {
    listing: Listing,
    /// The directories in it, in their order.
    dirs: Vec<Subdirectory>,
}

/// A directory in another.
struct Subdirectory {
    /// Its place in the listing.
    place: usize,
    /// Whether it is kept with nothing below it.
    kept: bool,
}

impl Walk<'_> {
    /// Lists what is below a directory, level by level instead of by calling itself: trees may be
    /// deeper than a stack. The directories below one of them stand in one row, in its order.
    fn below(&self, root: Unlisted) -> Result<Vec<Listed>, Error> {
        let mut listed: Vec<Listed> = Vec::new();
        let mut level = vec![root];
        while !level.is_empty() {
            // A wide tree is listed by all processors; for a narrow one they are not worth waking.
            let list = |dir: &Unlisted| self.list(dir);
            let found: Vec<(Listed, Vec<Unlisted>)> = match level.len() {
                ..FEW => level.iter().map(list).collect::<Result<_, _>>()?,
                _ => level.par_iter().map(list).collect::<Result<_, _>>()?,
            };
            level.clear();
            for (dir, below) in found {
                listed.push(dir);
                level.extend(below);
            }
        }
        Ok(listed)
    }

    /// What is selected in a directory, and the directories in it in the same order.
    fn list(&self, dir: &Unlisted) -> Result<(Listed, Vec<Unlisted>), Error> {
        let rules = &dir.rules;
        let failed = |source| Error::read(&dir.path, source);
        let view = &self.tree.view;
        let fd = view.open_at(&dir.path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let lister = rustix::io::dup(&fd).map_err(|error| failed(error.into()))?;
        let names = list(lister).map_err(failed)?;
        let (mut listed, mut unlisted) = (Listed::default(), Vec::new());
        let listing = &mut listed.listing;
        listing.ends.reserve_exact(names.len());
        listing.metadata.reserve_exact(names.len());
        listing.names.reserve_exact(names.iter().map(|name| name.len()).sum());
        let mut path = dir.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        let start = path.len();
        for name in names {
            path.truncate(start);
            path.extend(&name);
            let below = &path[self.below..];
            let metadata = match metadata_at(fd.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(metadata) => metadata,
                // Overlay lists a whiteout with nothing below it, and then says it is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::read(&path, source)),
            };
            if metadata.is_dir() {
                if let Some((kept, rules)) = self.enter(&path, below, rules) {
                    unlisted.push(Unlisted { path: path.clone(), rules });
                    listed.dirs.push(Subdirectory { place: listing.ends.len(), kept });
                    listing.push(&name, metadata);
                }
            } else if metadata.kind != FileType::Socket
                && self.tree.ignore.keeps_file(&path, rules.ignored.as_ref())
                && self.filter.keeps_file(below, rules.filtered.as_ref())
            {
                listing.push(&name, metadata);
            }
        }
        listing.path.clone_from(&dir.path);
        listing.xattrs = self.tree.xattrs(fd.as_fd()).map_err(failed)?;
        Ok((listed, unlisted))
    }

    /// Whether a directory is kept, and the rules in it; nothing if nothing of it can be kept.
    fn enter(&self, path: &[u8], below: &[u8], above: &Rules) -> Option<(bool, Rules)> {
        let above = (above.ignored.as_ref(), above.filtered.as_ref());
        let (visit, ignored) = self.tree.ignore.visit_directory(path, above.0);
        let (wanted, filtered) = self.filter.visit_directory(below, above.1);
        let kept = visit == Visit::Keep && wanted == Visit::Keep;
        let pruned = visit == Visit::Prune || wanted == Visit::Prune;
        let rules = Rules { ignored: Some(ignored), filtered: Some(filtered) };
        (!pruned).then_some((kept, rules))
    }
}

/// Puts what directories have, as [`Walk::below`] lists them, into one order: each directory before
/// what is below it, names sorted. A directory that is kept only for what is below it and has nothing
/// there is left out.
fn in_order(listed: &[Listed]) -> Vec<Placed> {
    let mut end = 1;
    let first_below: Vec<usize> = listed
        .iter()
        .map(|dir| {
            let first = end;
            end += dir.dirs.len();
            first
        })
        .collect();
    let mut wanted = vec![false; listed.len()];
    for (at, dir) in listed.iter().enumerate().rev() {
        let below = dir.dirs.iter().zip(&wanted[first_below[at]..]);
        let has_dirs = below.into_iter().any(|(dir, wanted)| dir.kept || *wanted);
        wanted[at] = has_dirs || dir.listing.ends.len() > dir.dirs.len();
    }
    let mut order = Vec::new();
    // On the way down: a listing, and what comes next of its places and of its subdirectories.
    let mut way = vec![(0, 0, 0)];
    while let Some((at, next_place, next_dir)) = way.last_mut() {
        let (at, place) = (*at, *next_place);
        if place == listed[at].listing.ends.len() {
            way.pop();
            continue;
        }
        *next_place += 1;
        match listed[at].dirs.get(*next_dir) {
            Some(dir) if dir.place == place => {
                let below = first_below[at] + *next_dir;
                *next_dir += 1;
                if dir.kept || wanted[below] {
                    order.push(Placed { listing: at, place, below: Some(below) });
                    way.push((below, 0, 0));
                }
            }
            _ => order.push(Placed { listing: at, place, below: None }),
        }
    }
    order
}

/// Where something stands.
struct Placed {
    listing: usize,
    place: usize,
    /// The listing of what is in it.
    below: Option<usize>,
}

/// The names in a directory, sorted by their bytes.
fn list(dir: impl Into<std::os::fd::OwnedFd>) -> io::Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    for entry in Dir::new(dir.into())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.into());
        }
    }
    names.sort_unstable();
    Ok(names)
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
