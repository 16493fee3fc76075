//! `-v` and `--volumes-from`: the grammars of their values.

use std::path::Path;

use super::api::{BindOptions, DriverConfig, Kind, Mount, Propagation, VolumeOptions};
use super::mount::{self, validate};
use super::{Error, Result};

/// What the value of `-v` is kept as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// One of `HostConfig.Binds`; a source that began with a dot is absolute.
    Bind(String),
    /// One of `Config.Volumes`: a volume without a name, at this path.
    Anonymous(String),
}

/// Reads the value of `-v` as far as docker's command line does. Relative sources are meant from
/// `directory`.
pub fn typed(text: &str, directory: &Path) -> Result<Typed> {
    if text.is_empty() {
        return Err(Error::Syntax("invalid empty volume spec".to_owned()));
    }
    let refuse = |why: &str| Err(Error::Syntax(format!("invalid spec: {text}: {why}")));
    let Some((source, target)) = text.split_once(':') else {
        return Ok(Typed::Anonymous(text.to_owned()));
    };
    if text.split(':').any(str::is_empty) {
        return refuse("empty section between colons");
    }
    if text.matches(':').count() > 2 {
        return refuse("too many colons");
    }
    Ok(Typed::Bind(format!("{}:{target}", mount::source(source, directory))))
}

/// A mount by `-v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What is mounted.
    pub mount: Mount,
    /// The options as they were typed.
    pub mode: String,
}

/// Reads one of `HostConfig.Binds`: `source:target[:options]`, the source an absolute path or
/// a volume's name.
pub fn parse(text: &str, volume_driver: &str) -> Result<Bind> {
    let refuse = || Err(Error::Specification(text.to_owned()));
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return refuse(),
        [target] => ("", target, ""),
        [_, mode] if Options::parse(mode).is_some() => return refuse(),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return refuse(),
    };
    let Some(options) = Options::parse(mode) else {
        return Err(Error::Mode(mode.to_owned()));
    };
    let kind = if source.starts_with('/') { Kind::Bind } else { Kind::Volume };
    let mut mount = Mount {
        kind,
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: options.read_only,
        ..Mount::default()
    };
    let foreign = match (kind, options.no_copy, options.propagation) {
        (Kind::Volume, _, Some(_)) => Some("BindOptions"),
        (Kind::Bind, true, _) => Some("VolumeOptions"),
        _ => None,
    };
    if let Some(field) = foreign {
        let why = format!("field {field} must not be specified");
        return Err(of(text, &Error::config(kind.as_str(), why)));
    }
    if kind == Kind::Volume && (options.no_copy || !volume_driver.is_empty()) {
        let driver = DriverConfig { name: volume_driver.to_owned(), ..DriverConfig::default() };
        let driver_config = (!volume_driver.is_empty()).then_some(driver);
        mount.volume_options = Some(VolumeOptions {
            no_copy: options.no_copy,
            driver_config,
            ..VolumeOptions::default()
        });
    }
    if let Some(propagation) = options.propagation {
        mount.bind_options =
            Some(BindOptions { propagation: Some(propagation), ..BindOptions::default() });
    }
    validate(&mount).map_err(|error| of(text, &error))?;
    Ok(Bind { mount, mode: mode.to_owned() })
}

fn of(text: &str, error: &Error) -> Error {
    Error::SpecificationOf { text: text.to_owned(), why: error.to_string() }
}

/// Another container's mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The container, as it was named.
    pub container: String,
    /// Whether they can only be read here.
    pub read_only: bool,
}

/// Reads the value of `--volumes-from`: `container[:options]`.
pub fn volumes_from(text: &str) -> Result<From> {
    if text.is_empty() {
        return Err(Error::Syntax(
            "volumes-from specification cannot be an empty string".to_owned(),
        ));
    }
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    match Options::parse(mode) {
        Some(options) if options.propagation.is_none() && !options.no_copy => {
            Ok(From { container: container.to_owned(), read_only: options.read_only })
        }
        _ => Err(Error::Mode(mode.to_owned())),
    }
}

/// What may stand behind the target, each kind once.
#[derive(Default)]
struct Options {
    read_only: bool,
    no_copy: bool,
    propagation: Option<Propagation>,
}

