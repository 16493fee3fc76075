//! Who a container's program runs as: `user[:group]` looked up in the container's own files.
//!
//! The rules and the texts are docker's: a number is an id even if there is a user of that name, an
//! id need not be in the files, and the groups of a user count only when no group is given.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};

use super::spec::Process;
use super::wire::Failure;

/// Ids are limited to what fits a signed number, as docker's are.
const MAX_ID: u32 = i32::MAX as u32;

/// No sane user database is larger.
const MAX_FILE: u64 = 16 << 20;

/// User, groups and home directory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The supplementary groups; the primary one is among them.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl Identity {
    /// Looks the process's user up in /etc/passwd and /etc/group of the root this process is in.
    pub(super) fn resolve(process: &Process) -> Result<Identity, Failure> {
        let (passwd, group) = (read_database("/etc/passwd"), read_database("/etc/group"));
        resolve(&process.user, &process.additional_groups, &passwd, &group)
            .map_err(Failure::Refused)
    }
}

/// The text of a user database; one that is not there, or is no file, has no entries.
fn read_database(path: &str) -> String {
    // Not blocking: an image may have a FIFO of that name.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut bytes = Vec::new();
    if let Ok(file) = rustix::fs::open(path, flags, Mode::empty())
        && is_regular(&file)
        && File::from(file).take(MAX_FILE).read_to_end(&mut bytes).is_err()
    {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_regular(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

/// A number is an id, in range or refused; anything else is a name.
fn parse_id(text: &str) -> Result<Option<u32>, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(format!("uids and gids must be in range 0-{MAX_ID}")),
    }
}

fn resolve(
    user: &str,
    additional_groups: &[String],
    passwd: &str,
    group: &str,
) -> Result<Identity, String> {
    let (user, group_name) = user.split_once(':').unwrap_or((user, ""));
    let (uid, gid) = (parse_id(user)?, parse_id(group_name)?);
    let wanted_uid = if user.is_empty() { Some(0) } else { uid };
    let entry = users(passwd).find(|entry| match wanted_uid {
        Some(uid) => entry.uid == uid,
        None => entry.name == user,
    });
    let mut identity = match (&entry, wanted_uid) {
        (Some(entry), _) => Identity {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            home: entry.home.to_owned(),
        },
        (None, Some(uid)) => Identity { uid, gid: 0, groups: Vec::new(), home: "/".to_owned() },
        (None, None) => {
            return Err(format!("unable to find user {user}: no matching entries in passwd file"));
        }
    };
    // To the kernel the largest one means "leave it as it is".
    if identity.uid > MAX_ID || identity.gid > MAX_ID {
        return Err(format!("uids and gids must be in range 0-{MAX_ID}"));
    }
    if !group_name.is_empty() {
        identity.gid = match gid {
            Some(gid) => gid,
            None => find_group(group_name, group)?,
        };
    }
    identity.groups.push(identity.gid);
    if let (Some(entry), true) = (&entry, group_name.is_empty()) {
        let is_member = |group: &Group<'_>| group.members.split(',').any(|name| name == entry.name);
        identity.groups.extend(groups(group).filter(is_member).map(|group| group.gid));
    }
    for name in additional_groups {
        identity.groups.push(match parse_id(name)? {
            Some(gid) => gid,
            None => find_group(name, group)?,
        });
    }
    Ok(identity)
}

fn find_group(name: &str, group: &str) -> Result<u32, String> {
    groups(group)
        .find(|group| group.name == name)
        .map(|group| group.gid)
        .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:Web:/srv/web:/bin/false\n1234:x:77:78::/odd:\n";
    const GROUP: &str =
        "root:x:0:root\n# comment:x:5:web\nweb:x:34:\nstaff:x:50:other,web\nlog:x:60:web\n";

    #[track_caller]
    fn check(user: &str, additional: &[&str], expected: Result<(u32, u32, &[u32], &str), &str>) {
        let additional: Vec<String> = additional.iter().map(|name| (*name).to_owned()).collect();
        let expected = expected
            .map(|(uid, gid, groups, home)| Identity {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.to_owned(),
            })
            .map_err(str::to_owned);
        assert_eq!(resolve(user, &additional, PASSWD, GROUP), expected, "user {user:?}");
    }

    #[test]
    fn users_and_groups_are_found_as_docker_finds_them() {
        check("", &[], Ok((0, 0, &[0, 0], "/root")));
        check("root", &[], Ok((0, 0, &[0, 0], "/root")));
        check("web", &[], Ok((33, 34, &[34, 50, 60], "/srv/web")));
        check("33", &[], Ok((33, 34, &[34, 50, 60], "/srv/web")));
        check("web:staff", &[], Ok((33, 50, &[50], "/srv/web")));
        check("web:0", &[], Ok((33, 0, &[0], "/srv/web")));
        check("web:4321", &[], Ok((33, 4321, &[4321], "/srv/web")));
        check("1234", &[], Ok((1234, 0, &[0], "/")));
        check("1234:5678", &[], Ok((1234, 5678, &[5678], "/")));
        check(":staff", &[], Ok((0, 50, &[50], "/root")));
        check("web", &["log", "99"], Ok((33, 34, &[34, 50, 60, 60, 99], "/srv/web")));
    }

    #[test]
    fn what_is_not_there_is_named() {
        check("foo", &[], Err("unable to find user foo: no matching entries in passwd file"));
        check("web:foo", &[], Err("unable to find group foo: no matching entries in group file"));
        check("", &["foo"], Err("unable to find group foo: no matching entries in group file"));
        check("4294967296", &[], Err("uids and gids must be in range 0-2147483647"));
        check("-1", &[], Err("uids and gids must be in range 0-2147483647"));
    }
}
