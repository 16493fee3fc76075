//! Archives made to do harm, and archives that are broken.

use proptest::prelude::*;

use super::super::xattr;
use super::*;

/// Checks that a layer changes nothing beside its destination, whether or not it can be unpacked.
fn check(layer: &[&str]) {
    check_tar(&tar_of(&items(layer)), &format!("{layer:?}"));
}

fn check_tar(tar: &[u8], what: &str) {
    for form in [unpack::Form::Overlay, unpack::Form::Apply] {
        let temp = tempfile::tempdir().expect("a directory");
        let outside =
            tar_of(&items(&["outside/", "outside/secret=1", "outside/d/", "outside/d/x=2"]));
        unpack_into(&outside, temp.path(), unpack::Form::Apply).expect("unpackable");
        let before = list(temp.path());
        let result = unpack_into(tar, &temp.path().join("within/root"), form);
        let mut after = list(temp.path());
        after.retain(|(entry, _)| !entry.path.starts_with(b"within"));
        assert_eq!(after, before, "{what}");
        if let Err(error) = result {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

#[test]
fn no_layer_reaches_outside() {
    let outside = ["../../outside", "/../../outside", "./.././../outside", "a/../../../outside"];
    for path in outside {
        check(&[&format!("{path}/secret=overwritten")]);
        check(&[&format!("{path}/")]);
        check(&[&format!("{path}/.wh.secret=")]);
        check(&[&format!("{path}/.wh..wh..opq=")]);
        check(&[&format!("l -> {path}"), "l/secret=overwritten", "l/new=1"]);
        check(&[&format!("l -> {path}"), "l/.wh.secret=", "l/.wh..wh..opq=", "l/d/.wh.x="]);
        check(&[&format!("l -> {path}"), "l/d/"]);
        check(&[&format!("l -> {path}"), "h => l/secret", "h=overwritten"]);
        check(&[&format!("l -> {path}"), "h => l", "h/secret=overwritten"]);
        check(&[&format!("l -> {path}/secret"), "h => l", "h=overwritten"]);
        check(&[&format!("h => {path}/secret"), "h=overwritten"]);
        check(&[
            "a/",
            "a/b/",
            &format!("a/b/l -> {path}"),
            "m -> a/b/l",
            "n -> m",
            "n/secret=overwritten",
        ]);
        check(&["d/", "d/x=1", &format!("d -> {path}"), "d/secret=overwritten"]);
    }
    check(&[".wh...=", "a/.wh...="]);
    check(&[".wh..=", ".wh.="]);
    check(&["l -> /proc/self/root", "l/tmp/x=1"]);
    check(&["l -> /proc/self/cwd/..", "l/x=1"]);
    check(&["loop -> loop", "loop/x=1"]);
    check(&[".=1"]);
}

#[test]
fn whiteouts_of_no_name_are_refused() {
    for name in [".wh.", "d/.wh..", ".wh..."] {
        for form in [unpack::Form::Overlay, unpack::Form::Apply] {
            let temp = tempfile::tempdir().expect("a directory");
            let tar = tar_of(&items(&[&format!("{name}=")]));
            let error = unpack_into(&tar, temp.path(), form).expect_err(name);
            assert_eq!(
                error.to_string(),
                format!("the archive's entry \"{name}\" has an invalid whiteout")
            );
        }
    }
}

#[test]
fn overlays_own_attributes_are_not_taken_from_a_layer() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut layer = items(&["d/", "f=1"]);
    for (entry, _) in &mut layer {
        for name in [
            "trusted.overlay.redirect",
            "trusted.overlay.metacopy",
            "user.overlay.opaque",
            "user.kept",
        ] {
            entry.xattrs.insert(name.into(), b"/etc".to_vec());
        }
    }
    unpack_into(&tar_of(&layer), temp.path(), unpack::Form::Overlay).expect("unpackable");
    let root = File::open(temp.path()).expect("the tree");
    for name in ["d", "f"] {
        let kept = xattr::get_all(root.as_fd(), name.as_bytes()).expect("readable");
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), [b"user.kept"]);
    }
}

#[test]
fn errors_name_the_entry() {
    let layer = tar_of(&items(&["first=1", "second=22"]));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut tar = layer.clone();
        change(&mut tar);
        read(&tar).expect_err("broken").to_string()
    };
    assert_eq!(with(&|tar| tar.truncate(512)), "the archive ends within \"first\" at byte 512");
    assert_eq!(with(&|tar| tar.truncate(1100)), "the archive ends within \"first\" at byte 1100");
    assert_eq!(with(&|tar| tar.truncate(1537)), "the archive ends within \"second\" at byte 1537");
    let mut extended = tar_of(&items(&["\u{e4}=1"]));
    extended.truncate(1024);
    assert!(matches!(read(&extended), Err(Error::Truncated { .. })));
    assert_eq!(with(&|tar| tar[1024] = b'x'), "not a tar header at byte 1024, after \"first\"");
    assert_eq!(with(&|tar| tar.fill(b'x')), "not a tar header at byte 0");
    let retyped = |tar: &mut Vec<u8>| {
        tar[156] = b'Q';
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&tar[..512]);
        header.set_cksum();
        tar[..512].copy_from_slice(header.as_bytes());
    };
    assert_eq!(with(&retyped), "the archive's entry \"first\" has the unknown type \"Q\"");

    let temp = tempfile::tempdir().expect("a directory");
    let cut = unpack_into(&layer[..1537], temp.path(), unpack::Form::Apply).expect_err("cut");
    assert_eq!(cut.to_string(), "the archive ends within \"second\" at byte 1537");
    let missing = tar_of(&items(&["a => gone/b"]));
    let missing = unpack_into(&missing, temp.path(), unpack::Form::Apply).expect_err("missing");
    assert_eq!(missing.to_string(), "\"a\" is a hard link to \"gone/b\", which does not exist");
}

/// A layer with something of everything, to be broken.
fn specimen() -> Vec<u8> {
    let mut layer = items(&[
        "d/",
        "d/f=12345",
        "l -> ../../outside",
        "h => d/f",
        "d/.wh.x=",
        "e/.wh..wh..opq=",
    ]);
    layer[0].0.mtime.nanoseconds = 1;
    layer[1].0.xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
    tar_of(&layer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_archives_are_harmless(breaks in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4), cut in any::<usize>()) {
        let mut tar = specimen();
        for (place, byte) in breaks {
            let place = place % tar.len();
            tar[place] = byte;
            let block = place / 512 * 512;
            // Most breaks would only be found by the checksum.
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&tar[block..block + 512]);
            header.set_cksum();
            if !place.is_multiple_of(3) && (148..156).all(|offset| tar[block + offset] != 0 || offset == 154) {
                tar[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        if cut % 4 == 0 {
            tar.truncate(cut % tar.len());
        }
        check_tar(&tar, "broken");
    }
}
