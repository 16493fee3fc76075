//! The options inside one `--mount` flag: which keys there are, and which type takes them.
//!
//! Values arrive expanded; order matters only where a key depends on the type before it.

use crate::flags::parse_bool;
use crate::mount::{Mount, MountError, Owner, Sharing};
use crate::path;
use crate::suggest;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Bind, Self::Cache, Self::Tmpfs, Self::Secret, Self::Ssh];

    fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// The options of one flag, of whatever type.
#[derive(Debug, Default)]
pub(crate) struct Options {
    kind: Kind,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    size: Option<u64>,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: bool,
    env: Option<String>,
    owner: Owner,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl Options {
    /// Takes an option without a value.
    pub(crate) fn set_alone(&mut self, field: &str) -> Result<(), MountError> {
        let key = field.to_lowercase();
        match key.as_str() {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.only_for(&key, &[Kind::Secret, Kind::Ssh])?;
                self.required = true;
            }
            _ => {
                return Err(MountError::NotAPair { field: field.to_owned() });
            }
        }
        Ok(())
    }

    /// Takes an option whose value is expanded; `field` is how it was written.
    pub(crate) fn set(&mut self, field: &str, key: &str, value: String) -> Result<(), MountError> {
        let given = |value: String| Some(value).filter(|value| !value.is_empty());
        match key {
            "type" => self.kind = parse_kind(&value)?,
            "from" => self.from = given(value),
            "source" | "src" => self.source = given(value),
            "target" | "dst" | "destination" => self.target = given(value),
            "id" => self.id = given(value),
            "env" => self.env = Some(value),
            "readonly" | "ro" => self.read_only = Some(truth(key, &value)?),
            "readwrite" | "rw" => self.read_only = Some(!truth(key, &value)?),
            "required" => {
                self.only_for(key, &[Kind::Secret, Kind::Ssh])?;
                self.required = truth(key, &value)?;
            }
            "size" => {
                self.only_for(key, &[Kind::Tmpfs])?;
                let invalid = || MountError::Value { key: key.to_owned(), value: value.clone() };
                self.size = Some(parse_size(&value).ok_or_else(invalid)?);
            }
            "sharing" => self.sharing = Some(parse_sharing(&value)?),
            "mode" => self.owner.mode = Some(number("mode", &value, 8)?),
            "uid" => self.owner.uid = Some(number("uid", &value, 10)?),
            "gid" => self.owner.gid = Some(number("gid", &value, 10)?),
            _ => {
                let suggestion = suggest::nearest(key, KEYS);
                return Err(MountError::Key {
                    key: key.to_owned(),
                    field: field.to_owned(),
                    suggestion,
                });
            }
        }
        Ok(())
    }

