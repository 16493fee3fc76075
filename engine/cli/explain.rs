//! Why a step was not cached: the difference between the key it had and the one before.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use cache::Store;
use clap::Args;
use engine::keys::{Difference, differences};

use crate::journal::{Journal, Status, Step};
use crate::ui;

/// As many differences are told of one step; a thousand changed files are best counted.
const MOST: usize = 10;

/// What `explain` is told.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// The build context whose last build is meant (default: the last build of all)
    context: Option<String>,
    /// The Dockerfile's name
    #[arg(short, long, default_value = "Dockerfile")]
    file: String,
    /// The stage that was built
    #[arg(long)]
    target: Option<String>,
}

/// Explains the last build.
pub(crate) fn explain(root: &Path, args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let id = match &args.context {
        None => None,
        Some(context) => {
            let context = Path::new(context).canonicalize()?;
            Some(Journal::id(&context.display().to_string(), &args.file, args.target.as_deref()))
        }
    };
    let Some(journal) = Journal::load(&store, id) else {
        bail!("nothing has been built here yet");
    };
    ui::line(text(&store, &journal)?);
    Ok(ExitCode::SUCCESS)
}

/// One paragraph for each step.
pub(crate) fn text(store: &Store, journal: &Journal) -> anyhow::Result<String> {
    let mut text = format!("{}\n", journal.what);
    for step in &journal.steps {
        match &step.status {
            Status::Cached => writeln!(text, "CACHED   {}", step.name)?,
            Status::Canceled => writeln!(text, "CANCELED {}", step.name)?,
            Status::Done | Status::Failed(_) => {
                writeln!(text, "RAN      {}  {:.1}s", step.name, step.took_ms as f64 / 1000.0)?;
                for reason in reasons(store, step)? {
                    writeln!(text, "           {reason}")?;
                }
            }
        }
    }
    Ok(text.trim_end().to_owned())
}

/// Fails, naming the first step that ran.
pub(crate) fn expect_cached(store: &Store, journal: &Journal) -> anyhow::Result<()> {
    let Some(step) = journal.steps.iter().find(|step| step.status != Status::Cached) else {
        return Ok(());
    };
    let reasons = reasons(store, step)?.join("; ");
    bail!(
        "--expect-cached: {} (line {}) was not cached: {reasons}",
        step.name,
        step.origin.first_line
    )
}

fn reasons(store: &Store, step: &Step) -> anyhow::Result<Vec<String>> {
    if let (Status::Failed(why), None) = (&step.status, step.key) {
        return Ok(vec![format!("it failed, and a failed step is never kept: {why}")]);
    }
    let (Some(key), Some(before)) = (step.key, step.before) else {
        return Ok(vec!["no earlier build had this step".to_owned()]);
    };
    if key == before {
        return Ok(vec![
            "nothing it depends on changed: it was asked to run again, or its result was removed"
                .to_owned(),
        ]);
    }
    let (Some(now), Some(then)) = (store.preimage(&key)?, store.preimage(&before)?) else {
        return Ok(vec!["what it depended on before is no longer known".to_owned()]);
    };
    let mut all = differences(&then, &now);
    // That a step above has another result is worth telling when nothing else has changed.
    if step.base.is_none() && all.iter().any(|one| one.fact != "base") {
        all.retain(|one| one.fact != "base");
    }
    let mut reasons: Vec<String> = all.iter().take(MOST).map(|one| shown(one, step)).collect();
    if all.len() > MOST {
        reasons.push(format!("and {} differences more", all.len() - MOST));
    }
    Ok(reasons)
}

fn shown(difference: &Difference, step: &Step) -> String {
    let what = match difference.fact.as_str() {
        "file" => return file(difference),
        "base" => {
            let what = match &step.base {
                Some(image) => format!("base image {image}"),
                None => "the result of the step above it".to_owned(),
            };
            let digest = |text: &Option<String>| text.clone().unwrap_or_default();
            let (before, after) = (digest(&difference.before), digest(&difference.after));
            return format!("{what} changed: {before} -> {after}");
        }
        "env" => "variable",
        "arg" => "command",
        fact => fact,
    };
    match (&difference.before, &difference.after) {
        (Some(before), Some(after)) => format!("{what} changed: {before} -> {after}"),
        (Some(before), None) => format!("{what} is gone: {before}"),
        (None, Some(after)) => format!("{what} is new: {after}"),
        (None, None) => format!("{what} changed"),
    }
}

/// Where the quoted name ends that a text begins with.
fn end_of_name(text: &str) -> usize {
    let mut is_escaped = false;
    let mut quotes = text.char_indices().filter(|(_, character)| {
        let is_quote = *character == '"' && !is_escaped;
        is_escaped = *character == '\\' && !is_escaped;
        is_quote
    });
    quotes.nth(1).map_or(text.len(), |(at, _)| at + 1)
}

/// `file "path" 0644 0:0 blake3:...` as people would say it.
fn file(difference: &Difference) -> String {
    let split = |text: &String| -> (String, Vec<String>) {
        let (name, facts) = text.split_at(end_of_name(text));
        (name.to_owned(), facts.trim().splitn(3, ' ').map(str::to_owned).collect())
    };
    match (difference.before.as_ref().map(split), difference.after.as_ref().map(split)) {
        (Some((path, then)), Some((_, now))) => {
            let names = ["mode", "owner", "content"];
            let changed =
                names.iter().zip(then.iter().zip(&now)).filter(|(_, (then, now))| then != now);
            let changed: Vec<String> =
                changed.map(|(name, (then, now))| format!("{name} {then} -> {now}")).collect();
            format!("file {path} changed: {}", changed.join(", "))
        }
        (Some((path, _)), None) => format!("file {path} is gone"),
        (None, Some((path, _))) => format!("file {path} is new"),
        (None, None) => "a file changed".to_owned(),
    }
}
