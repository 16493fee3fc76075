//! What layers delete. The kernel's overlay is the reference.

use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

/// An overlay that is unmounted however the test ends.
struct Mounted(PathBuf);

impl Mounted {
    fn new(target: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&target).expect("a directory");
        let options = std::ffi::CString::new(options).expect("no NUL");
        mount("overlay", &target, "overlay", MountFlags::empty(), options.as_c_str())
            .expect("an overlay");
        Self(target)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("mounted");
    }
}

/// Checks what two layers make of each other, applied and mounted.
fn check(lower: &[&str], upper: &[&str], expected: &[&str]) {
    let temp = tempfile::tempdir().expect("a directory");
    let (lower, tar) = (tar_of(&items(lower)), tar_of(&items(upper)));
    let at = |name: &str| temp.path().join(name);

    let applied = at("applied");
    unpack_into(&lower, &applied, unpack::Form::Apply).expect("unpackable");
    unpack_into(&tar, &applied, unpack::Form::Apply).expect("applicable");
    assert_eq!(show(&list(&applied)), expected, "{upper:?} applied");

    unpack_into(&lower, &at("lower"), unpack::Form::Overlay).expect("unpackable");
    let stats = unpack_into(&tar, &at("upper"), unpack::Form::Overlay).expect("unpackable");
    if stats.opaque_root {
        return;
    }
    let layers = format!("lowerdir={}:{}", at("upper").display(), at("lower").display());
    let mounted = Mounted::new(at("mounted"), &layers);
    assert_eq!(show(&list(&mounted.0)), expected, "{upper:?} mounted");
}

#[test]
fn whiteouts_delete_what_is_below() {
    let lower = &["d/", "d/a=1", "d/b=2", "d/s/", "d/s/x=3", "f=4"];
    check(lower, &["d/", "d/.wh.a="], &["d/", "d/b=2", "d/s/", "d/s/x=3", "f=4"]);
    check(lower, &[".wh.d=", ".wh.f=", ".wh.absent="], &[]);
    check(lower, &["d/", "d/.wh..wh..opq="], &["d/", "f=4"]);
    check(lower, &["d/", "d/s/", "d/s/.wh.x=", "d/.wh.a="], &["d/", "d/b=2", "d/s/", "f=4"]);
    check(lower, &[".wh..wh..opq=", "g=5"], &["g=5"]);
    check(&["f=4"], &["new/", "new/.wh.x=", "new/y=5"], &["f=4", "new/", "new/y=5"]);
    check(
        lower,
        &[".wh..wh.plnk=", "f/", ".wh..wh.aufs="],
        &["d/", "d/a=1", "d/b=2", "d/s/", "d/s/x=3", "f/"],
    );
    check(&["..a=1", ".b=2"], &[".wh...a=", ".wh..b="], &[]);
}

#[test]
fn a_layer_never_deletes_its_own() {
    let lower = &["d/", "d/a=1", "d/s/", "d/s/x=3"];
    for upper in [
        ["d/", "d/.wh..wh..opq=", "d/new=5"],
        ["d/", "d/new=5", "d/.wh..wh..opq="],
        ["d/new=5", "d/", "d/.wh..wh..opq="],
    ] {
        check(lower, &upper, &["d/", "d/new=5"]);
    }
    check(lower, &["d/", "d/s/", "d/s/y=6", "d/.wh..wh..opq="], &["d/", "d/s/", "d/s/y=6"]);
    check(lower, &["d/", "d/s/y=6", "d/.wh..wh..opq="], &["d/", "d/s/", "d/s/y=6"]);
    for upper in
        [[".wh.d=", "d/", "d/new=5"], ["d/", "d/new=5", ".wh.d="], ["d/", ".wh.d=", "d/new=5"]]
    {
        check(lower, &upper, &["d/", "d/new=5"]);
    }
    for upper in [["d/.wh.a=", "d/a=9"], ["d/a=9", "d/.wh.a="]] {
        check(lower, &upper, &["d/", "d/a=9", "d/s/", "d/s/x=3"]);
    }
    check(lower, &[".wh.d=", "d/new=5"], &["d/", "d/new=5"]);
    check(lower, &["new=5", ".wh..wh..opq="], &["new=5"]);
}

