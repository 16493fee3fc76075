//! Files copied into containers and out of them, by docker's rules.
//!
//! ```text
//! source        what is copied, and the name it goes by in an archive     (Path, source)
//! destination   what is there already                                     (destination)
//! decide        the directory the archive is put into, and that name      (decide)
//! pack, put     through an archive, from one tree to the other            (pack, extraction)
//! ```
//!
//! Both trees are reached by their roots' descriptors; a container's links lead nowhere outside it.

mod extraction;
mod pack;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use cache::layer::writer::LayerWriter;
use cache::layer::{self, Entry, Kind};
use rustix::fs::{AtFlags, FileType, OFlags, StatVfsMountFlags, StatxFlags};

use self::extraction::Extraction;
use self::pack::{append_file, finish, pack_below};
use super::files::Files;
use crate::view::{Metadata, View, join, metadata_at, split, xattrs};

/// Why nothing, or not all, was copied; docker's words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The container has no such file.
    #[error("Could not find the file {path} in container {container}")]
    NotInContainer {
        /// The file.
        path: String,
        /// The container.
        container: String,
    },
    /// The host has no such file.
    #[error("lstat {0}: no such file or directory")]
    NotOnHost(String),
    /// The directory that is to take the copy does not exist.
    #[error("invalid output path: directory \"{0}\" does not exist")]
    NoOutputDirectory(String),
    /// It was named as a directory.
    #[error("{0}: not a directory")]
    NotADirectory(String),
    /// Nothing can be put into a file.
    #[error("extraction point is not a directory")]
    NoExtractionPoint,
    /// An archive needs a directory.
    #[error("destination \"{0}\" must be a directory")]
    StreamNeedsDirectory(String),
    /// A device is no place for a copy.
    #[error("{0} must be a directory or a regular file: got a device")]
    Device(String),
    /// A file is there.
    #[error("cannot copy directory")]
    DirectoryOverFile,
    /// A file cannot become a directory.
    #[error("no such directory")]
    NoDirectory,
    /// What is there is of another kind.
    #[error("cannot overwrite {there} \"{path}\" with {new} \"{destination}\"")]
    OtherKind {
        /// `directory` or `non-directory`.
        there: &'static str,
        /// The other one.
        new: &'static str,
        /// The entry.
        path: String,
        /// What it was to be put into.
        destination: String,
    },
    /// Something is mounted there.
    #[error("unlinkat {0}: device or resource busy")]
    MountPoint(String),
    /// The container cannot write there either.
    #[error("container rootfs is marked read-only")]
    ReadOnlyRoot,
    /// The container cannot write there either.
    #[error("mounted volume is marked read-only")]
    ReadOnlyVolume,
    /// No archive holds a socket.
    #[error("{0} is a socket, which cannot be copied")]
    Socket(String),
    /// A file cannot be looked at.
    #[error("copy {path}")]
    Look {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The archive cannot be read, or not be written.
    #[error("copy")]
    Archive(#[from] layer::Error),
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the files.
    pub content: u64,
    /// Bytes of the archive.
    pub transferred: u64,
}

/// How something is copied out of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// A link is copied as a link.
    #[default]
    Kept,
    /// What a link points to is copied under the link's name.
    Followed,
}

/// Whose files a copied file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Who had it.
    Kept,
    /// This user and group.
    Is(u32, u32),
}

/// A tree that is copied from or into.
pub struct Tree<'a> {
    view: &'a View,
    /// The container's name, as it was typed; none is the host.
    container: Option<&'a str>,
}

impl<'a> Tree<'a> {
    /// A container's.
    pub fn of_container(files: &'a Files, name: &'a str) -> Self {
        Self { view: files.view(), container: Some(name) }
    }

    /// The host's, by a look at `/`.
    pub fn of_host(root: &'a View) -> Self {
        Self { view: root, container: None }
    }

