//! Network namespaces without processes: made by a thread that is gone at once, held by a
//! descriptor.
//!
//! Does not know what a namespace is connected to; it is given the words for the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::{io, thread};

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

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
