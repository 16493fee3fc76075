//! Docker's default profile.
//!
//! A call that is not in the profile fails with EPERM; one that is newer than all in the profile,
//! and `clone3`, with ENOSYS, so that a C library falls back to what it knows.

use super::compile::{Architecture, Condition, Filter, Rule, Test, Verdict, errno_action};
use crate::container::caps::Capabilities;
use crate::container::syscalls::CALLS;

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

/// The execution domains a program may ask for: Linux, with 32-bit addresses or BSD's names or
/// both, and the question which one it has.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// The default profile for a container that keeps these capabilities.
pub(super) fn filter(kept: Capabilities) -> Filter<'static> {
    Filter {
        architectures: native_architectures(),
        default: Verdict::fail(libc::EPERM),
        newer: Verdict::fail(libc::ENOSYS),
        judge: Box::new(move |name| judge(name, kept)),
    }
}

/// The architecture this program is for, and the 32-bit one its kernel runs as well.
fn native_architectures() -> Vec<Architecture> {
    if cfg!(target_arch = "aarch64") {
        vec![Architecture::Aarch64, Architecture::Arm]
    } else {
        vec![Architecture::X86_64 { with_x32: true }, Architecture::I386]
    }
}

fn judge(name: &str, kept: Capabilities) -> Option<Verdict> {
    let at = CALLS.binary_search_by_key(&name, |call| call.0).ok()?;
    let needed = CALLS[at].1;
    Some(match name {
        "clone" | "clone3" if kept.has("CAP_SYS_ADMIN") => Verdict::ALLOW,
        "clone" => only_if(first_has(NEW_NAMESPACES, 0)),
        "clone3" => Verdict::fail(libc::ENOSYS),
        "personality" => Verdict {
            rules: PERSONALITIES
                .iter()
                .map(|allowed| allow(first_has(u32::MAX, *allowed)))
                .collect(),
            otherwise: errno_action(libc::EPERM),
        },
        "socket" => Verdict {
            rules: [libc::AF_ALG, libc::AF_VSOCK]
                .iter()
                .map(|family| Rule {
                    conditions: vec![first_has(u32::MAX, *family as u32)],
                    action: errno_action(libc::EPERM),
                })
                .collect(),
            otherwise: libc::SECCOMP_RET_ALLOW,
        },
        _ if needed.is_empty() || needed.iter().any(|name| kept.has(name)) => Verdict::ALLOW,
        _ => Verdict::fail(libc::EPERM),
    })
}

/// The low 32 bits of the first argument are all the kernel looks at for these calls.
fn first_has(mask: u32, value: u32) -> Condition {
    let test = Test::Equal { mask: u64::from(mask), value: u64::from(value) };
    Condition { argument: 0, test, negated: false }
}

fn allow(condition: Condition) -> Rule {
    Rule { conditions: vec![condition], action: libc::SECCOMP_RET_ALLOW }
}

fn only_if(condition: Condition) -> Verdict {
    Verdict { rules: vec![allow(condition)], otherwise: errno_action(libc::EPERM) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::caps::DEFAULT_CAPABILITIES;
    use crate::container::seccomp::compile::{X32_BIT, program, run};
    use crate::container::syscalls::{Column, NONE};

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = errno_action(libc::EPERM);
    const ENOSYS: u32 = errno_action(libc::ENOSYS);

    const X86_64: Architecture = Architecture::X86_64 { with_x32: true };

    fn capabilities(more: &[&str]) -> Capabilities {
        Capabilities::of(DEFAULT_CAPABILITIES.iter().copied().chain(more.iter().copied()))
    }

    #[track_caller]
    fn check(kept: &[&str], architecture: Architecture, call: (u32, u32), expected: u32) {
        let mut filter = filter(capabilities(kept));
        filter.architectures = match architecture {
            X86_64 | Architecture::I386 => vec![X86_64, Architecture::I386],
            _ => vec![Architecture::Aarch64, Architecture::Arm],
        };
        let program = program(&filter).unwrap();
        let given = run(&program, architecture, call.0, &[u64::from(call.1)]);
        assert_eq!(given, expected, "call {call:?}");
    }

    #[test]
    fn calls_are_judged_as_docker_judges_them() {
        check(&[], X86_64, (0, 0), ALLOW); // read
        check(&[], X86_64, (165, 0), EPERM); // mount
        check(&["CAP_SYS_ADMIN"], X86_64, (165, 0), ALLOW);
        check(&[], X86_64, (250, 0), EPERM); // keyctl
        check(&[], X86_64, (435, 0), ENOSYS); // clone3
        check(&["CAP_SYS_ADMIN"], X86_64, (435, 0), ALLOW);
        check(&[], X86_64, (56, libc::SIGCHLD as u32), ALLOW); // clone
        check(&[], X86_64, (56, libc::CLONE_NEWUSER as u32), EPERM);
        check(&[], X86_64, (41, 2), ALLOW); // socket AF_INET
        check(&[], X86_64, (41, 38), EPERM);
        check(&[], X86_64, (41, 39), ALLOW);
        check(&[], X86_64, (41, 40), EPERM);
        check(&[], X86_64, (135, 0xffff_ffff), ALLOW); // personality
        check(&[], X86_64, (135, 0x40000), EPERM);
        check(&[], X86_64, (161, 0), ALLOW); // chroot
        check(&[], X86_64, (101, 0), ALLOW); // ptrace
        check(&[], X86_64, (1000, 0), ENOSYS);
        check(&[], X86_64, (X32_BIT, 0), ALLOW); // read
        check(&[], X86_64, (X32_BIT + 165, 0), EPERM);
        check(&[], X86_64, (X32_BIT + 514, 0), ALLOW); // ioctl
        check(&[], X86_64, (X32_BIT + 16, 0), EPERM);
        check(&[], Architecture::I386, (3, 0), ALLOW); // read
        check(&[], Architecture::I386, (21, 0), EPERM); // mount
        check(&[], Architecture::I386, (102, 0), ALLOW); // socketcall
        check(&[], Architecture::Aarch64, (63, 0), ALLOW); // read
        check(&[], Architecture::Aarch64, (40, 0), EPERM); // mount
        check(&["CAP_SYSLOG"], Architecture::Aarch64, (116, 0), ALLOW); // syslog
        check(&[], Architecture::Arm, (0xf0005, 0), ALLOW); // set_tls
    }

    #[test]
    fn an_architecture_without_rules_is_killed() {
        let mut filter = filter(capabilities(&[]));
        filter.architectures = vec![Architecture::Aarch64];
        let program = program(&filter).unwrap();
        assert_eq!(run(&program, X86_64, 0, &[]), libc::SECCOMP_RET_KILL_THREAD);
    }

    #[test]
    fn every_call_of_the_table_gets_its_verdict() {
        assert!(CALLS.is_sorted_by_key(|call| call.0));
        let kept = capabilities(&["CAP_SYS_ADMIN"]);
        let (filter, column) = (filter(kept), Column::X86_64);
        let program = program(&filter).unwrap();
        for (name, _, numbers) in CALLS {
            let number = numbers[column as usize];
            if number != NONE && judge(name, kept) == Some(Verdict::ALLOW) {
                assert_eq!(run(&program, filter.architectures[0], number, &[]), ALLOW, "{name}");
            }
        }
    }
}
