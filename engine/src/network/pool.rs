//! Connected namespaces, ready before they are asked for and used again by the next step.
//!
//! Does not know what runs in them. A namespace is handed on as its last user left it; whoever
//! gives a user the power to change it (CAP_NET_ADMIN) takes one from [`Network::attach`].

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::Error;
use super::bridge::{Attachment, Network};
use super::namespace::NetworkNamespace;
use super::plan::Subnets;

/// The namespaces of one build, made ahead by a thread of its own.
///
/// They are removed when the pool and all leases are dropped; the bridge stays (see
/// [`sweep`](super::sweep())).
pub struct NetworkPool {
    shared: Arc<Shared>,
    maker: Option<JoinHandle<()>>,
}

/// A namespace on loan. It goes back to the pool when dropped.
pub struct Lease {
    attachment: Option<Attachment>,
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    bridge: String,
    subnets: Subnets,
    /// Opened by whoever needs it first.
    network: Mutex<Option<Arc<Network>>>,
    stock: Mutex<Stock>,
    changed: Condvar,
}

#[derive(Default)]
struct Stock {
    ready: Vec<Attachment>,
    /// How many the maker has yet to make.
    coming: usize,
    /// How many takers wait for those.
    waiting: usize,
    closed: bool,
}

impl NetworkPool {
    /// Starts to make `ahead` namespaces on the bridge of that name, and returns at once.
    ///
    /// What goes wrong is told to those who take. `directory` is as for [`Network::open`].
    pub fn new(directory: &Path, bridge: &str, subnets: Subnets, ahead: usize) -> Self {
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            bridge: bridge.to_owned(),
            subnets,
            network: Mutex::default(),
            stock: Mutex::new(Stock { coming: ahead, ..Stock::default() }),
            changed: Condvar::new(),
        });
        let maker = thread::Builder::new().name("network pool".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.make_ahead()
        });
        if maker.is_err() {
            // Without the thread takers make their own.
            shared.stock().coming = 0;
        }
        NetworkPool { shared, maker: maker.ok() }
    }

    /// Lends a namespace: one that is ready, or nearly so, or a new one.
    pub fn take(&self) -> Result<Lease, Error> {
        let attachment = match self.shared.take_ready() {
            Some(attachment) => attachment,
            None => self.shared.network()?.attach()?,
        };
        Ok(Lease { attachment: Some(attachment), shared: Arc::clone(&self.shared) })
    }
}

impl Drop for NetworkPool {
    fn drop(&mut self) {
        self.shared.stock().closed = true;
        if let Some(maker) = self.maker.take() {
            maker.join().expect("the maker does not panic");
        }
        let unused = std::mem::take(&mut self.shared.stock().ready);
        unused.into_iter().for_each(|attachment| self.shared.detach(attachment));
    }
}

impl Lease {
    /// The namespace.
    pub fn namespace(&self) -> &NetworkNamespace {
        &self.attachment().namespace
    }

    /// The path under which a process may open the namespace while the lease lasts.
    pub fn path(&self) -> PathBuf {
        self.namespace().path()
    }

    /// The address of the namespace.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.attachment().ipv4
    }

    /// Its IPv6 address, where the machine has IPv6.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.attachment().ipv6
    }

    /// The host as the namespace sees it: what `host-gateway` stands for.
    pub fn gateway(&self) -> Ipv4Addr {
        self.attachment().gateway
    }

    fn attachment(&self) -> &Attachment {
        self.attachment.as_ref().expect("only drop takes the attachment")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let attachment = self.attachment.take().expect("only drop takes the attachment");
        let mut stock = self.shared.stock();
        if stock.closed {
            drop(stock);
            self.shared.detach(attachment);
        } else {
            stock.ready.push(attachment);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().expect("no holder of the stock panics")
    }

    fn network(&self) -> Result<Arc<Network>, Error> {
        let mut network = self.network.lock().expect("opening a network does not panic");
        if let Some(network) = &*network {
            return Ok(Arc::clone(network));
        }
        let opened = Arc::new(Network::open(&self.directory, &self.bridge, self.subnets)?);
        Ok(Arc::clone(network.insert(opened)))
    }

    fn detach(&self, attachment: Attachment) {
        if let Ok(network) = self.network() {
            network.detach(attachment);
        }
    }

    /// One that is ready, or that the maker is about to have ready for nobody else.
    fn take_ready(&self) -> Option<Attachment> {
        let mut stock = self.stock();
        loop {
            if let Some(attachment) = stock.ready.pop() {
                return Some(attachment);
            }
            if stock.coming <= stock.waiting {
                return None;
            }
            stock.waiting += 1;
            stock = self.changed.wait(stock).expect("no holder of the stock panics");
            stock.waiting -= 1;
        }
    }

    /// What the maker's thread does.
    fn make_ahead(&self) {
        loop {
            {
                let stock = self.stock();
                if stock.coming == 0 || stock.closed {
                    break;
                }
            }
            let made = self.network().and_then(|network| network.attach());
            let mut stock = self.stock();
            match made {
                Ok(attachment) => {
                    stock.coming -= 1;
                    stock.ready.push(attachment);
                }
                // Takers make their own then, and are told why they cannot.
                Err(_) => stock.coming = 0,
            }
            drop(stock);
            self.changed.notify_all();
        }
    }
}
