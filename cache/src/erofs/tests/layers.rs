//! What a layer can hold, and what it can hide.

use super::*;

use std::process::Command;

use rustix::fs::fgetxattr;

fn shown(items: &[Item]) -> Vec<Seen> {
    check_layer(items).expect("unpackable")
}

fn file(path: impl AsRef<[u8]>, content: &[u8]) -> Item {
    (Entry::new(path, Kind::File { size: content.len() as u64 }, 0o644), content.to_vec())
}

fn other(path: impl AsRef<[u8]>, kind: Kind) -> Item {
    (Entry::new(path, kind, 0o755), Vec::new())
}

fn with_xattrs(mut item: Item, xattrs: &[(&str, &[u8])]) -> Item {
    item.0.xattrs = xattrs.iter().map(|(name, value)| ((*name).into(), value.to_vec())).collect();
    item
}

#[test]
fn every_kind_of_entry_is_shown_as_it_is_unpacked() {
    let mut layer = items(&[
        "d/",
        "d/file=content",
        "d/empty=",
        "d/link -> file",
        "d/again => d/file",
        "sub/implied/file=x",
    ]);
    layer.extend([
        other("c", Kind::Char(1, 3)),
        other("b", Kind::Block(4095, 0xfffff)),
        other("cut off", Kind::Char(4097, 0x10_0001)),
        other("whiteout", Kind::Char(0, 0)),
        other("p", Kind::Fifo),
    ]);
    assert_eq!(shown(&layer).len(), 13);
}

#[test]
fn owners_modes_and_times_are_exact() {
    let mut layer = Vec::new();
    let (seconds, nanoseconds) =
        ([0, -1, -1_000_000_000, 1_700_000_000, 1 << 33], [0, 999_999_999]);
    for (at, id) in [0, 1, 65535, 65536, u32::MAX - 1].into_iter().enumerate() {
        for (kind, mode) in
            [(Kind::Directory, 0o7777), (Kind::File { size: 0 }, 0o4711), (Kind::Fifo, 0)]
        {
            for nanoseconds in nanoseconds {
                let mtime = Timestamp { seconds: seconds[at], nanoseconds };
                let path = format!("{at} {mode} {nanoseconds}");
                let (uid, gid) = (id.into(), seconds.len() as u64 + 60_000);
                layer.push((
                    Entry { uid, gid, mtime, ..Entry::new(path, kind.clone(), mode) },
                    vec![],
                ));
            }
        }
    }
    // Enough of one time that most inodes are compact, and some cannot be for other reasons.
    for number in 0..50 {
        let (mut item, uid) = (file(format!("same {number}"), b"x"), [5, 70_000][number % 2]);
        (item.0.uid, item.0.mtime) = (uid, Timestamp { seconds: 77, nanoseconds: 88 });
        layer.push(item);
    }
    let mut root = other("", Kind::Directory);
    root.0.mode = 0o1770;
    layer.push(root);
    assert_eq!(shown(&layer).len(), 80);
}

#[test]
fn owners_that_do_not_fit_are_refused() {
    for id in [u64::from(u32::MAX), 1 << 32, u64::MAX >> 1] {
        for kind in [Kind::File { size: 0 }, Kind::Directory, Kind::Symlink(b"x".to_vec())] {
            let entry = Entry { uid: id, ..Entry::new("f", kind, 0o644) };
            let error = check_layer(&[(entry, vec![])]).expect_err("too large");
            assert_eq!(error, "the archive's entry \"f\" has an invalid uid");
        }
    }
}

