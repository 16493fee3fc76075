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
    store.put_record(&key, "key".as_bytes(), &record).expect("record");
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
    assert!(report.unfinished.is_none(), "{:?}", report.unfinished);
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

/// Makes forms of a chain that no image has.
fn chain(world: &World, store: &Store) -> (PathBuf, PathBuf) {
    let layers = [world.of_image, world.of_step];
    store.chain_index(&layers).expect("index").expect("expressible");
    store.flat_tree(&layers).expect("unpack");
    (store.chain_path(&layers, "chain").with_extension("erofs"), store.chain_path(&layers, "flat"))
}

#[test]
fn an_index_of_no_image_is_what_was_sealed() {
    for damage in [
        cut,
        |path: &Path| flip(path, 1100),
        |path: &Path| {
            let length = fs::metadata(path).expect("stat").len();
            flip(path, length - 1);
        },
    ] {
        damaged(
            |world, store| damage(&chain(world, store).0),
            "layer",
            "chain-",
            Some("derived again"),
        );
    }
    let world = world();
    chain(&world, &Store::open(world.dir.path()).expect("open"));
    assert_eq!(check(&world, Repair::Nothing), [], "a whole one is no fault");
}

#[test]
fn a_tree_of_no_image_is_passed_over_and_goes_in_repairs() {
    let world = world();
    let store = Store::open(world.dir.path()).expect("open");
    let (index, tree) = chain(&world, &store);
    let counts = |repair| {
        let report = store.check(repair, &|_, _| {});
        assert_eq!(report.faults, []);
        (report.passed_over, report.dropped)
    };
    assert_eq!((counts(Repair::Nothing), tree.exists()), ((1, 0), true));
    let user = Store::open(world.dir.path()).expect("open");
    user.pin(&[world.of_step]).expect("pin");
    assert_eq!((counts(Repair::Derivable), tree.exists()), ((1, 0), true), "somebody uses it");
    drop(user);
    assert_eq!((counts(Repair::Derivable), tree.exists()), ((1, 1), false));
    assert_eq!(counts(Repair::Derivable), (0, 0));
    assert!(index.exists());
}

#[test]
fn only_what_is_said_of_a_layer_is_a_fault_of_its_forms() {
    use crate::layer::Error as Layer;
    let layer = |source| Error::Layer { what: String::new(), source: Box::new(source) };
    let os = |error: rustix::io::Errno| io::Error::from_raw_os_error(error.raw_os_error());
    let tree = |error| Layer::Tree { step: "write", path: Vec::new(), source: error };
    let (full, fs_error) = (os(rustix::io::Errno::NOSPC), fs::File::open("/none/none"));
    let write = crate::erofs::Error::Write { source: os(rustix::io::Errno::NOSPC) };
    for (error, expected) in [
        (layer(Layer::Truncated { path: Vec::new(), position: 0 }), true),
        (layer(tree(io::ErrorKind::InvalidData.into())), true),
        (layer(tree(full)), false),
        (layer(tree(os(rustix::io::Errno::MFILE))), false),
        (layer(tree(fs_error.expect_err("not there"))), false),
        (Error::Index { source: Box::new(write) }, false),
        (Error::Io(os(rustix::io::Errno::IO)), false),
    ] {
        assert_eq!(derived::blames_layer(&error), expected, "{error:?}");
    }
}

fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).expect("make a pipe");
}

/// Puts something that is no file in the place of one.
fn replace(path: &Path, other: fn(&Path)) {
    fs::remove_file(path).expect("remove");
    other(path);
}

