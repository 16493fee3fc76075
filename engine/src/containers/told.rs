//! What a container is told of its network by files in it, and how a running one is told again.
//!
//! ```text
//! <container's directory>/hosts        mounted at /etc/hosts
//! <container's directory>/hostname     at /etc/hostname
//! <container's directory>/resolv.conf  at /etc/resolv.conf
//! ```
//!
//! They are written anew whenever it is started, under other names and then renamed, and stay when it
//! has ended. Of a running container they are changed in place: what is mounted is the file, and not
//! its name. The container may write to them unless all of its root is read-only: only our own lines
//! of its hosts file are changed, and its `resolv.conf` only as long as it says what we wrote.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;

use super::record::Record;
use crate::container::spec::{Mount, MountSource};
use crate::network::resolv;

const HOSTS: &str = "hosts";
const HOSTNAME: &str = "hostname";
const RESOLV_CONF: &str = "resolv.conf";

/// What the name of a file ends with that is being written.
const UNFINISHED: &str = ".part";

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

/// Where a container's files are on the host, once it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldFiles {
    /// What is at `/etc/hosts`.
    pub hosts: PathBuf,
    /// What is at `/etc/hostname`.
    pub hostname: PathBuf,
    /// What is at `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl ToldFiles {
    /// Those of the container with this directory; none if it was never started.
    pub fn find(dir: &Path) -> Option<ToldFiles> {
        let [hosts, hostname, resolv_conf] =
            [HOSTS, HOSTNAME, RESOLV_CONF].map(|name| dir.join(name));
        // The last one that is written.
        resolv_conf.exists().then_some(ToldFiles { hosts, hostname, resolv_conf })
    }
}

/// The files of a container that does not run; empty ones, as docker has, if it never did.
pub(super) fn mounts(dir: &Path) -> Vec<Mount> {
    let started = ToldFiles::find(dir).is_some();
    let nothing = || MountSource::File { bytes: Vec::new(), mode: 0o755, uid: 0, gid: 0 };
    let mount = |name| {
        let bound = mount(dir, name);
        if started { bound } else { Mount { source: nothing(), ..bound } }
    };
    [HOSTS, HOSTNAME, RESOLV_CONF].map(mount).into()
}

/// Puts these files among what else a container has mounted: behind what is mounted above them, which does not hide them,
/// and before what is mounted in their own places, which does.
pub(super) fn among(mut told: Vec<Mount>, others: Vec<Mount>) -> Vec<Mount> {
    told.extend(others);
    told.sort_by_key(|mount| mount.target.components().count());
    told
}

fn mount(dir: &Path, name: &str) -> Mount {
    let source = MountSource::Bind(dir.join(name));
    Mount { target: Path::new("/etc").join(name), source, read_only: false }
}

impl Told {
    /// Writes the files of a container that is to be started, each whole or not at all: a start that
    /// is broken off leaves what was there, and who reads them meanwhile finds no half of one. They
    /// need not reach the disk: the next start writes them anew.
    pub(super) fn files(&self, dir: &Path, record: &Record) -> io::Result<Vec<Mount>> {
        let hostname = resolv::hostname(&record.config.hostname);
        let files = [(HOSTS, &*self.hosts), (HOSTNAME, &hostname), (RESOLV_CONF, &self.servers)];
        for (name, text) in files {
            put(dir, name, text)?;
        }
        // Who may write nowhere may not write there either.
        let read_only = record.host_config.readonly_rootfs;
        Ok(files.map(|(name, _)| Mount { read_only, ..mount(dir, name) }).into())
    }

    /// What the container with this directory was told; none if it cannot be read.
    pub(super) fn of(dir: &Path) -> Option<Told> {
        let read = |name| text(&open(&dir.join(name)).ok()?).ok().flatten();
        Some(Told { hosts: read(HOSTS)?, own: Vec::new(), servers: read(RESOLV_CONF)? })
    }

    /// Changes the files of a running container, which say this, to what `now` says.
    pub(super) fn change_to(&self, now: &Told, dir: &Path) -> io::Result<()> {
        if self.own != now.own {
            edit(&dir.join(HOSTS), |text| replace_lines(text, &self.own, &now.own))?;
        }
        if self.servers != now.servers {
            let ours = |text: &str| text == self.servers;
            let now = |text: &str| if ours(text) { &now.servers } else { text }.to_owned();
            edit(&dir.join(RESOLV_CONF), now)?;
        }
        Ok(())
    }
}

/// Writes a file beside its name and renames it. Nobody else does: who starts a container holds its
/// lock, and what is left from one who was killed is written over.
fn put(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let temp = dir.join(format!("{name}{UNFINISHED}"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let file = options.open(&temp)?;
    file.file().write_all_at(text.as_bytes(), 0)?;
    fs::rename(temp, dir.join(name))
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

/// Changes a file that is mounted in a container: in place, for there it has no other name.
fn edit(path: &Path, change: impl Fn(&str) -> String) -> io::Result<()> {
    let file = open(path)?;
    let Some(text) = text(&file)? else { return Ok(()) };
    let changed = change(&text);
    if changed == text {
        return Ok(());
    }
    // In this order no reader finds it empty.
    file.file().write_all_at(changed.as_bytes(), 0)?;
    file.set_len(changed.len() as u64)
}

fn open(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).write(true).open(path)
}

/// What a file says; nothing if the container has put there what is no text of ours.
fn text(file: &fs::File) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.file().take(LONGEST + 1).read_to_end(&mut bytes)?;
    let short = bytes.len() as u64 <= LONGEST;
    Ok(String::from_utf8(bytes).ok().filter(|_| short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_writes_files_anew_and_leaves_those_that_are_open_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let dir = dir.path();
        let told = |hosts: &str| Told { hosts: hosts.to_owned(), ..Told::default() };
        // What one who was killed while it wrote has left.
        fs::write(dir.join("hosts.part"), "half, and longer than all of it").expect("write");
        told("first\n").files(dir, &Record::default()).expect("write");
        let mounted = fs::File::open(dir.join(HOSTS)).expect("open");
        let mounts = told("2\n").files(dir, &Record::default()).expect("write");
        assert_eq!(mounts.len(), 3);
        assert_eq!(text(&mounted).expect("read").as_deref(), Some("first\n"));
        assert_eq!(fs::read_to_string(dir.join(HOSTS)).expect("read"), "2\n");
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        assert_eq!(names, [HOSTNAME, HOSTS, RESOLV_CONF]);
    }

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
