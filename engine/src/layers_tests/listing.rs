//! Everything that programs see of a tree, a line for each name. Reads by paths and plain system
//! calls, and shares nothing with the code that makes trees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cache::digest::Digest;
use rustix::fs::{lgetxattr, llistxattr, major, minor};

use super::tree::Tree;

/// Enough for any list of attributes, and any attribute, that ext4 has room for.
const MOST: usize = 1 << 12;

/// Lists a tree. Of its root there is only the mode and the owner: no layer tells the time.
pub(super) fn list(tree: &Tree) -> Vec<String> {
    let root = fs::metadata(tree.at("")).expect("the root");
    let mut lines = vec![format!("/ {:o} {}:{}", root.mode() & 0o7777, root.uid(), root.gid())];
    let mut first_names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    tree.visit(Path::new(""), &mut |path| {
        let full = tree.at(path);
        let Ok(metadata) = full.symlink_metadata() else {
            lines.push(format!("{} is listed and is not there", text(path)));
            return;
        };
        let mut line = line(path, &full, &metadata);
        if metadata.nlink() > 1 && !metadata.is_dir() {
            let file = (metadata.dev(), metadata.ino());
            let first = first_names.entry(file).or_insert_with(|| path.to_owned());
            if first != path {
                line.push_str(&format!(" => {}", text(first)));
            }
        }
        lines.push(line);
    });
    lines
}

fn line(path: &Path, full: &Path, metadata: &Metadata) -> String {
    let (kind, what) = kind(full, metadata);
    let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    let time = format!("{}+{:09}", metadata.mtime(), metadata.mtime_nsec());
    let path = text(path);
    format!("{path} {kind} {mode:o} {uid}:{gid} {time}{what}{}", attributes(full))
}

fn kind(full: &Path, metadata: &Metadata) -> (&'static str, String) {
    let kind = metadata.file_type();
    let device = || format!(" {}:{}", major(metadata.rdev()), minor(metadata.rdev()));
    if kind.is_dir() {
        ("directory", String::new())
    } else if kind.is_symlink() {
        let target = fs::read_link(full).expect("a link");
        ("link", format!(" {} -> {}", metadata.len(), text(&target)))
    } else if kind.is_file() {
        let content = fs::read(full).expect("readable");
        ("file", format!(" {} {} {}", metadata.len(), content.len(), Digest::of(content).short()))
    } else if kind.is_char_device() {
        ("character", device())
    } else if kind.is_block_device() {
        ("block", device())
    } else {
        (if kind.is_fifo() { "fifo" } else { "other" }, String::new())
    }
}

fn attributes(full: &Path) -> String {
    let mut names = vec![0; MOST];
    let length = llistxattr(full, &mut names).expect("names of attributes");
    let names: BTreeSet<&[u8]> = names[..length].split(|byte| *byte == 0).collect();
    let mut text = String::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let mut value = vec![0; MOST];
        let length = lgetxattr(full, name, &mut value).expect("an attribute");
        let (name, value) = (name.escape_ascii(), value[..length].escape_ascii());
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

fn text(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// Fails with the lines that differ.
#[track_caller]
pub(super) fn assert_same(what: &str, found: &[String], expected: &[String]) {
    if found == expected {
        return;
    }
    let sets = [expected, found].map(|lines| lines.iter().collect::<BTreeSet<_>>());
    let mut message = format!("{what} (-), and as it must be (+), are not the same:");
    for line in sets[1].symmetric_difference(&sets[0]) {
        let sign = if sets[1].contains(line) { '-' } else { '+' };
        message.push_str(&format!("\n  {sign} {line}"));
    }
    panic!("{message}");
}
