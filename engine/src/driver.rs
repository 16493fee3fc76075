//! How layers are mounted, chosen by trying: once for each store and kernel.
//!
//! The choice is written down in the store (`driver`), as what was found on which kernel and on
//! which kind of file system. Does not know what the drivers do; it mounts a layer of one file and
//! looks whether the file is there, and mounts what a container would write to.

use std::io;
use std::path::Path;

use cache::Store;
use cache::layer::writer::LayerWriter;
use cache::layer::{Entry, Kind};
use cache::lower::{Driver, Lower};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::overlay::{self, Overlay};
use crate::view::View;

/// What the file of the trial's layer holds.
const CONTENT: &[u8] = b"erofs";

/// A driver, and why this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The driver.
    pub driver: Driver,
    /// The reason, for people.
    pub why: String,
}

/// What was found, and where.
#[derive(Serialize, Deserialize)]
struct Found {
    kernel: String,
    /// By its number (statfs(2)).
    file_system: i64,
    choice: Choice,
    /// The name of the file system, if no container can write there.
    no_upper: Option<String>,
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The one that was asked for does not work.
    #[error("the erofs driver does not work here: {why}; leave the choice to rbuild, or take dir")]
    Refused {
        /// What the kernel said.
        why: String,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] cache::Error),
}

/// Chooses the store's driver: the one that is wanted, or else the best that works.
pub fn choose(store: &Store, wanted: Option<Driver>) -> Result<Choice, Error> {
    let found = find(store)?;
    let asked = |driver| Choice { driver, why: "it was asked for".to_owned() };
    let choice = match wanted {
        Some(Driver::Erofs) if found.choice.driver != Driver::Erofs => {
            return Err(Error::Refused { why: found.choice.why });
        }
        Some(driver) => asked(driver),
        None => found.choice,
    };
    store.set_driver(choice.driver);
    if let Some(file_system) = found.no_upper {
        store.refuse_upper(file_system);
    }
    Ok(choice)
}

/// What was found earlier on this kernel, or what is found now.
fn find(store: &Store) -> Result<Found, Error> {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let file_system = rustix::fs::statfs(store.root()).map_or(0, |known| known.f_type);
    let path = store.root().join("driver");
    let known =
        fs_err::read(&path).ok().and_then(|text| serde_json::from_slice::<Found>(&text).ok());
    let holds = |known: &Found| known.kernel == kernel && known.file_system == file_system;
    if let Some(known) = known.filter(holds) {
        return Ok(known);
    }
    let choice = match try_erofs(store) {
        Ok(()) => {
            Choice { driver: Driver::Erofs, why: "the kernel mounts layers in place".to_owned() }
        }
        Err(error) => Choice {
            driver: Driver::Dir,
            why: format!("the kernel does not mount layers in place: {error}"),
        },
    };
    // Whatever else goes wrong is told better by who meets it.
    let refused = try_upper(store).is_err_and(|error| error == Errno::INVAL);
    let no_upper = refused.then(|| file_system_of(store.root()));
    let found = Found { kernel, file_system, choice, no_upper };
    let text = serde_json::to_vec(&found).expect("text can be written");
    // A store that cannot be written to can still be looked into.
    let _ = store.write_atomically(&path, &text);
    Ok(found)
}

/// Mounts what a container writes to.
fn try_upper(store: &Store) -> Result<(), Errno> {
    let make = || store.scratch_dir().map_err(|_| Errno::IO);
    let upper = (make()?, make()?);
    let lower = [Lower::Directory(make()?), Lower::Directory(make()?)];
    overlay::mount_apart(Overlay { lower: &lower, upper: Some(&upper), volatile: true }).map(drop)
}

/// The kind of file system that a directory is on, by its name (`proc_pid_mountinfo(5)`).
fn file_system_of(path: &Path) -> String {
    let text = fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID);
    let number = mount.map_or(0, |known| known.stx_mnt_id).to_string();
    let line = text.lines().find(|line| line.split(' ').next() == Some(number.as_str()));
    let (_, kind) = line.and_then(|line| line.split_once(" - ")).unwrap_or_default();
    kind.split(' ').next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned()
}

/// Mounts a layer of one file and reads it.
fn try_erofs(store: &Store) -> io::Result<()> {
    let dir = store.scratch_dir().map_err(io::Error::other)?;
    let (tar, index, empty) = (dir.join("layer.tar"), dir.join("index"), dir.join("empty"));
    let mut layer = LayerWriter::new(fs_err::File::create(&tar)?);
    let file = Entry::new("file", Kind::File { size: CONTENT.len() as u64 }, 0o644);
    layer.append(&file, CONTENT).and_then(|()| layer.finish()).map_err(io::Error::other)?;
    cache::index::write_index(&tar, &index).map_err(io::Error::other)?;
    fs_err::create_dir(&empty)?;
    let lower = [Lower::Erofs { index, devices: vec![tar] }, Lower::Directory(empty)];
    let root = overlay::mount_apart(Overlay { lower: &lower, upper: None, volatile: false })?;
    match View::new(root).read("file")? {
        Some(read) if read == CONTENT => Ok(()),
        _ => Err(io::Error::other("a file does not read as it was written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_holds_for_its_kernel_and_what_is_wanted_for_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let found = choose(&store, None).expect("choose");
        let path = dir.path().join("driver");
        let text = fs_err::read_to_string(&path).expect("written down");
        assert_eq!(serde_json::from_str::<Found>(&text).expect("whole").choice, found);

        let other = Choice { driver: Driver::Dir, why: "the moon".to_owned() };
        let write = |kernel: &str| {
            let found: Found = serde_json::from_str(&text).expect("whole");
            let found = Found { kernel: kernel.to_owned(), choice: other.clone(), ..found };
            fs_err::write(&path, serde_json::to_vec(&found).expect("text")).expect("write");
        };
        write(&rustix::system::uname().release().to_string_lossy());
        assert_eq!(choose(&store, None).expect("choose"), other);
        let error = choose(&store, Some(Driver::Erofs)).expect_err("refused");
        assert!(error.to_string().contains("the moon"), "{error}");
        write("2.2.0");
        assert_eq!(choose(&store, None).expect("choose"), found);
        assert_eq!(store.driver(), found.driver);
        fs_err::write(&path, text.replace("\"file_system\":", "\"file_system\":1")).expect("write");
        choose(&store, None).expect("choose");
        assert_eq!(fs_err::read_to_string(&path).expect("written down"), text);
        let store = Store::open(dir.path()).expect("open");
        assert_eq!(choose(&store, Some(Driver::Dir)).expect("choose").driver, Driver::Dir);
        assert_eq!(store.driver(), Driver::Dir);
    }
}
