//! Regular files, opened so that nothing that lies in their place keeps anybody waiting: who opens
//! a pipe waits for its other end, and a directory is found out only when it is read.

use std::fs::FileType;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::OFlags;

use crate::error::{Error, Result};

/// Opens a file to read it; nothing when it is not there.
pub(crate) fn open(path: &Path) -> Result<Option<fs::File>> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A socket cannot be opened.
        Err(error) => match fs::symlink_metadata(path).map(|found| instead(found.file_type())) {
            Ok(Some(what)) => return Err(damaged(path, what)),
            _ => return Err(Error::Io(error)),
        },
    };
    match instead(file.metadata().map_err(Error::Io)?.file_type()) {
        Some(what) => Err(damaged(path, what)),
        None => Ok(Some(file)),
    }
}

/// Reads a file; nothing when it is not there.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::Io)?;
    Ok(Some(bytes))
}

/// What there is instead of a file, if it is something else.
pub(crate) fn instead(found: FileType) -> Option<&'static str> {
    match found {
        found if found.is_file() => None,
        found if found.is_dir() => Some("is a directory, not a file"),
        found if found.is_symlink() => Some("is a symbolic link, not a file"),
        found if found.is_fifo() => Some("is a named pipe, not a file"),
        found if found.is_socket() => Some("is a socket, not a file"),
        _ => Some("is a device, not a file"),
    }
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::Damaged { path: path.to_owned(), why: format!("it {what}") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_file_is_named_and_nobody_waits() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| dir.path().join(name);
        assert_eq!(read(&path("file")).expect("look"), None);
        fs::write(path("file"), "text").expect("write");
        assert_eq!(read(&path("file")).expect("look").expect("there"), b"text");
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
        let _socket = UnixListener::bind(path("socket")).expect("bind");
        for (name, expected) in [
            ("", "it is a directory"),
            ("pipe", "it is a named pipe"),
            ("socket", "it is a socket"),
        ] {
            let error = read(&path(name)).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
