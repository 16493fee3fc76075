//! `diff`: what a container or a step of the last build changed, in docker's letters: A added, C changed, D
//! deleted.

use std::process::ExitCode;

use anyhow::bail;
use cache::Store;
use cache::layer::reader;
use clap::Args;

use crate::journal::Journal;
use crate::paths::Home;
use crate::shell::StepArgs;
use crate::{container_diff, ui};

/// What `diff` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    step: StepArgs,
    /// The container
    container: Option<String>,
}

/// Prints what a container or a step changed.
pub(crate) fn diff(home: &Home, args: &DiffArgs) -> anyhow::Result<ExitCode> {
    if let Some(container) = &args.container {
        return container_diff::diff(home, container);
    }
    let store = Store::open(&home.root)?;
    let Some(journal) = Journal::load(&store, None) else {
        bail!("nothing has been built here yet");
    };
    let step = args.step.find(&journal)?;
    let before = &step.layers_before;
    if step.layers.len() <= before.len() {
        bail!("{} left no file system to compare", step.name);
    }
    let view = engine::export::look(&store, before)?;
    for layer in &step.layers[before.len()..] {
        let file = fs_err::File::open(store.layer_tar(layer))?;
        let mut entries = reader::entries_seeking(std::io::BufReader::new(file));
        while let Some((entry, _)) = entries.next_entry()? {
            let (dir, name) = entry.split();
            if name == b".wh..wh..opq" {
                continue;
            }
            let (letter, path) = match name.strip_prefix(b".wh.") {
                Some(name) => ('D', engine::view::join(dir, name)),
                None if view.metadata(&entry.path)?.is_some() => ('C', entry.path.clone()),
                None => ('A', entry.path.clone()),
            };
            ui::line(format_args!("{letter} /{}", String::from_utf8_lossy(&path)));
        }
    }
    Ok(ExitCode::SUCCESS)
}
