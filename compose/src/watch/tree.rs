//! Which paths change: inotify(7) on directories and all that is below them.
//!
//! What is to be watched need not be there: the nearest directory above it is watched until it is. The kernel may
//! forget what has happened when too much does; then everything counts as changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::cancel::Cancel;

/// When nothing has changed for so long, what has changed before is told.
const QUIET: Duration = Duration::from_millis(200);
/// Changes that never end are told of after this time.
const LONGEST: Duration = Duration::from_secs(3);

/// Why nothing can be watched any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no more room.
    #[error("cannot watch {0}: raise the limit: sysctl fs.inotify.max_user_watches=1048576")]
    TooMany(PathBuf),
    /// No watcher can be made.
    #[error("cannot watch files; perhaps fs.inotify.max_user_instances must be raised")]
    Start(#[source] io::Error),
    /// A directory cannot be watched.
    #[error("cannot watch {path}")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Changes cannot be read.
    #[error("cannot read which files have changed")]
    Read(#[source] io::Error),
}

/// Something that happened in a watched directory.
struct Event {
    watch: i32,
    flags: ReadFlags,
    /// What it happened to; nothing if that is the directory itself.
    name: Option<Vec<u8>>,
}

/// Files and directories that are watched.
pub struct Tree<'a> {
    events: OwnedFd,
    roots: BTreeSet<PathBuf>,
    /// Whether a directory and what is below it is of interest.
    enters: &'a (dyn Fn(&Path) -> bool + Sync),
    /// The watched directories by their watch descriptors; links may lead to one from several places.
    dirs: BTreeMap<i32, Vec<PathBuf>>,
    /// All that is there below the roots.
    known: BTreeSet<PathBuf>,
}

