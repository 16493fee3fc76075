//! An archive that is put into a directory, by docker's rules for what is there.

use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};

use cache::layer::unpack::Extractor;
use cache::layer::{Entry, Kind, reader};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::{Error, Owner, look, text};
use crate::view::join;

/// A directory that an archive is put into.
pub(super) struct Extraction {
    /// What paths are resolved in.
    pub(super) root: OwnedFd,
    /// The directory's path in the root.
    pub(super) prefix: Vec<u8>,
    /// The directory, for messages.
    pub(super) shown: String,
    pub(super) owner: Owner,
}

impl Extraction {
    /// Puts an archive, not compressed, into the directory.
    pub(super) fn put(&self, input: impl Read) -> Result<(), Error> {
        let mut extractor = Extractor::new(self.root.as_fd())?;
        let mut entries = reader::entries(BufReader::with_capacity(64 << 10, input));
        while let Some((mut entry, mut data)) = entries.next_entry()? {
            // The directory itself stays what it is.
            if entry.path.is_empty() {
                continue;
            }
            let name = entry.path.clone();
            entry.path = join(&self.prefix, &name);
            if let Kind::Hardlink(target) = &mut entry.kind {
                *target = join(&self.prefix, target);
            }
            if let Owner::Is(uid, gid) = self.owner {
                (entry.uid, entry.gid) = (uid.into(), gid.into());
            }
            self.check(&entry, &name)?;
            extractor.put(&entry, &mut data)?;
        }
        entries.finish()?;
        extractor.finish()?;
        Ok(())
    }

    /// Refuses to put an entry where something of another kind is, or where something is mounted.
    fn check(&self, entry: &Entry, name: &[u8]) -> Result<(), Error> {
        let failed = |errno: Errno| look(&entry.path, errno.into());
        let (parent, last) = entry.split();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let parent = if parent.is_empty() { b".".as_slice() } else { parent };
        let parent = loop {
            match rustix::fs::openat2(&self.root, parent, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                opened => break opened.map_err(failed)?,
            }
        };
        let found = rustix::fs::statx(
            &parent,
            last,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
            StatxFlags::BASIC_STATS,
        );
        let found = match found {
            Err(Errno::NOENT) => return Ok(()),
            found => found.map_err(failed)?,
        };
        let there = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        let new = entry.kind == Kind::Directory;
        let word = |is_dir| if is_dir { "directory" } else { "non-directory" };
        if there != new {
            return Err(Error::OtherKind {
                there: word(there),
                new: word(new),
                path: String::from_utf8_lossy(name).into_owned(),
                destination: self.shown.clone(),
            });
        }
        // To be removed from here, it would be unmounted in the container.
        if !new && found.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT) {
            return Err(Error::MountPoint(text(&entry.path)));
        }
        Ok(())
    }
}
