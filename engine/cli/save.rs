//! `save`: images as a tar, for `load` and for others who read docker's archives or OCI's layouts.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::image::{Image, Listed};
use cache::platforms::Meaning;
use clap::Args;
use engine::archive::{self, Form, Named};
use engine::place::NewFile;
use engine::reference::Reference;

use crate::{platforms, resolve, tags, ui};

/// What `save` is told.
#[derive(Args)]
pub(crate) struct SaveArgs {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Of an image for several platforms save that one alone
    #[arg(long)]
    platform: Option<String>,
    /// Names or ids; a name without a tag means all its tags
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Images in the order they were named first, each with the names it is to have.
type Chosen = Vec<(Meaning, Vec<String>)>;

/// Saves.
pub(crate) fn save(root: &Path, args: &SaveArgs) -> anyhow::Result<ExitCode> {
    if args.output.is_none() && ui::stdout_is_terminal() {
        bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    }
    let platform = args.platform.as_deref().map(frontend::platform::parse).transpose();
    let platform = platform.context("invalid platform")?;
    let store = Store::open(root)?;
    let mut chosen = Chosen::new();
    for name in &args.images {
        if !choose(&store, name, &mut chosen)? {
            return Ok(tags::no_such_image(name));
        }
    }
    if let Some(wanted) = &platform {
        for (meaning, names) in &mut chosen {
            let id = meaning.image.id().to_string();
            let name = names.first().unwrap_or(&id);
            let image = platforms::choose(
                &store,
                names.first().map(String::as_str),
                meaning.image.clone(),
                wanted,
            )?;
            *meaning = Meaning::one(image.with_context(|| platforms::not_provided(name, wanted))?);
        }
    }
    let named: Vec<Named<'_>> =
        chosen.iter().map(|(meaning, names)| Named { meaning, names }).collect();
    let write = |out: &mut dyn Write| archive::write(&store, &named, Form::DockerSave, out);
    match &args.output {
        None => write(&mut stdout()?)?,
        Some(path) => to_file(path, write).context("failed to save image")?,
    }
    for (Meaning { image, .. }, _) in &chosen {
        tags::tell(&store, "save", image, &image.id().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Standard output without a buffer between, which looks for lines.
fn stdout() -> anyhow::Result<File> {
    Ok(File::from(std::io::stdout().as_fd().try_clone_to_owned()?))
}

/// Writes a file that only its owner can read, as docker does.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), archive::Error>,
) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.exists()) {
        bail!("invalid output path: directory {:?} does not exist", parent.display().to_string());
    }
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let file = NewFile::create(path);
    rustix::process::umask(umask);
    let mut file = file?;
    write(&mut file)?;
    Ok(file.commit()?)
}

/// Adds what a name means: with a tag, the image; without, the images of all tags; by id or digest,
/// an image that gets no name. `false` when there is nothing of the name.
fn choose(store: &Store, name: &str, chosen: &mut Chosen) -> anyhow::Result<bool> {
    let mut found = Vec::new();
    if let Ok(reference) = Reference::parse(name)
        && reference.digest.is_none()
    {
        found = of_repository(store, &reference)?;
    }
    if found.is_empty() {
        let Some(meaning) = resolve::meaning(store, name)? else { return Ok(false) };
        add(chosen, meaning, None);
    }
    for (name, listed) in found {
        // What was pulled by its digest has no tag to be loaded by.
        let name = name.tag.as_ref().map(|_| name.to_string());
        add(chosen, store.read_meaning(&listed)?, name);
    }
    Ok(true)
}

/// The images that a name means, or those of all names in its repository if it has no tag.
fn of_repository(store: &Store, wanted: &Reference) -> anyhow::Result<Vec<(Reference, Listed)>> {
    let mut found = Vec::new();
    for listed in store.list_images()? {
        let Some(Ok(name)) = listed.name.as_deref().map(Reference::parse) else { continue };
        if name == *wanted || wanted.tag.is_none() && name.name() == wanted.name() {
            found.push((name, listed));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

fn add(chosen: &mut Chosen, meaning: Meaning, name: Option<String>) {
    let same = |known: &Meaning| {
        known.images().iter().map(Image::id).eq(meaning.images().iter().map(Image::id))
    };
    let at = chosen.iter().position(|(known, _)| same(known));
    let at = at.unwrap_or_else(|| {
        chosen.push((meaning, Vec::new()));
        chosen.len() - 1
    });
    let names = &mut chosen[at].1;
    names.extend(name.filter(|name| !names.contains(name)).into_iter().collect::<Vec<_>>());
}
