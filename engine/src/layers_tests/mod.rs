//! One suite for both drivers: what a container writes and what an archive says is the same tree
//! however layers are mounted. Needs root and Linux 6.12.
//!
//! A case makes a chain of layers. A layer is written through a real overlay mount, and the same is
//! done to a plain directory; then the mount, the committed chain mounted, its archives applied one
//! over another, and the chain copied to a new store must all look like the plain directory. The
//! diff ids of both drivers' chains are the same.
//!
//! The cases are those of containerd's suite for snapshotters (`core/snapshots/testsuite`) as far
//! as they are about trees, and what overlay is known to stumble over. Knows no images.

mod archives;
mod attributes;
mod chains;
mod changes;
mod depth;
mod listing;
mod names;
mod random;
mod tree;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use cache::Store;
use cache::digest::Digest;
use cache::layer::pack::pack_upper;
use cache::layer::unpack::{Form, unpack_layer};
use cache::layer::writer::LayerWriter;
use cache::layer::{Entry, Timestamp};
use cache::lower::{Driver, Lower};
use tempfile::TempDir;

use crate::overlay::{self, Overlay};
use listing::{assert_same, list};
use tree::Tree;

/// When the first step of a chain is said to have happened.
const FIRST_STEP: i64 = 1_700_000_000;

/// Runs a case with each driver.
#[track_caller]
fn on_both(case: impl Fn(&mut Chain)) {
    let run = |driver| {
        let mut chain = Chain::new(driver);
        case(&mut chain);
        chain.finish()
    };
    assert_eq!(run(Driver::Erofs), run(Driver::Dir), "diff ids of erofs and dir");
}

/// A chain of layers, and what it must look like.
struct Chain {
    store: Store,
    driver: Driver,
    /// The lowest first.
    layers: Vec<Digest>,
    /// Holds the store and the directories beside it.
    dir: TempDir,
}

impl Chain {
    fn new(driver: Driver) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["plain", "applied"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let store = open(dir.path().join("store"), driver);
        Self { store, driver, layers: Vec::new(), dir }
    }

    /// What the chain must look like.
    fn plain(&self) -> Tree {
        Tree::new(self.dir.path().join("plain"))
    }

    /// Adds a layer of what is done to the mounted chain.
    #[track_caller]
    fn change(&mut self, work: impl Fn(&Tree)) {
        self.change_apart(&work, &work);
    }

    /// Adds a layer where the mounted chain and the plain directory need different words for the
    /// same change.
    #[track_caller]
    fn change_apart(&mut self, merged: impl FnOnce(&Tree), plain: impl FnOnce(&Tree)) {
        self.write(|mount, reference| {
            merged(mount);
            plain(reference);
        });
        self.check();
    }

    /// Adds a layer of what `work` does to the mounted chain, the first tree, and also does to the
    /// plain directory.
    #[track_caller]
    fn write(&mut self, work: impl FnOnce(&Tree, &Tree)) {
        let draft = self.store.draft_layer().expect("a draft");
        let upper = draft.make_upper().expect("an upper directory");
        let lower = self.store.lower(&self.layers).expect("layers to mount");
        let (mount, plain) = (Mount::new(&lower, Some(&upper)), self.plain());
        work(&mount.tree, &plain);
        let step = Timestamp { seconds: FIRST_STEP + self.layers.len() as i64, nanoseconds: 7 };
        mount.tree.settle(step);
        plain.settle(step);
        assert_same("as it was written", &list(&mount.tree), &list(&plain));
        drop(mount);
        let written = draft.write_upper(None).expect("written");
        let layer = written.commit().expect("committed").diff_id;
        assert_eq!(self.repack(&layer), layer, "the digest of the layer packed again");
        self.add(layer);
    }

    /// Adds a layer from elsewhere; `plain` does by hand what it says.
    #[track_caller]
    fn import(&mut self, items: &[(Entry, Vec<u8>)], plain: impl FnOnce(&Tree)) {
        self.add_archive(items);
        plain(&self.plain());
        self.check();
    }

    /// Adds a layer from elsewhere.
    #[track_caller]
    fn add_archive(&mut self, items: &[(Entry, Vec<u8>)]) {
        let mut tar = LayerWriter::new(Vec::new());
        for (entry, content) in items {
            tar.append(entry, content.as_slice()).expect("expressible");
        }
        let tar = tar.finish().expect("a vector takes everything");
        let draft = self.store.draft_layer().expect("a draft");
        self.add(draft.commit_import(tar.as_slice()).expect("imported").diff_id);
    }

    /// Adds a layer that the store has.
    fn add(&mut self, layer: Digest) {
        let applied = File::open(self.dir.path().join("applied")).expect("the directory");
        let tar = File::open(self.store.layer_tar(&layer)).expect("the tar");
        unpack_layer(tar, applied.as_fd(), Form::Apply).expect("applied");
        self.layers.push(layer);
    }

    /// Checks that the chain looks as it must, mounted and applied.
    #[track_caller]
    fn check(&self) {
        let expected = list(&self.plain());
        assert_same("mounted", &list(&self.view().tree), &expected);
        let applied = Tree::new(self.dir.path().join("applied"));
        assert_same("applied", &list(&applied), &expected);
    }

    fn view(&self) -> Mount {
        Mount::new(&self.store.lower(&self.layers).expect("layers to mount"), None)
    }

    /// Packs one layer, as it is mounted, once more.
    fn repack(&self, layer: &Digest) -> Digest {
        let lower = self.store.lower(&[*layer]).expect("a layer to mount");
        let root: OwnedFd = match &lower[0] {
            Lower::Directory(path) => File::open(path).expect("the directory").into(),
            Lower::Erofs { index, devices } => {
                overlay::mount_erofs(index, devices).expect("mounted")
            }
        };
        let mut tar = LayerWriter::new(Vec::new());
        pack_upper(root.as_fd(), &mut tar, None).expect("packed");
        Digest::of(tar.finish().expect("a vector takes everything"))
    }

    /// Opens the store anew, with this driver from now on.
    fn reopen(&mut self, driver: Driver) {
        self.driver = driver;
        self.store = open(self.dir.path().join("store"), driver);
    }

    /// Copies the chain to a new store, where nothing is derived yet, and checks that it looks the
    /// same there; returns its layers.
    #[track_caller]
    fn finish(mut self) -> Vec<Digest> {
        let copy = open(self.dir.path().join("copy"), self.driver);
        for layer in &self.layers {
            let path = self.store.layer_tar(layer);
            let tar = File::open(&path).expect("the tar");
            let draft = copy.draft_layer().expect("a draft");
            draft.commit_copy(tar, &path, layer).expect("copied");
        }
        self.store = copy;
        assert_same("copied", &list(&self.view().tree), &list(&self.plain()));
        self.layers
    }
}

fn open(path: PathBuf, driver: Driver) -> Store {
    let store = Store::open(&path).expect("a store");
    store.set_driver(driver);
    store
}

/// An overlay that is mounted nowhere, as long as this lives.
struct Mount {
    tree: Tree,
    _root: OwnedFd,
}

impl Mount {
    #[track_caller]
    fn new(lower: &[Lower], upper: Option<&(PathBuf, PathBuf)>) -> Self {
        let overlay = Overlay { lower, upper, volatile: true };
        let root = overlay::mount_apart(overlay).expect("mounted");
        // Not `self`, so that programs find it too.
        let path = format!("/proc/{}/fd/{}", std::process::id(), root.as_raw_fd());
        Self { tree: Tree::new(path.into()), _root: root }
    }
}
