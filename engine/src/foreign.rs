//! Programs for other architectures than this machine's: whether the kernel can run them here, and
//! what to install where it cannot.
//!
//! The kernel alone knows: it runs what the processor can, and what an emulator is registered for
//! (binfmt_misc, whose entries may be out of sight or have any name). So it is asked, with a program
//! of a few bytes that only ends. Knows nothing of images and containers.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use cache::Store;
use rustix::io::Errno;

/// Where the kernel shows its list of emulators, if that is mounted.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// How often a program is tried that somebody else still seems to be writing: who starts a process
/// at that moment gives it our open files for an instant.
const TRIES: usize = 50;

/// Why programs for an architecture do not run here.
#[derive(Debug, thiserror::Error)]
pub enum Foreign {
    /// Nobody has told the kernel how.
    #[error(
        "this machine cannot run programs for {architecture}: install an emulator (on Debian: \
         apt-get install qemu-user-static binfmt-support), which the kernel must know as {entry} in \
         {REGISTERED}, with the flag F to be there inside containers"
    )]
    NoEmulator {
        /// As Go's GOARCH.
        architecture: String,
        /// What the emulator's entry is usually called.
        entry: String,
    },
    /// The emulator is looked for in the container's own file system.
    #[error(
        "the emulator for {architecture} is not there inside containers: its entry {} lacks the \
         flag F; register it with that flag, as Debian's packages qemu-user-static and \
         binfmt-support do",
        entry.display()
    )]
    NotInside {
        /// As Go's GOARCH.
        architecture: String,
        /// Its entry.
        entry: PathBuf,
    },
}

/// How programs of an architecture begin, and one that ends with success.
struct Sample {
    /// As Go's GOARCH.
    architecture: &'static str,
    /// As QEMU calls it.
    emulator: &'static str,
    bits: Bits,
    order: Order,
    /// `e_machine` and `e_flags` of elf(5).
    machine: u16,
    flags: u32,
    /// `exit(0)`.
    code: &'static [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    B32,
    B64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

const SAMPLES: [Sample; 9] = [
    Sample {
        architecture: "amd64",
        emulator: "x86_64",
        bits: Bits::B64,
        order: Order::Little,
        machine: 62,
        flags: 0,
        // xor edi, edi; mov eax, 60; syscall
        code: &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05],
    },
    Sample {
        architecture: "386",
        emulator: "i386",
        bits: Bits::B32,
        order: Order::Little,
        machine: 3,
        flags: 0,
        // xor ebx, ebx; mov eax, 1; int 0x80
        code: &[0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80],
    },
    Sample {
        architecture: "arm64",
        emulator: "aarch64",
        bits: Bits::B64,
        order: Order::Little,
        machine: 183,
        flags: 0,
        // mov x0, 0; mov x8, 93; svc 0
        code: &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4],
    },
    Sample {
        architecture: "arm",
        emulator: "arm",
        bits: Bits::B32,
        order: Order::Little,
        machine: 40,
        flags: 0x0500_0000,
        // mov r0, 0; mov r7, 1; svc 0
        code: &[0, 0, 0xa0, 0xe3, 1, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef],
    },
    Sample {
        architecture: "riscv64",
        emulator: "riscv64",
        bits: Bits::B64,
        order: Order::Little,
        machine: 243,
        flags: 0,
        // li a0, 0; li a7, 93; ecall
        code: &[0x13, 5, 0, 0, 0x93, 8, 0xd0, 5, 0x73, 0, 0, 0],
    },
    Sample {
        architecture: "ppc64le",
        emulator: "ppc64le",
        bits: Bits::B64,
        order: Order::Little,
        machine: 21,
        flags: 2,
        // li r3, 0; li r0, 1; sc
        code: &[0, 0, 0x60, 0x38, 1, 0, 0, 0x38, 2, 0, 0, 0x44],
    },
    Sample {
        architecture: "s390x",
        emulator: "s390x",
        bits: Bits::B64,
        order: Order::Big,
        machine: 22,
        flags: 0,
        // lghi %r2, 0; svc 1
        code: &[0xa7, 0x29, 0, 0, 0x0a, 1],
    },
    Sample {
        architecture: "mips64le",
        emulator: "mips64el",
        bits: Bits::B64,
        order: Order::Little,
        machine: 8,
        flags: 0x2000_0000,
        // move a0, zero; li v0, 5058; syscall
        code: &[0x25, 0x20, 0, 0, 0xc2, 0x13, 2, 0x24, 0x0c, 0, 0, 0],
    },
    Sample {
        architecture: "loong64",
        emulator: "loongarch64",
        bits: Bits::B64,
        order: Order::Little,
        machine: 258,
        flags: 0x43,
        // ori a0, zero, 0; ori a7, zero, 93; syscall 0
        code: &[4, 0, 0x80, 3, 0x0b, 0x74, 0x81, 3, 0, 0, 0x2b, 0],
    },
];

