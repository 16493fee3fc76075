//! Indexes mounted by the kernel, beside the same tars unpacked. Needs root and Linux 6.12.

mod chains;
mod format;
mod hostile;
mod layers;
mod random;

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FileType, fstat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use tempfile::TempDir;

use super::{Builder, Content, Error, Stats};
use crate::digest::Digest;
use crate::layer::unpack::{Form, unpack_layer};
use crate::layer::walk::{HardLinks, Next, walk};
use crate::layer::writer::LayerWriter;
use crate::layer::{self, Entry, Kind, Timestamp, reader};

/// An entry and its content.
type Item = (Entry, Vec<u8>);

/// Reads entries in a notation, paths as they are: `dir/`, `file=content`, `link -> target`, `name => earlier`.
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

fn tar_of(items: &[Item]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for (entry, content) in items {
        writer.append(entry, content.as_slice()).expect("expressible");
    }
    writer.finish().expect("a vector takes everything")
}

/// Tells a builder all entries of a tar.
fn add_all(builder: &mut Builder, tar: &[u8]) -> Result<(), Error> {
    let mut entries = reader::entries_seeking(Cursor::new(tar));
    while let Some((entry, data)) = entries.next_entry()? {
        builder.add(&entry, data.content())?;
    }
    Ok(())
}

/// Returns the index of one layer, or of a chain.
fn index_of(tars: &[&[u8]], form: Form) -> Result<(Vec<u8>, Stats), Error> {
    let mut builder = if form == Form::Apply { Builder::merged() } else { Builder::new() };
    let (last, below) = tars.split_last().expect("a layer");
    for tar in below {
        add_all(&mut builder, tar)?;
        builder.next_layer(tar.len() as u64)?;
    }
    add_all(&mut builder, last)?;
    let mut index = Vec::new();
    let stats = builder.finish(last.len() as u64, &mut index)?;
    assert_eq!(stats.size, index.len() as u64);
    Ok((index, stats))
}

/// Mounts an index that is in memory; the mount is nowhere but in the descriptor.
struct Mounted {
    root: OwnedFd,
    _files: TempDir,
}

impl Mounted {
    fn new(index: &[u8], tars: &[&[u8]]) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let put = |name: String, bytes: &[u8]| {
            let path = files.path().join(name);
            fs::write(&path, bytes).expect("written");
            path
        };
        let index = put("index".to_owned(), index);
        let tars: Vec<PathBuf> =
            tars.iter().enumerate().map(|(at, tar)| put(format!("{at}.tar"), tar)).collect();
        Self { root: mount(&index, &tars).expect("mounted"), _files: files }
    }
}

fn mount(index: &Path, tars: &[PathBuf]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", index)?;
    for tar in tars {
        fsconfig_set_string(&context, "device", tar)?;
    }
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Everything that a kernel says of a name.
#[derive(Debug, PartialEq)]
struct Seen {
    entry: Entry,
    /// The first name of the file, if it has several.
    same_as: Option<Vec<u8>>,
    links: u64,
    device: (u32, u32),
    /// Not in full, which nobody could read in a message.
    content: (Vec<u8>, Digest),
}

fn list(root: BorrowedFd<'_>) -> Vec<Seen> {
    let (mut links, mut seen) = (HardLinks::default(), Vec::new());
    let walked = walk(root, |found| {
        let entry = found.entry()?.expect("no sockets");
        let mut content = Vec::new();
        if found.file_type() == FileType::RegularFile {
            found.open()?.read_to_end(&mut content).expect("readable");
            assert_eq!(content.len() as u64, entry.size(), "{entry:?}");
        }
        seen.push(Seen {
            same_as: links.seen(found).map(<[u8]>::to_vec),
            links: found.stat().st_nlink,
            device: found.device(),
            content: (content.iter().copied().take(8).collect(), Digest::of(&content)),
            entry,
        });
        Ok::<_, layer::Error>(Next::Enter)
    });
    walked.expect("the tree");
    seen
}

/// Checks that mounting shows what unpacking makes, or that both fail with the same words.
///
/// Returns what is shown.
fn check(tars: &[&[u8]], form: Form) -> Result<Vec<Seen>, String> {
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let temp = tempfile::tempdir().expect("a directory");
    let root = File::open(temp.path()).expect("the directory");
    let (mut refused, mut opaque_root) = (0, false);
    let unpacked = tars.iter().try_for_each(|tar| {
        let stats = unpack_layer(*tar, root.as_fd(), form)?;
        refused += stats.refused_xattrs;
        opaque_root |= stats.opaque_root;
        Ok(())
    });
    let (index, stats) = match (unpacked, index_of(tars, form)) {
        (Ok(()), indexed) => indexed.expect("what can be unpacked can be indexed"),
        (Err(expected), Ok(_)) => panic!("unpacking says: {}", chain(&expected)),
        (Err(expected), Err(Error::Layer(error))) => {
            let (expected, error): (layer::Error, _) = (expected, chain(&error));
            assert_eq!(error, chain(&expected));
            return Err(error);
        }
        (Err(expected), Err(error)) => panic!("{error:?}, and not {}", chain(&expected)),
    };
    let mounted = Mounted::new(&index, tars);
    let (mut expected, shown) = (list(root.as_fd()), list(mounted.root.as_fd()));
    for (expected, shown) in expected.iter_mut().zip(&shown) {
        // What no archive tells the time of has the time of day when it is unpacked.
        let age = expected.entry.mtime.seconds - start.as_secs().cast_signed();
        if (-1..3600).contains(&age) {
            expected.entry.mtime = shown.entry.mtime;
        }
        // A whiteout has whatever group its directory gives it, and nobody looks.
        if expected.entry.kind == Kind::Char(0, 0) && expected.entry.mode == 0 {
            expected.entry.gid = shown.entry.gid;
        }
    }
    assert_eq!(shown, expected);
    assert_eq!(stats.refused_xattrs, refused);
    let inodes = shown.iter().filter(|seen| seen.same_as.is_none()).count() as u64 + 1;
    assert_eq!(stats.inodes, inodes);
    let links = |root: BorrowedFd<'_>| fstat(root).expect("stat").st_nlink;
    assert_eq!(links(mounted.root.as_fd()), links(root.as_fd()));
    Ok(shown)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Checks one layer in overlay's form.
fn check_layer(items: &[Item]) -> Result<Vec<Seen>, String> {
    check(&[&tar_of(items)], Form::Overlay)
}

/// Checks a layer alone, as a chain of one, and over another.
fn check_all(lower: &[&str], upper: &[&str]) {
    let (lower, upper) = (tar_of(&items(lower)), tar_of(&items(upper)));
    let _ = check(&[&upper], Form::Overlay);
    let _ = check(&[&upper], Form::Apply);
    let _ = check(&[&lower, &upper], Form::Apply);
}
