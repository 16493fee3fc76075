//! The Container Device Interface: devices that vendors describe in files, by names such as
//! `nvidia.com/gpu=all` (`--device`, `--gpus`).
//!
//! What a name means is a value made of [`Edits`], which the caller adds to a specification. A
//! node's owner and mode are those it has on the host. Hooks are refused: they are programs of the
//! host's that would run with all its privileges.

mod yaml;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::options::OptionError;
use super::spec::{Device, Mount, MountSource};

/// Where descriptions are, those in later ones first.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// A device of that kind cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CdiError {
    /// A description cannot be read.
    #[error("read the device descriptions")]
    Read(#[from] io::Error),
    /// A description is not in the form it must have.
    #[error("{path}: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No description has these names.
    #[error("CDI device injection failed: unresolvable CDI devices {0}")]
    Unresolvable(String),
    /// Two descriptions have the name.
    #[error("CDI device {name} is described by both {} and {}", first.display(), second.display())]
    Conflict {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A description asks for more than devices, mounts, variables and groups.
    #[error("{path}: CDI device {name} asks for {edit}, which is not supported", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The device, or the kind if it is for all of them.
        name: String,
        /// As `hooks`.
        edit: String,
    },
    /// A node's permissions are not of `rwm`.
    #[error(transparent)]
    Access(#[from] OptionError),
}

/// What devices change in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Libraries and sockets of the host's.
    pub mounts: Vec<Mount>,
    /// Groups of the process.
    pub additional_groups: Vec<String>,
}

