//! Docker's `config.json`, of which only what is about credentials is understood. All the rest, and
//! the order of everything, stays.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::key::Key;
use super::{Credentials, Error, Secret, base64};

/// The file as it was read.
pub(super) struct Config {
    path: PathBuf,
    root: Map<String, Value>,
}

impl Config {
    /// Reads the file; one that is not there, or empty, says nothing.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
        };
        let mut config = Self { path: path.to_owned(), root: Map::new() };
        if !bytes.trim_ascii().is_empty() {
            config.root = serde_json::from_slice(&bytes)
                .map_err(|error| config.damaged(&error.to_string()))?;
        }
        Ok(config)
    }

    /// The name of the helper that keeps a registry's credentials, if they are not in the file.
    pub(super) fn helper(&self, key: &Key) -> Result<Option<String>, Error> {
        let own = self.root.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|helpers| find(helpers, key));
        let Some(name) = own.or_else(|| self.root.get("credsStore")) else { return Ok(None) };
        let name = name.as_str().ok_or_else(|| self.damaged("a helper's name is no text"))?;
        if name.contains('/') {
            return Err(self.damaged(&format!("{name:?} is not the name of a helper")));
        }
        Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
    }

    /// Whether the file lists a registry.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.auths().is_some_and(|auths| find(auths, key).is_some())
    }

    /// The credentials that the file itself has.
    pub(super) fn credentials(&self, key: &Key) -> Result<Option<Credentials>, Error> {
        let Some(entry) = self.auths().and_then(|auths| find(auths, key)) else { return Ok(None) };
        let text =
            |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (username, password) = match text("auth") {
            Some(auth) => decode(auth).ok_or_else(|| {
                self.damaged(&format!("\"auth\" of {:?} cannot be read; log in again", key.name()))
            })?,
            None => {
                let plain = |name| text(name).unwrap_or_default().to_owned();
                (plain("username"), plain("password"))
            }
        };
        let secret = match text("identitytoken") {
            Some(token) => Secret::IdentityToken(token.to_owned()),
            None if username.is_empty() => return Ok(None),
            None => Secret::Password(password),
        };
        Ok(Some(Credentials { username, secret }))
    }

    /// Puts credentials in, or no more than that somebody else keeps them.
    pub(super) fn put(&mut self, key: &Key, credentials: Option<&Credentials>) {
        let auths = self.root.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        let Some(auths) = auths.as_object_mut() else { return };
        // An entry by another name would be found before it, or after it was removed.
        auths.retain(|name, _| name == key.name() || !key.is(name));
        let entry = match credentials {
            None => json!({}),
            Some(Credentials { username, secret: Secret::Password(password) }) => {
                json!({"auth": base64::encode(format!("{username}:{password}").as_bytes())})
            }
            Some(Credentials { username, secret: Secret::IdentityToken(token) }) => json!({
                "auth": base64::encode(format!("{username}:").as_bytes()),
                "identitytoken": token,
            }),
        };
        auths.insert(key.name().to_owned(), entry);
    }

    /// Takes a registry out, under all its names.
    pub(super) fn erase(&mut self, key: &Key) {
        if let Some(auths) = self.root.get_mut("auths").and_then(Value::as_object_mut) {
            auths.retain(|name, _| !key.is(name));
        }
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.root.get("auths").and_then(Value::as_object)
    }

    fn damaged(&self, why: &str) -> Error {
        Error::Damaged { path: self.path.clone(), why: why.to_owned() }
    }
}

/// Reads, changes and writes the file, while nobody else who asks does. It is for its owner alone
/// then; a link to it stays.
pub(super) fn change(path: &Path, change: impl FnOnce(&mut Config)) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let target = end_of_links(path);
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let lock = File::open(dir).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut config = Config::read(path)?;
    let before = config.root.clone();
    change(&mut config);
    if config.root == before {
        return Ok(());
    }
    let mut bytes = Vec::new();
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, indented);
    serde::Serialize::serialize(&config.root, &mut writer).expect("keys are strings");
    replace(&target, &bytes).and_then(|()| lock.sync_all()).map_err(failed)
}

/// Puts a new file in the place of an old one, whose owner it gets as far as that is possible.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temp = path.with_file_name(name);
    // One of this name was left by somebody who is gone.
    let _ = std::fs::remove_file(&temp);
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temp)?;
        if let Ok(old) = std::fs::metadata(path) {
            let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written
}

/// Where a path leads, also if nothing is there yet.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as the kernel follows.
    for _ in 0..40 {
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    path
}

/// A registry's entry: the one by its own name, or by another one that means it.
fn find<'a>(entries: &'a Map<String, Value>, key: &Key) -> Option<&'a Value> {
    let other = || entries.iter().find(|(name, _)| key.is(name)).map(|(_, entry)| entry);
    entries.get(key.name()).or_else(other)
}

/// Reads `user:password` in base64.
fn decode(auth: &str) -> Option<(String, String)> {
    let plain = String::from_utf8(base64::decode(auth)?).ok()?;
    let (username, password) = plain.split_once(':')?;
    Some((username.to_owned(), password.trim_matches('\0').to_owned()))
}
