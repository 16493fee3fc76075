//! Overlay file systems that are mounted nowhere: a descriptor is all that holds them.
//!
//! What is to be mounted is a value, [`Overlay`]. Layers are named by descriptors, so that paths of
//! any length and with any characters will do. A layer that is an EROFS file system is mounted on
//! the way, from plain files.
//!
//! Kernels differ in what they take ([`Way`]). [`mount`] goes the way of the kernel at hand and is
//! for callers with a mount namespace of their own; [`mount_apart`] is for all others.

use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cache::lower::Lower;
use rustix::fs::{Advice, AtFlags, CWD, Mode, OFlags, fadvise};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, move_mount, open_tree,
};

use crate::sys;

/// As many layers as overlay takes (`OVL_MAX_STACK`).
pub(crate) const MOST_LAYERS: usize = 500;

/// Bytes of an index that are asked of the disk when it is mounted: those of 100,000 files.
const READ_AHEAD: u64 = 16 << 20;

/// Bytes of text that mount(2) takes.
const PAGE: usize = 4096;

/// What to mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overlay<'a> {
    /// The uppermost first; two at least, or one and an upper directory.
    pub(crate) lower: &'a [Lower],
    /// The upper directory and the work directory.
    pub(crate) upper: Option<&'a (PathBuf, PathBuf)>,
    /// Whether it is not to be synced: for what is thrown away after a crash.
    pub(crate) volatile: bool,
}

/// How a kernel takes layers; each way works on newer kernels too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// All options in one page of text, which descriptors' short names make enough.
    Page,
    /// One by one, mounted in the caller's mount namespace (Linux 6.7).
    Attached,
    /// One by one, and mounted nowhere (Linux 6.15).
    Detached,
}

impl Way {
    /// The way of this kernel.
    fn best() -> Self {
        static BEST: OnceLock<Way> = OnceLock::new();
        *BEST.get_or_init(|| {
            let uname = rustix::system::uname();
            Self::of(&uname.release().to_string_lossy())
        })
    }

    /// The way of a kernel by its release, such as `6.12.0-amd64`.
    fn of(release: &str) -> Self {
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
        let mut number = || numbers.next().flatten().unwrap_or(0_u32);
        match (number(), number()) {
            (6, 15..) | (7.., _) => Self::Detached,
            (6, 7..) => Self::Attached,
            _ => Self::Page,
        }
    }
}

/// Whether the kernel takes layers that are mounted nowhere.
pub(crate) fn takes_detached() -> bool {
    Way::best() == Way::Detached
}

/// Mounts an overlay from any thread: where the kernel wants a mount namespace for it, a thread
/// that is gone at once makes one.
pub(crate) fn mount_apart(overlay: Overlay<'_>) -> Result<OwnedFd, Errno> {
    match Way::best() {
        Way::Detached => mount_in(overlay, Way::Detached),
        way => in_a_thread(overlay, way),
    }
}

/// Mounts an overlay; the caller's mount namespace is its own, and its mounts are private.
pub(crate) fn mount(overlay: Overlay<'_>) -> Result<OwnedFd, Errno> {
    mount_in(overlay, Way::best())
}

fn in_a_thread(overlay: Overlay<'_>, way: Way) -> Result<OwnedFd, Errno> {
    std::thread::scope(|scope| {
        let maker = std::thread::Builder::new().name("mount namespace".into());
        let made = maker.spawn_scoped(scope, || {
            sys::mount::unshare_mounts()?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private)?;
            mount_in(overlay, way)
        });
        made.map_err(|_| Errno::AGAIN)?.join().expect("mounting does not panic")
    })
}

fn mount_in(overlay: Overlay<'_>, way: Way) -> Result<OwnedFd, Errno> {
    let opened = Opened::open(overlay, way)?;
    let mounted = match way {
        Way::Page => opened.by_option_page(overlay.lower),
        Way::Attached | Way::Detached => opened.one_by_one(),
    };
    // The overlay has clones of its own of what it lies on.
    for _ in 0..opened.stacked {
        unstack_from_root()?;
    }
    mounted
}

