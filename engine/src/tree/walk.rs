//! Lists what is selected below a directory, by all processors, and puts it into its order.

use std::io;
use std::os::fd::AsFd;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::fs::{AtFlags, Dir, FileType, OFlags};

use super::selected::{Listing, Selected, short};
use super::{Error, FEW, Tree};
use crate::pattern::walk::{Directory, Filter, Visit};
use crate::view::metadata_at;

/// Lists everything selected below the directory that is the only entry.
pub(super) fn list_below(
    tree: &Tree,
    filter: &Filter,
    selected: &mut Selected,
) -> Result<(), Error> {
    let path = selected.root().path();
    let walk = Walk { tree, filter, below: selected.below };
    let rules = Rules { ignored: tree.ignore_state(&path), filtered: None };
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
        let names = names(lister).map_err(failed)?;
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
pub(super) fn names(dir: impl Into<std::os::fd::OwnedFd>) -> io::Result<Vec<Box<[u8]>>> {
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
