//! Random changes over random changes: names so few that everything meets everything.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use cache::layer::Timestamp;
use cache::lower::Driver;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rustix::fs::{OFlags, XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};

use super::Chain;
use super::attributes::CAPABILITY;
use super::tree::{Tree, set_times};

/// Runs of the property; the environment's `PROPTEST_CASES` says otherwise.
const CASES: u32 = 48;

/// What is done to a path. It may not work, and then must work nowhere.
#[derive(Clone, Debug)]
enum Change {
    Write(String, usize),
    Append(String, usize),
    Remove(String),
    MakeDir(String, u32),
    ReplaceByDir(String),
    ReplaceByFile(String, usize),
    Symlink(String, &'static str),
    Link(String, String),
    Rename(String, String),
    Chmod(String, u32),
    Chown(String, u32, u32),
    SetXattr(String, &'static str, Vec<u8>),
    RemoveXattr(String, &'static str),
    Touch(String, i64, u32),
}

fn path() -> impl Strategy<Value = String> {
    // Fewer levels are likelier to exist.
    let name = || select(vec!["a", "b", "c"]);
    vec(name(), 1..4).prop_map(|names| names.join("/"))
}

fn change() -> impl Strategy<Value = Change> {
    let size = || select(vec![0, 1, 511, 512, 513, 5000]);
    // Links and files in directories that anybody may write to are not for everybody to open.
    let mode = || (0..0o10000_u32).prop_map(|mode| mode & !0o1022);
    let xattr = || select(vec!["user.one", "user.two", "trusted.three", CAPABILITY.0]);
    let target = select(vec!["a", "b/c", "c", "nowhere", "."]);
    let id = || select(vec![0, 5, 70_000_u32]);
    prop_oneof![
        6 => (path(), size()).prop_map(|(path, size)| Change::Write(path, size)),
        2 => (path(), size()).prop_map(|(path, size)| Change::Append(path, size)),
        4 => path().prop_map(Change::Remove),
        4 => (path(), mode()).prop_map(|(path, mode)| Change::MakeDir(path, mode)),
        2 => path().prop_map(Change::ReplaceByDir),
        2 => (path(), size()).prop_map(|(path, size)| Change::ReplaceByFile(path, size)),
        2 => (path(), target).prop_map(|(path, target)| Change::Symlink(path, target)),
        3 => (path(), path()).prop_map(|(from, to)| Change::Link(from, to)),
        3 => (path(), path()).prop_map(|(from, to)| Change::Rename(from, to)),
        2 => (path(), mode()).prop_map(|(path, mode)| Change::Chmod(path, mode)),
        2 => (path(), id(), id()).prop_map(|(path, uid, gid)| Change::Chown(path, uid, gid)),
        2 => (path(), xattr(), vec(any::<u8>(), 0..9))
            .prop_map(|(path, name, value)| {
                // The kernel takes no other value, or never gives it back.
                let value = if name == CAPABILITY.0 { CAPABILITY.1.to_vec() } else { value };
                Change::SetXattr(path, name, value)
            }),
        1 => (path(), xattr()).prop_map(|(path, name)| Change::RemoveXattr(path, name)),
        2 => (path(), select(vec![-5, 5, 1_600_000_000_i64]), 0..1_000_000_000_u32)
            .prop_map(|(path, seconds, nanoseconds)| Change::Touch(path, seconds, nanoseconds)),
    ]
}

impl Change {
    /// Does it to a tree.
    fn apply(&self, tree: &Tree) -> io::Result<()> {
        match self {
            Self::Write(path, size) => {
                let path = tree.at(path);
                let _ = fs::create_dir_all(path.parent().expect("below the root"));
                write(&path, *size, OpenOptions::new().write(true).create(true).truncate(true))
            }
            Self::Append(path, size) => {
                write(&tree.at(path), *size, OpenOptions::new().append(true))
            }
            Self::Remove(path) => remove(&tree.at(path)),
            Self::MakeDir(path, mode) => {
                fs::create_dir(tree.at(path))?;
                fs::set_permissions(tree.at(path), Permissions::from_mode(*mode))
            }
            Self::ReplaceByDir(path) => {
                remove(&tree.at(path))?;
                fs::create_dir(tree.at(path))
            }
            Self::ReplaceByFile(path, size) => {
                remove(&tree.at(path))?;
                write(&tree.at(path), *size, OpenOptions::new().write(true).create_new(true))
            }
            Self::Symlink(path, target) => symlink(target, tree.at(path)),
            Self::Link(from, to) => fs::hard_link(tree.at(from), tree.at(to)),
            Self::Rename(from, to) => fs::rename(tree.at(from), tree.at(to)),
            Self::Chmod(path, mode) => {
                fs::set_permissions(tree.at(path), Permissions::from_mode(*mode))
            }
            Self::Chown(path, uid, gid) => lchown(tree.at(path), Some(*uid), Some(*gid)),
            Self::SetXattr(path, name, value) => {
                Ok(lsetxattr(tree.at(path), *name, value, XattrFlags::empty())?)
            }
            Self::RemoveXattr(path, name) => Ok(lremovexattr(tree.at(path), *name)?),
            Self::Touch(path, seconds, nanoseconds) => {
                let time = Timestamp { seconds: *seconds, nanoseconds: *nanoseconds };
                Ok(set_times(&tree.at(path), time)?)
            }
        }
    }

    /// The path of which overlay makes a copy before.
    fn copied_up(&self) -> Option<&str> {
        match self {
            Self::Write(path, _)
            | Self::Append(path, _)
            | Self::Link(path, _)
            | Self::Rename(path, _)
            | Self::Chmod(path, _)
            | Self::Chown(path, ..)
            | Self::SetXattr(path, ..)
            | Self::RemoveXattr(path, _)
            | Self::Touch(path, ..) => Some(path),
            _ => None,
        }
    }

    /// Whether it means the same everywhere.
    fn is_defined(&self, plain: &Tree) -> bool {
        let found = |path: &str| plain.at(path).symlink_metadata().ok();
        match self {
            // A directory is renamed or not, depending on which layer it is of; names of one file
            // are not renamed to each other, unless overlay takes them for different files.
            Self::Rename(from, to) => found(from).is_none_or(|from| {
                let same = found(to).is_some_and(|to| to.ino() == from.ino());
                !from.is_dir() && !same
            }),
            // It would follow a link, and change a file that is known by another name.
            Self::Chmod(path, _) => found(path).is_none_or(|found| !found.is_symlink()),
            _ => true,
        }
    }
}

fn write(path: &Path, size: usize, options: &mut OpenOptions) -> io::Result<()> {
    let mut file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8 ^ size as u8).collect();
    file.write_all(&content)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Files of the layers below with several names, held open so that their numbers stay theirs.
struct Shared {
    inodes: BTreeSet<u64>,
    files: Vec<std::os::fd::OwnedFd>,
}

impl Shared {
    fn new(plain: &Tree) -> Self {
        let mut shared = Self { inodes: BTreeSet::new(), files: Vec::new() };
        plain.visit(Path::new(""), &mut |path| {
            let metadata = plain.at(path).symlink_metadata().expect("present");
            if !metadata.is_dir() && metadata.nlink() > 1 && shared.inodes.insert(metadata.ino()) {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::open(plain.at(path), flags, rustix::fs::Mode::empty());
                shared.files.push(file.expect("opened"));
            }
        });
        shared
    }

    /// Makes a name of such a file a file of its own, as overlay does before it writes to it.
    fn part(&self, path: &Path) -> io::Result<()> {
        let metadata = path.symlink_metadata()?;
        if metadata.nlink() < 2 || !self.inodes.contains(&metadata.ino()) {
            return Ok(());
        }
        // The way there may lead through links.
        let parent = fs::canonicalize(path.parent().expect("below the root"))?;
        let parent_time = time_of(&parent)?;
        let attributes = attributes(path)?;
        let copy: PathBuf = parent.join("copy");
        if metadata.is_symlink() {
            symlink(fs::read_link(path)?, &copy)?;
        } else {
            fs::write(&copy, fs::read(path)?)?;
        }
        lchown(&copy, Some(metadata.uid()), Some(metadata.gid()))?;
        if !metadata.is_symlink() {
            fs::set_permissions(&copy, metadata.permissions())?;
        }
        for (name, value) in attributes {
            lsetxattr(&copy, name.as_slice(), &value, XattrFlags::empty())?;
        }
        set_times(&copy, time_of(path)?)?;
        fs::rename(copy, path)?;
        Ok(set_times(&parent, parent_time)?)
    }
}

fn time_of(path: &Path) -> io::Result<Timestamp> {
    let metadata = path.symlink_metadata()?;
    let nanoseconds = metadata.mtime_nsec().try_into().expect("less than a second");
    Ok(Timestamp { seconds: metadata.mtime(), nanoseconds })
}

fn attributes(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 1 << 12];
    let length = llistxattr(path, &mut names)?;
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 12];
        let length = lgetxattr(path, name, &mut value)?;
        value.truncate(length);
        Ok((name.to_vec(), value))
    };
    names.map(value).collect()
}

