//! The options of the driver `local`: a file system that is mounted at a volume's directory while
//! containers use it.
//!
//! Options are those of docker: `type` and `device` of `mount(2)`, `o` with flags and data as in
//! `fstab(5)`.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use cache::oci::StringMap;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::store::is_mount_point;
use super::{Error, Result};

/// Says what is wrong with the options of a new volume, as docker does.
pub(super) fn check_options(options: &StringMap) -> std::result::Result<(), String> {
    for name in options.keys() {
        if !["type", "o", "device", "size"].contains(&name.as_str()) {
            return Err(format!("invalid option: {name:?}"));
        }
    }
    if options.contains_key("size") {
        return Err("quota size requested but no quota support".to_owned());
    }
    let needs: [(&str, &[&str]); 3] =
        [("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];
    for (name, others) in needs.into_iter().filter(|(name, _)| options.contains_key(*name)) {
        let missing = others.iter().find(|other| !options.contains_key(**other));
        if let Some(missing) = missing {
            return Err(format!("missing required option: {missing:?} (needed by {name:?})"));
        }
    }
    Ok(())
}

/// Mounts what the options name, unless something is mounted there.
pub(super) fn mount(options: &StringMap, directory: &Path) -> Result<()> {
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    let (kind, device) = (option("type"), option("device"));
    if (kind.is_empty() && device.is_empty()) || is_mount_point(directory)? {
        return Ok(());
    }
    let given = Given::parse(option("o"));
    let data = match kind {
        "nfs" | "nfs4" | "cifs" => with_address(&given.data)?,
        _ => given.data.clone(),
    };
    let failed = |errno: rustix::io::Errno| Error::Mount {
        device: device.to_owned(),
        at: directory.to_owned(),
        data: without_password(&data),
        source: errno.into(),
    };
    let text = CString::new(data.as_str()).map_err(|_| failed(rustix::io::Errno::INVAL))?;
    let flags = given.flags;
    rustix::mount::mount(device, directory, kind, flags, text.as_c_str()).map_err(failed)?;
    // What a mount is a copy of decides its flags; they are only taken the second time.
    let rest = flags.difference(MountFlags::BIND | MountFlags::REC);
    if flags.contains(MountFlags::BIND) && !rest.is_empty() {
        rustix::mount::mount_remount(directory, MountFlags::BIND | rest, "").map_err(failed)?;
    }
    if let Some(propagation) = given.propagation {
        rustix::mount::mount_change(directory, propagation).map_err(failed)?;
    }
    Ok(())
}

/// Unmounts what is mounted at a volume's directory, if anything is.
pub(super) fn unmount(directory: &Path) -> Result<()> {
    if is_mount_point(directory)? {
        rustix::mount::unmount(directory, UnmountFlags::NOFOLLOW).map_err(|errno| {
            let why = io::Error::from(errno);
            let what = format!(
                "volume has active mounts: failed to unmount `{}`: {why}",
                directory.display()
            );
            io::Error::new(why.kind(), what)
        })?;
    }
    Ok(())
}

/// What `o` says, taken apart.
struct Given {
    flags: MountFlags,
    propagation: Option<MountPropagationFlags>,
    data: String,
}

impl Given {
    fn parse(text: &str) -> Self {
        let mut given = Self { flags: MountFlags::empty(), propagation: None, data: String::new() };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some((flags, on)) = flag(word) {
                given.flags.set(flags, on);
            } else if let Some(propagation) = propagation(word) {
                given.propagation = Some(propagation);
            } else {
                let comma = if given.data.is_empty() { "" } else { "," };
                given.data.push_str(comma);
                given.data.push_str(word);
            }
        }
        given
    }
}

fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "defaults" => (MountFlags::empty(), true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND.union(MountFlags::REC), true),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (recursive, kind) = match word.strip_prefix('r') {
        Some(kind) if kind != "o" => (MountPropagationFlags::REC, kind),
        _ => (MountPropagationFlags::empty(), word),
    };
    let kind = match kind {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

/// The data of a network file system with the name of its server looked up: the kernel takes
/// addresses only.
fn with_address(data: &str) -> Result<String> {
    let Some(name) = data.split(',').find_map(|word| word.strip_prefix("addr=")) else {
        return Ok(data.to_owned());
    };
    if name.parse::<IpAddr>().is_ok() {
        return Ok(data.to_owned());
    }
    let failed = |error| Error::Address(name.to_owned(), error);
    let address = (name, 0).to_socket_addrs().map_err(failed)?.next().map(|socket| socket.ip());
    let none = || failed(io::Error::from(io::ErrorKind::AddrNotAvailable));
    let address = address.ok_or_else(none)?;
    Ok(data.replacen(&format!("addr={name}"), &format!("addr={address}"), 1))
}

fn without_password(data: &str) -> String {
    let hidden = |word: &str| match word.split_once('=') {
        Some((name @ ("password" | "pass"), _)) => format!("{name}=********"),
        _ => word.to_owned(),
    };
    data.split(',').map(hidden).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[(&str, &str)]) -> StringMap {
        words.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_that_are_none_are_refused() {
        for (given, expected) in [
            (&[][..], None),
            (&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")], None),
            (&[("foo", "bar")], Some("invalid option: \"foo\"")),
            (&[("type", "nfs")], Some("missing required option: \"device\"")),
            (&[("device", "x")], Some("missing required option: \"type\"")),
            (&[("o", "ro")], Some("missing required option: \"device\"")),
            (&[("size", "1g")], Some("quota size requested but no quota support")),
        ] {
            let found = check_options(&options(given)).err();
            let fits = match (&found, expected) {
                (Some(found), Some(expected)) => found.starts_with(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(fits, "{given:?}: {found:?}");
        }
    }

    #[test]
    fn flags_and_data_are_told_apart() {
        let given = Given::parse("addr=10.0.0.1,ro,rbind,nolock,rslave,rw,noexec,rsize=8192");
        assert_eq!(given.data, "addr=10.0.0.1,nolock,rsize=8192");
        assert_eq!(given.flags, MountFlags::BIND | MountFlags::REC | MountFlags::NOEXEC);
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        assert_eq!(given.propagation, Some(slave));
        assert_eq!(without_password("user=me,password=x=y"), "user=me,password=********");
        assert_eq!(with_address("vers=4,addr=::1").expect("address"), "vers=4,addr=::1");
        let local = with_address("addr=localhost,hard").expect("lookup");
        assert!(["addr=127.0.0.1,hard", "addr=::1,hard"].contains(&local.as_str()), "{local}");
    }

    #[test]
    fn a_file_system_is_mounted_once_and_taken_away() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (data, from) = (directory.path().join("_data"), directory.path().join("from"));
        std::fs::create_dir(&data).expect("mkdir");
        std::fs::create_dir(&from).expect("mkdir");
        std::fs::write(from.join("file"), "x").expect("write");
        // In a mount namespace of its own, that goes with the thread.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                crate::sys::mount::unshare_mounts().expect("unshare");
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).expect("private");
                let tmpfs =
                    options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=700")]);
                mount(&tmpfs, &data).expect("mount");
                std::fs::write(data.join("kept"), "x").expect("write");
                mount(&tmpfs, &data).expect("mount");
                assert!(data.join("kept").exists(), "it is mounted once");
                unmount(&data).expect("unmount");
                assert!(!data.join("kept").exists());
                unmount(&data).expect("nothing to unmount");
                let device = from.to_str().expect("UTF-8");
                let bind = options(&[("type", "none"), ("device", device), ("o", "bind,ro")]);
                mount(&bind, &data).expect("mount");
                assert!(is_mount_point(&data).expect("stat"), "of the same file system");
                assert!(data.join("file").exists());
                assert!(std::fs::write(data.join("new"), "").is_err(), "read-only");
                unmount(&data).expect("unmount");
                let missing = options(&[("type", "none"), ("device", "/no/where"), ("o", "bind")]);
                let error = mount(&missing, &data).expect_err("missing").to_string();
                assert!(
                    error.starts_with("failed to mount local volume: mount /no/where:"),
                    "{error}"
                );
            });
        });
    }
}