impl<'a> Tree<'a> {
    /// Watches roots, files or directories, from now on.
    pub fn watch(
        roots: BTreeSet<PathBuf>,
        enters: &'a (dyn Fn(&Path) -> bool + Sync),
    ) -> Result<Tree<'a>, Error> {
        let (dirs, known) = Default::default();
        let mut tree = Tree { events: new_events()?, roots, enters, dirs, known };
        tree.start()?;
        Ok(tree)
    }

    /// What is there below the roots.
    pub fn known(&self) -> &BTreeSet<PathBuf> {
        &self.known
    }

    /// Waits until files have changed and no more do for a moment; nothing once somebody wants to stop.
    pub fn next(&mut self, stop: &Cancel) -> Result<Option<BTreeSet<PathBuf>>, Error> {
        let mut changed = BTreeSet::new();
        let mut since = None;
        loop {
            let left =
                since.map(|since: Instant| LONGEST.saturating_sub(since.elapsed()).min(QUIET));
            let time = left.map(|left| Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut polled =
                [PollFd::new(&self.events, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            match poll(&mut polled, time.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::Read(errno.into())),
            }
            let [is_changed, is_over] = polled.map(|fd| !fd.revents().is_empty());
            if is_over {
                return Ok(None);
            }
            if is_changed {
                self.read(&mut changed)?;
                if !changed.is_empty() {
                    since.get_or_insert_with(Instant::now);
                }
            }
            if since.is_some_and(|since| !is_changed || since.elapsed() >= LONGEST) {
                return Ok(Some(changed));
            }
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        for root in self.roots.clone() {
            let above = root.ancestors().skip(1).find(|dir| dir.is_dir());
            self.enter(above.unwrap_or(Path::new("/")), &mut BTreeSet::new())?;
        }
        Ok(())
    }

    /// Watches a directory and those below it. What is found there is added, in case it came before the watch.
    fn enter(&mut self, dir: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            if !(self.enters)(&dir) || !self.add(&dir)? {
                continue;
            }
            // It may be gone again.
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let is_dir = match self.roots.iter().any(|root| root.starts_with(&path)) {
                    // Links on the way to what is watched are followed.
                    true => path.is_dir(),
                    false => entry.file_type().is_ok_and(|kind| kind.is_dir()),
                };
                self.note(&path, found);
                if is_dir {
                    open.push(path);
                }
            }
        }
        Ok(())
    }

    /// Watches one directory; whether it is there.
    fn add(&mut self, dir: &Path) -> Result<bool, Error> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.events, dir, flags) {
            Ok(watch) => {
                let dirs = self.dirs.entry(watch).or_default();
                let is_new = !dirs.iter().any(|it| it == dir);
                if is_new {
                    dirs.push(dir.to_owned());
                }
                Ok(is_new)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => Ok(false),
            Err(Errno::NOSPC) => Err(Error::TooMany(dir.to_owned())),
            Err(errno) => Err(Error::Watch { path: dir.to_owned(), source: errno.into() }),
        }
    }

    /// Remembers a path that is there, and adds it.
    fn note(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) {
        let is_below = self.roots.iter().any(|root| path.starts_with(root));
        // That something happened in a directory that is watched is told of what it happened to.
        if is_below && !(self.roots.contains(path) && path.is_dir()) {
            self.known.insert(path.to_owned());
            changed.insert(path.to_owned());
        }
    }

    /// Adds what has changed since the last time.
    fn read(&mut self, changed: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        for Event { watch, flags, name } in self.take()? {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                return self.restart(changed);
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.dirs.remove(&watch);
                continue;
            }
            let Some(name) = name else { continue };
            for dir in self.dirs.get(&watch).cloned().unwrap_or_default() {
                let path = dir.join(OsStr::from_bytes(&name));
                if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                    self.forget(&path, flags, changed);
                    continue;
                }
                let is_new = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                let is_root = self.roots.iter().any(|root| root.starts_with(&path));
                self.note(&path, changed);
                if is_new && (flags.contains(ReadFlags::ISDIR) || is_root) {
                    self.enter(&path, changed)?;
                }
            }
        }
        Ok(())
    }

    /// The events that wait to be read.
    fn take(&self) -> Result<Vec<Event>, Error> {
        let mut buffer = [MaybeUninit::uninit(); 64 << 10];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    events.push(Event { watch: event.wd(), flags: event.events(), name });
                }
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Read(errno.into())),
            }
        }
    }

    /// Forgets what is not there any more, and adds it.
    fn forget(&mut self, path: &Path, flags: ReadFlags, changed: &mut BTreeSet<PathBuf>) {
        let gone = self.known.range(path.to_owned()..).take_while(|it| it.starts_with(path));
        for gone in gone.cloned().collect::<Vec<_>>() {
            self.known.remove(&gone);
            changed.insert(gone);
        }
        if self.roots.iter().any(|root| path.starts_with(root)) {
            changed.insert(path.to_owned());
        }
        // The kernel itself forgets a directory that is removed, but not one that is elsewhere now.
        if flags.contains(ReadFlags::MOVED_FROM | ReadFlags::ISDIR) {
            let events = &self.events;
            self.dirs.retain(|watch, dirs| {
                dirs.retain(|dir| !dir.starts_with(path));
                if dirs.is_empty() {
                    let _ = inotify::remove_watch(events, *watch);
                }
                !dirs.is_empty()
            });
        }
    }

    /// Begins anew, because nobody knows what has happened.
    fn restart(&mut self, changed: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        changed.append(&mut self.known);
        self.dirs.clear();
        self.events = new_events()?;
        self.start()?;
        changed.extend(self.known.iter().cloned());
        Ok(())
    }
}

