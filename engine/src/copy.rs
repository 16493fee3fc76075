//! Copies files into a root file system: what COPY and ADD do.
//!
//! Three steps, each a function: [`select`] finds the files, [`rows`] says what the result depends
//! on (the text goes into the key), [`plan()`] decides what lands where. The rules of where things
//! land are docker's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use cache::compress::decompress;
use cache::content::ContentDigest;
use cache::layer::{self, Kind, reader};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::fs::FileType;

use crate::graph::{Copy, CopySource, Unpack};
use crate::mode::Mode;
use crate::plan::{self, Content, NewDirectories, Plan, entry_of};
use crate::tree::{self, Entry, Owners, Selected, Selector, Tree, digest_of_attributes};
use crate::view::{View, join, split};

/// Why files cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source is not there, or cannot be read.
    #[error(transparent)]
    Select(#[from] tree::Error),
    /// No pattern matches anything.
    #[error("\"{0}\": not found: the pattern matches no file")]
    NothingMatches(String),
    /// The result cannot be placed.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// An archive cannot be unpacked.
    #[error("cannot unpack \"{path}\"")]
    Unpack {
        /// The archive.
        path: String,
        /// Why.
        source: layer::Error,
    },
    /// A file cannot be read or scratch space cannot be written.
    #[error("cannot read \"{path}\"")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// A source's tree with what was selected in it.
pub struct Source<'a> {
    tree: &'a Tree,
    spec: &'a CopySource,
    selected: Vec<Selected>,
}

impl Source<'_> {
    /// Whether a single file was named.
    pub fn is_file(&self) -> bool {
        self.selected.iter().any(|selected| !selected.is_dir())
    }

    /// The bytes of its files.
    pub fn bytes(&self) -> u64 {
        let entries = self.selected.iter().flat_map(Selected::entries);
        let files = entries.map(|entry| entry.metadata()).filter(|metadata| !metadata.is_dir());
        files.map(|metadata| metadata.size).sum()
    }
}

/// Finds the files that a copy takes, from the trees of its sources in order.
pub fn select<'a>(copy: &'a Copy, trees: &[&'a Tree]) -> Result<Vec<Source<'a>>, Error> {
    let mut sources = Vec::with_capacity(trees.len());
    for (spec, tree) in copy.sources.iter().zip(trees) {
        let selector = Selector {
            path: &spec.path,
            wildcards: spec.wildcards,
            excludes: &copy.excludes,
            parents: copy.parents,
        };
        sources.push(Source { tree, spec, selected: tree.select(&selector)? });
    }
    // A pattern may match nothing beside one that does; a copy of nothing at all is a mistake.
    if sources.iter().all(|source| source.selected.is_empty())
        && let Some(first) = sources.first()
    {
        return Err(Error::NothingMatches(format!("/{}", first.spec.path.trim_start_matches('/'))));
    }
    Ok(sources)
}

/// As many rows are written in one go; a large tree's are written by all processors.
const BATCH: usize = 1024;

/// As many batches are in memory at once beside the text they go into.
const BATCHES: usize = 16;

/// Appends one line for each selected file, saying all of it that the result depends on.
pub fn rows(sources: &[Source<'_>], text: &mut String) -> Result<(), Error> {
    for source in sources {
        for selected in &source.selected {
            let links = selected.links();
            let batch = |start: &usize| {
                let end = selected.count().min(start + BATCH);
                batch_rows(source.tree, selected, &links, *start..end)
            };
            let starts: Vec<usize> = (0..selected.count()).step_by(BATCH).collect();
            if let [only] = starts.as_slice() {
                text.push_str(&batch(only)?);
                continue;
            }
            for starts in starts.chunks(BATCHES) {
                let written: Vec<String> =
                    starts.par_iter().map(batch).collect::<Result<_, _>>()?;
                let length = written.iter().map(String::len).sum::<usize>();
                if text.capacity() - text.len() < length {
                    // Room for all of it, were the rest like this: doubling would take more.
                    let rest = selected.count() - starts[0];
                    text.reserve_exact(length / (starts.len() * BATCH) * rest + length);
                }
                text.extend(written);
            }
        }
    }
    Ok(())
}

fn batch_rows(
    tree: &Tree,
    selected: &Selected,
    links: &BTreeMap<usize, usize>,
    places: Range<usize>,
) -> Result<String, Error> {
    use std::fmt::Write;
    let mut text = String::with_capacity(places.len() * 128);
    let entries: Vec<Entry<'_>> = selected.slice(places.clone()).collect();
    let name = |entry: &Entry<'_>| quoted(&entry.path_below(&selected.name));
    for ((place, entry), digest) in places.zip(&entries).zip(tree.digests(&entries)?) {
        let (path, (uid, gid)) = (name(entry), owner_of(tree, entry));
        let what = describe(tree, entry, digest)?;
        let mode = entry.metadata().mode;
        write!(text, "file {path} {mode:04o} {uid}:{gid} {what}")
            .expect("writing to a string cannot fail");
        if let Some(first) = links.get(&place) {
            let first = name(&selected.entry(*first));
            write!(text, " linked to {first}").expect("writing to a string cannot fail");
        }
        text.push('\n');
    }
    Ok(text)
}

fn describe(
    tree: &Tree,
    entry: &Entry<'_>,
    digest: Option<ContentDigest>,
) -> Result<String, Error> {
    let metadata = entry.metadata();
    Ok(match metadata.kind {
        FileType::RegularFile => digest.expect("a regular file has a digest").to_string(),
        FileType::Directory => match entry.xattrs() {
            Some(xattrs) => format!("directory {}", digest_of_attributes(xattrs)),
            None => "directory".to_owned(),
        },
        FileType::Symlink => format!("link {}", quoted(&read_link(tree, entry)?)),
        FileType::Fifo => "fifo".to_owned(),
        FileType::BlockDevice => format!("block {}:{}", metadata.node.0, metadata.node.1),
        _ => format!("char {}:{}", metadata.node.0, metadata.node.1),
    })
}

/// A name in quotes; two names never look the same, whatever bytes they have.
fn quoted(name: &[u8]) -> String {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'\'');
    match std::str::from_utf8(name) {
        // Nearly all names; looking at each character for what it needs takes longer.
        Ok(text) if name.iter().all(plain) => format!("\"{text}\""),
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("b\"{}\"", name.escape_ascii()),
    }
}

fn read_link(tree: &Tree, entry: &Entry<'_>) -> Result<Vec<u8>, Error> {
    tree.view().read_link(&entry.path()).map_err(|source| read_failed(entry, source))
}

fn read_failed(entry: &Entry<'_>, source: io::Error) -> Error {
    Error::Read { path: tree::shown(&entry.path()), source }
}

fn owner_of(tree: &Tree, entry: &Entry<'_>) -> (u32, u32) {
    match tree.owners() {
        Owners::Root => (0, 0),
        Owners::Kept => (entry.metadata().uid, entry.metadata().gid),
    }
}

/// How a copy changes owner and mode of what it makes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// `--chown`, looked up.
    pub owner: Option<(u32, u32)>,
    /// `--chmod`.
    pub mode: Option<Mode>,
}

