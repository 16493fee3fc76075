//! eBPF programs that decide which devices a v2 cgroup may use (`bpf(2)`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::process::check;
use crate::container::spec::{DeviceKind, DeviceRule};

/// One instruction, as `struct bpf_insn` has it.
type Instruction = u64;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_QUERY: libc::c_long = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// Bits of the access and device type in `struct bpf_cgroup_dev_ctx`.
const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHARACTER: i32 = 2;
const ACCESS_MAKE: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = ACCESS_MAKE | ACCESS_READ | ACCESS_WRITE;

/// Has the kernel deny the processes of a cgroup all devices but those the rules allow. Does
/// nothing if that has been done before.
pub(crate) fn confine_devices(cgroup: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let cgroup = std::fs::File::open(cgroup)?;
    if attached(&cgroup)? > 0 {
        return Ok(());
    }
    let program = load(&program(rules))?;
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let mut request = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_TYPE_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the request begins with the fields of `union bpf_attr` for this command.
    unsafe { bpf(PROG_ATTACH, &mut request) }.map(drop)
}

/// How many device programs a cgroup has.
fn attached(cgroup: &std::fs::File) -> io::Result<u32> {
    #[repr(C)]
    struct Query {
        target: u32,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
        more: [u64; 3],
    }
    let mut request = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: ATTACH_TYPE_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        programs: 0,
        count: 0,
        padding: 0,
        more: [0; 3],
    };
    // SAFETY: the request begins with the fields of `union bpf_attr` for this command; with no
    // place for program ids the kernel writes only their count and flags into it.
    unsafe { bpf(PROG_QUERY, &mut request) }?;
    Ok(request.count)
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    let mut request = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the request begins with the fields of `union bpf_attr` for this command; the
    // pointers in it are to `count` instructions and a C string, which the kernel only reads.
    let fd = unsafe { bpf(PROG_LOAD, &mut request) }?;
    // SAFETY: the call returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Calls `bpf(2)`.
///
/// # Safety
///
/// `request` must be what the command expects at the beginning of `union bpf_attr`.
unsafe fn bpf<T>(command: libc::c_long, request: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller vouches for the request, whose size is passed with it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), size_of::<T>())
    };
    Ok(check(result)?)
}

/// Puts an instruction together: operation, destination and source register, jump, constant.
fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Instruction {
    u64::from(code)
        | u64::from(to) << 8
        | u64::from(from) << 12
        | u64::from(offset as u16) << 16
        | u64::from(constant as u32) << 32
}

/// The program: r1 points to type and access, major and minor; it returns 1 to allow.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    const LOAD: u8 = 0x61;
    const MOVE: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const UNLESS_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    let mut program = vec![
        instruction(LOAD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        // r2 is the type, r3 the access, r4 and r5 are major and minor.
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let kind = match rule.kind {
            DeviceKind::All => None,
            DeviceKind::Block => Some(DEVICE_BLOCK),
            DeviceKind::Character => Some(DEVICE_CHARACTER),
        };
        let mut conditions: Vec<(u8, i32)> = kind.map(|kind| (2, kind)).into_iter().collect();
        conditions.extend(rule.major.map(|major| (4, major as i32)));
        conditions.extend(rule.minor.map(|minor| (5, minor as i32)));
        // r6 is what is asked for beyond what is allowed.
        let denied = ACCESS_ALL & !access(rule);
        let asked = [instruction(MOVE, 6, 3, 0, 0), instruction(AND, 6, 0, 0, denied)];
        let tests = asked.len() + conditions.len() + 1;
        for (index, (register, value)) in conditions.iter().enumerate() {
            // Past the other conditions and the two instructions that allow.
            let offset = (tests - 1 - index + 2) as i16;
            program.push(instruction(UNLESS_EQUAL, *register, 0, offset, *value));
        }
        program.extend(asked);
        program.push(instruction(UNLESS_EQUAL, 6, 0, 2, 0));
        program.extend([instruction(SET, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    }
    program.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

/// The accesses a rule allows.
fn access(rule: &DeviceRule) -> i32 {
    let bit = |allowed: bool, bit: i32| if allowed { bit } else { 0 };
    bit(rule.access.make, ACCESS_MAKE)
        | bit(rule.access.read, ACCESS_READ)
        | bit(rule.access.write, ACCESS_WRITE)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::container::DEVICE_RULES;

    /// Where the unified hierarchy is, if there is one.
    fn unified() -> Option<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        line.split(' ').nth(4).map(str::to_owned)
    }

    #[test]
    fn a_confined_cgroup_has_the_usual_devices_only() {
        let Some(root) = unified() else { return };
        let cgroup = Path::new(&root).join(format!("rbuild-bpf-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        confine_devices(&cgroup, &DEVICE_RULES).unwrap();
        confine_devices(&cgroup, &DEVICE_RULES).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let script = "echo 0 > $1/cgroup.procs; cd $2; mknod disk b 254 0; mknod kmsg c 1 11; \
                      mknod null c 1 3; head -c1 /dev/zero >null && echo null; \
                      head -c1 disk 2>&1; head -c1 kmsg 2>&1; true";
        let output = Command::new("/bin/busybox")
            .args(["sh", "-c", script, "sh"])
            .args([cgroup.as_path(), directory.path()])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let programs = attached(&fs::File::open(&cgroup).unwrap()).unwrap();
        fs::remove_dir(&cgroup).unwrap();
        assert!(text.starts_with("null\n"), "{text} {:?}", output.stderr);
        assert_eq!(text.matches("Operation not permitted").count(), 2, "{text}");
        assert_eq!(programs, 1);
    }
}
