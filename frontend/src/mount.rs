//! `RUN --mount`: its options, read after variables in their values have been expanded.
//!
//! Knows neither stages nor the working directory: `from` is a name and `target` as written.

use crate::expand::Expander;
use crate::flags::{FieldsError, comma_fields};
use crate::mount_options::Options;
use crate::suggest::Suggestion;
use crate::words::WordError;

/// A `--mount` flag as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value, unexpanded.
    pub text: String,
    /// `from`, which may not have variables: the graph of stages must be known before any scope is.
    pub from: Option<String>,
}

/// A mount that a `RUN` asks for.
///
/// A relative target is meant from the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// `type=bind`: part of a stage, an image or the build context. What is written is discarded.
    Bind {
        /// Stage, image or named context; the build context otherwise.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// Where it appears.
        target: String,
        /// Whether it cannot be written.
        read_only: bool,
    },
    /// `type=cache`: a directory that later builds find again.
    Cache {
        /// What it is found by.
        id: String,
        /// Where it appears.
        target: String,
        /// Stage, image or named context that it begins as a copy of.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// Whether it cannot be written.
        read_only: bool,
        /// What happens when two steps use it at once.
        sharing: Sharing,
        /// Owner and mode of a new one.
        owner: Owner,
    },
    /// `type=tmpfs`: an empty file system in memory.
    Tmpfs {
        /// Where it appears.
        target: String,
        /// Its size in bytes.
        size: Option<u64>,
    },
    /// `type=secret`: a secret as a file, a variable or both.
    Secret {
        /// The secret's name.
        id: String,
        /// The file's path.
        target: Option<String>,
        /// The variable's name.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Owner and mode of the file.
        owner: Owner,
    },
    /// `type=ssh`: the socket of an agent.
    Ssh {
        /// The agent's name.
        id: String,
        /// The socket's path, if not the default one.
        target: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Owner and mode of the socket.
        owner: Owner,
    },
}

/// What happens when two steps use a cache mount at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Both use it.
    #[default]
    Shared,
    /// The second gets another one.
    Private,
    /// The second waits.
    Locked,
}

/// Owner and mode of what is mounted, where given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `mode`.
    pub mode: Option<u32>,
}

/// A `--mount` flag that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MountError {
    /// Quotes that do not match.
    #[error("failed to parse csv mounts: {0}")]
    Fields(FieldsError),
    /// A value whose variables cannot be expanded.
    #[error(transparent)]
    Word(WordError),
    /// A variable in `from`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    VariableFrom,
    /// A field that should have a value.
    #[error("invalid field '{field}' must be a key=value pair")]
    NotAPair {
        /// The field.
        field: String,
    },
    /// A type that does not exist.
    #[error("unsupported mount type {kind:?}{suggestion}")]
    Kind {
        /// The type.
        kind: String,
        /// A type that it may have meant.
        suggestion: Suggestion,
    },
    /// A sharing mode that does not exist.
    #[error("unsupported sharing value {sharing:?}{suggestion}")]
    Sharing {
        /// The mode.
        sharing: String,
        /// A mode that it may have meant.
        suggestion: Suggestion,
    },
    /// A value that its key does not take.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A number that cannot be read.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A key that does not exist.
    #[error("unexpected key '{key}' in '{field}'{suggestion}")]
    Key {
        /// The key.
        key: String,
        /// The field that it stands in.
        field: String,
        /// A key that it may have meant.
        suggestion: Suggestion,
    },
    /// A key that mounts of this type do not have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfKind {
        /// The key.
        key: String,
        /// The mount's type.
        kind: &'static str,
    },
    /// `mode`, `uid` or `gid` where nothing is made.
    #[error("{key} not allowed for {kind:?} type mounts")]
    Owner {
        /// The key.
        key: &'static str,
        /// The mount's type.
        kind: &'static str,
    },
    /// `sharing` on a mount that is not a cache.
    #[error("invalid cache sharing set for {kind} mount")]
    SharingOfKind {
        /// The mount's type.
        kind: &'static str,
    },
    /// A secret from a stage.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with a sharing mode.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without a name.
    #[error("invalid secret mount. one of source, target required")]
    SecretName,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretNames,
    /// An agent with a source.
    #[error("ssh does not support source")]
    SshSource,
}

