//! `manifest` and `buildx imagetools`: what registries have under names, and lists of images.
//!
//! A list in the making is a file of the store, `manifests/<name>.json`, until it is pushed. Whoever
//! changes one holds `manifests/lock` from reading it to writing it, and asks no registry meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::oci::{Descriptor, Platform};
use clap::{Args, Subcommand};
use engine::place;
use engine::reference::Reference;
use engine::registry::copy::{self, Target};
use engine::registry::document::{Content, Document};
use engine::registry::{Remote, Settings};
use serde::{Deserialize, Serialize};

use crate::paths::Home;
use crate::{registries, ui};

/// What `manifest` is told.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum ManifestVerb {
    /// Make a list of images that are in registries
    Create(CreateArgs),
    /// Say what an image of a list runs on
    Annotate(AnnotateArgs),
    /// Show a manifest of a registry, or a list in the making
    Inspect(InspectArgs),
    /// Send a list to its registry
    Push(PushArgs),
    /// Forget lists in the making
    Rm(RmArgs),
}

/// What `manifest create` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct CreateArgs {
    /// Add to a list in the making
    #[arg(short, long)]
    amend: bool,
    /// Accepted as docker does: registries.json says which registries are insecure
    #[arg(long, hide = true)]
    insecure: bool,
    /// The list's name
    list: String,
    /// The images
    #[arg(required = true)]
    images: Vec<String>,
}

/// What `manifest annotate` is told.
#[derive(Args)]
pub(crate) struct AnnotateArgs {
    /// The architecture, as Go calls it
    #[arg(long)]
    arch: Option<String>,
    /// The operating system, as Go calls it
    #[arg(long)]
    os: Option<String>,
    /// The variant of the architecture
    #[arg(long)]
    variant: Option<String>,
    /// The list's name
    list: String,
    /// The image, as the list was told
    image: String,
}

/// What `manifest inspect` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct InspectArgs {
    /// Show the descriptor too
    #[arg(short, long)]
    verbose: bool,
    /// Accepted as docker does: registries.json says which registries are insecure
    #[arg(long, hide = true)]
    insecure: bool,
    /// The name; or a list in the making and one of its images
    #[arg(required = true, num_args = 1..=2)]
    names: Vec<String>,
}

/// What `manifest push` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct PushArgs {
    /// Forget the list afterwards
    #[arg(short, long)]
    purge: bool,
    /// Accepted as docker does: registries.json says which registries are insecure
    #[arg(long, hide = true)]
    insecure: bool,
    /// The list's name
    list: String,
}

/// What `manifest rm` is told.
#[derive(Args)]
pub(crate) struct RmArgs {
    /// The lists' names
    #[arg(required = true)]
    lists: Vec<String>,
}

/// What `buildx imagetools` is told.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum ImagetoolsVerb {
    /// Make an image, or a list of images, of what is in registries
    Create(ToolCreateArgs),
    /// Show what a registry has under a name
    Inspect(ToolInspectArgs),
}

/// What `imagetools create` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ToolCreateArgs {
    /// The name to give it
    #[arg(short, long)]
    tag: Vec<String>,
    /// Add to what the name stands for
    #[arg(long)]
    append: bool,
    /// Show it and send nothing
    #[arg(long)]
    dry_run: bool,
    /// The images
    sources: Vec<String>,
}

/// What `imagetools inspect` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ToolInspectArgs {
    /// Print it as the registry has it
    #[arg(long)]
    raw: bool,
    /// The name
    name: String,
}

/// A list in the making.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Draft {
    entries: Vec<Entry>,
}

/// One image of a list, by the name that it was given by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    image: String,
    descriptor: Descriptor,
}

