//! Every kind of fault is made, found, told, and repaired where that can be done.

use std::os::unix::fs::FileExt;

use super::*;
use crate::layer::writer::Append;
use crate::layer::{Entry, Kind};
use crate::oci::ImageConfig;
use crate::record::Record;

/// A store with an image of one layer, a record with another, and derived forms of both.
struct World {
    dir: tempfile::TempDir,
    image: Digest,
    of_image: Digest,
    of_step: Digest,
    key: Digest,
}

fn layer(store: &Store, content: u8) -> Digest {
    let draft = store.draft_layer().expect("draft");
    let directory = Entry::new("dir", Kind::Directory, 0o755);
    let file = Entry::new("dir/file", Kind::File { size: 100_000 }, 0o644);
    let committed = draft.commit_tar(|out: &mut dyn Append| {
        out.append(&directory, &mut io::empty()).expect("append");
        out.append(&file, &mut io::repeat(content)).expect("append");
        Ok(())
    });
    committed.expect("commit").diff_id
}

fn world() -> World {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(dir.path()).expect("open");
    let (of_image, of_step) = (layer(&store, 1), layer(&store, 2));
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = vec![of_image];
    let (image, _) = store.put_image(&config, &Default::default()).expect("put");
    store.tag(&image, &["name".to_owned()]).expect("tag");
    let key = Digest::of("key");
    let record = Record { layer: of_step, took_ms: 1, finished: 1, in_full: None };
    store.put_record(&key, "key", &record).expect("record");
    for layer in [of_image, of_step] {
        store.layer_index(&layer).expect("index");
        store.layer_tree(&layer).expect("unpack");
    }
    World { dir, image, of_image, of_step, key }
}

fn check(world: &World, repair: Repair) -> Vec<Fault> {
    let store = Store::open(world.dir.path()).expect("open");
    let told = AtomicU64::new(0);
    let report = store.check(repair, &|read, total| {
        assert!(read <= total, "{read} of {total}");
        told.fetch_max(read, Ordering::Relaxed);
    });
    let report = report.expect("check");
    assert_eq!(report.bytes, told.into_inner());
    assert!(report.objects > 0);
    report.faults
}

/// Damages a fresh store, and expects a fault of an object with this in it, that it stays as long as
/// nothing is repaired, what a repair does, and whether the store is whole then.
#[track_caller]
fn damaged(
    damage: impl Fn(&World, &Store),
    object: &str,
    wrong: &str,
    done: Option<&str>,
) -> World {
    let world = world();
    assert_eq!(check(&world, Repair::Nothing), []);
    damage(&world, &Store::open(world.dir.path()).expect("open"));
    for repair in [Repair::Nothing, Repair::Nothing, Repair::Derivable] {
        let faults = check(&world, repair);
        let found = faults
            .iter()
            .find(|fault| fault.object.starts_with(object) && fault.wrong.contains(wrong));
        let found = found.unwrap_or_else(|| panic!("no {object}, {wrong} in {faults:#?}"));
        let expected = done.filter(|_| repair == Repair::Derivable);
        match (&found.done, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{found:?}, expected {expected:?}"),
        }
    }
    if done.is_some() {
        assert_eq!(check(&world, Repair::Nothing), [], "whole after the repair");
    }
    world
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("write");
}

fn cut(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).expect("open");
    let length = file.metadata().expect("stat").len();
    file.set_len(length / 2).expect("cut");
}

#[test]
fn a_tar_cut_or_flipped_is_packed_again_from_its_tree() {
    for damage in [
        cut,
        |path: &Path| flip(path, 5000),
        |path: &Path| {
            fs::remove_file(path).expect("remove");
        },
    ] {
        let world = damaged(
            |world, store| damage(&store.layer_tar(&world.of_step)),
            "layer",
            "layer.tar",
            Some("packed again"),
        );
        let store = Store::open(world.dir.path()).expect("open");
        assert!(store.record(&world.key).expect("look").is_some());
    }
}

#[test]
fn a_tar_without_a_tree_is_removed_with_its_record_and_made_again() {
    for damage in [cut, |path: &Path| flip(path, 5000)] {
        let world = damaged(
            |world, store| {
                fs::remove_dir_all(store.layer_dir(&world.of_step).join("tree")).expect("remove");
                damage(&store.layer_tar(&world.of_step));
            },
            "layer",
            "layer.tar has another content",
            Some("will run again"),
        );
        let store = Store::open(world.dir.path()).expect("open");
        assert_eq!(store.record(&world.key).expect("look"), None);
        assert_eq!(layer(&store, 2), world.of_step);
    }
}

#[test]
fn tar_and_blob_restore_each_other() {
    let apart = |store: &Store, path: &Path| {
        let copy = store.scratch_dir().expect("scratch").join("copy");
        fs::copy(path, &copy).expect("copy");
        fs::rename(&copy, path).expect("rename");
    };
    damaged(
        |world, store| {
            apart(store, &store.layer_tar(&world.of_image));
            flip(&store.layer_tar(&world.of_image), 5000);
        },
        "layer",
        "layer.tar has another content",
        Some("from its blob"),
    );
    damaged(
        |world, store| {
            apart(store, &store.blob_path(&world.of_image));
            cut(&store.blob_path(&world.of_image));
        },
        "blob",
        "another content",
        Some("from the layer's tar"),
    );
    damaged(
        |world, store| fs::remove_file(store.blob_path(&world.of_image)).expect("remove"),
        "image name",
        "is not there",
        Some("linked"),
    );
}

