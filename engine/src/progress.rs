//! What a build tells while it runs. How it is shown is the listener's business.

use std::time::Duration;

use crate::graph::VertexId;

/// Something that happened in a build.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A vertex is looked up, or run.
    Started {
        /// The vertex.
        vertex: VertexId,
    },
    /// A vertex's process has written something.
    Output {
        /// The vertex.
        vertex: VertexId,
        /// To which stream.
        stream: Stream,
        /// What, not necessarily whole lines.
        bytes: &'a [u8],
    },
    /// A vertex is done.
    Finished {
        /// The vertex.
        vertex: VertexId,
        /// How it came to its result.
        outcome: Outcome,
        /// How long it took.
        took: Duration,
    },
}

/// A process's output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a vertex came to its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An earlier result stood for it.
    Cached,
    /// It was done, and here is why no earlier result did.
    Done,
    /// It failed.
    Failed(String),
    /// It was given up because something else failed.
    Canceled,
}

/// Who is told. Called from many threads at once.
pub type Listener<'a> = &'a (dyn Fn(Event<'_>) + Sync);
