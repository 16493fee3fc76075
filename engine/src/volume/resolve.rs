//! From all that asks for mounts to the final list: who wins where two have one target.
//!
//! ```text
//! 1  other containers' mounts (--volumes-from), a later container before an earlier one
//! 2  -v, --mount and --tmpfs: win over 1; two of them at one target are an error
//! 3  the image's VOLUMEs and `-v /path`: a volume without a name where nothing else is
//! ```
//!
//! A pure function. Whether volumes and sources exist is not asked here.

use std::collections::BTreeMap;
use std::path::Path;

use cache::oci::StringMap;
use serde::{Deserialize, Serialize};

use super::api::{BindOptions, Kind, Mount, MountPoint};
use super::bind::{self, Bind};
use super::mount::{clean, validate};
use super::{ANONYMOUS, Error, Result, tmpfs};

/// Everything that asks for mounts.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The keys of `Config.Volumes`: the image's, and those of `-v /path`.
    pub volumes: &'a [String],
    /// The mounts of each container of `--volumes-from`, and whether they can only be read.
    pub volumes_from: &'a [(Vec<Resolved>, bool)],
    /// `HostConfig.Binds`.
    pub binds: &'a [String],
    /// `HostConfig.Mounts`.
    pub mounts: &'a [Mount],
    /// `HostConfig.Tmpfs`.
    pub tmpfs: &'a StringMap,
    /// `HostConfig.VolumeDriver`.
    pub volume_driver: &'a str,
}

/// Who asked for a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The image's `VOLUME`, or `-v /path`.
    #[default]
    Volume,
    /// `--volumes-from`.
    VolumesFrom,
    /// `-v`.
    Bind,
    /// `--mount`.
    Mount,
    /// `--tmpfs`, which `inspect` does not list among the mounts.
    Tmpfs,
}

/// A mount of the final list. What is kept of a container, so that it starts again with the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resolved {
    /// As `inspect` shows it. A volume has no name and source before it is provided.
    pub point: MountPoint,
    /// As it was asked for.
    pub spec: Mount,
    /// By whom.
    pub origin: Origin,
    /// The options of a tmpfs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tmpfs: String,
}

impl Resolved {
    /// Whether `inspect` lists it.
    pub fn is_listed(&self) -> bool {
        self.origin != Origin::Tmpfs
    }

    /// Whether it is a volume that nobody gave a name when it was asked for, here or in the container
    /// that it is from: it goes with its container where that is asked for.
    pub fn is_unnamed(&self) -> bool {
        let options = self.spec.volume_options.as_ref();
        let is_carried_over = options.is_some_and(|options| options.labels.contains_key(ANONYMOUS));
        self.point.kind == Kind::Volume && (self.spec.source.is_empty() || is_carried_over)
    }

    /// Whether it is a volume that is filled from the image while it is empty.
    pub fn is_filled(&self) -> bool {
        let no_copy = self.spec.volume_options.as_ref().is_some_and(|options| options.no_copy);
        self.point.kind == Kind::Volume && self.origin != Origin::VolumesFrom && !no_copy
    }

    /// Whether a missing source of a bind is made.
    pub fn makes_source(&self) -> bool {
        let asked = |bind: &BindOptions| bind.create_mountpoint;
        self.origin != Origin::Mount || self.spec.bind_options.as_ref().is_some_and(asked)
    }
}

/// Decides what is mounted, in the order of mounting: what is above another mount comes first.
pub fn resolve(request: Request<'_>) -> Result<Vec<Resolved>> {
    let mut chosen: BTreeMap<String, Resolved> = BTreeMap::new();
    for (mounts, read_only) in request.volumes_from {
        for mount in mounts.iter().filter(|mount| mount.is_listed()) {
            let mut mount = mount.clone();
            mount.point.rw &= !read_only;
            mount.point.mode = String::new();
            // A source that its own container did not want made is not made here either.
            if mount.origin != Origin::Mount || mount.point.kind != Kind::Bind {
                mount.origin = Origin::VolumesFrom;
            }
            chosen.insert(mount.point.destination.clone(), mount);
        }
    }
    for own in own_mounts(&request)? {
        chosen.insert(own.point.destination.clone(), own);
    }
    for target in request.volumes {
        let spec = Mount { target: target.clone(), ..Mount::default() };
        validate(&spec)?;
        let mount = of_spec(spec, Origin::Volume);
        chosen.entry(mount.point.destination.clone()).or_insert(mount);
    }
    let mut chosen: Vec<Resolved> = chosen.into_values().collect();
    chosen.sort_by_key(|mount| Path::new(&mount.point.destination).components().count());
    Ok(chosen)
}

