//! Judgements of system calls, compiled to a program for the kernel's filter (`seccomp(2)`).
//!
//! Calls are found by binary search over ranges of numbers with one verdict. Knows no profile.

use super::profile::ProfileError;
use crate::container::syscalls::{CALLS, Column, MORE_CALLS, NONE, NOT_X32, X32};

/// Offsets in `struct seccomp_data`, on a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Marks a number as one of the x32 ABI.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The kernel takes no longer program.
const MAX_PROGRAM: usize = 4096;

/// What is to become of every call.
pub(super) struct Filter<'a> {
    /// Calls made by any other architecture kill the thread.
    pub(super) architectures: Vec<Architecture>,
    /// The verdict on calls that nothing else is said about.
    pub(super) default: Verdict,
    /// The verdict on calls newer than all that are judged.
    pub(super) newer: Verdict,
    /// What is said about a call, if anything.
    pub(super) judge: Judge<'a>,
}

/// Says what becomes of a call of this name.
type Judge<'a> = Box<dyn Fn(&str) -> Option<Verdict> + 'a>;

/// A way to call the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64 { with_x32: bool },
    I386,
    Aarch64,
    Arm,
}

impl Architecture {
    fn audit(self) -> u32 {
        match self {
            Architecture::X86_64 { .. } => 0xc000_003e,
            Architecture::I386 => 0x4000_0003,
            Architecture::Aarch64 => 0xc000_00b7,
            Architecture::Arm => 0x4000_0028,
        }
    }

    fn column(self) -> Column {
        match self {
            Architecture::X86_64 { .. } => Column::X86_64,
            Architecture::I386 => Column::I386,
            Architecture::Aarch64 => Column::Aarch64,
            Architecture::Arm => Column::Arm,
        }
    }
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The first whose conditions are all met decides.
    pub(super) rules: Vec<Rule>,
    /// The `SECCOMP_RET_*` value if none does.
    pub(super) otherwise: u32,
}

impl Verdict {
    pub(super) const ALLOW: Verdict = Verdict::give(libc::SECCOMP_RET_ALLOW);

    pub(super) const fn give(action: u32) -> Verdict {
        Verdict { rules: Vec::new(), otherwise: action }
    }

    pub(super) const fn fail(errno: i32) -> Verdict {
        Verdict::give(errno_action(errno))
    }
}

pub(super) const fn errno_action(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32 & libc::SECCOMP_RET_DATA
}

/// An action for calls with some arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// A test of one of a call's six arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) test: Test,
    /// Whether the test must fail.
    pub(super) negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// The bits of `mask` are those of `value`.
    Equal {
        mask: u64,
        value: u64,
    },
    Greater(u64),
    GreaterOrEqual(u64),
}

/// The program for a filter.
pub(super) fn program(filter: &Filter<'_>) -> Result<Vec<libc::sock_filter>, ProfileError> {
    let judged: Vec<Judged> = calls()
        .filter_map(|(name, numbers)| {
            Some(Judged { name, numbers, verdict: (filter.judge)(name)? })
        })
        .collect();
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in &filter.architectures {
        let mut block = vec![load(NUMBER)];
        search(&ranges(filter, &judged, *architecture), &mut block)?;
        program.extend(unless_equal(architecture.audit(), block.len()));
        program.extend(block);
    }
    program.push(give(libc::SECCOMP_RET_KILL_THREAD));
    if program.len() > MAX_PROGRAM {
        return Err(ProfileError::TooLong);
    }
    Ok(program)
}

/// A call that something is said about.
struct Judged {
    name: &'static str,
    numbers: &'static [u32; 4],
    verdict: Verdict,
}

/// A verdict on all numbers from one up to the next range's.
type Range<'a> = (u32, &'a Verdict);

/// What becomes of calls of an ABI that is not to be used.
static KILL: Verdict = Verdict::give(libc::SECCOMP_RET_KILL_THREAD);

/// The verdicts on all numbers.
fn ranges<'a>(
    filter: &'a Filter<'_>,
    judged: &'a [Judged],
    architecture: Architecture,
) -> Vec<Range<'a>> {
    let verdicts = |offset: u32, mut numbers: Vec<Range<'a>>| {
        numbers.sort_unstable_by_key(|(number, _)| *number);
        let mut ranges = Vec::with_capacity(2 * numbers.len() + 1);
        ranges.push((offset, &filter.default));
        for (number, verdict) in numbers {
            ranges.push((offset + number, verdict));
            ranges.push((offset + number + 1, &filter.default));
        }
        if let Some(last) = ranges.last_mut() {
            last.1 = &filter.newer;
        }
        ranges
    };
    let mut all = verdicts(0, known(judged, architecture.column()));
    match architecture {
        Architecture::X86_64 { with_x32: true } => {
            all.extend(verdicts(X32_BIT, known_by_x32(judged)));
        }
        Architecture::X86_64 { with_x32: false } => all.push((X32_BIT, &KILL)),
        _ => {}
    }
    merge(all)
}

