//! Tree to tar to tree is the identity.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::entry::join;
use super::super::xattr;
use super::*;

/// One step of making a tree.
#[derive(Clone, Debug)]
struct Step {
    /// Which of the directories made so far it goes into, counted round and round.
    parent: usize,
    name: Vec<u8>,
    kind: u8,
    content: Vec<u8>,
    /// Says of itself: mode, owner, time.
    entry: Entry,
    attributed: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let letter = prop_oneof![Just(b'a'), Just(b'b'), Just(b'.'), Just(b'-')];
    let name = prop_oneof![vec(letter, 1..4), vec(any::<u8>(), 1..12), vec(Just(b'n'), 90..256),];
    let content = vec(any::<u8>(), 0..1500);
    let place = (any::<usize>(), name, 0..10_u8, content, any::<bool>());
    (place, entry()).prop_map(|((parent, name, kind, content, attributed), entry)| Step {
        parent,
        name,
        kind,
        content,
        entry,
        attributed,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let nanoseconds = prop_oneof![Just(0), 0..1_000_000_000_u32];
    let ids = (0..u64::from(u32::MAX), 0..70_000_u64);
    let seconds = -1_000_000_000..1_i64 << 33;
    (0..0o10000_u32, ids, seconds, nanoseconds).prop_map(
        |(mode, (uid, gid), seconds, nanoseconds)| Entry {
            uid,
            gid,
            mtime: Timestamp { seconds, nanoseconds },
            ..Entry::new("", Kind::Directory, mode)
        },
    )
}

/// Makes entries of steps, parents first; what makes no sense is left out.
fn entries_of(steps: Vec<Step>) -> Vec<Item> {
    let mut directories = vec![Vec::new()];
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut taken = BTreeSet::new();
    let mut items = Vec::new();
    for step in steps {
        let path = join(&directories[step.parent % directories.len()], &step.name);
        if !is_name(&step.name) || path.len() > 3000 || !taken.insert(path.clone()) {
            continue;
        }
        let (mut entry, mut content) = (step.entry, step.content);
        if step.attributed {
            entry.xattrs.insert(b"trusted.any".to_vec(), content.clone());
        }
        entry.kind = match step.kind {
            0..3 => Kind::Directory,
            3 => Kind::Symlink(target_of(&content)),
            4 if !files.is_empty() => Kind::Hardlink(files[content.len() % files.len()].clone()),
            5 => Kind::Fifo,
            6 => Kind::Char(4095, content.len() as u32),
            _ => Kind::File { size: content.len() as u64 },
        };
        match &entry.kind {
            Kind::Directory => directories.push(path.clone()),
            Kind::File { .. } => files.push(path.clone()),
            Kind::Symlink(_) => entry.mode = 0o777,
            Kind::Hardlink(_) => entry.xattrs.clear(),
            _ => {}
        }
        content.truncate(entry.size() as usize);
        items.push((Entry { path, ..entry }, content));
    }
    items
}

fn is_name(name: &[u8]) -> bool {
    let valid = !name.iter().any(|byte| matches!(byte, 0 | b'/'));
    valid && name != b"." && name != b".." && !name.starts_with(b".wh.")
}

/// Makes a link's target of any bytes.
fn target_of(bytes: &[u8]) -> Vec<u8> {
    let bytes = bytes.iter().take(300).map(|&byte| byte.max(1));
    std::iter::once(b's').chain(bytes).collect()
}

/// Adds a whiteout or an opaque mark beside some of the entries.
fn with_marks(mut items: Vec<Item>) -> Vec<Item> {
    let directories: Vec<_> = items
        .iter()
        .filter(|(entry, _)| entry.kind == Kind::Directory)
        .map(|(entry, _)| entry.clone())
        .collect();
    for (index, directory) in directories.iter().enumerate() {
        let name: &[u8] = if index % 2 == 0 { b".wh..wh..opq" } else { b".wh.not there" };
        items.push((Entry::new(join(&directory.path, name), Kind::File { size: 0 }, 0), vec![]));
    }
    items
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_survives_its_tar(steps in vec(step(), 0..40)) {
        let items = with_marks(entries_of(steps));
        let temp = tempfile::tempdir().expect("a directory");
        let (first, second) = (temp.path().join("first"), temp.path().join("second"));
        let tar = tar_of(&items);
        prop_assert_eq!(&read(&tar).expect("readable"), &items);
        let stats = unpack_into(&tar, &first, unpack::Form::Overlay).expect("unpackable");
        prop_assert_eq!((stats.refused_xattrs, stats.implied.len()), (0, 0));
        let listed = list(&first);
        check_against(&items, &listed);

        let packed = pack_upper(&first);
        unpack_into(&packed, &second, unpack::Form::Overlay).expect("unpackable");
        prop_assert_eq!(&list(&second), &listed);
        prop_assert_eq!(pack_upper(&second), packed);
    }
}

/// Checks that every entry is in the tree with all it says; links only by being there.
fn check_against(items: &[Item], listed: &[Item]) {
    let listed: BTreeMap<_, _> = listed.iter().map(|item| (&item.0.path, item)).collect();
    for (entry, content) in items {
        let Some((found, bytes)) = listed.get(&entry.path) else {
            assert!(entry.split().1.starts_with(b".wh."), "{entry:?} is missing");
            continue;
        };
        let mut found = found.clone();
        found.xattrs.remove(unpack::OPAQUE_ATTRIBUTE.as_bytes());
        // Which of several names comes first differs between the archive and the tree.
        let linked = |kind: &Kind| matches!(kind, Kind::Hardlink(_));
        if !linked(&entry.kind) && !linked(&found.kind) {
            assert_eq!((entry, content), (&found, bytes));
        }
    }
}

#[test]
fn a_tree_made_by_hand_is_packed_in_order() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path();
    fs::create_dir_all(root.join("b/opaque")).expect("made");
    fs::write(root.join("b/two"), "2").expect("made");
    fs::hard_link(root.join("b/two"), root.join("a two")).expect("made");
    fs::write(root.join("b/opaque/\u{e4}"), "").expect("made");
    let _socket = UnixListener::bind(root.join("b/socket")).expect("made");
    let opened = File::open(root).expect("opened");
    let directory = opened.as_fd();
    for name in ["gone", "b/gone"] {
        let mode = rustix::fs::Mode::empty();
        rustix::fs::mknodat(directory, name, rustix::fs::FileType::CharacterDevice, mode, 0)
            .expect("made");
    }
    xattr::set(directory, b"b/opaque", b"trusted.overlay.opaque", b"y").expect("set");
    xattr::set(directory, b"b/two", b"trusted.overlay.origin", b"?").expect("set");
    // The newer form of a whiteout, and the mark of a directory that has some.
    fs::write(root.join("b/also"), "").expect("made");
    xattr::set(directory, b"b/also", b"trusted.overlay.whiteout", b"").expect("set");
    xattr::set(directory, b"b", b"trusted.overlay.opaque", b"x").expect("set");
    let items = read(&pack_upper(root)).expect("readable");
    assert_eq!(
        show(&items),
        [
            "a two=2",
            "b/",
            "b/.wh.also=",
            "b/.wh.gone=",
            "b/opaque/",
            "b/opaque/.wh..wh..opq=",
            "b/opaque/\u{e4}=",
            "b/two => a two",
            ".wh.gone="
        ]
    );
    assert!(items.iter().all(|(entry, _)| entry.xattrs.is_empty()));

    fs::write(root.join(".wh.x"), "").expect("made");
    let refused = pack::pack_upper(directory, &mut LayerWriter::new(Vec::new()), None)
        .expect_err("a reserved name");
    assert_eq!(
        refused.to_string(),
        "cannot put \".wh.x\" into a layer: names that start with \".wh.\" stand for deleted files there"
    );
}

#[test]
fn later_times_are_clamped() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut tree = items(&["old=1", "new=2"]);
    tree[0].0.mtime = Timestamp { seconds: 5, nanoseconds: 5 };
    unpack_into(&tar_of(&tree), temp.path(), unpack::Form::Apply).expect("unpackable");
    let clamp = Timestamp::from_seconds(1000);
    let mut tar = LayerWriter::new(Vec::new());
    pack::pack_plain(File::open(temp.path()).expect("the tree").as_fd(), &mut tar, Some(clamp))
        .expect("packable");
    let tar = tar.finish().expect("a vector takes everything");
    let times: Vec<_> =
        read(&tar).expect("readable").into_iter().map(|(entry, _)| entry.mtime).collect();
    assert_eq!(times, [clamp, tree[0].0.mtime]);
}

