//! Makes a tree of the entries of layers: whiteouts, opaque marks, replacements, hard links.
//!
//! Says in memory what [`unpack`](crate::layer::unpack) says in system calls, step by step and
//! with the same errors. Does not know how the tree becomes an image.

use rustix::io::Errno;

use super::attributes::{Attribute, Kept, NO_ATTRIBUTES, kept};
use super::content::Extents;
use super::tree::{Node, PATH_LIMIT, ROOT, Tree, What, names_of};
use super::{Builder, Content, Device, Error, Form};
use crate::layer::{self, Entry, Kind, OPAQUE_MARK, Timestamp, WHITEOUT_PREFIX, join, split};

/// So many chunks the sparse files of an index may have together: eight bytes each. A file's length
/// costs an archive nothing, so it must not cost us everything.
const MOST_SPARSE_CHUNKS: u64 = 1 << 22;

/// Devices are in front of the root's inode, whose place is told in 16 bits.
const MOST_DEVICES: usize = 16_000;

/// A name in a directory, and the path it has in the layer.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: u32,
    name: &'a [u8],
    path: &'a [u8],
}

impl At<'_> {
    fn failed(&self, step: &'static str) -> impl Fn(Errno) -> Error {
        let path = self.path.to_vec();
        move |errno| tree_error(step, &path, errno)
    }
}

fn tree_error(step: &'static str, path: &[u8], errno: Errno) -> Error {
    layer::Error::Tree { step, path: path.to_vec(), source: errno.into() }.into()
}

