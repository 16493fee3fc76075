//! What goes and what stays, on small stores.

use super::*;
use crate::oci::ImageConfig;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(dir.path()).expect("open");
    (dir, store)
}

/// A layer of a file of `size` bytes.
fn layer(store: &Store, byte: u8, size: usize) -> Digest {
    let draft = store.draft_layer().expect("draft");
    let kind = crate::layer::Kind::File { size: size as u64 };
    let file = crate::layer::Entry::new("file", kind, 0o644);
    let committed = draft.commit_tar(|out| {
        out.append(&file, &mut io::repeat(byte)).expect("append");
        Ok(())
    });
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
    timed_record(store, key, layer, finished, 1)
}

/// A record that was made and last used at a time.
fn timed_record(store: &Store, key: &str, layer: Digest, finished: i64, took_ms: u64) -> Digest {
    let digest = Digest::of(key);
    let record = Record { layer, took_ms, finished, in_full: None };
    store.put_record(&digest, key.as_bytes(), &record).expect("record");
    let file = fs::File::open(store.root().join("cache/records").join(digest.hex()));
    let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(finished.unsigned_abs());
    file.expect("open").file().set_modified(time).expect("set the time");
    digest
}

fn names(plan: &Plan, kind: Kind) -> Vec<String> {
    plan.of(kind).map(|item| item.name.clone()).collect()
}

fn of_cache(cache: CacheScope) -> Scope {
    Scope { images: Vec::new(), cache: Some(cache) }
}

fn pruned(store: &Store, cache: Option<CacheScope>) -> Plan {
    store.prune(&Scope { images: Vec::new(), cache }).expect("prune")
}

fn planned(store: &Store, cache: CacheScope) -> Plan {
    store.plan_prune(&of_cache(cache)).expect("plan")
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
    let plan = store.prune(&Scope { images: vec![goes], cache: None }).expect("prune");
    assert_eq!(plan.images, [goes]);
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
    let bytes = pruned(&store, Some(CacheScope::default())).bytes();
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
    assert_eq!(names(&planned(&store, before), Kind::Record), [old.hex()]);
    // Two records and a layer with its directory.
    let keep = CacheScope { keep_bytes: Some(40_000), ..Default::default() };
    let plan = planned(&store, keep);
    assert_eq!(names(&plan, Kind::Record), [old.hex()], "{plan:?}");
    let fits = plan.stays.iter().filter(|staying| matches!(staying.why, Stay::Fits(_)));
    assert_eq!(fits.count(), 2, "{plan:?}");
    let mut all = names(&pruned(&store, Some(CacheScope::default())), Kind::Record);
    all.sort();
    let mut expected = [old.hex(), new.hex(), shared.hex()];
    expected.sort();
    assert_eq!(all, expected);
    assert!(store.layer(&of_image).expect("look").is_some());
    assert_eq!(store.preimage(&new).expect("text"), None);
    let mounts = CacheScope { mounts: true, ..Default::default() };
    assert_eq!(names(&pruned(&store, Some(mounts)), Kind::Mount), ["m"]);
}

#[test]
fn what_others_use_stays_until_they_end() {
    let (dir, store) = store();
    let [built, hit, of_image, committed] = [1, 2, 3, 4].map(|byte| layer(&store, byte, 8192));
    let image = image(&store, &[of_image]);
    let key = record(&store, "hit", hit, 0);
    drop(store);

    let user = Store::open(dir.path()).expect("open");
    assert!(user.layer(&built).expect("look").is_some());
    assert!(user.record(&key).expect("look").is_some());
    user.read_image(&image).expect("read");
    let mount = Digest::of("mount");
    user.pin(&[mount]).expect("pin");
    fs::create_dir(user.root().join("cache/mounts").join(mount.hex())).expect("mkdir");
    let source = user.sources().expect("pin").join("download");
    fs::write(&source, "bytes").expect("write");

    let pruner = Store::open(dir.path()).expect("open");
    let all = CacheScope { mounts: true, ..Default::default() };
    let scope = Scope { images: vec![image], cache: Some(all) };
    let plan = pruner.prune(&scope).expect("prune");
    assert_eq!(names(&plan, Kind::Layer), [committed.hex()], "{plan:?}");
    let gone: Vec<_> = plan.items.iter().filter(|item| item.kind != Kind::Blob).collect();
    assert_eq!(gone.len(), 1, "{plan:?}");
    assert_eq!(plan.images, []);
    assert_eq!(pruner.list_images().expect("list").len(), 1);
    // What it makes only now nobody needs yet but itself.
    let made = layer(&user, 5, 8192);
    assert_eq!(names(&pruner.prune(&scope).expect("prune"), Kind::Layer), [""; 0]);
    assert!(user.layer_tar(&made).exists() && source.exists());

    drop(user);
    let plan = pruner.prune(&scope).expect("prune");
    assert_eq!(plan.of(Kind::Layer).count(), 4, "{plan:?}");
    assert_eq!((plan.of(Kind::Mount).count(), plan.of(Kind::Source).count()), (1, 1));
    assert_eq!((plan.images.len(), pruner.list_images().expect("list").len()), (1, 0));
}