impl Changes {
    fn apply(&self, entry: &mut layer::Entry) {
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid.into(), gid.into());
        }
        if let Some(mode) = &self.mode
            && !matches!(entry.kind, Kind::Symlink(_))
        {
            entry.mode = mode.apply(entry.mode, entry.kind == Kind::Directory);
        }
    }

    fn new_directories(&self) -> NewDirectories {
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        // A symbolic mode changes what is there; a directory made on the way was not.
        let mode = match &self.mode {
            // Set-id bits and sticky are for what is copied.
            Some(mode) if mode.is_absolute() => mode.apply(0, true) & 0o777,
            _ => 0o755,
        };
        NewDirectories { mode, uid, gid }
    }
}

/// Decides what lands where in `base`. Archives are unpacked into `scratch` on the way.
pub fn plan<'a>(
    copy: &Copy,
    sources: &'a [Source<'a>],
    base: &'a View,
    changes: &Changes,
    scratch: &File,
) -> Result<Plan<'a>, Error> {
    let mut plan = Plan::new(base, changes.new_directories());
    let dest = copy.dest.trim_end_matches('/').as_bytes();
    // What stands before the last slash must be a directory, or becomes one.
    let ensured = if copy.dest.ends_with('/') { dest } else { plan::parent(dest) };
    plan.make_dirs(ensured)?;
    let mut spool = Spool { file: scratch, end: 0, shared: None };
    for source in sources {
        for selected in &source.selected {
            if source.spec.unpack == Unpack::Archives
                && !selected.is_dir()
                && unpack(&mut plan, &mut spool, source, selected, dest, changes)?
            {
                continue;
            }
            place(&mut plan, source, selected, dest, changes)?;
        }
    }
    Ok(plan)
}

