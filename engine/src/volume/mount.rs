//! `--mount`: the grammar of its value, and what daemon and command line of docker refuse in one.

use std::path::{Component, Path, PathBuf};

use cache::oci::StringMap;

use super::api::{
    BindOptions, DriverConfig, Kind, Mount, Propagation, TmpfsOptions, VolumeOptions,
};
use super::{Error, Result, csv};
use crate::units;

/// Reads the value of `--mount`. Relative sources of binds are meant from `directory`.
pub fn parse(text: &str, directory: &Path) -> Result<Mount> {
    read(text, directory).and_then(|mount| check_options(&mount).map(|()| mount)).map_err(|error| {
        match error {
            Fault::Text(text) => Error::Syntax(text),
            Fault::Config(error) => error,
        }
    })
}

enum Fault {
    Text(String),
    Config(Error),
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

fn read(text: &str, directory: &Path) -> std::result::Result<Mount, Fault> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".into());
    }
    let mut mount = Mount::default();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        check_spaces(&field, key, value)?;
        let key = key.to_lowercase();
        set(&mut mount, &field, &key, value, directory)?;
    }
    Ok(mount)
}

fn check_spaces(field: &str, key: &str, value: Option<&str>) -> std::result::Result<(), String> {
    let trimmed = key.trim();
    if trimmed != key {
        return Err(format!(
            "invalid option '{trimmed}' in '{field}': option should not have whitespace"
        ));
    }
    match value {
        Some(value) if value.trim().is_empty() => {
            Err(format!("invalid value for '{key}': value is empty"))
        }
        Some(value) if value.trim() != value => {
            Err(format!("invalid value for '{key}' in '{field}': value should not have whitespace"))
        }
        _ => Ok(()),
    }
}

/// Takes one `key=value` into the mount.
fn set(
    mount: &mut Mount,
    field: &str,
    key: &str,
    value: Option<&str>,
    directory: &Path,
) -> std::result::Result<(), Fault> {
    match key {
        "readonly" | "ro" => {
            mount.read_only = truth(key, value)?;
            return Ok(());
        }
        "volume-nocopy" => {
            volume(mount).no_copy = truth(key, value)?;
            return Ok(());
        }
        "bind-create-src" => {
            bind(mount).create_mountpoint = truth(key, value)?;
            return Ok(());
        }
        "bind-nonrecursive" => {
            return Err(
                "bind-nonrecursive is deprecated, use bind-recursive=disabled instead".into()
            );
        }
        _ => {}
    }
    let Some(value) = value else {
        return Err(format!("invalid field '{field}' must be a key=value pair").into());
    };
    let lower = value.to_lowercase();
    match key {
        "type" => match Kind::parse(&lower) {
            Some(kind) => mount.kind = kind,
            None => return Err(Fault::Config(Error::config(lower, "mount type unknown"))),
        },
        "source" | "src" => mount.source = source(value, directory),
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "consistency" => mount.consistency = lower,
        "bind-propagation" => match Propagation::parse(&lower) {
            Some(propagation) => bind(mount).propagation = Some(propagation),
            None => {
                let why = format!("invalid propagation mode: {lower}");
                return Err(Fault::Config(Error::config("bind", why)));
            }
        },
        "bind-recursive" => set_recursive(mount, key, value)?,
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-label" => insert(&mut volume(mount).labels, value),
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-opt" => insert(&mut driver(mount).options, value),
        "image-subpath" => {
            mount.image_options.get_or_insert_default().subpath = value.to_owned();
        }
        "tmpfs-size" => {
            let size = units::parse_memory(value);
            tmpfs(mount).size_bytes =
                size.map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8);
            tmpfs(mount).mode = mode.map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'").into()),
    }
    Ok(())
}

