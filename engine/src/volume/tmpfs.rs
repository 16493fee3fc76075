//! `--tmpfs` and the options of a file system in memory.

use rustix::mount::MountAttrFlags;

use super::api::Mount;
use super::{Error, Result};

/// Splits the value of `--tmpfs`, `path[:options]`, into an entry of `HostConfig.Tmpfs`.
pub fn typed(text: &str) -> (String, String) {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    (path.to_owned(), options.to_owned())
}

/// What a file system in memory is mounted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file system's own, as `("size", "64m")`; a flag has no value.
    pub data: Vec<(String, String)>,
    /// `MOUNT_ATTR_*` of `mount_setattr(2)`.
    pub attributes: u32,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// The file system's own options that docker knows.
const DATA: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// Reads options as docker does: the later one counts, `noexec,nosuid,nodev` come first.
pub fn parse(text: &str) -> Result<Options> {
    let mut set = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mut options = Options { data: Vec::new(), attributes: 0, read_only: false };
    for word in text.split(',').filter(|_| !text.is_empty()) {
        if let Some((flag, on)) = attribute(word) {
            // The ways to note times exclude each other.
            if MountAttrFlags::MOUNT_ATTR__ATIME.intersects(flag) {
                set.remove(MountAttrFlags::MOUNT_ATTR__ATIME);
            }
            set.set(flag, on);
            continue;
        }
        match word {
            "ro" | "rw" => options.read_only = word == "ro",
            "sync" | "dirsync" => options.put(word, ""),
            "defaults" | "async" | "private" | "rprivate" | "nomand" | "relatime"
            | "norelatime" | "nostrictatime" => {}
            _ => {
                let (name, value) = word.split_once('=').unwrap_or((word, ""));
                if value.is_empty() || !DATA.contains(&name) {
                    return Err(Error::Syntax(format!("invalid tmpfs option {name:?}")));
                }
                options.put(name, value);
            }
        }
    }
    options.attributes = set.bits();
    Ok(options)
}

fn attribute(word: &str) -> Option<(MountAttrFlags, bool)> {
    Some(match word {
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, false),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, true),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, false),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, true),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
        "atime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, false),
        "noatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, true),
        "strictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, true),
        "diratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
        _ => return None,
    })
}

impl Options {
    fn put(&mut self, name: &str, value: &str) {
        self.data.retain(|(known, _)| known != name);
        self.data.push((name.to_owned(), value.to_owned()));
    }
}

/// The options of a `--mount type=tmpfs`, as `--tmpfs` would have them.
pub(super) fn of_mount(mount: &Mount) -> String {
    let mut words = Vec::new();
    if mount.read_only {
        words.push("ro".to_owned());
    }
    if let Some(options) = &mount.tmpfs_options {
        if options.mode != 0 {
            words.push(format!("mode={:o}", options.mode));
        }
        if options.size_bytes != 0 {
            words.push(format!("size={}", options.size_bytes));
        }
    }
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, data: &str, attributes: MountAttrFlags, read_only: bool) {
        let options = parse(text).expect(text);
        let shown: Vec<_> =
            options.data.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown.join(","), data, "{text}");
        assert_eq!(MountAttrFlags::from_bits_retain(options.attributes), attributes, "{text}");
        assert_eq!(options.read_only, read_only, "{text}");
    }

    #[test]
    fn later_options_win_over_dockers_own() {
        let (suid, dev, exec) = (
            MountAttrFlags::MOUNT_ATTR_NOSUID,
            MountAttrFlags::MOUNT_ATTR_NODEV,
            MountAttrFlags::MOUNT_ATTR_NOEXEC,
        );
        check("", "", suid | dev | exec, false);
        check("rw,size=787448k,mode=1777", "size=787448k,mode=1777", suid | dev | exec, false);
        check("exec,size=1m,size=50%", "size=50%", suid | dev, false);
        check("suid,dev,exec,noexec,ro", "", exec, true);
        check(
            "uid=1,gid=2,nr_inodes=3,sync",
            "uid=1,gid=2,nr_inodes=3,sync=",
            suid | dev | exec,
            false,
        );
        let times = MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        check("noatime,strictatime", "", suid | dev | exec | times, false);
        for (text, named) in [
            ("bogus", "bogus"),
            ("bogus=1", "bogus"),
            ("size", "size"),
            ("shared", "shared"),
            (",", ""),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert_eq!(error, format!("invalid tmpfs option {named:?}"));
        }
    }

    #[test]
    fn values_are_split_at_the_first_colon() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(typed("/run"), pair("/run", ""));
        assert_eq!(typed("/run:rw,mpol=bind:0"), pair("/run", "rw,mpol=bind:0"));
    }
}
