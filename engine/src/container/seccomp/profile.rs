//! A seccomp profile in docker's JSON form, and what it says about each call.
//!
//! Rules that do not apply (to the kept capabilities, the architecture, the kernel) are left out
//! before anything is judged. Names of calls that no architecture has are passed over, as docker
//! and libseccomp do.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::compile::{Architecture, Condition, Filter, Rule, Test, Verdict, errno_action};
use crate::container::caps::Capabilities;

/// A profile cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// It is not JSON, or not of docker's form.
    #[error("decoding seccomp profile failed: {0}")]
    Json(#[from] serde_json::Error),
    /// It contradicts itself.
    #[error("{0} and {1} are specified in the seccomp profile, use either of them")]
    Both(&'static str, &'static str),
    /// It asks for a process that decides on calls.
    #[error("the action SCMP_ACT_NOTIFY is not supported")]
    Notify,
    /// An argument's number is not one of the six.
    #[error("{call}: a call has no argument {index}")]
    Argument {
        /// The call.
        call: String,
        /// The argument.
        index: u32,
    },
    /// The kernel takes no filter this long.
    #[error("the profile is longer than what the kernel takes")]
    TooLong,
}

/// A seccomp profile, as `--security-opt seccomp=FILE` reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architectures: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arch_map: Option<Vec<ArchitectureMap>>,
    #[serde(default)]
    syscalls: Option<Vec<Calls>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
    action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Scope>,
    #[serde(default)]
    excludes: Option<Scope>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

/// Where a rule applies, or does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scope {
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// The machine and the container a profile is applied to.
struct Place {
    kept: Capabilities,
    /// In docker's words, as `amd64`.
    architecture: &'static str,
    kernel: (u32, u32),
}

impl Profile {
    /// Reads a profile and refuses one that no container could be given.
    pub fn parse(text: &str) -> Result<Profile, ProfileError> {
        let profile: Profile = serde_json::from_str(text)?;
        if profile.architectures.as_ref().is_some_and(|list| !list.is_empty())
            && profile.arch_map.as_ref().is_some_and(|list| !list.is_empty())
        {
            return Err(ProfileError::Both("'architectures'", "'archMap'"));
        }
        let mut actions = vec![profile.default_action];
        for calls in profile.calls() {
            if calls.name.is_some() && calls.names.as_ref().is_some_and(|names| !names.is_empty()) {
                return Err(ProfileError::Both("'name'", "'names'"));
            }
            actions.push(calls.action);
            if let Some(argument) = calls.args().iter().find(|argument| argument.index > 5) {
                let call = calls.all_names().next().unwrap_or_default().to_owned();
                return Err(ProfileError::Argument { call, index: argument.index });
            }
        }
        match actions.contains(&Action::Notify) {
            true => Err(ProfileError::Notify),
            false => Ok(profile),
        }
    }

    /// What is to become of the calls of a container that keeps these capabilities.
    pub(super) fn filter(&self, kept: Capabilities) -> Result<Filter<'_>, ProfileError> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Ok(self.filter_in(&Place { kept, architecture, kernel: kernel_version() }))
    }

    fn filter_in(&self, place: &Place) -> Filter<'_> {
        let default = self.default_action.give(self.default_errno_ret);
        let rules: Vec<&Calls> = self.calls().iter().filter(|calls| calls.apply(place)).collect();
        let judge = move |name: &str| {
            let mut found = rules
                .iter()
                .filter(|calls| calls.all_names().any(|known| known == name))
                .peekable();
            found.peek()?;
            let mut verdict = Verdict::give(default);
            for calls in found {
                let action = calls.action.give(calls.errno_ret);
                if calls.args().is_empty() {
                    return Some(Verdict::give(action));
                }
                verdict.rules.extend(calls.rules(action));
            }
            Some(verdict)
        };
        // A C library tries what is newer than the profile and must hear that it is missing.
        let refuses = matches!(
            self.default_action,
            Action::Errno | Action::KillThread | Action::KillProcess | Action::Trap
        );
        let newer = if refuses { errno_action(libc::ENOSYS) } else { default };
        Filter {
            architectures: self.architectures(place.architecture),
            default: Verdict::give(default),
            newer: Verdict::give(newer),
            judge: Box::new(judge),
        }
    }

    fn calls(&self) -> &[Calls] {
        self.syscalls.as_deref().unwrap_or_default()
    }

    fn architectures(&self, native: &str) -> Vec<Architecture> {
        let native_name = if native == "arm64" { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
        let mut names = self.architectures.clone().unwrap_or_default();
        for map in self.arch_map.as_deref().unwrap_or_default() {
            if map.architecture == native_name {
                names.extend(map.sub_architectures.clone().unwrap_or_default());
            }
        }
        let has = |name: &str| names.iter().any(|known| known == name);
        let mut found = match native {
            "arm64" => vec![Architecture::Aarch64],
            _ => vec![Architecture::X86_64 { with_x32: has("SCMP_ARCH_X32") }],
        };
        found.extend(has("SCMP_ARCH_X86").then_some(Architecture::I386));
        found.extend(has("SCMP_ARCH_ARM").then_some(Architecture::Arm));
        found
    }
}

