//! `history`: how an image was made, step by step, with what each step weighs.

use std::path::Path;
use std::process::ExitCode;

use cache::Store;
use cache::image::Image;
use clap::{ArgAction, Args};
use serde_json::{Value, json};

use crate::format::{self, Listing};
use crate::{resolve, tags, ui};

/// As many characters of a command are shown.
const SHOWN: usize = 45;

/// What `history` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct HistoryArgs {
    /// Print image ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print whole commands and ids
    #[arg(long)]
    no_trunc: bool,
    /// Print sizes and dates in human readable form (--human=false: exactly)
    #[arg(short = 'H', long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    human: bool,
    /// table, table TEMPLATE, json or a Go template
    #[arg(long)]
    format: Option<String>,
    /// The image
    image: String,
}

const HISTORY: Listing = Listing {
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headings: &[
        ("Comment", "COMMENT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("CreatedSince", "CREATED"),
        ("ID", "IMAGE"),
        ("Size", "SIZE"),
    ],
    type_name: "*image.historyContext",
};

const EXACT: Listing = Listing {
    table: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headings: HISTORY.headings,
    type_name: HISTORY.type_name,
};

/// Prints an image's history, the newest step first.
pub(crate) fn history(root: &Path, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let Some(image) = resolve::find(&store, &args.image)? else {
        return Ok(tags::no_such_image(&args.image));
    };
    let rows: Vec<Value> = steps(&image).iter().map(|step| row(step, args)).collect();
    let listing = if args.human { &HISTORY } else { &EXACT };
    let quiet = args.quiet && args.format.as_deref().is_none_or(|format| format == "table");
    let format = if quiet { Some("{{.ID}}") } else { args.format.as_deref() };
    ui::raw(listing.text(format, &rows)?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// One step of an image's making.
#[derive(Debug, PartialEq)]
struct Step {
    /// The image that it completed, if that is known.
    id: String,
    created: Option<i64>,
    command: String,
    bytes: u64,
    comment: String,
}

/// Steps with the sizes of their layers, the newest first.
fn steps(image: &Image) -> Vec<Step> {
    let mut layers = image.manifest.layers.iter();
    let mut steps: Vec<Step> = Vec::new();
    for step in &image.config.history {
        let layer = if step.empty_layer { None } else { layers.next() };
        steps.push(Step {
            id: "<missing>".to_owned(),
            created: step.created.as_deref().and_then(format::seconds),
            command: step.created_by.clone().unwrap_or_default(),
            bytes: layer.map_or(0, |layer| layer.size),
            comment: step.comment.clone().unwrap_or_default(),
        });
    }
    if let Some(newest) = steps.last_mut() {
        newest.id = image.id().to_string();
    }
    steps.reverse();
    steps
}

fn row(step: &Step, args: &HistoryArgs) -> Value {
    let command = step.command.replace('\t', " ");
    let id = step.id.strip_prefix("sha256:").unwrap_or(&step.id);
    let at = step.created.map(engine::export::rfc3339).unwrap_or_default();
    json!({
        "Comment": step.comment,
        "CreatedAt": at,
        "CreatedBy": if args.no_trunc { command } else { format::ellipsis(&command, SHOWN) },
        "CreatedSince": match step.created {
            _ if !args.human => at,
            Some(created) if created > YEAR_2000 => format::since(created),
            _ => "N/A".to_owned(),
        },
        "ID": if args.no_trunc { step.id.clone() } else { id.chars().take(12).collect() },
        "Size": if args.human { format::size(step.bytes) } else { step.bytes.to_string() },
    })
}

/// Nobody built an image before; such dates are there for reproducibility.
const YEAR_2000: i64 = 946_684_800;

#[cfg(test)]
mod tests {
    use super::*;
    use cache::oci::{History, ImageConfig};

    #[test]
    fn each_step_has_the_size_of_its_own_layer() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let layer = |size: usize| {
            let draft = store.draft_layer().expect("draft");
            let kind = cache::layer::Kind::File { size: size as u64 };
            let file = cache::layer::Entry::new("file", kind, 0o644);
            let write = |out: &mut dyn cache::layer::writer::Append| {
                out.append(&file, &mut std::io::repeat(0)).expect("append");
                Ok(())
            };
            draft.commit_tar(write).expect("commit").diff_id
        };
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![layer(512), layer(1024)];
        for (command, empty_layer) in
            [("COPY", false), ("ENV", true), ("RUN", false), ("CMD", true)]
        {
            let created_by = Some(command.to_owned());
            config.history.push(History { created_by, empty_layer, ..Default::default() });
        }
        let (digest, _) = store.put_image(&config, &Default::default()).expect("put");
        let image = store.read_image(&digest).expect("read");
        let seen: Vec<_> =
            steps(&image).into_iter().map(|step| (step.command, step.bytes, step.id)).collect();
        let missing = || "<missing>".to_owned();
        let expected = [
            ("CMD".to_owned(), 0, image.id().to_string()),
            ("RUN".to_owned(), 2560, missing()),
            ("ENV".to_owned(), 0, missing()),
            ("COPY".to_owned(), 2048, missing()),
        ];
        assert_eq!(seen, expected);
    }
}
