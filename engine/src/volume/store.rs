//! The store's `volumes` directory: making, listing and removing volumes.
//!
//! Who uses a volume is told by the caller. Does not look into a volume but to measure it.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cache::layer::walk::{HardLinks, Next, walk};
use cache::oci::StringMap;
use cache::removal::remove_dir_all;
use cache::{Store, TakenOut};
use fs_err as fs;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::api::{Kind, Volume};
use super::resolve::{Origin, Resolved};
use super::{ANONYMOUS, Error, Result, local};
use crate::events::{Event, emit};

const FILE: &str = "volume.json";
const UNCLAIMED: &str = ".unclaimed";
pub(super) const DATA: &str = "_data";

/// The driver there is.
const LOCAL: &str = "local";

/// The volumes of a store.
pub struct Volumes<'a> {
    store: &'a Store,
    root: PathBuf,
}

/// A volume to be made.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Its name; without one it gets 64 random digits and the label of the anonymous.
    pub name: Option<String>,
    /// Empty or `local`.
    pub driver: String,
    /// `type`, `device` and `o`.
    pub options: StringMap,
    /// Its labels.
    pub labels: StringMap,
}

/// The ids of the containers that use each volume.
pub type Users = BTreeMap<String, Vec<String>>;

/// Keeps volumes from being removed: held from the making of a volume until the container that uses
/// it is on record.
pub struct Hold {
    _lock: File,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The volumes' names.
    pub names: Vec<String>,
    /// The bytes they held.
    pub bytes: u64,
}

