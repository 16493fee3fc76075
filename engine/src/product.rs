//! What vertices give to each other.

use std::sync::Arc;

use cache::digest::Digest;

use crate::tree::Tree;

/// What a vertex gives to those that use it.
#[derive(Clone)]
pub enum Product {
    /// A root file system: the diff ids of its layers, the lowest first.
    Rootfs(Vec<Digest>),
    /// Files to copy from.
    Files(Arc<Tree>),
}
