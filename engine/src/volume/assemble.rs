//! From the final list of mounts to a container's specification.

use std::io;
use std::path::{Path, PathBuf};

use cache::lower::Lower;
use fs_err as fs;

use super::api::{BindOptions, Kind, Propagation};
use super::resolve::Resolved;
use super::{Error, Result, tmpfs};
use crate::container::spec::{self, Below, MountSource};

/// Makes or misses the sources of binds, by docker's rules: what `-v` names is made as a directory,
/// what `--mount` names must be there.
pub fn prepare_sources(resolved: &[Resolved]) -> Result<()> {
    for mount in resolved.iter().filter(|mount| mount.point.kind == Kind::Bind) {
        let path = Path::new(&mount.point.source);
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::config("bind", error.to_string()));
            }
            Err(_) if mount.makes_source() => fs::create_dir_all(path)
                .map_err(|source| Error::Source { path: path.to_owned(), source })?,
            Err(_) => {
                let why = format!("bind source path does not exist: {}", path.display());
                return Err(Error::config("bind", why));
            }
        }
    }
    Ok(())
}

/// Says what is mounted in the container. Volumes must have been provided; `image` tells the layers
/// of an image by its reference, the uppermost first, two at least.
pub fn mounts<E: From<Error>>(
    resolved: &[Resolved],
    mut image: impl FnMut(&str) -> std::result::Result<Vec<Lower>, E>,
) -> std::result::Result<Vec<spec::Mount>, E> {
    let mut mounts = Vec::new();
    for mount in resolved {
        let (source, read_only) = match mount.point.kind {
            Kind::Bind => (bind(mount), !mount.point.rw),
            Kind::Volume => (volume(mount), !mount.point.rw),
            Kind::Tmpfs => {
                let options = tmpfs::parse(&mount.tmpfs)?;
                let source = MountSource::TmpfsWith {
                    options: options.data,
                    attributes: options.attributes,
                };
                (source, options.read_only || !mount.point.rw)
            }
            Kind::Image => {
                let subpath = mount.spec.image_options.as_ref().map(|options| &options.subpath);
                let source = MountSource::Overlay {
                    lower: image(&mount.spec.source)?,
                    upper: None,
                    path: inside(subpath),
                };
                (source, true)
            }
        };
        let target = PathBuf::from(&mount.point.destination);
        mounts.push(spec::Mount { target, source, read_only });
    }
    Ok(mounts)
}

fn bind(mount: &Resolved) -> MountSource {
    let path = PathBuf::from(&mount.point.source);
    let options = mount.spec.bind_options.clone().unwrap_or_default();
    let below = match options {
        BindOptions { non_recursive: true, .. } => Below::Absent,
        BindOptions { read_only_non_recursive: true, .. } => Below::Writable,
        _ => Below::Followed,
    };
    let propagation = match options.propagation {
        None | Some(Propagation::Private | Propagation::RPrivate) => spec::Propagation::Private,
        Some(Propagation::Slave | Propagation::RSlave) => spec::Propagation::Slave,
        Some(Propagation::Shared | Propagation::RShared) => spec::Propagation::Shared,
    };
    if (below, propagation) == Default::default() {
        return MountSource::Bind(path);
    }
    MountSource::BindWith { path, below, propagation }
}

fn volume(mount: &Resolved) -> MountSource {
    let root = PathBuf::from(&mount.point.source);
    let subpath = mount.spec.volume_options.as_ref().map(|options| &options.subpath);
    match subpath.filter(|path| !path.is_empty()) {
        None => MountSource::Bind(root),
        subpath => MountSource::BindIn { root, path: inside(subpath) },
    }
}

fn inside(subpath: Option<&String>) -> PathBuf {
    Path::new("/").join(subpath.map_or("", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::super::resolve::{Request, resolve};
    use super::*;
    use cache::oci::StringMap;

    fn resolved(binds: &[&str], given: &[&str]) -> Vec<Resolved> {
        let binds: Vec<String> = binds.iter().map(|text| (*text).to_owned()).collect();
        let mounts: Vec<_> = given
            .iter()
            .map(|text| super::super::mount::parse(text, Path::new("/")).expect("parse"))
            .collect();
        resolve(Request {
            volumes: &[],
            volumes_from: &[],
            binds: &binds,
            mounts: &mounts,
            tmpfs: &StringMap::new(),
            volume_driver: "",
        })
        .expect("resolve")
    }

    #[track_caller]
    fn check(bind: &[&str], mount: &[&str], expected: &MountSource, read_only: bool) {
        let mut resolved = resolved(bind, mount);
        for volume in resolved.iter_mut().filter(|mount| mount.point.kind == Kind::Volume) {
            volume.point.source = "/volumes/v1/_data".to_owned();
        }
        let layers = |image: &str| Ok::<_, Error>(vec![Lower::Directory(image.into())]);
        let made = mounts(&resolved, layers).expect("assemble");
        assert_eq!(made.len(), 1);
        assert_eq!((&made[0].source, made[0].read_only), (expected, read_only));
        assert_eq!(made[0].target, Path::new("/t"));
    }

    #[test]
    fn each_kind_becomes_its_source() {
        let bind = || PathBuf::from("/h");
        let with = |below, propagation| MountSource::BindWith { path: bind(), below, propagation };
        check(&["/h:/t:ro"], &[], &MountSource::Bind(bind()), true);
        check(&["/h:/t:private"], &[], &MountSource::Bind(bind()), false);
        check(&["/h:/t:rslave"], &[], &with(Below::Followed, spec::Propagation::Slave), false);
        check(&["/h:/t:shared"], &[], &with(Below::Followed, spec::Propagation::Shared), false);
        check(
            &[],
            &["type=bind,src=/h,dst=/t,bind-recursive=disabled"],
            &with(Below::Absent, spec::Propagation::Private),
            false,
        );
        check(
            &[],
            &["type=bind,src=/h,dst=/t,ro,bind-recursive=writable"],
            &with(Below::Writable, spec::Propagation::Private),
            true,
        );
        check(&["v1:/t"], &[], &MountSource::Bind("/volumes/v1/_data".into()), false);
        check(
            &[],
            &["src=v1,dst=/t,volume-subpath=a/b"],
            &MountSource::BindIn { root: "/volumes/v1/_data".into(), path: "/a/b".into() },
            false,
        );
        check(
            &[],
            &["type=image,src=/layer,dst=/t,image-subpath=etc"],
            &MountSource::Overlay {
                lower: vec![Lower::Directory("/layer".into())],
                upper: None,
                path: "/etc".into(),
            },
            true,
        );
    }

    #[test]
    fn a_missing_source_is_made_or_missed() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("made/deep");
        let text = path.to_str().expect("UTF-8");
        let missed = prepare_sources(&resolved(&[], &[&format!("type=bind,src={text},dst=/t")]));
        assert_eq!(
            missed.expect_err("missing").to_string(),
            format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {text}"
            )
        );
        assert!(!path.exists());
        prepare_sources(&resolved(&[&format!("{text}:/t")], &[])).expect("make");
        assert!(path.is_dir());
    }
}
