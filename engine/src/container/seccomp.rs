//! The seccomp filter of docker's default profile, compiled to BPF.
//!
//! A call that is not in the profile fails with EPERM; one that is newer than all in the profile,
//! and `clone3`, with ENOSYS, so that a C library falls back to what it knows. Calls are found by
//! binary search over ranges of numbers with one verdict. Knows no other profile.

use rustix::io::Errno;

use super::caps::Capabilities;
use super::syscalls::{CALLS, Column, NONE, NOT_X32, X32};

/// Offsets in `struct seccomp_data`, on a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

/// Marks a number as one of the x32 ABI.
const X32_BIT: u32 = 0x4000_0000;

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

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// EPERM.
    Deny,
    /// ENOSYS.
    Missing,
    /// Only without flags for new namespaces.
    Clone,
    /// Only for some execution domains.
    Personality,
    /// Not for AF_ALG and AF_VSOCK.
    Socket,
}

/// Installs the filter for a container that keeps these capabilities.
pub(super) fn install(kept: Capabilities) -> Result<(), Errno> {
    crate::sys::process::install_filter(&program(native_architectures(), kept))
}

/// An architecture's audit number and column.
type Architecture = (u32, Column);

/// The architecture this program is for, and the 32-bit one its kernel runs as well.
fn native_architectures() -> [Architecture; 2] {
    if cfg!(target_arch = "aarch64") {
        [(AUDIT_ARCH_AARCH64, Column::Aarch64), (AUDIT_ARCH_ARM, Column::Arm)]
    } else {
        [(AUDIT_ARCH_X86_64, Column::X86_64), (AUDIT_ARCH_I386, Column::I386)]
    }
}

fn program(architectures: [Architecture; 2], kept: Capabilities) -> Vec<libc::sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for (audit, column) in architectures {
        let mut block = vec![load(NUMBER)];
        block.extend(search(&ranges(column, kept)));
        program.extend(unless_equal(audit, block.len()));
        program.extend(block);
    }
    // An architecture docker's profile does not know.
    program.push(give(libc::SECCOMP_RET_KILL_THREAD));
    program
}

/// The verdicts on all numbers: each from its number up to the next one's.
fn ranges(column: Column, kept: Capabilities) -> Vec<(u32, Verdict)> {
    let verdicts = |offset: u32, numbers: Vec<(u32, Verdict)>| {
        let mut numbers = numbers;
        numbers.sort_unstable_by_key(|(number, _)| *number);
        let mut ranges = vec![(offset, Verdict::Deny)];
        for (number, verdict) in numbers {
            ranges.push((offset + number, verdict));
            ranges.push((offset + number + 1, Verdict::Deny));
        }
        if let Some(last) = ranges.last_mut() {
            last.1 = Verdict::Missing;
        }
        ranges
    };
    let mut all = verdicts(0, known(column, kept));
    if column == Column::X86_64 {
        all.extend(verdicts(X32_BIT, known_by_x32(kept)));
    }
    merge(all)
}

/// Drops ranges that are empty and joins neighbours with one verdict.
fn merge(ranges: Vec<(u32, Verdict)>) -> Vec<(u32, Verdict)> {
    let mut merged: Vec<(u32, Verdict)> = Vec::new();
    for (start, verdict) in ranges {
        if merged.last().is_some_and(|last| last.0 == start) {
            merged.pop();
        }
        if merged.last().is_none_or(|last| last.1 != verdict) {
            merged.push((start, verdict));
        }
    }
    merged
}

/// Every call of the profile that the architecture has.
fn known(column: Column, kept: Capabilities) -> Vec<(u32, Verdict)> {
    CALLS
        .iter()
        .map(|call| (call.2[column as usize], verdict(call.0, call.1, kept)))
        .filter(|(number, _)| *number != NONE)
        .collect()
}

fn known_by_x32(kept: Capabilities) -> Vec<(u32, Verdict)> {
    CALLS
        .iter()
        .filter(|call| !NOT_X32.contains(&call.0))
        .map(|call| (call.2[Column::X86_64 as usize], verdict(call.0, call.1, kept)))
        .filter(|(number, _)| *number != NONE)
        .map(|(number, verdict)| {
            let other = X32.iter().find(|(here, _)| *here == number);
            (other.map_or(number, |(_, there)| *there), verdict)
        })
        .collect()
}