impl Options {
    fn parse(mode: &str) -> Option<Self> {
        let mut options = Self::default();
        let mut kinds = Vec::new();
        for word in mode.split(',').filter(|_| !mode.is_empty()) {
            let kind = match word {
                "ro" | "rw" => "access",
                "z" | "Z" => "label",
                "nocopy" => "copy",
                "consistent" | "cached" | "delegated" => "consistency",
                _ => {
                    options.propagation = Some(Propagation::parse(word)?);
                    "propagation"
                }
            };
            if kinds.contains(&kind) {
                return None;
            }
            kinds.push(kind);
            options.read_only |= word == "ro";
            options.no_copy |= word == "nocopy";
        }
        Some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_begins_with_a_dot_is_a_path() {
        let bind = |text: &str| Typed::Bind(text.to_owned());
        for (text, expected) in [
            ("/x", Typed::Anonymous("/x".to_owned())),
            ("./a:/x", bind("/here/a:/x")),
            ("../a:/x:ro,z", bind("/a:/x:ro,z")),
            (".:/x", bind("/here:/x")),
            ("a:/x", bind("a:/x")),
            ("a/b:/x", bind("a/b:/x")),
            ("/a/../b:/x:rw", bind("/a/../b:/x:rw")),
        ] {
            assert_eq!(typed(text, Path::new("/here")).expect(text), expected);
        }
        for (text, expected) in [
            ("", "invalid empty volume spec"),
            ("/a::/b", "invalid spec: /a::/b: empty section between colons"),
            ("/a:", "invalid spec: /a:: empty section between colons"),
            ("/a:/b:ro:rw", "invalid spec: /a:/b:ro:rw: too many colons"),
        ] {
            assert_eq!(typed(text, Path::new("/")).expect_err(text).to_string(), expected);
        }
    }

    #[test]
    fn binds_are_read_as_the_daemon_does() {
        for text in [
            "/home",
            "/home:/something/else",
            "/home:/with space",
            "relative:/absolute-path",
            "hostPath:/containerPath:ro",
            "/rw:/ro",
            "/hostPath:/containerPath:rshared",
            "/hostPath:/containerPath:slave,Z,ro",
            "/hostPath:/containerPath:Z,rslave,ro,cached",
            "name:/path:nocopy",
        ] {
            assert!(parse(text, "").is_ok(), "{text}: {:?}", parse(text, ""));
        }
        for (text, expected) in [
            ("", "invalid volume specification"),
            ("./", "mount path must be absolute"),
            ("/:../", "mount path must be absolute"),
            ("/:path", "mount path must be absolute"),
            (":", "invalid volume specification"),
            ("/tmp:", "invalid volume specification"),
            (":/test", "invalid volume specification"),
            ("/tmp:::", "invalid volume specification"),
            ("/path:rw", "invalid volume specification"),
            ("path:ro", "invalid volume specification"),
            ("/path:slave", "invalid volume specification"),
            ("/path:/path:sw", "invalid mode: sw"),
            ("/path:/path:rwz", "invalid mode: rwz"),
            ("/path:/path:ro,rshared,rslave", "invalid mode: ro,rshared,rslave"),
            ("/path:/path:ro,", "invalid mode: ro,"),
            ("name:/absolute-path:shared", "field BindOptions must not be specified"),
            ("/path:/path:nocopy", "field VolumeOptions must not be specified"),
            ("/path:/", "destination can't be '/'"),
            (
                "/tmp:tmp",
                "invalid volume specification: '/tmp:tmp': invalid mount config for type \
                 \"bind\": invalid mount path: 'tmp' mount path must be absolute",
            ),
        ] {
            let error = parse(text, "local").expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_bind_says_all_that_was_typed() {
        let bind = parse("/a:/b:ro,rslave", "").expect("parse");
        assert_eq!(bind.mode, "ro,rslave");
        assert_eq!(
            serde_json::to_value(&bind.mount).expect("JSON"),
            serde_json::json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                               "BindOptions": {"Propagation": "rslave"}})
        );
        let volume = parse("name:/b:nocopy", "local").expect("parse");
        assert_eq!(
            serde_json::to_value(&volume.mount).expect("JSON"),
            serde_json::json!({"Type": "volume", "Source": "name", "Target": "/b",
                               "VolumeOptions": {"NoCopy": true,
                                                 "DriverConfig": {"Name": "local"}}})
        );
    }

    #[test]
    fn volumes_come_from_a_container_with_or_without_being_written() {
        for (text, expected) in [
            ("web", Ok(("web", false))),
            ("web:", Ok(("web", false))),
            ("web:ro,z", Ok(("web", true))),
            ("web:rw", Ok(("web", false))),
            ("web:nocopy", Err("invalid mode: nocopy")),
            ("web:shared", Err("invalid mode: shared")),
            ("web:no", Err("invalid mode: no")),
            ("", Err("volumes-from specification cannot be an empty string")),
        ] {
            let found = volumes_from(text);
            let found = found.as_ref().map(|from| (from.container.as_str(), from.read_only));
            assert_eq!(
                found.map_err(ToString::to_string),
                expected.map_err(str::to_owned),
                "{text}"
            );
        }
    }
}