/// Fails if it is sure that programs for this architecture (as Go's GOARCH) cannot run here. What is
/// not known is left to be tried.
pub fn check(store: &Store, architecture: &str) -> Result<(), Foreign> {
    static KNOWN: Mutex<BTreeMap<&str, bool>> = Mutex::new(BTreeMap::new());
    let Some(sample) = find(architecture) else { return Ok(()) };
    let mut known = KNOWN.lock().expect("no holder panics");
    let tried = || try_it(store, sample) != Some(Errno::NOEXEC);
    let runs = *known.entry(sample.architecture).or_insert_with(tried);
    match runs {
        true => Ok(()),
        false => Err(Foreign::NoEmulator {
            architecture: architecture.to_owned(),
            entry: format!("qemu-{}", sample.emulator),
        }),
    }
}

/// Why a container's program was not started, by docker's exit code for that, if it is for the
/// architecture.
pub fn reason(store: &Store, architecture: &str, code: i32) -> Option<Foreign> {
    match code {
        126 => check(store, architecture).err(),
        127 => not_inside(architecture),
        _ => None,
    }
}

/// The emulator for an architecture if it is looked for where the program is.
fn not_inside(architecture: &str) -> Option<Foreign> {
    let sample = find(architecture)?;
    let program = sample.program();
    let entries = std::fs::read_dir(REGISTERED).ok()?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let takes = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Entry::parse(&text).is_some_and(|entry| entry.takes(&program) && !entry.is_fixed)
    };
    let entry = paths.find(takes)?;
    Some(Foreign::NotInside { architecture: architecture.to_owned(), entry })
}

/// The sample of an architecture that is not this program's own.
fn find(architecture: &str) -> Option<&'static Sample> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    };
    SAMPLES.iter().find(|sample| sample.architecture == architecture && architecture != own)
}

/// Why the kernel does not start the sample; `None` also where it cannot be tried.
fn try_it(store: &Store, sample: &Sample) -> Option<Errno> {
    let dir = store.scratch_dir().ok()?;
    let path = dir.join(sample.architecture);
    write_program(&path, &sample.program()).ok()?;
    let mut refused = run(&path);
    for _ in 1..TRIES {
        if refused != Some(Errno::TXTBSY) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        refused = run(&path);
    }
    // What stays is swept with the rest of our scratch.
    let _ = fs_err::remove_dir_all(&dir);
    refused
}

fn write_program(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs_err::write(path, bytes)?;
    fs_err::set_permissions(path, PermissionsExt::from_mode(0o755))
}

/// Runs a program to its end; returns why it could not be started.
fn run(path: &Path) -> Option<Errno> {
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // How it ends is the emulator's business.
    command.status().err().and_then(|error| Errno::from_io_error(&error))
}

