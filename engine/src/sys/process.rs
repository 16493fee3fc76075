//! Processes: starting a program in new namespaces, and what a process does to itself.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::Pid;

/// Descriptors are parked from this number on before they get their places in a child, so that
/// putting one into its place never overwrites another.
const PARKING: RawFd = 32;

/// Beyond the 32 bits that libc has for it (`linux/sched.h`).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The child's stack: it only makes system calls.
const STACK_WORDS: usize = 4096;

/// Has blocks of memory of this many bytes and more mapped by themselves (mallopt(3)): they go back
/// to the kernel when they are given up, where those of a heap stay between others. Left alone, the
/// C library maps only larger and larger ones.
#[cfg(target_env = "gnu")]
pub(crate) fn map_blocks_from(bytes: c_int) {
    // SAFETY: it sets a number that allocations look at.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
}

/// Other C libraries do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn map_blocks_from(_bytes: c_int) {}

/// A program to start.
pub(crate) struct Spawn<'a> {
    /// Its file, open in any way.
    pub(crate) program: BorrowedFd<'a>,
    pub(crate) args: &'a [&'a CStr],
    /// `CLONE_NEW*` flags.
    pub(crate) namespaces: c_int,
    /// A cgroup of version 2 that a copy is made in if it can be.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Open descriptors and the numbers they have in the child.
    pub(crate) descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    /// What the program would do: a copy of this process does it at once if there is a single
    /// thread. It uses no descriptors but these, has our environment, and is in no core dump.
    pub(crate) copy: Option<Copied>,
}

/// What a copy of a process does. It is told whether it is in the cgroup it was to be made in.
pub(crate) type Copied = extern "C" fn(bool) -> !;

/// A started process; nobody has waited for it yet.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// What the child reads, and the one word it writes.
struct Plan {
    program: RawFd,
    argv: *const *const c_char,
    envp: *const *const c_char,
    descriptors: *const (RawFd, RawFd),
    descriptor_count: usize,
    errno: AtomicI32,
}

