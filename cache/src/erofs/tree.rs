//! The tree that an image is made of: directories, names and inodes in memory, with the lookups of
//! a kernel.
//!
//! Inodes are numbers, so that no tree is too deep to be walked or dropped. Does not know what
//! a whiteout does, nor how anything is encoded.

use std::collections::BTreeMap;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::content::Extents;
use crate::layer::Timestamp;

/// The longest name in a directory.
pub(super) const LONGEST_NAME: usize = 255;

pub(super) use crate::layer::PATH_LIMIT;

/// As many links are followed on the way to a directory (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// The number of the root directory.
pub(super) const ROOT: u32 = 0;

/// An inode.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) permissions: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    /// The number of its set of extended attributes.
    pub(super) attributes: u32,
    /// How many names it has; not counted for directories.
    pub(super) links: u32,
}

/// What an inode is.
#[derive(Debug)]
pub(super) enum What {
    Directory(Box<Directory>),
    File {
        size: u64,
        extents: Extents,
    },
    Symlink(Box<[u8]>),
    /// Its number as the kernel encodes it, in 32 bits.
    Char(u32),
    Block(u32),
    Fifo,
    /// Nothing has a name for it any more.
    Gone,
}

/// The names in a directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) parent: u32,
    /// The last layer that has something in it or below it.
    pub(super) layer: u32,
    pub(super) names: BTreeMap<Box<[u8]>, Name>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) node: u32,
    /// The layer that gave it, unless to a directory.
    pub(super) layer: u32,
}

impl Node {
    /// Makes an inode that belongs to root and was modified at the epoch.
    pub(super) fn new(what: What, permissions: u16) -> Self {
        let mtime = Timestamp::default();
        Self { what, permissions, uid: 0, gid: 0, mtime, attributes: 0, links: 0 }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.what, What::Directory(_))
    }

    /// Returns whether overlay would take this for a deleted file.
    pub(super) fn is_whiteout(&self) -> bool {
        matches!(self.what, What::Char(0))
    }

    /// Returns the type and the permissions.
    pub(super) fn mode(&self) -> u16 {
        let kind = match self.what {
            What::Directory(_) => FileType::Directory,
            What::File { .. } | What::Gone => FileType::RegularFile,
            What::Symlink(_) => FileType::Symlink,
            What::Char(_) => FileType::CharacterDevice,
            What::Block(_) => FileType::BlockDevice,
            What::Fifo => FileType::Fifo,
        };
        self.permissions | kind.as_raw_mode() as u16
    }
}

/// All inodes, by their numbers.
#[derive(Debug)]
pub(super) struct Tree(Vec<Node>);

impl Tree {
    /// Makes a tree of an empty root.
    pub(super) fn new() -> Self {
        let mut tree = Self(Vec::new());
        tree.add(Node::new(Tree::directory(ROOT), 0o755));
        tree
    }

    /// Makes an empty directory in the directory `parent`.
    pub(super) fn directory(parent: u32) -> What {
        What::Directory(Box::new(Directory { parent, layer: 0, names: BTreeMap::new() }))
    }

    /// Adds an inode without a name.
    pub(super) fn add(&mut self, node: Node) -> u32 {
        let number = u32::try_from(self.0.len()).expect("fewer inodes than memory has bytes");
        self.0.push(node);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn node(&self, number: u32) -> &Node {
        &self.0[number as usize]
    }

    pub(super) fn node_mut(&mut self, number: u32) -> &mut Node {
        &mut self.0[number as usize]
    }

    /// Returns an inode that is a directory.
    pub(super) fn dir(&self, number: u32) -> &Directory {
        match &self.node(number).what {
            What::Directory(directory) => directory,
            _ => unreachable!("only directories are walked through"),
        }
    }

    pub(super) fn dir_mut(&mut self, number: u32) -> &mut Directory {
        match &mut self.node_mut(number).what {
            What::Directory(directory) => directory,
            _ => unreachable!("only directories are walked through"),
        }
    }

    /// Returns what a name in a directory stands for; no link is followed.
    pub(super) fn lookup(&self, directory: u32, name: &[u8]) -> Result<Option<u32>, Errno> {
        if name.contains(&0) {
            return Err(Errno::INVAL);
        }
        if name.len() > LONGEST_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(self.dir(directory).names.get(name).map(|name| name.node))
    }

    /// Gives an inode a name, which must be free.
    pub(super) fn link(&mut self, directory: u32, name: &[u8], node: u32) {
        let name_of = Name { node, layer: 0 };
        let taken = self.dir_mut(directory).names.insert(name.into(), name_of);
        debug_assert!(taken.is_none());
        self.node_mut(node).links += 1;
    }

    /// Removes a name, and everything below it.
    pub(super) fn unlink(&mut self, directory: u32, name: &[u8]) {
        let removed = self.dir_mut(directory).names.remove(name);
        let mut nodes: Vec<u32> = removed.iter().map(|name| name.node).collect();
        while let Some(number) = nodes.pop() {
            let node = self.node_mut(number);
            node.links -= 1;
            if node.links > 0 {
                continue;
            }
            if let What::Directory(directory) = std::mem::replace(&mut node.what, What::Gone) {
                nodes.extend(directory.names.values().map(|name| name.node));
            }
        }
    }

    /// Returns the directory at `path`, as a kernel with this root finds it: links are followed.
    pub(super) fn find(&self, path: &[u8]) -> Result<u32, Errno> {
        let (mut at, mut links) = (ROOT, 0);
        for name in names_of(path)? {
            at = self.enter(at, name, &mut links)?;
        }
        Ok(at)
    }

    /// Returns the directory that a name in a directory leads to, also by links, of which those
    /// followed before are in `links`.
    pub(super) fn enter(&self, from: u32, name: &[u8], links: &mut u32) -> Result<u32, Errno> {
        let (mut at, mut rest) = (from, vec![name]);
        while let Some(path) = rest.pop() {
            let name = match path.iter().position(|&byte| byte == b'/') {
                Some(slash) => {
                    rest.push(&path[slash + 1..]);
                    &path[..slash]
                }
                None => path,
            };
            match name {
                b"" | b"." => continue,
                b".." => {
                    at = self.dir(at).parent;
                    continue;
                }
                _ => {}
            }
            let node = self.lookup(at, name)?.ok_or(Errno::NOENT)?;
            match &self.node(node).what {
                What::Directory(_) => at = node,
                What::Symlink(target) => {
                    *links += 1;
                    if *links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.first() == Some(&b'/') {
                        at = ROOT;
                    }
                    rest.push(target);
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }
}

/// Returns the names in a clean path, unless the kernel would not take it.
pub(super) fn names_of(path: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Errno> {
    if path.len() >= PATH_LIMIT {
        return Err(Errno::NAMETOOLONG);
    }
    if path.contains(&0) {
        return Err(Errno::INVAL);
    }
    Ok(path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()))
}
