//! Tests of the way to a directory and back.

use std::time::Duration;

use super::layout::Layout;
use super::*;
use crate::graph::VertexId;
use crate::solve::StepReport;

/// A store in which two steps have been done, the first of them under two keys.
struct Made {
    dir: tempfile::TempDir,
    store: Store,
    solution: Solution,
}

fn made() -> Made {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&dir.path().join("store")).expect("open");
    let one = step(&store, "one", Some("one, short"));
    let two = step(&store, "two", None);
    let solution = Solution { layers: two.layers.clone(), steps: vec![one, two] };
    Made { dir, store, solution }
}

/// Keeps a record for these texts; its layer holds a file of the first one's name.
fn step(store: &Store, text: &str, short: Option<&str>) -> StepReport {
    let file = cache::layer::Entry::new(text, cache::layer::Kind::File { size: 0 }, 0o644);
    let layer = store
        .draft_layer()
        .and_then(|draft| {
            draft.commit_tar(|out| {
                out.append(&file, &mut io::empty()).expect("append");
                Ok(())
            })
        })
        .expect("commit")
        .diff_id;
    let record = Record { layer, took_ms: 1, finished: 2, in_full: None };
    for text in [Some(text), short].into_iter().flatten() {
        store.put_record(&Digest::of(text), text.as_bytes(), &record).expect("put");
    }
    StepReport {
        vertex: VertexId(0),
        key: Some(Digest::of(text)),
        short_key: short.map(Digest::of),
        outcome: Outcome::Done,
        took: Duration::ZERO,
        layers: vec![layer],
        created: None,
    }
}

impl Made {
    fn export(&self, mode: Mode, tag: Option<&str>, reset: bool) -> PathBuf {
        let dir = self.dir.path().join("out");
        let export = ToDirectory { dir: dir.clone(), mode, tag: tag.map(str::to_owned), reset };
        export.write(&self.store, &self.solution).expect("export");
        dir
    }

    /// What another store gets out of the directory, of all texts.
    fn brought(&self, which: &Which) -> (Vec<&'static str>, Vec<String>) {
        let other = tempfile::tempdir().expect("tempdir");
        let store = Store::open(other.path()).expect("open");
        let mut imports = Imports::default();
        if let Err(error) = imports.add_directory(&self.dir.path().join("out"), which) {
            return (vec![], vec![error.to_string()]);
        }
        let mut brought = vec!["one", "one, short", "two"];
        brought.retain(|text| {
            let key = Digest::of(text);
            let record = imports.bring(&store, &key, text, &AtomicBool::new(false));
            assert_eq!(store.record(&key).expect("look up"), record, "{text}");
            let known = store.preimage(&key).expect("look up");
            assert_eq!(known.as_deref(), record.as_ref().map(|_| *text));
            record.is_some()
        });
        (brought, imports.take_problems().iter().map(ToString::to_string).collect())
    }
}

#[test]
fn what_goes_in_comes_out_under_all_its_keys() {
    let made = made();
    made.export(Mode::Max, None, false);
    assert_eq!(made.brought(&Which::All), (vec!["one", "one, short", "two"], vec![]));
}

#[test]
fn the_least_is_what_the_image_has() {
    let made = made();
    made.export(Mode::Min, None, false);
    assert_eq!(made.brought(&Which::All).0, ["two"]);
    made.export(Mode::Max, None, false);
    assert_eq!(made.brought(&Which::All).0.len(), 3, "a directory is extended");
    made.export(Mode::Min, None, true);
    assert_eq!(made.brought(&Which::All).0, ["two"], "and begun anew when asked");
}

#[test]
fn exporting_again_writes_no_more_and_a_reset_leaves_no_more() {
    let made = made();
    let count =
        || fs_err::read_dir(made.dir.path().join("out/blobs/sha256")).expect("list").count();
    made.export(Mode::Max, None, false);
    let (full, index) = (count(), Layout { dir: made.dir.path().join("out") }.index());
    made.export(Mode::Max, None, false);
    let again = Layout { dir: made.dir.path().join("out") }.index();
    assert_eq!((count(), again.expect("index")), (full, index.expect("index")));
    made.export(Mode::Min, None, true);
    assert_eq!(count(), 3, "a manifest, a list of records and a layer");
}

#[test]
fn a_tag_takes_the_place_of_its_namesake_and_chooses() {
    let made = made();
    let dir = made.export(Mode::Max, Some("a"), false);
    made.export(Mode::Min, Some("a"), false);
    made.export(Mode::Max, Some("b"), false);
    assert_eq!(made.brought(&Which::Tag("a".to_owned())).0, ["two"]);
    assert_eq!(made.brought(&Which::Tag("b".to_owned())).0.len(), 3);
    let manifest = Layout { dir: dir.clone() }.index().expect("index").manifests[0].digest;
    assert_eq!(made.brought(&Which::Manifest(manifest)).0, ["two"]);
    let absent = format!("{} holds no cache of this kind with tag \"c\"", dir.display());
    assert_eq!(made.brought(&Which::Tag("c".to_owned())), (vec![], vec![absent]));
}

#[test]
fn whatever_is_damaged_is_not_brought_and_is_named() {
    let damage: [fn(&Path); 4] = [
        |path| fs_err::remove_file(path).expect("remove"),
        |path| fs_err::write(path, "").expect("empty"),
        |path| {
            let mut bytes = fs_err::read(path).expect("read");
            bytes[0] ^= 1;
            fs_err::write(path, bytes).expect("flip");
        },
        |path| {
            fs_err::remove_file(path).expect("remove");
            fs_err::create_dir(path).expect("make a directory");
        },
    ];
    let first = made();
    let dir = first.export(Mode::Max, None, false);
    let mut files: Vec<PathBuf> = fs_err::read_dir(dir.join("blobs/sha256"))
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.push(dir.join("index.json"));
    for file in files.iter().map(|file| file.strip_prefix(&dir).expect("in it")) {
        for damage in damage {
            let made = made();
            let dir = made.export(Mode::Max, None, false);
            damage(&dir.join(file));
            let (brought, problems) = made.brought(&Which::All);
            // Told of once, however many keys lead to it.
            assert!(brought.len() < 3 && problems.len() == 1, "{brought:?} {problems:?}");
            // The same export again repairs it, but for what only looks whole and was not missed.
            fs_err::remove_dir(dir.join(file)).unwrap_or_default();
            made.export(Mode::Max, None, false);
            assert_eq!(made.brought(&Which::All), (vec!["one", "one, short", "two"], vec![]));
        }
    }
}
