//! Inits made ahead, for a process that launches many containers and must not fork, because it has
//! threads.
//!
//! ```text
//! zygote      this program started anew, with one thread: for each request it makes a copy of
//!             itself in new namespaces, as a child of the launching process
//! copy        waits for its descriptors on a socket of its own, and is an init then
//! launching   asks for the next copy when it takes one, so that it is there when it is needed
//! ```
//!
//! A copy is made in the cgroup that the container shares with others: to join that later would be
//! slow. Without such a cgroup the first container goes without a zygote: most builds have few, and
//! it is itself a program to be started. All ends with the sockets that the launching process holds.
//!
//! Mounts that take long to go are left to the zygote in the end, and files that take long to be
//! removed: it outlives the launching process by as much.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::iter;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use cache::discard::Remains;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, set_parent_process_death_signal};

use super::init;
use super::launch::own_program;
use super::wire::{Birthplace, ZYGOTE_FD, ZYGOTE_NAME, open_cgroup};
use crate::sys::process::{
    Child, Forked, Spawn, close_from, copy_beside, run_with, spawn, take_descriptor,
};

/// Descriptors that a message has at most.
const MOST_DESCRIPTORS: usize = 8;

/// A request to keep the descriptors that come with it, in the place of new namespaces.
const KEEP: i32 = -1;

/// A request to remove, in the end, the [`Remains`] that come with it; it is answered.
const REMOVE: i32 = -2;

/// The process namespace that all others are in, where somebody waits for the orphans
/// (`PROC_PID_INIT_INO` of include/linux/proc_ns.h).
const FIRST_PROCESS_NAMESPACE: &str = "pid:[4026531836]";

/// Starts the inits of one thing that launches containers, of any number of threads.
#[derive(Debug, Default)]
pub struct Zygote(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nothing was launched yet.
    #[default]
    Unused,
    /// One was, without it.
    UsedOnce,
    /// It stands by.
    Ready(Ready),
    /// It could not be had, and is not asked for again.
    Gone,
}

/// A zygote that runs.
#[derive(Debug)]
struct Ready {
    socket: OwnedFd,
    /// The cgroup that its copies are in, of version 2.
    home: Option<Birthplace>,
    /// The namespaces of the copies that were asked for and not received yet.
    asked: Vec<i32>,
    /// Copies that nobody has taken.
    spare: Vec<(i32, Waiting)>,
    /// Ends the thread whose child it is, which waits for it and for the copies it is told of.
    keeper: Sender<OwnedFd>,
}

/// A copy that waits for its descriptors.
#[derive(Debug)]
struct Waiting {
    child: Child,
    socket: OwnedFd,
}