    fn only_for(&self, key: &str, kinds: &[Kind]) -> Result<(), MountError> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(MountError::KeyOfKind { key: key.to_owned(), kind: self.kind.name() })
    }

    /// Refuses what the type does not have.
    fn validate(&self) -> Result<(), MountError> {
        let kind = self.kind.name();
        if matches!(self.kind, Kind::Bind | Kind::Tmpfs) {
            let Owner { uid, gid, mode } = self.owner;
            for (key, value) in [("mode", mode), ("uid", uid), ("gid", gid)] {
                if value.is_some() {
                    return Err(MountError::Owner { key, kind });
                }
            }
        }
        match self.kind {
            Kind::Secret if self.from.is_some() => Err(MountError::SecretFrom),
            Kind::Secret if self.sharing.is_some() => Err(MountError::SecretSharing),
            Kind::Secret => match (&self.source, &self.target, &self.id) {
                (None, None, None) => Err(MountError::SecretName),
                (Some(_), _, Some(_)) => Err(MountError::SecretNames),
                _ => Ok(()),
            },
            Kind::Cache => Ok(()),
            _ if self.sharing.is_some() => Err(MountError::SharingOfKind { kind }),
            Kind::Ssh if self.source.is_some() => Err(MountError::SshSource),
            _ => Ok(()),
        }
    }

    /// Fills in the defaults of the type.
    pub(crate) fn into_mount(self) -> Result<Mount, MountError> {
        self.validate()?;
        Ok(match self.kind {
            Kind::Bind => Mount::Bind {
                from: self.from,
                source: self.source.unwrap_or_else(|| "/".to_owned()),
                target: self.target.unwrap_or_default(),
                read_only: self.read_only.unwrap_or(true),
            },
            Kind::Cache => self.into_cache(),
            Kind::Tmpfs => {
                Mount::Tmpfs { target: self.target.unwrap_or_default(), size: self.size }
            }
            Kind::Secret => self.into_secret(),
            Kind::Ssh => Mount::Ssh {
                id: self.id.unwrap_or_else(|| "default".to_owned()),
                target: self.target,
                required: self.required,
                owner: self.owner,
            },
        })
    }

    fn into_cache(self) -> Mount {
        let target = self.target.unwrap_or_default();
        Mount::Cache {
            id: self.id.unwrap_or_else(|| path::clean(&target)),
            target,
            from: self.from,
            source: self.source.unwrap_or_else(|| "/".to_owned()),
            read_only: self.read_only.unwrap_or(false),
            sharing: self.sharing.unwrap_or_default(),
            owner: self.owner,
        }
    }

    fn into_secret(self) -> Mount {
        let target = self.target;
        let named = self.source.or(self.id);
        let id =
            named.unwrap_or_else(|| path::base(target.as_deref().unwrap_or_default()).to_owned());
        // A secret that is a variable is a file as well only where a target says so.
        let as_file = || format!("/run/secrets/{}", path::base(&id));
        let target = target.or_else(|| self.env.is_none().then(as_file));
        let env = self.env.map(|env| if env.is_empty() { id.clone() } else { env });
        Mount::Secret { id, target, env, required: self.required, owner: self.owner }
    }
}

fn parse_kind(value: &str) -> Result<Kind, MountError> {
    let name = value.to_lowercase();
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| MountError::Kind {
        kind: value.to_owned(),
        suggestion: suggest::nearest(value, Kind::ALL.map(Kind::name)),
    })
}

fn parse_sharing(value: &str) -> Result<Sharing, MountError> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(MountError::Sharing {
            sharing: value.to_owned(),
            suggestion: suggest::nearest(value, ["shared", "private", "locked"]),
        }),
    }
}

fn truth(key: &str, value: &str) -> Result<bool, MountError> {
    parse_bool(value)
        .ok_or_else(|| MountError::Value { key: key.to_owned(), value: value.to_owned() })
}

fn number(key: &'static str, value: &str, radix: u32) -> Result<u32, MountError> {
    // Rust takes a leading plus sign where the reference does not.
    let digits = value.starts_with(|first: char| first.is_ascii_digit());
    let parsed = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    parsed.ok_or_else(|| MountError::Number { key, value: value.to_owned() })
}

/// Reads a size such as `64m`, `1.5 GiB` or `4096`; every unit is a power of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.rfind(|char: char| char.is_ascii_digit() || matches!(char, '.' | ' '))?;
    let (number, unit) = text.split_at(digits + 1);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    let unit = unit.to_lowercase();
    let exponent = match unit.as_str() {
        "" | "b" => 0,
        _ => 1 + "kmgtp".find(unit.chars().next()?)? as i32,
    };
    if exponent > 0 && !matches!(&unit[1..], "" | "b" | "ib") {
        return None;
    }
    (number >= 0.0).then(|| (number * 1024f64.powi(exponent)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (text, expected) in [
            ("0", Some(0)),
            ("32", Some(32)),
            ("32b", Some(32)),
            ("32 Kb", Some(32 << 10)),
            ("32MiB", Some(32 << 20)),
            ("1g", Some(1 << 30)),
            ("32bb", None),
            ("32kx", None),
            ("-1", None),
            ("m", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
