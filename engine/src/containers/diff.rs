//! What a container has changed in its image's files.
//!
//! Reads its upper directory, in overlay's form, beside the layers below. What was only made to
//! mount something on is no change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cache::layer::walk::{Found, Next, walk};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Containers, Result, files};
use crate::view::{Metadata, View, join, split};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was not there.
    Added,
    /// It is another.
    Changed,
    /// It is gone.
    Deleted,
}

impl fmt::Display for Kind {
    /// Docker's letter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Added => "A",
            Kind::Changed => "C",
            Kind::Deleted => "D",
        })
    }
}

/// A path, absolute, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// To what.
    pub path: Vec<u8>,
}

/// Lists what a container has changed, each directory before what is in it.
pub fn diff(containers: &Containers<'_>, id: &str) -> Result<Vec<Change>> {
    let observed = containers.observe(id)?;
    let lower = View::overlay(&containers.store.lower(&observed.record.layers)?)?;
    let upper = View::open(&containers.dir(id).join("upper"))?;
    let points = files::mount_points(&observed.record, &observed.state);
    compare(&upper, &lower, &scaffold(&upper, &lower, &points)?)
}

fn compare(upper: &View, lower: &View, scaffold: &BTreeSet<Vec<u8>>) -> Result<Vec<Change>> {
    // By components, so that what is in a directory comes right after it.
    let mut changes: BTreeMap<Vec<Vec<u8>>, Kind> = BTreeMap::new();
    let components = |path: &[u8]| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
    let mut note = |path: &[u8], kind| {
        let mut above: Vec<Vec<u8>> = components(path);
        changes.insert(above.clone(), kind);
        // Docker lists the directories on the way as changed.
        while above.pop().is_some() && !above.is_empty() {
            changes.entry(above.clone()).or_insert(Kind::Changed);
        }
    };
    walk(upper.root(), |found| -> Result<Next> {
        let path = found.path();
        if scaffold.contains(path) {
            return Ok(Next::Skip);
        }
        let old = at(lower, path)?;
        if is_whiteout(found) {
            if old.is_some() {
                note(path, Kind::Deleted);
            }
            return Ok(Next::Skip);
        }
        let is_dir = found.file_type() == FileType::Directory;
        let Some(old) = old else {
            note(path, Kind::Added);
            return Ok(Next::Enter);
        };
        if is_dir && old.is_dir() {
            if is_opaque(upper, path)? {
                note(path, Kind::Changed);
                for gone in hidden(upper, lower, path)? {
                    note(&gone, Kind::Deleted);
                }
            } else if !is_copy(&old, found) {
                note(path, Kind::Changed);
            }
        } else {
            note(path, Kind::Changed);
        }
        Ok(Next::Enter)
    })?;
    let change = |(path, kind): (Vec<Vec<u8>>, Kind)| Change {
        kind,
        path: path.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect(),
    };
    Ok(changes.into_iter().map(change).collect())
}

/// What is in a container's upper directory only because something was mounted on it, while it
/// runs or because its monitor was killed: what is empty and was not there, and the directories
/// that were copied up or made for nothing else.
pub(super) fn scaffold(
    upper: &View,
    lower: &View,
    points: &[PathBuf],
) -> Result<BTreeSet<Vec<u8>>> {
    let mut found = BTreeSet::new();
    let mut paths: Vec<Vec<u8>> = points
        .iter()
        .map(|path| path.as_os_str().as_bytes().to_vec())
        .map(|path| path.trim_ascii_start().strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(path))
        .filter(|path| !path.is_empty())
        .collect();
    // The deepest first: a directory may have been made for another in it.
    paths.sort_by_key(|path| std::cmp::Reverse(path.iter().filter(|b| **b == b'/').count()));
    for point in paths {
        if at(lower, &point)?.is_some() {
            continue;
        }
        let mut path = point.as_slice();
        let mut is_point = true;
        while !path.is_empty() && is_trace(upper, lower, path, is_point, &found)? {
            found.insert(path.to_vec());
            (path, is_point) = (split(path).0, false);
        }
    }
    Ok(found)
}

/// Whether a path says nothing but that something in it, or it itself, was a mount point.
fn is_trace(
    upper: &View,
    lower: &View,
    path: &[u8],
    is_point: bool,
    found: &BTreeSet<Vec<u8>>,
) -> Result<bool> {
    let Some(own) = at(upper, path)? else { return Ok(false) };
    match own.kind {
        FileType::RegularFile => return Ok(is_point && own.size == 0),
        FileType::Directory => {}
        _ => return Ok(false),
    }
    if !names(upper, path)?.iter().all(|name| found.contains(&join(path, name))) {
        return Ok(false);
    }
    Ok(match at(lower, path)? {
        None => true,
        Some(old) => {
            (old.kind, old.mode, old.uid, old.gid) == (own.kind, own.mode, own.uid, own.gid)
                && !is_opaque(upper, path)?
        }
    })
}