/// Places one selected file or directory.
fn place<'a>(
    plan: &mut Plan<'a>,
    source: &'a Source<'a>,
    selected: &'a Selected,
    dest: &[u8],
    changes: &Changes,
) -> Result<(), Error> {
    // Of a directory the content is copied, into one that is made like any on the way.
    let root = if selected.is_dir() {
        plan.make_dirs(dest)?
    } else if plan.is_dir(dest)? {
        join(&plan.make_dirs(dest)?, &selected.name)
    } else {
        let target = plan.resolve(dest)?;
        plan.make_dirs(plan::parent(&target))?;
        target
    };
    let links = selected.links();
    for (place, entry) in selected.entries().enumerate() {
        let metadata = entry.metadata();
        let Some(kind) = kind_of(source.tree, &entry)? else { continue };
        let mut made = entry_of(entry.path_below(&root), metadata, kind);
        let (uid, gid) = owner_of(source.tree, &entry);
        (made.uid, made.gid) = (uid.into(), gid.into());
        changes.apply(&mut made);
        if made.kind == Kind::Directory {
            made.xattrs = entry.xattrs().cloned().unwrap_or_default();
            // When a directory of a context changed says what else was ever in it.
            let timeless = source.tree.owners() == Owners::Root;
            match (entry.is_root(), timeless) {
                (true, true) => {}
                (true, false) => plan.made_at(&root, made.mtime),
                (false, true) => plan.put_timeless_dir(made)?,
                (false, false) => plan.put_dir(made)?,
            }
            continue;
        }
        match links.get(&place) {
            Some(first) => made.kind = Kind::Hardlink(selected.entry(*first).path_below(&root)),
            None if matches!(made.kind, Kind::File { .. }) => {
                plan.put_file(made, source.tree, entry)?;
                continue;
            }
            None => {}
        }
        plan.put(made, Content::None)?;
    }
    Ok(())
}

/// What an entry becomes; `None` for what cannot be in an image.
fn kind_of(tree: &Tree, entry: &Entry<'_>) -> Result<Option<Kind>, Error> {
    let metadata = entry.metadata();
    Ok(Some(match metadata.kind {
        FileType::RegularFile => Kind::File { size: metadata.size },
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink(read_link(tree, entry)?),
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::Char(metadata.node.0, metadata.node.1),
        FileType::BlockDevice => Kind::Block(metadata.node.0, metadata.node.1),
        _ => return Ok(None),
    }))
}

/// Where the content of archives goes until the layer is written.
struct Spool<'a> {
    file: &'a File,
    end: u64,
    shared: Option<Arc<File>>,
}

impl Spool<'_> {
    /// Stores content and returns where it is.
    fn store(&mut self, mut data: impl io::Read) -> io::Result<Content> {
        let file = match &self.shared {
            Some(file) => file.clone(),
            None => self.shared.insert(Arc::new(self.file.try_clone()?)).clone(),
        };
        let start = self.end;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = data.read(&mut buffer)?;
            if read == 0 {
                return Ok(Content::Range(file, start));
            }
            file.write_all_at(&buffer[..read], self.end)?;
            self.end += read as u64;
        }
    }
}

