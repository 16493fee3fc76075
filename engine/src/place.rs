//! Puts results where people look for them: each file appears whole under its name or not at all,
//! and what had the name before stays until then, also when the machine loses its power.
//!
//! A file has no name while it is written, where the file system can do that (`O_TMPFILE`). Many
//! files for a directory are a [`Stage`]. Does not know what is in the files.

mod stage;

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cache::flush::Flusher;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

pub use stage::Stage;

/// What the names of everything unfinished begin with, and end with.
const UNFINISHED: (&str, &str) = (".rbuild-", ".part");

/// Bytes of a file that take the disk longer than starting a thread does.
const WORTH_A_THREAD: u64 = 16 << 20;

/// A file in the making. Dropped before [`NewFile::commit`], it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    file: fs_err::File,
    way: Way,
    written: u64,
    flusher: Option<Flusher>,
}

/// How a file comes to its name.
#[derive(Debug)]
enum Way {
    /// It is a device, a pipe or what else cannot be replaced, and is written to as it is.
    InPlace,
    /// It is linked to `path`.
    Nameless { path: PathBuf },
    /// It is renamed to `path`.
    Named { temp: PathBuf, path: PathBuf },
}

impl NewFile {
    /// Begins a file for `path`, with the owner and the mode of one that is there. A symbolic link
    /// stays and what it leads to is replaced; what is no file is written to and stays what it is.
    pub fn create(path: &Path) -> io::Result<Self> {
        let (path, present) = match fs_err::metadata(path) {
            Ok(present) if present.is_file() => (fs_err::canonicalize(path)?, Some(present)),
            Ok(_) => {
                let file = fs_err::File::options().write(true).open(path)?;
                return Ok(Self::new(file, Way::InPlace));
            }
            Err(_) => (end_of_links(path), None),
        };
        let (file, way) = begin(path)?;
        if let Some(present) = present {
            std::os::unix::fs::fchown(&file, Some(present.uid()), Some(present.gid()))?;
            file.set_permissions(present.permissions())?;
        }
        Ok(Self::new(file, way))
    }

    fn new(file: fs_err::File, way: Way) -> Self {
        Self { file, way, written: 0, flusher: None }
    }

    /// Gives the file its name, once it is on the disk.
    pub fn commit(mut self) -> io::Result<()> {
        let path = match &self.way {
            Way::InPlace => return self.file.flush(),
            Way::Nameless { path } | Way::Named { path, .. } => path.clone(),
        };
        self.flusher = None;
        self.file.sync_all()?;
        if let Way::Nameless { path } = &self.way {
            match link(&self.file, path) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let temp = beside(path);
                    link(&self.file, &temp).map_err(|error| named("create", &temp, error))?;
                    self.way = Way::Named { temp, path: path.clone() };
                }
                Err(error) => return Err(named("create", path, error)),
            }
        }
        if let Way::Named { temp, path } = &self.way {
            fs_err::rename(temp, path)?;
        }
        self.way = Way::InPlace;
        fs_err::File::open(parent(&path))?.sync_all()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        match &mut self.flusher {
            Some(flusher) => flusher.wrote(written as u64),
            None if self.written >= WORTH_A_THREAD && !matches!(self.way, Way::InPlace) => {
                self.flusher = Some(Flusher::new(self.file.file(), self.written)?);
            }
            None => {}
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Way::Named { temp, .. } = &self.way {
            let _ = fs_err::remove_file(temp);
        }
    }
}

/// Writes a file whole.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

fn begin(path: PathBuf) -> io::Result<(fs_err::File, Way)> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(parent(&path), flags, mode) {
        Ok(file) => Ok((fs_err::File::from_parts(file.into(), &path), Way::Nameless { path })),
        // Not every file system can.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let temp = beside(&path);
            let file = fs_err::File::options().write(true).create_new(true).open(&temp)?;
            Ok((file, Way::Named { temp, path }))
        }
        Err(error) => Err(named("create", &path, error)),
    }
}

/// Gives a file without a name one; open(2) tells of this way.
fn link(file: &fs_err::File, path: &Path) -> rustix::io::Result<()> {
    let from = format!("/proc/self/fd/{}", file.file().as_raw_fd());
    rustix::fs::linkat(rustix::fs::CWD, from, rustix::fs::CWD, path, AtFlags::SYMLINK_FOLLOW)
}

/// Where a link that leads to nothing leads.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as the kernel follows.
    for _ in 0..40 {
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = parent(&path).join(target);
    }
    path
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the same directory that nothing has.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (begin, end) = UNFINISHED;
    parent(path).join(format!("{begin}{}-{number}{end}", std::process::id()))
}

fn named(step: &str, path: &Path, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("failed to {step} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("list");
        let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("entry").file_name();
        let mut names: Vec<_> =
            entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Begins a file both ways: where there are files without names and where there are not.
    fn both_ways(check: impl Fn(&Path, &dyn Fn(&Path) -> NewFile)) {
        for named in [false, true] {
            let dir = tempfile::tempdir().expect("tempdir");
            check(dir.path(), &|path| {
                let mut file = NewFile::create(path).expect("create");
                if let (true, Way::Nameless { path }) = (named, &file.way) {
                    let (path, temp) = (path.clone(), beside(path));
                    file.file = fs_err::File::create_new(&temp).expect("create");
                    file.way = Way::Named { temp, path };
                }
                file
            });
        }
    }

    #[test]
    fn a_file_is_seen_when_it_is_whole_and_the_old_one_until_then() {
        both_ways(|dir, create| {
            let path = dir.join("file");
            for content in ["first", "second"] {
                let before = std::fs::read(&path).ok();
                let mut file = create(&path);
                file.write_all(content.as_bytes()).expect("write");
                assert_eq!(std::fs::read(&path).ok(), before);
                file.commit().expect("commit");
                assert_eq!(std::fs::read(&path).expect("read"), content.as_bytes());
                assert_eq!(names(dir), ["file"]);
            }
        });
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        both_ways(|dir, create| {
            std::fs::write(dir.join("old"), "old").expect("write");
            for name in ["old", "new"] {
                create(&dir.join(name)).write_all(b"half").expect("write");
            }
            assert_eq!(names(dir), ["old"]);
            assert_eq!(std::fs::read(dir.join("old")).expect("read"), b"old");
        });
    }

    #[test]
    fn a_new_file_has_the_mode_of_the_old_one_and_links_stay() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [file, link, later] = ["file", "link", "later"].map(|name| dir.path().join(name));
        std::fs::write(&file, "old").expect("write");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("chmod");
        std::os::unix::fs::symlink("file", &link).expect("symlink");
        std::os::unix::fs::symlink("not-yet", &later).expect("symlink");
        for path in [&link, &later] {
            write(path, b"new").expect("write");
            assert!(path.symlink_metadata().expect("stat").is_symlink());
            assert_eq!(std::fs::read(path).expect("read"), b"new");
        }
        assert_eq!(file.metadata().expect("stat").permissions().mode() & 0o7777, 0o640);
        assert_eq!(names(dir.path()), ["file", "later", "link", "not-yet"]);
    }
}
