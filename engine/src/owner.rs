//! Whose a file is to be: `--chown` and the owner of a working directory, looked up in the
//! /etc/passwd and /etc/group of the file system it is made in. Texts in, ids out.

/// Why an owner cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such user.
    #[error("unable to find user {0}: invalid user")]
    NoSuchUser(String),
    /// No such group.
    #[error("unable to find group {0}: invalid group")]
    NoSuchGroup(String),
}

/// Looks up `user[:group]`, each a name or an id. A user alone brings its primary group; an id
/// alone brings the group of the same number.
pub fn look_up(spec: &str, passwd: &str, group: &str) -> Result<(u32, u32), Error> {
    let (user, group_spec) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let (uid, primary) = match number(user) {
        Some(uid) => (uid, uid),
        None if user.is_empty() => (0, 0),
        None => ids(passwd, user, [2, 3])
            .map(|[uid, gid]| (uid, gid))
            .ok_or_else(|| Error::NoSuchUser(user.to_owned()))?,
    };
    let Some(name) = group_spec else { return Ok((uid, primary)) };
    let gid = match number(name) {
        Some(gid) => gid,
        None => ids(group, name, [2])
            .map(|[gid]| gid)
            .ok_or_else(|| Error::NoSuchGroup(name.to_owned()))?,
    };
    Ok((uid, gid))
}

/// Whether `user[:group]` can be told without any file.
pub fn is_numeric(spec: &str) -> bool {
    spec.split(':').all(|name| name.is_empty() || number(name).is_some())
}

/// An id as it is written; root is the same one everywhere.
fn number(name: &str) -> Option<u32> {
    if name == "root" { Some(0) } else { name.parse().ok() }
}

/// The numbers in these columns of the line that begins with `name` (passwd(5), group(5)).
fn ids<const N: usize>(file: &str, name: &str, columns: [usize; N]) -> Option<[u32; N]> {
    let line = file.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = line.into_iter().find(|fields| fields.first() == Some(&name))?;
    let mut found = [0; N];
    for (id, column) in found.iter_mut().zip(columns) {
        *id = line.get(column)?.parse().ok()?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: Result<(u32, u32), Error>) {
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:50:::\nbroken:x\n";
        let group = "root:x:0:\nstaff:x:50:app\nweb:x:33:\n";
        assert_eq!(look_up(spec, passwd, group), expected, "{spec}");
    }

    #[test]
    fn users_and_groups_are_names_or_ids() {
        check("", Ok((0, 0)));
        check("app", Ok((1000, 50)));
        check("app:web", Ok((1000, 33)));
        check("app:7", Ok((1000, 7)));
        check("12", Ok((12, 12)));
        check("12:", Ok((12, 12)));
        check("12:staff", Ok((12, 50)));
        check(":web", Ok((0, 33)));
        check("root:app", Err(Error::NoSuchGroup("app".into())));
        check("nobody", Err(Error::NoSuchUser("nobody".into())));
        check("broken", Err(Error::NoSuchUser("broken".into())));
        check("app:nogroup", Err(Error::NoSuchGroup("nogroup".into())));
    }

    #[test]
    fn root_and_numbers_need_no_files() {
        assert_eq!(look_up("root:root", "", ""), Ok((0, 0)));
        assert_eq!(look_up("7:root", "", ""), Ok((7, 0)));
        assert!(is_numeric("root:5") && is_numeric("5:") && is_numeric(":5"));
        assert!(!is_numeric("app") && !is_numeric("5:app"));
    }
}