#[test]
fn entries_take_each_others_place() {
    check(&["f=1"], &["f/", "f/x=2"], &["f/", "f/x=2"]);
    check(&["d/", "d/x=1"], &["d=2"], &["d=2"]);
    check(&["t/", "t/x=1", "l -> t"], &["l/", "l/y=2"], &["l/", "l/y=2", "t/", "t/x=1"]);
    check(&["f=1"], &["f -> g"], &["f -> g"]);
    check(&["f=1", "g => f"], &["f=2"], &["f=2", "g=1"]);
    check(&["a=1"], &["a=2", "a=3", "b => a", "b=4"], &["a=3", "b=4"]);
    check(&[], &["a=1", "a => a", "b => a", "b => a"], &["a=1", "b => a"]);
    check(&[], &["a=1", "d/", "d/x=2", "d => a"], &["a=1", "d => a"]);
}

#[test]
fn a_link_on_the_way_is_followed_inside_the_tree() {
    let temp = tempfile::tempdir().expect("a directory");
    let lower = tar_of(&items(&["run/", "run/old=0", "var/", "var/run -> /run"]));
    let upper = tar_of(&items(&["var/run/pid=1", "alias => var/run/pid", "run/.wh..wh..opq="]));
    for layer in [lower, upper] {
        unpack_into(&layer, temp.path(), unpack::Form::Apply).expect("applicable");
    }
    assert_eq!(
        show(&list(temp.path())),
        ["alias=1", "run/", "run/pid => alias", "var/", "var/run -> /run"]
    );
}

#[test]
fn implied_directories_are_roots_and_reported() {
    for form in [unpack::Form::Overlay, unpack::Form::Apply] {
        let temp = tempfile::tempdir().expect("a directory");
        let mut layer = items(&["a/b/c=1", "a/"]);
        layer[1].0.mode = 0o1700;
        let stats = unpack_into(&tar_of(&layer), temp.path(), form).expect("unpackable");
        assert_eq!(stats.implied.into_iter().collect::<Vec<_>>(), [b"a/b"]);
        let tree = list(temp.path());
        assert_eq!(tree[0].0, layer[1].0);
        assert_eq!(tree[1].0, Entry::new("a/b", Kind::Directory, 0o755));
    }
}

#[test]
fn a_directory_loses_the_attributes_it_had_below() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut layer = items(&["d/"]);
    layer[0].0.xattrs.insert(b"user.old".to_vec(), b"1".to_vec());
    unpack_into(&tar_of(&layer), temp.path(), unpack::Form::Apply).expect("unpackable");
    let layer = items(&["d/"]);
    unpack_into(&tar_of(&layer), temp.path(), unpack::Form::Apply).expect("applicable");
    assert_eq!(list(temp.path()), layer);
}

#[test]
fn what_the_kernel_leaves_in_an_upper_directory_can_be_packed_and_applied() {
    let temp = tempfile::tempdir().expect("a directory");
    let at = |name: &str| temp.path().join(name);
    let lower = tar_of(&items(&[
        "d/", "d/a=1", "d/s/", "d/s/x=3", "f=4", "g=5", "h => g", "l -> d", "keep/", "keep/k=6",
    ]));
    unpack_into(&lower, &at("lower"), unpack::Form::Overlay).expect("unpackable");
    unpack_into(&lower, &at("applied"), unpack::Form::Apply).expect("unpackable");
    for name in ["upper", "work"] {
        fs::create_dir(at(name)).expect("made");
    }
    let [low, up, work] = ["lower", "upper", "work"].map(|name| at(name).display().to_string());
    let options = format!(
        "lowerdir={low},upperdir={up},workdir={work},redirect_dir=off,metacopy=off,volatile"
    );
    let mounted = Mounted::new(at("merged"), &options);
    let merged = |name: &str| at("merged").join(name);
    fs::remove_dir_all(merged("d")).expect("removed");
    fs::create_dir(merged("d")).expect("made");
    fs::write(merged("d/new"), "7").expect("written");
    fs::remove_file(merged("f")).expect("removed");
    fs::create_dir(merged("f")).expect("made");
    fs::write(merged("g"), "8").expect("written");
    fs::remove_file(merged("l")).expect("removed");
    fs::remove_file(merged("keep/k")).expect("removed");
    fs::write(merged("one"), "9").expect("written");
    fs::hard_link(merged("one"), merged("two")).expect("linked");
    let expected = list(&mounted.0);
    drop(mounted);

    let tar = pack_upper(&at("upper"));
    unpack_into(&tar, &at("applied"), unpack::Form::Apply).expect("applicable");
    let applied = list(&at("applied"));
    assert_eq!(
        show(&applied),
        ["d/", "d/new=7", "f/", "g=8", "h=5", "keep/", "one=9", "two => one"]
    );
    assert_eq!(applied, expected);
}