impl Builder {
    /// Adds the next entry of the layer, in the order of its tar.
    pub fn add(&mut self, entry: &Entry, content: Content) -> Result<(), Error> {
        let (directory, name) = entry.split();
        if name.is_empty() {
            return self.add_root(entry);
        }
        if let Some(deleted) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self.add_mark(directory, name, deleted);
        }
        let at = At { parent: self.parent(directory)?, name, path: &entry.path };
        match &entry.kind {
            Kind::Directory => return self.add_directory(at, entry),
            Kind::Hardlink(target) => self.add_hard_link(at, target)?,
            _ => self.add_inode(at, entry, content)?,
        }
        let layer = self.layer;
        if let Some(name) = self.tree.dir_mut(at.parent).names.get_mut(name) {
            name.layer = layer;
        }
        Ok(())
    }

    pub(super) fn begin_layer(&mut self) {
        self.tree.dir_mut(ROOT).layer = self.layer;
        self.tag = [0; 64];
    }

    /// Sets the times of directories, and takes note of the layer's tar.
    pub(super) fn end_layer(&mut self, tar_size: u64) -> Result<(), Error> {
        for (path, time) in std::mem::take(&mut self.times) {
            let (directory, name) = split(&path);
            let parent = match self.tree.find(directory) {
                Ok(parent) => parent,
                // A later entry may have taken the directory's place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(tree_error("set the times of", &path, errno)),
            };
            let found = match name {
                b"" => Some(parent),
                _ => self.tree.lookup(parent, name).ok().flatten(),
            };
            if let Some(found) = found.filter(|found| self.tree.node(*found).is_directory()) {
                self.tree.node_mut(found).mtime = time;
            }
        }
        self.parent = None;
        if self.devices.len() == MOST_DEVICES {
            return Err(inexpressible(b"", "there are too many layers"));
        }
        self.devices.push(Device { size: tar_size, tag: self.tag });
        Ok(())
    }

    fn add_root(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            let path = entry.path.clone();
            return Err(layer::Error::InvalidField { path, field: "name" }.into());
        }
        let attributes = self.tree.node(ROOT).attributes;
        self.describe(ROOT, entry, attributes)?;
        self.times.insert(Vec::new(), entry.mtime);
        Ok(())
    }

    fn add_directory(&mut self, at: At<'_>, entry: &Entry) -> Result<(), Error> {
        let (directory, existed) = self.ensure_directory(at)?;
        // In a chain the attributes that the layers below gave it are gone.
        let attributes = match (existed, self.form) {
            (true, Form::Applied) => NO_ATTRIBUTES,
            _ => self.tree.node(directory).attributes,
        };
        self.describe(directory, entry, attributes)?;
        self.times.insert(entry.path.clone(), entry.mtime);
        self.implied.remove(&entry.path);
        Ok(())
    }

    /// Makes a directory unless there is one; returns it, and whether it was there. Anything else
    /// there is replaced.
    fn ensure_directory(&mut self, at: At<'_>) -> Result<(u32, bool), Error> {
        let existing = self.lookup(at, "create the directory")?;
        let directory = existing.filter(|existing| self.tree.node(*existing).is_directory());
        let was_whiteout = existing.is_some_and(|existing| self.tree.node(existing).is_whiteout());
        let number = match directory {
            Some(directory) => directory,
            None => {
                self.remove(at);
                let number = self.tree.add(Node::new(Tree::directory(at.parent), 0o700));
                self.tree.link(at.parent, at.name, number);
                number
            }
        };
        match self.form {
            Form::Overlay if was_whiteout => self.make_opaque(number),
            Form::Overlay => {}
            Form::Applied => self.keep(number),
        }
        Ok((number, directory.is_some()))
    }

    /// Adds anything but a directory and a hard link.
    fn add_inode(&mut self, at: At<'_>, entry: &Entry, content: Content) -> Result<(), Error> {
        let what = match &entry.kind {
            Kind::File { size } => self.file(entry, *size, content)?,
            Kind::Symlink(target) => {
                check_target(target).map_err(at.failed("create"))?;
                What::Symlink(target.as_slice().into())
            }
            Kind::Char(major, minor) => What::Char(device_number(*major, *minor)),
            Kind::Block(major, minor) => What::Block(device_number(*major, *minor)),
            Kind::Fifo => What::Fifo,
            Kind::Directory | Kind::Hardlink(_) => unreachable!("these have no inode of their own"),
        };
        let is_link = matches!(what, What::Symlink(_));
        self.lookup(at, "create")?;
        self.remove(at);
        let number = self.tree.add(Node::new(what, 0));
        self.tree.link(at.parent, at.name, number);
        self.describe(number, entry, NO_ATTRIBUTES)?;
        let node = self.tree.node_mut(number);
        node.mtime = entry.mtime;
        if is_link {
            node.permissions = 0o777;
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry, size: u64, content: Content) -> Result<What, Error> {
        let device = u16::try_from(self.devices.len() + 1).expect("checked for each layer");
        let sparse = matches!(content, Content::Parts(_));
        let extents = Extents::new(size, content, device)
            .map_err(|reason| inexpressible(&entry.path, reason))?;
        if sparse {
            self.sparse_chunks += extents.chunks(size, super::image::BLOCK_BITS).count;
            if self.sparse_chunks > MOST_SPARSE_CHUNKS {
                return Err(inexpressible(&entry.path, "its holes are too many and too fine"));
            }
        }
        Ok(What::File { size, extents })
    }

    fn add_hard_link(&mut self, at: At<'_>, target: &[u8]) -> Result<(), Error> {
        let (directory, name) = split(target);
        let missing = || {
            let (path, target) = (at.path.to_vec(), target.to_vec());
            layer::Error::MissingLinkTarget { path, target }
        };
        let from = self.tree.find(directory).map_err(|_| missing())?;
        let found = self.tree.lookup(from, name).ok().flatten();
        let target = found.ok_or_else(missing)?;
        if self.lookup(at, "stat")? == Some(target) {
            return Ok(());
        }
        self.remove(at);
        // The target may have been below what was removed.
        if !self.tree.node(from).is_directory() {
            return Err(at.failed("create")(Errno::NOENT));
        }
        if self.tree.node(target).is_directory() {
            return Err(at.failed("create")(Errno::PERM));
        }
        self.tree.link(at.parent, at.name, target);
        Ok(())
    }

    /// Gives an inode the entry's owner, permissions and attributes, these beside others.
    fn describe(&mut self, number: u32, entry: &Entry, attributes: u32) -> Result<(), Error> {
        // The highest number would mean "leave it as it is" to those who unpack.
        let id = |id: u64, field| {
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| layer::Error::InvalidField { path: entry.path.clone(), field })
        };
        let (uid, gid) = (id(entry.uid, "uid")?, id(entry.gid, "gid")?);
        let Kept { attributes: added, mode, refused } =
            kept(entry).map_err(|reason| inexpressible(&entry.path, reason))?;
        self.refused_xattrs += refused;
        let attributes = self.attributes.with(attributes, added);
        if self.attributes.encoded_size(attributes) > super::layout::LARGEST_ATTRIBUTES {
            return Err(inexpressible(&entry.path, "its extended attributes are too many"));
        }
        let node = self.tree.node_mut(number);
        (node.uid, node.gid, node.attributes) = (uid, gid, attributes);
        node.permissions = u16::try_from(mode).expect("twelve bits");
        Ok(())
    }

    /// Adds `.wh.<deleted>` in `directory`; `name` is all of it.
    fn add_mark(&mut self, directory: &[u8], name: &[u8], deleted: &[u8]) -> Result<(), Error> {
        if name == OPAQUE_MARK {
            return self.add_opaque(directory);
        }
        // Other names of this kind were a file system's private affair (aufs).
        if deleted.starts_with(WHITEOUT_PREFIX) {
            return Ok(());
        }
        let path = join(directory, name);
        if matches!(deleted, b"" | b"." | b"..") {
            return Err(layer::Error::InvalidField { path, field: "whiteout" }.into());
        }
        if self.form == Form::Applied {
            return match self.open(directory)? {
                Some(parent) => self.delete(vec![(parent, deleted.into())], &path),
                None => Ok(()),
            };
        }
        let at = At { parent: self.parent(directory)?, name: deleted, path: &path };
        match self.lookup(at, "stat")? {
            // The layer's own directory in the place of whatever was below.
            Some(found) if self.tree.node(found).is_directory() => self.make_opaque(found),
            Some(_) => {}
            None => {
                let whiteout = self.tree.add(Node::new(What::Char(0), 0));
                self.tree.link(at.parent, at.name, whiteout);
            }
        }
        Ok(())
    }

    fn add_opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        self.opaque_root |= path.is_empty();
        if self.form == Form::Overlay {
            let directory = self.parent(path)?;
            self.make_opaque(directory);
            return Ok(());
        }
        match self.open(path)? {
            Some(directory) => self.delete(self.all_in(directory), path),
            None => Ok(()),
        }
    }

    fn make_opaque(&mut self, directory: u32) {
        let set = self.tree.node(directory).attributes;
        let set = self.attributes.with(set, vec![Attribute::opaque()]);
        self.tree.node_mut(directory).attributes = set;
    }

    /// Deletes what the layers below have under these names; what this layer has stays.
    fn delete(&mut self, mut names: Vec<(u32, Box<[u8]>)>, path: &[u8]) -> Result<(), Error> {
        while let Some((parent, name)) = names.pop() {
            let at = At { parent, name: &name, path };
            let Some(found) = self.lookup(at, "stat")? else {
                continue;
            };
            let is_own = match &self.tree.node(found).what {
                What::Directory(directory) => directory.layer == self.layer,
                _ => self.tree.dir(parent).names[&name].layer == self.layer,
            };
            if !is_own {
                self.remove(at);
            } else if self.tree.node(found).is_directory() {
                names.extend(self.all_in(found));
            }
        }
        Ok(())
    }

    fn all_in(&self, directory: u32) -> Vec<(u32, Box<[u8]>)> {
        self.tree.dir(directory).names.keys().map(|name| (directory, name.clone())).collect()
    }

    fn remove(&mut self, at: At<'_>) {
        // It may lie on the way to the directory that is remembered.
        if self.tree.dir(at.parent).names.contains_key(at.name) {
            self.parent = None;
            self.tree.unlink(at.parent, at.name);
        }
    }

    fn lookup(&self, at: At<'_>, step: &'static str) -> Result<Option<u32>, Error> {
        self.tree.lookup(at.parent, at.name).map_err(at.failed(step))
    }

    /// Returns the directory an entry is to be put into, and makes it if the layer only implies it.
    fn parent(&mut self, path: &[u8]) -> Result<u32, Error> {
        if let Some((known, parent)) = &self.parent
            && known == path
        {
            return Ok(*parent);
        }
        let parent = self.find_or_make(path)?;
        if self.form == Form::Applied {
            self.keep(parent);
        }
        self.parent = Some((path.to_vec(), parent));
        Ok(parent)
    }

    fn find_or_make(&mut self, path: &[u8]) -> Result<u32, Error> {
        let failed = |errno| tree_error("open the directory", path, errno);
        let (mut at, mut links, mut length) = (ROOT, 0, 0);
        let mut implied = false;
        for name in names_of(path).map_err(failed)? {
            length += name.len() + usize::from(length > 0);
            let found =
                if implied { Err(Errno::NOENT) } else { self.tree.enter(at, name, &mut links) };
            at = match found {
                // "Not a directory" may be a whiteout that the layer has in its own directory's
                // place.
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    implied = true;
                    self.make_implied(At { parent: at, name, path: &path[..length] })?
                }
                found => found.map_err(failed)?,
            };
        }
        Ok(at)
    }

    fn make_implied(&mut self, at: At<'_>) -> Result<u32, Error> {
        if self.form == Form::Applied {
            self.keep(at.parent);
        }
        if let Some(found) = self.lookup(at, "stat")? {
            let found = self.tree.node(found);
            if !found.is_whiteout() && !found.is_directory() {
                return Err(at.failed("create the directory")(Errno::NOTDIR));
            }
        }
        let (directory, existed) = self.ensure_directory(at)?;
        if !existed {
            self.tree.node_mut(directory).permissions = 0o755;
            self.times.insert(at.path.to_vec(), Timestamp::default());
            self.implied.insert(at.path.to_vec());
        }
        Ok(directory)
    }

    /// Finds a directory that need not be there.
    fn open(&self, path: &[u8]) -> Result<Option<u32>, Error> {
        match self.tree.find(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(tree_error("open the directory", path, errno)),
            Ok(directory) => Ok(Some(directory)),
        }
    }

    /// Remembers that a directory holds something of this layer, and so do those it is in.
    fn keep(&mut self, mut directory: u32) {
        while self.tree.dir(directory).layer != self.layer {
            let kept = self.tree.dir_mut(directory);
            kept.layer = self.layer;
            directory = kept.parent;
        }
    }
}

fn inexpressible(path: &[u8], reason: &'static str) -> Error {
    Error::Inexpressible { path: path.to_vec(), reason }
}

/// Returns what the kernel says to a symbolic link with this text.
fn check_target(target: &[u8]) -> Result<(), Errno> {
    match target {
        [] => Err(Errno::NOENT),
        _ if target.contains(&0) => Err(Errno::INVAL),
        _ if target.len() >= PATH_LIMIT => Err(Errno::NAMETOOLONG),
        _ => Ok(()),
    }
}

/// Returns a device's number as `mknod(2)` takes it: what does not fit is cut off.
fn device_number(major: u32, minor: u32) -> u32 {
    (major & 0xfff) << 8 | minor & 0xff | (minor & 0xfff00) << 12
}