/// Starts a program with an empty environment, or a copy of this process that does the same, in new
/// namespaces, with all signals blocked.
///
/// May be called from any thread of a threaded process: as in `posix_spawn(3)` the child borrows
/// this thread's memory (`CLONE_VM | CLONE_VFORK`), makes nothing but system calls, and the thread
/// sleeps until the child has executed the program or failed to.
pub(crate) fn spawn(spawn: &Spawn<'_>) -> io::Result<Child> {
    let parked = spawn
        .descriptors
        .iter()
        .map(|(fd, _)| rustix::io::fcntl_dupfd_cloexec(fd, PARKING))
        .collect::<Result<Vec<OwnedFd>, Errno>>()?;
    let descriptors: Vec<(RawFd, RawFd)> = parked
        .iter()
        .zip(spawn.descriptors)
        .map(|(fd, (_, place))| (fd.as_raw_fd(), *place))
        .collect();
    if let Some(run) = spawn.copy.filter(|_| has_one_thread()) {
        return spawn_copy(spawn, &descriptors, run);
    }
    let program = rustix::io::fcntl_dupfd_cloexec(spawn.program, PARKING)?;
    let argv = null_terminated(spawn.args);
    let envp = null_terminated(&[]);
    let plan = Plan {
        program: program.as_raw_fd(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        descriptors: descriptors.as_ptr(),
        descriptor_count: descriptors.len(),
        errno: AtomicI32::new(0),
    };
    let child = clone_vfork(&plan, spawn.namespaces)?;
    match plan.errno.load(Ordering::Relaxed) {
        0 => Ok(child),
        errno => {
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&child.pidfd)),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// A directory has two links beside those of what is in it: here one for each thread (`proc(5)`).
fn has_one_thread() -> bool {
    rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink == 3)
}

fn spawn_copy(spawn: &Spawn<'_>, descriptors: &[(RawFd, RawFd)], run: Copied) -> io::Result<Child> {
    // What is to be printed yet is printed once.
    io::Write::flush(&mut io::stdout())?;
    let unblock = BlockedSignals::new();
    let flags = spawn.namespaces | libc::SIGCHLD;
    let (made, is_inside) = match spawn.cgroup.map(|cgroup| clone_into(flags, cgroup)) {
        Some(Ok(made)) => (made, true),
        // Whatever is wrong with the cgroup, the copy finds it when it joins.
        Some(Err(_)) | None => (clone_process(flags)?, false),
    };
    match made {
        Forked::Parent(child) => {
            drop(unblock);
            Ok(child)
        }
        Forked::Child => begin_anew(descriptors, run, is_inside),
    }
}

/// Runs something in a copy of a process, with descriptors in their places.
fn begin_anew(descriptors: &[(RawFd, RawFd)], run: Copied, is_inside: bool) -> ! {
    // What was the other's to know is nobody's to read in the place where this goes.
    let hidden = rustix::process::DumpableBehavior::NotDumpable;
    let _ = rustix::process::set_dumpable_behavior(hidden);
    for (from, to) in descriptors {
        // SAFETY: nothing of this process is used any more but what `run` uses: it never returns,
        // and no owner of a descriptor is dropped.
        if unsafe { libc::dup2(*from, *to) } < 0 {
            std::process::exit(127);
        }
    }
    run(is_inside)
}

/// Has a copy of a process that is told late what it is for run something, with these descriptors
/// at these numbers, in the cgroup it was to be made in. What else it has is nobody's.
pub(crate) fn run_with(descriptors: Vec<OwnedFd>, places: &[RawFd], run: Copied) -> ! {
    let mut parked = Vec::with_capacity(descriptors.len());
    for (descriptor, place) in descriptors.iter().zip(places) {
        match rustix::io::fcntl_dupfd_cloexec(descriptor, PARKING) {
            Ok(fd) => parked.push((fd.into_raw_fd(), *place)),
            Err(_) => std::process::exit(127),
        }
    }
    begin_anew(&parked, run, true)
}

/// Has the kernel kill the process with the thread that starts it, however that ends
/// (`PR_SET_PDEATHSIG` of prctl(2)).
pub(crate) fn die_with_parent(command: &mut std::process::Command) -> &mut std::process::Command {
    let parent = rustix::process::getpid();
    let ask = move || {
        let kill = rustix::process::Signal::KILL;
        rustix::process::set_parent_process_death_signal(Some(kill))?;
        // It may have ended before it was asked for.
        match rustix::process::getppid() {
            Some(pid) if pid == parent => Ok(()),
            _ => Err(Errno::SRCH.into()),
        }
    };
    // SAFETY: the closure makes two system calls, allocates nothing and takes no lock.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, ask) }
}

fn clone_vfork(plan: &Plan, namespaces: c_int) -> io::Result<Child> {
    // Only what the child touches of it is ever there: zeros would be written to all of it.
    let mut stack = Vec::<u128>::with_capacity(STACK_WORDS);
    let mut pidfd: RawFd = -1;
    let flags = namespaces | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // A signal handler that ran in the child would run in our memory: none may.
    let unblock = BlockedSignals::new();
    // SAFETY: the stack's end is 16-byte aligned and the stack outlives the child's use of it, as
    // does the plan, because CLONE_VFORK holds this thread until the child is gone from our
    // memory; `run_child` keeps to async-signal-safe calls; pidfd is a valid place for a c_int.
    let pid = unsafe {
        libc::clone(
            run_child,
            stack.spare_capacity_mut().as_mut_ptr_range().end.cast::<c_void>(),
            flags,
            ptr::from_ref(plan).cast_mut().cast::<c_void>(),
            &raw mut pidfd,
        )
    };
    let made = check(c_long::from(pid));
    drop(unblock);
    let pid = Pid::from_raw(made? as libc::pid_t).ok_or(Errno::INVAL)?;
    // SAFETY: clone succeeded, so it stored a new descriptor that nobody else owns.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// The child's whole life: no allocation, no lock, no panic.
extern "C" fn run_child(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes a Plan and is suspended while this runs.
    let plan = unsafe { &*plan.cast::<Plan>() };
    // SAFETY: all pointers in the plan are to arrays the parent keeps alive; dup2, _exit and
    // the bare system call are async-signal-safe.
    unsafe {
        for index in 0..plan.descriptor_count {
            let (from, to) = *plan.descriptors.add(index);
            if libc::dup2(from, to) < 0 {
                plan.errno.store(*libc::__errno_location(), Ordering::Relaxed);
                libc::_exit(127);
            }
        }
        libc::syscall(
            libc::SYS_execveat,
            plan.program,
            c"".as_ptr(),
            plan.argv,
            plan.envp,
            libc::AT_EMPTY_PATH,
        );
        plan.errno.store(*libc::__errno_location(), Ordering::Relaxed);
        libc::_exit(127)
    }
}

/// All signals of this thread are blocked while it lives.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn new() -> BlockedSignals {
        // SAFETY: sigset_t is plain data for which zeroes are valid, and both pointers are to
        // live sets.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            BlockedSignals(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut());
        }
    }
}

