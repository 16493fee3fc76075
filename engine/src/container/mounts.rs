//! The mounts a container's specification asks for.
//!
//! In passes: sources that spread are opened while this mount namespace is still a peer of the
//! host's, the others while the host's file systems are still to be seen; then all are put into the
//! container's root in order.

mod spreading;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::path::{Kind, Root, open_in};
use super::rootfs::{clone_of, file_system, put};
use super::spec::{Below, Mount, MountSource, Propagation};
use super::wire::{AtStep, Failure};
use crate::overlay::{self, Overlay, stack_over_root, unstack_from_root};
use crate::sys::mount::{Attributes, set_attributes};

/// Files below /proc that may be covered.
const EMULATED: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// A mount that is nowhere yet, and where it is to go.
pub(super) struct Source<'a> {
    mount: &'a Mount,
    tree: OwnedFd,
    kind: Kind,
    no_devices: bool,
}

/// Opens the sources whose mounts are to spread, which they only do as copies of shared ones.
pub(super) fn open_spreading(mounts: &[Mount]) -> Result<Vec<Option<OwnedFd>>, Failure> {
    mounts
        .iter()
        .map(|mount| match &mount.source {
            MountSource::BindWith { path, below, propagation }
                if *propagation != Propagation::Private =>
            {
                spreading::refuse_private(path, *propagation)?;
                open_tree(CWD, path, clone_flags(*below)).at(|| describe(mount)).map(Some)
            }
            _ => Ok(None),
        })
        .collect()
}

/// Opens what is to be mounted, with or without the devices in it; `trees` are open already.
pub(super) fn open_sources(
    mounts: &[Mount],
    mut trees: Vec<Option<OwnedFd>>,
    no_devices: bool,
) -> Result<Vec<Source<'_>>, Failure> {
    for (tree, mount) in trees.iter_mut().zip(mounts) {
        if tree.is_none() {
            *tree = bind_source(&mount.source).at(|| describe(mount))?;
        }
    }
    let mut files = FileStore::default();
    for (index, mount) in mounts.iter().enumerate() {
        if trees[index].is_none() {
            let made = made_source(&mount.source, index, &mut files);
            trees[index] = Some(made.at(|| describe(mount))?);
        }
    }
    files.close().at(|| "put the files' file system away")?;
    mounts
        .iter()
        .zip(trees.into_iter().flatten())
        .map(|(mount, tree)| {
            let stat = rustix::fs::fstat(&tree).at(|| describe(mount))?;
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            let kind = if is_directory { Kind::Directory } else { Kind::File };
            Ok(Source { mount, tree, kind, no_devices })
        })
        .collect()
}

/// Mounts the sources in the root, in order.
pub(super) fn attach(root: &mut Root, sources: Vec<Source<'_>>) -> Result<(), Failure> {
    for Source { mount, tree, kind, no_devices } in sources {
        // Before anything is made there; once it is found, links are followed too.
        refuse_in_proc(mount, &tree, &without_dots(&mount.target))?;
        let existing = root.open(&mount.target).ok();
        let place = root
            .ensure(&mount.target, kind)
            .at(|| format!("create mount point {}", mount.target.display()))?;
        refuse_root(root, &mount.target, &place)?;
        let found = root.path_of(&place).at(|| format!("look at {}", mount.target.display()))?;
        refuse_in_proc(mount, &tree, &found)?;
        if let (Some(existing), MountSource::TmpfsWith { options, .. }) = (existing, &mount.source)
            && !options.iter().any(|(name, _)| name == "mode")
        {
            take_mode(&tree, &existing).at(|| describe(mount))?;
        }
        // After the mode, which a read-only mount would not take.
        restrict_tree(&tree, mount, no_devices).at(|| describe(mount))?;
        put(&tree, &place).map_err(|errno| refusal(mount, kind, &place, errno))?;
    }
    Ok(())
}

/// Gives a file system's root the mode of the directory that it covers.
fn take_mode(tree: &OwnedFd, covered: &OwnedFd) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(covered)?.st_mode & 0o7777);
    rustix::fs::chmodat(tree, ".", mode, AtFlags::empty())
}

