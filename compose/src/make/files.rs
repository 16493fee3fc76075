//! Secrets and configs as files in containers.
//!
//! One that is a directory, or a file whose owner and mode nobody chose, is that, mounted read-only. All others are files in
//! memory, below a folder that the caller gives: written before a container is made or started, removed with the
//! project. Also a container whose root is read-only gets them.
//!
//! ```text
//! <folder>/secret-<key>-<uid>-<gid>-<mode>
//! <folder>/config-<key>-<uid>-<gid>-<mode>
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use cache::digest::Digest;
use engine::volume::api;

use super::Error;
use crate::model::{FileMount, Project, Service};

/// The folders that may hold projects' files in memory, the best first.
const ROOTS: [&str; 2] = ["/run/rbuild/compose", "/dev/shm/rbuild/compose"];
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: i64 = 0x0102_1994;
/// Who may read a file where nothing is said.
const MODE: u32 = 0o444;

/// A file that containers are to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode.
    pub mode: u32,
    /// Where it is in the container.
    pub target: String,
}

/// What is in a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What another file has when it is written.
    Copy(PathBuf),
}

/// Does not tell secrets.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Copy(path) => write!(f, "copy of {}", path.display()),
        }
    }
}

/// The folder in memory for the files of a store's project: below `/run`, or below `/dev/shm` where that is none. If there is no
/// memory at either, it is below `/run` all the same, and only its mode protects what is in it.
pub fn folder(store: &Path, project: &str) -> PathBuf {
    let root = ROOTS.iter().find(|root| is_in_memory(Path::new(root))).unwrap_or(&ROOTS[0]);
    let store = Digest::of(store.as_os_str().as_bytes());
    Path::new(root).join(&store.hex()[..12]).join(project)
}

/// Whether a path is, or would be, on a tmpfs.
fn is_in_memory(path: &Path) -> bool {
    let found = path.ancestors().find_map(|path| rustix::fs::statfs(path).ok());
    found.is_some_and(|found| found.f_type == TMPFS)
}

/// The files in memory that a service's containers are to find, in `dir`.
pub fn files(project: &Project, service: &Service, dir: &Path) -> Result<Vec<File>, Error> {
    let given = given(project, service, dir)?.into_iter();
    let files = given.filter_map(|given| match given {
        Given::InMemory(file) => Some(file),
        Given::OnDisk { .. } => None,
    });
    Ok(files.collect())
}

/// The mounts of a service's secrets and configs.
pub(super) fn mounts(
    project: &Project,
    service: &Service,
    dir: &Path,
) -> Result<Vec<api::Mount>, Error> {
    let mount = |given| {
        let (source, target, bind_options) = match given {
            Given::InMemory(file) => (file.path, file.target, Some(api::BindOptions::default())),
            Given::OnDisk { kind, source, target } => {
                (source, target, (kind == Kind::Secret).then(api::BindOptions::default))
            }
        };
        api::Mount {
            kind: api::Kind::Bind,
            source: source.to_string_lossy().into_owned(),
            target,
            read_only: true,
            bind_options,
            ..api::Mount::default()
        }
    };
    Ok(given(project, service, dir)?.into_iter().map(mount).collect())
}

/// Writes files, where they are not there as they should be. Their folders are for their owner alone.
pub fn write(files: &[File]) -> Result<(), Error> {
    for file in files {
        let content = match &file.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Copy(path) => {
                fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?
            }
        };
        let failed = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        if let Some(dir) = file.path.parent() {
            make_folder(dir).map_err(|source| failed(dir, source))?;
        }
        if !is_there(file, &content).unwrap_or(false) {
            put(file, &content).map_err(|source| failed(&file.path, source))?;
        }
    }
    Ok(())
}