/// Drops ranges that are empty and joins neighbours with one verdict.
fn merge(ranges: Vec<Range<'_>>) -> Vec<Range<'_>> {
    let mut merged: Vec<Range<'_>> = Vec::with_capacity(ranges.len());
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

/// Every call that there is, with its numbers.
fn calls() -> impl Iterator<Item = (&'static str, &'static [u32; 4])> {
    let docker = CALLS.iter().map(|call| (call.0, &call.2));
    docker.chain(MORE_CALLS.iter().map(|call| (call.0, &call.1)))
}

/// Every judged call that the architecture has.
fn known(judged: &[Judged], column: Column) -> Vec<Range<'_>> {
    judged
        .iter()
        .map(|call| (call.numbers[column as usize], &call.verdict))
        .filter(|(number, _)| *number != NONE)
        .collect()
}

fn known_by_x32(judged: &[Judged]) -> Vec<Range<'_>> {
    judged
        .iter()
        .filter(|call| !NOT_X32.contains(&call.name))
        .map(|call| (call.numbers[Column::X86_64 as usize], &call.verdict))
        .filter(|(number, _)| *number != NONE)
        .map(|(number, verdict)| {
            let other = X32.iter().find(|(here, _)| *here == number);
            (other.map_or(number, |(_, there)| *there), verdict)
        })
        .collect()
}

/// Appends instructions that find the range of the number in the accumulator and carry its verdict
/// out.
fn search(ranges: &[Range<'_>], program: &mut Vec<libc::sock_filter>) -> Result<(), ProfileError> {
    match ranges {
        [] => Ok(()),
        [(_, verdict)] => {
            program.extend(carry_out(verdict)?);
            Ok(())
        }
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let mut less = Vec::new();
            search(below, &mut less)?;
            program.extend(if_less(above[0].0, less.len()));
            // `less` runs when the number is less, and ends in a verdict.
            program.extend(less);
            search(above, program)
        }
    }
}

fn carry_out(verdict: &Verdict) -> Result<Vec<libc::sock_filter>, ProfileError> {
    let mut program = Vec::new();
    for rule in &verdict.rules {
        // Backwards, because a test that fails jumps past all that follows in its rule.
        let mut code = vec![give(rule.action)];
        for condition in rule.conditions.iter().rev() {
            let mut before = test(condition, code.len())?;
            before.append(&mut code);
            code = before;
        }
        program.extend(code);
    }
    program.push(give(verdict.otherwise));
    Ok(program)
}

/// Where a jump of a test leads.
#[derive(Clone, Copy)]
enum Target {
    Next,
    Pass,
    Fail,
}

/// Goes on after its own instructions if the condition is met, else past `rest` more.
fn test(condition: &Condition, rest: usize) -> Result<Vec<libc::sock_filter>, ProfileError> {
    let low = ARGUMENTS + 8 * u32::from(condition.argument);
    let (pass, fail) = match condition.negated {
        false => (Target::Pass, Target::Fail),
        true => (Target::Fail, Target::Pass),
    };
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let plain = |instruction| (instruction, Target::Next, Target::Next);
    let mut code = Vec::new();
    match condition.test {
        Test::Equal { mask, value } => {
            let ((mask_high, mask_low), (high, low_value)) = (halves(mask), halves(value & mask));
            if mask_high != 0 {
                code.push(plain(load(low + 4)));
                code.push(plain(and(mask_high)));
                code.push((jump(libc::BPF_JEQ, high), Target::Next, fail));
            }
            code.push(plain(load(low)));
            code.push(plain(and(mask_low)));
            code.push((jump(libc::BPF_JEQ, low_value), pass, fail));
        }
        Test::Greater(value) | Test::GreaterOrEqual(value) => {
            let (high, low_value) = halves(value);
            let or_equal = matches!(condition.test, Test::GreaterOrEqual(_));
            let comparison = if or_equal { libc::BPF_JGE } else { libc::BPF_JGT };
            code.push(plain(load(low + 4)));
            code.push((jump(libc::BPF_JGT, high), pass, Target::Next));
            code.push((jump(libc::BPF_JEQ, high), Target::Next, fail));
            code.push(plain(load(low)));
            code.push((jump(comparison, low_value), pass, fail));
        }
    }
    let length = code.len();
    code.into_iter()
        .enumerate()
        .map(|(index, (mut instruction, jt, jf))| {
            let offset = |target| {
                let left = length - 1 - index;
                u8::try_from(match target {
                    Target::Next => 0,
                    Target::Pass => left,
                    Target::Fail => left + rest,
                })
                .map_err(|_| ProfileError::TooLong)
            };
            (instruction.jt, instruction.jf) = (offset(jt)?, offset(jf)?);
            Ok(instruction)
        })
        .collect()
}

