//! What a pull or a push tells while it goes on. How it is shown is the listener's business.

use cache::digest::Digest;

/// Something that happened to a layer.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The layer: the digest of its blob when pulling, its diff id when pushing.
    pub layer: &'a Digest,
    /// Bytes of its blob, or, while that is not known, of its tar.
    pub size: u64,
    /// What happened.
    pub state: State<'a>,
}

/// What a layer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// Nothing yet.
    Waiting,
    /// It was there.
    Present,
    /// Somebody else brings it, and we wait for that.
    Elsewhere,
    /// So many bytes have moved.
    Moved(u64),
    /// It has moved, and is whole.
    Done,
    /// The registry took it from another of its repositories.
    Mounted(&'a str),
}

/// Who is told. Called from many threads at once.
pub type Listener<'a> = &'a (dyn Fn(Event<'_>) + Sync);
