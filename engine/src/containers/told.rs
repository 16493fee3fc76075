//! What a container is told of its network by files in it, and how a running one is told again.
//!
//! The files are mounted in the container, which may write to them: only our own lines of its hosts
//! file are changed, and its `resolv.conf` only as long as it says what we wrote. A file that was
//! covered or unmounted is the container's own, and left alone.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, StatxAttributes, StatxFlags};
use rustix::process::Pid;

use super::assemble::file;
use super::record::Record;
use crate::container::spec::Mount;
use crate::network::resolv;
use crate::view::View;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: i64 = 0x0102_1994;

/// A file that has become longer is not ours to edit.
const LONGEST: u64 = 1 << 20;

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The whole hosts file, as a program that starts finds it.
    pub(super) hosts: String,
    /// Those lines of it that name the container itself.
    pub(super) own: Vec<String>,
    /// `resolv.conf`.
    pub(super) servers: String,
}

impl Told {
    /// The files, for a container that is to be started.
    pub(super) fn files(&self, record: &Record) -> Vec<Mount> {
        vec![
            file(HOSTS, self.hosts.clone()),
            file("/etc/hostname", resolv::hostname(&record.config.hostname)),
            file(RESOLV_CONF, self.servers.clone()),
        ]
    }

    /// What a running container was told; none if it has put something else in its place.
    pub(super) fn of(pid: Pid) -> Option<Told> {
        let read = |path: &str| {
            let mut text = String::new();
            let file = open(pid, path).ok()??;
            file.take(LONGEST).read_to_string(&mut text).ok()?;
            Some(text)
        };
        Some(Told { hosts: read(HOSTS)?, own: Vec::new(), servers: read(RESOLV_CONF)? })
    }

    /// Changes the files of a running container, which say this, to what `now` says.
    pub(super) fn change_to(&self, now: &Told, record: &Record, pid: Pid) -> io::Result<()> {
        let edit = |path: &str, change: &dyn Fn(&str) -> String| {
            let covered = record.mounts.iter().any(|mount| mount.point.destination == path);
            if covered { Ok(()) } else { edit(pid, path, change) }
        };
        if self.own != now.own {
            edit(HOSTS, &|text| replace_lines(text, &self.own, &now.own))?;
        }
        if self.servers != now.servers {
            let ours = |text: &str| text == self.servers;
            edit(RESOLV_CONF, &|text| if ours(text) { &now.servers } else { text }.to_owned())?;
        }
        Ok(())
    }
}

/// A text without the lines that are gone, and with the new ones at its end. What the container
/// took out stays out.
fn replace_lines(text: &str, before: &[String], now: &[String]) -> String {
    let has = |lines: &[String], line: &str| lines.iter().any(|it| it == line);
    let mut edited = String::new();
    let kept = text.lines().filter(|line| !has(before, line) || has(now, line));
    let new = now.iter().map(String::as_str).filter(|line| !has(before, line));
    for line in kept.chain(new) {
        edited += line;
        edited.push('\n');
    }
    edited
}

/// Changes a file that we have mounted in a container.
fn edit(pid: Pid, path: &str, change: &dyn Fn(&str) -> String) -> io::Result<()> {
    let Some(file) = open(pid, path)? else { return Ok(()) };
    let mut text = String::new();
    if (&file).take(LONGEST + 1).read_to_string(&mut text).is_err() || text.len() as u64 > LONGEST {
        return Ok(());
    }
    let changed = change(&text);
    if changed == text {
        return Ok(());
    }
    // In this order no reader finds it empty.
    file.write_all_at(changed.as_bytes(), 0)?;
    file.set_len(changed.len() as u64)
}

/// Opens a file that we have mounted in a container; none if something else is there now.
fn open(pid: Pid, path: &str) -> io::Result<Option<File>> {
    let root = format!("/proc/{}/root", pid.as_raw_nonzero());
    // It may have ended, and the path may lead over links, or to nothing.
    let Ok(root) = View::open(Path::new(&root)) else { return Ok(None) };
    let relative = path.trim_start_matches('/').as_bytes();
    let Ok(found) = root.open_at(relative, OFlags::PATH | OFlags::NOFOLLOW) else {
        return Ok(None);
    };
    let stat = rustix::fs::statx(&found, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    let ours = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        && FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
        && rustix::fs::fstatfs(&found)?.f_type == TMPFS;
    if !ours {
        return Ok(None);
    }
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    File::options().read(true).write(true).open(link).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_lines_of_a_hosts_file_change() {
        let lines = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        for (text, before, now, expected) in [
            ("a\nown1\n", &["own1"][..], &["own1", "own2"][..], "a\nown1\nown2\n"),
            ("a\nown1\ntheirs\nown2\n", &["own1", "own2"], &["own2"], "a\ntheirs\nown2\n"),
            ("a\nown1\ntheirs", &["own1"], &[], "a\ntheirs\n"),
            ("theirs\n", &["own1"], &["own1", "own2"], "theirs\nown2\n"),
            ("", &[], &["own1"], "own1\n"),
        ] {
            assert_eq!(replace_lines(text, &lines(before), &lines(now)), expected, "{text:?}");
        }
    }
}
