//! The exact bytes, and what only extended records can say.

use std::collections::BTreeMap;
use std::io;

use crate::digest::Digest;

use super::super::walk;
use super::*;

fn named(path: &[u8]) -> Entry {
    Entry { path: path.to_vec(), ..Entry::new("", Kind::File { size: 0 }, 0o644) }
}

/// Checks that an entry is read as it was written, and which records that took.
fn check(entry: &Entry, records: &[&str]) {
    let tar = tar_of(&[(entry.clone(), Vec::new())]);
    let text = String::from_utf8_lossy(&tar);
    for record in records {
        assert!(text.contains(record), "{record} is not in {text:?}");
    }
    let blocks = if records.is_empty() { 3 } else { 5 };
    assert_eq!(tar.len(), blocks * 512, "{entry:?} {text:?}");
    assert_eq!(read(&tar).expect("readable"), [(entry.clone(), Vec::new())]);
}

#[test]
fn names_have_records_only_where_they_need_them() {
    let long = [&[b'd'; 90][..], b"/", &[b'f'; 100]].concat();
    let too_long = [&[b'd'; 90][..], b"/", &[b'f'; 101]].concat();
    check(&named(&[b'x'; 100]), &[]);
    check(&named(&long), &[]);
    check(&named(&too_long), &["202 path=ddd"]);
    check(&named("\u{e4}".as_bytes()), &["11 path=\u{e4}\n"]);
    check(&named(b"\xff\n"), &["11 path="]);
    let directory = |path: &[u8]| Entry { kind: Kind::Directory, ..named(path) };
    check(&directory(&[b'd'; 99]), &[]);
    check(&directory(&[b'd'; 100]), &["111 path=ddd"]);
    check(&directory(b""), &[]);
    for (target, records) in [
        (vec![b't'; 100], &[][..]),
        (vec![b't'; 101], &["linkpath="]),
        (vec![0xff], &["linkpath="]),
    ] {
        check(&Entry { kind: Kind::Symlink(target.clone()), ..named(b"l") }, records);
        check(&Entry { kind: Kind::Hardlink(target), ..named(b"l") }, records);
    }
}

#[test]
fn numbers_have_records_only_where_they_need_them() {
    let file = named(b"f");
    check(&Entry { uid: (1 << 21) - 1, gid: 7, ..file.clone() }, &[]);
    check(&Entry { uid: 1 << 21, ..file.clone() }, &["uid=2097152\n"]);
    check(&Entry { gid: u64::from(u32::MAX), ..file.clone() }, &["gid=4294967295\n"]);
    let at =
        |seconds, nanoseconds| Entry { mtime: Timestamp { seconds, nanoseconds }, ..file.clone() };
    check(&at((1 << 33) - 1, 0), &[]);
    check(&at(1 << 33, 0), &["mtime=8589934592\n"]);
    check(&at(-1, 0), &["mtime=-1\n"]);
    check(&at(-2, 750_000_000), &["mtime=-1.25\n"]);
    check(&at(1, 1), &["mtime=1.000000001\n"]);
    check(&at(i64::MIN, 0), &["mtime=-9223372036854775808\n"]);
    check(&Entry { kind: Kind::Block(4095, 1_048_575), ..file.clone() }, &[]);
    check(&Entry { kind: Kind::Fifo, mode: 0o7777, ..file.clone() }, &[]);
    let xattrs = BTreeMap::from([
        (b"security.capability".to_vec(), b"\x01\0\0\x02\n=\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        (b"user.none".to_vec(), vec![]),
    ]);
    check(
        &Entry { xattrs, ..file },
        &["SCHILY.xattr.security.capability=", "SCHILY.xattr.user.none=\n"],
    );
}

#[test]
fn sizes_beyond_eight_gibibytes_are_encoded() {
    for (size, headers) in [((1 << 33) - 1, 512), (1 << 33, 1536), (1 << 40, 1536)] {
        let entry = Entry { kind: Kind::File { size }, ..named(b"big") };
        // The head is enough: the content ends far too early, as if the file had shrunk.
        let mut head = Vec::new();
        let mut writer = LayerWriter::new(&mut head);
        let content = 1 << 20;
        let error = writer.append(&entry, io::repeat(0).take(content)).expect_err("too short");
        assert!(
            matches!(error, Error::Shrunk { missing, .. } if missing == size - content),
            "{error}"
        );
        assert_eq!(writer.position(), headers + content);
        let mut entries = reader::entries(head.as_slice());
        let (read, data) = entries.next_entry().expect("readable").expect("an entry");
        assert_eq!((read, data.position()), (entry, Some(headers)));
        assert!(matches!(entries.next_entry(), Err(Error::Truncated { .. })));
    }
}

#[test]
fn attributes_longer_than_what_is_written_at_once_are_whole() {
    let value: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8).collect();
    let xattrs = (0..12).map(|number| (format!("user.{number}").into_bytes(), value.clone()));
    let xattrs = xattrs.collect();
    let entries = [named(b"before"), Entry { xattrs, ..named(b"f") }, named(b"after")];
    let mut writer = LayerWriter::new(Vec::new());
    for entry in &entries {
        writer.append(entry, io::repeat(1)).expect("expressible");
    }
    let tar = writer.finish().expect("a vector takes everything");
    let mut read = reader::entries(tar.as_slice());
    for entry in &entries {
        assert!(read.next_entry().expect("readable").expect("an entry").0 == *entry);
    }
}