impl<'a> Volumes<'a> {
    /// The volumes of a store; makes their directory.
    pub fn open(store: &'a Store) -> Result<Self> {
        let root = store.root().join("volumes");
        // Files of containers, set-user-id ones too, are not for everybody on the host.
        match std::fs::DirBuilder::new().mode(0o701).create(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let what = format!("failed to create directory `{}`: {error}", root.display());
                Err(io::Error::new(error.kind(), what).into())
            }
            _ => Ok(Self { store, root }),
        }
    }

    /// Writes down that a volume goes unless a container has it: before it is made for one, or that one is removed. Whoever
    /// does so may be killed on the way; see [`sweep_unclaimed`](Self::sweep_unclaimed).
    pub fn unclaim(&self, _hold: &Hold, name: &str) -> Result<()> {
        let directory = self.root.join(UNCLAIMED);
        fs::create_dir_all(&directory)?;
        Ok(fs::write(directory.join(name), "")?)
    }

    /// Takes that back: a container has it, or it is to stay without one.
    pub fn claim(&self, _hold: &Hold, name: &str) -> Result<()> {
        self.forget(name)
    }

    fn forget(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.root.join(UNCLAIMED).join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Removes what was to go unless a container has it, and none has: its maker or remover was killed. Leaves that for
    /// another time when somebody makes or removes a volume at the moment, or it cannot be told who uses it. Costs a small
    /// read if there is nothing.
    pub fn sweep_unclaimed(&self, users: impl FnOnce() -> io::Result<Users>) -> Result<()> {
        if self.unclaimed()?.is_empty() {
            return Ok(());
        }
        // In this order: who makes a container holds the lock from before the first is written down until it has them all.
        let Some(alone) = self.alone_at_once()? else { return Ok(()) };
        let Ok(users) = users() else { return Ok(()) };
        let mut away = Vec::new();
        for name in self.unclaimed()? {
            let is_used = users.get(&name).is_some_and(|users| !users.is_empty());
            if !is_used && self.directory(&name).exists() {
                away.push(self.take_away(&name)?);
            }
            self.forget(&name)?;
        }
        drop(alone);
        for directory in away {
            directory.remove()?;
        }
        Ok(())
    }

    fn unclaimed(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(UNCLAIMED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// Waits until nobody removes volumes, and lets nobody begin.
    pub fn hold(&self) -> Result<Hold> {
        Ok(Hold { _lock: lock(&self.root.join(".lock"), File::lock_shared)? })
    }

    /// Makes a volume, or finds the one that has the name.
    pub fn create(&self, draft: Draft) -> Result<Volume> {
        let _hold = self.hold()?;
        let (name, mut labels) = (draft.name.unwrap_or_default(), draft.labels);
        let name = if name.is_empty() {
            label_anonymous(&mut labels);
            random_name()?
        } else {
            check_name(&name)?;
            name
        };
        if !["", LOCAL].contains(&draft.driver.as_str()) {
            return Err(Error::Driver { name, driver: draft.driver });
        }
        if let Some(known) = self.find(&name)? {
            return Ok(known);
        }
        local::check_options(&draft.options)
            .map_err(|why| Error::Option { name: name.clone(), why })?;
        let filled = |map: StringMap| Some(map).filter(|map| !map.is_empty());
        let volume = Volume {
            created_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            labels: filled(labels),
            options: filled(draft.options),
            ..self.plain(name)
        };
        self.publish(&volume)?;
        // Somebody else may have been first.
        self.get(&volume.name)
    }

    /// What all volumes have in common.
    fn plain(&self, name: String) -> Volume {
        Volume {
            driver: LOCAL.to_owned(),
            mountpoint: self.data(&name).to_string_lossy().into_owned(),
            scope: LOCAL.to_owned(),
            name,
            ..Volume::default()
        }
    }

    /// Makes a volume's directory and gives it its name, unless somebody has done so.
    fn publish(&self, volume: &Volume) -> Result<()> {
        let draft = self.store.scratch_dir()?;
        fs::create_dir(draft.join(DATA))?;
        fs::set_permissions(draft.join(DATA), PermissionsExt::from_mode(0o755))?;
        let bytes = serde_json::to_vec(volume).expect("a volume has string keys only");
        self.store.write_atomically(&draft.join(FILE), &bytes)?;
        let path = self.root.join(&volume.name);
        match renameat_with(CWD, &draft, CWD, &path, RenameFlags::NOREPLACE) {
            // What nobody named may be lost with the container that has it.
            Ok(()) if is_anonymous(volume) => {
                self.tell("create", &volume.name);
                Ok(())
            }
            Ok(()) => {
                self.tell("create", &volume.name);
                Ok(fs::File::open(&self.root)?.sync_all()?)
            }
            Err(Errno::EXIST) => Ok(remove_dir_all(draft)?),
            Err(errno) => Err(io::Error::other(format!(
                "failed to rename to `{}`: {}",
                path.display(),
                io::Error::from(errno)
            ))
            .into()),
        }
    }

    /// Finds a volume that must be there.
    pub fn get(&self, name: &str) -> Result<Volume> {
        self.find(name)?.ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    fn find(&self, name: &str) -> Result<Option<Volume>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.root.join(name).join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let mut volume: Volume = serde_json::from_slice(&bytes).map_err(|error| {
            Error::Damaged { name: name.to_owned(), path, why: error.to_string() }
        })?;
        // The store may have been moved.
        volume.mountpoint = self.data(name).to_string_lossy().into_owned();
        Ok(Some(volume))
    }

    /// All volumes, by name; of one whose file is damaged, what is known without it.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        let look = |name: &String| match self.find(name) {
            Err(Error::Damaged { name, .. }) => Some(Ok(self.plain(name))),
            found => found.transpose(),
        };
        names.iter().filter_map(look).collect()
    }

    /// Removes a volume that no container uses.
    pub fn remove(&self, name: &str, users: impl FnOnce() -> io::Result<Users>) -> Result<()> {
        let alone = self.alone()?;
        match self.get(name) {
            Ok(_) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(users) = users()?.remove(name).filter(|users| !users.is_empty()) {
            return Err(Error::InUse { name: name.to_owned(), users });
        }
        let away = self.take_away(name)?;
        drop(alone);
        Ok(away.remove()?)
    }

    /// Removes all volumes that `chosen` says yes to and no container uses.
    pub fn prune(
        &self,
        chosen: impl Fn(&Volume) -> bool,
        users: impl FnOnce() -> io::Result<Users>,
    ) -> Result<Pruned> {
        let alone = self.alone()?;
        let users = users()?;
        let unused = |volume: &Volume| users.get(&volume.name).is_none_or(Vec::is_empty);
        let (mut pruned, mut away) = (Pruned::default(), Vec::new());
        for volume in self.list()?.into_iter().filter(|volume| unused(volume) && chosen(volume)) {
            let bytes = self.size(&volume.name)?;
            away.push(self.take_away(&volume.name)?);
            pruned.bytes += bytes;
            pruned.names.push(volume.name);
        }
        drop(alone);
        for directory in away {
            directory.remove()?;
        }
        Ok(pruned)
    }

    fn alone(&self) -> Result<File> {
        lock(&self.root.join(".lock"), File::lock)
    }

    /// The same, unless somebody else has the lock.
    fn alone_at_once(&self) -> Result<Option<File>> {
        let file = open_lock(&self.root.join(".lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Takes a volume from its place, to be deleted when nobody waits for it.
    fn take_away(&self, name: &str) -> Result<TakenOut> {
        local::unmount(&self.data(name))?;
        let away = self.store.take_out(&self.directory(name))?;
        self.forget(name)?;
        self.tell("destroy", name);
        Ok(away)
    }

    fn tell(&self, action: &str, name: &str) {
        emit(self.store.root(), &Event::now("volume", action, name).with("driver", LOCAL));
    }

    /// The bytes of a volume's files, each counted once.
    pub fn size(&self, name: &str) -> Result<u64> {
        let root = fs::File::open(self.data(name))?;
        let (mut bytes, mut links) = (0, HardLinks::default());
        walk(std::os::fd::AsFd::as_fd(&root), |found| {
            if links.seen(found).is_none() && found.file_type().is_file() {
                bytes += u64::try_from(found.stat().st_size).unwrap_or_default();
            }
            Ok::<_, cache::layer::Error>(Next::Enter)
        })
        .map_err(|error| io::Error::other(format!("measure volume {name}: {error}")))?;
        Ok(bytes)
    }

    /// Makes the volumes of a container's mounts that do not exist, and says in the mounts where
    /// they are. Those that nobody named are to be claimed when the container is on record.
    pub fn provide(&self, hold: &Hold, resolved: &mut [Resolved]) -> Result<()> {
        for mount in resolved.iter_mut().filter(|mount| mount.point.kind == Kind::Volume) {
            let point = &mut mount.point;
            let volume = if mount.origin == Origin::VolumesFrom {
                self.get(&point.name)?
            } else {
                let mut options = mount.spec.volume_options.clone().unwrap_or_default();
                let mut name = point.name.clone();
                if name.is_empty() {
                    name = random_name()?;
                    label_anonymous(&mut options.labels);
                    self.unclaim(hold, &name)?;
                }
                self.create(Draft {
                    name: Some(name),
                    driver: point.driver.clone(),
                    options: options.driver_config.unwrap_or_default().options,
                    labels: options.labels,
                })?
            };
            (point.name, point.source, point.driver) =
                (volume.name, volume.mountpoint, volume.driver);
        }
        Ok(())
    }

    /// Mounts what the options of a container's volumes name, unless it is mounted.
    pub fn mount(&self, resolved: &[Resolved]) -> Result<()> {
        for mount in resolved.iter().filter(|mount| mount.point.kind == Kind::Volume) {
            let volume = self.get(&mount.point.name)?;
            if let Some(options) = &volume.options {
                let _lock = self.lock(&volume.name)?;
                local::mount(options, &self.data(&volume.name))?;
            }
        }
        Ok(())
    }

    /// Unmounts what is mounted for volumes that no running container uses.
    pub fn sweep(&self, running: impl FnOnce() -> io::Result<Users>) -> Result<()> {
        let with_options: Vec<Volume> =
            self.list()?.into_iter().filter(|volume| volume.options.is_some()).collect();
        if with_options.is_empty() {
            return Ok(());
        }
        let _alone = self.alone()?;
        let running = running()?;
        for volume in with_options {
            if running.get(&volume.name).is_none_or(Vec::is_empty) {
                local::unmount(&self.data(&volume.name))?;
            }
        }
        Ok(())
    }

    /// A volume's own directory.
    pub(super) fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.directory(name).join(DATA)
    }

    /// Waits to be the only one who changes what a volume begins with.
    pub(super) fn lock(&self, name: &str) -> Result<File> {
        lock(&self.directory(name).join("lock"), File::lock)
    }
}

/// Whether nobody gave a volume its name.
pub fn is_anonymous(volume: &Volume) -> bool {
    volume.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS))
}

fn label_anonymous(labels: &mut StringMap) {
    labels.insert(ANONYMOUS.to_owned(), String::new());
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    Ok(options.create(true).truncate(false).write(true).open(path)?.into_parts().0)
}

/// Opens and takes a lock, waiting for it; a signal does not end the waiting.
fn lock(path: &Path, take: fn(&File) -> io::Result<()>) -> Result<File> {
    let file = open_lock(path)?;
    while let Err(error) = take(&file) {
        if error.kind() != io::ErrorKind::Interrupted {
            let what = format!("failed to lock `{}`: {error}", path.display());
            return Err(io::Error::new(error.kind(), what).into());
        }
    }
    Ok(file)
}

fn check_name(name: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::Name { name: name.to_owned(), why });
    if name.len() == 1 {
        return refuse(
            "volume name is too short, names should be at least two alphanumeric characters"
                .to_owned(),
        );
    }
    let mut bytes = name.bytes();
    let valid = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !valid {
        return refuse(format!(
            "{name:?} includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, \
             use absolute path"
        ));
    }
    if name.len() > 255 {
        return refuse("volume name is too long, it must have 255 characters at most".to_owned());
    }
    Ok(())
}

fn random_name() -> Result<String> {
    let mut bytes = [0_u8; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a directory is where something is mounted.
pub(super) fn is_mount_point(directory: &Path) -> io::Result<bool> {
    let device = |path: &Path| fs::metadata(path).as_ref().map(Metadata::dev).map_err(|_| ());
    if device(directory) != device(&directory.join("..")) {
        return Ok(true);
    }
    // A bind from the same file system.
    let stat = rustix::fs::statx(
        CWD,
        directory,
        rustix::fs::AtFlags::empty(),
        rustix::fs::StatxFlags::empty(),
    )?;
    Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests;
