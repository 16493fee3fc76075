//! What goes and what stays, on small stores.

use super::*;
use crate::oci::ImageConfig;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(dir.path()).expect("open");
    (dir, store)
}

/// A layer of `size` bytes; nobody here asks whether it is a tar.
fn layer(store: &Store, byte: u8, size: usize) -> Digest {
    let draft = store.draft_layer().expect("draft");
    let committed =
        draft.commit_tar(|out| io::Write::write_all(out, &vec![byte; size]).map_err(Error::Io));
    committed.expect("commit").diff_id
}

fn image(store: &Store, layers: &[Digest]) -> Digest {
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = layers.to_vec();
    let digest = store.put_image(&config, &Default::default()).expect("put").0;
    store.tag(&digest, &[]).expect("list");
    digest
}

fn record(store: &Store, key: &str, layer: Digest, finished: i64) -> Digest {
    let digest = Digest::of(key);
    let record = Record { layer, took_ms: 1, finished, in_full: None };
    store.put_record(&digest, key, &record).expect("record");
    digest
}

fn names(plan: &Plan, kind: Kind) -> Vec<String> {
    plan.of(kind).map(|item| item.name.clone()).collect()
}

fn pruned(store: &Store, cache: Option<&CacheScope>) -> Plan {
    store.prune(&[], cache).expect("prune").expect("nobody else uses the store")
}

#[test]
fn what_an_image_or_a_record_needs_stays() {
    let (_dir, store) = store();
    let (of_image, of_record, of_nobody) =
        (layer(&store, 1, 8192), layer(&store, 2, 8192), layer(&store, 3, 8192));
    image(&store, &[of_image]);
    record(&store, "key", of_record, 0);
    let plan = pruned(&store, None);
    assert_eq!(names(&plan, Kind::Layer), [of_nobody.hex()]);
    assert_eq!(plan.items.len(), 1);
    assert!(plan.bytes() >= 8192);
    for (digest, stays) in [(of_image, true), (of_record, true), (of_nobody, false)] {
        assert_eq!(store.layer(&digest).expect("look").is_some(), stays);
    }
    assert!(pruned(&store, None).items.is_empty());
}

#[test]
fn an_image_off_the_list_goes_but_for_what_others_need() {
    let (_dir, store) = store();
    let (shared, own) = (layer(&store, 1, 8192), layer(&store, 2, 8192));
    let stays = image(&store, &[shared]);
    let goes = image(&store, &[shared, own]);
    let plan = store.prune(&[goes], None).expect("prune").expect("nobody else uses the store");
    assert_eq!(names(&plan, Kind::Layer), [own.hex()]);
    assert_eq!(plan.of(Kind::Blob).count(), 3, "manifest, configuration, layer: {plan:?}");
    assert!(!store.blob_path(&goes).exists() && !store.blob_path(&own).exists());
    assert_eq!(store.read_image(&stays).expect("read").config.rootfs.diff_ids, [shared]);
}

#[test]
fn a_file_with_two_names_gives_its_bytes_back_once_and_only_with_both() {
    let (_dir, store) = store();
    let layer = layer(&store, 1, 1 << 20);
    let digest = image(&store, &[layer]);
    record(&store, "key", layer, 0);
    store.forget_image(&digest).expect("forget");
    // The record keeps the layer; its other name among the blobs gives nothing back.
    assert!(pruned(&store, None).bytes() < 1 << 20);
    let bytes = pruned(&store, Some(&CacheScope::default())).bytes();
    assert!((1 << 20..1 << 21).contains(&bytes), "{bytes}");
}

#[test]
fn the_build_cache_goes_as_far_as_it_is_asked_to() {
    let (_dir, store) = store();
    let of_image = layer(&store, 1, 8192);
    image(&store, &[of_image]);
    let old = record(&store, "old", layer(&store, 2, 8192), 100);
    let new = record(&store, "new", layer(&store, 3, 8192), 200);
    let shared = record(&store, "shared", of_image, 200);
    fs::create_dir(store.root().join("cache/mounts/m")).expect("mkdir");
    let before = CacheScope { before: Some(150), ..Default::default() };
    assert_eq!(names(&store.plan_prune(Some(&before)).expect("plan"), Kind::Record), [old.hex()]);
    let keep = CacheScope { keep_bytes: Some(20_000), ..Default::default() };
    let plan = store.plan_prune(Some(&keep)).expect("plan");
    assert_eq!(names(&plan, Kind::Record), [old.hex()], "{plan:?}");
    let mut all = names(&pruned(&store, Some(&CacheScope::default())), Kind::Record);
    all.sort();
    let mut expected = [old.hex(), new.hex(), shared.hex()];
    expected.sort();
    assert_eq!(all, expected);
    assert!(store.layer(&of_image).expect("look").is_some());
    assert_eq!(store.preimage(&new).expect("text"), None);
    let mounts = CacheScope { mounts: true, ..Default::default() };
    assert_eq!(names(&pruned(&store, Some(&mounts)), Kind::Mount), ["m"]);
}

#[test]
fn a_store_that_others_use_is_left_alone() {
    let (dir, store) = store();
    let layer = layer(&store, 1, 1);
    let image = image(&store, &[layer]);
    let _other = Store::open(dir.path()).expect("open");
    assert!(store.prune(&[image], None).expect("prune").is_none());
    assert!(store.layer(&layer).expect("look").is_some());
    assert_eq!(store.list_images().expect("list").len(), 1);
}

#[test]
fn use_is_told_of_images_and_of_the_build_cache() {
    let (_dir, store) = store();
    let (of_image, of_record) = (layer(&store, 1, 1 << 20), layer(&store, 2, 1 << 19));
    image(&store, &[of_image]);
    record(&store, "own", of_record, 5);
    record(&store, "shared", of_image, 7);
    let usage = store.usage().expect("usage");
    assert!((1 << 20..(1 << 20) + 65536).contains(&usage.images), "{usage:?}");
    assert!((1 << 19..(1 << 19) + 65536).contains(&usage.cache_bytes()), "{usage:?}");
    let seen: Vec<_> = usage.cache.iter().map(|entry| (entry.changed, entry.shared)).collect();
    assert_eq!(seen, [(7, true), (5, false)]);
}

#[test]
fn a_damaged_image_holds_nobody_up() {
    let (_dir, store) = store();
    let layer = layer(&store, 1, 1);
    let digest = image(&store, &[layer]);
    fs::write(store.blob_path(&digest), "no manifest").expect("damage");
    let plan = pruned(&store, None);
    assert_eq!(names(&plan, Kind::Layer), [layer.hex()]);
    assert!(store.blob_path(&digest).exists());
}