/// Carries out a `manifest` verb.
pub(crate) fn manifest(home: &Home, verb: &ManifestVerb) -> anyhow::Result<ExitCode> {
    let store = Store::open(&home.root)?;
    let settings = registries::settings()?;
    match verb {
        ManifestVerb::Create(args) => create(&store, &settings, args)?,
        ManifestVerb::Annotate(args) => annotate(&store, args)?,
        ManifestVerb::Inspect(args) => inspect(&store, &settings, args)?,
        ManifestVerb::Push(args) => push(&store, &settings, args)?,
        ManifestVerb::Rm(args) => {
            let _lock = lock(&store)?;
            for name in &args.lists {
                let list = parse(name)?;
                fs_err::remove_file(path_of(&store, &list))
                    .with_context(|| format!("No such manifest: {}", list.familiar()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(name: &str) -> anyhow::Result<Reference> {
    Ok(Reference::parse(name).with_context(|| format!("invalid name {name:?}"))?.for_pull())
}

/// Keeps others from changing lists as long as it is held.
fn lock(store: &Store) -> anyhow::Result<File> {
    let dir = store.root().join("manifests");
    fs_err::create_dir_all(&dir)?;
    let path = dir.join("lock");
    let file = fs_err::File::create(&path)?.into_parts().0;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

fn path_of(store: &Store, list: &Reference) -> PathBuf {
    // No name has this character.
    store.root().join("manifests").join(format!("{}.json", list.to_string().replace('/', "+")))
}

fn read(path: &Path, list: &Reference) -> anyhow::Result<Draft> {
    let bytes = fs_err::read(path)
        .with_context(|| format!("No such manifest list in the making: {}", list.familiar()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes a list; only for who holds the lock.
fn write(path: &Path, draft: &Draft) -> anyhow::Result<()> {
    Ok(place::write(path, &serde_json::to_vec(draft)?)?)
}

fn create(store: &Store, settings: &Settings, args: &CreateArgs) -> anyhow::Result<()> {
    let list = parse(&args.list)?;
    let path = path_of(store, &list);
    // Nobody waits for registries only to hear it.
    refuse_unless_amended(&path, args)?;
    let mut new = Vec::new();
    for image in &args.images {
        let remote = Remote::find(store, &parse(image)?, settings)?;
        new.push((image, copy::entry(&remote, remote.document())?));
    }
    let _lock = lock(store)?;
    refuse_unless_amended(&path, args)?;
    let mut draft = if path.exists() { read(&path, &list)? } else { Draft::default() };
    for (image, descriptors) in new {
        draft
            .entries
            .retain(|known| descriptors.iter().all(|new| new.digest != known.descriptor.digest));
        let named = |descriptor| Entry { image: image.clone(), descriptor };
        draft.entries.extend(descriptors.into_iter().map(named));
    }
    write(&path, &draft)?;
    ui::line(format_args!("Created manifest list {list}"));
    Ok(())
}

fn refuse_unless_amended(path: &Path, args: &CreateArgs) -> anyhow::Result<()> {
    if path.exists() && !args.amend {
        bail!("refusing to amend an existing manifest list with no --amend flag");
    }
    Ok(())
}

fn annotate(store: &Store, args: &AnnotateArgs) -> anyhow::Result<()> {
    let list = parse(&args.list)?;
    let path = path_of(store, &list);
    let _lock = lock(store)?;
    let mut draft = read(&path, &list)?;
    let image = parse(&args.image)?;
    let is_meant = |entry: &&mut Entry| parse(&entry.image).is_ok_and(|known| known == image);
    let Some(entry) = draft.entries.iter_mut().find(is_meant) else {
        bail!("manifest for image {} does not exist in {}", args.image, args.list);
    };
    let platform = entry.descriptor.platform.get_or_insert_with(Platform::default);
    if let Some(arch) = &args.arch {
        platform.architecture.clone_from(arch);
    }
    if let Some(os) = &args.os {
        platform.os.clone_from(os);
    }
    if args.variant.is_some() {
        platform.variant.clone_from(&args.variant);
    }
    write(&path, &draft)
}

fn inspect(store: &Store, settings: &Settings, args: &InspectArgs) -> anyhow::Result<()> {
    let first = parse(&args.names[0])?;
    let path = path_of(store, &first);
    if args.names.len() == 1 && path.exists() {
        let document = document(&read(&path, &first)?);
        return print(&document.bytes);
    }
    let wanted = parse(args.names.last().expect("at least one is required"))?;
    let remote = Remote::find(store, &wanted, settings)?;
    let document = remote.document();
    if !args.verbose {
        return print(&document.bytes);
    }
    let content: serde_json::Value = serde_json::from_slice(&document.bytes)?;
    let key =
        if matches!(document.content, Content::Index(_)) { "Index" } else { "SchemaV2Manifest" };
    let shown = serde_json::json!({
        "Ref": wanted.to_string(),
        "Descriptor": {
            "mediaType": document.media_type,
            "digest": document.digest,
            "size": document.bytes.len(),
        },
        key: content,
    });
    print(&serde_json::to_vec(&shown)?)
}

/// Prints a document so that people can read it.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let content: serde_json::Value = serde_json::from_slice(bytes)?;
    ui::line(serde_json::to_string_pretty(&content)?);
    Ok(())
}

fn document(draft: &Draft) -> Document {
    let entries = draft.entries.iter().map(|entry| entry.descriptor.clone());
    copy::list(entries.collect(), Default::default())
}

fn push(store: &Store, settings: &Settings, args: &PushArgs) -> anyhow::Result<()> {
    let list = parse(&args.list)?;
    let path = path_of(store, &list);
    let draft = read(&path, &list)?;
    let target = Target::open(&list, settings)?;
    for entry in &draft.entries {
        let named = parse(&entry.image)?;
        let remote = Remote::find(store, &by_digest(named, &entry.descriptor), settings)?;
        target.copy(&remote, remote.document())?;
    }
    let document = document(&draft);
    target.name(&document)?;
    ui::line(document.digest);
    if args.purge {
        let _lock = lock(store)?;
        // What was added meanwhile has not been pushed.
        if read(&path, &list)? == draft {
            fs_err::remove_file(path)?;
        }
    }
    Ok(())
}

/// The same repository's content of this digest.
fn by_digest(mut name: Reference, descriptor: &Descriptor) -> Reference {
    name.digest = Some(descriptor.digest.to_string());
    name.for_pull()
}

/// Carries out an `imagetools` verb.
pub(crate) fn imagetools(root: &Path, verb: &ImagetoolsVerb) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let settings = registries::settings()?;
    match verb {
        ImagetoolsVerb::Create(args) => tool_create(&store, &settings, args)?,
        ImagetoolsVerb::Inspect(args) => tool_inspect(&store, &settings, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tool_create(store: &Store, settings: &Settings, args: &ToolCreateArgs) -> anyhow::Result<()> {
    let tags = args.tag.iter().map(|tag| parse(tag)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut names =
        args.sources.iter().map(|name| parse(name)).collect::<anyhow::Result<Vec<_>>>()?;
    if args.append {
        names.splice(0..0, tags.first().cloned());
    }
    if names.is_empty() {
        bail!("no sources specified");
    }
    let mut sources = Vec::new();
    for name in &names {
        sources.push(Remote::find(store, name, settings)?);
    }
    let document = match sources.as_slice() {
        // One stays what it is.
        [only] => only.document().clone(),
        several => {
            let mut entries: Vec<Descriptor> = Vec::new();
            for source in several {
                copy::add(&mut entries, copy::entry(source, source.document())?);
            }
            copy::list(entries, Default::default())
        }
    };
    if args.dry_run || tags.is_empty() {
        ui::raw(&document.bytes);
        return Ok(());
    }
    for tag in &tags {
        let target = Target::open(tag, settings)?;
        for source in &sources {
            target.copy(source, source.document())?;
        }
        target.name(&document)?;
        ui::line(format_args!("pushed {} to {tag}", document.digest));
    }
    Ok(())
}

fn tool_inspect(store: &Store, settings: &Settings, args: &ToolInspectArgs) -> anyhow::Result<()> {
    let name = parse(&args.name)?;
    let remote = Remote::find(store, &name, settings)?;
    let document = remote.document();
    if args.raw {
        ui::raw(&document.bytes);
        return Ok(());
    }
    ui::line(format_args!("Name:      {name}"));
    ui::line(format_args!("MediaType: {}", document.media_type));
    ui::line(format_args!("Digest:    {}", document.digest));
    let Content::Index(index) = &document.content else { return Ok(()) };
    ui::line("           \nManifests: ");
    for entry in &index.manifests {
        ui::line(format_args!("  Name:        {}", by_digest(name.clone(), entry)));
        ui::line(format_args!("  MediaType:   {}", entry.media_type));
        if let Some(platform) = &entry.platform {
            ui::line(format_args!("  Platform:    {}", engine::platform::shown(platform)));
        }
        ui::line("               ");
    }
    Ok(())
}