/// All descriptions of a machine.
#[derive(Debug, Default)]
pub struct Registry {
    /// By rank, the highest first.
    files: Vec<(usize, PathBuf, Description)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    kind: String,
    devices: Vec<DescribedDevice>,
    #[serde(default)]
    container_edits: DescribedEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribedDevice {
    name: String,
    #[serde(default)]
    container_edits: DescribedEdits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DescribedEdits {
    env: Vec<String>,
    device_nodes: Vec<DescribedNode>,
    mounts: Vec<DescribedMount>,
    additional_gids: Vec<u32>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribedNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribedMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Whether a `--device` names one of these and not a file: `vendor/class=name`.
pub fn is_qualified_name(text: &str) -> bool {
    let plain = |part: &str| {
        part.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.:".contains(letter))
    };
    text.split_once('=').is_some_and(|(kind, name)| {
        plain(name)
            && kind.split_once('/').is_some_and(|(vendor, class)| plain(vendor) && plain(class))
    })
}

impl Registry {
    /// Reads all descriptions in directories; one that does not exist has none.
    pub fn load(directories: &[&Path]) -> Result<Registry, CdiError> {
        let mut files = Vec::new();
        for (rank, directory) in directories.iter().enumerate() {
            let entries = match fs_err::read_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                let extension = path.extension().and_then(|extension| extension.to_str());
                if matches!(extension, Some("json" | "yaml")) {
                    files.push((
                        rank,
                        path.clone(),
                        parse(&path, &fs_err::read_to_string(&path)?)?,
                    ));
                }
            }
        }
        files.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        Ok(Registry { files })
    }

    /// What devices of these names change, in order; what they have in common once.
    pub fn edits(&self, names: &[String]) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        let mut used: Vec<&Path> = Vec::new();
        let mut unresolvable = Vec::new();
        for name in names {
            let Some((path, description, device)) = self.find(name)? else {
                unresolvable.push(name.as_str());
                continue;
            };
            if !used.contains(&path) {
                used.push(path);
                edits.add(path, &description.kind, &description.container_edits)?;
            }
            edits.add(path, name, &device.container_edits)?;
        }
        match unresolvable.is_empty() {
            true => Ok(edits),
            false => Err(CdiError::Unresolvable(unresolvable.join(", "))),
        }
    }

    fn find(
        &self,
        name: &str,
    ) -> Result<Option<(&Path, &Description, &DescribedDevice)>, CdiError> {
        let Some((kind, device)) = name.split_once('=') else {
            return Ok(None);
        };
        let mut found = self.files.iter().filter_map(|(rank, path, description)| {
            let described = description.devices.iter().find(|it| it.name == device)?;
            (description.kind == kind).then_some((*rank, path.as_path(), description, described))
        });
        let Some((rank, path, description, described)) = found.next() else {
            return Ok(None);
        };
        match found.next() {
            Some((same, second, ..)) if same == rank => Err(CdiError::Conflict {
                name: name.to_owned(),
                first: path.to_owned(),
                second: second.to_owned(),
            }),
            _ => Ok(Some((path, description, described))),
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Description, CdiError> {
    let malformed = |reason| CdiError::Malformed { path: path.to_owned(), reason };
    // JSON is YAML, but not of the kind that is read here.
    let value: Value = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?,
        false => yaml::parse(text).map_err(malformed)?,
    };
    serde_json::from_value(value).map_err(|error| malformed(error.to_string()))
}

impl Edits {
    fn add(&mut self, path: &Path, name: &str, edits: &DescribedEdits) -> Result<(), CdiError> {
        let unsupported = |edit: &str| CdiError::Unsupported {
            path: path.to_owned(),
            name: name.to_owned(),
            edit: edit.to_owned(),
        };
        let is_empty =
            |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if let Some((edit, _)) = edits.others.iter().find(|(_, value)| !is_empty(value)) {
            return Err(unsupported(edit));
        }
        self.env.extend(edits.env.iter().cloned());
        self.additional_groups.extend(edits.additional_gids.iter().map(u32::to_string));
        for node in &edits.device_nodes {
            self.devices.push(Device {
                host: node.host_path.as_ref().unwrap_or(&node.path).clone(),
                container: node.path.clone(),
                access: node.permissions.as_deref().unwrap_or("rwm").parse()?,
            });
        }
        for mount in &edits.mounts {
            if mount.kind.as_deref().is_some_and(|kind| !matches!(kind, "" | "bind" | "none")) {
                return Err(unsupported("a mount that is not of files of the host"));
            }
            self.mounts.push(Mount {
                target: mount.container_path.clone(),
                source: MountSource::Bind(mount.host_path.clone()),
                read_only: mount.options.iter().any(|option| option == "ro"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULLS: &str = "---\ncdiVersion: 0.6.0\nkind: example.com/null\n# Two of them.\ndevices:\n\
        - name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/null0\n      hostPath: /dev/null\n      \
        permissions: rw\n- name: all\n  containerEdits:\n    deviceNodes:\n      - path: /dev/null\n    \
        additionalGids: [44, 45]\ncontainerEdits:\n  env:\n    - \"NULLS=some: value\"\n  mounts:\n    - \
        hostPath: /usr/lib/libnull.so\n      containerPath: /lib/libnull.so\n      options:\n        - ro\n        \
        - bind\n";

    fn registry(files: &[(&str, &str)]) -> Result<Registry, CdiError> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let (low, high) = (directory.path().join("etc"), directory.path().join("run"));
        Registry::load(&[&low, &high])
    }

    fn edits(files: &[(&str, &str)], names: &[&str]) -> Result<Edits, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let edits = registry(files).and_then(|registry| registry.edits(&names));
        edits.map_err(|error| {
            let text = error.to_string();
            text.rsplit_once("/etc/").map_or(text.clone(), |(_, rest)| rest.to_owned())
        })
    }

    #[test]
    fn devices_are_found_by_their_qualified_names() {
        let names = ["example.com/null=0", "example.com/null=all"];
        let node = |host: &str, container: &str, access: &str| Device {
            host: host.into(),
            container: container.into(),
            access: access.parse().unwrap(),
        };
        let expected = Edits {
            env: vec!["NULLS=some: value".to_owned()],
            devices: vec![
                node("/dev/null", "/dev/null0", "rw"),
                node("/dev/null", "/dev/null", "rwm"),
            ],
            mounts: vec![Mount {
                target: "/lib/libnull.so".into(),
                source: MountSource::Bind("/usr/lib/libnull.so".into()),
                read_only: true,
            }],
            additional_groups: vec!["44".to_owned(), "45".to_owned()],
        };
        assert_eq!(edits(&[("etc/nulls.yaml", NULLS)], &names).unwrap(), expected);
        assert!(names.iter().all(|name| is_qualified_name(name)));
        assert!(!is_qualified_name("/dev/null") && !is_qualified_name("a/b=c/d"));
    }

    #[test]
    fn the_later_directory_counts_and_conflicts_are_refused() {
        let json = |variable: &str| {
            format!(
                r#"{{"cdiVersion": "0.6.0", "kind": "a/b", "devices":
                    [{{"name": "c", "containerEdits": {{"env": ["{variable}"]}}}}]}}"#
            )
        };
        let (low, high) = (json("A=low"), json("A=high"));
        let found = edits(&[("etc/x.json", &low), ("run/x.json", &high)], &["a/b=c"]).unwrap();
        assert_eq!(found.env, ["A=high"]);
        let conflict = edits(&[("run/x.json", &low), ("run/y.json", &high)], &["a/b=c"]);
        assert!(conflict.unwrap_err().starts_with("CDI device a/b=c is described by both"));
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let missing =
            "CDI device injection failed: unresolvable CDI devices a/b=c, nvidia.com/gpu=all";
        let names = ["a/b=c", "nvidia.com/gpu=all"];
        assert_eq!(edits(&[], &names).unwrap_err(), missing);
        let hook = r#"{"kind": "a/b", "devices": [{"name": "c", "containerEdits":
            {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}}]}"#;
        assert_eq!(
            edits(&[("etc/x.json", hook)], &["a/b=c"]).unwrap_err(),
            "x.json: CDI device a/b=c asks for hooks, which is not supported"
        );
        let malformed = edits(&[("etc/x.yaml", "kind: &a b\n")], &[]).unwrap_err();
        assert_eq!(malformed, "x.yaml: line 1: anchors, aliases and tags are not read: &a b");
    }
}
