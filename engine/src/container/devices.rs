//! /dev: the nodes, links and terminal that docker gives a container.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dev, Dir, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::pty::OpenptFlags;

use super::path::{Kind, Root};
use super::rootfs::{file_system, place, put};
use super::wire::{Assignment, AtStep, Failure};

/// A rule of what a container may do with devices; what no rule allows it may not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DeviceRule {
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    /// Reading and writing; making a node is always allowed.
    pub(crate) open: bool,
}

/// What a device node is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DeviceKind {
    Block,
    Character,
}

impl DeviceRule {
    const fn make(kind: DeviceKind) -> DeviceRule {
        DeviceRule { kind, major: None, minor: None, open: false }
    }

    const fn open(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule { kind: DeviceKind::Character, major: Some(major), minor, open: true }
    }
}

/// As the devices controller of version 1 reads it.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == DeviceKind::Block { 'b' } else { 'c' };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |it| it.to_string());
        let access = if self.open { "rwm" } else { "m" };
        write!(f, "{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// Docker's default rules: any node may be made, only the usual ones used.
pub(crate) const RULES: [DeviceRule; 11] = [
    DeviceRule::make(DeviceKind::Character),
    DeviceRule::make(DeviceKind::Block),
    DeviceRule::open(1, Some(3)),
    DeviceRule::open(1, Some(5)),
    DeviceRule::open(1, Some(7)),
    DeviceRule::open(1, Some(8)),
    DeviceRule::open(1, Some(9)),
    DeviceRule::open(5, Some(0)),
    DeviceRule::open(5, Some(1)),
    DeviceRule::open(5, Some(2)),
    DeviceRule::open(136, None),
];

/// Character devices every container has, readable and writable by all.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// What a privileged container does not get from the host's /dev: it has its own.
const OWN: [&str; 6] = ["pts", "shm", "mqueue", "fd", "console", "ptmx"];

/// A pseudo terminal of the container's own devpts.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    slave: OwnedFd,
}

/// Mounts /dev and /dev/pts with everything in them; opens a terminal if one is asked for.
pub(super) fn mount_dev(
    root: &mut Root,
    assignment: &Assignment<'_>,
) -> Result<Option<Terminal>, Failure> {
    let spec = &*assignment.spec;
    let no_suid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let nodes = assignment
        .mounts_confine_devices()
        .then(|| mount_nodes(root).at(|| "make device nodes"))
        .transpose()?;
    let no_devices = nodes.as_ref().map_or(no_suid, |_| no_suid | MountAttrFlags::MOUNT_ATTR_NODEV);
    let attributes = no_devices | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = place(root, "/dev", "tmpfs", &[("mode", "755"), ("size", "65536k")], attributes)?;
    match nodes {
        None => make_nodes(&dev).at(|| "make device nodes")?,
        Some(nodes) => {
            for ((name, ..), node) in NODES.iter().zip(nodes) {
                bind_node(&dev, name, &node).at(|| format!("mount /dev/{name}"))?;
            }
        }
    }
    if spec.privileged {
        copy_nodes(Path::new("/dev"), &dev).at(|| "copy the host's devices")?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).at(|| format!("make /dev/{name}"))?;
    }
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let attributes = no_suid | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = place(root, "/dev/pts", "devpts", &options, attributes)?;
    if !spec.process.terminal {
        return Ok(None);
    }
    Terminal::open(root, &pts).at(|| "open a terminal").map(Some)
}

fn make_nodes(directory: &OwnedFd) -> Result<(), Errno> {
    for (name, major, minor) in NODES {
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(directory, name, kind, mode, makedev(major, minor))?;
    }
    Ok(())
}

/// Makes the usual nodes where devices can be used, and returns a mount of each alone. They are
/// not the host's nodes, whose modes the container could change; /dev is mounted over the place.
fn mount_nodes(root: &mut Root) -> Result<Vec<OwnedFd>, Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let nodes = file_system("tmpfs", &[("mode", "755")], attributes)?;
    put(&nodes, &root.ensure(Path::new("/dev"), Kind::Directory)?)?;
    make_nodes(&nodes)?;
    NODES
        .iter()
        .map(|(name, ..)| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(&nodes, *name, flags)
        })
        .collect()
}

fn bind_node(dev: &OwnedFd, name: &str, node: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
    put(node, &rustix::fs::openat(dev, name, flags, Mode::empty())?)
}

/// Makes the host's device nodes again, with their owners and modes, below `to`.
fn copy_nodes(from: &Path, to: &OwnedFd) -> Result<(), Errno> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from_fd = rustix::fs::open(from, directory, Mode::empty())?;
    for entry in Dir::read_from(&from_fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || OWN.iter().any(|own| name.to_bytes() == own.as_bytes())
        {
            continue;
        }
        let stat = rustix::fs::statat(&from_fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let below = rustix::fs::openat(to, name, directory, Mode::empty())?;
                let path = from.join(std::ffi::OsStr::new(&*name.to_string_lossy()));
                copy_nodes(&path, &below)?;
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                make_node(to, name, kind, mode, stat.st_rdev, (stat.st_uid, stat.st_gid))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn make_node(
    directory: &OwnedFd,
    name: &std::ffi::CStr,
    kind: FileType,
    mode: Mode,
    device: Dev,
    owner: (u32, u32),
) -> Result<(), Errno> {
    match rustix::fs::mknodat(directory, name, kind, mode, device) {
        // One of those every container has.
        Err(Errno::EXIST) => return Ok(()),
        result => result?,
    }
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)
}

impl Terminal {
    /// Opens a new terminal and shows it as /dev/console.
    fn open(root: &mut Root, pts: &OwnedFd) -> Result<Terminal, Errno> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::openat(pts, "ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        // `/dev/pts/0` in the kernel's words; only its last part means something here.
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let number = name.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let node = open_tree(pts, number, flags)?;
        put(&node, &root.ensure(Path::new("/dev/console"), Kind::File)?)?;
        Ok(Terminal { master, slave })
    }

    /// Makes it this session's controlling terminal and the three standard streams.
    pub(super) fn become_stdio(&self, uid: u32) -> Result<(), Failure> {
        let step = || "set up the terminal";
        rustix::fs::fchown(&self.slave, Some(Uid::from_raw(uid)), None).at(step)?;
        rustix::process::ioctl_tiocsctty(&self.slave).at(step)?;
        rustix::stdio::dup2_stdin(&self.slave).at(step)?;
        rustix::stdio::dup2_stdout(&self.slave).at(step)?;
        rustix::stdio::dup2_stderr(&self.slave).at(step)
    }
}