fn new_events() -> Result<OwnedFd, Error> {
    inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .map_err(|errno| Error::Start(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one action changes below a root, relative to it; the other directories are not watched.
    struct World {
        dir: PathBuf,
    }

    impl World {
        fn new(name: &str) -> World {
            let dir =
                std::env::temp_dir().join(format!("compose-tree-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).expect("made");
            World { dir: dir.canonicalize().expect("there") }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.join(name)
        }

        fn write(&self, name: &str) {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, name).expect("written");
        }

        fn told(&self, changed: Option<BTreeSet<PathBuf>>) -> Vec<String> {
            let changed = changed.expect("nobody has stopped it");
            let names = changed.iter().map(|path| path.strip_prefix(&self.dir).expect("below"));
            names.map(|name| name.display().to_string()).collect()
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn changes_are_told_wherever_they_are() {
        let world = World::new("changes");
        world.write("src/a");
        world.write("src/sub/b");
        world.write("src/closed/c");
        world.write("other/d");
        let (root, closed) = (world.path("src"), world.path("src/closed"));
        let enters = |dir: &Path| {
            root.starts_with(dir) || dir.starts_with(&root) && !dir.starts_with(&closed)
        };
        let mut tree = Tree::watch([root.clone()].into(), &enters).expect("watched");
        let stop = Cancel::new().expect("made");
        let mut check = |what: &dyn Fn(), expected: &[&str]| {
            what();
            let changed = tree.next(&stop).expect("read");
            assert_eq!(world.told(changed), expected);
        };
        check(
            &|| {
                world.write("other/d");
                world.write("src/closed/c");
                world.write("src/a");
                world.write("src/sub/b");
            },
            &["src/a", "src/sub/b"],
        );
        let save = || {
            world.write("src/a.new");
            std::fs::rename(world.path("src/a.new"), world.path("src/a")).expect("renamed");
        };
        check(&save, &["src/a", "src/a.new"]);
        check(&|| world.write("src/x/y/z"), &["src/x", "src/x/y", "src/x/y/z"]);
        check(&|| world.write("src/x/y/z"), &["src/x/y/z"]);
        let away = || std::fs::rename(world.path("src/x"), world.path("x")).expect("renamed");
        check(&away, &["src/x", "src/x/y", "src/x/y/z"]);
        let back = || {
            world.write("x/y/z");
            std::fs::rename(world.path("x"), world.path("src/w")).expect("renamed");
        };
        check(&back, &["src/w", "src/w/y", "src/w/y/z"]);
        check(&|| world.write("src/w/y/z"), &["src/w/y/z"]);
        let remove = || std::fs::remove_dir_all(world.path("src/w")).expect("removed");
        check(&remove, &["src/w", "src/w/y", "src/w/y/z"]);
        stop.cancel();
        assert_eq!(tree.next(&stop).expect("read"), None);
    }

    #[test]
    fn what_is_not_there_is_watched_once_it_comes_and_comes_again() {
        let world = World::new("absent");
        world.write("conf");
        let roots = BTreeSet::from([world.path("a/b"), world.path("conf")]);
        let enters =
            |dir: &Path| roots.iter().any(|root| root.starts_with(dir) || dir.starts_with(root));
        let mut tree = Tree::watch(roots.clone(), &enters).expect("watched");
        let stop = Cancel::new().expect("made");
        world.write("a/b/c");
        assert_eq!(world.told(tree.next(&stop).expect("read")), ["a/b/c"]);
        std::fs::remove_dir_all(world.path("a")).expect("removed");
        assert_eq!(world.told(tree.next(&stop).expect("read")), ["a/b", "a/b/c"]);
        world.write("a/b/d");
        assert_eq!(world.told(tree.next(&stop).expect("read")), ["a/b/d"]);
        world.write("conf");
        assert_eq!(world.told(tree.next(&stop).expect("read")), ["conf"]);
    }

    #[test]
    fn when_the_kernel_has_forgotten_everything_has_changed() {
        let world = World::new("forgotten");
        world.write("src/a");
        world.write("src/b");
        let roots = BTreeSet::from([world.path("src")]);
        let within = |dir: &Path| dir == world.dir || dir.starts_with(world.path("src"));
        let mut tree = Tree::watch(roots, &within).expect("watched");
        std::fs::remove_file(world.path("src/a")).expect("removed");
        let mut changed = BTreeSet::new();
        tree.restart(&mut changed).expect("anew");
        assert_eq!(world.told(Some(changed)), ["src/a", "src/b"]);
        world.write("src/c");
        let stop = Cancel::new().expect("made");
        assert_eq!(world.told(tree.next(&stop).expect("read")), ["src/c"]);
    }
}
