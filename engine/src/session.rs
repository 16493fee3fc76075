//! What a build works with beside its definition: the store, the caller's directories and secrets,
//! the network, and whoever listens. Everything that differs from machine to machine is here.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use cache::Store;
use cache::digest::Digest;
use cache::lower::Lower;

use crate::cache_transfer::Imports;
use crate::container::Zygote;
use crate::mounted::Mounts;
use crate::network::{DEFAULT_BRIDGE, Lease, NetworkPool, Subnets};
use crate::progress::Listener;
use crate::source::Access;
use crate::ssh_agent::Agent;

/// What a build works with.
pub struct Session<'a> {
    /// Where layers, records and cache mounts are.
    pub store: &'a Store,
    /// The caller's directories by the names the definition uses.
    pub contexts: BTreeMap<String, Context>,
    /// Layers that are mounted.
    pub mounts: Mounts,
    /// Results that were made elsewhere.
    pub imports: &'a Imports<'a>,
    /// Secrets by their ids.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Ssh agents by their ids.
    pub ssh: BTreeMap<String, Agent>,
    /// What fetching from elsewhere may use.
    pub access: Access<'a>,
    /// How many vertices run at once.
    pub jobs: usize,
    /// Times later than this are lowered to it, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Networks for steps that want one.
    pub networks: &'a Networks,
    /// What starts the steps' containers.
    pub zygote: Zygote,
    /// Ends the build early.
    pub cancel: &'a Cancel,
    /// Who is told.
    pub listener: Listener<'a>,
}

impl Session<'_> {
    /// Ends it after a build that went well. What takes long to be unmounted or removed is so beside
    /// what the caller does then, and after that.
    pub fn end(self) {
        self.zygote.leave(self.mounts.into_descriptors(), || self.store.leave_discarded());
    }

    /// What overlay makes the file system of these layers of, the uppermost first.
    pub(crate) fn lower(&self, layers: &[Digest]) -> cache::Result<Vec<Lower>> {
        Ok(self.mounts.mounted(self.store.lower(layers)?))
    }

    /// The same for an overlay with an upper directory.
    pub(crate) fn lower_of_upper(&self, layers: &[Digest]) -> cache::Result<Vec<Lower>> {
        Ok(self.mounts.mounted(self.store.lower_of_upper(layers)?))
    }
}

/// A directory of the caller's.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where it is.
    pub dir: PathBuf,
    /// What of it is not there.
    pub ignore: Vec<String>,
}

/// Gives out networks; nothing is made before the first is asked for.
pub struct Networks {
    directory: PathBuf,
    ahead: usize,
    pool: OnceLock<NetworkPool>,
}

impl Networks {
    /// Keeps its state in `directory`; makes `ahead` networks as soon as one is asked for.
    pub fn new(directory: &Path, ahead: usize) -> Self {
        Self { directory: directory.to_owned(), ahead, pool: OnceLock::new() }
    }

    /// Lends a network, which goes on to the next step afterwards.
    pub fn take(&self) -> Result<Lease, crate::network::Error> {
        self.pool().take()
    }

    /// Lends a network that nobody has after this step: for who has the power to change it.
    pub fn take_alone(&self) -> Result<Lease, crate::network::Error> {
        NetworkPool::new(&self.directory, DEFAULT_BRIDGE, Subnets::Free, 0).take()
    }

    /// Begins to make networks, so that they are there when they are asked for.
    pub fn prepare(&self) {
        self.pool();
    }

    fn pool(&self) -> &NetworkPool {
        self.pool.get_or_init(|| {
            NetworkPool::new(&self.directory, DEFAULT_BRIDGE, Subnets::Free, self.ahead)
        })
    }
}

/// Ends a build early: what runs is killed, what waits is not begun.
#[derive(Default)]
pub struct Cancel {
    canceled: AtomicBool,
    running: Mutex<BTreeMap<u64, OwnedFd>>,
}

impl Cancel {
    /// Whether the build is to end.
    pub fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::SeqCst)
    }

    /// The same for who has to look at it often.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.canceled
    }

    /// Ends the build. May be called from any thread, and more than once.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::SeqCst);
        for process in self.running.lock().expect("no holder panics").values() {
            kill(process);
        }
    }

    /// Runs `work` while the process behind `pidfd` is killed if the build ends.
    pub(crate) fn guard<T>(&self, pidfd: OwnedFd, work: impl FnOnce() -> T) -> T {
        let mut running = self.running.lock().expect("no holder panics");
        // Between the look at the flag and the entry in the list nobody can cancel: the lock.
        if self.is_canceled() {
            kill(&pidfd);
        }
        let id = running.last_key_value().map_or(0, |(last, _)| last + 1);
        running.insert(id, pidfd);
        drop(running);
        let done = work();
        self.running.lock().expect("no holder panics").remove(&id);
        done
    }
}

fn kill(process: &OwnedFd) {
    // One that has ended needs no killing.
    let _ = rustix::process::pidfd_send_signal(process.as_fd(), rustix::process::Signal::KILL);
}
