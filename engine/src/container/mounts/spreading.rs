//! Bind mounts below which later mounts spread between host and container
//! (`mount_namespaces(7)`).
//!
//! Knows mounts by their ids only; what is mounted is `mounts`' business.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::super::spec::Propagation;
use super::super::wire::{AtStep, Failure};
use crate::sys::mount::{Attributes, set_attributes};

/// Refuses a source from which nothing could spread, in docker's words.
pub(super) fn refuse_private(path: &Path, propagation: Propagation) -> Result<(), Failure> {
    let step = || format!("look at the mount of {}", path.display());
    let id =
        rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).at(step)?.stx_mnt_id;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").at(step)?;
    let (mount_point, marks) = marks_of(&mounts, id).ok_or(Errno::NOENT).at(step)?;
    let has = |kind: &str| marks.iter().any(|mark| mark.starts_with(kind));
    let wanted = match propagation {
        Propagation::Private => return Ok(()),
        Propagation::Shared if has("shared:") => return Ok(()),
        Propagation::Slave if has("shared:") || has("master:") => return Ok(()),
        Propagation::Shared => "shared",
        Propagation::Slave => "shared or slave",
    };
    let path = path.display();
    Err(Failure::Refused(format!(
        "path {path} is mounted on {mount_point} but it is not a {wanted} mount; try: \
         mount --make-rshared {mount_point}"
    )))
}

/// Where a mount is, and its optional fields (`proc_pid_mountinfo(5)`).
fn marks_of(mounts: &str, id: u64) -> Option<(&str, Vec<&str>)> {
    let id = id.to_string();
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(&id))?;
    let mut fields = line.split(' ').skip(4);
    let mount_point = fields.next()?;
    Some((mount_point, fields.skip(1).take_while(|field| *field != "-").collect()))
}

/// Sets how mounts below a tree spread from now on.
pub(super) fn spread(tree: &OwnedFd, propagation: Propagation) -> Result<(), Errno> {
    let propagation = match propagation {
        // It is, as all copies of this namespace's mounts are.
        Propagation::Private => return Ok(()),
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    let attributes = Attributes { propagation, ..Attributes::default() };
    set_attributes(tree.as_fd(), c"", true, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_id() {
        let mounts = "21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      36 21 98:0 /a /b\\040c rw shared:3 master:2 - ext3 /dev/root rw\n\
                      37 21 98:0 / /d rw - ext3 /dev/root rw\n";
        assert_eq!(marks_of(mounts, 36), Some(("/b\\040c", vec!["shared:3", "master:2"])));
        assert_eq!(marks_of(mounts, 37), Some(("/d", vec![])));
        assert_eq!(marks_of(mounts, 3), None);
    }
}
