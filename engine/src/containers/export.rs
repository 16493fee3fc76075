//! A container's root file system as a tar: its image's files with its changes, and nothing of what
//! is mounted in it.

use std::io::{self, Write};

use cache::layer::pack::pack_plain;
use cache::layer::writer::LayerWriter;
use cache::layer::{Entry, Kind};

use super::files::{DIRECTORIES, FILES, Files};
use super::{Containers, Result};
use crate::view::{View, split};

/// Writes a container's files.
pub fn export(containers: &Containers<'_>, id: &str, out: impl Write) -> Result<()> {
    let files = Files::open_root(containers, id)?;
    let mut tar = LayerWriter::new(out);
    pack_plain(files.view().root(), &mut tar, None)?;
    for (paths, kind) in [(&DIRECTORIES[..], Kind::Directory), (&FILES, Kind::File { size: 0 })] {
        for path in paths {
            put_missing(files.view(), path, &kind, &mut tar)?;
        }
    }
    tar.finish()?;
    Ok(())
}

/// Puts a place that is mounted on when the container runs, as docker's containers always have it.
fn put_missing(
    view: &View,
    path: &str,
    kind: &Kind,
    tar: &mut LayerWriter<impl Write>,
) -> Result<()> {
    let path = path.trim_start_matches('/').as_bytes();
    // By way of a link it is elsewhere.
    if view.resolve(path)? != path || view.metadata(path)?.is_some() {
        return Ok(());
    }
    let parent = split(path).0;
    if view.metadata(parent)?.is_some_and(|parent| !parent.is_dir()) {
        return Ok(());
    }
    let mode = if *kind == Kind::Directory { 0o755 } else { 0o644 };
    tar.append(&Entry::new(path, kind.clone(), mode), io::empty())?;
    Ok(())
}