    /// Copies from this tree into another.
    pub fn copy(
        &self,
        from: &Path,
        links: Links,
        to: &Tree<'_>,
        path: &Path,
        owner: Owner,
    ) -> Result<Copied, Error> {
        let source = self.source(from, links)?;
        let destination = to.destination(path)?;
        let (dir, name) = decide(&source, &destination, path.is_directory)?;
        let into = Extraction { owner, ..to.extraction(&dir)? };
        let (reader, writer) = io::pipe().map_err(|error| look(&source.path, error))?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| self.pack(&source, &name, writer));
            let put = into.put(reader);
            match (packing.join().expect("packing does not panic"), put) {
                // Who does not read on has a better reason.
                (Err(Error::Archive(layer::Error::Write { .. })), Err(put)) => Err(put),
                (Err(packed), _) => Err(packed),
                (_, Err(put)) => Err(put),
                (Ok(copied), Ok(())) => Ok(copied),
            }
        })
    }

    /// Writes what is copied from this tree as an archive.
    pub fn write(&self, from: &Path, links: Links, out: impl Write) -> Result<Copied, Error> {
        let source = self.source(from, links)?;
        self.pack(&source, &source.name, out)
    }

    /// Puts an archive, not compressed, into a directory of this tree.
    pub fn read(&self, path: &Path, owner: Owner, input: impl Read) -> Result<(), Error> {
        match self.destination(path)? {
            Destination { kind: Some(FileType::Directory), path } => {
                Extraction { owner, ..self.extraction(&path)? }.put(input)
            }
            _ => Err(Error::StreamNeedsDirectory(self.shown(path))),
        }
    }

    fn source(&self, path: &Path, links: Links) -> Result<Source, Error> {
        let resolve = |path: &[u8]| self.view.resolve(path).map_err(|error| look(path, error));
        let found = match (links, path.is_directory) {
            (Links::Kept, false) => {
                let (parent, name) = split(&path.clean);
                join(&resolve(parent)?, name)
            }
            _ => resolve(&path.clean)?,
        };
        let metadata = self.metadata(&found)?.ok_or_else(|| self.missing(&path.clean))?;
        if path.is_directory && !metadata.is_dir() {
            return Err(Error::NotADirectory(format!("lstat {}/", text(&path.clean))));
        }
        Ok(Source { path: found, name: path.name.clone(), metadata })
    }

    fn destination(&self, path: &Path) -> Result<Destination, Error> {
        let found = self.view.resolve(&path.clean).map_err(|error| look(&path.clean, error))?;
        let mut kind = self.metadata(&found)?.map(|metadata| metadata.kind);
        match (kind, self.container) {
            (Some(FileType::CharacterDevice | FileType::BlockDevice), Some(_)) => {
                return Err(Error::Device(format!("destination \"{}\"", self.shown(path))));
            }
            (Some(FileType::CharacterDevice | FileType::BlockDevice), None) => {
                return Err(Error::Device(format!(
                    "invalid output path: \"{}\"",
                    self.shown(path)
                )));
            }
            (Some(FileType::Directory) | None, _) => {}
            (Some(_), None) if path.is_directory => {
                return Err(Error::NotADirectory(format!("stat {}/", self.shown(path))));
            }
            // Docker does not see it then.
            (Some(_), Some(_)) if path.is_directory => kind = None,
            _ => {}
        }
        Ok(Destination { path: found, kind })
    }

    fn metadata(&self, path: &[u8]) -> Result<Option<Metadata>, Error> {
        self.view.metadata(path).map_err(|error| look(path, error))
    }

    /// Opens the directory that an archive is put into.
    fn extraction(&self, dir: &[u8]) -> Result<Extraction, Error> {
        let view = self.view;
        let container = self.container.is_some();
        match (self.metadata(dir)?, container) {
            (Some(found), _) if found.is_dir() => {}
            (Some(_), _) => return Err(Error::NoExtractionPoint),
            (None, true) => return Err(self.missing(dir)),
            (None, false) => return Err(Error::NoOutputDirectory(text(dir))),
        }
        let failed = |error| look(dir, error);
        let opened = view.open_at(dir, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        if container {
            refuse_read_only(view.root(), opened.as_fd()).map_err(failed)??;
            // Links in the directory mean what they mean in the container.
            return Ok(Extraction {
                root: view.root().try_clone_to_owned().map_err(failed)?,
                prefix: dir.to_vec(),
                shown: text(dir),
                owner: Owner::Kept,
            });
        }
        // Nothing of a container's leads out of the directory.
        Ok(Extraction { root: opened, prefix: Vec::new(), shown: text(dir), owner: Owner::Kept })
    }

    /// Packs a source under a name; `.` is what is in it.
    fn pack(&self, source: &Source, name: &[u8], out: impl Write) -> Result<Copied, Error> {
        let name = if name == b"." { b"".as_slice() } else { name };
        let failed = |error| look(&source.path, error);
        let mut tar = LayerWriter::new(out);
        let mut content = 0;
        let mut entry = Entry::new(name, Kind::Directory, source.metadata.mode.into());
        entry.uid = source.metadata.uid.into();
        entry.gid = source.metadata.gid.into();
        entry.mtime = source.metadata.mtime;
        let (major, minor) = source.metadata.node;
        match source.metadata.kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let dir = self.view.open_at(&source.path, flags).map_err(failed)?;
                entry.xattrs = xattrs(dir.as_fd()).map_err(failed)?;
                tar.append(&entry, io::empty())?;
                content = pack_below(dir.as_fd(), name, &mut tar)?;
                return finish(tar, content);
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
                let file = self.view.open_at(&source.path, flags).map_err(failed)?;
                entry.xattrs = xattrs(file.as_fd()).map_err(failed)?;
                let size =
                    metadata_at(file.as_fd(), b"", AtFlags::EMPTY_PATH).map_err(failed)?.size;
                let mut file = std::fs::File::from(file);
                content = append_file(&mut tar, &mut entry, &mut file, size).map_err(failed)??;
                return finish(tar, content);
            }
            FileType::Symlink => {
                entry.kind = Kind::Symlink(self.view.read_link(&source.path).map_err(failed)?);
            }
            FileType::CharacterDevice => entry.kind = Kind::Char(major, minor),
            FileType::BlockDevice => entry.kind = Kind::Block(major, minor),
            FileType::Fifo => entry.kind = Kind::Fifo,
            FileType::Socket | FileType::Unknown => {
                return Err(Error::Socket(text(&source.path)));
            }
        }
        tar.append(&entry, io::empty())?;
        finish(tar, content)
    }

    fn missing(&self, path: &[u8]) -> Error {
        match self.container {
            Some(container) => {
                Error::NotInContainer { path: text(path), container: container.to_owned() }
            }
            None => Error::NotOnHost(text(path)),
        }
    }

    /// A path as it was meant, with its container.
    fn shown(&self, path: &Path) -> String {
        match self.container {
            Some(container) => format!("{container}:{}", text(&path.clean)),
            None => text(&path.clean),
        }
    }
}

