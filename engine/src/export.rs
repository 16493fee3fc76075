//! The last station: layers and a configuration become an image, a directory or plain files.
//! Archives of images are written by [`archive::write`](crate::archive::write()).
//!
//! Knows nothing of how the layers were made. What stands under its final name is whole:
//! [`crate::place`] sees to that.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use cache::Store;
use cache::digest::Digest;
use cache::layer::writer::{Append, LayerWriter};
use cache::layer::{self, Entry, Kind, Timestamp, pack, unpack};
use cache::oci::ImageConfig;

use crate::archive::{self, Named};
use crate::place::{self, NewFile, Stage};
use crate::view::View;

/// Why something could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// An archive of images cannot be written.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A file cannot be read or written.
    #[error("cannot write the output")]
    Io(#[source] io::Error),
    /// An archive cannot be written, or a tree not be made.
    #[error("cannot write the output")]
    Layer(#[source] layer::Error),
}

/// Completes a configuration: its layers, and the times of the history entries that have none.
///
/// `times` has, for each entry of the history, when its layer was made in seconds since 1970; an
/// entry without a layer takes the time of the one before it.
pub fn complete(
    mut config: ImageConfig,
    layers: &[Digest],
    times: &[Option<i64>],
    epoch: Option<i64>,
) -> ImageConfig {
    config.rootfs.diff_ids = layers.to_vec();
    let mut last: Option<String> = None;
    for (entry, time) in config.history.iter_mut().zip(times) {
        if entry.created.is_none() {
            entry.created = epoch.or(*time).map(rfc3339).or_else(|| last.clone());
        }
        last.clone_from(&entry.created);
    }
    config.created = epoch.map(rfc3339).or(last).or(config.created);
    config
}

/// Seconds since 1970 as image-spec writes times.
pub fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// An image's files as an OCI image layout (image-spec `image-layout.md`), in a directory. A layout
/// that is there is what it was until the index, which comes last, makes it the new one; its blobs
/// stay.
pub fn write_layout(store: &Store, named: Named<'_>, dir: &Path) -> Result<(), Error> {
    let blobs = dir.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).map_err(Error::Io)?;
    let named = [named];
    for digest in archive::blobs_of(&named) {
        let path = store.blob_path(&digest);
        let mut source = Verified::open(&path).map_err(Error::Io)?;
        let mut file = NewFile::create(&blobs.join(digest.hex())).map_err(Error::Io)?;
        io::copy(&mut source, &mut file).map_err(Error::Io)?;
        source.check(&path, &digest)?;
        file.commit().map_err(Error::Io)?;
    }
    let write = |name: &str, bytes: &[u8]| place::write(&dir.join(name), bytes).map_err(Error::Io);
    write("oci-layout", archive::LAYOUT)?;
    let index = archive::index(store, &named)?;
    write("index.json", &serde_json::to_vec(&index).expect("documents have string keys only"))
}

/// A root file system and the directory that it has in an output of several; alone it has none.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// Its layers, the lowest first.
    pub layers: &'a [Digest],
    /// As `linux_amd64`.
    pub dir: Option<&'a str>,
}

/// Root file systems as one tar.
pub fn write_tar(
    store: &Store,
    all: &[Files<'_>],
    clamp: Option<Timestamp>,
    out: impl Write,
) -> Result<(), Error> {
    let mut tar = LayerWriter::new(out);
    pack_all(store, all, clamp, &mut tar)?;
    tar.finish().map(drop).map_err(Error::Layer)
}

fn pack_all(
    store: &Store,
    all: &[Files<'_>],
    clamp: Option<Timestamp>,
    tar: &mut dyn Append,
) -> Result<(), Error> {
    for files in all {
        let view = look(store, files.layers)?;
        match files.dir {
            None => pack::pack_plain(view.root(), tar, clamp).map_err(Error::Layer)?,
            Some(dir) => {
                let entry = Entry::new(dir, Kind::Directory, 0o755);
                tar.append(&entry, &mut io::empty()).map_err(Error::Layer)?;
                let mut below = Below { dir: dir.as_bytes(), tar: &mut *tar };
                pack::pack_plain(view.root(), &mut below, clamp).map_err(Error::Layer)?
            }
        };
    }
    Ok(())
}

/// Gives entries to whoever runs this program.
struct OfCaller<'a>(&'a mut dyn Append);

impl Append for OfCaller<'_> {
    fn append(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<(), layer::Error> {
        let mut entry = entry.clone();
        entry.uid = rustix::process::getuid().as_raw().into();
        entry.gid = rustix::process::getgid().as_raw().into();
        self.0.append(&entry, data)
    }
}

/// Puts entries below a directory.
struct Below<'a> {
    dir: &'a [u8],
    tar: &'a mut dyn Append,
}