fn make_folder(dir: &Path) -> io::Result<()> {
    let make = || {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::DirBuilder::new().mode(0o700).create(dir)
    };
    // Whoever takes the store's last other project down takes the folder above away.
    let made = match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(),
        made => made,
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    // Anybody may make folders in /dev/shm, also those that we look for.
    let own = rustix::process::geteuid().as_raw();
    for place in dir.ancestors() {
        if ![0, own].contains(&fs::symlink_metadata(place)?.uid()) {
            let why = format!("{} belongs to somebody else", place.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

fn is_there(file: &File, content: &[u8]) -> io::Result<bool> {
    let mut found = fs::File::open(&file.path)?;
    let about = found.metadata()?;
    if (about.uid(), about.gid(), about.mode() & 0o7777) != (file.uid, file.gid, file.mode) {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    found.read_to_end(&mut bytes)?;
    Ok(bytes == content)
}

/// Writes a file beside its place and puts it there: who has the old one mounted keeps it.
fn put(file: &File, content: &[u8]) -> io::Result<()> {
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let temp = file.path.with_file_name(format!(".{name}.{}", std::process::id()));
    let put = || {
        let mut options = fs::File::options();
        let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        new.write_all(content)?;
        fchown(&new, Some(file.uid), Some(file.gid))?;
        new.set_permissions(fs::Permissions::from_mode(file.mode))?;
        new.sync_all()?;
        fs::rename(&temp, &file.path)
    };
    put().inspect_err(|_| drop(fs::remove_file(&temp)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Config,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// Where it goes that does not say.
    fn folder(self) -> &'static str {
        match self {
            Self::Secret => "/run/secrets",
            Self::Config => "",
        }
    }
}

/// A secret or a config of the project.
struct Source<'a> {
    kind: Kind,
    name: &'a str,
    file: &'a str,
    variable: &'a str,
    /// Its text, or the variable's value.
    value: Option<&'a str>,
    external: bool,
    driver: &'a str,
    template_driver: &'a str,
}

/// How a service's secret or config comes into its containers.
enum Given {
    OnDisk { kind: Kind, source: PathBuf, target: String },
    InMemory(File),
}

fn given(project: &Project, service: &Service, dir: &Path) -> Result<Vec<Given>, Error> {
    let mut all = Vec::new();
    for mount in &service.secrets {
        let Some(secret) = project.secrets.get(&mount.source) else { continue };
        all.push(one(
            Source {
                kind: Kind::Secret,
                name: &secret.name,
                file: &secret.file,
                variable: &secret.environment,
                value: value(project, secret.value.0.as_deref(), &secret.environment),
                external: secret.external,
                driver: &secret.driver,
                template_driver: &secret.template_driver,
            },
            mount,
            dir,
        )?);
    }
    for mount in &service.configs {
        let Some(config) = project.configs.get(&mount.source) else { continue };
        let text = Some(config.content.as_str()).filter(|text| !text.is_empty());
        all.push(one(
            Source {
                kind: Kind::Config,
                name: &config.name,
                file: &config.file,
                variable: &config.environment,
                value: text
                    .or_else(|| value(project, config.value.0.as_deref(), &config.environment)),
                external: config.external,
                driver: "",
                template_driver: &config.template_driver,
            },
            mount,
            dir,
        )?);
    }
    Ok(all)
}

/// A variable's value, as its file found it or as the project has it.
fn value<'a>(project: &'a Project, found: Option<&'a str>, variable: &str) -> Option<&'a str> {
    found.or_else(|| project.environment.get(variable).map(String::as_str))
}

fn one(source: Source<'_>, mount: &FileMount, dir: &Path) -> Result<Given, Error> {
    let kind = source.kind;
    if source.external {
        return Err(Error::External { kind: kind.word(), name: source.name.to_owned() });
    }
    for (attribute, driver) in
        [("driver", source.driver), ("template_driver", source.template_driver)]
    {
        if !driver.is_empty() {
            let name = source.name.to_owned();
            return Err(Error::Driver { kind: kind.word(), name, attribute });
        }
    }
    let target = match mount.target.as_str() {
        "" => format!("{}/{}", kind.folder(), mount.source),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => format!("{}/{relative}", kind.folder()),
    };
    let is_plain = mount.uid.is_empty() && mount.gid.is_empty() && mount.mode.is_none();
    let content = match (source.file, source.value) {
        ("", Some(value)) => Content::Bytes(value.as_bytes().to_vec()),
        ("", None) if !source.variable.is_empty() => {
            return Err(Error::NoVariable {
                kind: kind.word(),
                name: source.name.to_owned(),
                variable: source.variable.to_owned(),
            });
        }
        ("", None) => Content::Bytes(Vec::new()),
        // A directory keeps its owners and modes, as with docker compose.
        (file, _) if is_plain || Path::new(file).is_dir() => {
            return Ok(Given::OnDisk { kind, source: file.into(), target });
        }
        (file, _) => Content::Copy(file.into()),
    };
    let owner = |attribute: &'static str, text: &str| match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| Error::Owner {
            kind: kind.word(),
            name: source.name.to_owned(),
            attribute,
            value: text.to_owned(),
        }),
    };
    let (uid, gid) = (owner("uid", &mount.uid)?, owner("gid", &mount.gid)?);
    let mode = mount.mode.map_or(MODE, |mode| mode.0 & 0o7777);
    let name = format!("{}-{}-{uid}-{gid}-{mode:o}", kind.word(), mount.source);
    Ok(Given::InMemory(File { path: dir.join(name), content, uid, gid, mode, target }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_with_owner_and_mode_and_left_alone_when_they_are_right() {
        let dir = std::env::temp_dir().join(format!("rcompose-files-{}", std::process::id()));
        let source = dir.with_extension("source");
        fs::write(&source, "copied").expect("write");
        let own = fs::metadata(&source).expect("metadata");
        let file = |name: &str, content, mode| File {
            path: dir.join("p").join(name),
            content,
            uid: own.uid(),
            gid: own.gid(),
            mode,
            target: String::new(),
        };
        let mut files = [
            file("a", Content::Bytes(b"one".to_vec()), 0o400),
            file("b", Content::Copy(source.clone()), 0o644),
        ];
        let seen = |file: &File| {
            let about = fs::metadata(&file.path).expect("metadata");
            let text = fs::read_to_string(&file.path).expect("read");
            (about.ino(), about.mode() & 0o7777, text)
        };
        write(&files).expect("write");
        let folder = fs::metadata(dir.join("p")).expect("metadata");
        assert_eq!(folder.mode() & 0o7777, 0o700);
        let before = [seen(&files[0]), seen(&files[1])];
        assert_eq!((before[0].1, before[0].2.as_str()), (0o400, "one"));
        assert_eq!((before[1].1, before[1].2.as_str()), (0o644, "copied"));
        write(&files).expect("write again");
        assert_eq!([seen(&files[0]), seen(&files[1])], before);
        files[0].content = Content::Bytes(b"two".to_vec());
        files[1].mode = 0o600;
        write(&files).expect("write what has changed");
        let after = [seen(&files[0]), seen(&files[1])];
        assert_ne!((after[0].0, after[1].0), (before[0].0, before[1].0), "new files");
        assert_eq!((after[0].1, after[0].2.as_str()), (0o400, "two"));
        assert_eq!(after[1].1, 0o600);
        let names = fs::read_dir(dir.join("p")).expect("list").count();
        assert_eq!(names, 2, "nothing unfinished is left");
        if own.uid() == 0 {
            std::os::unix::fs::chown(&dir, Some(12345), None).expect("chown");
            let error = write(&files).expect_err("somebody else could replace what is in it");
            let source = std::error::Error::source(&error).map(ToString::to_string);
            assert_eq!(source, Some(format!("{} belongs to somebody else", dir.display())));
            std::os::unix::fs::chown(&dir, Some(0), None).expect("chown");
        }
        fs::remove_file(&source).expect("remove");
        let error = write(&files).expect_err("its source is gone");
        assert_eq!(error.to_string(), format!("cannot read {}", source.display()));
        fs::remove_dir_all(&dir).expect("remove");
    }

    #[test]
    fn a_project_has_a_folder_of_its_own_in_memory() {
        let folder = super::folder(Path::new("/store"), "shop");
        assert!(folder.ends_with("shop"), "{}", folder.display());
        assert!(ROOTS.iter().any(|root| folder.starts_with(root)), "{}", folder.display());
        // Another store has other projects of the same name.
        assert_ne!(super::folder(Path::new("/other"), "shop"), folder);
        let any = ROOTS.iter().any(|root| is_in_memory(Path::new(root)));
        assert_eq!(is_in_memory(&folder), any);
        assert!(!is_in_memory(Path::new("/proc/self")));
    }
}