#[test]
fn what_a_tar_cannot_say_is_refused() {
    let xattrs = BTreeMap::from([(b"user.a=b".to_vec(), vec![])]);
    for (entry, expected) in [
        (
            Entry { xattrs, ..named(b"f") },
            "cannot put \"f\" into a layer: an extended attribute's name contains \"=\"",
        ),
        (named(b"a\0b"), "cannot put \"a\\u{0}b\" into a layer: a name contains NUL"),
        (named(b""), "cannot put \"/\" into a layer: the root is not a directory"),
        (
            Entry { kind: Kind::Char(1 << 21, 0), ..named(b"c") },
            "cannot put \"c\" into a layer: the device number is too big",
        ),
    ] {
        let error = LayerWriter::new(Vec::new()).append(&entry, io::empty()).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_bytes_of_a_layer_never_change() {
    let mut layer = items(&[
        "etc/",
        "etc/passwd=root:x:0:0::/root:/bin/sh\n",
        "etc/mtab -> /proc/mounts",
        "etc/shadow- => etc/passwd",
        "etc/.wh.gone=",
        "opt/",
        "opt/.wh..wh..opq=",
    ]);
    layer[0].0.mtime.nanoseconds = 5;
    layer[1].0.xattrs.insert(b"user.note".to_vec(), b"kept".to_vec());
    layer.push((
        Entry { uid: 3_000_000, kind: Kind::Char(1, 3), ..named("dev/n\u{fc}ll".as_bytes()) },
        Vec::new(),
    ));
    let tar = tar_of(&layer);
    assert_eq!(tar.len(), 8704);
    assert_eq!(&tar[..16], b"PaxHeaders.0/etc");
    assert_eq!(
        Digest::of(&tar).to_string(),
        "sha256:15ef487e54619ee5961b319591c7af2e0bd4c9305862b6e16d1e84c95ca1ff81"
    );
    assert_eq!(
        Digest::of(tar_of(&[])).to_string(),
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    );
}

#[test]
fn a_walk_is_sorted_and_skips_what_it_is_told_to() {
    let temp = tempfile::tempdir().expect("a directory");
    let tar = tar_of(&items(&["b/", "b/z=", "b/a=", "a.b=", "a/", "a/x=", "c/", "c/hidden="]));
    unpack_into(&tar, temp.path(), unpack::Form::Apply).expect("unpackable");
    let mut seen = Vec::new();
    let root = File::open(temp.path()).expect("the tree");
    let walked = walk::walk(root.as_fd(), |found| {
        seen.push(String::from_utf8_lossy(found.path()).into_owned());
        Ok::<_, Error>(if found.name() == b"c" { Next::Skip } else { Next::Enter })
    });
    walked.expect("the tree");
    assert_eq!(seen, ["a", "a/x", "a.b", "b", "b/a", "b/z", "c"]);
}
