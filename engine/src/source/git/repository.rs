//! The bare repository that holds what was fetched from one remote.
//!
//! Only what a ref below `refs/rbuild/` names is taken to be complete: a fetch that was killed may
//! leave objects behind, but git makes the ref only after everything it needs has arrived.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cache::digest::Digest;

use super::program::{Git, Place};
use super::{Revision, is_commit};
use crate::source::Error;
use crate::source::url::redact_credentials;

/// Where a fetch puts what it gets, until that is seen to be what was wanted.
const FETCHED: &str = "refs/rbuild/fetched";

/// A remote's repository in the cache, locked.
pub(super) struct Repository<'a> {
    pub(super) git: &'a Git<'a>,
    pub(super) directory: PathBuf,
    _lock: File,
}

/// How much history comes with a commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    One,
    Full,
}

impl<'a> Repository<'a> {
    /// Waits for the remote's repository, which is made if it is missing. It holds objects whose
    /// names have `digits` hexadecimal digits.
    pub(super) fn open(git: &'a Git<'a>, cache_dir: &Path, digits: usize) -> Result<Self, Error> {
        let format = if digits == 64 { "sha256" } else { "sha1" };
        let name = Digest::of(format!("{format}\n{}", git.request.remote)).hex();
        let keep = |source| keep_error(git, source);
        let parent = cache_dir.join("repositories");
        fs_err::create_dir_all(&parent).map_err(keep)?;
        // Git runs in other directories: its paths must not depend on ours.
        let parent = fs_err::canonicalize(parent).map_err(keep)?;
        let lock = fs_err::File::create(parent.join(format!("{name}.lock"))).map_err(keep)?;
        let lock = lock.into_file();
        lock.lock().map_err(keep)?;
        let repository = Self { git, directory: parent.join(&name), _lock: lock };
        if !repository.directory.exists() {
            let new = parent.join(format!("{name}.new"));
            remove_tree(&new).map_err(keep)?;
            let object_format = format!("--object-format={format}");
            let args = ["init", "--quiet", "--bare", "--template=", &object_format, "--"];
            let args = args.iter().map(AsRef::as_ref).chain([new.as_os_str()]).collect::<Vec<_>>();
            git.run_at(Place::default(), "make a repository for", &args)?;
            fs_err::rename(&new, &repository.directory).map_err(keep)?;
        }
        Ok(repository)
    }

    /// Makes sure that the revision is here, with as little history as the remote lets us have.
    pub(super) fn fetch(&self, revision: &Revision) -> Result<(), Error> {
        let object = &revision.object;
        if self.names(&complete(object)).as_deref() == Some(object) {
            return Ok(());
        }
        // Any server gives its refs away, so a ref is asked for first. It may have moved on.
        if !is_commit(&revision.reference)
            && !self.git.request.fetch_by_commit
            && self.fetch_one(&revision.reference).is_ok()
            && self.names(FETCHED).as_deref() == Some(object)
        {
            return self.accept(object);
        }
        match self.fetch_one(object) {
            Ok(()) => {}
            Err(Error::Git { stderr, .. }) if refuses_commits(&stderr) => self.fetch_all()?,
            Err(error) => return Err(error),
        }
        match self.names(&format!("{object}^{{commit}}")) {
            Some(_) => self.accept(object),
            None => Err(super::unknown(self.git.request, object)),
        }
    }

    /// Fetches all branches and tags with all their history.
    pub(super) fn fetch_all(&self) -> Result<(), Error> {
        let mut args = vec!["fetch", "--quiet", "--prune", "--no-tags"];
        if self.directory.join("shallow").exists() {
            args.push("--unshallow");
        }
        let branches = "+refs/heads/*:refs/rbuild/heads/*";
        args.extend(["--", &self.git.request.remote, branches, "+refs/tags/*:refs/rbuild/tags/*"]);
        self.remove_stale_locks()?;
        self.run("fetch from", &args).map(drop)
    }