/// Refuses a directory that cannot be written to.
fn refuse_read_only(root: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> io::Result<Result<(), Error>> {
    if !rustix::fs::fstatvfs(dir)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Ok(()));
    }
    let mount = |fd| {
        rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|it| it.stx_mnt_id)
    };
    let is_root = mount(root)? == mount(dir)?;
    Ok(Err(if is_root { Error::ReadOnlyRoot } else { Error::ReadOnlyVolume }))
}

/// A path as it was typed: absolute, `.` and `..` resolved as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Without a slash at either end.
    clean: Vec<u8>,
    /// Its last component as it was typed, which may be `.`.
    name: Vec<u8>,
    /// Whether it ends with `/` or `/.`.
    is_directory: bool,
}

impl Path {
    /// A container's path; a relative one begins at the root.
    pub fn in_container(text: &[u8]) -> Self {
        Self::parse(b"", text)
    }

    /// A host's path; a relative one begins at `current`.
    pub fn on_host(current: &std::path::Path, path: &std::path::Path) -> Self {
        Self::parse(current.as_os_str().as_bytes(), path.as_os_str().as_bytes())
    }

    fn parse(current: &[u8], text: &[u8]) -> Self {
        let current = if text.starts_with(b"/") { b"" } else { current };
        let mut clean: Vec<&[u8]> = Vec::new();
        for name in current.split(|b| *b == b'/').chain(text.split(|b| *b == b'/')) {
            match name {
                b"" | b"." => {}
                b".." => drop(clean.pop()),
                name => clean.push(name),
            }
        }
        let is_dot = text == b"." || text.ends_with(b"/.");
        let name = match clean.last() {
            Some(name) if !is_dot => name.to_vec(),
            _ => b".".to_vec(),
        };
        let is_directory = is_dot || text.ends_with(b"/");
        Self { name, is_directory, clean: clean.join(&b'/') }
    }
}

