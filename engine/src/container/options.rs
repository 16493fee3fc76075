//! Docker's words for what a container may do: `--cap-add`, `--security-opt`, `--device`,
//! `--device-cgroup-rule`.
//!
//! Decides what they mean, by functions of the text alone; reads no file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::caps::{DEFAULT_CAPABILITIES, available, capability_names};
use super::spec::{Access, Device, DeviceKind, DeviceRule};

/// An option that cannot be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// A name that is no capability's.
    #[error("invalid {list}: unknown capability: {name:?}")]
    UnknownCapability {
        /// `CapAdd` or `CapDrop`.
        list: &'static str,
        /// The name, in capitals and with its prefix.
        name: String,
    },
    /// A capability that this process does not have itself.
    #[error(
        "invalid {list}: capability not supported by your kernel or not available in the current \
         environment: {name:?}"
    )]
    UnavailableCapability {
        /// `CapAdd` or `CapDrop`.
        list: &'static str,
        /// The name.
        name: String,
    },
    /// A `--security-opt` of no known kind.
    #[error("invalid --security-opt: {0:?}")]
    SecurityOption(String),
    /// A security module that this machine enforces and this program cannot speak to.
    #[error("--security-opt {option}: confinement by {module} is not supported")]
    SecurityModule {
        /// What was asked for.
        option: String,
        /// Whose confinement that is.
        module: &'static str,
    },
    /// A `--device` of another form.
    #[error("invalid device specification: {0}")]
    Device(String),
    /// Letters of a `--device` that are not of `rwm`.
    #[error("invalid device mode: {0}")]
    DeviceMode(String),
    /// A `--device-cgroup-rule` of another form.
    #[error("invalid device cgroup format '{0}'")]
    DeviceRule(String),
    /// A `--cpus` that is no number.
    #[error("failed to parse {0} as a rational number")]
    NotANumber(String),
    /// A `--cpus` that is too small, or more than there are.
    #[error("range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available")]
    Cpus(usize),
}

/// The capabilities of a container: docker's default ones without `drop` and with `add`, or all.
pub fn capabilities(
    add: &[String],
    drop: &[String],
    privileged: bool,
) -> Result<Vec<String>, OptionError> {
    tweak(add, drop, privileged, &available())
}

fn tweak(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: &[String],
) -> Result<Vec<String>, OptionError> {
    let add = normalize("CapAdd", add, available)?;
    let drop = normalize("CapDrop", drop, available)?;
    let is_all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let mut kept: Vec<String> = if privileged {
        available.to_vec()
    } else if is_all(&add) {
        available.iter().filter(|name| !drop.contains(name)).cloned().collect()
    } else if is_all(&drop) {
        add
    } else {
        let default = DEFAULT_CAPABILITIES.iter().map(|name| (*name).to_owned());
        default.filter(|name| !drop.contains(name)).chain(add).collect()
    };
    kept.sort();
    kept.dedup();
    Ok(kept)
}

/// Capabilities by their full names; `ALL` stays.
fn normalize(
    list: &'static str,
    names: &[String],
    available: &[String],
) -> Result<Vec<String>, OptionError> {
    let normal = |name: &String| {
        let name = name.to_uppercase();
        if name == "ALL" {
            return Ok(name);
        }
        let name = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
        if !capability_names().any(|known| known == name) {
            return Err(OptionError::UnknownCapability { list, name });
        }
        match available.contains(&name) {
            true => Ok(name),
            false => Err(OptionError::UnavailableCapability { list, name }),
        }
    };
    names.iter().map(normal).collect()
}

/// What `--security-opt` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `seccomp=`.
    pub seccomp: SeccompOption,
    /// `systempaths=unconfined`: nothing is masked and nothing read-only.
    pub unconfined_paths: bool,
}

/// What `--security-opt seccomp=` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeccompOption {
    /// Docker's default profile, if the container is not privileged.
    #[default]
    Unset,
    /// `builtin`: docker's default profile.
    Builtin,
    /// No filter.
    Unconfined,
    /// The profile in this file.
    File(PathBuf),
}

/// Reads all `--security-opt` of a container. A security module that the machine does not enforce
/// has nothing to add to it, so its options are accepted there.
pub fn security_options(options: &[String]) -> Result<SecurityOptions, OptionError> {
    let app_armor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let modules = SecurityModules {
        app_armor: app_armor.is_ok_and(|text| text.trim() == "Y"),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
    };
    parse_security_options(options, modules)
}

#[derive(Clone, Copy)]
struct SecurityModules {
    app_armor: bool,
    selinux: bool,
}