fn refusal(mount: &Mount, kind: Kind, place: &OwnedFd, errno: Errno) -> Failure {
    let is_directory = rustix::fs::fstat(place)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
    let differ = is_directory != matches!(kind, Kind::Directory);
    // move_mount(2) says EINVAL where mount(2) says ENOTDIR.
    if errno == Errno::NOTDIR || errno == Errno::INVAL && differ {
        let (source, target) = match kind {
            Kind::Directory => ("a directory", "a file"),
            Kind::File => ("a file", "a directory"),
        };
        return Failure::Refused(format!(
            "{}: not a directory: the source is {source}, the target {target}",
            describe(mount)
        ));
    }
    Failure::Step { step: describe(mount), errno: errno.raw_os_error() }
}

/// Refuses `/`, also by a link in the image: what covers the root would stay in the way of entering
/// it.
fn refuse_root(root: &Root, target: &Path, place: &OwnedFd) -> Result<(), Failure> {
    let step = || format!("look at {}", target.display());
    let (root, place) =
        (rustix::fs::fstat(root.directory()).at(step)?, rustix::fs::fstat(place).at(step)?);
    if (root.st_dev, root.st_ino) == (place.st_dev, place.st_ino) {
        return Err(Failure::Refused(format!(
            "mount {}: destination can't be '/'",
            target.display()
        )));
    }
    Ok(())
}

/// Refuses to cover anything of /proc, as runc does (`checkProcMount`): what is there decides what
/// is masked and what later steps of ours write to. `path` is free of links; who is allowed to be
/// there is either a proc file system itself or one of the files that lxcfs emulates.
fn refuse_in_proc(mount: &Mount, tree: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let refused = |why| {
        let message =
            format!("{}: {path:?} cannot be mounted because it is {why}", describe(mount));
        Err(Failure::Refused(message))
    };
    let Ok(below) = path.strip_prefix("/proc") else { return Ok(()) };
    if below.as_os_str().is_empty() {
        let file_system = rustix::fs::fstatfs(tree).at(|| describe(mount))?;
        return match file_system.f_type == rustix::fs::PROC_SUPER_MAGIC {
            true => Ok(()),
            false => refused("not of type proc"),
        };
    }
    match EMULATED.iter().any(|emulated| below == Path::new(emulated)) {
        true => Ok(()),
        false => refused("inside /proc"),
    }
}

/// A path as text says, without what `.` and `..` stand for.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// What a failed mount is called in messages.
fn describe(mount: &Mount) -> String {
    let target = mount.target.display();
    match &mount.source {
        MountSource::Bind(path) | MountSource::BindWith { path, .. } => {
            format!("mount {} at {target}", path.display())
        }
        MountSource::BindIn { root, path } => {
            format!("mount {} of {} at {target}", path.display(), root.display())
        }
        MountSource::Overlay { path, .. } => format!("mount {} at {target}", path.display()),
        MountSource::Tmpfs { .. } | MountSource::TmpfsWith { .. } => {
            format!("mount tmpfs at {target}")
        }
        MountSource::File { .. } => format!("mount a file at {target}"),
    }
}

/// The source if it exists already on the host.
fn bind_source(source: &MountSource) -> Result<Option<OwnedFd>, Errno> {
    match source {
        MountSource::Bind(path) => open_tree(CWD, path, clone_flags(Below::Followed)).map(Some),
        MountSource::BindWith { path, below, .. } => {
            open_tree(CWD, path, clone_flags(*below)).map(Some)
        }
        MountSource::BindIn { root, path } => {
            let root = open_directory(root)?;
            clone_of(&open_in(&root, path, OFlags::PATH)?, c"").map(Some)
        }
        _ => Ok(None),
    }
}

fn clone_flags(below: Below) -> OpenTreeFlags {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match below {
        Below::Followed | Below::Writable => clone | OpenTreeFlags::AT_RECURSIVE,
        Below::Absent => clone,
    }
}

