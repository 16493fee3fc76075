//! Removes directories with all that is in them, however deep: what a container has written may be
//! deeper than a stack, and than a process may have files open.
//!
//! Follows no links. Does not wait for anybody who still writes there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, fstat, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::layer::walk::{Identity, names};

/// As many directories are open at a time. What is deeper is moved up first.
const MOST_OPEN: usize = 64;

/// Removes a file, or a directory with all that is in it.
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    remove_dir_all_unless(path, &AtomicBool::new(false))
}

/// The same until `stop` is set: what is then still there can be removed later.
pub(crate) fn remove_dir_all_unless(path: impl AsRef<Path>, stop: &AtomicBool) -> io::Result<()> {
    let path = path.as_ref();
    let mut is_stopped = || stop.load(Ordering::Relaxed);
    let mut remove = || {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(CWD, parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
        remove_level_by_level(parent.as_fd(), name.as_bytes(), &mut |_| {}, &mut is_stopped)
    };
    remove().map_err(|errno: Errno| {
        let what = format!("failed to remove directory `{}`: {errno}", path.display());
        io::Error::new(errno.kind(), what)
    })
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    directory: OwnedFd,
    identity: Identity,
    names: Vec<CString>,
}

/// Removes a name and everything below it; `gone` is told of every directory that goes.
pub(crate) fn remove_at(
    parent: BorrowedFd<'_>,
    name: &[u8],
    gone: &mut dyn FnMut(Identity),
) -> rustix::io::Result<()> {
    remove_level_by_level(parent, name, gone, &mut || false)
}

fn remove_level_by_level(
    parent: BorrowedFd<'_>,
    name: &[u8],
    gone: &mut dyn FnMut(Identity),
    is_stopped: &mut dyn FnMut() -> bool,
) -> rustix::io::Result<()> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    match unlinkat(parent, &name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done,
    }
    let mut open = vec![enter(parent, name)?];
    let mut moved = 0;
    while let Some(level) = open.last_mut() {
        if is_stopped() {
            return Err(Errno::CANCELED);
        }
        let Some(name) = level.names.pop() else {
            let level = open.pop().expect("it was the last");
            gone(level.identity);
            let above = open.last().map_or(parent, |above| above.directory.as_fd());
            unlinkat(above, &level.name, AtFlags::REMOVEDIR)?;
            continue;
        };
        match unlinkat(&level.directory, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        }
        let level = open.last().expect("it is still there");
        if open.len() >= MOST_OPEN
            && let Ok(name) = move_up(&open[0], level, &name, &mut moved)
        {
            open[0].names.push(name);
            continue;
        }
        // Overlay moves no directory that is in a layer below.
        let below = enter(level.directory.as_fd(), name)?;
        open.push(below);
    }
    Ok(())
}

fn enter(parent: BorrowedFd<'_>, name: CString) -> rustix::io::Result<Level> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, &name, flags, Mode::empty())?;
    let stat = fstat(&directory)?;
    let names = names(directory.as_fd())?;
    Ok(Level { name, directory, identity: (stat.st_dev, stat.st_ino), names })
}

/// Moves a directory into the first one, under a name that nothing there has.
fn move_up(
    first: &Level,
    from: &Level,
    name: &CString,
    moved: &mut u64,
) -> rustix::io::Result<CString> {
    loop {
        let new = CString::new(format!(".rbuild-{moved}")).expect("it has no zero");
        *moved += 1;
        let flags = RenameFlags::NOREPLACE;
        match renameat_with(&from.directory, name, &first.directory, &new, flags) {
            Err(Errno::EXIST) => {}
            done => return done.map(|()| new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn a_tree_that_is_deeper_than_the_stack_is_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let top = dir.path().join("top");
        std::fs::create_dir(&top).expect("mkdir");
        std::fs::write(top.join(".rbuild-0"), "in the way").expect("write");
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut at = openat(CWD, &top, flags, Mode::empty()).expect("open");
        for _ in 0..6_000 {
            for name in ["x", "y"] {
                mkdirat(&at, name, Mode::RWXU).expect("mkdir");
            }
            at = openat(&at, "x", flags, Mode::empty()).expect("open");
        }
        let remove = move || remove_dir_all(&top).map(|()| top.exists());
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(remove);
        let removed = thread.expect("spawn").join().expect("no panic");
        assert!(!removed.expect("removed"));
    }

    #[test]
    fn who_is_stopped_leaves_the_rest_to_be_removed_later() {
        let dir = tempfile::tempdir().expect("tempdir");
        let top = dir.path().join("top");
        std::fs::create_dir_all(top.join("a/b")).expect("mkdir");
        let error = remove_dir_all_unless(&top, &AtomicBool::new(true)).expect_err("stopped");
        assert_eq!(error.raw_os_error(), None, "it names the path: {error}");
        assert!(top.join("a/b").exists());
        remove_dir_all_unless(&top, &AtomicBool::new(false)).expect("remove");
        assert!(!top.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed_and_errors_name_the_path() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [kept, top] = ["kept", "top"].map(|name| dir.path().join(name));
        std::fs::create_dir(&kept).expect("mkdir");
        std::fs::create_dir(&top).expect("mkdir");
        std::os::unix::fs::symlink(&kept, top.join("link")).expect("symlink");
        remove_dir_all(&top).expect("remove");
        assert!(kept.exists() && !top.exists());
        let error = remove_dir_all(&top).expect_err("it is gone");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(&top.display().to_string()), "{error}");
    }
}
