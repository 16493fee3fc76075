//! What files have beside a name and content: modes, owners, times, attributes, holes, other names.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use cache::lower::Driver;
use rustix::fs::FileType;

use super::on_both;
use super::tree::Tree;

/// The one attribute that the kernel reads itself: `cap_net_raw=ep` (capabilities(7), revision 2).
pub(super) const CAPABILITY: (&str, &[u8]) =
    ("security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0");

#[test]
fn modes_are_kept_with_set_id_bits_and_sticky() {
    let modes = [0, 0o1, 0o400, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777];
    on_both(|chain| {
        chain.change(|tree| {
            for mode in modes {
                tree.file(format!("file-{mode:o}"), "", mode);
                tree.dir(format!("dir-{mode:o}"), mode);
            }
        });
        chain.change(|tree| {
            for (mode, new) in modes.into_iter().zip(modes.into_iter().rev()) {
                tree.chmod(format!("file-{mode:o}"), new);
                tree.chmod(format!("dir-{mode:o}"), new);
            }
        });
        chain.change(|tree| tree.file("dir-2755/inherits the group", "", 0o644));
    });
}

#[test]
fn a_new_owner_takes_set_id_bits_away() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.file("file", "", 0o6755);
            tree.dir("dir", 0o7777);
        });
        chain.change(|tree| ["file", "dir"].iter().for_each(|path| tree.chown(path, 5, 6)));
    });
}

#[test]
fn owners_are_any_numbers() {
    on_both(|chain| {
        chain.change(|tree| {
            for (at, id) in [1, 65_534, 65_535, 65_536, 2_097_152, u32::MAX - 1].iter().enumerate()
            {
                tree.file(format!("file{at}"), "", 0o644);
                tree.chown(format!("file{at}"), *id, 0);
                tree.dir(format!("dir{at}"), 0o755);
                tree.chown(format!("dir{at}"), 0, *id);
                tree.symlink(format!("link{at}"), "file0");
                tree.chown(format!("link{at}"), *id, *id);
            }
        });
        chain.change(|tree| tree.chown("file5", 65_537, 65_537));
    });
}

#[test]
fn times_are_kept_to_the_nanosecond_long_before_and_after_now() {
    let times = [
        (-2_000_000_000, 1),
        (-1, 999_999_999),
        (0, 0),
        (0, 1),
        (1_600_000_000, 123_456_789),
        (1_600_000_000, 100_000_000),
        (2_147_483_648, 5),
        (8_589_934_592, 999_999_999),
        (13_000_000_000, 0),
    ];
    let touch = |tree: &Tree, shift: usize| {
        for at in 0..times.len() {
            let (seconds, nanoseconds) = times[(at + shift) % times.len()];
            for kind in ["file", "dir", "link"] {
                tree.touch(format!("{kind}{at}"), seconds, nanoseconds);
            }
        }
    };
    on_both(|chain| {
        chain.change(|tree| {
            for at in 0..times.len() {
                tree.file(format!("file{at}"), "", 0o644);
                tree.dir(format!("dir{at}"), 0o755);
                tree.symlink(format!("link{at}"), "nowhere");
            }
            touch(tree, 0);
        });
        chain.change(|tree| touch(tree, 4));
        // Of a directory that is only passed through the time stays.
        chain.change(|tree| tree.chmod("dir1", 0o700));
    });
}

#[test]
fn attributes_of_all_kinds_are_set_changed_and_removed() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.file("file", "program", 0o755);
            tree.dir("dir", 0o755);
            tree.symlink("link", "file");
            for path in ["file", "dir"] {
                tree.xattr(path, "user.colour", "green");
                tree.xattr(path, "user.empty", "");
                tree.xattr(path, "user.binary", [0, 255, b'\n', b'=']);
            }
            tree.xattr("file", CAPABILITY.0, CAPABILITY.1);
            tree.xattr("file", "user.long", vec![b'x'; 3000]);
            for path in ["file", "dir", "link"] {
                tree.xattr(path, "trusted.any", path);
            }
        });
        chain.change(|tree| {
            tree.remove_xattr("file", "user.colour");
            tree.xattr("dir", "user.colour", "blue");
            tree.remove_xattr("dir", "user.empty");
            tree.xattr("link", "trusted.other", "");
        });
        chain.change(|tree| tree.file("dir/passes through", "", 0o644));
        chain.change(|tree| {
            tree.remove("dir");
            tree.dir("dir", 0o755);
        });
    });
}

#[test]
fn a_capability_is_kept_by_a_rename_and_lost_by_a_write_or_a_new_owner() {
    on_both(|chain| {
        chain.change(|tree| {
            for path in ["kept", "chmodded", "written", "chowned"] {
                tree.file(path, "program", 0o755);
                tree.xattr(path, CAPABILITY.0, CAPABILITY.1);
            }
        });
        chain.change(|tree| {
            tree.rename("kept", "renamed");
            tree.chmod("chmodded", 0o700);
            tree.append("written", "!");
            tree.chown("chowned", 1, 1);
        });
    });
}