/// Does the changes of one layer to a mount and to the plain directory.
fn apply(changes: &[Change], mount: &Tree, plain: &Tree) {
    let shared = Shared::new(plain);
    for change in changes.iter().filter(|change| change.is_defined(plain)) {
        let merged = change.apply(mount).map_err(|error| error.raw_os_error());
        if let (Ok(()), Some(path)) = (&merged, change.copied_up()) {
            // What is not there yet has nothing to part from.
            match shared.part(&plain.at(path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                parted => parted.expect("parted"),
            }
        }
        let plain = change.apply(plain).map_err(|error| error.raw_os_error());
        assert_eq!(merged, plain, "what came of {change:?}, mounted and plain");
    }
}

fn run(driver: Driver, layers: &[Vec<Change>]) -> Vec<cache::digest::Digest> {
    let mut chain = Chain::new(driver);
    for changes in layers {
        chain.write(|mount, plain| apply(changes, mount, plain));
        chain.check();
    }
    chain.finish()
}

fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: CASES, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_changes_show_the_same_tree_and_make_the_same_layers_with_both_drivers(
        layers in vec(vec(change(), 0..16), 1..7),
    ) {
        prop_assert_eq!(run(Driver::Erofs, &layers), run(Driver::Dir, &layers));
    }
}