#[test]
fn what_is_no_file_is_found_and_replaced_or_removed() {
    type Place<'a> = (&'a str, &'a str, &'a dyn Fn(&World, &Store) -> PathBuf);
    let places: [Place<'_>; 7] = [
        ("blob", "from the layer's tar", &|world, store| store.blob_path(&world.of_image)),
        ("layer", "from its blob", &|world, store| store.layer_tar(&world.of_image)),
        ("layer", "packed again", &|world, store| store.layer_tar(&world.of_step)),
        ("layer", "derived again", &|world, store| {
            store.layer_dir(&world.of_step).join("index.erofs")
        }),
        ("images/index.json", "written anew", &|_, store| store.root().join("images/index.json")),
        ("record", "run again", &|world, store| {
            store.root().join("cache/records").join(world.key.hex())
        }),
        ("cache/context/x", "made again", &|_, store| {
            let path = store.root().join("cache/context/x");
            fs::write(&path, "").expect("write");
            path
        }),
    ];
    let directory = |path: &Path| {
        fs::create_dir(path).expect("mkdir");
        fs::write(path.join("file"), "").expect("write");
    };
    for (object, done, place) in places {
        for (other, wrong) in [(pipe as fn(&Path), "a named pipe"), (directory, "a directory")] {
            damaged(|world, store| replace(&place(world, store), other), object, wrong, Some(done));
        }
    }
    // Nothing has what was in a manifest; out of the way it can be put there again.
    let world = world();
    let store = Store::open(world.dir.path()).expect("open");
    replace(&store.blob_path(&world.image), pipe);
    let faults = check(&world, Repair::Derivable);
    assert_eq!(faults[0].done.as_deref(), Some("removed"), "{faults:?}");
    assert!(!store.blob_path(&world.image).exists());
}

#[test]
fn a_layer_whose_directory_is_gone_is_restored_from_its_blob() {
    let lose = |world: &World, store: &Store| {
        fs::remove_dir_all(store.layer_dir(&world.of_image)).expect("remove");
    };
    let world = damaged(lose, "image name", "gone or damaged", Some("from its blob"));
    let store = Store::open(world.dir.path()).expect("open");
    assert!(store.layer(&world.of_image).expect("look").is_some());
    let no_directory = |world: &World, store: &Store| {
        lose(world, store);
        fs::write(store.layer_dir(&world.of_image), "").expect("write");
    };
    let world = damaged(no_directory, "layer", "is no directory", Some("removed"));
    assert!(Store::open(world.dir.path()).expect("open").layer(&world.of_image).is_ok());
    // Without a whole blob there is nothing to restore it from.
    let world = damaged(
        |world, store| {
            lose(world, store);
            flip(&store.blob_path(&world.of_image), 5000);
        },
        "image name",
        "gone or damaged",
        None,
    );
    assert!(!Store::open(world.dir.path()).expect("open").layer_dir(&world.of_image).exists());
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

/// Puts a container on record that has the image, or something else in the record's place.
fn container(store: &Store, world: &World, record: Option<&str>) -> Digest {
    let id = Digest::of("id");
    let dir = store.root().join("containers").join(id.hex());
    fs::create_dir_all(dir.join("upper")).expect("mkdir");
    let image = store.peek_image(&world.image).expect("image").id();
    let whole = format!(
        r#"{{"Name":"web","Image":"{image}","Manifest":"{}","Layers":["{}"],"More":[]}}"#,
        world.image, world.of_image
    );
    fs::write(dir.join("config.json"), record.unwrap_or(&whole)).expect("write");
    id
}

#[test]
fn a_container_whose_record_or_layers_are_lost_is_named() {
    let short = Digest::of("id").short();
    for (record, wrong) in [("{\"Name\":", "cannot be read"), ("\0\0", "not there, or empty")] {
        let unreadable = |world: &World, store: &Store| {
            container(store, world, Some(record));
        };
        damaged(unreadable, &format!("container {short}"), wrong, None);
    }
    let lost = |world: &World, store: &Store| {
        container(store, world, None);
        fs::remove_dir_all(store.layer_dir(&world.of_image)).expect("remove");
    };
    // The image of the list tells of it first, and restores it.
    damaged(lost, "image name", "gone or damaged", Some("restored"));
    let off_the_list = |world: &World, store: &Store| {
        lost(world, store);
        store.forget_image(&world.image).expect("forget");
    };
    damaged(off_the_list, "container web", "gone or damaged", Some("restored from its blob"));
    let no_blob = |world: &World, store: &Store| {
        off_the_list(world, store);
        fs::remove_file(store.blob_path(&world.of_image)).expect("remove");
        fs::remove_file(store.blob_path(&world.image)).expect("remove");
    };
    damaged(no_blob, "container web", "its layer", None);
    damaged(no_blob, "container web", "its image's", None);
}
