//! `--build-context`: directories and images that take the place of others.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use cache::Store;
use engine::session::Context;
use engine::source::Access;
use frontend::request::{NamedContext, Request};

use crate::context::{self, Input};

/// The caller's directories by the names the engine is told.
pub(crate) type Directories = BTreeMap<String, Context>;

/// Adds the named contexts to the requests of a build, which are for different platforms.
pub(crate) fn add(
    store: &Store,
    access: &Access<'_>,
    mut requests: Vec<Request>,
    given: &[String],
) -> anyhow::Result<(Vec<Request>, Directories)> {
    let mut directories = Directories::new();
    for text in given {
        let Some((name, place)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!(
                "--build-context {text}: expected NAME=DIRECTORY, NAME=docker-image://IMAGE or NAME=URL"
            );
        };
        let name = name.to_lowercase();
        let context = if let Some(image) = place.strip_prefix("docker-image://") {
            NamedContext::Image(image.to_owned())
        } else if let Some(stage) = place.strip_prefix("target:") {
            NamedContext::Stage(stage.to_owned())
        } else if let Some(layout) = place.strip_prefix("oci-layout://") {
            for request in &mut requests {
                let image = crate::layout::import(store, layout, &request.platform)?;
                request.contexts.insert(name.clone(), NamedContext::Image(image));
            }
            continue;
        } else {
            directories.insert(name.clone(), directory(store, access, place)?);
            NamedContext::Local(name.clone())
        };
        for request in &mut requests {
            request.contexts.insert(name.clone(), context.clone());
        }
    }
    Ok((requests, directories))
}

fn directory(store: &Store, access: &Access<'_>, place: &str) -> anyhow::Result<Context> {
    let path = Path::new(place);
    if !path.is_dir() {
        return context::open_remote(store, access, place);
    }
    let dir = path.canonicalize()?;
    let ignore = context::ignore_patterns(&dir, None)?;
    Ok(Context { dir, ignore })
}

/// All directories of a build.
pub(crate) fn all(input: &Input, mut named: Directories) -> Directories {
    named.extend([input.main_context()]);
    named
}
