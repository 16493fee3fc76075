//! A revision's files as a directory in the cache.
//!
//! A tree is made under another name and gets its own by one rename; it is then never changed.
//! Every file in it has mode 0644 or 0755 whatever the umask, and every directory 0755.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use cache::digest::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::program::Place;
use super::repository::{Repository, keep_error, remove_tree};
use super::{GitRequest, Mtime, Revision, is_commit};
use crate::source::Error;
use crate::source::url::redact_credentials;

/// Returns the directory with the revision's files, which is made unless it is there.
pub(super) fn check_out(
    request: &GitRequest,
    revision: &Revision,
    repository: &Repository<'_>,
    cache_dir: &Path,
) -> Result<PathBuf, Error> {
    let keep = |source| keep_error(repository.git, source);
    let trees = cache_dir.join("trees");
    fs_err::create_dir_all(&trees).map_err(keep)?;
    let trees = fs_err::canonicalize(trees).map_err(keep)?;
    let name = name_of(request, revision).hex();
    let finished = trees.join(&name);
    if finished.exists() {
        return Ok(finished);
    }
    let new = trees.join(format!("{name}.new"));
    remove_tree(&new).map_err(keep)?;
    fs_err::create_dir(&new).map_err(keep)?;

    let object = &revision.object;
    let keep_git_dir = request.keep_git_dir && wanted_parts(request).is_empty();
    let submodules = request.submodules && repository.has_file(object, ".gitmodules");
    if keep_git_dir || submodules {
        clone(revision, repository, &new)?;
    } else {
        write_tree(object, repository, &new)?;
    }
    if submodules {
        update_submodules(repository, &new)?;
    }
    match keep_git_dir {
        true => forget_traces(repository, &new)?,
        false => remove_git_dirs(&new).map_err(keep)?,
    }

    let time = match request.mtime {
        Mtime::Checkout => None,
        Mtime::Commit => Some(repository.commit_time(object)?),
    };
    normalise(&new, time).map_err(keep)?;
    publish(&find_subdir(request, &new)?, &finished).map_err(keep)?;
    remove_tree(&new).map_err(keep)?;
    Ok(finished)
}

/// Names a tree by all that decides what is in it.
fn name_of(request: &GitRequest, revision: &Revision) -> Digest {
    let GitRequest { remote, keep_git_dir, submodules, mtime, .. } = request;
    let Revision { reference, object, .. } = revision;
    let subdir = wanted_parts(request);
    let reference = if *keep_git_dir { reference } else { "" };
    let text = format!(
        "1 {remote:?} {object} {reference:?} {subdir:?} {keep_git_dir} {submodules} {mtime:?}"
    );
    Digest::of(text)
}

/// Writes a tree straight from the repository in the cache.
fn write_tree(object: &str, repository: &Repository<'_>, new: &Path) -> Result<(), Error> {
    let index = new.with_extension("index");
    let place = Place {
        repository: Some(&repository.directory),
        tree: Some((new, &index)),
        ..Place::default()
    };
    let _ = fs_err::remove_file(&index);
    let result = repository.git.run_at(place, "check out", &["read-tree", "--reset", "-u", object]);
    let _ = fs_err::remove_file(&index);
    result.map(drop)
}

/// Makes a repository of its own with the tree checked out, its head detached.
fn clone(revision: &Revision, repository: &Repository<'_>, new: &Path) -> Result<(), Error> {
    let Revision { reference, object, .. } = revision;
    let git = |args: &[&str]| run_in(new, repository, "check out", args);
    let format = if object.len() == 64 { "sha256" } else { "sha1" };
    git(&["init", "--quiet", "--template=", &format!("--object-format={format}")])?;
    // Submodules may be given relative to it.
    git(&["config", "remote.origin.url", &repository.git.request.remote])?;
    git(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
    let source = Repository::ref_of(object);
    let named = !is_commit(reference) && reference != "HEAD";
    let refspec = if named { format!("+{source}:{reference}") } else { source };
    let mut fetch = ["fetch", "--quiet", "--update-head-ok", "--no-tags", "--depth=1", "--"]
        .map(std::ffi::OsStr::new)
        .to_vec();
    fetch.extend([repository.directory.as_os_str(), refspec.as_ref()]);
    let place = Place { directory: Some(new), local: true, ..Place::default() };
    repository.git.run_at(place, "check out", &fetch)?;
    git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])
}