    /// Returns the commit whose name starts with `prefix`, if there is just one.
    pub(super) fn expand(&self, prefix: &str) -> Result<Option<String>, Error> {
        Ok(self.names(&format!("{prefix}^{{commit}}")).filter(|commit| commit.starts_with(prefix)))
    }

    /// Returns the commit that an object is or, being a tag, names.
    pub(super) fn commit_of(&self, object: &str) -> Result<String, Error> {
        let peeled = format!("{object}^{{commit}}");
        self.run("read", &["rev-parse", "--verify", "--quiet", &peeled]).map(trimmed)
    }

    /// Returns when a commit was made, in seconds since 1970.
    pub(super) fn commit_time(&self, object: &str) -> Result<i64, Error> {
        let peeled = format!("{object}^{{commit}}");
        let text = self.run("read", &["log", "-1", "--format=%ct", &peeled]).map(trimmed)?;
        text.parse().map_err(|_| keep_error(self.git, io::Error::other("a commit has no time")))
    }

    /// Tells whether the tree of `object` has a file of that name at its top.
    pub(super) fn has_file(&self, object: &str, name: &str) -> bool {
        self.names(&format!("{object}:{name}")).is_some()
    }

    /// Returns the ref that keeps a fetched object.
    pub(super) fn ref_of(object: &str) -> String {
        complete(object)
    }

    /// Runs git on this repository.
    pub(super) fn run(&self, step: &'static str, args: &[&str]) -> Result<String, Error> {
        let repository = Some(self.directory.as_path());
        self.git.run_at(Place { repository, ..Place::default() }, step, args)
    }

    /// Fetches what `source` is called at the remote.
    fn fetch_one(&self, source: &str) -> Result<(), Error> {
        self.remove_stale_locks()?;
        let result = self.fetch_to_depth(source, Depth::One);
        match result {
            // Plain files on a web server, for one, cannot be shallow.
            Err(Error::Git { stderr, .. }) if refuses_depth(&stderr) => {
                self.fetch_to_depth(source, Depth::Full)
            }
            result => result,
        }
    }

    fn fetch_to_depth(&self, source: &str, depth: Depth) -> Result<(), Error> {
        let refspec = format!("+{source}:{FETCHED}");
        let mut args = vec!["fetch", "--quiet", "--no-tags"];
        args.extend((depth == Depth::One).then_some("--depth=1"));
        args.extend(["--", &self.git.request.remote, &refspec]);
        self.run("fetch from", &args).map(drop)
    }

    /// Notes that everything of `object` is here.
    fn accept(&self, object: &str) -> Result<(), Error> {
        self.run("keep what came from", &["update-ref", &complete(object), object]).map(drop)
    }

    /// Returns the object that an expression names, if it names one.
    fn names(&self, expression: &str) -> Option<String> {
        self.run("read", &["rev-parse", "--verify", "--quiet", expression]).ok().map(trimmed)
    }

    /// Removes git's own locks: whoever held one held ours too, and is gone.
    fn remove_stale_locks(&self) -> Result<(), Error> {
        for name in ["shallow.lock", "packed-refs.lock", "refs/rbuild/fetched.lock"] {
            match fs_err::remove_file(self.directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(keep_error(self.git, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn complete(object: &str) -> String {
    format!("refs/rbuild/complete/{object}")
}

fn trimmed(text: String) -> String {
    text.trim().to_owned()
}

fn refuses_depth(stderr: &str) -> bool {
    stderr.contains("--depth") || stderr.contains("shallow")
}

/// Tells whether a server gives no commit that it has no ref for; each side words it its own way.
fn refuses_commits(stderr: &str) -> bool {
    ["not our ref", "unadvertised object", "find remote ref"].iter().any(|t| stderr.contains(t))
}

/// Wraps a failure to keep what came from the remote.
pub(super) fn keep_error(git: &Git<'_>, source: io::Error) -> Error {
    Error::Keep { remote: redact_credentials(&git.request.remote), source }
}

/// Removes a directory and all in it, if it is there.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match cache::removal::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