fn null_terminated(strings: &[&CStr]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Gives every signal its default action and unblocks all.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL installs no handler; numbers that cannot be set are refused, which
        // changes nothing.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    // SAFETY: a zeroed set that sigemptyset fills.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Has a write that nobody reads fail, instead of ending this process.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN installs no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Takes over a descriptor that whoever started this program placed at `number`, and keeps it from
/// the programs this one executes.
pub(crate) fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_SETFD checks that the descriptor is open and touches no memory.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    check(c_long::from(result))?;
    // SAFETY: it is open, and by the agreement with whoever started us nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from `first` on: whoever started us may have left some open that nobody
/// here knows. Only for a process that has made none of these itself.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: by the above nothing owns the descriptors that are closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Closes every descriptor beyond the standard streams but one. Only for a process that uses none
/// of the others again.
pub(crate) fn close_all_but(kept: OwnedFd) -> OwnedFd {
    const PLACE: RawFd = 3;
    let number = kept.into_raw_fd();
    // SAFETY: by the above nobody uses what is closed, and nobody owns the place that the kept one
    // is moved to.
    unsafe {
        libc::dup2(number, PLACE);
        libc::syscall(libc::SYS_close_range, PLACE + 1, u32::MAX, 0);
        OwnedFd::from_raw_fd(PLACE)
    }
}

/// Sends a signal by its number, of which those for real time have no names (`kill(2)`).
pub(crate) fn send_signal(pid: Pid, number: i32) -> Result<(), Errno> {
    // SAFETY: kill has no memory to touch.
    let result = unsafe { libc::kill(pid.as_raw_nonzero().get(), number) };
    check(c_long::from(result)).map(drop)
}

/// Which of two processes this is after a fork.
pub(crate) enum Forked<T> {
    Parent(T),
    Child,
}

/// Makes a copy of this process (`fork(2)`). Only for a process with a single thread.
pub(crate) fn fork() -> io::Result<Forked<Pid>> {
    // SAFETY: with a single thread no lock is held by anybody who is not copied.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid).map_or(Forked::Child, Forked::Parent)),
    }
}

/// Makes a copy of this process, in the process namespace that its children are to be in, which is a
/// child of this process's parent. Only for a process with a single thread.
pub(crate) fn fork_beside() -> io::Result<Forked<Child>> {
    clone_process(libc::CLONE_PARENT)
}

