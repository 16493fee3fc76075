//! Layers that no mount of ours has written: archives of other programs.

use std::{fs, io};

use cache::layer::{Entry, Kind, Timestamp};

use super::tree::Tree;
use super::{FIRST_STEP, on_both};

/// When everything in an archive was modified.
const TIME: Timestamp = Timestamp { seconds: 1_500_000_000, nanoseconds: 250 };

fn entry(path: &str, kind: Kind, mode: u32) -> (Entry, Vec<u8>) {
    // Not cleaned: archives spell paths in many ways.
    (Entry { path: path.into(), mtime: TIME, ..Entry::new("", kind, mode) }, Vec::new())
}

fn dir(path: &str) -> (Entry, Vec<u8>) {
    entry(path, Kind::Directory, 0o755)
}

fn file(path: &str, content: &str) -> (Entry, Vec<u8>) {
    let kind = Kind::File { size: content.len() as u64 };
    (entry(path, kind, 0o644).0, content.into())
}

fn link(path: &str, target: &str) -> (Entry, Vec<u8>) {
    entry(path, Kind::Hardlink(target.into()), 0o644)
}

fn symlink(path: &str, target: &str) -> (Entry, Vec<u8>) {
    entry(path, Kind::Symlink(target.into()), 0o777)
}

/// Gives what was made by hand the time it has in the archive.
fn settle(tree: &Tree) {
    tree.settle(TIME);
}

fn touch(tree: &Tree, path: &str) {
    tree.touch(path, TIME.seconds, TIME.nanoseconds);
}

fn base(tree: &Tree) {
    tree.dir("d", 0o755);
    tree.file("d/a", "1", 0o644);
    tree.dir("d/s", 0o755);
    tree.file("d/s/x", "3", 0o644);
    tree.file("f", "4", 0o644);
}

#[test]
fn a_hard_link_names_a_file_of_a_layer_below() {
    on_both(|chain| {
        chain.change(base);
        chain.change(|tree| tree.file("between", "", 0o644));
        let new =
            [link("g", "f"), file("new", "n"), dir("d"), link("d/h", "new"), link("h", "d/s/x")];
        chain.import(&new, |tree| {
            tree.link("f", "g");
            tree.file("new", "n", 0o644);
            tree.link("new", "d/h");
            tree.link("d/s/x", "h");
            settle(tree);
        });
        chain.change(|tree| {
            tree.remove("f");
            tree.remove("between");
        });
        chain.import(&[link("f", "g")], |tree| tree.link("g", "f"));
        chain.change(|tree| tree.file("above", "", 0o644));
    });
}

#[test]
fn a_directory_that_an_archive_with_such_a_link_only_implies_keeps_its_time() {
    on_both(|chain| {
        chain.change(base);
        chain.import(&[link("d/g", "f"), file("d/s/new", "")], |tree| {
            tree.link("f", "d/g");
            tree.file("d/s/new", "", 0o644);
            settle(tree);
            ["d", "d/s"].into_iter().for_each(|path| tree.touch(path, FIRST_STEP, 7));
        });
    });
}

#[test]
fn a_whiteout_of_what_is_not_there_deletes_nothing() {
    on_both(|chain| {
        chain.import(&[file("f", "1"), file(".wh.absent", "")], |tree| {
            tree.file("f", "1", 0o644);
            settle(tree);
        });
        chain.change(|tree| {
            tree.dir("d", 0o755);
            tree.file("d/a", "", 0o644);
        });
        chain.import(&[dir("d"), file("d/.wh.absent", ""), file(".wh.no", "")], |tree| {
            touch(tree, "d")
        });
        chain.change(|tree| tree.file("d/absent", "", 0o644));
    });
}

#[test]
fn a_whiteout_in_a_new_directory_is_a_name_that_is_free() {
    on_both(|chain| {
        // Overlay lists such a whiteout, because it looks through directories of one layer only as
        // they are; so do the layers of every other engine.
        let layer = [dir("d"), file("d/.wh.absent", ""), file("d/a", "")];
        chain.add_archive(&layer);
        let plain = chain.plain();
        plain.dir("d", 0o755);
        plain.file("d/a", "", 0o644);
        settle(&plain);
        let view = chain.view();
        let absent = fs::symlink_metadata(view.tree.at("d/absent")).expect_err("not there");
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        chain.change(|tree| tree.file("d/absent", "", 0o644));
        chain.change(|tree| tree.remove("d/absent"));
        chain.change(|tree| tree.remove("d"));
    });
}

#[test]
fn an_opaque_root_hides_everything_below() {
    on_both(|chain| {
        chain.change(base);
        chain.import(&[file(".wh..wh..opq", ""), file("only", "1")], |tree| {
            ["d", "f"].into_iter().for_each(|path| tree.remove(path));
            tree.file("only", "1", 0o644);
            settle(tree);
        });
        chain.change(|tree| tree.file("above", "", 0o644));
        chain.import(&[dir("d"), file("d/b", "2"), file(".wh..wh..opq", "")], |tree| {
            ["only", "above"].into_iter().for_each(|path| tree.remove(path));
            tree.dir("d", 0o755);
            tree.file("d/b", "2", 0o644);
            settle(tree);
        });
        chain.change(|tree| tree.remove("d/b"));
    });
}

