//! /dev: the nodes, links and terminal that docker gives a container.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dev, Dir, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};

use super::path::{Kind, Root};
use super::rootfs::{file_system, place, put};
use super::spec::{Access, Device, DeviceKind, DeviceRule, Process};
use super::wire::{Assignment, AtStep, Failure};

/// Reading, writing and making nodes.
const ALL: Access = Access { read: true, write: true, make: true };

const fn make(kind: DeviceKind) -> DeviceRule {
    let access = Access { read: false, write: false, make: true };
    DeviceRule { kind, major: None, minor: None, access }
}

const fn open(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule { kind: DeviceKind::Character, major: Some(major), minor, access: ALL }
}

/// Docker's default rules: any node may be made, only the usual ones used.
pub(crate) const RULES: [DeviceRule; 12] = [
    make(DeviceKind::Character),
    make(DeviceKind::Block),
    open(1, Some(3)),
    open(1, Some(5)),
    open(1, Some(7)),
    open(1, Some(8)),
    open(1, Some(9)),
    open(5, Some(0)),
    open(5, Some(1)),
    open(5, Some(2)),
    // Tunnels, which somebody who may change the network makes himself.
    open(10, Some(200)),
    open(136, None),
];

/// A device node to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    path: PathBuf,
    kind: DeviceKind,
    number: Dev,
    mode: u32,
    uid: u32,
    gid: u32,
    access: Access,
}

impl Node {
    /// The rule that lets a container use it.
    pub(super) fn rule(&self) -> DeviceRule {
        DeviceRule {
            kind: self.kind,
            major: Some(rustix::fs::major(self.number)),
            minor: Some(rustix::fs::minor(self.number)),
            access: self.access,
        }
    }
}

/// The nodes that devices of the host become: one, or all below a directory.
pub(super) fn gather(devices: &[Device]) -> io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for device in devices {
        let host = fs_err::canonicalize(&device.host)?;
        if host.is_dir() {
            gather_below(&host, &device.container, device.access, &mut nodes)?;
            continue;
        }
        let node = node_of(&host, &device.container, device.access)?.ok_or_else(|| {
            let text = format!("{}: not a device node", device.host.display());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn gather_below(from: &Path, to: &Path, access: Access, nodes: &mut Vec<Node>) -> io::Result<()> {
    let mut entries = fs_err::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs_err::DirEntry::file_name);
    for entry in entries {
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            gather_below(&entry.path(), &to, access, nodes)?;
        } else {
            nodes.extend(node_of(&entry.path(), &to, access)?);
        }
    }
    Ok(())
}

/// None for what is no device.
fn node_of(host: &Path, path: &Path, access: Access) -> io::Result<Option<Node>> {
    let metadata = fs_err::symlink_metadata(host)?;
    let kind = match FileType::from_raw_mode(metadata.mode()) {
        FileType::CharacterDevice => DeviceKind::Character,
        FileType::BlockDevice => DeviceKind::Block,
        _ => return Ok(None),
    };
    Ok(Some(Node {
        path: path.to_owned(),
        kind,
        number: metadata.rdev(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access,
    }))
}

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
    for node in &assignment.devices {
        make_asked(root, node).at(|| format!("make device {}", node.path.display()))?;
    }
    if !spec.process.terminal {
        return Ok(None);
    }
    let terminal = Terminal::open(&pts).at(|| "open a terminal")?;
    terminal.set_window(&spec.process).at(|| "set the terminal's size")?;
    terminal.show_as_console(root, &pts).at(|| "mount /dev/console")?;
    Ok(Some(terminal))
}

/// Makes a node that was asked for.
fn make_asked(root: &mut Root, node: &Node) -> Result<(), Errno> {
    let parent = node.path.parent().unwrap_or(Path::new("/"));
    let name = node.path.file_name().ok_or(Errno::INVAL)?;
    let name = std::ffi::CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    let directory = root.ensure(parent, Kind::Directory)?;
    let kind = match node.kind {
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Character | DeviceKind::All => FileType::CharacterDevice,
    };
    let mode = Mode::from_raw_mode(node.mode);
    make_node(&directory, &name, kind, mode, node.number, (node.uid, node.gid))
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
    /// Opens a new terminal of a devpts.
    fn open(pts: &OwnedFd) -> Result<Terminal, Errno> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        Terminal::of(rustix::fs::openat(pts, "ptmx", flags, Mode::empty())?)
    }

    fn of(master: OwnedFd) -> Result<Terminal, Errno> {
        rustix::pty::unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        Ok(Terminal { master, slave })
    }

    /// Opens a new terminal in the running container this process has entered.
    pub(super) fn open_inside() -> Result<Terminal, Failure> {
        /// `f_type` of a devpts (`statfs(2)`).
        const DEVPTS: u64 = 0x1cd1;
        let step = || "open a terminal: /dev/pts/ptmx";
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).at(step)?;
        if rustix::fs::fstatfs(&master).at(step)?.f_type as u64 != DEVPTS {
            let text = "open a terminal: the container's /dev/pts is not a devpts";
            return Err(Failure::Refused(text.to_owned()));
        }
        rustix::io::ioctl_fionbio(&master, false).at(step)?;
        Terminal::of(master).at(step)
    }

    /// Gives it the size the process is to find.
    pub(super) fn set_window(&self, process: &Process) -> Result<(), Errno> {
        let Some((ws_row, ws_col)) = process.window else {
            return Ok(());
        };
        tcsetwinsize(&self.master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })
    }

    fn show_as_console(&self, root: &mut Root, pts: &OwnedFd) -> Result<(), Errno> {
        // `/dev/pts/0` in the kernel's words; only its last part means something here.
        let name = rustix::pty::ptsname(&self.master, Vec::new())?;
        let number = name.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let node = open_tree(pts, number, flags)?;
        put(&node, &root.ensure(Path::new("/dev/console"), Kind::File)?)
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