/// What the container's own flags ask for, each target once.
fn own_mounts(request: &Request<'_>) -> Result<Vec<Resolved>> {
    let mut own: Vec<Resolved> = Vec::new();
    for text in request.binds {
        let Bind { mount, mode } = bind::parse(text, request.volume_driver)?;
        let mut resolved = of_spec(mount, Origin::Bind);
        if !mode.is_empty() {
            resolved.point.mode = mode;
        }
        own.push(resolved);
    }
    for mount in request.mounts {
        validate(mount)?;
        own.push(of_spec(mount.clone(), Origin::Mount));
    }
    for (target, options) in request.tmpfs {
        let spec = Mount { kind: Kind::Tmpfs, target: target.clone(), ..Mount::default() };
        validate(&spec)?;
        own.push(Resolved { tmpfs: options.clone(), ..of_spec(spec, Origin::Tmpfs) });
    }
    for mount in own.iter().filter(|mount| mount.spec.kind == Kind::Tmpfs) {
        tmpfs::parse(&mount.tmpfs)?;
    }
    let mut targets = std::collections::BTreeSet::new();
    for mount in &own {
        if !targets.insert(&mount.point.destination) {
            return Err(Error::Duplicate(mount.point.destination.clone()));
        }
    }
    Ok(own)
}