fn parse_security_options(
    options: &[String],
    modules: SecurityModules,
) -> Result<SecurityOptions, OptionError> {
    let mut parsed = SecurityOptions::default();
    for option in options {
        let unknown = || OptionError::SecurityOption(option.clone());
        if option == "no-new-privileges" {
            parsed.no_new_privileges = true;
            continue;
        }
        // A colon is the older form.
        let (key, value) =
            option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(unknown)?;
        let refuse_if = |enforced: bool, module| match enforced {
            true => Err(OptionError::SecurityModule { option: option.clone(), module }),
            false => Ok(()),
        };
        match (key, value) {
            ("no-new-privileges", _) => {
                parsed.no_new_privileges = value.parse().map_err(|_| unknown())?;
            }
            ("seccomp", "unconfined") => parsed.seccomp = SeccompOption::Unconfined,
            ("seccomp", "builtin") => parsed.seccomp = SeccompOption::Builtin,
            ("seccomp", file) => parsed.seccomp = SeccompOption::File(file.into()),
            ("systempaths", "unconfined") => parsed.unconfined_paths = true,
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor", _) => refuse_if(modules.app_armor, "AppArmor")?,
            ("label", _) => refuse_if(modules.selinux, "SELinux")?,
            _ => return Err(unknown()),
        }
    }
    Ok(parsed)
}

impl FromStr for Access {
    type Err = OptionError;

    /// Some of the letters `rwm`, each once.
    fn from_str(text: &str) -> Result<Access, OptionError> {
        let mut access = Access::default();
        for letter in text.chars() {
            let slot = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.make,
                _ => return Err(OptionError::DeviceMode(text.to_owned())),
            };
            if std::mem::replace(slot, true) {
                return Err(OptionError::DeviceMode(text.to_owned()));
            }
        }
        match text.is_empty() {
            true => Err(OptionError::DeviceMode(text.to_owned())),
            false => Ok(access),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.make, "m")];
        letters.iter().filter(|letter| letter.0).try_for_each(|letter| f.write_str(letter.1))
    }
}

impl FromStr for Device {
    type Err = OptionError;

    /// `host[:container][:rwm]`.
    fn from_str(text: &str) -> Result<Device, OptionError> {
        let all = Access { read: true, write: true, make: true };
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, access) = match parts[..] {
            [host] => (host, host, all),
            [host, second] => match second.parse() {
                Ok(access) => (host, host, access),
                Err(_) => (host, second, all),
            },
            [host, container, access] => (host, container, access.parse()?),
            _ => return Err(OptionError::Device(text.to_owned())),
        };
        if host.is_empty() {
            return Err(OptionError::Device(text.to_owned()));
        }
        let container = if container.is_empty() { host } else { container };
        if !container.starts_with('/') {
            return Err(OptionError::DeviceMode(container.to_owned()));
        }
        Ok(Device { host: host.into(), container: container.into(), access })
    }
}

impl FromStr for DeviceRule {
    type Err = OptionError;

