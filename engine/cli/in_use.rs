//! Which containers use which images.

use cache::Store;
use cache::image::Image;
use engine::containers::{Containers, Observed};
use engine::reference::Reference;
use engine::volume::api::Kind;

/// All containers, running or not.
#[derive(Default)]
pub(crate) struct InUse {
    /// The newest first.
    pub(crate) containers: Vec<Observed>,
}

impl InUse {
    /// Looks at all containers of a store.
    pub(crate) fn read(store: &Store) -> anyhow::Result<Self> {
        // Who only looks makes no directories.
        if !store.root().join("containers").exists() {
            return Ok(Self::default());
        }
        Ok(Self { containers: Containers::open(store)?.list()? })
    }

    /// The containers that were made of an image, or that mount it by one of its names.
    pub(crate) fn of(&self, image: &Image, names: &[Reference]) -> Vec<&Observed> {
        let id = image.id().to_string();
        let uses = |one: &&Observed| one.record.image == id || mounts(one, names);
        self.containers.iter().filter(uses).collect()
    }

    /// The containers that mount an image by one of these names.
    pub(crate) fn mounting(&self, names: &[Reference]) -> impl Iterator<Item = &Observed> {
        self.containers.iter().filter(|one| mounts(one, names))
    }
}

fn mounts(container: &Observed, names: &[Reference]) -> bool {
    let mounts = container.record.mounts.iter().filter(|mount| mount.point.kind == Kind::Image);
    mounts
        .map(|mount| &mount.spec.source)
        .any(|source| Reference::parse(source).is_ok_and(|name| names.contains(&name.or_latest())))
}
