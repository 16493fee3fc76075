//! The root file system of a container: its overlay, the kernel's file systems in it, and what of
//! them is hidden.
//!
//! Everything is mounted through descriptors (`fsopen(2)`, `open_tree(2)`, `move_mount(2)`), so
//! that no path is looked up twice and no image can point a mount elsewhere. Runs in a mount
//! namespace of its own; does not enter the root it builds.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, move_mount, open_tree,
};

use super::devices::{self, Terminal};
use super::mounts;
use super::path::{Kind, Root};
use super::spec::Rootfs;
use super::wire::{Assignment, AtStep, CgroupMount, Failure};
use crate::sys::mount::{Attributes, set_attributes};

/// The size of /dev/shm if none is asked for.
const SHM_SIZE: u64 = 64 << 20;

/// What docker hides: information about the host, and doors to it.
const MASKED: [&str; 12] = [
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
const READ_ONLY: [&str; 5] =
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
    let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", propagation).at(|| "make mounts private")?;
    let root = mount_root(&spec.rootfs)?;
    let no_devices = assignment.mounts_confine_devices();
    if no_devices {
        restrict(&root, MountAttrFlags::MOUNT_ATTR_NODEV).at(|| "keep devices from /")?;
    }
    // All sources are found before the root hides them.
    let sources = mounts::open_sources(&spec.mounts, no_devices)?;
    stack_over_root(&root).at(|| "mount the container's root")?;
    let mut root = Root::new(root).at(|| "look at the container's root")?;

    let terminal = mount_standard(&mut root, assignment)?;
    mounts::attach(&mut root, sources)?;
    if !spec.privileged {
        hide(&root)?;
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
            overlay(lower, upper.as_ref(), *volatile).at(|| "mount the root overlay")
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

/// Puts a mount that is nowhere yet on top of `/`. Paths are still looked up below it, because a
/// process's root is not affected by what is mounted there later.
pub(super) fn stack_over_root(mount: &OwnedFd) -> Result<(), Errno> {
    move_mount(mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Takes the topmost mount off `/` again; descriptors and clones of it stay good.
pub(super) fn unstack_from_root() -> Result<(), Errno> {
    rustix::mount::unmount("/", UnmountFlags::DETACH)
}

/// Mounts an overlay that is nowhere yet.
///
/// The directories are named by descriptors: paths of any length and with any characters will do.
pub(super) fn overlay(
    lower: &[PathBuf],
    upper: Option<&(PathBuf, PathBuf)>,
    volatile: bool,
) -> Result<OwnedFd, Errno> {
    if let ([only], None) = (lower, upper) {
        // Overlay wants two directories at least.
        let mount = open_tree(
            CWD,
            only,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?;
        make_read_only(&mount)?;
        return Ok(mount);
    }
    let uppermost = lower.first().ok_or(Errno::INVAL)?;
    let lower = lower.iter().map(|path| open_directory(path)).collect::<Result<Vec<_>, _>>()?;
    let upper = match upper {
        Some((upper, work)) => Some((open_directory(upper)?, open_directory(work)?)),
        None => None,
    };
    if let (Some((_, work)), true) = (&upper, volatile) {
        // What a volatile mount leaves in its work directory forbids the next one, because a crash
        // in between may have cost data. That is what `volatile` says is no matter.
        let marker = "work/incompat/volatile";
        let _ = rustix::fs::unlinkat(work, format!("{marker}/dirty"), AtFlags::empty());
        let _ = rustix::fs::unlinkat(work, marker, AtFlags::REMOVEDIR);
    }
    let options = overlay_options(upper.as_ref(), volatile);
    match overlay_by_layers(&lower, &options) {
        // `lowerdir+` came with Linux 6.5.
        Err(Errno::INVAL) => overlay_by_option_page(&lower, &options, uppermost),
        result => result,
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn name_of(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

/// The options beside the lower directories; an empty value is a flag. What the kernel's
/// configuration may turn on would put into the upper directory what no layer can express.
fn overlay_options(
    upper: Option<&(OwnedFd, OwnedFd)>,
    volatile: bool,
) -> Vec<(&'static str, String)> {
    let mut options: Vec<(&str, String)> =
        ["index", "redirect_dir", "metacopy"].map(|feature| (feature, "off".to_owned())).into();
    if let Some((upper, work)) = upper {
        options.push(("upperdir", name_of(upper)));
        options.push(("workdir", name_of(work)));
        if volatile {
            options.push(("volatile", String::new()));
        }
    }
    options
}

fn overlay_by_layers(lower: &[OwnedFd], options: &[(&str, String)]) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for directory in lower {
        fsconfig_set_string(&context, "lowerdir+", name_of(directory))?;
    }
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The old way: all options in one page of text, which descriptors' short names make enough for
/// some 200 layers. Needs a place to mount at; any directory does, the mount is taken off at once.
fn overlay_by_option_page(
    lower: &[OwnedFd],
    options: &[(&str, String)],
    place: &Path,
) -> Result<OwnedFd, Errno> {
    let lowers: Vec<String> = lower.iter().map(name_of).collect();
    let mut page = format!("lowerdir={}", lowers.join(":"));
    for (key, value) in options {
        page.push(',');
        page.push_str(key);
        if !value.is_empty() {
            page.push('=');
            page.push_str(value);
        }
    }
    let page = std::ffi::CString::new(page).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", place, "overlay", MountFlags::empty(), page.as_c_str())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, place, flags)?;
    rustix::mount::unmount(place, UnmountFlags::DETACH)?;
    Ok(mount)
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
) -> Result<Option<Terminal>, Failure> {
    let spec = &*assignment.spec;
    let system = if spec.privileged {
        NOTHING_SPECIAL
    } else {
        NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY
    };
    let shm_size = spec.shm_size.unwrap_or(SHM_SIZE).to_string();
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
    place(root, "/dev/shm", "tmpfs", &shm, NOTHING_SPECIAL)?;
    Ok(terminal)
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
fn hide(root: &Root) -> Result<(), Failure> {
    let null = root.open(Path::new("/dev/null")).at(|| "find /dev/null")?;
    let read_only = NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mut empty = None;
    for path in MASKED.iter().map(|path| (*path).to_owned()).chain(thermal_throttles()) {
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
    for path in READ_ONLY {
        let Ok(place) = root.open(Path::new(path)) else {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Mounter = fn(&[OwnedFd], &[(&str, String)], &Path) -> Result<OwnedFd, Errno>;

    /// Mounts `count` layers, each with a file of its own and one that all have.
    #[track_caller]
    fn check(mount: Mounter, count: usize) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let layers: Vec<PathBuf> =
            (0..count).map(|number| path(&format!("a:b,{number}"))).collect();
        for (number, layer) in layers.iter().enumerate() {
            fs::create_dir(layer).unwrap();
            fs::write(layer.join(format!("only {number}")), "").unwrap();
            fs::write(layer.join("all"), number.to_string()).unwrap();
        }
        let open = |path: &PathBuf| open_directory(path).unwrap();
        let lower: Vec<OwnedFd> = layers.iter().map(open).collect();
        fs::create_dir(path("upper")).unwrap();
        fs::create_dir(path("work")).unwrap();
        let upper = (open(&path("upper")), open(&path("work")));
        let options = overlay_options(Some(&upper), true);
        let merged = mount(&lower, &options, &layers[0]).unwrap();
        let merged = PathBuf::from(name_of(&merged)).join(".");
        assert_eq!(fs::read_dir(&merged).unwrap().count(), count + 1);
        assert_eq!(fs::read_to_string(merged.join("all")).unwrap(), "0");
        fs::write(merged.join("new"), "").unwrap();
        assert!(path("upper").join("new").exists());
    }

    #[test]
    fn many_layers_can_be_mounted_in_the_new_way_and_in_the_old() {
        check(|lower, options, _| overlay_by_layers(lower, options), 300);
        check(overlay_by_option_page, 150);
    }
}