    /// As the devices controller of version 1 has it: `c 1:3 rwm`, `b *:* m`, `a *:* rwm`.
    fn from_str(text: &str) -> Result<DeviceRule, OptionError> {
        let parse = || {
            let mut words = text.split(' ');
            let kind = match words.next()? {
                "a" => DeviceKind::All,
                "b" => DeviceKind::Block,
                "c" => DeviceKind::Character,
                _ => return None,
            };
            let (major, minor) = words.next()?.split_once(':')?;
            let number = |text: &str| match text {
                "*" => Some(None),
                digits => digits.parse().ok().map(Some),
            };
            let rule = DeviceRule {
                kind,
                major: number(major)?,
                minor: number(minor)?,
                access: words.next()?.parse().ok()?,
            };
            words.next().is_none().then_some(rule)
        };
        parse().ok_or_else(|| OptionError::DeviceRule(text.to_owned()))
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |it| it.to_string());
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// The CPU time in microseconds, per period of 100,000, that `--cpus` means.
pub fn cpus(text: &str) -> Result<i64, OptionError> {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    parse_cpus(text, available)
}

fn parse_cpus(text: &str, available: usize) -> Result<i64, OptionError> {
    let number: f64 = text
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| OptionError::NotANumber(text.to_owned()))?;
    match (0.01..=available as f64).contains(&number) {
        true => Ok((number * 100_000.0).round() as i64),
        false => Err(OptionError::Cpus(available)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[track_caller]
    fn check_capabilities(add: &[&str], drop: &[&str], expected: Result<&[&str], &str>) {
        let available = strings(&["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"]);
        let kept = tweak(&strings(add), &strings(drop), false, &available);
        let expected = expected.map(strings).map_err(str::to_owned);
        assert_eq!(kept.map_err(|error| error.to_string()), expected);
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let all: Vec<&str> = DEFAULT_CAPABILITIES.into();
        check_capabilities(&[], &[], Ok(&all));
        let without: Vec<&str> = all
            .iter()
            .copied()
            .filter(|name| *name != "CAP_CHOWN" && *name != "CAP_KILL")
            .collect();
        check_capabilities(&[], &["chown", "CAP_KILL"], Ok(&without));
        check_capabilities(&[], &["ALL"], Ok(&[]));
        check_capabilities(&["KILL", "sys_admin"], &["all"], Ok(&["CAP_KILL", "CAP_SYS_ADMIN"]));
        check_capabilities(&["ALL"], &["KILL"], Ok(&["CAP_CHOWN", "CAP_SYS_ADMIN"]));
        let unknown = "invalid CapAdd: unknown capability: \"CAP_CHWN\"";
        check_capabilities(&["CHWN"], &[], Err(unknown));
        let unavailable = "invalid CapDrop: capability not supported by your kernel or not \
                           available in the current environment: \"CAP_BPF\"";
        check_capabilities(&[], &["BPF"], Err(unavailable));
        let available = strings(&["CAP_CHOWN"]);
        assert_eq!(tweak(&[], &strings(&["CHOWN"]), true, &available), Ok(available));
    }

    #[track_caller]
    fn check_security(options: &[&str], expected: Result<SecurityOptions, &str>) {
        let modules = SecurityModules { app_armor: true, selinux: false };
        let parsed = parse_security_options(&strings(options), modules);
        assert_eq!(parsed.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn security_options_are_docker_s() {
        let default = SecurityOptions::default;
        check_security(&[], Ok(default()));
        let forbidden = || SecurityOptions { no_new_privileges: true, ..default() };
        check_security(&["no-new-privileges"], Ok(forbidden()));
        check_security(&["no-new-privileges=true"], Ok(forbidden()));
        check_security(&["no-new-privileges:true", "no-new-privileges:false"], Ok(default()));
        let seccomp = |seccomp| Ok(SecurityOptions { seccomp, ..default() });
        check_security(&["seccomp=unconfined"], seccomp(SeccompOption::Unconfined));
        check_security(&["seccomp=/a=b"], seccomp(SeccompOption::File("/a=b".into())));
        let paths = SecurityOptions { unconfined_paths: true, ..default() };
        check_security(&["systempaths=unconfined", "label=type:x"], Ok(paths));
        check_security(&["apparmor=unconfined", "label:disable"], Ok(default()));
        let refused = "--security-opt apparmor=mine: confinement by AppArmor is not supported";
        check_security(&["apparmor=mine"], Err(refused));
        check_security(&["shoes=red"], Err("invalid --security-opt: \"shoes=red\""));
        check_security(&["shoes"], Err("invalid --security-opt: \"shoes\""));
    }

    #[track_caller]
    fn check_device(text: &str, expected: Result<(&str, &str, &str), &str>) {
        let device: Result<Device, _> = text.parse();
        let device = device.map(|device| {
            let path = |path: &Path| path.to_str().expect("it was text").to_owned();
            (path(&device.host), path(&device.container), device.access.to_string())
        });
        let expected = expected
            .map(|(host, container, access)| (host.into(), container.into(), access.into()))
            .map_err(str::to_owned);
        assert_eq!(device.map_err(|error| error.to_string()), expected);
    }

    #[test]
    fn devices_are_typed_as_for_docker() {
        check_device("/dev/fuse", Ok(("/dev/fuse", "/dev/fuse", "rwm")));
        check_device("/dev/fuse:r", Ok(("/dev/fuse", "/dev/fuse", "r")));
        check_device("/dev/sda:/dev/xvda", Ok(("/dev/sda", "/dev/xvda", "rwm")));
        check_device("/dev/sda:/dev/xvda:mr", Ok(("/dev/sda", "/dev/xvda", "rm")));
        check_device("/dev/sda:/dev/xvda:rx", Err("invalid device mode: rx"));
        check_device("/dev/sda:rr", Err("invalid device mode: rr"));
        check_device("a:b:c:d", Err("invalid device specification: a:b:c:d"));
    }

    #[test]
    fn device_rules_are_read_and_written() {
        for text in ["c 1:3 rwm", "b *:* m", "a 10:* rw"] {
            assert_eq!(text.parse::<DeviceRule>().unwrap().to_string(), text);
        }
        for text in ["", "d 1:3 r", "c 1 r", "c 1:3", "c 1:3 rwmr", "c 1:3 r x", "c x:3 r"] {
            let error = text.parse::<DeviceRule>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid device cgroup format '{text}'"));
        }
    }

    #[test]
    fn cpus_are_time_per_period() {
        assert_eq!(parse_cpus("0.2", 2), Ok(20_000));
        assert_eq!(parse_cpus("2", 2), Ok(200_000));
        assert_eq!(parse_cpus("x", 2), Err(OptionError::NotANumber("x".to_owned())));
        for text in ["2.01", "0", "-1", "0.001"] {
            let error = parse_cpus(text, 2).unwrap_err().to_string();
            let range = "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available";
            assert_eq!(error, range);
        }
    }
}
