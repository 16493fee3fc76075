//! `import`: the tar of a root file system becomes an image.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use cache::compress::decompress;
use cache::oci::{History, ImageConfig};
use clap::Args;
use engine::reference::Reference;

use crate::paths::Home;
use crate::ui;

/// What `import` is told.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The tar, plain or compressed; - reads standard input
    file: PathBuf,
    /// The image's name
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
    let name = args.name.as_deref().map(Reference::parse).transpose()?.map(Reference::or_latest);
    let platform = match &args.platform {
        Some(text) => frontend::platform::parse(text)?,
        None => frontend::platform::host(),
    };
    let input: Box<dyn Read + Send> = match args.file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(fs_err::File::open(&args.file)?),
    };
    let (plain, _) = decompress(input).with_context(|| format!("read {}", args.file.display()))?;
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
        comment: Some(
            args.message
                .clone()
                .unwrap_or_else(|| format!("Imported from {}", args.file.display())),
        ),
        ..Default::default()
    });
    frontend::change::apply(&mut config, &args.change).context("invalid change")?;
    let (digest, manifest) = store.put_image(&config, &Default::default())?;
    let names: Vec<String> = name.iter().map(ToString::to_string).collect();
    store.tag(&digest, &names)?;
    ui::line(manifest.config.digest);
    Ok(ExitCode::SUCCESS)
}