fn of_spec(spec: Mount, origin: Origin) -> Resolved {
    let cleaned = |path: &str| clean(Path::new(path)).to_string_lossy().into_owned();
    let mut point = MountPoint {
        kind: spec.kind,
        destination: cleaned(&spec.target),
        rw: !spec.read_only,
        ..MountPoint::default()
    };
    let mut options = String::new();
    match spec.kind {
        Kind::Volume => {
            point.name = spec.source.clone();
            let driver =
                spec.volume_options.as_ref().and_then(|options| options.driver_config.as_ref());
            point.driver = driver.map(|driver| driver.name.clone()).unwrap_or_default();
            if origin != Origin::Volume {
                // What docker shows for a label that it may share.
                point.mode = "z".to_owned();
            }
        }
        Kind::Bind => {
            point.source = cleaned(&spec.source);
            let propagation = spec.bind_options.as_ref().and_then(|options| options.propagation);
            point.propagation =
                propagation.map_or("rprivate", |propagation| propagation.as_str()).to_owned();
        }
        Kind::Image => {
            point.name = spec.source.clone();
            point.rw = false;
            point.propagation = "rprivate".to_owned();
        }
        Kind::Tmpfs => options = tmpfs::of_mount(&spec),
    }
    Resolved { point, spec, origin, tmpfs: options }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Request<'_> = Request {
        volumes: &[],
        volumes_from: &[],
        binds: &[],
        mounts: &[],
        tmpfs: &StringMap::new(),
        volume_driver: "",
    };

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn mounts(texts: &[&str]) -> Vec<Mount> {
        let parse = |text: &&str| super::super::mount::parse(text, Path::new("/")).expect("parse");
        texts.iter().map(parse).collect()
    }

    fn shown(resolved: &[Resolved]) -> Vec<String> {
        let line = |mount: &Resolved| {
            let point = &mount.point;
            let source = if point.name.is_empty() { &point.source } else { &point.name };
            let access = if point.rw { "rw" } else { "ro" };
            format!(
                "{} {source} {} {access} {:?} {}",
                point.kind.as_str(),
                point.destination,
                mount.origin,
                point.mode
            )
        };
        resolved.iter().map(line).collect()
    }

    #[test]
    fn flags_win_over_other_containers_and_those_over_the_image() {
        let other = resolve(Request {
            volumes: &strings(&["/image", "/data", "/logs"]),
            binds: &strings(&["/host:/data", "conf:/conf:ro"]),
            tmpfs: &StringMap::from([("/run".to_owned(), String::new())]),
            ..NONE
        })
        .expect("resolve");
        let later =
            resolve(Request { binds: &strings(&["later:/logs"]), ..NONE }).expect("resolve");
        let all = resolve(Request {
            volumes: &strings(&["/image/", "/data", "/own"]),
            volumes_from: &[(other, true), (later, false)],
            binds: &strings(&["named:/image/sub/deep", "/src:/conf"]),
            mounts: &mounts(&["type=tmpfs,dst=/image/sub,ro", "src=big,dst=/a/b,ro"]),
            tmpfs: &StringMap::from([("/data".to_owned(), "size=1m".to_owned())]),
            ..NONE
        })
        .expect("resolve");
        assert_eq!(
            shown(&all),
            [
                "bind /src /conf rw Bind ",
                "tmpfs  /data rw Tmpfs ",
                "volume  /image ro VolumesFrom ",
                "volume later /logs rw VolumesFrom ",
                "volume  /own rw Volume ",
                "volume big /a/b ro Mount z",
                "tmpfs  /image/sub ro Mount ",
                "volume named /image/sub/deep rw Bind z",
            ]
        );
        assert_eq!(all[1].tmpfs, "size=1m");
        assert_eq!(all[6].tmpfs, "ro");
        assert!(!all[1].is_listed() && all[0].is_listed());
        assert!(!all[2].is_filled() && all[4].is_filled() && all[7].is_filled());
    }

    #[test]
    fn a_target_is_mounted_once() {
        let volume = |text: &str| StringMap::from([(text.to_owned(), String::new())]);
        let check = |request: Request<'_>| {
            let error = resolve(request).expect_err("a duplicate").to_string();
            assert_eq!(error, "Duplicate mount point: /x");
        };
        check(Request { binds: &strings(&["a1:/x", "b1:/x/"]), ..NONE });
        check(Request { binds: &strings(&["a1:/x"]), tmpfs: &volume("/x"), ..NONE });
        check(Request { binds: &strings(&["a1:/x"]), mounts: &mounts(&["dst=/x"]), ..NONE });
        check(Request { tmpfs: &volume("/x/"), mounts: &mounts(&["dst=/y/../x"]), ..NONE });
    }

    #[test]
    fn nothing_is_mounted_that_cannot_be() {
        let volume = StringMap::from([("/run".to_owned(), "bogus".to_owned())]);
        for (request, expected) in [
            (Request { volumes: &strings(&["/"]), ..NONE }, "destination can't be '/'"),
            (Request { volumes: &strings(&["data"]), ..NONE }, "must be absolute"),
            (Request { tmpfs: &volume, ..NONE }, "invalid tmpfs option \"bogus\""),
            (Request { binds: &strings(&["/a:/b:x"]), ..NONE }, "invalid mode: x"),
        ] {
            let error = resolve(request).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_missing_source_is_made_for_v_and_not_for_mount() {
        let all = resolve(Request {
            binds: &strings(&["/a:/1"]),
            mounts: &mounts(&[
                "type=bind,src=/a,dst=/2",
                "type=bind,src=/a,dst=/3,bind-create-src",
            ]),
            ..NONE
        })
        .expect("resolve");
        let makes: Vec<_> = all.iter().map(Resolved::makes_source).collect();
        assert_eq!(makes, [true, false, true]);
        let again = resolve(Request { volumes_from: &[(all, false)], ..NONE }).expect("resolve");
        let makes: Vec<_> = again.iter().map(Resolved::makes_source).collect();
        assert_eq!(makes, [true, false, true], "the same in another container");
    }

    #[test]
    fn the_list_is_kept_as_it_is() {
        let all = resolve(Request {
            binds: &strings(&["/a:/1:ro,rslave", "data:/2"]),
            mounts: &mounts(&["type=image,src=busybox,dst=/3", "type=tmpfs,dst=/4,tmpfs-size=1k"]),
            ..NONE
        })
        .expect("resolve");
        let text = serde_json::to_string(&all).expect("print");
        assert_eq!(serde_json::from_str::<Vec<Resolved>>(&text).expect("read"), all);
        assert_eq!(
            serde_json::to_value(&all[0].point).expect("print"),
            serde_json::json!({"Type": "bind", "Source": "/a", "Destination": "/1",
                               "Mode": "ro,rslave", "RW": false, "Propagation": "rslave"})
        );
        assert_eq!(
            serde_json::to_value(&all[1].point).expect("print"),
            serde_json::json!({"Type": "volume", "Name": "data", "Source": "",
                               "Destination": "/2", "Mode": "z", "RW": true, "Propagation": ""})
        );
    }
}