fn update_submodules(repository: &Repository<'_>, new: &Path) -> Result<(), Error> {
    let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
    let shallow = [&update[..], &["--depth=1"]].concat();
    match run_in(new, repository, "check out submodules of", &shallow) {
        Err(Error::Git { stderr, .. }) if stderr.contains("shallow") => {
            run_in(new, repository, "check out submodules of", &update)
        }
        result => result,
    }
}

/// Removes from a `.git` that is kept how and when it came to be, and credentials.
fn forget_traces(repository: &Repository<'_>, new: &Path) -> Result<(), Error> {
    let remote = redact_credentials(&repository.git.request.remote);
    run_in(new, repository, "check out", &["config", "remote.origin.url", &remote])?;
    run_in(new, repository, "check out", &["reflog", "expire", "--all", "--expire=now"])?;
    fs_err::remove_file(new.join(".git/FETCH_HEAD")).map_err(|e| keep_error(repository.git, e))
}

fn run_in(
    new: &Path,
    repository: &Repository<'_>,
    step: &'static str,
    args: &[&str],
) -> Result<(), Error> {
    let place = Place { directory: Some(new), ..Place::default() };
    repository.git.run_at(place, step, args).map(drop)
}

/// Removes every `.git`. None can be the repository's own: git refuses to track one.
fn remove_git_dirs(directory: &Path) -> io::Result<()> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs_err::read_dir(directory)? {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            match (entry.file_name() == ".git", is_dir) {
                (true, _) => cache::removal::remove_dir_all(entry.path())?,
                (false, true) => directories.push(entry.path()),
                (false, false) => {}
            }
        }
    }
    Ok(())
}

/// Gives a directory and all below it the modes that git knows, and the time, if one is given.
fn normalise(directory: &Path, time: Option<i64>) -> io::Result<()> {
    let mut directories = vec![directory.to_owned()];
    let mut listed = 0;
    while let Some(directory) = directories.get(listed).cloned() {
        listed += 1;
        for entry in fs_err::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = fs_err::symlink_metadata(&path)?;
            if metadata.is_dir() {
                directories.push(path);
                continue;
            }
            let mode = metadata.permissions().mode() & 0o7777;
            let wanted = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
            if metadata.is_file() && mode != wanted {
                fs_err::set_permissions(&path, Permissions::from_mode(wanted))?;
            }
            set_time(&path, time)?;
        }
        fs_err::set_permissions(&directory, Permissions::from_mode(0o755))?;
    }
    directories.iter().try_for_each(|directory| set_time(directory, time))
}

fn set_time(path: &Path, time: Option<i64>) -> io::Result<()> {
    let Some(tv_sec) = time else { return Ok(()) };
    let time = Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Splits the wanted directory into its parts; `..` goes no higher than the top.
fn wanted_parts(request: &GitRequest) -> Vec<&str> {
    let mut parts = Vec::new();
    for component in Path::new(request.subdir.as_deref().unwrap_or_default()).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().expect("part of a str")),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts
}

/// Finds the wanted directory in a tree, following no link out of it.
fn find_subdir(request: &GitRequest, tree: &Path) -> Result<PathBuf, Error> {
    let mut path = tree.to_owned();
    for part in wanted_parts(request) {
        path.push(part);
        if !fs_err::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Error::Subdirectory {
                subdir: request.subdir.clone().unwrap_or_default(),
                remote: redact_credentials(&request.remote),
                part: part.to_owned(),
            });
        }
    }
    Ok(path)
}

/// Gives a tree its final name, once its files would survive a power failure.
fn publish(tree: &Path, finished: &Path) -> io::Result<()> {
    rustix::fs::syncfs(fs_err::File::open(tree)?.into_file())?;
    fs_err::rename(tree, finished)
}
