//! Chains of many layers.

use std::fs;
use std::path::Path;

use cache::layer::{Entry, Kind, Timestamp};
use cache::lower::Driver;

use super::listing::{assert_same, list};
use super::tree::Tree;
use super::{Chain, FIRST_STEP, Mount, on_both};
use crate::overlay::MOST_LAYERS;

#[test]
fn a_hundred_and_twenty_eight_layers_are_written_one_upon_the_other() {
    on_both(|chain| {
        chain.write(|mount, plain| {
            for tree in [mount, plain] {
                tree.file("bottom", "way at the bottom\n", 0o777);
                tree.file("overwriteme", "FIRST!\n", 0o777);
                ["addhere", "onlyme"].into_iter().for_each(|path| tree.dir(path, 0o755));
                tree.file("onlyme/bottom", "bye!\n", 0o777);
            }
        });
        for at in 1..128 {
            let step = |tree: &Tree| {
                tree.file("overwriteme", format!("{at} WAS HERE!\n"), 0o777);
                tree.file(format!("addhere/file-{}", at % 40), format!("{at}\n"), 0o755);
                tree.remove("onlyme");
                tree.dir("onlyme", 0o755);
                tree.file(format!("onlyme/file-{at}"), "only me!\n", 0o777);
            };
            chain.write(|mount, plain| [mount, plain].map(step).into_iter().collect());
        }
        chain.check();
    });
}

/// Adds a layer that adds, overwrites and deletes, without mounting what is below it.
fn stack(chain: &mut Chain) {
    let (at, plain) = (chain.layers.len(), chain.plain());
    let time = Timestamp { seconds: FIRST_STEP + at as i64, nanoseconds: 9 };
    let draft = chain.store.draft_layer().expect("a draft");
    let layer = draft.commit_tar(|tar| {
        let mut put = |path: String, kind: Kind, content: &str| {
            let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
            let entry = Entry { mtime: time, ..Entry::new(path, kind, mode) };
            tar.append(&entry, &mut content.as_bytes()).expect("appended");
        };
        let number = at.to_string();
        let file = Kind::File { size: number.len() as u64 };
        put("all".into(), file.clone(), &number);
        put("dir".into(), Kind::Directory, "");
        put(format!("dir/{at}"), file.clone(), &number);
        if at >= 3 {
            put(format!("dir/.wh.{}", at - 3), Kind::File { size: 0 }, "");
        }
        put(format!("only {at}"), file, &number);
        Ok(())
    });
    chain.add(layer.expect("committed").diff_id);

    if at == 0 {
        plain.dir("dir", 0o755);
    } else if at >= 3 {
        plain.remove(format!("dir/{}", at - 3));
    }
    for path in ["all".to_owned(), format!("dir/{at}"), format!("only {at}")] {
        plain.file(&path, at.to_string(), 0o644);
        plain.touch(path, time.seconds, time.nanoseconds);
    }
    plain.touch("dir", time.seconds, time.nanoseconds);
}

#[test]
fn as_many_layers_as_overlay_takes_are_mounted_and_written_to() {
    on_both(|chain| {
        (0..MOST_LAYERS - 1).for_each(|_| stack(chain));
        chain.change(|tree| {
            tree.remove("only 0");
            tree.remove("only 255");
            tree.append("only 498", " and more");
            tree.remove("dir");
            tree.dir("dir", 0o700);
        });
        assert_eq!(chain.layers.len(), MOST_LAYERS);
    });
}

#[test]
fn more_layers_than_overlay_takes_are_mounted_all_the_same() {
    for driver in [Driver::Erofs, Driver::Dir] {
        let mut chain = Chain::new(driver);
        (0..MOST_LAYERS + 20).for_each(|_| stack(&mut chain));
        chain.check();
    }
}

#[test]
fn a_deep_chain_is_few_mounts_where_layers_are_indexed() {
    let mut chain = Chain::new(Driver::Erofs);
    (0..70).for_each(|_| stack(&mut chain));
    let lower = chain.store.lower(&chain.layers).expect("layers to mount");
    assert!(lower.len() < 32, "{} mounts", lower.len());
    let mount = Mount::new(&lower, None);
    assert_same("mounted", &list(&mount.tree), &list(&chain.plain()));
    let only = mount.tree.names(Path::new("")).len();
    assert_eq!(only, 72);
    assert_eq!(fs::read_to_string(mount.tree.at("all")).expect("a file"), "69");
}
