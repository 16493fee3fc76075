//! `import`: the tar of a root file system becomes an image.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::compress::decompress;
use cache::oci::{History, ImageConfig};
use clap::Args;
use engine::reference::Reference;
use engine::source::http::{HttpRequest, fetch};
use engine::source::{Access, redact_credentials};

use crate::paths::Home;
use crate::{registries, ui};

/// What `import` is told.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The tar, plain or compressed: a file, an http or https URL, or - for standard input
    #[arg(value_name = "FILE|URL|-")]
    source: OsString,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, USER, WORKDIR, LABEL, ...
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What to say in the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// What the image runs on
    #[arg(long)]
    platform: Option<String>,
}

/// Imports.
pub(crate) fn import(home: &Home, args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let name = args.name.as_deref().map(image_name).transpose()?;
    let platform = match &args.platform {
        Some(text) => frontend::platform::parse(text)?,
        None => frontend::platform::host(),
    };
    let shown = redact_credentials(&args.source.to_string_lossy());
    let input = open(&store, &args.source)?;
    let (plain, _) = decompress(input).with_context(|| format!("read {shown}"))?;
    let layer = store.draft_layer()?.commit_root(plain)?;
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let now = epoch.unwrap_or_else(|| jiff::Timestamp::now().as_second());
    let now = engine::export::rfc3339(now);
    let mut config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        created: Some(now.clone()),
        ..Default::default()
    };
    config.rootfs.diff_ids.push(layer.diff_id);
    config.history.push(History {
        created: Some(now),
        comment: Some(args.message.clone().unwrap_or_else(|| format!("Imported from {shown}"))),
        ..Default::default()
    });
    frontend::change::apply(&mut config, &args.change).context("invalid change")?;
    let (digest, manifest) = store.put_image(&config, &Default::default())?;
    let names: Vec<String> = name.iter().map(ToString::to_string).collect();
    store.tag(&digest, &names)?;
    ui::line(manifest.config.digest);
    Ok(ExitCode::SUCCESS)
}

/// Opens a tar, wherever it is.
fn open(store: &Store, source: &OsStr) -> anyhow::Result<Box<dyn Read + Send>> {
    if source == "-" {
        if std::io::stdin().is_terminal() {
            bail!("import reads a tar from standard input, which is a terminal: redirect it");
        }
        return Ok(Box::new(std::io::stdin()));
    }
    let is_url = |text: &&str| text.starts_with("http://") || text.starts_with("https://");
    let path = match source.to_str().filter(is_url) {
        None => PathBuf::from(source),
        Some(url) => {
            let request = HttpRequest { url: url.to_owned(), checksum: None };
            fetch(&request, &access(), &store.sources()?, &|_| {})?.path
        }
    };
    Ok(Box::new(fs_err::File::open(path)?))
}

/// What a download may use: the proxies of the environment.
fn access() -> Access<'static> {
    Access { proxy: registries::proxy(), ..Access::none() }
}

/// The name that an image is given.
fn image_name(text: &str) -> anyhow::Result<Reference> {
    let reference = Reference::parse(text)?;
    if reference.digest.is_some() {
        bail!("cannot import digest reference");
    }
    Ok(reference.or_latest())
}
