//! A socket for containers, behind which is an agent.

use std::fs::Permissions;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::protocol::{FAILURE, only_uses_keys, read_message, write_message};
use super::{Agent, Error};

/// Who may use a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// The user, as this process numbers them.
    pub uid: u32,
    /// The group, as this process numbers them.
    pub gid: u32,
    /// The permissions.
    pub mode: u32,
}

/// A socket that passes on to an agent what uses keys, until it is dropped.
#[derive(Debug)]
pub struct Relay {
    path: PathBuf,
    stopped: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens at `path`, where nothing is, for `owner`, on behalf of `agent`.
    pub fn start(agent: &Agent, path: &Path, owner: SocketOwner) -> Result<Self, Error> {
        let listen = |source| Error::Listen { path: path.to_owned(), source };
        let listener = bind(path, owner).map_err(listen)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let upstream = agent.socket().to_owned();
        let seen = Arc::clone(&stopped);
        let accept = move || {
            for client in listener.incoming() {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(client), Ok(agent)) = (client, connect(&upstream)) else {
                    continue;
                };
                // It ends with its client: a container's processes do not outlive their step.
                std::thread::spawn(move || pass_on(client, agent));
            }
        };
        let listening = std::thread::Builder::new().name("ssh-relay".into()).spawn(accept);
        let listening = Some(listening.map_err(listen)?);
        Ok(Self { path: path.to_owned(), stopped, listening })
    }

    /// Returns where it listens, to be mounted into a container.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // A client that wants nothing wakes the thread up to see that it is over.
        if connect(&self.path).is_ok()
            && let Some(listening) = self.listening.take()
        {
            let _ = listening.join();
        }
        let _ = fs_err::remove_file(&self.path);
    }
}

/// Answers a client's requests, one by one, until it has no more.
fn pass_on(mut client: UnixStream, mut agent: UnixStream) {
    let mut answer_one = || -> io::Result<bool> {
        let Some(request) = read_message(&mut client)? else {
            return Ok(false);
        };
        if !only_uses_keys(&request) {
            write_message(&mut client, &[FAILURE])?;
            return Ok(true);
        }
        write_message(&mut agent, &request)?;
        let Some(answer) = read_message(&mut agent)? else {
            return Ok(false);
        };
        write_message(&mut client, &answer)?;
        Ok(true)
    };
    // Either end may vanish at any time, and the other then sees its stream end: nothing to report.
    while answer_one().unwrap_or(false) {}
}

fn bind(path: &Path, owner: SocketOwner) -> io::Result<UnixListener> {
    let listener = at_short_path(path, |short| UnixListener::bind(short))?;
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))?;
    // After the owner: changing that could take bits away again.
    fs_err::set_permissions(path, Permissions::from_mode(owner.mode & 0o777))?;
    Ok(listener)
}

/// Connects to a socket, however long its path is.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    at_short_path(path, |short| UnixStream::connect(short))
}

/// Calls `work` with another path to the same place: a socket's may have no more than 107 bytes
/// (unix(7)), which a store deep in a home directory exceeds.
fn at_short_path<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() < 108 {
        return work(path);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return work(path);
    };
    let parent = fs_err::File::open(parent)?.into_file();
    work(&Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name))
}
