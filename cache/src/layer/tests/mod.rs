//! Whole trees through whole tars. Needs root, for owners, devices and overlay's attributes.

mod archives;
mod encoding;
mod hostile;
mod round_trip;
mod whiteouts;

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::fd::AsFd;
use std::path::Path;

use super::walk::{HardLinks, Next, walk};
use super::writer::LayerWriter;
use super::{Entry, Error, Kind, Timestamp, pack, reader, unpack};

/// An entry and its content.
pub(super) type Item = (Entry, Vec<u8>);

/// Reads entries in a notation for tests: `dir/`, `file=content`, `link -> target`,
/// `name => earlier`. Paths stay as they are written, also hostile ones.
fn items(lines: &[&str]) -> Vec<Item> {
    lines.iter().map(|line| item(line)).collect()
}

fn item(line: &str) -> Item {
    let (path, kind, content) = if let Some((path, target)) = line.split_once(" -> ") {
        (path, Kind::Symlink(target.into()), "")
    } else if let Some((path, target)) = line.split_once(" => ") {
        (path, Kind::Hardlink(target.into()), "")
    } else if let Some((path, content)) = line.split_once('=') {
        (path, Kind::File { size: content.len() as u64 }, content)
    } else {
        (line.strip_suffix('/').expect("a directory"), Kind::Directory, "")
    };
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let mtime = Timestamp::from_seconds(1_700_000_000);
    let entry = Entry { path: path.into(), mtime, ..Entry::new("", kind, mode) };
    (entry, content.into())
}

/// Shows entries in the notation of [`items`]; devices as `name (major:minor)`.
fn show(items: &[Item]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let show = |(entry, content): &Item| {
        let path = text(&entry.path);
        match &entry.kind {
            Kind::File { .. } => format!("{path}={}", text(content)),
            Kind::Directory => format!("{path}/"),
            Kind::Symlink(target) => format!("{path} -> {}", text(target)),
            Kind::Hardlink(target) => format!("{path} => {}", text(target)),
            Kind::Char(major, minor) | Kind::Block(major, minor) => {
                format!("{path} ({major}:{minor})")
            }
            Kind::Fifo => format!("{path}|"),
        }
    };
    items.iter().map(show).collect()
}

/// Writes a tar of the entries as they are.
fn tar_of(items: &[Item]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for (entry, content) in items {
        writer.append(entry, content.as_slice()).expect("expressible");
    }
    writer.finish().expect("a vector takes everything")
}

/// Reads a tar back.
fn read(tar: &[u8]) -> Result<Vec<Item>, Error> {
    let mut entries = reader::entries(tar);
    let mut items = Vec::new();
    while let Some((entry, mut data)) = entries.next_entry()? {
        let mut content = Vec::new();
        data.read_to_end(&mut content).map_err(|source| {
            source
                .downcast()
                .unwrap_or_else(|source| Error::Content { path: entry.path.clone(), source })
        })?;
        items.push((entry, content));
    }
    // Passing over all content must find the same.
    let mut passing = reader::entries_seeking(Cursor::new(tar));
    for (entry, _) in &items {
        assert_eq!(&passing.next_entry()?.expect("as many").0, entry);
    }
    assert!(passing.next_entry()?.is_none());
    Ok(items)
}

/// Lists a tree with everything that a layer can say of it. All whiteouts look the same.
fn list(root: &Path) -> Vec<Item> {
    let root = File::open(root).expect("the tree");
    let (mut links, mut items) = (HardLinks::default(), Vec::new());
    let walked = walk(root.as_fd(), |found| {
        let Some(mut entry) = found.entry()? else {
            return Ok(Next::Skip);
        };
        let mut content = Vec::new();
        if entry.kind == Kind::Char(0, 0) {
            entry = Entry::new(&entry.path, entry.kind, 0);
        } else if let Some(first) = links.seen(found) {
            entry.kind = Kind::Hardlink(first.to_vec());
            entry.xattrs.clear();
        } else if entry.size() > 0 {
            found.open()?.read_to_end(&mut content).expect("readable");
        }
        items.push((entry, content));
        Ok::<_, Error>(Next::Enter)
    });
    walked.expect("the tree");
    items
}

fn unpack_into(tar: &[u8], root: &Path, form: unpack::Form) -> Result<unpack::UnpackStats, Error> {
    fs::create_dir_all(root).expect("a directory");
    unpack::unpack_layer(tar, File::open(root).expect("the directory").as_fd(), form)
}

fn pack_upper(root: &Path) -> Vec<u8> {
    let mut tar = LayerWriter::new(Vec::new());
    let root = File::open(root).expect("the tree");
    pack::pack_upper(root.as_fd(), &mut tar, None).expect("packable");
    tar.finish().expect("a vector takes everything")
}