#[test]
fn an_opaque_mark_hides_what_is_below_wherever_it_stands_in_the_archive() {
    let orders: [&[(Entry, Vec<u8>)]; 4] = [
        &[dir("d"), file("d/.wh..wh..opq", ""), file("d/n", "5")],
        &[dir("d"), file("d/n", "5"), file("d/.wh..wh..opq", "")],
        &[file("d/n", "5"), dir("d"), file("d/.wh..wh..opq", "")],
        &[file("d/n", "5"), file(".wh.d", ""), dir("d")],
    ];
    for order in orders {
        on_both(|chain| {
            chain.change(base);
            chain.import(order, |tree| {
                tree.remove("d");
                tree.dir("d", 0o755);
                tree.file("d/n", "5", 0o644);
                settle(tree);
            });
            chain.change(|tree| tree.file("d/a", "back", 0o644));
        });
    }
}

#[test]
fn a_whiteout_spares_what_its_own_layer_has_in_the_place() {
    on_both(|chain| {
        chain.change(base);
        let layer = [file("f", "new"), file(".wh.f", ""), file(".wh.d", ""), symlink("d", "f")];
        chain.import(&layer, |tree| {
            tree.remove("d");
            tree.file("f", "new", 0o644);
            tree.symlink("d", "f");
            settle(tree);
        });
        chain.change(|tree| tree.remove("d"));
    });
}

#[test]
fn paths_are_spelt_in_many_ways() {
    on_both(|chain| {
        let layer =
            [dir("./"), dir("./a/"), file("./a//b", "1"), file("/c", "2"), file("a/../d", "3")];
        chain.import(&layer, |tree| {
            tree.dir("a", 0o755);
            tree.file("a/b", "1", 0o644);
            tree.file("c", "2", 0o644);
            tree.file("d", "3", 0o644);
            settle(tree);
        });
        chain.import(&[file("./.wh.c", ""), dir("/a/."), file("./a/.wh.b", "")], |tree| {
            tree.remove("c");
            tree.remove("a/b");
            touch(tree, "a");
        });
    });
}

#[test]
fn the_last_of_several_entries_for_a_path_counts() {
    on_both(|chain| {
        let layer =
            [file("x", "1"), dir("x"), file("x/below", "2"), file("x", "3"), file("x", "4")];
        chain.import(&layer, |tree| {
            tree.file("x", "4", 0o644);
            settle(tree);
        });
    });
}

#[test]
fn a_root_that_an_archive_describes_is_as_it_says() {
    on_both(|chain| {
        let mut root = entry("./", Kind::Directory, 0o711);
        (root.0.uid, root.0.gid) = (5, 6);
        chain.import(&[root, file("f", "1")], |tree| {
            tree.chmod("", 0o711);
            tree.chown("", 5, 6);
            tree.file("f", "1", 0o644);
            settle(tree);
        });
    });
}

#[test]
fn a_directory_that_an_archive_only_implies_is_roots_if_it_is_new() {
    on_both(|chain| {
        chain.import(&[file("new/sub/file", "1")], |tree| {
            tree.dir("new", 0o755);
            tree.dir("new/sub", 0o755);
            tree.file("new/sub/file", "1", 0o644);
            settle(tree);
            ["new", "new/sub"].into_iter().for_each(|path| tree.touch(path, 0, 0));
        });
        chain.change(|tree| tree.file("new/other", "", 0o644));
    });
}

#[test]
fn a_directory_that_an_archive_only_implies_stays_what_it_is_below() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("tmp", 0o1777);
            tree.dir("home", 0o700);
            tree.chown("home", 1000, 1000);
            tree.xattr("home", "user.colour", "green");
            tree.file("home/old", "", 0o644);
            tree.touch("home", 5, 5);
            tree.touch("tmp", 6, 6);
        });
        chain.import(&[file("tmp/file", "1"), file("home/.wh.old", "")], |tree| {
            tree.file("tmp/file", "1", 0o644);
            tree.remove("home/old");
            settle(tree);
            tree.touch("home", 5, 5);
            tree.touch("tmp", 6, 6);
        });
        chain.change(|tree| tree.file("home/new", "", 0o644));
    });
}

#[test]
fn a_directory_that_an_archive_only_implies_may_be_a_link_below() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("usr", 0o755);
            tree.dir("usr/lib", 0o755);
            tree.symlink("lib", "usr/lib");
            tree.file("usr/lib/old", "", 0o644);
        });
        chain.import(&[file("lib/new", "1"), file("lib/.wh.old", "")], |tree| {
            tree.file("usr/lib/new", "1", 0o644);
            tree.remove("usr/lib/old");
            settle(tree);
            tree.touch("usr/lib", FIRST_STEP, 7);
        });
        chain.change(|tree| tree.file("usr/lib/newer", "", 0o644));
    });
}