fn instruction(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn and(mask: u32) -> libc::sock_filter {
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask)
}

fn give(action: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, action)
}

fn jump(condition: u32, k: u32) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_K | condition, k)
}

/// Goes on with the next `count` instructions if the accumulator is below `k`, else after them.
fn if_less(k: u32, count: usize) -> Vec<libc::sock_filter> {
    // The offset of a conditional jump has eight bits, that of an unconditional one 32.
    let compare = jump(libc::BPF_JGE, k);
    match u8::try_from(count) {
        Ok(count) => vec![libc::sock_filter { jt: count, ..compare }],
        Err(_) => vec![libc::sock_filter { jf: 1, ..compare }, skip(count)],
    }
}

/// Goes on with the next `count` instructions if the accumulator equals `k`, else after them.
fn unless_equal(k: u32, count: usize) -> Vec<libc::sock_filter> {
    vec![libc::sock_filter { jt: 1, ..jump(libc::BPF_JEQ, k) }, skip(count)]
}

fn skip(count: usize) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, count as u32)
}

/// A program runs as the kernel would run it.
#[cfg(test)]
pub(super) fn run(
    program: &[libc::sock_filter],
    architecture: Architecture,
    number: u32,
    arguments: &[u64],
) -> u32 {
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let now = program[at];
        at += 1;
        let (condition, go) = match u32::from(now.code) {
            0x20 => {
                accumulator = match now.k {
                    NUMBER => number,
                    ARCHITECTURE => architecture.audit(),
                    offset => {
                        let offset = offset - ARGUMENTS;
                        let argument = arguments.get(offset as usize / 8).copied().unwrap_or(0);
                        (argument >> (8 * (offset % 8))) as u32
                    }
                };
                continue;
            }
            0x54 => {
                accumulator &= now.k;
                continue;
            }
            0x06 => return now.k,
            0x05 => (true, now.k as usize),
            0x15 => (accumulator == now.k, usize::from(now.jt)),
            0x25 => (accumulator > now.k, usize::from(now.jt)),
            0x35 => (accumulator >= now.k, usize::from(now.jt)),
            code => panic!("instruction {code:#x}"),
        };
        at += if condition { go } else { usize::from(now.jf) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of three values meets a condition on the first argument.
    #[track_caller]
    fn check(test: Test, values: [u64; 4], expected: [bool; 4]) {
        for negated in [false, true] {
            let judge = move |name: &str| {
                let conditions = vec![Condition { argument: 1, test, negated }];
                let rules = vec![Rule { conditions, action: libc::SECCOMP_RET_ALLOW }];
                (name == "read").then_some(Verdict { rules, otherwise: 7 })
            };
            let filter = Filter {
                architectures: vec![Architecture::X86_64 { with_x32: false }],
                default: Verdict::give(8),
                newer: Verdict::give(9),
                judge: Box::new(judge),
            };
            let program = program(&filter).unwrap();
            for (value, expected) in values.into_iter().zip(expected) {
                let given = run(&program, filter.architectures[0], 0, &[0, value]);
                let met = given == libc::SECCOMP_RET_ALLOW;
                assert_eq!(met, expected != negated, "{test:?} {negated} {value:#x}");
            }
        }
    }

    #[test]
    fn arguments_are_compared_in_all_their_bits() {
        let high = 5 << 32;
        let values = [high + 3, high + 4, high + 5, (6 << 32) + 1];
        let all = u64::MAX;
        check(Test::Equal { mask: all, value: high + 4 }, values, [false, true, false, false]);
        check(Test::Equal { mask: 0xf, value: 4 }, values, [false, true, false, false]);
        check(Test::Equal { mask: 0xf << 32, value: high }, values, [true, true, true, false]);
        check(Test::Greater(high + 4), values, [false, false, true, true]);
        check(Test::GreaterOrEqual(high + 4), values, [false, true, true, true]);
    }
}