#[test]
fn extended_attributes_are_kept_or_refused_as_by_a_file_system() {
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let large = vec![b'v'; 2500];
    let mut layer = vec![
        with_xattrs(other("d", Kind::Directory), &[("user.on", b"directory"), ("trusted.t", b"")]),
        with_xattrs(
            file("d/one", b""),
            &[("user.a", b"1"), ("user.large", &large), ("user.z", b"2")],
        ),
        with_xattrs(
            other("link", Kind::Symlink(b"d".to_vec())),
            &[("user.refused", b"1"), ("trusted.kept", b"2"), ("security.kept", b"3")],
        ),
        with_xattrs(other("pipe", Kind::Fifo), &[("user.refused", b"1"), ("trusted.kept", b"2")]),
        with_xattrs(
            file("odd", b"1"),
            &[("system.other", b"1"), ("btrfs.x", b"1"), ("none", b"1")],
        ),
        with_xattrs(
            file("marks", b"1"),
            &[
                ("trusted.overlay.redirect", b"/etc"),
                ("user.overlay.opaque", b"y"),
                ("user.k", b""),
            ],
        ),
        // Said twice, a directory has the attributes of both.
        with_xattrs(other("d", Kind::Directory), &[("user.on", b"again"), ("user.too", b"2")]),
        with_xattrs(other("", Kind::Directory), &[("user.root", b"1")]),
    ];
    // Many files with the same set: shared.
    for number in 0..40 {
        let same = [("security.capability", capability), ("user.large", large.as_slice())];
        layer.push(with_xattrs(file(format!("same {number}"), b"x"), &same));
    }
    // More shared attributes than a number of eight bits can count, of few bytes each.
    let names: Vec<String> = (0..150).map(|number| format!("user.{number}")).collect();
    let many: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    layer.extend(["many", "many too"].map(|path| with_xattrs(file(path, b"x"), &many)));
    let seen = shown(&layer);
    let of = |path: &str| {
        &seen.iter().find(|seen| seen.entry.path == path.as_bytes()).expect(path).entry.xattrs
    };
    assert_eq!(of("same 39").len(), 2);
    assert_eq!(of("many").len(), 150);
    assert_eq!(of("d").len(), 3);
    assert_eq!(of("marks").len(), 1);
}

#[test]
fn more_attributes_than_can_be_shared_are_kept() {
    let name = |number: u32| format!("user.{number}").into_bytes();
    let mut builder = Builder::new();
    for path in ["a", "b"] {
        let mut entry = Entry::new(path, Kind::File { size: 0 }, 0o644);
        entry.xattrs = (0..600).map(|number| (name(number), b"value".to_vec())).collect();
        builder.add(&entry, Content::None).expect("expressible");
    }
    let mut index = Vec::new();
    builder.finish(0, &mut index).expect("writable");
    let seen = list(Mounted::new(&index, &[b""]).root.as_fd());
    assert_eq!(seen.iter().map(|seen| seen.entry.xattrs.len()).collect::<Vec<_>>(), [600, 600]);
    assert_eq!(seen[1].entry.xattrs[&name(599)], b"value");
}

#[test]
fn access_control_lists_decide_on_modes() {
    let list = |entries: &[(u16, u16, u32)]| {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    };
    let minimal = list(&[(1, 7, 0), (4, 5, 0), (0x20, 1, 0)]);
    let full = list(&[(1, 6, 9), (2, 4, 1000), (4, 7, 9), (8, 1, 5), (0x10, 2, 9), (0x20, 3, 9)]);
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let mut layer = Vec::new();
    for (at, value) in
        [&minimal, &full, &list(&[]), &Vec::new(), &vec![9, 0, 0, 0]].into_iter().enumerate()
    {
        layer.push(with_xattrs(file(format!("file {at}"), b"x"), &[(access, value)]));
        layer.push(with_xattrs(other(format!("pipe {at}"), Kind::Fifo), &[(access, value)]));
        layer.push(with_xattrs(
            other(format!("link {at}"), Kind::Symlink(b"x".to_vec())),
            &[(access, value)],
        ));
        layer.push(with_xattrs(
            other(format!("directory {at}"), Kind::Directory),
            &[(access, value), (default, value)],
        ));
    }
    let seen = shown(&layer);
    let mode = |path: &str| {
        seen.iter().find(|seen| seen.entry.path == path.as_bytes()).expect(path).entry.mode
    };
    assert_eq!((mode("file 0"), mode("file 1"), mode("file 2")), (0o751, 0o623, 0o644));
}

