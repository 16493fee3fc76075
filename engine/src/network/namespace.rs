//! Network namespaces without processes: made by a thread that is gone at once, held by a
//! descriptor.
//!
//! Does not know what a namespace is connected to; it is given the words for the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netlink::{Message, Refusal, Socket};
use super::{Error, link, sysctl};
use crate::sys::net::unshare_network;

/// The index of the loopback device in every namespace.
const LOOPBACK: u32 = 1;
/// The name of a container's device.
pub(super) const DEVICE: &str = "eth0";

/// A network namespace with its loopback device up. It lasts as long as this value or a process in
/// it.
pub struct NetworkNamespace {
    descriptor: OwnedFd,
    socket: Socket,
}

impl NetworkNamespace {
    /// Makes a namespace, as a container needs it; `ipv6` is whether it may have IPv6 addresses.
    pub fn new(ipv6: bool) -> Result<Self, Error> {
        // A namespace is entered by making it, and no way back is as sure as a thread's end.
        let maker = thread::Builder::new().name("network namespace".into());
        maker
            .spawn(move || Self::enter_new(ipv6))
            .map_err(|source| Error::CreateNamespace { source })?
            .join()
            .expect("making a namespace does not panic")
    }

    /// Opens the namespace behind a path such as `/proc/<pid>/ns/net`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failure = |source| Error::OpenNamespace { path: path.to_owned(), source };
        let descriptor: OwnedFd = fs_err::File::open(path).map_err(failure)?.into_parts().0.into();
        let socket = inside(descriptor.as_fd(), Socket::route).map_err(failure)?;
        let refused = |source| Error::Connect { object: path.display().to_string(), source };
        Ok(NetworkNamespace { descriptor, socket: socket.map_err(refused)? })
    }

    /// Does something as if in the namespace, on a thread of its own: what it opens stays there.
    pub(super) fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> io::Result<T> {
        inside(self.descriptor.as_fd(), action)
    }

    /// Lets a device inside the namespace have IPv6 addresses.
    pub(super) fn allow_ipv6(&self, device: &str) -> Result<(), Error> {
        self.inside(|| sysctl::allow_ipv6(device))
            .and_then(|done| done)
            .map_err(|source| Error::AllowIpv6 { device: device.to_owned(), source })
    }

    /// The names of the devices inside the namespace.
    pub(super) fn devices(&self) -> Result<Vec<String>, Refusal> {
        Ok(link::list(&self.socket)?.into_iter().map(|link| link.name).collect())
    }

    /// The path under which any process of the same pid namespace may open it, to `setns(2)`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd()).into()
    }

    /// Has the kernel carry out requests inside the namespace.
    pub(super) fn transact(&self, messages: Vec<Message>) -> Result<(), Refusal> {
        self.socket.transact(messages)
    }

    /// The index of a device inside the namespace.
    pub(super) fn device(&self, name: &str) -> Result<u32, Refusal> {
        match link::find(&self.socket, name)? {
            Some(link) => Ok(link.index),
            None => Err(Refusal {
                step: "find the container's device",
                source: rustix::io::Errno::NODEV,
            }),
        }
    }

    /// Makes sure that a device inside the namespace carries packets.
    pub(super) fn settle(&self, name: &str) -> Result<(), Refusal> {
        link::settle(&self.socket, name)
    }

    fn enter_new(ipv6: bool) -> Result<Self, Error> {
        let create = |source: io::Error| Error::CreateNamespace { source };
        unshare_network().map_err(create)?;
        let descriptor = fs_err::File::open("/proc/thread-self/ns/net").map_err(create)?;
        sysctl::prepare_container(ipv6).map_err(create)?;
        let refused = |source| Error::Connect { object: "the loopback device".into(), source };
        let socket = Socket::route().map_err(refused)?;
        socket.transact(vec![link::set_up(LOOPBACK)]).map_err(refused)?;
        Ok(NetworkNamespace { descriptor: descriptor.into_parts().0.into(), socket })
    }
}

fn inside<T: Send>(namespace: BorrowedFd<'_>, action: impl FnOnce() -> T + Send) -> io::Result<T> {
    let enter = || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(action())
    };
    thread::scope(|scope| {
        let visitor = thread::Builder::new().name("network namespace".into());
        let visitor = visitor.spawn_scoped(scope, enter)?;
        visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
