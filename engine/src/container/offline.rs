//! The files of a container that does not run: its root with all its mounts in place, mounted
//! nowhere, for a descriptor to hold.
//!
//! Starts no process and mounts none of the kernel's own file systems.

use std::os::fd::OwnedFd;

use rustix::mount::MountPropagationFlags;

use super::error::LaunchError;
use super::mounts;
use super::path::{MountPoint, Root};
use super::rootfs::{clone_of, make_read_only};
use super::spec::{Mount, MountSource, Propagation};
use super::wire::{AtStep, Failure};
use crate::overlay::{self, Overlay, stack_over_root};
use crate::sys::mount::unshare_mounts;

/// What to mount.
pub(crate) struct Offline<'a> {
    /// The root, with an upper directory: mount points are made in it.
    pub(crate) root: Overlay<'a>,
    /// Whether the root cannot be written to when all is mounted.
    pub(crate) read_only: bool,
    /// What is mounted in the root.
    pub(crate) mounts: Vec<Mount>,
}

impl Offline<'_> {
    /// Mounts it. Also returns what had to be made in the root, which
    /// [`remove_mount_points`](super::remove_mount_points) takes when nobody uses the tree any more.
    pub(crate) fn mount(mut self) -> Result<(OwnedFd, Vec<MountPoint>), LaunchError> {
        for mount in &mut self.mounts {
            // What is mounted meanwhile is of no interest, and nothing may spread to the host.
            if let MountSource::BindWith { propagation, .. } = &mut mount.source {
                *propagation = Propagation::Private;
            }
        }
        // A mount namespace is a thread's own; it goes with the thread.
        let mounted = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("mount namespace".into());
            let thread = thread.spawn_scoped(scope, || self.mount_here());
            thread.at(|| "start a thread")?.join().expect("mounting does not panic")
        });
        Ok(mounted?)
    }

    fn mount_here(&self) -> Result<(OwnedFd, Vec<MountPoint>), Failure> {
        unshare_mounts().at(|| "make a mount namespace")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).at(|| "make mounts private")?;
        let root = overlay::mount(self.root).at(|| "mount the container's root")?;
        let unopened = self.mounts.iter().map(|_| None).collect();
        let sources = mounts::open_sources(&self.mounts, unopened, false)?;
        stack_over_root(&root).at(|| "mount the container's root")?;
        let mut root = Root::new(root).at(|| "look at the container's root")?;
        mounts::attach(&mut root, sources)?;
        if self.read_only {
            make_read_only(root.directory()).at(|| "make the root read-only")?;
        }
        // The namespace takes its mounts apart when it goes, but not a copy.
        let tree = clone_of(root.directory(), c"").at(|| "keep the container's root")?;
        Ok((tree, root.into_created()))
    }
}