/// The source if it has to be made. All files share one file system in memory.
fn made_source(
    source: &MountSource,
    index: usize,
    files: &mut FileStore,
) -> Result<OwnedFd, Errno> {
    match source {
        MountSource::Bind(_) | MountSource::BindWith { .. } | MountSource::BindIn { .. } => {
            Err(Errno::INVAL)
        }
        MountSource::Overlay { lower, upper, path } => {
            let merged = overlay::mount(Overlay { lower, upper: upper.as_ref(), volatile: true })?;
            let seen = open_in(&merged, path, OFlags::PATH)?;
            // Only what is part of the namespace can be cloned (before Linux 6.15).
            stack_over_root(&merged)?;
            let clone = clone_of(&seen, c"");
            unstack_from_root()?;
            clone
        }
        MountSource::Tmpfs { size, mode } => {
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let (mode, size) = (format!("{mode:o}"), size.unwrap_or_default().to_string());
            let options = [("mode", mode.as_str()), ("size", size.as_str())];
            let options = if size == "0" { &options[..1] } else { &options[..] };
            file_system("tmpfs", options, attributes)
        }
        MountSource::TmpfsWith { options, attributes } => {
            let options: Vec<(&str, &str)> =
                options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            file_system("tmpfs", &options, MountAttrFlags::from_bits_retain(*attributes))
        }
        MountSource::File { bytes, mode, uid, gid } => {
            let owner = (Uid::from_raw(*uid), Gid::from_raw(*gid));
            files.make(&index.to_string(), bytes, Mode::from_raw_mode(*mode), owner)
        }
    }
}

/// A file system in memory for files given by their content; there if it was needed.
#[derive(Default)]
struct FileStore(Option<OwnedFd>);

impl FileStore {
    /// Makes a file and returns a mount of it alone.
    fn make(
        &mut self,
        name: &str,
        bytes: &[u8],
        mode: Mode,
        (uid, gid): (Uid, Gid),
    ) -> Result<OwnedFd, Errno> {
        let store = match &mut self.0 {
            Some(store) => store,
            none => none.insert(FileStore::open()?),
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*store, name, flags, Mode::empty())?;
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(&file, rest)?..];
        }
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&file, mode)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(&*store, name, flags)
    }

    /// Mounts it, never to be written to swap space where the kernel can promise that (6.4).
    fn open() -> Result<OwnedFd, Errno> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "mode", "700")?;
        match fsconfig_set_flag(&context, "noswap") {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let store = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        stack_over_root(&store)?;
        Ok(store)
    }

    /// Leaves nothing of it but the mounts of its files.
    fn close(self) -> Result<(), Errno> {
        // Other mounts are stacked on top of this one and taken off again, so it is the topmost.
        self.0.map_or(Ok(()), |_| unstack_from_root())
    }
}

/// Sets what a mount and those below it may be used for, and how they spread.
fn restrict_tree(tree: &OwnedFd, mount: &Mount, no_devices: bool) -> Result<(), Errno> {
    let (below, propagation) = match &mount.source {
        MountSource::BindWith { below, propagation, .. } => (*below, *propagation),
        _ => (Below::Followed, Propagation::Private),
    };
    let set = |recursive, flags: MountAttrFlags| match flags.is_empty() {
        true => Ok(()),
        false => {
            let set = u64::from(flags.bits());
            let attributes = Attributes { set, ..Attributes::default() };
            set_attributes(tree.as_fd(), c"", recursive, attributes)
        }
    };
    let (read_only, nodev) = (MountAttrFlags::MOUNT_ATTR_RDONLY, MountAttrFlags::MOUNT_ATTR_NODEV);
    let when = |condition, flags| if condition { flags } else { MountAttrFlags::empty() };
    let top = mount.read_only && below == Below::Writable;
    let whole = mount.read_only && !top;
    set(true, when(whole, read_only) | when(no_devices, nodev))?;
    set(false, when(top, read_only))?;
    spreading::spread(tree, propagation)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
