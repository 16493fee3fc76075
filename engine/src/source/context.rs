//! A build context that comes from elsewhere: a git repository, an archive or one Dockerfile.
//!
//! The same stream of bytes may come from a URL or from standard input; what it is shows in the bytes,
//! not in a name. Knows nothing of what a Dockerfile says or of what is to be ignored.

use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use cache::compress;
use cache::layer::unpack::{Form, unpack_layer};

use super::git::{self, GitRequest};
use super::http::{self, HttpRequest};
use super::url::redact_credentials;
use super::{Access, Error};

/// Where a context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// In a git repository.
    Git(GitRequest),
    /// Behind a URL.
    Http(HttpRequest),
}

/// What a context turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteContext {
    /// A directory: the context, with the Dockerfile in it.
    Directory(PathBuf),
    /// A file that is the Dockerfile, and is alone.
    Dockerfile(PathBuf),
}

/// Fetches a context into `cache_dir`. An archive is unpacked into `into`, an empty directory.
pub fn fetch_remote_context(
    source: &ContextSource,
    access: &Access<'_>,
    cache_dir: &Path,
    into: &Path,
    progress: &dyn Fn(u64),
) -> Result<RemoteContext, Error> {
    match source {
        ContextSource::Git(request) => {
            let tree = git::checkout(request, access, cache_dir)?;
            Ok(RemoteContext::Directory(tree.directory))
        }
        ContextSource::Http(request) => {
            let name = redact_credentials(&request.url);
            let file = http::fetch(request, access, cache_dir, progress)?;
            let opened = fs_err::File::open(&file.path);
            let opened = opened.map_err(|error| failed(&name, error))?;
            read_context(opened, &name, into)
        }
    }
}

/// Reads a context: an archive, compressed in any way, is unpacked into `into`, an empty directory;
/// anything else is a Dockerfile, and put there under that name. `name` is for messages.
pub fn read_context(
    mut input: impl Read + Send,
    name: &str,
    into: &Path,
) -> Result<RemoteContext, Error> {
    let mut start = Vec::with_capacity(START);
    let read = input.by_ref().take(START as u64).read_to_end(&mut start);
    read.map_err(|error| failed(name, error))?;
    let is_archive = is_archive(&start);
    let mut whole = io::Cursor::new(start).chain(input);
    if !is_archive {
        let path = into.join("Dockerfile");
        write_file(&mut whole, &path).map_err(|error| failed(name, error))?;
        return Ok(RemoteContext::Dockerfile(path));
    }
    let directory = fs_err::File::open(into).map_err(|error| failed(name, error))?;
    let (plain, _) = compress::decompress(whole).map_err(|error| failed(name, error))?;
    unpack_layer(plain, directory.as_fd(), Form::Apply).map_err(|error| failed(name, error))?;
    Ok(RemoteContext::Directory(into.to_owned()))
}

/// How much of a stream shows what it is: one tar header.
const START: usize = 512;

/// Tells an archive from a Dockerfile. What is compressed can be nothing but an archive.
fn is_archive(start: &[u8]) -> bool {
    compress::Compression::detect(start) != compress::Compression::None || compress::is_tar(start)
}

fn write_file(input: &mut dyn Read, path: &Path) -> io::Result<()> {
    let mut file = fs_err::File::create(path)?;
    io::copy(input, &mut file)?;
    file.flush()
}

fn failed(name: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    let source = Box::new(source);
    Error::ReadContext { name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache::layer::{Entry, Kind, writer::LayerWriter};

    fn tar() -> Vec<u8> {
        let mut writer = LayerWriter::new(Vec::new());
        let size = 4;
        let entry = Entry::new("d/Dockerfile", Kind::File { size }, 0o644);
        writer.append(&entry, b"FROM".as_slice()).expect("appended");
        writer.finish().expect("finished")
    }

    fn check(input: &[u8], expected: impl Fn(&Path) -> RemoteContext, file: &str, content: &[u8]) {
        let directory = tempfile::tempdir().expect("a directory");
        let context = read_context(input, "-", directory.path()).expect("a context");
        assert_eq!(context, expected(directory.path()));
        assert_eq!(fs_err::read(directory.path().join(file)).expect("there"), content);
    }

    #[test]
    fn the_bytes_tell_an_archive_from_a_dockerfile() {
        let directory = |into: &Path| RemoteContext::Directory(into.to_owned());
        let dockerfile = |into: &Path| RemoteContext::Dockerfile(into.join("Dockerfile"));
        check(&tar(), directory, "d/Dockerfile", b"FROM");
        check(b"FROM scratch\n", dockerfile, "Dockerfile", b"FROM scratch\n");
        check(b"", dockerfile, "Dockerfile", b"");
        let long = b"# text\n".repeat(1000);
        check(&long, dockerfile, "Dockerfile", &long);
    }

    #[test]
    fn a_broken_archive_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = read_context(&[0x1f, 0x8b, 8, 0][..], "http://h/x", directory.path());
        assert_eq!(error.expect_err("broken").to_string(), "read the context http://h/x");
    }
}
