//! The root file system of a container: its overlay, the kernel's file systems in it, and what of
//! them is hidden.
//!
//! Everything is mounted through descriptors (`fsopen(2)`, `open_tree(2)`, `move_mount(2)`), so
//! that no path is looked up twice and no image can point a mount elsewhere. Runs in a mount
//! namespace of its own; does not enter the root it builds.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree,
};
use rustix::thread::LinkNameSpaceType;

use super::devices::{self, Terminal};
use super::init::enter_namespace;
use super::mounts;
use super::path::{Kind, Root, open_in};
use super::spec::{ContainerSpec, Ipc, Rootfs};
use super::wire::{Assignment, AtStep, CgroupMount, Failure};
use crate::overlay::{self, Overlay, stack_over_root};
use crate::sys::mount::{Attributes, set_attributes};

/// The size of /dev/shm if none is asked for.
const SHM_SIZE: u64 = 64 << 20;

/// What docker hides: information about the host, and doors to it.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What docker makes read-only.
pub const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const NOTHING_SPECIAL: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A root that is mounted over `/`, ready to be entered.
pub(super) struct Built {
    pub(super) root: Root,
    pub(super) terminal: Option<Terminal>,
}

/// Mounts everything the container is to see.
pub(super) fn build(assignment: &Assignment<'_>) -> Result<Built, Failure> {
    let spec = &*assignment.spec;
    let spreading = mounts::open_spreading(&spec.mounts)?;
    let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", propagation).at(|| "make mounts private")?;
    let root = mount_root(&spec.rootfs)?;
    let shared = open_shared_memory(&spec.ipc)?;
    let no_devices = assignment.mounts_confine_devices();
    if no_devices {
        restrict(&root, MountAttrFlags::MOUNT_ATTR_NODEV).at(|| "keep devices from /")?;
    }
    // All sources are found before the root hides them.
    let sources = mounts::open_sources(&spec.mounts, spreading, no_devices)?;
    stack_over_root(&root).at(|| "mount the container's root")?;
    let mut root = Root::new(root).at(|| "look at the container's root")?;

    let terminal = mount_standard(&mut root, assignment, shared)?;
    mounts::attach(&mut root, sources)?;
    if !spec.privileged {
        hide(&root, spec)?;
    }
    Ok(Built { root, terminal })
}