impl MountFlag {
    /// Reads what must be known before variables are: `from`.
    pub(crate) fn parse(text: String) -> Result<Self, MountError> {
        let mut from = None;
        for field in comma_fields(&text).map_err(MountError::Fields)? {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            if key.to_lowercase() != "from" {
                continue;
            }
            // A dollar at the very end is no variable.
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(MountError::VariableFrom);
            }
            from = Some(value.to_owned());
        }
        Ok(Self { text, from: from.filter(|from| !from.is_empty()) })
    }
}

impl Mount {
    /// Expands the values of a flag's options and reads them.
    pub fn parse(flag: &MountFlag, expander: &mut Expander<'_>) -> Result<Self, MountError> {
        let mut options = Options::default();
        for field in comma_fields(&flag.text).map_err(MountError::Fields)? {
            match field.split_once('=') {
                None => options.set_alone(&field)?,
                Some((key, value)) => {
                    let value = expander.word(value).map_err(MountError::Word)?;
                    options.set(&field, &key.to_lowercase(), value)?;
                }
            }
        }
        options.into_mount()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| (name == "DIR").then(|| "/var/cache".to_owned());
        let mut expander = Expander::new('\\', &lookup);
        let found =
            MountFlag::parse(text.to_owned()).and_then(|flag| Mount::parse(&flag, &mut expander));
        let found = match found {
            Ok(mount) => {
                format!("{mount:?}").replace("Owner { uid: None, gid: None, mode: None }", "_")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn options_become_mounts() {
        check(
            "target=/src",
            r#"Bind { from: None, source: "/", target: "/src", read_only: true }"#,
        );
        check(
            "TYPE=Bind,from=deps,src=a,dst=/src,rw",
            r#"Bind { from: Some("deps"), source: "a", target: "/src", read_only: false }"#,
        );
        check(
            "type=cache,target=$DIR/apt/",
            r#"Cache { id: "/var/cache/apt", target: "/var/cache/apt/", from: None, source: "/", read_only: false, sharing: Shared, owner: _ }"#,
        );
        check(
            "type=cache,id=x,target=/x,sharing=Locked,mode=0700,uid=1,gid=2,ro=true",
            r#"Cache { id: "x", target: "/x", from: None, source: "/", read_only: true, sharing: Locked, owner: Owner { uid: Some(1), gid: Some(2), mode: Some(448) } }"#,
        );
        check("type=tmpfs,target=/tmp,size=1.5k", r#"Tmpfs { target: "/tmp", size: Some(1536) }"#);
        check(
            "type=secret,id=token",
            r#"Secret { id: "token", target: Some("/run/secrets/token"), env: None, required: false, owner: _ }"#,
        );
        check(
            "type=secret,target=/root/.netrc,required",
            r#"Secret { id: ".netrc", target: Some("/root/.netrc"), env: None, required: true, owner: _ }"#,
        );
        check(
            "type=secret,id=token,env=TOKEN",
            r#"Secret { id: "token", target: None, env: Some("TOKEN"), required: false, owner: _ }"#,
        );
        check("type=ssh", r#"Ssh { id: "default", target: None, required: false, owner: _ }"#);
    }

    #[test]
    fn wrong_options_are_refused() {
        check("type=binf", "unsupported mount type \"binf\" (did you mean bind?)");
        check(
            "type=cache,sharing=lock",
            "unsupported sharing value \"lock\" (did you mean locked?)",
        );
        check(
            "from=$X,target=/a",
            "'from' doesn't support variable expansion, define alias stage instead",
        );
        check("target", "invalid field 'target' must be a key=value pair");
        check("targt=/a", "unexpected key 'targt' in 'targt=/a' (did you mean target?)");
        check("target=/a,ro=maybe", "invalid value for ro: maybe");
        check("target=/a,size=1k", "unexpected key 'size' for mount type 'bind'");
        check("target=/a,required", "unexpected key 'required' for mount type 'bind'");
        check("type=tmpfs,target=/a,size=1x", "invalid value for size: 1x");
        check("type=cache,target=/a,mode=9", "invalid value 9 for mode");
        check("target=/a,uid=1", "uid not allowed for \"bind\" type mounts");
        check("target=/a,sharing=shared", "invalid cache sharing set for bind mount");
        check("type=secret,from=x,id=a", "secret mount should not have a from");
        check("type=secret,id=a,sharing=shared", "secret mount should not define sharing");
        check("type=secret", "invalid secret mount. one of source, target required");
        check("type=secret,id=a,source=b", "both source and id can't be set");
        check("type=ssh,source=b", "ssh does not support source");
        check(
            "a\"b",
            "failed to parse csv mounts: parse error on line 1, column 2: bare \" in non-quoted field",
        );
    }
}