#[test]
fn what_is_used_while_others_prune_is_whole_or_was_never_there() {
    let (dir, store) = store();
    let layers: Vec<Digest> = (0..40).map(|byte| layer(&store, byte, 4096)).collect();
    for (number, layer) in layers.iter().enumerate() {
        record(&store, &number.to_string(), *layer, 0);
    }
    drop(store);
    let use_all = |round: usize| {
        let user = Store::open(dir.path()).expect("open");
        for (number, digest) in layers.iter().enumerate() {
            let key = Digest::of(number.to_string());
            match user.record(&key).expect("look") {
                Some(found) => assert_eq!(found.layer, *digest),
                None => {
                    assert_eq!(layer(&user, number as u8, 4096), *digest);
                    let record = Record { layer: *digest, took_ms: 1, finished: 0, in_full: None };
                    user.put_record(&key, number.to_string().as_bytes(), &record).expect("record");
                }
            }
            for used in &layers[..=number] {
                let tar = fs::read(user.layer_tar(used)).expect("what is used is there");
                assert_eq!(Digest::of(tar), *used, "round {round}");
            }
        }
    };
    std::thread::scope(|scope| {
        let user = scope.spawn(|| (0..10).for_each(use_all));
        let store = Store::open(dir.path()).expect("open");
        while !user.is_finished() {
            pruned(&store, Some(CacheScope::default()));
        }
    });
}

#[test]
fn within_a_limit_the_cheap_the_big_and_the_long_unused_go_first() {
    let (_dir, store) = store();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let ago = |days: i64| now.as_secs() as i64 - days * 86_400;
    let of_image = layer(&store, 1, 300_000);
    image(&store, &[of_image]);
    let steps = [
        ("cheap", 2, 300_000, 1, 10),
        ("long unused", 3, 300_000, 30, 20_000),
        ("big", 4, 3_000_000, 1, 20_000),
        ("dear", 5, 300_000, 1, 20_000),
    ];
    let mut keys = std::collections::BTreeMap::new();
    for (name, byte, size, days, took) in steps {
        let key = timed_record(&store, name, layer(&store, byte, size), ago(days), took);
        keys.insert(key.hex(), name);
    }
    let total = store.usage().expect("usage").total();
    let scope = |limit| CacheScope { max_bytes: Some(limit), ..Default::default() };
    let gone = |limit| -> Vec<&str> {
        let plan = planned(&store, scope(limit));
        names(&plan, Kind::Record).iter().map(|name| keys[name]).collect()
    };
    assert_eq!(gone(total), [""; 0]);
    assert_eq!(gone(total - 1), ["cheap"]);
    assert_eq!(gone(total - 400_000), ["cheap", "long unused"]);
    assert_eq!(gone(total - 700_000), ["cheap", "long unused", "big"]);
    let plan = pruned(&store, Some(scope(0)));
    assert_eq!(plan.of(Kind::Record).count(), 4);
    assert!(store.layer(&of_image).expect("look").is_some());
    let left = store.usage().expect("usage").total();
    assert!(plan.left.is_some_and(|left| left > 300_000), "{plan:?}");
    // The pruner's own scratch space was not there when it counted.
    assert!(plan.left.is_some_and(|planned| planned.abs_diff(left) < 40_000), "{plan:?} {left}");
}

#[test]
fn derived_forms_go_before_what_they_are_derived_from() {
    let (dir, store) = store();
    let of_image = layer(&store, 1, 100_000);
    image(&store, &[of_image]);
    store.layer_tree(&of_image).expect("unpack");
    drop(store);
    let store = Store::open(dir.path()).expect("open");
    let total = store.usage().expect("usage").total();
    let plan =
        pruned(&store, Some(CacheScope { max_bytes: Some(total - 1), ..Default::default() }));
    assert_eq!(names(&plan, Kind::Derived), [of_image.hex()], "{plan:?}");
    assert!(plan.bytes() >= 100_000);
    assert!(!store.layer_dir(&of_image).join("tree").exists());
    assert!(store.layer(&of_image).expect("look").is_some());
}