impl Zygote {
    /// Starts an init with these descriptors in its cgroup and in new namespaces (`CLONE_NEW*`);
    /// nothing if it must be started in another way.
    pub(super) fn start(
        &self,
        namespaces: i32,
        birthplace: Option<&Birthplace>,
        descriptors: &[(BorrowedFd<'_>, RawFd)],
    ) -> Option<Child> {
        let copy = self.take(namespaces, birthplace)?;
        match copy.assign(descriptors) {
            Ok(()) => Some(copy.child),
            Err(_) => {
                copy.discard();
                None
            }
        }
    }

    /// Ends it, and leaves it descriptors that take long to be closed, and what takes long to be
    /// removed: the zygote is gone when that is done, which may be after the end of this process.
    /// Nobody waits for it. Where nobody would take care of it then, or there is none, all is left to
    /// its owner.
    pub(crate) fn leave(
        self,
        descriptors: Vec<OwnedFd>,
        remains: impl FnOnce() -> Option<Remains>,
    ) {
        let state = self.0.into_inner().expect("no holder panics");
        if let State::Ready(mut ready) = state
            && std::fs::read_link("/proc/self/ns/pid")
                .is_ok_and(|ns| ns == Path::new(FIRST_PROCESS_NAMESPACE))
        {
            ready.leave(&descriptors, remains());
        }
    }

    fn take(&self, namespaces: i32, birthplace: Option<&Birthplace>) -> Option<Waiting> {
        let mut state = self.0.lock().expect("no holder panics");
        let is_worth_it = match *state {
            State::Unused => birthplace.is_some(),
            State::UsedOnce => true,
            State::Ready(_) | State::Gone => false,
        };
        if is_worth_it {
            *state = Ready::start(birthplace.cloned()).map_or(State::Gone, State::Ready);
        }
        match &mut *state {
            State::Unused => *state = State::UsedOnce,
            State::UsedOnce | State::Gone => {}
            State::Ready(ready) if ready.home.as_ref() != birthplace => {}
            State::Ready(ready) => match ready.take(namespaces) {
                Ok(copy) => return Some(copy),
                Err(_) => *state = State::Gone,
            },
        }
        None
    }
}

impl Ready {
    fn start(home: Option<Birthplace>) -> io::Result<Self> {
        let cgroup = home.as_ref().map(|home| home.directory.clone());
        let (socket, its_socket) = pair()?;
        let (keeper, copies) = channel::<OwnedFd>();
        let (started, result) = channel();
        // The kernel kills the copies when the thread whose children they are ends.
        std::thread::Builder::new().name("zygote".into()).spawn(move || {
            let child = start_program(its_socket, cgroup);
            let zygote = child.as_ref().ok().and_then(|child| child.pidfd.try_clone().ok());
            let _ = started.send(child.map(drop));
            copies.iter().chain(zygote).for_each(|process| wait_for(&process));
        })?;
        result.recv().expect("the thread tells how it went")?;
        Ok(Self { socket, home, asked: Vec::new(), spare: Vec::new(), keeper })
    }

    fn take(&mut self, namespaces: i32) -> io::Result<Waiting> {
        if !self.asked.contains(&namespaces) && self.spare_at(namespaces).is_none() {
            self.ask(namespaces)?;
        }
        let at = loop {
            if let Some(at) = self.spare_at(namespaces) {
                break at;
            }
            // An answer that cannot be taken is an answer.
            let namespaces = self.asked.remove(0);
            self.spare.push((namespaces, self.receive()?));
        };
        let (_, copy) = self.spare.swap_remove(at);
        self.ask(namespaces)?;
        Ok(copy)
    }

    fn spare_at(&self, namespaces: i32) -> Option<usize> {
        self.spare.iter().position(|(its, _)| *its == namespaces)
    }

    fn ask(&mut self, namespaces: i32) -> io::Result<()> {
        send(self.socket.as_fd(), &namespaces.to_le_bytes(), &[])?;
        self.asked.push(namespaces);
        Ok(())
    }

    /// Receives the copy that was asked for first.
    fn receive(&self) -> io::Result<Waiting> {
        let (numbers, descriptors) = receive(self.socket.as_fd())?;
        let broken = || io::Error::from(Errno::PROTO);
        let pid = numbers.first().copied().and_then(Pid::from_raw).ok_or_else(broken)?;
        let [pidfd, socket] = descriptors.try_into().map_err(|_| broken())?;
        Ok(Waiting { child: Child { pid, pidfd }, socket })
    }
}

impl Ready {
    /// Gives the zygote what it is to close and to remove at its end, and has others wait for the
    /// copies that nobody took.
    fn leave(&mut self, descriptors: &[OwnedFd], remains: Option<Remains>) {
        self.receive_all();
        if let Some(remains) = remains
            && self.has_taken(&remains).is_err()
        {
            remains.remove();
        }
        for some in descriptors.chunks(MOST_DESCRIPTORS) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            // What it does not get is closed by us.
            let _ = send(self.socket.as_fd(), &KEEP.to_le_bytes(), &some);
        }
        for (_, copy) in self.spare.drain(..) {
            let _ = self.keeper.send(copy.child.pidfd);
        }
    }

    /// Gives the zygote what it is to remove; from now on it does not end with us.
    fn has_taken(&self, remains: &Remains) -> io::Result<()> {
        send(self.socket.as_fd(), &REMOVE.to_le_bytes(), &[remains.as_fd()])?;
        match receive(self.socket.as_fd())? {
            (answer, _) if answer == [REMOVE] => Ok(()),
            _ => Err(Errno::PROTO.into()),
        }
    }

    /// Receives all copies that were asked for.
    fn receive_all(&mut self) {
        while !self.asked.is_empty() {
            let namespaces = self.asked.remove(0);
            if let Ok(copy) = self.receive() {
                self.spare.push((namespaces, copy));
            }
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.receive_all();
        self.spare.drain(..).for_each(|(_, copy)| copy.discard());
    }
}

impl Waiting {
    fn assign(&self, descriptors: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<()> {
        let (descriptors, places): (Vec<BorrowedFd<'_>>, Vec<RawFd>) =
            descriptors.iter().copied().unzip();
        let places: Vec<u8> = places.into_iter().flat_map(i32::to_le_bytes).collect();
        send(self.socket.as_fd(), &places, &descriptors)
    }

    /// Ends it.
    fn discard(self) {
        drop(self.socket);
        wait_for(&self.child.pidfd);
    }
}

fn start_program(socket: OwnedFd, cgroup: Option<PathBuf>) -> io::Result<Child> {
    let name = CString::new(ZYGOTE_NAME)?;
    let cgroup =
        cgroup.map(|cgroup| CString::new(cgroup.into_os_string().into_vec())).transpose()?;
    let args: Vec<&CStr> = iter::once(&*name).chain(cgroup.as_deref()).collect();
    spawn(&Spawn {
        program: own_program()?.as_fd(),
        args: &args,
        namespaces: 0,
        cgroup: None,
        descriptors: &[(socket.as_fd(), ZYGOTE_FD)],
        copy: None,
    })
}

fn wait_for(process: &OwnedFd) {
    // Nothing is known of one that somebody else has waited for, and nothing is to be done.
    let _ = rustix::process::waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
}

/// Makes copies, in the cgroup it is told, until nobody can ask for one any more. Only for the first
/// thing in `main`.
pub(super) fn main() -> ! {
    let served = take_descriptor(ZYGOTE_FD).and_then(serve);
    let is_failed = served.is_err();
    served.into_iter().flatten().for_each(Remains::remove);
    std::process::exit(i32::from(is_failed))
}

/// Makes copies until nobody can ask for one any more. Returns what is to be removed then.
fn serve(socket: OwnedFd) -> io::Result<Vec<Remains>> {
    // Also when it is stopped and sees no socket.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    close_from(ZYGOTE_FD.unsigned_abs() + 1)?;
    let cgroup = std::env::args_os().nth(1).map(|path| open_cgroup(Path::new(&path)));
    let cgroup = cgroup.transpose()?;
    let (mut kept, mut remains) = (Vec::new(), Vec::new());
    loop {
        let (numbers, descriptors) = receive(socket.as_fd())?;
        let [namespaces] = numbers[..] else { return Ok(remains) };
        match namespaces {
            KEEP => {
                kept.extend(descriptors);
                leave_stdio()?;
                continue;
            }
            REMOVE => {
                remains.extend(descriptors.into_iter().map(Remains::from));
                leave_stdio()?;
                set_parent_process_death_signal(None)?;
                send(socket.as_fd(), &REMOVE.to_le_bytes(), &[])?;
                continue;
            }
            _ => {}
        }
        let (its_socket, other_end) = pair()?;
        match copy_beside(namespaces, cgroup.as_ref().map(AsFd::as_fd))? {
            Forked::Parent(Child { pid, pidfd }) => {
                let pid = pid.as_raw_nonzero().get().to_le_bytes();
                send(socket.as_fd(), &pid, &[pidfd.as_fd(), other_end.as_fd()])?;
            }
            Forked::Child => {
                // Whoever waits at the other ends is to see that they are closed.
                drop((socket, other_end));
                begin(&its_socket)
            }
        }
    }
}

/// Keeps nobody waiting who reads what the launching process wrote.
fn leave_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

/// Becomes an init once it is told what it has; ends when nobody wants it.
fn begin(socket: &OwnedFd) -> ! {
    match receive(socket.as_fd()) {
        Ok((places, descriptors)) if !places.is_empty() && places.len() == descriptors.len() => {
            run_with(descriptors, &places, init::begin_to_set_up)
        }
        _ => std::process::exit(0),
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (domain, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socketpair(domain, kind, SocketFlags::CLOEXEC, None)?)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL.into());
    }
    let iov = [IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &iov, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives numbers and descriptors; none of either when the other end is closed.
fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<i32>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4 * MOST_DESCRIPTORS];
    let received = loop {
        let iov = &mut [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let (numbers, _) = bytes[..received.bytes].as_chunks();
    Ok((numbers.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect(), descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(pid: Pid) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse().ok()
    }

    fn take(zygote: &Zygote) -> Option<Waiting> {
        zygote.take(libc::CLONE_NEWUTS, None)
    }

    #[test]
    fn from_the_second_on_there_are_copies_that_are_our_children() {
        let zygote = Zygote::default();
        assert!(take(&zygote).is_none(), "the first is not worth a zygote");
        let copies = [take(&zygote), take(&zygote), zygote.take(0, None)].map(Option::unwrap);
        for copy in &copies {
            assert_eq!(parent(copy.child.pid), Some(std::process::id()));
        }
        copies.into_iter().for_each(Waiting::discard);
    }

    #[test]
    fn what_nobody_took_ends_with_the_zygote() {
        let zygote = Zygote::default();
        let _ = take(&zygote);
        let taken = take(&zygote).unwrap();
        let State::Ready(ready) = &mut *zygote.0.lock().unwrap() else { panic!("it is ready") };
        let spare = ready.receive().unwrap();
        let pid = spare.child.pid;
        ready.spare.push((ready.asked.remove(0), spare));
        assert_eq!(parent(pid), Some(std::process::id()));
        *ready = Ready::start(None).unwrap();
        assert_eq!(parent(pid), None);
        taken.discard();
    }

    #[test]
    fn what_is_left_to_it_is_closed_and_removed_at_its_end() {
        let zygote = Zygote::default();
        let _ = take(&zygote);
        take(&zygote).unwrap().discard();
        let pipes: Vec<_> = (0..20).map(|_| rustix::pipe::pipe().unwrap()).collect();
        let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let (tmp, lock_path) = remains();
        let lock = File::create(&lock_path).unwrap();
        lock.lock().unwrap();
        let remains = Remains::from(OwnedFd::from(lock));
        zygote.leave(writers, || Some(remains));
        for reader in readers {
            assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 0, "nobody has it open");
        }
        // Whoever gets the lock's file finds that it is gone, or waits for who has it.
        File::open(&lock_path).map_or(Ok(()), |lock| lock.lock()).unwrap();
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_zygote_that_was_killed_cannot_remove_is_removed_by_who_leaves_it() {
        let zygote = Zygote::default();
        let _ = take(&zygote);
        take(&zygote).unwrap().discard();
        if let State::Ready(ready) = &mut *zygote.0.lock().unwrap() {
            ready.receive_all();
            (ready.socket, _) = pair().unwrap();
        }
        let (tmp, lock_path) = remains();
        let lock = File::create(&lock_path).unwrap();
        zygote.leave(Vec::new(), || Some(Remains::from(OwnedFd::from(lock))));
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
    }

    /// Scratch space of somebody, and the path of its lock.
    fn remains() -> (tempfile::TempDir, PathBuf) {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("1-2/below")).unwrap();
        let lock = tmp.path().join("1-2.lock");
        (tmp, lock)
    }

    #[test]
    fn one_that_was_killed_is_gone_and_nobody_waits_for_it() {
        let zygote = Zygote::default();
        let _ = take(&zygote);
        take(&zygote).unwrap().discard();
        let State::Ready(ready) = &mut *zygote.0.lock().unwrap() else { panic!("it is ready") };
        (ready.socket, _) = pair().unwrap();
        ready.asked.clear();
        assert!(ready.take(0).is_err());
    }
}
