//! The store's `containers` directory: who is there, under which name, and who may be removed.
//!
//! Does not know how a container is started.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cache::digest::Digest;
use cache::{Store, TakenOut};
use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::boot::{boot_id, boot_time};
use super::record::Record;
use super::state::{NEVER, State, Status};
use super::{Error, Result, log, names};
use crate::place;

const CONFIG: &str = "config.json";
const STATE: &str = "state.json";

/// What a container whose monitor was killed is said to have ended with: its program was killed
/// with it.
const KILLED: i32 = 137;

/// What one that went down with the machine is said to have ended with; docker's choice.
const WITH_MACHINE: i32 = 255;

/// How such a container ended, and what is said to be the time of that.
const ENDED_WITH_MACHINE: &str =
    "the machine went down; the time of the end is that at which it came up again";
const ENDED_WITH_MONITOR: &str =
    "its monitor was killed; the time of the end is that at which it last wrote something";

/// The containers of a store.
pub struct Containers<'a> {
    /// The store.
    pub store: &'a Store,
    root: PathBuf,
}

/// A container, and what it is doing now.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What it was asked to be.
    pub record: Record,
    /// What it is doing, which its files may not say.
    pub state: State,
}

impl<'a> Containers<'a> {
    /// The containers of a store; makes their directory.
    pub fn open(store: &'a Store) -> Result<Self> {
        let root = store.root().join("containers");
        fs::create_dir_all(root.join("names"))?;
        keep_private(&root)?;
        Ok(Self { store, root })
    }

    /// A container's directory.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Keeps a new container and returns its record. Without a name it is given one.
    pub fn add(&self, mut record: Record) -> Result<Record> {
        if !record.name.is_empty() && !names::is_valid(&record.name) {
            return Err(Error::InvalidName(record.name));
        }
        self.store.check_upper()?;
        record.id = random_id()?;
        // As long as we live, nobody prunes what we are about to start.
        let pin = Digest::from_hex(&record.id).expect("an id has a digest's length");
        self.store.pin(&[pin])?;
        if record.config.hostname.is_empty() {
            record.config.hostname = record.short_id().to_owned();
        }
        let dir = self.store.scratch_dir()?;
        for name in ["upper", "work"] {
            fs::create_dir(dir.join(name))?;
        }
        // The mode of `/` in the container, whatever umask we run under.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.join("upper"), mode)?;
        let _lock = self.lock()?;
        self.claim_name(&mut record)?;
        let kept = self.keep(&record, &dir);
        if kept.is_err() {
            let _ = fs::remove_file(self.name_path(&record.name));
        }
        kept?;
        Ok(record)
    }

    /// Gives a new container its place. Its id is told to others next, so that no loss of power may
    /// take it back; what is removed when it ends need not outlive one.
    fn keep(&self, record: &Record, made_in: &Path) -> Result<()> {
        let place = self.dir(&record.id);
        if record.host_config.auto_remove {
            fs::write(made_in.join(CONFIG), json(record)?)?;
            return Ok(fs::rename(made_in, place)?);
        }
        write_config(made_in, record)?;
        self.sync_names()?;
        fs::rename(made_in, place)?;
        Ok(fs::File::open(&self.root)?.sync_all()?)
    }

