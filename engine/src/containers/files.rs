//! The files of a container as it sees them, whether it runs or not.
//!
//! ```text
//! running   what its first process sees: /proc/<pid>/root
//! read      its layers under a scratch directory, with its mounts: nothing of it is touched
//! write     its layers and its upper directory, with its mounts; it cannot be started meanwhile
//! ```
//!
//! All paths are resolved below the root's descriptor; what the container may have made of its
//! links leads nowhere else.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cache::lower::Lower;
use fs_err as fs;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::LinkNameSpaceType;

use super::assemble::{causes, image_layers};
use super::{Containers, Error, Record, Result, State, Status, told};
use crate::container::{MountPoint, Offline, remove_mount_points};
use crate::overlay::Overlay;
use crate::view::View;
use crate::volume::api::Kind;
use crate::volume::{Hold, Volumes, assemble as volumes};

/// What every container's root has, whatever its image says: docker puts it into a layer.
pub(super) const DIRECTORIES: [&str; 5] = ["/dev", "/dev/pts", "/dev/shm", "/proc", "/sys"];
pub(super) const FILES: [&str; 4] =
    ["/dev/console", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// How long another's use of the container's files is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be done with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// They are looked at.
    Read,
    /// They are changed.
    Write,
}

/// The files of a container; what was mounted for this goes with it.
pub struct Files {
    // In the order in which they have to go.
    view: Option<View>,
    made: Option<(PathBuf, Vec<MountPoint>)>,
    _volumes: Option<Hold>,
    _held: Option<File>,
}

impl Files {
    /// Opens the files of a container, with everything that it has mounted.
    pub fn open(containers: &Containers<'_>, id: &str, access: Access) -> Result<Files> {
        let since = Instant::now();
        loop {
            let observed = containers.observe(id)?;
            if observed.state.pid != 0 {
                match running_root(containers, id, &observed.state)? {
                    Some(root) => return Ok(Files::of(root)),
                    None => continue,
                }
            }
            if access == Access::Read {
                return open_to_read(containers, &observed.record);
            }
            // Whoever holds it starts the container now, or copies into it too.
            if let Some(held) = containers.hold(id)? {
                return open_to_write(containers, &observed.record, held);
            }
            if since.elapsed() > PATIENCE {
                let name = observed.record.name;
                return Err(Error::Refused(format!("container {name} is in use by others")));
            }
        }
    }

    /// Opens the files of a container without anything that it has mounted: what `export` sees.
    pub(super) fn open_root(containers: &Containers<'_>, id: &str) -> Result<Files> {
        loop {
            let observed = containers.observe(id)?;
            if observed.state.pid == 0 {
                return scratch_root(containers, &observed.record, Vec::new());
            }
            match root_mount(&observed.state) {
                Ok(root) if is_still(containers, id, &observed.state)? => {
                    return Ok(Files::of(root));
                }
                Err(error) if is_still(containers, id, &observed.state)? => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }

    /// The files.
    pub fn view(&self) -> &View {
        self.view.as_ref().expect("only dropping takes it")
    }

    fn of(root: OwnedFd) -> Files {
        Files { view: Some(View::new(root)), made: None, _volumes: None, _held: None }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The upper directory is changed below the mount, so that must be gone.
        self.view = None;
        if let Some((upper, made)) = &self.made {
            remove_mount_points(upper, made);
        }
    }
}

/// The root of a running container; nothing if it has ended meanwhile.
fn running_root(containers: &Containers<'_>, id: &str, state: &State) -> Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{}/root", state.pid), flags, Mode::empty());
    // The number may have become another's.
    if !is_still(containers, id, state)? {
        return Ok(None);
    }
    Ok(Some(root.map_err(std::io::Error::from)?))
}

/// Whether it is the same run of the container.
fn is_still(containers: &Containers<'_>, id: &str, state: &State) -> Result<bool> {
    let now = containers.observe(id)?.state;
    Ok((now.pid, &now.started_at) == (state.pid, &state.started_at))
}

/// The mount that is a running container's root, and none of those below it.
fn root_mount(state: &State) -> std::io::Result<OwnedFd> {
    let namespace = fs::File::open(format!("/proc/{}/ns/mnt", state.pid))?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount namespace".into());
        let thread = thread.spawn_scoped(scope, || {
            // For a root of the thread's own, without which it may not move.
            crate::sys::mount::unshare_mounts()?;
            let kind = Some(LinkNameSpaceType::Mount);
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Ok(open_tree(CWD, "/", flags)?)
        })?;
        thread.join().expect("opening does not panic")
    })
}