#[test]
fn names_and_links_of_every_length_are_kept() {
    let mut layer = Vec::new();
    for length in [1, 2, 100, 254, 255] {
        layer.push(file("n".repeat(length), b"x"));
        layer.push(other(format!("d/{}", "m".repeat(length)), Kind::Directory));
    }
    // The longest together need blocks of two.
    layer.extend(
        (0..40_u8).map(|number| file([&b"long/"[..], &[b'a' + number; 255]].concat(), b"")),
    );
    for length in [1, 50, 400, 430, 448, 449, 511, 512, 513, 1000, 1024, 4000, 4095] {
        layer.push(other(format!("links/{length}"), Kind::Symlink(vec![b't'; length])));
    }
    for name in ["!", "-", ",", "..a", ".a", ".-", "a\nb", "a b", "\u{e4}"] {
        layer.push(file(format!("odd/{name}"), b"x"));
    }
    layer.extend([b"odd/\xff\xfe".as_slice(), b"odd/\x01"].map(|path| file(path, b"x")));
    layer.extend((0..600).map(|number| file(format!("many/{number}"), b"")));
    shown(&layer);
    for (target, error) in [
        (vec![b't'; 4096], "cannot create \"l\": File name too long (os error 36)"),
        (b"a\0b".to_vec(), "cannot create \"l\": Invalid argument (os error 22)"),
    ] {
        let tar = tar_of(&[other("l", Kind::Symlink(b"?".to_vec()))]);
        let mut builder = Builder::new();
        let entry = Entry::new("l", Kind::Symlink(target), 0o777);
        assert!(tar.len() >= 1024);
        assert_eq!(chain(&builder.add(&entry, Content::None).expect_err("refused")), error);
    }
    let error = check_layer(&[file("n".repeat(256), b"x")]).expect_err("too long");
    assert!(error.contains("File name too long"), "{error}");
}

#[test]
fn files_of_every_size_have_their_content() {
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let sizes = [0, 1, 511, 512, 513, 1024, 4095, 4096, 4097, 12_345, 65_536, 300_000];
    let layer: Vec<Item> = sizes.map(|size| file(format!("{size}"), &bytes[..size])).into();
    assert_eq!(shown(&layer).len(), sizes.len());
}

#[test]
fn an_empty_layer_is_an_empty_directory() {
    assert_eq!(shown(&[]), []);
    assert_eq!(check(&[b""], Form::Overlay), Ok(Vec::new()));
}

#[test]
fn holes_of_gnu_tar_are_holes() {
    for options in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let temp = tempfile::tempdir().expect("a directory");
        let make = |name: &str, parts: &[(u64, usize)], size: u64| {
            let file = File::create(temp.path().join(name)).expect("made");
            for (offset, length) in parts {
                std::os::unix::fs::FileExt::write_all_at(&file, &vec![b'x'; *length], *offset)
                    .expect("written");
            }
            file.set_len(size).expect("grown");
        };
        make("hole", &[], 10 << 20);
        make("tail", &[((1 << 20) - 4096, 4000)], (1 << 20) - 96);
        make("start", &[(0, 8192)], 5 << 20);
        let parts: Vec<_> = (0..100).map(|part| (part * 65_536, 4096)).collect();
        make("many", &parts, 7 << 20);
        make("fine", &[(4096, 4096), (16_384, 8192)], 28_672);
        let made = Command::new("tar")
            .args(["--sparse", "--sort=name", "-cf", "-"])
            .args(options)
            .args(["hole", "tail", "start", "many", "fine"])
            .current_dir(temp.path())
            .output()
            .expect("tar");
        assert!(made.status.success() && made.stdout.len() < 2 << 20, "{options:?}");
        let seen = check(&[&made.stdout], Form::Overlay).expect("unpackable");
        assert_eq!(seen.len(), 5, "{options:?}");
    }
}

