//! Archives made to do harm, and archives that are broken.

use proptest::prelude::*;

use super::*;

#[test]
fn no_layer_is_shown_otherwise_than_it_is_unpacked() {
    for path in ["../../outside", "/../../outside", "a/../../../outside", "outside"] {
        for layer in [
            &[&format!("{path}/secret=1"), "x=1"][..],
            &[&format!("l -> {path}"), "l/secret=1", "l/new=1"],
            &[&format!("l -> {path}"), "l/.wh.secret=", "l/.wh..wh..opq=", "l/d/.wh.x="],
            &[&format!("l -> {path}"), "h => l/secret", "h=2"],
            &[&format!("l -> {path}"), "h => l", "h/secret=2"],
            &[&format!("h => {path}/secret"), "h=2"],
            &["d/", "d/x=1", &format!("d -> {path}"), "d/secret=2"],
            &["a/b/l -> ../../..", "m -> a/b/l", "n -> m", &format!("n/{path}=1")],
        ] {
            check_all(&["outside/", "outside/secret=1", "outside/d/", "outside/d/x=2"], layer);
        }
    }
    for layer in [&[".wh...=", "a/.wh...="][..], &["l -> /proc/self/root", "l/tmp/x=1"], &[".=1"]] {
        check_all(&[], layer);
    }
}

#[test]
fn deep_paths_are_refused_as_by_the_kernel() {
    for depth in [2048, 2049, 10_000] {
        let path = format!("{}f=1", "d/".repeat(depth));
        let result = check_layer(&[item(&path)]);
        assert_eq!(result.is_ok(), depth == 2048, "{depth}");
    }
    let long = format!("{}/x=1", "n".repeat(256));
    assert!(check_layer(&[item(&long)]).is_err());
    assert!(check_layer(&items(&["d=1", &format!("e/{long}")])).is_err());
    assert!(check_layer(&[item(&format!(".wh.{}=", "n".repeat(300)))]).is_err());
}

#[test]
fn trees_deeper_than_any_path_do_no_harm() {
    // By way of links the tree goes ten times as deep as a path can say.
    let down = "d/".repeat(1000);
    let mut layer = vec![item(&down)];
    for number in 0..10 {
        let from = if number == 0 { String::new() } else { format!("l{}/", number - 1) };
        layer.push(item(&format!("l{number} -> {from}{down}")));
        layer.push(item(&format!("l{number}/{down}")));
    }
    let (layer, deleted) = (tar_of(&layer), tar_of(&items(&["new/", ".wh..wh..opq="])));
    let (index, stats) = index_of(&[&layer], Form::Overlay).expect("expressible");
    assert_eq!(stats.inodes, 11_011);
    let mounted = Mounted::new(&index, &[&layer]);
    assert!(rustix::fs::statat(&mounted.root, "l9/d", rustix::fs::AtFlags::empty()).is_ok());
    let (_, stats) = index_of(&[&layer, &deleted], Form::Apply).expect("expressible");
    assert_eq!(stats.inodes, 2);
}

#[test]
fn a_directory_of_a_hundred_thousand_names_has_them_all() {
    let layer: Vec<Item> = (0..100_000).map(|number| item(&format!("d/{number:x}="))).collect();
    let tar = tar_of(&layer);
    let (index, stats) = index_of(&[&tar], Form::Overlay).expect("expressible");
    assert_eq!(stats.inodes, 100_002);
    let seen = list(Mounted::new(&index, &[&tar]).root.as_fd());
    let shown: std::collections::BTreeSet<_> = seen.iter().map(|seen| &seen.entry.path).collect();
    assert!(layer.iter().all(|(entry, _)| shown.contains(&entry.path)));
    assert_eq!(seen.len(), 100_001);
}

#[test]
fn attributes_beyond_the_format_are_told() {
    let mut entry = Entry::new("f", Kind::File { size: 0 }, 0o644);
    entry.xattrs.insert(b"user.x".to_vec(), vec![0; 65_536]);
    let refused = Builder::new().add(&entry, Content::None).expect_err("too long");
    assert_eq!(refused.to_string(), "cannot index \"f\": an extended attribute of it is too long");
    entry.xattrs =
        (b'a'..=b'e').map(|name| ([b"user.", &[name][..]].concat(), vec![0; 60_000])).collect();
    let refused = Builder::new().add(&entry, Content::None).expect_err("too many");
    assert_eq!(refused.to_string(), "cannot index \"f\": its extended attributes are too many");
}

/// A layer with something of everything, to be broken.
fn specimen() -> Vec<u8> {
    let mut layer =
        items(&["d/", "d/f=12345", "l -> d", "h => d/f", "l/.wh.x=", "e/.wh..wh..opq="]);
    layer[0].0.mtime.nanoseconds = 1;
    layer[1].0.xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
    tar_of(&layer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_archives_are_told_apart_as_by_unpacking(
        breaks in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cut in any::<usize>(),
    ) {
        let mut tar = specimen();
        for (place, byte) in breaks {
            let place = place % tar.len();
            tar[place] = byte;
            let block = &mut tar[place / 512 * 512..][..512];
            // Most breaks would only be found by the checksum.
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            if !place.is_multiple_of(3) && block[148..154].iter().all(|byte| *byte != 0) {
                block.copy_from_slice(header.as_bytes());
            }
        }
        if cut % 4 == 0 {
            tar.truncate(cut % tar.len());
        }
        let temp = tempfile::tempdir().expect("a directory");
        let root = File::open(temp.path()).expect("the directory");
        let unpacked = unpack_layer(tar.as_slice(), root.as_fd(), Form::Overlay);
        let indexed = index_of(&[&tar], Form::Overlay);
        prop_assert_eq!(unpacked.is_ok(), indexed.is_ok(), "{:?} {:?}", unpacked, indexed.err());
        if unpacked.is_ok() {
            let _ = check(&[&tar], Form::Overlay);
        }
    }
}