/// What is copied.
#[derive(Clone, Debug)]
struct Source {
    path: Vec<u8>,
    name: Vec<u8>,
    metadata: Metadata,
}

/// Where it is copied to, links followed, and what is there.
#[derive(Clone, Debug)]
struct Destination {
    path: Vec<u8>,
    kind: Option<FileType>,
}

/// Decides which directory the archive of a source is put into, and under which name.
fn decide(
    source: &Source,
    destination: &Destination,
    is_directory: bool,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let (parent, name) = split(&destination.path);
    match (destination.kind, source.metadata.is_dir()) {
        (Some(FileType::Directory), _) => Ok((destination.path.clone(), source.name.clone())),
        (Some(_), true) => Err(Error::DirectoryOverFile),
        (None, false) if is_directory => Err(Error::NoDirectory),
        _ => Ok((parent.to_vec(), name.to_vec())),
    }
}

fn look(path: &[u8], source: io::Error) -> Error {
    Error::Look { path: text(path), source }
}

/// A clean path as it is shown.
fn text(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(kind: FileType) -> Metadata {
        let root = View::open(std::path::Path::new("/")).expect("open");
        Metadata { kind, ..root.metadata(b"").expect("stat").expect("present") }
    }

    #[test]
    fn paths_are_cleaned_as_text() {
        for (typed, clean, name, is_directory) in [
            ("/a/b", "a/b", "b", false),
            ("a//b/", "a/b", "b", true),
            ("/a/.", "a", ".", true),
            ("/", "", ".", true),
            ("", "", ".", false),
            ("/../a/../b/c/..", "b", "b", false),
        ] {
            let path = Path::in_container(typed.as_bytes());
            let expected = Path { clean: clean.into(), name: name.into(), is_directory };
            assert_eq!(path, expected, "{typed}");
        }
        let path = Path::on_host(std::path::Path::new("/home/me"), std::path::Path::new("../x/."));
        assert_eq!((path.clean.as_slice(), path.name.as_slice()), (&b"home/x"[..], &b"."[..]));
    }

    #[test]
    fn what_is_there_decides_where_a_copy_goes() {
        use FileType::{Directory as D, RegularFile as F};
        for (source, there, asserted, expected) in [
            (F, None, false, Ok("to >x")),
            (F, None, true, Err("no such directory")),
            (F, Some(F), false, Ok("to >x")),
            (F, Some(D), false, Ok("to/x >s")),
            (D, None, true, Ok("to >x")),
            (D, Some(F), false, Err("cannot copy directory")),
            (D, Some(D), false, Ok("to/x >s")),
        ] {
            let source =
                Source { path: b"from/s".into(), name: b"s".into(), metadata: metadata(source) };
            let destination = Destination { path: b"to/x".into(), kind: there };
            let shown = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            let decided = decide(&source, &destination, asserted)
                .map(|(dir, name)| format!("{} >{}", shown(dir), shown(name)))
                .map_err(|error| error.to_string());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(decided, expected, "{there:?}");
        }
    }
}