#[test]
fn holes_that_no_block_can_be_are_told() {
    let part = |offset, length, position| super::super::Part { offset, length, position };
    let add = |size, content| {
        let entry = Entry::new("f", Kind::File { size }, 0o644);
        Builder::new().add(&entry, content).map_err(|error| error.to_string())
    };
    for (size, content, expected) in [
        (
            9000,
            Content::Parts(vec![part(0, 100, 512), part(8192, 100, 612)]),
            "its content does not start with a block of the tar",
        ),
        (
            9000,
            Content::Parts(vec![part(100, 512, 512)]),
            "a hole in it does not start and end with a block",
        ),
        (512, Content::Parts(vec![part(0, 1024, 512)]), "its parts exceed its size"),
        (9000, Content::Parts(vec![part(0, 1024, 512), part(512, 512, 1536)]), "its parts overlap"),
        (9000, Content::At(100), "its content does not start with a block of the tar"),
        (9000, Content::None, "it is not known where its content lies"),
        (9000, Content::At((1 << 41) - 9216), "its content lies beyond the first 2 TiB of the tar"),
        (u64::MAX, Content::Parts(vec![]), "it is longer than any file system allows"),
        (1 << 45, Content::Parts(vec![part(512, 512, 512)]), "its holes are too many and too fine"),
    ] {
        assert_eq!(add(size, content), Err(format!("cannot index \"f\": {expected}")));
    }
    for (size, content) in [
        (0, Content::None),
        (0, Content::At(7)),
        (9000, Content::Parts(vec![part(0, 100, 512), part(100, 412, 612), part(8704, 296, 1024)])),
        (1 << 62, Content::Parts(vec![])),
        (9000, Content::At((1 << 41) - 9728)),
    ] {
        assert_eq!(add(size, content), Ok(()));
    }
}

#[test]
fn a_tar_may_have_two_tebibytes_and_a_file_more_than_four_gibibytes() {
    use std::os::unix::fs::FileExt;
    let temp = tempfile::tempdir().expect("a directory");
    let (tar, index) = (temp.path().join("tar"), temp.path().join("index"));
    let (length, last) = ((1 << 41) - 512, (1_u64 << 41) - 1024);
    let device = File::create(&tar).expect("made");
    device.set_len(length).expect("sparse");
    device.write_all_at(b"end", last).expect("written");
    device.write_all_at(b"middle", 5 << 30).expect("written");
    let mut builder = Builder::new();
    let mut add = |path, size, content| {
        builder.add(&Entry::new(path, Kind::File { size }, 0o644), content).expect("expressible");
    };
    add("last", 3, Content::At(last));
    add("large", 6 << 30, Content::At(1 << 30));
    add("nearly all", length - 1536, Content::At(1024));
    let parts = [(0, 1 << 30, 1 << 30), (4 << 40, 3, last)]
        .map(|(offset, length, position)| super::super::Part { offset, length, position });
    add("sparse", (4 << 40) + 3, Content::Parts(parts.into()));
    add("one hole", 1 << 60, Content::Parts(Vec::new()));
    builder.finish(length, File::create(&index).expect("made")).expect("writable");

    let root = mount(&index, &[tar]).expect("mounted");
    let read = |path, at| {
        let flags = rustix::fs::OFlags::RDONLY;
        let file = rustix::fs::openat(&root, path, flags, rustix::fs::Mode::empty()).expect(path);
        let mut bytes = [b'?'; 8];
        let count = File::from(file).read_at(&mut bytes, at).expect(path);
        bytes[..count].to_vec()
    };
    assert_eq!(read("last", 0), b"end");
    assert_eq!(read("large", 4 << 30), b"middle\0\0");
    assert_eq!(read("nearly all", last - 1024), b"");
    assert_eq!(read("nearly all", (5 << 30) - 1024), b"middle\0\0");
    assert_eq!(read("sparse", 4 << 40), b"end");
    assert_eq!(read("sparse", 1 << 40), [0; 8]);
    assert_eq!(read("one hole", (1 << 60) - 3), [0; 3]);
}

#[test]
fn whiteouts_and_opaque_directories_are_in_overlays_form() {
    for layer in [
        &["d/", "d/.wh.a="][..],
        &[".wh.d=", ".wh.f=", ".wh.absent="],
        &["d/", "d/.wh..wh..opq="],
        &["d/.wh..wh..opq=", "d/new=5", "d/"],
        &["d/", "d/s/", "d/s/.wh.x=", "d/.wh.a="],
        &["new/", "new/.wh.x=", "new/y=5"],
        &[".wh..wh.plnk=", "f/", ".wh..wh.aufs="],
        &[".wh...a=", ".wh..b="],
        &[".wh.d=", "d/", "d/new=5"],
        &["d/", "d/new=5", ".wh.d="],
        &["d/.wh.a=", "d/a=9"],
        &["d/a=9", "d/.wh.a="],
        &[".wh.d=", "d/new=5"],
        &[".wh.d=", "d/s/new=5"],
        &["l -> d", "d/", "l/.wh.x=", "l/.wh..wh..opq="],
        &["l -> /", "l/.wh..wh..opq="],
        &["f=1", "f/.wh.x="],
        &[".wh.=", "x="],
        &["d/.wh..="],
        &["d/.wh...="],
    ] {
        check_all(&["d/", "d/a=1", "d/b=2", "d/s/", "d/s/x=3", "f=4"], layer);
    }
}