/// Puts a mount that is nowhere yet on top of `/`. Paths are still looked up below it, because a
/// process's root is not affected by what is mounted there later.
pub(crate) fn stack_over_root(mount: &OwnedFd) -> Result<(), Errno> {
    move_mount(mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Takes the topmost mount off `/` again; descriptors and clones of it stay good.
pub(crate) fn unstack_from_root() -> Result<(), Errno> {
    rustix::mount::unmount("/", UnmountFlags::DETACH)
}

/// Mounts an EROFS file system that is nowhere yet, from plain files (Linux 6.12).
pub(crate) fn mount_erofs(index: &Path, devices: &[PathBuf]) -> Result<OwnedFd, Errno> {
    let open =
        |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let index = open(index)?;
    // One long read in the place of one for each directory and file that is looked at. It goes on
    // beside us; without it all works too.
    let _ = fadvise(&index, 0, NonZeroU64::new(READ_AHEAD), Advice::WillNeed);
    fsconfig_set_string(&context, "source", name_of(&index))?;
    // Held until the kernel has opened them itself.
    let devices = devices.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    for device in &devices {
        fsconfig_set_string(&context, "device", name_of(device))?;
    }
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// An overlay whose directories are open.
struct Opened {
    lower: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
    volatile: bool,
    /// How many mounts were stacked over the root.
    stacked: usize,
}

impl Opened {
    fn open(overlay: Overlay<'_>, way: Way) -> Result<Self, Errno> {
        let upper = match overlay.upper {
            Some((upper, work)) => Some((open_directory(upper)?, open_directory(work)?)),
            None => None,
        };
        if let (Some((_, work)), true) = (&upper, overlay.volatile) {
            forget_crash(work);
        }
        let (lower, volatile) = (Vec::with_capacity(overlay.lower.len()), overlay.volatile);
        let mut opened = Self { lower, upper, volatile, stacked: 0 };
        for lower in overlay.lower {
            let directory = match lower {
                Lower::Directory(path) => open_directory(path)?,
                Lower::Erofs { index, devices } => {
                    let mount = mount_erofs(index, devices)?;
                    if way != Way::Detached {
                        stack_over_root(&mount)?;
                        opened.stacked += 1;
                    }
                    mount
                }
            };
            opened.lower.push(directory);
        }
        Ok(opened)
    }

    /// The options beside the lower directories; an empty value is a flag. What the kernel's
    /// configuration may turn on would put into the upper directory what no layer can express.
    fn options(&self, name: fn(&OwnedFd) -> String) -> Vec<(&'static str, String)> {
        let mut options: Vec<(&str, String)> =
            ["index", "redirect_dir", "metacopy"].map(|feature| (feature, "off".to_owned())).into();
        match &self.upper {
            Some((upper, work)) => {
                options.push(("upperdir", name(upper)));
                options.push(("workdir", name(work)));
                if self.volatile {
                    options.push(("volatile", String::new()));
                }
            }
            None => options.push(("ro", String::new())),
        }
        options
    }

    /// Layer after layer.
    fn one_by_one(&self) -> Result<OwnedFd, Errno> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for directory in &self.lower {
            fsconfig_set_string(&context, "lowerdir+", name_of(directory))?;
        }
        for (key, value) in &self.options(name_of) {
            if value.is_empty() {
                fsconfig_set_flag(&context, *key)?;
            } else {
                fsconfig_set_string(&context, *key, value)?;
            }
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    }

    /// All at once. Needs a place to mount at; any directory does, the mount is taken off at once.
    fn by_option_page(&self, paths: &[Lower]) -> Result<OwnedFd, Errno> {
        let directory = paths.iter().find_map(|lower| match lower {
            Lower::Directory(path) => Some(path),
            Lower::Erofs { .. } => None,
        });
        let place = directory.ok_or(Errno::INVAL)?;
        // Names are looked up from there, so that a number is enough.
        rustix::process::chdir("/proc/thread-self/fd")?;
        let lowers: Vec<String> = self.lower.iter().map(number_of).collect();
        let mut page = format!("lowerdir={}", lowers.join(":"));
        let mut flags = MountFlags::empty();
        for (key, value) in self.options(number_of) {
            match (key, value.as_str()) {
                ("ro", _) => flags = MountFlags::RDONLY,
                (key, "") => page.push_str(&format!(",{key}")),
                (key, value) => page.push_str(&format!(",{key}={value}")),
            }
        }
        // The kernel cuts what is longer than a page, without a word.
        if page.len() >= PAGE {
            return Err(Errno::TOOBIG);
        }
        let page = std::ffi::CString::new(page).map_err(|_| Errno::INVAL)?;
        let mounted = rustix::mount::mount("overlay", place, "overlay", flags, page.as_c_str());
        rustix::process::chdir("/")?;
        mounted?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, place, clone)?;
        rustix::mount::unmount(place, UnmountFlags::DETACH)?;
        Ok(mount)
    }
}

/// What a volatile mount leaves in its work directory forbids the next one, because a crash in
/// between may have cost data. That is what `volatile` says is no matter.
fn forget_crash(work: &OwnedFd) {
    let marker = "work/incompat/volatile";
    let _ = rustix::fs::unlinkat(work, format!("{marker}/dirty"), AtFlags::empty());
    let _ = rustix::fs::unlinkat(work, marker, AtFlags::REMOVEDIR);
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn number_of(file: &OwnedFd) -> String {
    file.as_raw_fd().to_string()
}

fn name_of(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Mounter = fn(Overlay<'_>) -> Result<OwnedFd, Errno>;

    /// Mounts `count` layers, each with a file of its own and one that all have.
    #[track_caller]
    fn check(mount: Mounter, count: usize, writable: bool) {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| directory.path().join(name);
        let mut lower = Vec::new();
        for number in 0..count {
            let layer = path(&format!("a:b,{number}"));
            fs::create_dir(&layer).expect("mkdir");
            fs::write(layer.join(format!("only {number}")), "").expect("write");
            fs::write(layer.join("all"), number.to_string()).expect("write");
            lower.push(Lower::Directory(layer));
        }
        let upper = (path("upper"), path("work"));
        fs::create_dir(&upper.0).expect("mkdir");
        fs::create_dir(&upper.1).expect("mkdir");
        let upper = writable.then_some(&upper);
        let merged = mount(Overlay { lower: &lower, upper, volatile: true }).expect("mount");
        let merged = PathBuf::from(name_of(&merged)).join(".");
        assert_eq!(fs::read_dir(&merged).expect("list").count(), count + 1);
        assert_eq!(fs::read_to_string(merged.join("all")).expect("read"), "0");
        match fs::write(merged.join("new"), "") {
            Ok(()) => assert!(writable && path("upper").join("new").exists()),
            Err(error) => {
                assert!(!writable);
                assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
            }
        }
    }

    #[test]
    fn many_layers_can_be_mounted_in_all_ways_that_the_kernel_knows() {
        for writable in [true, false] {
            for way in [Way::Page, Way::Attached, Way::Detached] {
                if way <= Way::best() {
                    let mounter = MOUNTERS[way as usize];
                    check(mounter, 490, writable);
                }
            }
        }
    }

    const MOUNTERS: [Mounter; 3] = [
        |overlay| in_a_thread(overlay, Way::Page),
        |overlay| in_a_thread(overlay, Way::Attached),
        |overlay| mount_in(overlay, Way::Detached),
    ];

    #[test]
    fn a_kernel_is_known_by_its_release() {
        for (release, expected) in [
            ("5.10.0-21-amd64", Way::Page),
            ("6.1.176", Way::Page),
            ("6.7", Way::Attached),
            ("6.12.107+deb13-cloud-amd64", Way::Attached),
            ("6.15-rc1", Way::Detached),
            ("6.18.44-fc", Way::Detached),
            ("7.0.1", Way::Detached),
            ("new", Way::Page),
        ] {
            assert_eq!(Way::of(release), expected, "{release}");
        }
    }
}