/// What a tree has at a path; nothing if there is a link on the way, which was replaced then.
fn at(view: &View, path: &[u8]) -> io::Result<Option<Metadata>> {
    match view.metadata(path) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Ok(None),
        found => found,
    }
}

fn is_whiteout(found: &Found<'_>) -> bool {
    found.file_type() == FileType::CharacterDevice && found.device() == (0, 0)
}

/// Whether a directory hides the one below it.
fn is_opaque(upper: &View, path: &[u8]) -> io::Result<bool> {
    let dir = upper.open_at(path, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY)?;
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(&dir, "trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a directory was only copied up, so that something in it could be changed.
fn is_copy(old: &Metadata, found: &Found<'_>) -> bool {
    let stat = found.stat();
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let mode = u32::from(old.mode);
    (mode, old.uid, old.gid) == (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
        && old.mtime.seconds == stat.st_mtime
        && old.mtime.nanoseconds == nanoseconds
}

/// What the directory below an opaque one has that this has not.
fn hidden(upper: &View, lower: &View, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let own = names(upper, path)?;
    let below = names(lower, path)?;
    Ok(below.difference(&own).map(|name| join(path, name)).collect())
}

fn names(view: &View, path: &[u8]) -> io::Result<BTreeSet<Vec<u8>>> {
    use rustix::fs::OFlags;
    let dir = view.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(dir.as_fd())? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Compares an upper directory with a lower one, both made by shell scripts.
    #[track_caller]
    fn check(lower: &str, upper: &str, points: &[&str], expected: &str) {
        let dir = tempfile::tempdir().expect("tempdir");
        for (name, script) in [("lower", lower), ("upper", upper)] {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("mkdir");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
            let script =
                format!("set -e; umask 022; {script}; find . -type d -exec touch -d @9 {{}} +");
            let mut shell = std::process::Command::new("sh");
            let status = shell.args(["-c", &script]).current_dir(path).status().expect("sh");
            assert!(status.success(), "{name}");
        }
        let view = |name: &str| View::open(&dir.path().join(name)).expect("open");
        let (lower, upper) = (view("lower"), view("upper"));
        let points: Vec<PathBuf> = points.iter().map(PathBuf::from).collect();
        let scaffold = scaffold(&upper, &lower, &points).expect("scaffold");
        let changes = compare(&upper, &lower, &scaffold).expect("compare");
        let shown = |it: &Change| format!("{} {}", it.kind, String::from_utf8_lossy(&it.path));
        assert_eq!(changes.iter().map(shown).collect::<Vec<_>>().join("\n"), expected);
    }

    #[test]
    fn changes_are_listed_with_the_directories_above_them() {
        check(
            "mkdir -p a/b same gone; echo 1 > a/b/f; echo 1 > same/g; touch a/old",
            "mkdir -p a/b new same; echo 2 > a/b/f; touch new/x a.b; mknod gone c 0 0; \
             mknod a/old c 0 0; chmod 700 same",
            &[],
            "C /a\nC /a/b\nC /a/b/f\nD /a/old\nA /a.b\nD /gone\nA /new\nA /new/x\nC /same",
        );
        // A directory for another, a directory for a link, and what was never there.
        check(
            "mkdir -p d/sub t; touch d/one d/two; ln -s t l",
            "mkdir d l; touch d/two d/three l/x; mknod nothing c 0 0; \
             setfattr -n trusted.overlay.opaque -v y d 2>/dev/null \
             || python3 -c 'import os; os.setxattr(\"d\", \"trusted.overlay.opaque\", b\"y\")'",
            &[],
            "C /d\nD /d/one\nD /d/sub\nA /d/three\nC /d/two\nC /l\nA /l/x",
        );
    }

    #[test]
    fn mount_points_are_no_changes() {
        let lower = "mkdir -p etc usr/lib; touch etc/passwd";
        let points = ["/", "/proc", "/etc/hosts", "/srv/data/deep", "/usr/lib"];
        check(lower, "mkdir -p proc etc srv/data/deep; touch etc/hosts", &points, "");
        // What has content is somebody's.
        check(
            lower,
            "mkdir -p proc etc srv/data/deep; echo 1 > etc/hosts; touch srv/mine",
            &points,
            "C /etc\nA /etc/hosts\nA /srv\nA /srv/mine",
        );
        // A directory that says more than that it was copied up.
        check(lower, "mkdir etc; touch etc/hosts; chmod 700 etc", &points, "C /etc");
    }
}