    fn claim_name(&self, record: &mut Record) -> Result<()> {
        let given = !record.name.is_empty();
        for attempt in 0.. {
            if !given {
                record.name = names::generate(random()?, attempt);
            }
            match self.owner(&record.name) {
                Some(id) if given => {
                    return Err(Error::NameInUse { name: record.name.clone(), id });
                }
                Some(_) => {}
                None => {
                    self.link_name(&record.name, &record.id)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Who has a name. A name whose container is gone belongs to nobody.
    fn holder(&self, name: &str) -> Option<String> {
        let id = fs::read_link(self.name_path(name)).ok()?.to_str()?.to_owned();
        self.dir(&id).exists().then_some(id)
    }

    /// Who is called by a name: a rename that was killed on its way has left a second name to its
    /// container, which belongs to nobody.
    fn owner(&self, name: &str) -> Option<String> {
        let is_called = |id: &String| self.record(id).map_or(true, |record| record.name == name);
        self.holder(name).filter(is_called)
    }

    fn link_name(&self, name: &str, id: &str) -> Result<()> {
        let path = self.name_path(name);
        let _ = fs::remove_file(&path);
        Ok(symlink(id, path)?)
    }

    fn sync_names(&self) -> Result<()> {
        Ok(fs::File::open(self.root.join("names"))?.sync_all()?)
    }

    fn name_path(&self, name: &str) -> PathBuf {
        self.root.join("names").join(name)
    }

    fn lock(&self) -> Result<File> {
        let file = fs::File::create(self.root.join("lock"))?.into_parts().0;
        file.lock()?;
        Ok(file)
    }

    /// The id of a container by its name, its id or the beginning of its id.
    pub fn find(&self, name: &str) -> Result<String> {
        let wanted = name.strip_prefix('/').unwrap_or(name);
        let not_found = || Error::NotFound(name.to_owned());
        if wanted.is_empty() || wanted.contains('/') || wanted.starts_with('.') {
            return Err(not_found());
        }
        if is_id(wanted) && self.dir(wanted).exists() {
            return Ok(wanted.to_owned());
        }
        if let Some(id) = self.owner(wanted) {
            return Ok(id);
        }
        let mut found = self.ids()?.into_iter().filter(|id| id.starts_with(wanted));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(Error::Ambiguous(name.to_owned())),
            _ => Err(not_found()),
        }
    }

    /// All ids, in no order.
    pub fn ids(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            if let Ok(name) = entry?.file_name().into_string()
                && is_id(&name)
            {
                ids.push(name);
            }
        }
        Ok(ids)
    }

    /// What a container was asked to be.
    pub fn record(&self, id: &str) -> Result<Record> {
        read_json(&self.dir(id).join(CONFIG), id)
    }

    /// What a container's files say it is doing.
    pub(super) fn written_state(&self, id: &str) -> Result<State> {
        match read_json(&self.dir(id).join(STATE), id) {
            Err(Error::NotFound(_)) => Ok(State::default()),
            // It is not synced: after a loss of power it may be empty.
            Err(Error::Damaged { .. }) => Ok(State {
                status: Status::Exited,
                exit_code: WITH_MACHINE,
                error: ENDED_WITH_MACHINE.to_owned(),
                finished_at: boot_time().map_or(NEVER.to_owned(), |time| time.to_string()),
                ..State::default()
            }),
            state => state,
        }
    }

    /// Writes what a container is doing; for its monitor, or who holds a monitor's place. Not
    /// synced: after a loss of power nothing runs.
    pub(super) fn write_state(&self, id: &str, state: &State) -> Result<()> {
        let path = self.dir(id).join(STATE);
        let temp = path.with_extension("new");
        let bytes = json(state)?;
        let written = fs::write(&temp, &bytes).and_then(|()| fs::rename(&temp, &path));
        match written {
            // How it ended is worth more than that no reader ever sees half of it: a file that is
            // there already needs no more of a full disk.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let _ = fs::remove_file(&temp);
                Ok(write_over(&path, &bytes)?)
            }
            written => Ok(written?),
        }
    }

    /// A container and what it is doing.
    pub fn observe(&self, id: &str) -> Result<Observed> {
        let record = self.record(id)?;
        let mut state = self.written_state(id)?;
        if state.status.is_active() && !self.is_monitored(id)? {
            // Between the two looks it may have ended properly.
            state = self.written_state(id)?;
            if state.status.is_active() {
                state = self.ended_without_monitor(id, state);
            }
        }
        Ok(Observed { record, state })
    }

    /// All containers, the newest first; those that go meanwhile or cannot be read are left out.
    pub fn list(&self) -> Result<Vec<Observed>> {
        let ids = self.ids()?;
        let mut all: Vec<Observed> = ids.iter().filter_map(|id| self.observe(id).ok()).collect();
        all.sort_by(|a, b| b.record.created.cmp(&a.record.created));
        Ok(all)
    }

    /// What is true of a container whose monitor is gone. Nobody saw its end: if the machine went
    /// down with it, the next boot stands for that, as with docker.
    fn ended_without_monitor(&self, id: &str, mut state: State) -> State {
        let rebooted = state.boot != boot_id();
        let dir = self.dir(id);
        let last_sign = [dir.join(STATE), log::path(&dir, id)].iter().filter_map(modified).max();
        let started = state.started_at.parse().ok();
        let seen = if rebooted { boot_time() } else { None };
        // A file's times are coarser than the clock.
        let finished = [seen, last_sign, started].into_iter().flatten().max();
        state.finished_at = finished.map_or_else(|| NEVER.to_owned(), |time| time.to_string());
        state.status = Status::Exited;
        (state.exit_code, state.error) = match rebooted {
            true => (WITH_MACHINE, ENDED_WITH_MACHINE.to_owned()),
            false => (KILLED, ENDED_WITH_MONITOR.to_owned()),
        };
        state.pid = 0;
        state.networks.clear();
        state.ports.clear();
        state
    }

    /// Whether a container's monitor lives.
    pub fn is_monitored(&self, id: &str) -> Result<bool> {
        match fs::File::open(self.dir(id).join("lock")) {
            Ok(file) => {
                Ok(matches!(file.file().try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The name of the container whose monitor a process is, from when it begins to start it.
    pub(super) fn monitored_by(&self, pid: u32) -> Option<String> {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let links = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let id_of = |lock: PathBuf| lock.parent()?.file_name()?.to_str().map(str::to_owned);
        links
            .filter(|link| link.ends_with("lock"))
            .filter_map(|lock| id_of(lock.clone()).filter(|id| self.dir(id).join("lock") == lock))
            .find_map(|id| self.record(&id).ok())
            .map(|record| record.name)
    }

    /// Takes the place of a container's monitor; none if it has one. Those who only look hold the
    /// lock for moments.
    pub(super) fn hold(&self, id: &str) -> Result<Option<File>> {
        let path = self.dir(id).join("lock");
        let file = match fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)
        {
            Ok(file) => file.into_parts().0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        for _ in 0..50 {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(std::fs::TryLockError::WouldBlock) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Gives a container whose record is `before` the name that `after` has, and writes `after`.
    pub(super) fn write_renamed(&self, before: &Record, after: &Record) -> Result<()> {
        let _lock = self.lock()?;
        // It may have been removed, and its name with it, while we waited.
        self.record(&before.id)?;
        if let Some(id) = self.owner(&after.name) {
            return Err(Error::NameInUse { name: after.name.clone(), id });
        }
        self.link_name(&after.name, &after.id)?;
        let written =
            self.sync_names().and_then(|()| Ok(write_config(&self.dir(&after.id), after)?));
        let old = if written.is_ok() { &before.name } else { &after.name };
        let unlinked = self.unlink_name(old, &after.id);
        written.and(unlinked)
    }

    /// Removes a container that does not run, with its name. It is gone for all others at once;
    /// what returns is where its files are now, to be removed without haste.
    pub fn remove(&self, id: &str) -> Result<()> {
        let Some(_monitor) = self.hold(id)? else {
            return Err(Error::Running(self.record(id).map_or(id.to_owned(), |r| r.name)));
        };
        self.take_away(id).and_then(|away| Ok(away.remove()?))
    }

    /// Takes a container out of sight; its monitor's place must be held.
    pub(super) fn take_away(&self, id: &str) -> Result<TakenOut> {
        let _lock = self.lock()?;
        let name = self.record(id).map(|record| record.name).unwrap_or_default();
        let away = match self.store.take_out(&self.dir(id)) {
            // Somebody else has held its lock, and removed it, while we waited for that.
            Err(_) if !self.dir(id).exists() => return Err(Error::NotFound(id.to_owned())),
            taken => taken?,
        };
        // Not before: a container that is there has its name, wherever we are killed.
        if !name.is_empty() {
            self.unlink_name(&name, id)?;
        }
        Ok(away)
    }

    /// Takes a name away from a container that has it.
    fn unlink_name(&self, name: &str, id: &str) -> Result<()> {
        let path = self.name_path(name);
        if fs::read_link(&path).is_ok_and(|link| link.as_os_str() == id) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Keeps others than the owner out: in there are passwords in variables, what programs printed, and
/// programs that run with their owner's rights whoever starts them.
fn keep_private(root: &Path) -> io::Result<()> {
    let found = fs::metadata(root)?.permissions();
    if std::os::unix::fs::PermissionsExt::mode(&found) & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

fn modified(path: &PathBuf) -> Option<jiff::Timestamp> {
    jiff::Timestamp::try_from(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Writes over a file, and cuts it only afterwards.
fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.set_len(bytes.len() as u64)
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(crate) fn random_id() -> io::Result<String> {
    let bytes: [u8; 32] = random()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_json<T: DeserializeOwned>(path: &Path, id: &str) -> Result<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotFound(id.to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    serde_json::from_slice(&bytes).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        why: error.to_string(),
        id: id.to_owned(),
    })
}

/// Writes a container's record into its directory: readers see the old one or the whole new one,
/// also after a loss of power.
pub(super) fn write_config(dir: &Path, record: &Record) -> io::Result<()> {
    place::write(&dir.join(CONFIG), &json(record)?)
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}