fn open_to_read(containers: &Containers<'_>, record: &Record) -> Result<Files> {
    let (hold, own) = mounts(containers, record)?;
    let mounts = told::among(told::mounts(&containers.dir(&record.id)), own);
    let mut files = scratch_root(containers, record, mounts)?;
    files._volumes = Some(hold);
    Ok(files)
}

/// A container's root under a scratch directory that takes the mount points.
fn scratch_root(
    containers: &Containers<'_>,
    record: &Record,
    mounts: Vec<crate::container::spec::Mount>,
) -> Result<Files> {
    let upper = containers.dir(&record.id).join("upper");
    let scratch = containers.store.scratch_dir()?;
    let own = (scratch.join("upper"), scratch.join("work"));
    fs::create_dir(&own.0)?;
    fs::create_dir(&own.1)?;
    let root = fs::metadata(&upper)?;
    chown(&own.0, Some(root.uid()), Some(root.gid()))?;
    fs::set_permissions(&own.0, PermissionsExt::from_mode(root.mode() & 0o7777))?;
    let mut lower = vec![Lower::Directory(upper)];
    lower.extend(containers.store.lower_of_upper(&record.layers)?);
    let root = Overlay { lower: &lower, upper: Some(&own), volatile: true };
    let offline = Offline { root, read_only: true, mounts };
    let (root, _) = offline.mount().map_err(|error| Error::Refused(causes(&error)))?;
    Ok(Files::of(root))
}

fn open_to_write(containers: &Containers<'_>, record: &Record, held: File) -> Result<Files> {
    let (hold, mounts) = mounts(containers, record)?;
    let lower = containers.store.lower_of_upper(&record.layers)?;
    let dir = containers.dir(&record.id);
    let upper = (dir.join("upper"), dir.join("work"));
    let volatile = record.host_config.auto_remove;
    let offline = Offline {
        root: Overlay { lower: &lower, upper: Some(&upper), volatile },
        read_only: record.host_config.readonly_rootfs,
        mounts,
    };
    let (root, made) = offline.mount().map_err(|error| Error::Refused(causes(&error)))?;
    Ok(Files {
        view: Some(View::new(root)),
        made: Some((upper.0, made)),
        _volumes: Some(hold),
        _held: Some(held),
    })
}

/// What a container has mounted that is there when it does not run.
fn mounts(
    containers: &Containers<'_>,
    record: &Record,
) -> Result<(Hold, Vec<crate::container::spec::Mount>)> {
    let store = Volumes::open(containers.store)?;
    let hold = store.hold()?;
    let lasting: Vec<_> =
        record.mounts.iter().filter(|mount| mount.point.kind != Kind::Tmpfs).cloned().collect();
    volumes::prepare_sources(&lasting)?;
    store.mount(&lasting)?;
    let mounts = volumes::mounts(&lasting, |image| image_layers(containers, image))?;
    Ok((hold, mounts))
}

/// The places in a container that are mounted on, absolute, some perhaps by way of links.
pub(super) fn mount_points(record: &Record, state: &State) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> =
        DIRECTORIES.iter().chain(&FILES).map(|path| PathBuf::from(*path)).collect();
    points.extend(record.mounts.iter().map(|mount| PathBuf::from(&mount.point.destination)));
    if matches!(state.status, Status::Running | Status::Paused) {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", state.pid));
        points.extend(table.unwrap_or_default().lines().filter_map(mount_point));
    }
    points
}

/// The fifth field of a line of proc_pid_mountinfo(5).
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let mut path = String::new();
    let mut rest = field;
    // Spaces and the like are written as `\040`.
    while let Some((before, after)) = rest.split_once('\\') {
        path.push_str(before);
        let code = after.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok())?;
        path.push(char::from(code));
        rest = &after[3..];
    }
    path.push_str(rest);
    Some(Path::new(&path).to_owned())
}
