//! What stays mounted longer than one step of a build needs it.
//!
//! Layers' file systems stay as long as the build lasts: its steps lie on the same layers again and
//! again, and a mount costs more than naming one that is there. They are mounted nowhere; whoever is
//! to lie on them finds them by this process's descriptors. Kernels that do not take such mounts
//! for layers (before Linux 6.15) are given none.
//!
//! The root file system of the step that ran last stays until the next one runs. When it goes, the
//! kernel forgets each file that the step has looked at (2 us a file, and 3 us more in the layers
//! below), and whoever waits for the step would wait for that.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use cache::lower::Lower;

use crate::overlay;

/// Far below what a process may have open.
const MOST: usize = 256;

/// What of a build is mounted.
#[derive(Debug, Default)]
pub struct Mounts {
    /// File systems of layers, by their indexes' devices and inodes: while a layer is committed its
    /// index has two paths.
    layers: Mutex<BTreeMap<(u64, u64), OwnedFd>>,
    last_root: Mutex<Option<OwnedFd>>,
}

impl Mounts {
    /// Names layers that are file systems by where this process has them mounted.
    pub(crate) fn mounted(&self, lower: Vec<Lower>) -> Vec<Lower> {
        if !overlay::takes_detached() {
            return lower;
        }
        let mut held = self.layers.lock().expect("no holder panics");
        let mut mounted = |layer: Lower| {
            let Lower::Erofs { index, devices } = &layer else { return layer };
            // What cannot be mounted here is told of where it is needed.
            let Ok(found) = fs::metadata(index) else { return layer };
            let identity = (found.dev(), found.ino());
            if !held.contains_key(&identity) {
                let Some(mount) = (held.len() < MOST)
                    .then(|| overlay::mount_erofs(index, devices).ok())
                    .flatten()
                else {
                    return layer;
                };
                held.insert(identity, mount);
            }
            let number = held[&identity].as_raw_fd();
            Lower::Directory(format!("/proc/{}/fd/{number}", std::process::id()).into())
        };
        lower.into_iter().map(&mut mounted).collect()
    }

    /// Keeps the root file system of a step in the place of the one before.
    pub(crate) fn keep_root(&self, root: Option<OwnedFd>) {
        let before =
            std::mem::replace(&mut *self.last_root.lock().expect("no holder panics"), root);
        drop(before);
    }

    /// All that is still held.
    pub(crate) fn into_descriptors(self) -> Vec<OwnedFd> {
        let layers = self.layers.into_inner().expect("no holder panics");
        let root = self.last_root.into_inner().expect("no holder panics");
        root.into_iter().chain(layers.into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver;
    use crate::view::View;
    use cache::Store;
    use cache::layer::{Entry, Kind};

    #[test]
    fn a_layer_is_mounted_once_and_read_by_all() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        if driver::choose(&store, None).expect("choose").driver == cache::lower::Driver::Dir {
            return assert!(!overlay::takes_detached(), "this kernel should mount layers");
        }
        let file = Entry::new("file", Kind::File { size: 3 }, 0o644);
        let layer = store.draft_layer().expect("draft").commit_tar(|out| {
            out.append(&file, &mut b"one".as_slice()).expect("append");
            Ok(())
        });
        let layers = [layer.expect("commit").diff_id];
        let mounts = Mounts::default();
        let lower = || mounts.mounted(store.lower(&layers).expect("lower"));
        assert_eq!(lower()[0], lower()[0]);
        for _ in 0..2 {
            let view = View::overlay(&lower()).expect("mount");
            assert_eq!(view.read("file").expect("read").as_deref(), Some(&b"one"[..]));
        }
        assert_eq!(
            mounts.layers.lock().expect("free").len(),
            usize::from(overlay::takes_detached())
        );
    }
}