/// Unpacks a file into the destination directory if its content is an archive.
fn unpack<'a>(
    plan: &mut Plan<'a>,
    spool: &mut Spool<'_>,
    source: &Source<'a>,
    selected: &Selected,
    dest: &[u8],
    changes: &Changes,
) -> Result<bool, Error> {
    let archive = &selected.root();
    let open = || -> Result<_, Error> {
        let file = source.tree.view().open_at(&archive.path(), rustix::fs::OFlags::RDONLY);
        let file = File::from(file.map_err(|error| read_failed(archive, error))?);
        let unpacked = decompress(io::BufReader::new(file));
        Ok(unpacked.map_err(|error| read_failed(archive, error))?.0)
    };
    if archive.metadata().kind != FileType::RegularFile || !reader::is_archive(open()?) {
        return Ok(false);
    }
    let failed = |source| Error::Unpack {
        path: format!("/{}", String::from_utf8_lossy(&archive.path())),
        source,
    };
    // A mode is for what is copied; an archive says its own.
    let changes = Changes { mode: None, ..changes.clone() };
    let root = plan.make_dirs(dest)?;
    let mut entries = reader::entries(io::BufReader::new(open()?));
    // Directories of the archive by the paths they have in the target.
    let mut targets: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    while let Some((mut entry, mut data)) = entries.next_entry().map_err(failed)? {
        if entry.path.is_empty() {
            continue;
        }
        let (parent, name) = entry.split();
        let name = name.to_vec();
        let below = join(&root, parent);
        let dir = match targets.get(&below) {
            Some(dir) => dir.clone(),
            None => plan.make_dirs(&below)?,
        };
        targets.insert(below, dir.clone());
        entry.path = join(&dir, &name);
        if let Kind::Hardlink(target) = &entry.kind {
            // Docker resolves a link's target within what is unpacked; link(2) follows no link that
            // is the target itself.
            let (parent, name) = split(target);
            entry.kind = Kind::Hardlink(join(&plan.resolve(&join(&root, parent))?, name));
        }
        changes.apply(&mut entry);
        let content = match entry.kind {
            Kind::File { .. } => {
                spool.store(&mut data).map_err(|error| read_failed(archive, error))?
            }
            _ => Content::None,
        };
        match entry.kind {
            Kind::Directory if plan.is_dir(&entry.path)? => {
                entry.path = plan.resolve(&entry.path)?;
                targets.clear();
                plan.put_dir(entry)?;
            }
            // A hard link may be one more name of a symbolic link.
            Kind::Symlink(_) | Kind::Hardlink(_) => {
                targets.clear();
                plan.put_unpacked(entry, content)?;
            }
            _ => plan.put_unpacked(entry, content)?,
        }
    }
    // Behind the archive's end stands what tells that its compression is whole.
    entries.finish().map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::VertexId;
    use cache::layer::writer::LayerWriter;

    /// Copies everything that a directory holds into an empty root, and lists the layer.
    fn copied(from: &std::path::Path, dest: &str, changes: &Changes) -> Vec<layer::Entry> {
        let empty = tempfile::tempdir().expect("tempdir");
        let base = View::open(empty.path()).expect("open");
        let tree = Tree::new(View::open(from).expect("open"), Owners::Root);
        let from = VertexId(0);
        let source =
            CopySource { from, path: "/".into(), wildcards: true, unpack: Unpack::Archives };
        let source = |path: &str| CopySource { path: path.into(), ..source.clone() };
        let copy = Copy {
            base: from,
            sources: vec![source("/*")],
            dest: dest.to_owned(),
            owner: None,
            mode: None,
            parents: false,
            excludes: Vec::new(),
        };
        let sources = select(&copy, &[&tree]).expect("select");
        let scratch = tempfile::tempfile().expect("a file");
        let mut layer = Vec::new();
        let mut planned = plan(&copy, &sources, &base, changes, &scratch).expect("plan");
        let mut tar = LayerWriter::new(&mut layer);
        planned.write(&mut tar, None).expect("write");
        tar.finish().expect("finish");
        let mut entries = reader::entries(io::Cursor::new(layer));
        let mut listed = Vec::new();
        while let Some((entry, _)) = entries.next_entry().expect("read") {
            listed.push(entry);
        }
        listed
    }

    #[test]
    fn a_mode_is_not_for_what_is_in_an_archive() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("plain"), "").expect("write");
        let archive = std::fs::File::create(dir.path().join("archive")).expect("create");
        let mut writer = LayerWriter::new(archive);
        let packed = layer::Entry::new("packed", Kind::File { size: 0 }, 0o4711);
        writer.append(&packed, io::empty()).expect("append");
        writer.finish().expect("finish");
        let mode = Some(Mode::parse("1740").expect("a mode"));
        let entries = copied(dir.path(), "/to/", &Changes { owner: Some((7, 8)), mode });
        let shown = entries.iter().map(|entry| {
            (String::from_utf8_lossy(&entry.path).into_owned(), entry.mode, (entry.uid, entry.gid))
        });
        let expected =
            [("to", 0o740, (7, 8)), ("to/packed", 0o4711, (7, 8)), ("to/plain", 0o1740, (7, 8))];
        let expected = expected.map(|(path, mode, owner)| (path.to_owned(), mode, owner));
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_contexts_directories_have_the_time_of_what_is_right_in_them() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("empty")).expect("mkdir");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
        let empty = std::fs::File::open(dir.path().join("empty")).expect("open");
        empty.set_modified(time).expect("touch");
        let entries = copied(dir.path(), "/to/", &Changes::default());
        let times: Vec<i64> = entries.iter().map(|entry| entry.mtime.seconds).collect();
        assert_eq!(times, [plan::EARLIEST.seconds], "there is no file");
        for (path, seconds) in [("a/b/old", 1), ("a/b/new", 5), ("a/c/one", 3), ("a/d/e/two", 4)] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("mkdir");
            let file = std::fs::File::create(path).expect("create");
            let time = std::time::Duration::from_secs(1_500_000_000 + seconds);
            file.set_modified(std::time::UNIX_EPOCH + time).expect("touch");
        }
        let entries = copied(dir.path(), "/to/", &Changes::default());

        let times: Vec<(String, i64)> = entries
            .iter()
            .filter(|entry| entry.kind == Kind::Directory)
            .map(|entry| {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                (path, entry.mtime.seconds - 1_500_000_000)
            })
            .collect();
        // Of "a" the content is copied. A directory of directories is as old as the oldest of them.
        let expected = [("to", 3), ("to/b", 5), ("to/c", 3), ("to/d", 4), ("to/d/e", 4)];
        assert_eq!(times, expected.map(|(path, time)| (path.to_owned(), time)));
    }
}