impl Append for Below<'_> {
    fn append(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<(), layer::Error> {
        let below = |path: &[u8]| [self.dir, b"/", path].concat();
        let mut entry = entry.clone();
        entry.path = below(&entry.path);
        if let Kind::Hardlink(path) = &entry.kind {
            entry.kind = Kind::Hardlink(below(path));
        }
        self.tar.append(&entry, data)
    }
}

/// Root file systems as files in a directory, over what is there: directories are merged, as docker
/// does it, and keep what the root file systems have not; a file, a link or a device takes the place
/// of whatever has its name. All of them belong to whoever runs this program, whatever the owners in
/// the image are. Nothing is touched before all files are whole.
pub fn write_files(
    store: &Store,
    all: &[Files<'_>],
    clamp: Option<Timestamp>,
    dir: &Path,
) -> Result<(), Error> {
    let stage = Stage::create(dir).map_err(Error::Io)?;
    let (reader, writer) = io::pipe().map_err(Error::Io)?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let mut tar = LayerWriter::new(writer);
            pack_all(store, all, clamp, &mut OfCaller(&mut tar))?;
            tar.finish().map(drop).map_err(Error::Layer)
        });
        let unpacked =
            unpack::unpack_layer(io::BufReader::new(reader), stage.as_fd(), unpack::Form::Apply);
        packing.join().expect("packing does not panic")?;
        unpacked.map(drop).map_err(Error::Layer)
    })?;
    stage.commit().map_err(Error::Io)
}

/// A look into the file system that layers make.
pub fn look(store: &Store, layers: &[Digest]) -> Result<View, Error> {
    View::overlay(&store.lower(layers)?).map_err(Error::Io)
}

/// A file that is digested while it is read.
struct Verified {
    file: File,
    hasher: cache::digest::Hasher,
}

impl Verified {
    fn open(path: &Path) -> io::Result<Self> {
        let file = fs_err::File::open(path)?.into_parts().0;
        Ok(Self { file, hasher: Default::default() })
    }

    fn check(self, path: &Path, expected: &Digest) -> Result<(), Error> {
        let found = self.hasher.finish();
        if found != *expected {
            let (path, expected) = (path.to_owned(), *expected);
            return Err(Error::Store(cache::Error::Corrupt { path, expected, found }));
        }
        Ok(())
    }
}

impl io::Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache::oci::History;

    #[test]
    fn entries_take_the_time_of_their_layer_or_of_the_entry_before() {
        let entry = |created: Option<&str>| History {
            created: created.map(str::to_owned),
            ..Default::default()
        };
        let config = ImageConfig {
            history: vec![
                entry(Some("2001-01-01T00:00:00Z")),
                entry(None),
                entry(None),
                entry(None),
            ],
            ..Default::default()
        };
        let shown = |epoch| {
            let done = complete(config.clone(), &[], &[None, None, Some(86400), None], epoch);
            let times = done.history.iter().map(|entry| entry.created.clone().unwrap_or_default());
            (times.map(|time| time[..10].to_owned()).collect::<Vec<_>>(), done.created)
        };
        let (times, created) = shown(None);
        assert_eq!(times, ["2001-01-01", "2001-01-01", "1970-01-02", "1970-01-02"]);
        assert_eq!(created.as_deref(), Some("1970-01-02T00:00:00Z"));
        let (times, created) = shown(Some(0));
        assert_eq!(times, ["2001-01-01", "1970-01-01", "1970-01-01", "1970-01-01"]);
        assert_eq!(created.as_deref(), Some("1970-01-01T00:00:00Z"));
    }
}
