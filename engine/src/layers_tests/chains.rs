//! Chains as a whole: layers that come twice or change nothing, views, what is derived of layers,
//! stores whose driver changes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use cache::layer::Timestamp;
use cache::lower::Driver;
use rustix::io::Errno;

use super::{Chain, FIRST_STEP, on_both};

#[test]
fn a_layer_that_changes_nothing_and_one_that_comes_twice_change_nothing() {
    on_both(|chain| {
        chain.change(|_| {});
        chain.change(|tree| {
            tree.dir("dir", 0o711);
            tree.file("dir/file", "content", 0o644);
        });
        chain.change(|_| {});
        let again = chain.layers[1];
        chain.add(again);
        chain.check();
        chain.change(|tree| tree.file("dir/other", "", 0o644));
    });
}

#[test]
fn a_layer_does_again_what_others_have_undone() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("dir", 0o755);
            tree.file("dir/file", "first", 0o644);
        });
        chain.change(|tree| tree.remove("dir/file"));
        chain.change(|tree| tree.remove("dir"));
        let plain = chain.plain();
        let first = chain.layers[0];
        chain.add(first);
        plain.dir("dir", 0o755);
        plain.file("dir/file", "first", 0o644);
        plain.settle(Timestamp { seconds: FIRST_STEP, nanoseconds: 7 });
        chain.check();
        chain.change(|tree| tree.append("dir/file", " and second"));
    });
}

#[test]
fn a_chain_that_is_looked_at_cannot_be_written_to() {
    on_both(|chain| {
        chain.change(|tree| tree.file("file", "", 0o644));
        let view = chain.view();
        let refused = fs::write(view.tree.at("new"), "").expect_err("not written");
        assert_eq!(refused.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
        let refused = fs::remove_file(view.tree.at("file")).expect_err("not removed");
        assert_eq!(refused.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    });
}

#[test]
fn what_is_derived_of_a_layer_in_the_middle_can_go() {
    on_both(|chain| {
        for name in ["lower", "middle", "upper"] {
            chain.change(|tree| {
                tree.file(name, name, 0o644);
                tree.file("all", name, 0o644);
            });
        }
        let tar = chain.store.layer_tar(&chain.layers[1]);
        let layer = tar.parent().expect("a directory");
        let mut removed = 0;
        for entry in fs::read_dir(layer).expect("the layer") {
            let path = entry.expect("a name").path();
            if path.is_dir() {
                fs::remove_dir_all(&path).expect("removed");
                removed += 1;
            } else if path != tar {
                fs::remove_file(&path).expect("removed");
                removed += 1;
            }
        }
        assert!(removed > 0, "nothing is derived");
        chain.check();
    });
}

#[test]
fn a_store_may_change_its_driver_between_any_two_layers() {
    for drivers in [[Driver::Dir, Driver::Erofs], [Driver::Erofs, Driver::Dir]] {
        let mut chain = Chain::new(drivers[0]);
        for round in 0..4 {
            chain.change(|tree| {
                if round == 0 {
                    tree.dir("dir", 0o755);
                } else {
                    tree.remove(format!("dir/{}", round - 1));
                    tree.append("file", format!(" {round}"));
                    tree.remove("again");
                }
                tree.file(format!("dir/{round}"), "", 0o644);
                tree.dir("again", 0o755);
                tree.file(format!("again/{round}"), "", 0o644);
                if round == 0 {
                    tree.file("file", "0", 0o644);
                }
            });
            chain.reopen(drivers[(round + 1) % 2]);
            chain.check();
        }
        chain.finish();
    }
}

#[test]
fn the_root_is_everybodys_to_read_and_roots_to_write() {
    on_both(|chain| {
        chain.change(|_| {});
        chain.change(|tree| {
            // As a container sees it before it has written anything.
            let metadata = fs::metadata(tree.at("")).expect("the root");
            assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o755, 0, 0));
        });
    });
}