fn verdict(name: &str, needed: &[&str], kept: Capabilities) -> Verdict {
    match name {
        "clone" | "clone3" if kept.has("CAP_SYS_ADMIN") => Verdict::Allow,
        "clone" => Verdict::Clone,
        "clone3" => Verdict::Missing,
        "personality" => Verdict::Personality,
        "socket" => Verdict::Socket,
        _ if needed.is_empty() || needed.iter().any(|name| kept.has(name)) => Verdict::Allow,
        _ => Verdict::Deny,
    }
}

/// Instructions that find the range of the number in the accumulator and carry its verdict out.
fn search(ranges: &[(u32, Verdict)]) -> Vec<libc::sock_filter> {
    match ranges {
        [] => vec![],
        [(_, verdict)] => carry_out(*verdict),
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let (start, (below, above)) = (above[0].0, (search(below), search(above)));
            let mut program = if_less(start, below.len());
            // `below` runs when the number is less, and ends in a verdict.
            program.extend(below);
            program.extend(above);
            program
        }
    }
}

fn carry_out(verdict: Verdict) -> Vec<libc::sock_filter> {
    let (allow, deny) = (give(libc::SECCOMP_RET_ALLOW), fail(libc::EPERM));
    // Arguments are compared by their low 32 bits, which are all the kernel looks at for these.
    match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Deny => vec![deny],
        Verdict::Missing => vec![fail(libc::ENOSYS)],
        Verdict::Clone => {
            vec![load(FIRST_ARGUMENT), jump(libc::BPF_JSET, NEW_NAMESPACES, 0, 1), deny, allow]
        }
        Verdict::Socket => vec![
            load(FIRST_ARGUMENT),
            jump(libc::BPF_JEQ, libc::AF_ALG as u32, 1, 0),
            jump(libc::BPF_JEQ, libc::AF_VSOCK as u32, 0, 1),
            deny,
            allow,
        ],
        Verdict::Personality => {
            let mut program = vec![load(FIRST_ARGUMENT)];
            for (left, personality) in (0..PERSONALITIES.len() as u8).rev().zip(PERSONALITIES) {
                program.push(jump(libc::BPF_JEQ, personality, left + 1, 0));
            }
            program.extend([deny, allow]);
            program
        }
    }
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn give(action: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

fn fail(errno: i32) -> libc::sock_filter {
    give(libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_K | condition, jt, jf, k)
}

/// Goes on with the next `count` instructions if the accumulator is below `k`, else after them.
fn if_less(k: u32, count: usize) -> Vec<libc::sock_filter> {
    // The offset of a conditional jump has eight bits, that of an unconditional one 32.
    match u8::try_from(count) {
        Ok(count) => vec![jump(libc::BPF_JGE, k, count, 0)],
        Err(_) => vec![jump(libc::BPF_JGE, k, 0, 1), skip(count)],
    }
}

/// Goes on with the next `count` instructions if the accumulator equals `k`, else after them.
fn unless_equal(k: u32, count: usize) -> Vec<libc::sock_filter> {
    vec![jump(libc::BPF_JEQ, k, 1, 0), skip(count)]
}

fn skip(count: usize) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, count as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::caps::DEFAULT_CAPABILITIES;

    /// Runs a program as the kernel would.
    fn run(program: &[libc::sock_filter], audit: u32, number: u32, argument: u32) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let now = program[at];
            at += 1;
            let (condition, go) = match u32::from(now.code) {
                0x20 => {
                    accumulator = match now.k {
                        NUMBER => number,
                        ARCHITECTURE => audit,
                        _ => argument,
                    };
                    continue;
                }
                0x06 => return now.k,
                0x05 => (true, now.k as usize),
                0x15 => (accumulator == now.k, usize::from(now.jt)),
                0x35 => (accumulator >= now.k, usize::from(now.jt)),
                0x45 => (accumulator & now.k != 0, usize::from(now.jt)),
                code => panic!("instruction {code:#x}"),
            };
            at += if condition { go } else { usize::from(now.jf) };
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    fn capabilities(more: &[&str]) -> Capabilities {
        Capabilities::of(DEFAULT_CAPABILITIES.iter().copied().chain(more.iter().copied()))
    }

    #[track_caller]
    fn check(kept: &[&str], architecture: Architecture, call: (u32, u32), expected: u32) {
        let all = if matches!(architecture.1, Column::X86_64 | Column::I386) {
            [(AUDIT_ARCH_X86_64, Column::X86_64), (AUDIT_ARCH_I386, Column::I386)]
        } else {
            [(AUDIT_ARCH_AARCH64, Column::Aarch64), (AUDIT_ARCH_ARM, Column::Arm)]
        };
        let program = program(all, capabilities(kept));
        assert!(program.len() < 4096, "the kernel takes no more");
        assert_eq!(run(&program, architecture.0, call.0, call.1), expected, "call {call:?}");
    }

    #[test]
    fn calls_are_judged_as_docker_judges_them() {
        let x86_64 = (AUDIT_ARCH_X86_64, Column::X86_64);
        check(&[], x86_64, (0, 0), ALLOW); // read
        check(&[], x86_64, (165, 0), EPERM); // mount
        check(&["CAP_SYS_ADMIN"], x86_64, (165, 0), ALLOW);
        check(&[], x86_64, (250, 0), EPERM); // keyctl
        check(&[], x86_64, (435, 0), ENOSYS); // clone3
        check(&["CAP_SYS_ADMIN"], x86_64, (435, 0), ALLOW);
        check(&[], x86_64, (56, libc::SIGCHLD as u32), ALLOW); // clone
        check(&[], x86_64, (56, libc::CLONE_NEWUSER as u32), EPERM);
        check(&[], x86_64, (41, 2), ALLOW); // socket AF_INET
        check(&[], x86_64, (41, 38), EPERM);
        check(&[], x86_64, (41, 39), ALLOW);
        check(&[], x86_64, (41, 40), EPERM);
        check(&[], x86_64, (135, 0xffff_ffff), ALLOW); // personality
        check(&[], x86_64, (135, 0x40000), EPERM);
        check(&[], x86_64, (161, 0), ALLOW); // chroot
        check(&[], x86_64, (101, 0), ALLOW); // ptrace
        check(&[], x86_64, (1000, 0), ENOSYS);
        check(&[], x86_64, (X32_BIT, 0), ALLOW); // read
        check(&[], x86_64, (X32_BIT + 165, 0), EPERM);
        check(&[], x86_64, (X32_BIT + 514, 0), ALLOW); // ioctl
        check(&[], x86_64, (X32_BIT + 16, 0), EPERM);
        let i386 = (AUDIT_ARCH_I386, Column::I386);
        check(&[], i386, (3, 0), ALLOW); // read
        check(&[], i386, (21, 0), EPERM); // mount
        check(&[], i386, (102, 0), ALLOW); // socketcall
        let aarch64 = (AUDIT_ARCH_AARCH64, Column::Aarch64);
        check(&[], aarch64, (63, 0), ALLOW); // read
        check(&[], aarch64, (40, 0), EPERM); // mount
        check(&["CAP_SYSLOG"], aarch64, (116, 0), ALLOW); // syslog
        let arm = (AUDIT_ARCH_ARM, Column::Arm);
        check(&[], arm, (0xf0005, 0), ALLOW); // set_tls
        check(&[], (0x1234, Column::X86_64), (0, 0), libc::SECCOMP_RET_KILL_THREAD);
    }

    #[test]
    fn every_call_of_the_table_gets_its_verdict() {
        for (audit, column) in native_architectures() {
            let kept = capabilities(&["CAP_SYS_ADMIN"]);
            let program = program(native_architectures(), kept);
            for (name, needed, numbers) in CALLS {
                let number = numbers[column as usize];
                if number != NONE && verdict(name, needed, kept) == Verdict::Allow {
                    assert_eq!(run(&program, audit, number, 0), ALLOW, "{name} {column:?}");
                }
            }
        }
    }
}
