//! Names and passwords for registries, where docker keeps them: its `config.json`, or the programs
//! that this names (`docker-credential-*`).
//!
//! ```text
//! config    the file: read whole, changed in one key, everything else in it kept
//! helper    the programs and how they are spoken to
//! key       what a registry is called in the file
//! ```
//!
//! Does not know where the file is, nor whether what is in it opens anything.

mod base64;
mod config;
mod helper;
mod key;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Config;
use helper::Helper;
use key::Key;

/// How long a helper may take; it may have to ask a person.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who somebody is for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves who somebody is. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password, or a token in its place.
    Password(String),
    /// What the registry has given for a password, and changes for tokens (OAuth 2).
    IdentityToken(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::IdentityToken(_) => "IdentityToken(..)",
        })
    }
}

/// Where credentials have been put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file, where everybody who can read it can read them.
    InFile,
    /// With a helper.
    ByHelper,
}

/// Why credentials cannot be had, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the credentials in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not have the form it should have.
    #[error("{} is not what docker's config.json should be: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file cannot be written.
    #[error("cannot keep credentials in {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A helper cannot be started.
    #[error(
        "cannot start {program}, which {} has credentials kept by: install it, or take it out of \
         that file", path.display()
    )]
    StartHelper {
        /// The program.
        program: String,
        /// The file that names it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A helper has failed.
    #[error("{program} {verb} has failed for {registry}: {said}")]
    Helper {
        /// The program.
        program: String,
        /// What it was to do.
        verb: &'static str,
        /// What for.
        registry: String,
        /// What it said, or how it ended.
        said: String,
    },
    /// A helper does not end.
    #[error("{program} {verb} has not ended within {} seconds and was killed", limit.as_secs())]
    HelperTime {
        /// The program.
        program: String,
        /// What it was to do.
        verb: &'static str,
        /// How long it had.
        limit: Duration,
    },
}

/// The credentials of somebody's `config.json`.
#[derive(Clone, Debug)]
pub struct CredentialStore {
    config: PathBuf,
    patience: Duration,
    /// Where helpers are looked for, if not where this program's own `PATH` says.
    programs: Option<OsString>,
}

impl CredentialStore {
    /// The credentials of the file `config`, which need not exist.
    pub fn new(config: &Path) -> Self {
        Self { config: config.to_owned(), patience: PATIENCE, programs: None }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.config
    }

    /// Looks credentials up. `registry` is a host with its port, or an address as people write it;
    /// Docker Hub has several (see `key`).
    pub fn get(&self, registry: &str) -> Result<Option<Credentials>, Error> {
        let (key, config) = (Key::of(registry), Config::read(&self.config)?);
        match self.helper(&config, &key)? {
            Some(helper) => helper.get(key.name()),
            None => config.credentials(&key),
        }
    }

    /// Keeps credentials, and says where.
    pub fn put(&self, registry: &str, credentials: &Credentials) -> Result<Kept, Error> {
        let key = Key::of(registry);
        let helper = self.helper(&Config::read(&self.config)?, &key)?;
        if let Some(helper) = &helper {
            helper.store(key.name(), credentials)?;
        }
        // Docker lists what a helper keeps, without any secret.
        let in_file = if helper.is_none() { Some(credentials) } else { None };
        config::change(&self.config, |config| config.put(&key, in_file))?;
        Ok(if helper.is_some() { Kept::ByHelper } else { Kept::InFile })
    }

    /// Removes credentials; `false` when there were none.
    pub fn erase(&self, registry: &str) -> Result<bool, Error> {
        let (key, config) = (Key::of(registry), Config::read(&self.config)?);
        let mut found = false;
        if let Some(helper) = self.helper(&config, &key)? {
            found = helper.get(key.name())?.is_some();
            if found {
                helper.erase(key.name())?;
            }
        }
        if config.knows(&key) {
            found |= config.credentials(&key).map_or(true, |kept| kept.is_some());
            config::change(&self.config, |config| config.erase(&key))?;
        }
        Ok(found)
    }

    fn helper(&self, config: &Config, key: &Key) -> Result<Option<Helper<'_>>, Error> {
        let Some(name) = config.helper(key)? else { return Ok(None) };
        Ok(Some(Helper::new(&name, self)))
    }
}

#[cfg(test)]
mod tests;