#[test]
fn nodes_are_made_owned_and_replaced() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.node("null", FileType::CharacterDevice, (1, 3));
            tree.node("disk", FileType::BlockDevice, (259, 1_000_000));
            tree.node("pipe", FileType::Fifo, (0, 0));
            tree.chmod("null", 0o666);
            tree.chown("disk", 0, 6);
        });
        chain.change(|tree| {
            tree.chmod("disk", 0o640);
            tree.chown("pipe", 1000, 1000);
            tree.rename("null", "zero");
        });
        chain.change(|tree| {
            tree.remove("pipe");
            tree.node("pipe", FileType::BlockDevice, (7, 0));
            tree.remove("disk");
            tree.file("disk", "an image", 0o644);
        });
    });
}

#[test]
fn sizes_around_those_of_blocks_are_kept() {
    on_both(|chain| {
        let sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1_000_001];
        chain.change(|tree| {
            for size in sizes {
                let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
                tree.file(format!("{size}"), content, 0o644);
            }
        });
        chain.change(|tree| sizes.iter().for_each(|size| tree.append(format!("{size}"), "more")));
    });
}

#[test]
fn holes_read_as_zeros_and_take_no_room_where_they_are_unpacked() {
    let parts = [(0, &b"start"[..]), (1 << 20, &[7; 5000]), (3 << 20, b"middle")];
    let sparse = |tree: &Tree, path: &str| {
        let file = File::create(tree.at(path)).expect("a file");
        file.set_len(4 << 20).expect("grown");
        for (at, bytes) in parts {
            file.write_all_at(bytes, at).expect("written");
        }
    };
    on_both(|chain| {
        chain.change(|tree| {
            sparse(tree, "sparse");
            File::create(tree.at("hole")).expect("a file").set_len(1 << 20).expect("grown");
        });
        chain.change(|tree| sparse(tree, "other"));
        if chain.driver == Driver::Dir {
            let view = chain.view();
            for path in ["sparse", "hole", "other"] {
                let blocks = fs::metadata(view.tree.at(path)).expect("a file").blocks();
                assert!(blocks * 512 < 1 << 20, "{path} takes {blocks} blocks");
            }
        }
    });
}

#[test]
fn names_of_one_file_stay_together() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("a", 0o755);
            tree.dir("b", 0o755);
            tree.file("b/first", "content", 0o4755);
            tree.xattr("b/first", "user.colour", "green");
            tree.link("b/first", "a/second");
            tree.link("b/first", "third");
            tree.symlink("a/link", "nowhere");
            tree.link("a/link", "b/link");
            tree.node("pipe", FileType::Fifo, (0, 0));
            tree.link("pipe", "a/pipe");
        });
        chain.change(|tree| tree.remove("b/first"));
        chain.change(|tree| {
            tree.remove("third");
            tree.remove("a/link");
        });
    });
}

#[test]
fn a_new_name_of_a_file_below_is_the_same_file() {
    on_both(|chain| {
        chain.change(|tree| tree.file("file", "content", 0o644));
        chain.change(|tree| tree.link("file", "name"));
        chain.change(|tree| {
            tree.dir("dir", 0o755);
            tree.file("new", "new", 0o644);
            tree.link("new", "dir/new");
        });
    });
}

#[test]
fn a_name_that_is_written_to_is_a_file_of_its_own_if_all_names_are_below() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.file("a", "content", 0o644);
            ["b", "c", "d"].into_iter().for_each(|name| tree.link("a", name));
        });
        // Without overlay's index, which no layer can hold, the other names do not follow.
        let copied = |tree: &Tree, path: &str, content: &str| {
            tree.remove(path);
            tree.file(path, content, 0o644);
        };
        chain.change_apart(|tree| tree.file("a", "new", 0o644), |tree| copied(tree, "a", "new"));
        chain.change_apart(
            |tree| {
                tree.append("b", "!");
                tree.link("b", "e");
            },
            |tree| {
                copied(tree, "b", "content!");
                tree.link("b", "e");
            },
        );
    });
}

#[test]
fn links_say_any_text_and_lead_anywhere() {
    on_both(|chain| {
        let long = "x/".repeat(2047);
        let targets = [
            "nowhere",
            "/absolute",
            "../../../up",
            ".",
            "loop",
            "with\nnewline \\ and \u{e9}",
            &long,
        ];
        chain.change(|tree| {
            for (at, target) in targets.into_iter().enumerate() {
                tree.symlink(format!("link{at}"), target);
            }
            tree.symlink("loop", "loop");
        });
        chain.change(|tree| {
            for (at, target) in targets.into_iter().rev().enumerate() {
                tree.remove(format!("link{at}"));
                tree.symlink(format!("link{at}"), target);
            }
        });
    });
}
