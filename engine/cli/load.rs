//! `load`: the images of a tar that `save` made, docker's or anybody's who writes such archives.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use clap::Args;
use engine::archive::{self, Loaded, Source};
use engine::platform::Choice;

use crate::paths::Home;
use crate::{tags, ui};

/// What `load` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct LoadArgs {
    /// Read from a file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Only images for this platform
    #[arg(long)]
    platform: Option<String>,
    /// Show nothing while it goes on
    #[arg(short, long)]
    quiet: bool,
}

/// Loads.
pub(crate) fn load(home: &Home, args: &LoadArgs) -> anyhow::Result<ExitCode> {
    // Nothing is shown but what has come of it.
    let _ = args.quiet;
    let choice = match &args.platform {
        Some(text) => Choice::Only(frontend::platform::parse(text).context("invalid platform")?),
        None => Choice::Preferably(frontend::platform::host()),
    };
    let (file, what) = match &args.input {
        Some(path) => {
            let file = fs_err::File::open(path)?.into_parts().0;
            (file, format!("load {}", path.display()))
        }
        None if std::io::stdin().is_terminal() => {
            bail!("requested load from stdin, but stdin is empty")
        }
        None => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
            (File::from(stdin), "load standard input".to_owned())
        }
    };
    let store = home.open()?;
    let loaded = Source::open(&store, file)
        .and_then(|source| archive::load(&store, &source, &choice))
        .context(what)?;
    for loaded in loaded {
        list(&store, &loaded)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives an image its names, and says so in docker's words.
fn list(store: &Store, loaded: &Loaded) -> anyhow::Result<()> {
    let id = loaded.meaning.image.id();
    for name in &loaded.names {
        let before = store.find_image(&name.to_string())?;
        let before = before.and_then(|digest| store.peek_image(&digest).ok());
        if let Some(before) = before.filter(|before| before.id() != id) {
            ui::line(format_args!(
                "The image {} already exists, renaming the old one with ID {} to empty string",
                name.familiar(),
                before.id()
            ));
        }
    }
    let names: Vec<String> = loaded.names.iter().map(ToString::to_string).collect();
    store.tag_meaning(&loaded.meaning, &names)?;
    for name in &loaded.names {
        ui::line(format_args!("Loaded image: {}", name.familiar()));
    }
    if names.is_empty() {
        ui::line(format_args!("Loaded image ID: {id}"));
    }
    tags::tell(store, "load", &loaded.meaning.image, &id.to_string());
    Ok(())
}
