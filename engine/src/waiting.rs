//! Tells who keeps a step waiting: another build that does the same.
//!
//! Who that is, the kernel knows (`/proc/locks`, proc(5)). Does not wait itself.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use cache::digest::Digest;

use crate::graph::VertexId;
use crate::progress::{Event, Stream};
use crate::session::Session;

/// Shorter waits are nobody's concern.
const PATIENCE: Duration = Duration::from_secs(1);

/// A step that waits for the operation with a key to be done.
pub(crate) struct Waiting<'s> {
    session: &'s Session<'s>,
    vertex: VertexId,
    key: Digest,
    /// When it is to be told next.
    due: Instant,
    told: Option<String>,
}

impl<'s> Waiting<'s> {
    pub(crate) fn new(session: &'s Session<'s>, vertex: VertexId, key: Digest) -> Self {
        Self { session, vertex, key, due: Instant::now() + PATIENCE, told: None }
    }

    /// Says whom it waits for, when it is time to and not what was said last.
    pub(crate) fn tell(&mut self) {
        if Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + PATIENCE;
        let Some(text) = self.whom() else { return };
        if self.told.as_ref() != Some(&text) {
            let (vertex, bytes) = (self.vertex, text.as_bytes());
            (self.session.listener)(Event::Output { vertex, stream: Stream::Stderr, bytes });
            self.told = Some(text);
        }
    }

    /// Nobody, if the lock has just been given up, or is this build's own.
    fn whom(&self) -> Option<String> {
        let name = format!("{}.lock", self.key.hex());
        let inode = fs_err::metadata(self.session.store.root().join("tmp").join(name)).ok()?.ino();
        let locks = fs_err::read_to_string("/proc/locks").ok()?;
        let process = holder(&locks, inode)?;
        if process == std::process::id() {
            return None;
        }
        let stopped = fs_err::read_to_string(format!("/proc/{process}/stat"))
            .is_ok_and(|stat| is_stopped(&stat));
        let but = if stopped { " and is stopped" } else { "" };
        Some(format!("waiting for process {process}, which runs the same step{but}\n"))
    }
}

/// The process that holds the flock(2) on an inode; none if it is one that we cannot see.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, file, ..] = fields[..] else { return None };
        let (_, number) = file.rsplit_once(':')?;
        let found = number.parse() == Ok(inode);
        process.parse().ok().filter(|process| found && *process > 0)
    })
}

/// Whether `/proc/<pid>/stat` is that of a stopped process; its name may have any characters.
fn is_stopped(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:5 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 08:01:55 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 08:01:5 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 08:01:6 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 08:01:7 0 EOF\n";
        for (inode, expected) in [(5, Some(13)), (55, Some(12)), (6, None), (7, None), (8, None)] {
            assert_eq!(holder(locks, inode), expected, "{inode}");
        }
    }

    #[test]
    fn a_stopped_process_is_known() {
        assert!(is_stopped("7 (a) S) T 1 2"));
        assert!(!is_stopped("7 (a) T) S 1 2"));
        assert!(!is_stopped(""));
    }
}