/// Makes a copy of this process in new namespaces and in a cgroup of version 2, if one is given, as a
/// child of this process's parent. Only for a process with a single thread.
pub(crate) fn copy_beside(
    namespaces: c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Forked<Child>> {
    let flags = namespaces | libc::CLONE_PARENT;
    match cgroup {
        Some(cgroup) => clone_into(flags, cgroup),
        None => clone_process(flags),
    }
}

/// Makes a copy of this process (`clone(2)`); no flag may have it share memory. Only for a process
/// with a single thread.
fn clone_process(flags: c_int) -> io::Result<Forked<Child>> {
    let mut pidfd: RawFd = -1;
    let (no_stack, no_tid, no_tls) = (0 as c_long, 0 as c_long, 0 as c_long);
    // SAFETY: without CLONE_VM and with no stack given this is a fork: the child has a copy of
    // everything. With a single thread no lock is held by anybody who is not copied. The kernel
    // writes a descriptor through the pointer. (aarch64 has the last two arguments the other way
    // round; both are unused.)
    let pid = unsafe {
        let flags = c_long::from(flags | libc::CLONE_PIDFD);
        libc::syscall(libc::SYS_clone, flags, no_stack, &raw mut pidfd, no_tid, no_tls)
    };
    // SAFETY: if the clone succeeded it stored a new descriptor that nobody else owns.
    unsafe { cloned(pid, pidfd) }
}

/// The same in a cgroup of version 2 (`CLONE_INTO_CGROUP` of clone3(2)).
fn clone_into(flags: c_int, cgroup: BorrowedFd<'_>) -> io::Result<Forked<Child>> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which zeroes are valid: no stack, nothing to be told.
    let mut request: libc::clone_args = unsafe { std::mem::zeroed() };
    request.flags =
        u64::from((flags & !0xff | libc::CLONE_PIDFD).cast_unsigned()) | CLONE_INTO_CGROUP;
    request.exit_signal = u64::from((flags & 0xff).cast_unsigned());
    request.pidfd = (&raw mut pidfd).addr() as u64;
    request.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    let size = size_of::<libc::clone_args>();
    // SAFETY: as for clone_process; the kernel reads the request and writes a descriptor.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const request, size) };
    // SAFETY: if the clone succeeded it stored a new descriptor that nobody else owns.
    unsafe { cloned(pid, pidfd) }
}

/// What a clone has made.
///
/// # Safety
///
/// If it says in this process that there is a child, `pidfd` must be a new descriptor.
unsafe fn cloned(pid: c_long, pidfd: RawFd) -> io::Result<Forked<Child>> {
    match Pid::from_raw(check(pid)? as libc::pid_t) {
        None => Ok(Forked::Child),
        Some(pid) => {
            // SAFETY: the caller vouches for it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent(Child { pid, pidfd }))
        }
    }
}

/// Marks every descriptor from `first` on to be closed by the next exec (`close_range(2)`, 5.11).
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(result).map(drop)
}

/// Becomes another program; returns only when that failed.
pub(crate) fn exec(program: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let env: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
    let (argv, envp) = (null_terminated(&args), null_terminated(&env));
    // SAFETY: null-terminated arrays of C strings that live until the call returns.
    let result = unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    check(c_long::from(result)).err().unwrap_or(Errno::NOEXEC)
}

/// What namespace another one is in, for those that form trees (`ioctl_nsfs(2)`, NS_GET_PARENT).
/// None at the edge of what this process may know.
pub(crate) fn parent_namespace(namespace: BorrowedFd<'_>) -> Option<OwnedFd> {
    const NS_GET_PARENT: libc::Ioctl = 0xb702;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
    // SAFETY: a descriptor that is not negative is new and nobody else's.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ticks of the kernel's clock per second, in which /proc gives times (`sysconf(3)`).
pub(crate) fn clock_ticks() -> u64 {
    // SAFETY: sysconf has no requirements.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Makes the cgroups this thread is in the root of all cgroups it sees (`cgroup_namespaces(7)`).
pub(crate) fn unshare_cgroups() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWCGROUP changes what /proc/self/cgroup and new mounts show, no descriptor.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
}

/// Brings up the loopback device of this thread's network namespace (`netdevice(7)`).
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: ifreq is plain data for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with a terminated name and flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(c_long::from(result))?;
    Ok(())
}

/// Installs a seccomp filter for this thread (`seccomp(2)`), without the speculation mitigations
/// that cost programs much and that docker leaves off as well.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let request = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: the kernel copies `len` instructions from `filter` and writes nothing.
        check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const request,
            )
        })
    };
    match install(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(Errno::INVAL) => install(0),
        result => result,
    }
    .map(drop)
}

/// Turns a system call's return value into a result.
pub(crate) fn check(result: c_long) -> Result<c_long, Errno> {
    if result < 0 {
        let error = io::Error::last_os_error();
        Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    } else {
        Ok(result)
    }
}

/// Runs a container's init before `main` in this crate's test binary, where there is no `main` of
/// ours to call it.
#[cfg(test)]
mod init_in_tests {
    extern "C" fn run_init() {
        if crate::container::is_init() {
            crate::container::init_main();
        }
    }

    // SAFETY: a function pointer in .init_array is called once, before main, in a single thread;
    // std has no state that must be set up before it is used.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static RUN_INIT: extern "C" fn() = run_init;
}
