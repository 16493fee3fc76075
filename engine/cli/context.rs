//! Where a build's files come from: a directory, standard input, a URL, a git repository.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use cache::Store;
use engine::pattern::walk::Filter;
use engine::session::Context;
use engine::source::context::{ContextSource, RemoteContext, fetch_remote_context, read_context};
use engine::source::git::GitRequest;
use engine::source::http::{HttpRequest, fetch};
use engine::source::{Access, redact_credentials};
use frontend::git_url::GitRef;

use crate::{files, paths};

/// No Dockerfile is longer than this; a device may go on for ever.
const LONGEST: u64 = 16 << 20;

/// What is built: the Dockerfile's text and the files beside it.
pub(crate) struct Input {
    /// The directory that COPY copies from.
    pub(crate) context: Context,
    /// The Dockerfile.
    pub(crate) dockerfile: Vec<u8>,
    /// What the Dockerfile is called in messages.
    pub(crate) name: String,
    /// What the context is called, the same from build to build.
    pub(crate) context_name: String,
}

/// Finds the Dockerfile and the files beside it.
pub(crate) fn open(
    store: &Store,
    access: &Access<'_>,
    context: &str,
    file: Option<&str>,
) -> anyhow::Result<Input> {
    if context == "-" && file == Some("-") {
        bail!("invalid argument: can't use stdin for both build context and dockerfile");
    }
    let remote = match context {
        "-" => Some(read_context(std::io::stdin(), "standard input", &empty(store)?)?),
        url => match remote_source(url)? {
            Some(source) => {
                let kept = store.sources()?;
                Some(fetch_remote_context(&source, access, &kept, &empty(store)?, &|_| {})?)
            }
            None => None,
        },
    };
    let (dir, only_file) = match remote {
        None => (local_dir(context)?, None),
        Some(RemoteContext::Directory(dir)) => (dir, None),
        Some(RemoteContext::Dockerfile(file)) => (empty(store)?, Some(file)),
    };
    let is_remote = context == "-" || remote_source(context)?.is_some();
    let (dockerfile, path) = match (&only_file, file) {
        (Some(only), None) => (read(only, "Dockerfile")?, None),
        (_, Some("-")) => (read_stdin()?, None),
        (_, Some(url)) if is_http(url) => (download(store, access, url)?, None),
        (_, given) => {
            let path = dockerfile_path(&dir, given, is_remote)?;
            (read(&path, given.unwrap_or("Dockerfile"))?, Some(path))
        }
    };
    let name = match (file, &path) {
        (Some(url), _) if is_http(url) => redact_credentials(url),
        (Some(name), _) if name != "-" => name.to_owned(),
        (None, Some(path)) => {
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        }
        _ => "Dockerfile".to_owned(),
    };
    let ignore = ignore_patterns(&dir, path.as_deref())?;
    let context_name = match is_remote {
        true => context.to_owned(),
        false => dir.display().to_string(),
    };
    Ok(Input { context: Context { dir, ignore }, dockerfile, name, context_name })
}

/// A directory made of what is behind a URL.
pub(crate) fn open_remote(
    store: &Store,
    access: &Access<'_>,
    place: &str,
) -> anyhow::Result<Context> {
    let Some(source) = remote_source(place)? else {
        bail!("unable to prepare context: path {place:?} not found");
    };
    let kept = store.sources()?;
    match fetch_remote_context(&source, access, &kept, &empty(store)?, &|_| {})? {
        RemoteContext::Directory(dir) => Ok(Context { dir, ignore: Vec::new() }),
        RemoteContext::Dockerfile(_) => {
            bail!("{place} is a single file, not a directory or an archive")
        }
    }
}

/// The patterns of a directory's ignore file; one that belongs to the Dockerfile wins.
pub(crate) fn ignore_patterns(
    dir: &Path,
    dockerfile: Option<&Path>,
) -> anyhow::Result<Vec<String>> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([dir.join(".dockerignore")]) {
        match files::read(&path, LONGEST) {
            Ok(text) if text.len() as u64 > LONGEST => {
                bail!("read the ignore file: {} is longer than {LONGEST} bytes", path.display())
            }
            Ok(text) => {
                let patterns = frontend::ignore::parse(&text);
                Filter::new(&[], &patterns)
                    .with_context(|| format!("{} cannot be used", path.display()))?;
                return Ok(patterns);
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error).context("read the ignore file"),
        }
    }
    Ok(Vec::new())
}

fn empty(store: &Store) -> anyhow::Result<PathBuf> {
    Ok(store.scratch_dir()?)
}

fn local_dir(context: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(context);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            if path.is_relative() {
                paths::current_dir()?;
            }
            Ok(path.canonicalize()?)
        }
        Ok(_) => bail!(
            "the build context {context:?} is not a directory: give the directory with the files to copy"
        ),
        Err(_) => bail!("unable to prepare context: path {context:?} not found"),
    }
}

/// Reads a context's name as a URL, unless it is a directory here.
fn remote_source(context: &str) -> anyhow::Result<Option<ContextSource>> {
    if Path::new(context).exists() || context == "-" {
        return Ok(None);
    }
    if let Some(git) = GitRef::parse(context)?.filter(|git| !git.looks_local) {
        return Ok(Some(ContextSource::Git(GitRequest {
            remote: git.remote,
            reference: git.reference,
            subdir: git.subdir,
            checksum: git.checksum,
            keep_git_dir: git.keep_git_dir.unwrap_or(false),
            submodules: git.submodules.unwrap_or(true),
            ..Default::default()
        })));
    }
    if is_http(context) {
        let request = HttpRequest { url: context.to_owned(), checksum: None };
        return Ok(Some(ContextSource::Http(request)));
    }
    Ok(None)
}

/// Where the Dockerfile is: as named from here or, in a context from elsewhere, in the context.
fn dockerfile_path(dir: &Path, given: Option<&str>, is_remote: bool) -> anyhow::Result<PathBuf> {
    let Some(given) = given else {
        // Docker accepts the name in small letters too.
        let usual = dir.join("Dockerfile");
        let small = dir.join("dockerfile");
        return Ok(if !usual.exists() && small.exists() { small } else { usual });
    };
    if is_remote {
        return Ok(dir.join(given.trim_start_matches('/')));
    }
    // As Go's programs do: `sub/../Dockerfile` is found also where there is no `sub`.
    let from_here = PathBuf::from(frontend::path::clean(given));
    if from_here.exists() {
        return Ok(std::path::absolute(from_here)?);
    }
    Ok(dir.join(given))
}

fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Fetches the Dockerfile.
fn download(store: &Store, access: &Access<'_>, url: &str) -> anyhow::Result<Vec<u8>> {
    let request = HttpRequest { url: url.to_owned(), checksum: None };
    let fetched = fetch(&request, access, &store.sources()?, &|_| {});
    let path = fetched.context("failed to read dockerfile")?.path;
    read(&path, &redact_credentials(url))
}

fn read(path: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    if path.is_dir() {
        bail!("failed to read dockerfile: read {name}: is a directory");
    }
    let bytes = files::read(path, LONGEST).map_err(|error| match is_missing(&error) {
        true => {
            anyhow::anyhow!("failed to read dockerfile: open {name}: no such file or directory")
        }
        false => error.context("failed to read dockerfile"),
    })?;
    if bytes.len() as u64 > LONGEST {
        bail!("failed to read dockerfile: {name} is longer than {LONGEST} bytes");
    }
    Ok(bytes)
}

fn is_missing(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn read_stdin() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("read the Dockerfile from standard input")?;
    Ok(bytes)
}
