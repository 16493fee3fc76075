//! Changes to what the layers below have.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::on_both;
use super::tree::Tree;

#[test]
fn a_layer_shows_what_was_written() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.file("foo", "foo\n", 0o777);
            tree.dir("a", 0o755);
            tree.dir("a/b", 0o755);
            tree.dir("a/b/c", 0o700);
            tree.file("a/b/c/file", "deep", 0o644);
            tree.symlink("a/link", "b/c/file");
        });
        chain.change(|tree| {
            tree.file("bar", "bar\n", 0o777);
            tree.remove("a/b");
        });
        chain.change(|tree| tree.file("foo", "foo bar\n", 0o777));
    });
}

#[test]
fn a_files_content_changes_and_its_neighbours_mode() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("etc", 0o700);
            tree.file("etc/hosts", "mydomain 10.0.0.1", 0o644);
            tree.file("etc/profile", "PATH=/usr/bin", 0o644);
        });
        chain.change(|tree| {
            tree.file("etc/hosts", "mydomain 10.0.0.2", 0o644);
            tree.file("etc/profile", "PATH=/usr/bin", 0o666);
            tree.dir("root", 0o700);
            tree.file("root/.bashrc", "PATH=/usr/sbin:/usr/bin", 0o644);
        });
    });
}

#[test]
fn a_directory_removed_and_made_again_has_only_what_is_new() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("lib", 0o700);
            tree.file("lib/hidden", "", 0o644);
            tree.dir("lib/sub", 0o755);
            tree.file("lib/sub/hidden", "", 0o644);
        });
        chain.change(|tree| {
            tree.remove("lib");
            tree.dir("lib", 0o700);
            tree.file("lib/not-hidden", "", 0o644);
        });
        chain.change(|tree| tree.file("lib/newfile", "", 0o644));
        chain.change(|tree| {
            tree.remove("lib");
            tree.dir("lib", 0o755);
            tree.dir("lib/sub", 0o711);
        });
        chain.change(|tree| tree.file("lib/sub/newer", "", 0o600));
    });
}

#[test]
fn what_was_deleted_stays_deleted() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.file("foo", "foo\n", 0o777);
            tree.file("foobar", "foobar\n", 0o777);
            tree.dir("full", 0o755);
            tree.file("full/file", "", 0o644);
            tree.symlink("link", "foo");
        });
        chain.change(|tree| ["foobar", "full", "link"].iter().for_each(|path| tree.remove(path)));
        chain.change(|_| {});
        chain.change(|tree| tree.file("other", "", 0o644));
    });
}

#[test]
fn what_was_deleted_can_be_made_again_and_deleted_again() {
    on_both(|chain| {
        for round in 0..3 {
            chain.change(|tree| {
                tree.file("file", format!("{round}"), 0o644);
                tree.dir("dir", 0o755);
                tree.file(format!("dir/{round}"), "", 0o644);
            });
            chain.change(|tree| {
                tree.remove("file");
                tree.remove("dir");
            });
        }
        chain.change(|tree| tree.file("dir", "not a directory any more", 0o644));
    });
}

#[test]
fn files_and_directories_get_new_owners() {
    let paths = ["opt", "opt/a", "opt/a/b", "opt/a/b/file.txt"];
    on_both(|chain| {
        chain.change(|tree| {
            paths[..3].iter().for_each(|path| tree.dir(path, 0o700));
            tree.file(paths[3], "hello", 0o644);
            tree.symlink("opt/link", "/nowhere");
        });
        chain.change(|tree| paths.iter().for_each(|path| tree.chown(path, 1, 1)));
        chain.change(|tree| tree.chown("opt/link", 7, 8));
    });
}

#[test]
fn a_directorys_owner_and_mode_are_kept_when_it_is_removed_made_again_and_written_to() {
    on_both(|chain| {
        chain.change(|tree| {
            (1..6).for_each(|number| tree.dir(format!("dir{number}"), 0o700));
            tree.file("dir4/f1", "...", 0o644);
            tree.file("dir5/f1", "...", 0o644);
            ["dir1", "dir2", "dir3", "dir5", "dir5/f1"]
                .into_iter()
                .for_each(|path| tree.chown(path, 1, 1));
        });
        chain.change(|tree| {
            tree.chown("dir2", 0, 0);
            tree.remove("dir3");
            tree.chown("dir4", 1, 1);
            tree.chown("dir4/f1", 1, 1);
        });
        chain.change(|tree| {
            tree.dir("dir3", 0o700);
            tree.chown("dir3", 1, 1);
            tree.remove("dir5");
            tree.dir("dir5", 0o700);
            tree.chown("dir5", 1, 1);
        });
        chain.change(|tree| tree.file("dir1/below", "", 0o644));
    });
}

#[test]
fn a_file_moves_from_a_directory_below_to_a_new_one() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("dir1", 0o700);
            tree.file("dir1/f1", "Hello", 0o644);
            tree.dir("dir2", 0o700);
            tree.file("dir2/f2", "...", 0o644);
        });
        chain.change(|tree| {
            tree.dir("dir3", 0o700);
            tree.file("dir3/f1", "Hello", 0o644);
            tree.remove("dir1");
            tree.link("dir2/f2", "dir3/f2");
            tree.remove("dir2/f2");
        });
    });
}