#[test]
fn both_names_of_a_damaged_layer_are_restored_together() {
    let world = damaged(
        |world, store| flip(&store.blob_path(&world.of_image), 5000),
        "layer",
        "layer.tar",
        Some("packed again"),
    );
    let store = Store::open(world.dir.path()).expect("open");
    store.read_blob(&world.of_image).expect("whole");
}

#[test]
fn a_derived_form_that_is_not_what_the_tar_gives_is_dropped() {
    let index = |world: &World, store: &Store| store.layer_dir(&world.of_step).join("index.erofs");
    let tree = |world: &World, store: &Store| store.layer_dir(&world.of_step).join("tree/dir");
    type Damage<'a> = (&'a str, &'a dyn Fn(&World, &Store));
    let damages: [Damage<'_>; 6] = [
        ("index.erofs", &|world, store| flip(&index(world, store), 1100)),
        ("index.erofs", &|world, store| cut(&index(world, store))),
        ("tree", &|world, store| flip(&tree(world, store).join("file"), 0)),
        ("tree", &|world, store| {
            fs::write(tree(world, store).join("more"), "").expect("write");
        }),
        ("opaque", &|world, store| {
            fs::write(store.layer_dir(&world.of_step).join("opaque"), "").expect("write");
        }),
        ("else", &|world, store| {
            fs::write(store.layer_dir(&world.of_step).join("else"), "").expect("write");
        }),
    ];
    for (name, damage) in damages {
        let world = damaged(damage, "layer", name, Some("derived again"));
        let store = Store::open(world.dir.path()).expect("open");
        let left = store.derived_forms(&store.layer_dir(&world.of_step)).expect("list");
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

#[test]
fn a_layer_made_again_leaves_no_fault() {
    let world = world();
    let store = Store::open(world.dir.path()).expect("open");
    assert_eq!(layer(&store, 2), world.of_step);
    drop(store);
    assert_eq!(check(&world, Repair::Derivable), []);
}

#[test]
fn what_somebody_uses_is_not_taken_away() {
    let world = world();
    let user = Store::open(world.dir.path()).expect("open");
    user.layer(&world.of_step).expect("look");
    let form = user.layer_dir(&world.of_step).join("index.erofs");
    flip(&form, 1100);
    let faults = check(&world, Repair::Derivable);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].done.as_ref().is_some_and(|done| done.contains("uses it")), "{faults:?}");
    assert!(form.exists());
}

#[test]
fn a_record_cut_flipped_or_without_its_layer_is_dropped() {
    let path =
        |world: &World, store: &Store| store.root().join("cache/records").join(world.key.hex());
    type Damage<'a> = (&'a str, &'a dyn Fn(&World, &Store));
    let damages: [Damage<'_>; 4] = [
        ("cannot be read", &|world, store| cut(&path(world, store))),
        ("text is not", &|world, store| {
            let length = fs::metadata(path(world, store)).expect("stat").len();
            flip(&path(world, store), length - 1);
        }),
        ("text is missing", &|world, store| {
            let bytes = fs::read(path(world, store)).expect("read");
            let line = bytes.split(|byte| *byte == b'\n').next().expect("a line").to_vec();
            fs::write(path(world, store), line).expect("write");
        }),
        ("is gone", &|world, store| {
            fs::remove_dir_all(store.layer_dir(&world.of_step)).expect("remove");
        }),
    ];
    for (wrong, damage) in damages {
        damaged(damage, "record", wrong, Some("run again"));
    }
}

#[test]
fn damaged_documents_are_named() {
    let world = damaged(
        |world, store| flip(&store.blob_path(&world.image), 3),
        "image name",
        "corrupt",
        None,
    );
    let blob = format!("blob {}", world.image);
    assert!(check(&world, Repair::Nothing).iter().any(|fault| fault.object == blob));
    let cut_context = |_: &World, store: &Store| {
        fs::write(store.root().join("cache/context/x"), "rbctx").expect("write");
    };
    damaged(cut_context, "cache/context/x", "not whole", Some("made again"));
    let cut_source = |_: &World, store: &Store| {
        let path = store.root().join("cache/sources").join(Digest::of("a").hex());
        fs::write(path, "b").expect("write");
    };
    damaged(cut_source, "cache/sources/", "not whole", Some("made again"));
}

#[test]
fn a_list_of_images_that_cannot_be_read_is_written_anew() {
    let world = damaged(
        |_, store| cut(&store.root().join("images/index.json")),
        "images/index.json",
        "",
        Some("written anew"),
    );
    let store = Store::open(world.dir.path()).expect("open");
    let listed = store.list_images().expect("list");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].digest, &listed[0].name), (world.image, &None));
}

#[test]
fn what_an_earlier_start_of_the_machine_derived_is_not_trusted() {
    let world = world();
    let store = Store::open(world.dir.path()).expect("open");
    let forms =
        |store: &Store| store.derived_forms(&store.layer_dir(&world.of_image)).expect("list");
    let before = forms(&store);
    let synced: Vec<_> = before.iter().filter(|form| !form.is_dir()).cloned().collect();
    assert!(before.len() > synced.len(), "{before:?}");
    drop(store);
    let store = Store::open(world.dir.path()).expect("open again");
    assert_eq!(forms(&store), before, "this start of the machine is trusted");
    drop(store);
    fs::write(world.dir.path().join("boot"), "another").expect("write");
    let store = Store::open(world.dir.path()).expect("open");
    assert_eq!(forms(&store), synced);
    assert!(store.layer(&world.of_image).expect("look").is_some());
    assert_eq!(check(&world, Repair::Nothing), []);
}
