//! `commit`: an image made of a container.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{ArgAction, Args};
use engine::containers::commit::{Options, commit as make, configuration};
use engine::containers::{Containers, Status};
use engine::reference::Reference;
use engine::signals::{HANG_UP, INTERRUPT, Signals, TERMINATE};

use crate::paths::Home;
use crate::ui;

/// What `commit` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct CommitArgs {
    /// Who made the image
    #[arg(short, long, default_value = "")]
    author: String,
    /// What to say in the image's history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, USER, WORKDIR, LABEL, ...
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Pause the container meanwhile (the default)
    #[arg(short, long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", conflicts_with = "no_pause")]
    pause: Option<bool>,
    /// Let the container go on meanwhile
    #[arg(long)]
    no_pause: bool,
    /// The container
    container: String,
    /// The image's name
    name: Option<String>,
}

/// Commits.
pub(crate) fn commit(home: &Home, args: &CommitArgs) -> anyhow::Result<ExitCode> {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    if name.as_ref().is_some_and(|name| name.digest.is_some()) {
        bail!("refusing to create a tag with a digest reference");
    }
    let signals = Signals::take(&[INTERRUPT, TERMINATE, HANG_UP])?;
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let observed = containers.observe(&containers.find(&args.container)?)?;
    match observed.state.status {
        Status::Dead => {
            bail!("You cannot commit container {} which is Dead", observed.record.id)
        }
        Status::Removing => {
            bail!("You cannot commit container {} which is being removed", observed.record.id)
        }
        _ => {}
    }
    let mut config = configuration(&containers, &observed.record)?;
    frontend::change::apply(&mut config, &args.change).context("invalid change")?;
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let now = match epoch {
        Some(seconds) => engine::export::rfc3339(seconds),
        None => jiff::Timestamp::now().to_string(),
    };
    let options = Options {
        author: args.author.clone(),
        message: args.message.clone(),
        created: now,
        no_pause: args.no_pause || args.pause == Some(false),
        signals: Some(signals),
    };
    let (digest, id) = make(&containers, &observed.record, config, &options)?;
    let names: Vec<String> = name.map(|name| name.or_latest().to_string()).into_iter().collect();
    store.tag(&digest, &names)?;
    let told = [
        ("comment", args.message.as_str()),
        ("imageID", &id.to_string()),
        ("imageRef", names.first().map_or("", String::as_str)),
    ];
    containers.tell(&observed.record, "commit", &told);
    ui::line(id);
    Ok(ExitCode::SUCCESS)
}