#[test]
fn an_opaque_root_is_told() {
    for (layer, expected) in [
        (&["new=5", ".wh..wh..opq="][..], true),
        (&["d/.wh..wh..opq="], false),
        (&["l -> /", "l/.wh..wh..opq="], false),
    ] {
        let tar = tar_of(&items(layer));
        for mut builder in [Builder::new(), Builder::merged()] {
            add_all(&mut builder, &tar).expect("expressible");
            assert_eq!(builder.opaque_root(), expected, "{layer:?}");
        }
    }
    let tar = tar_of(&items(&[".wh..wh..opq="]));
    let (index, _) = index_of(&[&tar], Form::Overlay).expect("expressible");
    let mounted = Mounted::new(&index, &[&tar]);
    let root = rustix::fs::openat(
        &mounted.root,
        ".",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    let mut value = [0; 4];
    let length =
        fgetxattr(root.expect("opened"), "trusted.overlay.opaque", &mut value).expect("set");
    assert_eq!(&value[..length], b"y");
}

#[test]
fn entries_take_each_others_place() {
    for (lower, upper) in [
        (&["f=1"][..], &["f/", "f/x=2"][..]),
        (&["d/", "d/x=1"], &["d=2"]),
        (&["t/", "t/x=1", "l -> t"], &["l/", "l/y=2"]),
        (&["f=1"], &["f -> g"]),
        (&["f=1", "g => f"], &["f=2"]),
        (&["a=1"], &["a=2", "a=3", "b => a", "b=4"]),
        (&[], &["a=1", "a => a", "b => a", "b => a"]),
        (&[], &["a=1", "d/", "d/x=2", "d => a"]),
        (&[], &["d/", "d/x=2", "d => d/x"]),
        (&[], &["d/", "e => d"]),
        (&[], &["d/", "d => d", "d=1"]),
        (&[], &["d/", "d/x=2", "d=1", "d/"]),
        (&[], &["d/", "d/x=2", "d=1", "d/y=1"]),
        (&[], &["h => nothing"]),
        (&["d/", "d/x=1"], &["h => d/x", "d/x=2"]),
        (&["d/", "d/x=1"], &["h => d/x", ".wh.d="]),
        (&["d/", "d/x=1"], &[".wh.d=", "h => d/x"]),
        (&[], &["a=1", "l -> a", "h => l", "h=2"]),
        (&[], &["run/", "l -> /run", "l/pid=1", "alias => l/pid", "run/.wh..wh..opq="]),
        (&[], &["a/b/c=1", "a/"]),
        (&[], &["t/", "l -> t", "l/sub/", "t/sub/", "l/a/", "t/a/x=1"]),
        (&[], &["t/", "l -> t", "l/sub/", "l=1", "t/sub/x=1"]),
        (&[], &["loop -> loop", "loop/x=1"]),
        (&[], &["l -> ../../..", "l/x=1", "l/../y=2"]),
        (&[], &["d/", "l -> d/./../d//", "l/x=1"]),
        (&[], &["l -> missing", "l/x=1"]),
        (&[], &["f=1", "l -> f", "l/x=1"]),
        (&[], &["x=1", "/=1"]),
    ] {
        check_all(lower, upper);
    }
}

#[test]
fn as_many_links_are_followed_as_by_the_kernel() {
    for count in [39, 40, 41] {
        let mut layer = items(&["d/", "l0 -> d"]);
        for number in 1..count {
            layer.push(item(&format!("l{number} -> l{}", number - 1)));
        }
        layer.push(item(&format!("l{}/file=1", count - 1)));
        let result = check_layer(&layer);
        assert_eq!(result.is_ok(), count <= 40, "{count}");
    }
}