impl Calls {
    fn all_names(&self) -> impl Iterator<Item = &str> {
        self.name.iter().chain(self.names.iter().flatten()).map(String::as_str)
    }

    fn args(&self) -> &[Argument] {
        self.args.as_deref().unwrap_or_default()
    }

    fn apply(&self, place: &Place) -> bool {
        let includes = self.includes.as_ref().is_none_or(|scope| {
            scope.lists_architecture(place) != Some(false)
                && scope.caps().iter().all(|name| place.kept.has(name))
                && scope.is_new_enough(place) != Some(false)
        });
        let excludes = self.excludes.as_ref().is_some_and(|scope| {
            scope.lists_architecture(place) == Some(true)
                || scope.caps().iter().any(|name| place.kept.has(name))
                || scope.is_new_enough(place) == Some(true)
        });
        includes && !excludes
    }

    /// One rule, or one for each condition if an argument is tested twice.
    fn rules(&self, action: u32) -> Vec<Rule> {
        let args = self.args();
        let repeats = args.iter().enumerate().any(|(position, argument)| {
            args[..position].iter().any(|before| before.index == argument.index)
        });
        let conditions: Vec<Condition> = args.iter().map(Argument::condition).collect();
        match repeats {
            false => vec![Rule { conditions, action }],
            true => conditions
                .into_iter()
                .map(|condition| Rule { conditions: vec![condition], action })
                .collect(),
        }
    }
}

impl Scope {
    /// None if architectures do not matter.
    fn lists_architecture(&self, place: &Place) -> Option<bool> {
        let arches = self.arches.as_deref().filter(|arches| !arches.is_empty())?;
        Some(arches.iter().any(|name| name == place.architecture))
    }

    fn caps(&self) -> &[String] {
        self.caps.as_deref().unwrap_or_default()
    }

    /// None if the kernel does not matter.
    fn is_new_enough(&self, place: &Place) -> Option<bool> {
        let least = self.min_kernel.as_deref().filter(|text| !text.is_empty())?;
        Some(place.kernel >= version(least))
    }
}

impl Argument {
    fn condition(&self) -> Condition {
        let value = self.value;
        let (test, negated) = match self.op {
            Operator::Equal => (Test::Equal { mask: u64::MAX, value }, false),
            Operator::NotEqual => (Test::Equal { mask: u64::MAX, value }, true),
            Operator::MaskedEqual => (Test::Equal { mask: value, value: self.value_two }, false),
            Operator::Greater => (Test::Greater(value), false),
            Operator::LessOrEqual => (Test::Greater(value), true),
            Operator::GreaterOrEqual => (Test::GreaterOrEqual(value), false),
            Operator::Less => (Test::GreaterOrEqual(value), true),
        };
        Condition { argument: self.index as u8, test, negated }
    }
}