#[test]
fn a_plan_changes_nothing_and_gives_reasons() {
    let (_dir, store) = store();
    let (used, unneeded) = (layer(&store, 1, 4096), layer(&store, 2, 4096));
    let key = record(&store, "key", used, 100);
    let broken = store.root().join("cache/records").join(Digest::of("broken").hex());
    fs::write(&broken, "{").expect("write");
    let plan = planned(&store, CacheScope::default());
    let reasons: Vec<_> =
        plan.items.iter().map(|item| (item.name.clone(), item.reason.clone())).collect();
    let unused = Reason::Unused(Use { last: 100, took_ms: Some(1) });
    let mut layers = [(used.hex(), Reason::Unneeded), (unneeded.hex(), Reason::Unneeded)];
    layers.sort_by_key(|(name, _)| *name != unneeded.hex());
    let mut expected = vec![
        (Digest::of("broken").hex(), Reason::Useless("it cannot be read")),
        (key.hex(), unused),
    ];
    expected.extend(layers);
    assert_eq!(reasons, expected);
    assert!(broken.exists() && store.layer_tar(&unneeded).exists());
    assert_eq!(store.preimage(&key).expect("text").as_deref(), Some("key"));
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
    let records = usage.cache.iter().filter(|entry| entry.kind == Kind::Record);
    let seen: Vec<_> = records.map(|entry| (entry.changed, entry.shared)).collect();
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

/// Puts a container on record.
fn container(store: &Store, name: &str, image: Digest, layers: &[Digest]) -> Digest {
    let id = Digest::of(name);
    let dir = store.root().join("containers").join(id.hex());
    fs::create_dir_all(&dir).expect("mkdir");
    let record = serde_json::json!({
        "Name": name,
        "Image": store.peek_image(&image).expect("image").id(),
        "Manifest": image,
        "Layers": layers,
        "HostConfig": {},
    });
    fs::write(dir.join("config.json"), record.to_string()).expect("write");
    id
}

fn everything(images: &[Digest]) -> Scope {
    let cache = CacheScope { mounts: true, max_bytes: Some(0), ..Default::default() };
    Scope { images: images.to_vec(), cache: Some(cache) }
}

#[test]
fn what_a_container_needs_stays_also_when_its_image_is_off_the_list() {
    let (_dir, store) = store();
    let used = layer(&store, 1, 8192);
    let of_container = image(&store, &[used]);
    record(&store, "key", used, 0);
    let id = container(&store, "web", of_container, &[used]);
    let whole = everything(&[of_container]);
    let stays = |plan: &Plan, kind, digest: Digest| {
        let why = Stay::Container("web".to_owned());
        plan.stays.contains(&Staying { kind, name: digest.hex(), why })
    };
    let plan = store.prune(&whole).expect("prune");
    assert!(plan.images.is_empty() && stays(&plan, Kind::Image, of_container), "{plan:?}");
    let config = store.peek_image(&of_container).expect("still an image").id();

    store.forget_image(&of_container).expect("forget");
    let plan = store.prune(&whole).expect("prune");
    assert!(stays(&plan, Kind::Layer, used) && stays(&plan, Kind::Blob, config), "{plan:?}");
    assert!(store.layer(&used).expect("look").is_some());
    assert_eq!(store.read_image(&of_container).expect("for a commit").id(), config);

    let gone = BTreeSet::from([id]);
    let plan = store.plan_prune_without(&everything(&[]), &gone).expect("plan");
    assert_eq!(names(&plan, Kind::Layer), [used.hex()], "as if the container had gone");
    fs::remove_dir_all(store.root().join("containers").join(id.hex())).expect("remove");
    assert_eq!(names(&pruned(&store, None), Kind::Layer), [used.hex()]);
}

#[test]
fn an_image_under_another_manifest_stays_for_its_container() {
    let (_dir, store) = store();
    let used = layer(&store, 1, 8192);
    let first = image(&store, &[used]);
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = vec![used];
    let annotations = [("a".to_owned(), "b".to_owned())].into();
    let (second, _) = store.put_image(&config, &annotations).expect("put");
    store.tag(&second, &[]).expect("list");
    container(&store, "web", first, &[used]);
    let scope = Scope { images: vec![first, second], cache: None };
    assert_eq!(store.prune(&scope).expect("prune").images, []);
}

#[test]
fn nothing_goes_while_nobody_can_tell_what_a_container_needs() {
    let (_dir, store) = store();
    let digest = image(&store, &[layer(&store, 1, 8192)]);
    let id = container(&store, "web", digest, &[]);
    let path = store.root().join("containers").join(id.hex()).join("config.json");
    fs::write(&path, "{\"Name\":").expect("write");
    let refused = store.prune(&everything(&[digest])).expect_err("damaged").to_string();
    let advice = format!("rbuild rm -f {}", id.short());
    assert!(refused.contains("config.json is damaged") && refused.ends_with(&advice), "{refused}");
    store.usage().expect("what the disk is full of");
    // A record that was never synced is that of a container that went with the power.
    fs::write(&path, "").expect("write");
    assert_eq!(store.prune(&everything(&[digest])).expect("prune").images, [digest]);
}

#[test]
fn a_container_that_is_made_while_a_prune_looks_keeps_its_layers() {
    let (_dir, pruner) = store();
    let maker = Store::open(pruner.root()).expect("open");
    let used = layer(&pruner, 1, 8192);
    let digest = image(&pruner, &[used]);
    maker.read_image(&digest).expect("what a container is made of");
    pruner.forget_image(&digest).expect("by force");
    assert!(pruned(&pruner, None).items.is_empty(), "pinned, before there is a record");
    container(&pruner, "web", digest, &[used]);
    drop(maker);
    assert_eq!(names(&pruned(&pruner, None), Kind::Layer), Vec::<String>::new());
}