#[test]
fn holes_are_zeros_in_the_tar_and_holes_again_in_the_tree() {
    let temp = tempfile::tempdir().expect("a directory");
    let (first, second) = (temp.path().join("first"), temp.path().join("second"));
    fs::create_dir(&first).expect("made");
    let mut sparse = File::create(first.join("sparse")).expect("made");
    sparse.write_all(b"start").expect("written");
    sparse.set_len(8 << 20).expect("grown");
    let tar = pack_upper(&first);
    assert_eq!(
        tar.len(),
        (8 << 20)
            + 512 * 3
            + if first.join("sparse").metadata().expect("made").mtime_nsec() == 0 {
                0
            } else {
                1024
            }
    );
    unpack_into(&tar, &second, unpack::Form::Overlay).expect("unpackable");
    assert_eq!(list(&second), list(&first));
    let unpacked = second.join("sparse").metadata().expect("made");
    assert_eq!(unpacked.len(), 8 << 20);
    assert!(unpacked.blocks() * 512 < 1 << 20, "{} blocks", unpacked.blocks());
}

#[test]
fn a_link_to_a_link_stays_one() {
    let temp = tempfile::tempdir().expect("a directory");
    let tar = tar_of(&items(&["a -> nowhere", "b => a"]));
    unpack_into(&tar, temp.path(), unpack::Form::Overlay).expect("unpackable");
    let target = fs::read_link(temp.path().join("b")).expect("a link");
    assert_eq!(target.as_os_str().as_bytes(), b"nowhere");
    assert_eq!(
        read(&pack_upper(temp.path())).expect("readable")[1].0.kind,
        Kind::Hardlink(b"a".to_vec())
    );
}
