//! Waits until files of a directory change: inotify(7), beside whatever else is waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// A directory that is watched. Readable when something was written, made or put there.
pub(crate) struct Changes(OwnedFd);

impl Changes {
    /// Watches a directory. One that is not there never changes.
    pub(crate) fn watch(dir: &Path) -> io::Result<Changes> {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        match inotify::add_watch(&changes, dir, events) {
            Ok(_) | Err(Errno::NOENT) => Ok(Changes(changes)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Forgets what has changed so far: it is looked at now.
    pub(crate) fn forget(&self) {
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|read| read > 0) {}
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until something is ready, the time is up or a signal comes; whether each is ready.
pub(crate) fn wait<const N: usize>(
    mut polled: [PollFd<'_>; N],
    time: Option<Duration>,
) -> io::Result<[bool; N]> {
    let time = time.map(|time| Timespec {
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
    });
    match poll(&mut polled, time.as_ref()) {
        Ok(_) => Ok(polled.map(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok([false; N]),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for input.
pub(crate) fn readable<'a>(fd: &'a impl AsFd) -> PollFd<'a> {
    PollFd::new(fd, PollFlags::IN)
}
