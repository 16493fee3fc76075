//! A tree that tests change, mounted or plain: short words for system calls that must not fail.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use cache::layer::Timestamp;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lremovexattr, lsetxattr,
    makedev, mknodat, utimensat,
};

/// How long no test takes.
const LONG: Duration = Duration::from_secs(3600);

pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where something in the tree is; the root is empty.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        if path.as_ref().as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    #[track_caller]
    pub(super) fn dir(&self, path: impl AsRef<Path>, mode: u32) {
        fs::create_dir(self.at(&path)).expect("a directory");
        self.chmod(path, mode);
    }

    #[track_caller]
    pub(super) fn file(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) {
        fs::write(self.at(&path), content).expect("a file");
        self.chmod(path, mode);
    }

    #[track_caller]
    pub(super) fn append(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let file = OpenOptions::new().append(true).open(self.at(path));
        file.expect("opened").write_all(content.as_ref()).expect("written");
    }

    #[track_caller]
    pub(super) fn remove(&self, path: impl AsRef<Path>) {
        let path = self.at(path);
        if path.symlink_metadata().expect("present").is_dir() {
            fs::remove_dir_all(path).expect("removed");
        } else {
            fs::remove_file(path).expect("removed");
        }
    }

    #[track_caller]
    pub(super) fn chmod(&self, path: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(self.at(path), Permissions::from_mode(mode)).expect("a new mode");
    }

    #[track_caller]
    pub(super) fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) {
        lchown(self.at(path), Some(uid), Some(gid)).expect("a new owner");
    }

    #[track_caller]
    pub(super) fn symlink(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        symlink(target, self.at(path)).expect("a link");
    }

    #[track_caller]
    pub(super) fn link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        fs::hard_link(self.at(from), self.at(to)).expect("a hard link");
    }

    #[track_caller]
    pub(super) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    /// Moves as mv(1) does, which copies where it must.
    #[track_caller]
    pub(super) fn mv(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let mut command = Command::new("mv");
        let moved = command.arg("-T").arg(self.at(from)).arg(self.at(to)).status();
        assert!(moved.expect("mv(1)").success());
    }

    #[track_caller]
    pub(super) fn xattr(&self, path: impl AsRef<Path>, name: &str, value: impl AsRef<[u8]>) {
        let set = lsetxattr(self.at(path), name, value.as_ref(), XattrFlags::empty());
        set.expect("an attribute");
    }

    #[track_caller]
    pub(super) fn remove_xattr(&self, path: impl AsRef<Path>, name: &str) {
        lremovexattr(self.at(path), name).expect("one attribute less");
    }

    #[track_caller]
    pub(super) fn touch(&self, path: impl AsRef<Path>, seconds: i64, nanoseconds: u32) {
        let set = set_times(&self.at(path), Timestamp { seconds, nanoseconds });
        set.expect("a new time");
    }

    #[track_caller]
    pub(super) fn node(&self, path: impl AsRef<Path>, kind: FileType, device: (u32, u32)) {
        let device = makedev(device.0, device.1);
        mknodat(CWD, self.at(path), kind, Mode::from_raw_mode(0o600), device).expect("a node");
    }

    /// Lists the names in a directory by their bytes.
    #[track_caller]
    pub(super) fn names(&self, path: &Path) -> Vec<PathBuf> {
        let names = fs::read_dir(self.at(path)).expect("a directory");
        let mut names: Vec<_> = names.map(|name| name.expect("a name").file_name()).collect();
        names.sort();
        names.into_iter().map(|name| path.join(name)).collect()
    }

    /// Gives everything that was written just now the same time.
    pub(super) fn settle(&self, time: Timestamp) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let recent = (now - LONG).as_secs().cast_signed()..=now.as_secs().cast_signed();
        self.visit(Path::new(""), &mut |path| {
            // What overlay lists and has not is the listing's to tell.
            let Ok(found) = self.at(path).symlink_metadata() else { return };
            if recent.contains(&found.mtime()) {
                set_times(&self.at(path), time).expect("a new time");
            }
        });
    }

    /// Visits everything, the root not; a directory before what is in it.
    pub(super) fn visit(&self, directory: &Path, visit: &mut dyn FnMut(&Path)) {
        for path in self.names(directory) {
            visit(&path);
            if self.at(&path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
                self.visit(&path, visit);
            }
        }
    }
}

/// Sets the times of a path, a link's own.
pub(super) fn set_times(path: &Path, time: Timestamp) -> rustix::io::Result<()> {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}
