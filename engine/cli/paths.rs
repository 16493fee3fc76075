//! Where things are kept when nothing says otherwise, and how they are mounted.

use std::path::PathBuf;

use anyhow::bail;
use cache::Store;
use cache::lower::Driver;
use engine::driver;

/// The store, as it was asked for.
pub(crate) struct Home {
    /// Where it is.
    pub(crate) root: PathBuf,
    /// How its layers are to be mounted, if not in the best way that works.
    pub(crate) driver: Option<Driver>,
}

impl Home {
    /// Opens the store and chooses how its layers are mounted.
    pub(crate) fn open(&self) -> anyhow::Result<Store> {
        let store = Store::open(&self.root)?;
        driver::choose(&store, self.driver)?;
        Ok(store)
    }
}

/// Refuses what only root can do; `what` is what that is.
pub(crate) fn need_root(what: &str) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("rbuild must run as root to {what}: no daemon does it in its place (try sudo)")
}

/// The directory that the program was started in, which may have been removed since.
pub(crate) fn current_dir() -> anyhow::Result<PathBuf> {
    std::env::current_dir().map_err(|error| {
        let link = std::fs::read_link("/proc/self/cwd").unwrap_or_default();
        match link.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
            Some(path) => anyhow::anyhow!(
                "the current directory {path} was removed: change to one that is there"
            ),
            None => anyhow::Error::new(error).context("cannot tell the current directory"),
        }
    })
}

/// Where everything is kept.
pub(crate) fn store_root(given: Option<PathBuf>) -> PathBuf {
    given.unwrap_or_else(|| {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/rbuild");
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        data.unwrap_or_else(|| home().join(".local/share")).join("rbuild")
    })
}

/// Where it is written down who uses which address: one place for the machine, whatever stores
/// there are, because the bridge is one too.
pub(crate) fn network_dir() -> PathBuf {
    PathBuf::from("/run/rbuild/networks")
}
