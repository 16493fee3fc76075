//! Which extended attributes the kernel would refuse as malformed, told without asking it.
//!
//! What an archive says is checked when it is read, not when its layer is first used. Attributes of
//! a kind that a file system does not have are none of this: those are left out where they are set.

use super::entry::{Entry, Kind};
use super::xattr;

/// Longer names and values have no place in any file system (xattr(7)).
const LONGEST_NAME: usize = 255;
const LONGEST_VALUE: usize = 64 * 1024;

/// Returns the name of the first attribute that could not be set.
pub(super) fn malformed(entry: &Entry) -> Option<&[u8]> {
    entry
        .xattrs
        .iter()
        .filter(|(name, _)| !xattr::is_overlay_mark(name))
        .find(|(name, value)| !is_valid(&entry.kind, name, value))
        .map(|(name, _)| name.as_slice())
}

fn is_valid(kind: &Kind, name: &[u8], value: &[u8]) -> bool {
    let has_name = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(&0);
    if !has_name || value.len() > LONGEST_VALUE {
        return false;
    }
    match name {
        b"user." | b"trusted." | b"security." => false,
        b"security.capability" => value.is_empty() || is_capability(value),
        b"system.posix_acl_access" => is_acl(value),
        b"system.posix_acl_default" => {
            // No file can have one; a link has no lists at all, which is another matter.
            is_acl(value)
                && (matches!(kind, Kind::Directory | Kind::Symlink(_)) || !has_entries(value))
        }
        _ => true,
    }
}

/// `struct vfs_ns_cap_data` of capability.h, in version 2 or 3.
fn is_capability(value: &[u8]) -> bool {
    let Some(magic) = number(value, 0) else { return false };
    match (magic & 0xff00_0000, value.len()) {
        (0x0200_0000, 20) => true,
        (0x0300_0000, 24) => number(value, 20).is_some_and(|root| root != u32::MAX),
        _ => false,
    }
}

fn has_entries(value: &[u8]) -> bool {
    value.len() > 4
}

/// The list of posix_acl_xattr.h: a version, then tag, permissions and id of each entry, in the
/// order of acl(5). A list of another version is not known to be malformed.
fn is_acl(value: &[u8]) -> bool {
    const VERSION: u32 = 2;
    match number(value, 0) {
        None => return value.is_empty(),
        Some(VERSION) => {}
        Some(_) => return true,
    }
    let (entries, rest) = value[4..].as_chunks::<8>();
    if !rest.is_empty() {
        return false;
    }
    let (mut place, mut names_somebody) = (0, false);
    for entry in entries {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let has_id = entry[4..] != [0xff; 4];
        // Owner, named users, group, named groups, mask, others.
        place = match (tag, place) {
            (0x01, 0) => 1,
            (0x02, 1) if has_id => 1,
            (0x04, 1) => 2,
            (0x08, 2) if has_id => 2,
            (0x10, 2) => 3,
            (0x20, 3) => 4,
            (0x20, 2) if !names_somebody => 4,
            _ => return false,
        };
        names_somebody |= matches!(tag, 0x02 | 0x08);
        if permissions > 0o7 {
            return false;
        }
    }
    entries.is_empty() || place == 4
}

fn number(value: &[u8], at: usize) -> Option<u32> {
    let bytes = value.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::os::fd::AsFd;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    fn capability(version: u32, length: usize, rest: u8) -> Vec<u8> {
        let mut value = (version << 24).to_le_bytes().to_vec();
        value.resize(length, rest);
        value
    }

    /// What the kernel says; an attribute that the file system does not have is not malformed.
    fn kernel_takes(dir: &std::path::Path, kind: &Kind, name: &[u8], value: &[u8]) -> bool {
        let dir = std::fs::File::open(dir).expect("open");
        let at: &[u8] = match kind {
            Kind::Directory => b"dir",
            Kind::Symlink(_) => b"link",
            _ => b"file",
        };
        match xattr::set(dir.as_fd(), at, name, value) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => true,
            Err(Errno::INVAL | Errno::RANGE | Errno::TOOBIG | Errno::ACCESS) => false,
            Err(error) => panic!("{}: {error}", name.escape_ascii()),
        }
    }

    #[test]
    fn what_is_malformed_is_what_the_kernel_refuses() {
        let temp = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(temp.path().join("dir")).expect("mkdir");
        std::fs::write(temp.path().join("file"), "").expect("write");
        std::os::unix::fs::symlink("file", temp.path().join("link")).expect("symlink");
        let (owner, group, others) = ((1, 6, u32::MAX), (4, 4, u32::MAX), (0x20, 0, u32::MAX));
        let (user, mask) = ((2, 6, 1000), (0x10, 6, u32::MAX));
        let mut cases: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for value in [
            capability(2, 20, 0),
            capability(2, 24, 0),
            capability(2, 19, 0),
            capability(3, 24, 0),
            capability(3, 24, 0xff),
            capability(3, 20, 0),
            capability(1, 12, 0),
            capability(4, 20, 0),
            b"nonsense".to_vec(),
            b"x".to_vec(),
        ] {
            cases.push((b"security.capability".to_vec(), value));
        }
        for value in [
            acl(&[owner, group, others]),
            acl(&[owner, user, group, mask, others]),
            acl(&[owner, user, group, others]),
            acl(&[owner, (2, 6, u32::MAX), group, mask, others]),
            acl(&[owner, user, group, (8, 4, 7), mask, others]),
            acl(&[owner, group]),
            acl(&[group, owner, others]),
            acl(&[owner, (4, 8, u32::MAX), others]),
            acl(&[owner, group, others, others]),
            acl(&[(3, 0, 0)]),
            acl(&[]),
            acl(&[owner, group, others])[..27].to_vec(),
            b"\x02\0".to_vec(),
            b"\x09\0\0\0".to_vec(),
        ] {
            cases.push((b"system.posix_acl_access".to_vec(), value.clone()));
            cases.push((b"system.posix_acl_default".to_vec(), value));
        }
        let long = [b"user.".as_slice(), &[b'n'; 251]].concat();
        for name in [b"user.".as_slice(), b"user.x", b"", b"bare", b"other.x", b"user.a\0b", &long]
        {
            cases.push((name.to_vec(), b"value".to_vec()));
        }
        cases.push((b"user.x".to_vec(), vec![0; LONGEST_VALUE + 1]));
        let kinds = [Kind::File { size: 0 }, Kind::Directory, Kind::Symlink(b"file".to_vec())];
        for (name, value) in &cases {
            for kind in &kinds {
                let expected = kernel_takes(temp.path(), kind, name, value);
                let what = format!("{} {value:?} {kind:?}", name.escape_ascii());
                let valid = is_valid(kind, name, value);
                // Most attributes are refused for links before anybody looks at what they say.
                if matches!(kind, Kind::Symlink(_)) {
                    assert!(expected || !valid, "{what}");
                } else {
                    assert_eq!(valid, expected, "{what}");
                }
            }
        }
    }
}