/// Makes one mount read-only, nothing below it.
pub(super) fn make_read_only(mount: &OwnedFd) -> Result<(), Errno> {
    restrict(mount, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

fn restrict(mount: &OwnedFd, attributes: MountAttrFlags) -> Result<(), Errno> {
    let attributes = Attributes { set: u64::from(attributes.bits()), ..Attributes::default() };
    set_attributes(mount.as_fd(), c"", false, attributes)
}

fn mount_root(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    match rootfs {
        Rootfs::Overlay { lower, upper, volatile } => {
            if lower.len() > overlay::MOST_LAYERS {
                let (found, most) = (lower.len(), overlay::MOST_LAYERS);
                return Err(Failure::Refused(format!(
                    "the root has {found} layers, overlay takes {most} at most"
                )));
            }
            let overlay = Overlay { lower, upper: upper.as_ref(), volatile: *volatile };
            overlay::mount(overlay).at(|| "mount the root overlay")
        }
        Rootfs::Directory(path) => {
            clone_path(path).at(|| format!("bind {} as root", path.display()))
        }
    }
}

fn clone_path(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
}

/// Mounts a file system of the kernel's own that is nowhere yet.
pub(super) fn file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts a mount on a place found in the root.
pub(super) fn put(mount: &OwnedFd, place: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// proc, sys, dev and what is in them.
fn mount_standard(
    root: &mut Root,
    assignment: &Assignment<'_>,
    shared: Option<OwnedFd>,
) -> Result<Option<Terminal>, Failure> {
    let spec = &*assignment.spec;
    let system = if spec.privileged {
        NOTHING_SPECIAL
    } else {
        NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY
    };
    let shm_size = spec.shm_size.unwrap_or(SHM_SIZE).to_string();
    refuse_links(root)?;
    place(root, "/proc", "proc", &[], NOTHING_SPECIAL)?;
    place(root, "/sys", "sysfs", &[], system)?;
    mount_cgroups(root, &assignment.cgroup_mounts, system)?;
    let terminal = devices::mount_dev(root, assignment)?;
    match place(root, "/dev/mqueue", "mqueue", &[], NOTHING_SPECIAL) {
        // A kernel without POSIX message queues.
        Err(Failure::Step { errno: libc::ENODEV, .. }) => {}
        result => drop(result?),
    }
    let shm = [("mode", "1777"), ("size", shm_size.as_str())];
    match shared {
        Some(shared) => {
            let step = || "mount /dev/shm";
            let place = root.ensure(Path::new("/dev/shm"), Kind::Directory).at(step)?;
            put(&shared, &place).at(step)?;
        }
        None if spec.ipc == Ipc::NoShm => {}
        None => drop(place(root, "/dev/shm", "tmpfs", &shm, NOTHING_SPECIAL)?),
    }
    Ok(terminal)
}

/// Another's /dev/shm, where shared memory is shared, as a mount that is nowhere yet.
fn open_shared_memory(ipc: &Ipc) -> Result<Option<OwnedFd>, Failure> {
    let step = || "share /dev/shm";
    let clone = || {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        clone_of(&open_in(&root, Path::new("/dev/shm"), OFlags::PATH)?, c"")
    };
    match ipc {
        Ipc::New | Ipc::NoShm => Ok(None),
        Ipc::Host => clone().at(step).map(Some),
        Ipc::Join { mounts, .. } => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let own = rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty()).at(step)?;
            enter_namespace(mounts, LinkNameSpaceType::Mount)?;
            let clone = clone();
            let kind = Some(LinkNameSpaceType::Mount);
            rustix::thread::move_into_link_name_space(own.as_fd(), kind).at(step)?;
            clone.at(step).map(Some)
        }
    }
}

/// Refuses an image in which one of the kernel's directories is a link: what is mounted elsewhere,
/// or over the root, is not where it is masked later.
fn refuse_links(root: &Root) -> Result<(), Failure> {
    for name in ["proc", "sys", "dev"] {
        if let Ok(target) = rustix::fs::readlinkat(root.directory(), name, Vec::new()) {
            return Err(Failure::Refused(format!(
                "/{name} is a link to {target:?} in the image; it must be a directory"
            )));
        }
    }
    Ok(())
}

/// Mounts a file system of the kernel's own in the root.
pub(super) fn place(
    root: &mut Root,
    path: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let step = || format!("mount {path}");
    let mount = file_system(kind, options, attributes).at(step)?;
    let place = root.ensure(Path::new(path), Kind::Directory).at(step)?;
    put(&mount, &place).at(step)?;
    Ok(mount)
}

fn mount_cgroups(
    root: &mut Root,
    mounts: &[CgroupMount],
    attributes: MountAttrFlags,
) -> Result<(), Failure> {
    const PLACE: &str = "/sys/fs/cgroup";
    if mounts.is_empty() {
        return Ok(());
    }
    if mounts == [CgroupMount::Unified] {
        return place(root, PLACE, "cgroup2", &[], attributes).map(drop);
    }
    let unrestricted = attributes.difference(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let tmpfs = place(root, PLACE, "tmpfs", &[("mode", "755")], unrestricted)?;
    for mount in mounts {
        let CgroupMount::Legacy(controllers) = mount else {
            continue;
        };
        let options: Vec<(&str, &str)> =
            controllers.split(',').map(|controller| (controller, "")).collect();
        place(root, &format!("{PLACE}/{controllers}"), "cgroup", &options, attributes)?;
    }
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        make_read_only(&tmpfs).at(|| "make /sys/fs/cgroup read-only")?;
    }
    Ok(())
}

/// Covers what docker masks and makes read-only what it makes read-only. What a kernel does not
/// have needs no cover.
fn hide(root: &Root, spec: &ContainerSpec) -> Result<(), Failure> {
    let null = root.open(Path::new("/dev/null")).at(|| "find /dev/null")?;
    let read_only = NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mut empty = None;
    let masked = match &spec.masked_paths {
        Some(paths) => paths.clone(),
        None => {
            MASKED_PATHS.iter().map(|path| (*path).to_owned()).chain(thermal_throttles()).collect()
        }
    };
    for path in masked {
        let Ok(hidden) = root.open(Path::new(&path)) else {
            continue;
        };
        let step = || format!("mask {path}");
        let stat = rustix::fs::fstat(&hidden).at(step)?;
        let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        let cover = match (&empty, is_directory) {
            (_, false) => clone_of(&null, c"").at(step)?,
            (Some(empty), true) => clone_of(empty, c"").at(step)?,
            (None, true) => file_system("tmpfs", &[("nr_inodes", "1")], read_only).at(step)?,
        };
        put(&cover, &hidden).at(step)?;
        if is_directory {
            // Now that it has a place it can be cloned.
            empty.get_or_insert(cover);
        }
    }
    let docker_s = || READ_ONLY_PATHS.iter().map(|path| (*path).to_owned()).collect();
    for path in spec.read_only_paths.clone().unwrap_or_else(docker_s) {
        let Ok(place) = root.open(Path::new(&path)) else {
            continue;
        };
        let step = || format!("make {path} read-only");
        let cover = clone_of(&place, c"").at(step)?;
        make_read_only(&cover).at(step)?;
        put(&cover, &place).at(step)?;
    }
    Ok(())
}

/// A copy of a mount, from the place a descriptor names, that is nowhere yet.
pub(super) fn clone_of(place: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(place, name, flags)
}

/// The counters of throttling that each CPU has, which tell of other work on the machine.
fn thermal_throttles() -> impl Iterator<Item = String> {
    let exists = |path: &String| Path::new(path).exists();
    (0..).map(cpu_directory).take_while(exists).map(|cpu| cpu + "/thermal_throttle").filter(exists)
}

fn cpu_directory(number: u32) -> String {
    format!("/sys/devices/system/cpu/cpu{number}")
}