impl Action {
    /// The filter's return value; EPERM if no errno is given.
    fn give(self, errno: Option<u16>) -> u32 {
        let data = u32::from(errno.unwrap_or(libc::EPERM as u16));
        match self {
            Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            // Nobody listens: what should be decided elsewhere is not done.
            Action::KillProcess | Action::Notify => libc::SECCOMP_RET_KILL_PROCESS,
            Action::Trap => libc::SECCOMP_RET_TRAP,
            Action::Errno => libc::SECCOMP_RET_ERRNO | data,
            Action::Trace => libc::SECCOMP_RET_TRACE | data,
            Action::Allow => libc::SECCOMP_RET_ALLOW,
            Action::Log => libc::SECCOMP_RET_LOG,
        }
    }
}

fn kernel_version() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::seccomp::compile::{program, run};

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 2,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null,
             "comment": "", "includes": {}, "excludes": {}},
            {"name": "mount", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
             "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["acct"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["keyctl"], "action": "SCMP_ACT_LOG", "excludes": {"arches": ["arm64"]}},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"},
                      {"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_TRAP",
             "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
                      {"index": 1, "value": 2, "op": "SCMP_CMP_LT"}]}
        ]}"#;

    #[track_caller]
    fn check(kept: &[&str], architecture: Architecture, call: (u32, &[u64]), expected: u32) {
        let profile = Profile::parse(PROFILE).unwrap();
        let kept = Capabilities::of(kept.iter().copied());
        let place = Place { kept, architecture: "amd64", kernel: (5, 12) };
        let program = program(&profile.filter_in(&place)).unwrap();
        assert_eq!(run(&program, architecture, call.0, call.1), expected, "{call:?}");
    }

    #[test]
    fn a_profile_of_the_user_s_is_read_as_docker_reads_it() {
        let x86_64 = Architecture::X86_64 { with_x32: false };
        let (allow, default) = (libc::SECCOMP_RET_ALLOW, errno_action(2));
        check(&[], x86_64, (0, &[]), allow); // read
        check(&[], Architecture::I386, (3, &[]), allow); // read
        check(&[], x86_64, (2, &[]), default); // open
        check(&[], x86_64, (165, &[]), default); // mount
        check(&["CAP_SYS_ADMIN"], x86_64, (165, &[]), allow);
        check(&[], x86_64, (166, &[]), errno_action(38)); // umount2
        check(&["CAP_SYS_ADMIN"], x86_64, (166, &[]), default);
        check(&[], x86_64, (101, &[]), allow); // ptrace
        check(&[], x86_64, (163, &[]), default); // acct
        check(&[], x86_64, (161, &[]), default); // chroot
        check(&[], x86_64, (250, &[]), libc::SECCOMP_RET_LOG); // keyctl
        // An argument that is tested twice has to pass one test only.
        check(&[], x86_64, (135, &[8]), allow); // personality
        check(&[], x86_64, (135, &[2]), allow);
        check(&[], x86_64, (135, &[9]), default);
        check(&[], x86_64, (41, &[16, 1]), libc::SECCOMP_RET_TRAP); // socket
        check(&[], x86_64, (41, &[16, 2]), default);
        check(&[], x86_64, (41, &[1 << 32 | 16, 1]), default);
        check(&[], x86_64, (1000, &[]), errno_action(libc::ENOSYS));
        check(&[], x86_64, (0x4000_0000, &[]), libc::SECCOMP_RET_KILL_THREAD);
        check(&[], Architecture::Arm, (3, &[]), libc::SECCOMP_RET_KILL_THREAD);
    }

    #[test]
    fn a_profile_survives_the_way_to_the_container() {
        let profile = Profile::parse(PROFILE).unwrap();
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(Profile::parse(&text).unwrap(), profile);
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let error = Profile::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_cannot_be_a_profile_is_refused() {
        check_refused("{", "decoding seccomp profile failed");
        check_refused(r#"{"defaultAction":"SCMP_ACT_SHRUG"}"#, "SCMP_ACT_SHRUG");
        check_refused(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY");
        let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":
            [{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#;
        check_refused(both, "'name' and 'names'");
        let argument = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],
            "action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#;
        check_refused(argument, "b: a call has no argument 6");
    }
}