impl Sample {
    /// A whole program (elf(5)): the header, one segment with everything in it, the code.
    fn program(&self) -> Vec<u8> {
        const AT: u64 = 0x20_0000;
        let (header, segment) = match self.bits {
            Bits::B32 => (52, 32),
            Bits::B64 => (64, 56),
        };
        let size = header + segment + self.code.len() as u64;
        let mut elf = Writer { bytes: b"\x7fELF".to_vec(), bits: self.bits, order: self.order };
        let class = if self.bits == Bits::B64 { 2 } else { 1 };
        let order = if self.order == Order::Little { 1 } else { 2 };
        elf.bytes.extend([class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        elf.half(2);
        elf.half(self.machine);
        elf.word(1);
        elf.address(AT + header + segment);
        elf.address(header);
        elf.address(0);
        elf.word(self.flags);
        for value in [header, segment, 1, 0, 0, 0] {
            elf.half(value as u16);
        }
        elf.word(1);
        // The segment's permissions stand at another place in the longer form.
        let readable_and_executable = 5;
        if self.bits == Bits::B64 {
            elf.word(readable_and_executable);
        }
        for value in [0, AT, AT, size, size] {
            elf.address(value);
        }
        if self.bits == Bits::B32 {
            elf.word(readable_and_executable);
        }
        elf.address(0x1_0000);
        elf.bytes.extend(self.code);
        elf.bytes
    }
}

/// Writes numbers as an architecture has them.
struct Writer {
    bytes: Vec<u8>,
    bits: Bits,
    order: Order,
}

impl Writer {
    fn number(&mut self, value: u64, length: usize) {
        match self.order {
            Order::Little => self.bytes.extend(&value.to_le_bytes()[..length]),
            Order::Big => self.bytes.extend(&value.to_be_bytes()[8 - length..]),
        }
    }

    fn half(&mut self, value: u16) {
        self.number(value.into(), 2);
    }

    fn word(&mut self, value: u32) {
        self.number(value.into(), 4);
    }

    fn address(&mut self, value: u64) {
        self.number(value, if self.bits == Bits::B64 { 8 } else { 4 });
    }
}

/// An entry of the kernel's list, as a file there shows it
/// (`Documentation/admin-guide/binfmt-misc.rst`).
struct Entry {
    offset: usize,
    magic: Vec<u8>,
    mask: Option<Vec<u8>>,
    /// Whether the emulator was opened when it was registered, and so is there everywhere.
    is_fixed: bool,
}

impl Entry {
    /// Reads an entry that goes by how programs begin and that is enabled.
    fn parse(text: &str) -> Option<Self> {
        let value =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        (text.lines().next() == Some("enabled")).then_some(())?;
        Some(Self {
            offset: value("offset ")?.parse().ok()?,
            magic: bytes(value("magic ")?)?,
            mask: value("mask ").and_then(bytes),
            is_fixed: value("flags:")?.contains('F'),
        })
    }

    /// Whether the kernel gives this program to the emulator.
    fn takes(&self, program: &[u8]) -> bool {
        let mask = |at: usize| self.mask.as_ref().and_then(|mask| mask.get(at)).unwrap_or(&0xff);
        let wanted = self.magic.iter().enumerate();
        let found = program.get(self.offset..).unwrap_or_default();
        found.len() >= self.magic.len()
            && wanted.zip(found).all(|((at, wanted), found)| (wanted ^ found) & mask(at) == 0)
    }
}

/// Bytes from their hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_programs() {
        let own = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let sample = SAMPLES.iter().find(|sample| sample.architecture == own).expect("a sample");
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("program");
        write_program(&path, &sample.program()).expect("write");
        // Another test may start a process while the file is open.
        while run(&path) == Some(Errno::TXTBSY) {}
        let ended = Command::new(&path).status().expect("the kernel takes it");
        assert!(ended.success(), "{ended}");
    }

    #[test]
    fn what_no_kernel_knows_cannot_be_run() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let strange = Sample { machine: 0xfff0, ..SAMPLES[2] };
        assert_eq!(try_it(&store, &strange), Some(Errno::NOEXEC));
        check(&store, "vax").expect("nobody knows");
    }

    #[test]
    fn an_entry_takes_what_begins_as_it_says() {
        let entry = |flags: &str| {
            let text = format!(
                "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: {flags}\noffset 0\n\
                 magic 7f454c460201010000000000000000000200b700\n\
                 mask ffffffffffffff00fffffffffffffffffeffffff\n"
            );
            Entry::parse(&text).expect("an entry")
        };
        for sample in &SAMPLES {
            let taken = entry("OCF").takes(&sample.program());
            assert_eq!(taken, sample.architecture == "arm64", "{}", sample.architecture);
        }
        assert!(entry("OCF").is_fixed && !entry("OC").is_fixed);
        assert!(Entry::parse("disabled\nflags: F\noffset 0\nmagic 00\n").is_none());
        assert!(!entry("F").takes(b"\x7fELF"));
    }
}