#[test]
fn files_are_renamed_over_others_and_to_new_names() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("somefiles", 0o700);
            tree.file("somefiles/f1", "was here first!", 0o644);
            tree.file("somefiles/f2", "nothing interesting", 0o644);
            tree.symlink("somefiles/link", "f1");
            tree.dir("other", 0o755);
        });
        chain.change(|tree| {
            tree.file("somefiles/f1-overwrite", "new content 1", 0o644);
            tree.rename("somefiles/f1-overwrite", "somefiles/f1");
            tree.rename("somefiles/f2", "somefiles/f3");
            tree.rename("somefiles/link", "other/link");
        });
        chain.change(|tree| {
            tree.rename("somefiles/f3", "somefiles/f2");
            tree.rename("somefiles/f1", "other/link");
        });
    });
}

#[test]
fn a_directory_below_cannot_be_renamed_but_moved() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("dir1", 0o711);
            tree.dir("dir1/sub", 0o750);
            tree.file("dir1/sub/file", "content", 0o4755);
            tree.touch("dir1/sub/file", -5, 5);
            tree.symlink("dir1/link", "sub/file");
        });
        let merged = |tree: &Tree| {
            // What `redirect_dir=on` would allow no layer could say.
            let refused = fs::rename(tree.at("dir1"), tree.at("dir2")).expect_err("not renamed");
            assert_eq!(refused.raw_os_error(), Some(Errno::XDEV.raw_os_error()));
            tree.mv("dir1", "dir2");
        };
        // The copy has the times of the first; a rename keeps them.
        chain.change_apart(merged, |tree| tree.mv("dir1", "dir2"));
        chain.change(|tree| tree.mv("dir2/sub", "sub"));
    });
}

#[test]
fn a_directory_of_the_layer_itself_is_renamed_also_over_what_was_deleted() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("old", 0o755);
            tree.file("old/below", "", 0o644);
            tree.file("gone", "", 0o644);
        });
        chain.change(|tree| {
            tree.dir("new", 0o700);
            tree.file("new/file", "", 0o644);
            tree.remove("old");
            tree.rename("new", "old");
            tree.dir("next", 0o700);
            tree.file("next/file", "", 0o644);
            tree.remove("gone");
            tree.rename("next", "gone");
        });
    });
}

#[test]
fn a_name_is_a_file_then_a_directory_then_a_link_and_back() {
    on_both(|chain| {
        let make: [fn(&Tree); 4] = [
            |tree| tree.file("x", "file", 0o644),
            |tree| {
                tree.dir("x", 0o755);
                tree.file("x/below", "", 0o644);
            },
            |tree| tree.symlink("x", "other"),
            |tree| {
                tree.dir("x", 0o755);
                tree.file("x/beside", "", 0o644);
            },
        ];
        chain.change(|tree| {
            tree.dir("other", 0o755);
            tree.file("other/kept", "", 0o644);
            make[0](tree);
        });
        for next in [1, 0, 2, 1, 2, 0, 3, 1, 3] {
            chain.change(|tree| {
                tree.remove("x");
                make[next](tree);
            });
        }
    });
}

#[test]
fn directories_that_hide_what_is_below_lie_in_each_other() {
    on_both(|chain| {
        let fill = |tree: &Tree, name: &str| {
            for directory in ["a", "a/b", "a/b/c"] {
                tree.file(format!("{directory}/{name}"), name, 0o644);
            }
        };
        let make = |tree: &Tree| {
            ["a", "a/b", "a/b/c"].into_iter().for_each(|path| tree.dir(path, 0o755));
        };
        chain.change(|tree| {
            make(tree);
            fill(tree, "first");
        });
        chain.change(|tree| {
            tree.remove("a/b");
            tree.dir("a/b", 0o755);
            tree.dir("a/b/c", 0o755);
            fill(tree, "second");
        });
        chain.change(|tree| {
            tree.remove("a/b/c");
            tree.dir("a/b/c", 0o700);
            tree.file("a/b/c/third", "", 0o644);
        });
        chain.change(|tree| {
            tree.remove("a");
            make(tree);
            fill(tree, "fourth");
        });
        chain.change(|tree| tree.remove("a/b/c/fourth"));
    });
}

#[test]
fn a_part_of_a_file_below_is_written() {
    on_both(|chain| {
        let long: Vec<u8> = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
        chain.change(|tree| {
            tree.file("overwritten", &long, 0o644);
            tree.file("appended", &long, 0o644);
            tree.file("cut", &long, 0o644);
            tree.file("grown", "short", 0o644);
        });
        chain.change(|tree| {
            let open = |path| OpenOptions::new().write(true).open(tree.at(path)).expect("opened");
            open("overwritten").write_all_at(b"other bytes", 100_000).expect("written");
            tree.append("appended", "more");
            open("cut").set_len(12_345).expect("cut");
            open("grown").set_len(1 << 20).expect("grown");
        });
    });
}

#[test]
fn many_names_of_a_directory_are_deleted_and_added() {
    on_both(|chain| {
        chain.change(|tree| {
            tree.dir("many", 0o755);
            (0..1500).for_each(|at| tree.file(format!("many/{at:04}"), format!("{at}"), 0o644));
        });
        chain.change(|tree| {
            (0..1500).step_by(3).for_each(|at| tree.remove(format!("many/{at:04}")));
            (0..1500).step_by(5).for_each(|at| tree.file(format!("many/{at:04}x"), "", 0o644));
        });
    });
}