fn set_recursive(mount: &mut Mount, key: &str, value: &str) -> std::result::Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => bind(mount).non_recursive = true,
        "writable" => bind(mount).read_only_non_recursive = true,
        "readonly" => bind(mount).read_only_force_recursive = true,
        _ => {
            return Err(format!(
                "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \
                 \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn truth(key: &str, value: Option<&str>) -> std::result::Result<bool, String> {
    match value {
        None | Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(value) => Err(format!(
            "invalid value for '{key}': invalid boolean value ({value:?}): must be one of \
             \"true\", \"1\", \"false\", or \"0\" (default \"true\")"
        )),
    }
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn insert(map: &mut StringMap, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !key.is_empty() {
        map.insert(key.to_owned(), value.to_owned());
    }
}

/// A source that begins with a dot is a path.
pub(super) fn source(text: &str, directory: &Path) -> String {
    if !text.starts_with('.') {
        return text.to_owned();
    }
    clean(&directory.join(text)).to_string_lossy().into_owned()
}

/// A path without `.`, `..` and doubled slashes, as Go's `path.Clean`; links are not looked at.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some_and(|name| name != "..") => {
                clean.pop();
            }
            Component::ParentDir if clean.has_root() => {}
            component => clean.push(component),
        }
    }
    if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
}

/// What docker's command line refuses of options that are each right.
fn check_options(mount: &Mount) -> std::result::Result<(), Fault> {
    let of_others = [
        (Kind::Bind, mount.bind_options.is_some()),
        (Kind::Volume, mount.volume_options.is_some()),
        (Kind::Image, mount.image_options.is_some()),
        (Kind::Tmpfs, mount.tmpfs_options.is_some()),
    ];
    for (kind, given) in of_others {
        if given && kind != mount.kind {
            let (kind, other) = (kind.as_str(), mount.kind.as_str());
            return Err(format!("cannot mix '{kind}-*' options with mount type '{other}'").into());
        }
    }
    let Some(bind) = &mount.bind_options else { return Ok(()) };
    let needs_readonly = |option: &str| {
        Fault::Text(format!(
            "option 'bind-recursive={option}' requires 'readonly' to be specified in conjunction"
        ))
    };
    if bind.read_only_non_recursive && !mount.read_only {
        return Err(needs_readonly("writable"));
    }
    if bind.read_only_force_recursive {
        if !mount.read_only {
            return Err(needs_readonly("readonly"));
        }
        if bind.propagation != Some(Propagation::RPrivate) {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to \
                        be specified in conjunction"
                    .into(),
            );
        }
    }
    Ok(())
}

/// What docker's daemon refuses of a mount, whoever asks for it. Whether a source exists is not
/// looked at.
pub(super) fn validate(mount: &Mount) -> Result<()> {
    let refuse = |why: &str| Err(Error::config(mount.kind.as_str(), why));
    if mount.target.is_empty() {
        return refuse("field Target must not be empty");
    }
    if clean(Path::new(&mount.target)) == Path::new("/") {
        return refuse("invalid specification: destination can't be '/'");
    }
    check_absolute(mount.kind, &mount.target)?;
    if mount.target.contains('\0') || mount.source.contains('\0') {
        return refuse("a path must not have a NUL");
    }
    let subpath = match mount.kind {
        Kind::Bind => {
            if mount.source.is_empty() {
                return refuse("field Source must not be empty");
            }
            return check_absolute(mount.kind, &mount.source);
        }
        Kind::Tmpfs if !mount.source.is_empty() => {
            return refuse("field Source must not be specified");
        }
        Kind::Tmpfs => return Ok(()),
        Kind::Image if mount.source.is_empty() => return refuse("field Source must not be empty"),
        Kind::Image => mount.image_options.as_ref().map(|options| &options.subpath),
        Kind::Volume => mount.volume_options.as_ref().map(|options| &options.subpath),
    };
    let Some(subpath) = subpath.filter(|path| !path.is_empty()) else { return Ok(()) };
    if mount.source.is_empty() {
        return refuse("must not set Subpath when using anonymous volumes");
    }
    if !is_local(Path::new(subpath)) {
        return refuse("subpath must be a relative path within the volume");
    }
    Ok(())
}

fn check_absolute(kind: Kind, path: &str) -> Result<()> {
    if path.starts_with('/') {
        return Ok(());
    }
    let why = format!("invalid mount path: '{path}' mount path must be absolute");
    Err(Error::config(kind.as_str(), why))
}

/// Whether a path stays, by its words, in the directory it is meant from.
fn is_local(path: &Path) -> bool {
    !path.is_absolute() && clean(path).components().next() != Some(Component::ParentDir)
}

#[cfg(test)]
mod tests;
