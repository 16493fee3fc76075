//! `ls`: all projects of the store.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use compose::make::labels;
use compose::observe::{self, Instance};
use serde_json::json;

use crate::args::Globals;
use crate::format::aligned;
use crate::home::Here;
use crate::pattern::Pattern;
use crate::ui;

/// What `ls` is told.
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// Show all projects, not only those of which something runs
    #[arg(short, long)]
    all: bool,
    /// Only projects that fit: name= with a regular expression
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
}

/// A project, as far as its containers tell.
struct Shown {
    name: String,
    /// `exited(1), running(2)`
    status: String,
    files: String,
}

/// Lists projects.
pub(crate) fn ls(globals: &Globals, args: &LsArgs) -> anyhow::Result<ExitCode> {
    let names = names(&args.filter)?;
    let here = Here::look(globals)?;
    let is_of_compose = |it: &Instance| {
        let labels = [labels::PROJECT, labels::CONFIG_HASH];
        (args.all || it.is_active())
            && labels.iter().all(|label| it.record.config.labels.contains_key(*label))
    };
    let instances = observe::instances(&here.containers()?, is_of_compose)?;
    let mut projects = projects(&instances);
    projects
        .retain(|project| names.is_empty() || names.iter().any(|name| name.fits(&project.name)));
    let mut text = String::new();
    match args.format.as_str() {
        _ if args.quiet => {
            projects.iter().for_each(|project| text += &format!("{}\n", project.name))
        }
        "json" => {
            let row = |Shown { name, status, files }: &Shown| json!({ "Name": name, "Status": status, "ConfigFiles": files });
            text = format!("{}\n", json!(projects.iter().map(row).collect::<Vec<_>>()));
        }
        "table" | "pretty" | "" => {
            text += "NAME\tSTATUS\tCONFIG FILES\n";
            for Shown { name, status, files } in &projects {
                text += &format!("{name}\t{status}\t{files}\n");
            }
            text = aligned(&text, 20, 3);
        }
        other => bail!("format value {other:?} could not be parsed: there are table and json"),
    }
    ui::raw(text);
    Ok(ExitCode::SUCCESS)
}

/// A name that projects must have: this one, or one that the expression matches.
struct Name(String, Option<Pattern>);

impl Name {
    fn fits(&self, name: &str) -> bool {
        self.0 == name || self.1.as_ref().is_some_and(|pattern| pattern.matches(name))
    }
}

fn names(filters: &[String]) -> anyhow::Result<Vec<Name>> {
    let mut names = Vec::new();
    for filter in filters {
        match filter.split_once('=') {
            Some(("name", name)) => names.push(Name(name.to_owned(), Pattern::parse(name))),
            Some((other, _)) => bail!("invalid filter '{other}': there is name"),
            None => bail!("invalid filter '{filter}': write NAME=VALUE"),
        }
    }
    Ok(names)
}

/// Projects of containers, by name.
fn projects(instances: &[Instance]) -> Vec<Shown> {
    let mut by_name: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in instances {
        by_name.entry(instance.label(labels::PROJECT)).or_default().push(instance);
    }
    let shown = |(name, instances): (&str, Vec<&Instance>)| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut files: Vec<&str> = Vec::new();
        for instance in &instances {
            *counts.entry(instance.state.status.as_str()).or_default() += 1;
            for file in instance.label(labels::CONFIG_FILES).split(',') {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        let counts: Vec<String> =
            counts.iter().map(|(status, count)| format!("{status}({count})")).collect();
        Shown { name: name.to_owned(), status: counts.join(", "), files: files.join(",") }
    };
    by_name.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use engine::containers::{Record, State, Status};

    use super::*;

    #[test]
    fn a_project_is_what_its_containers_tell() {
        let instance = |project: &str, files: &str, status| {
            let mut record = Record::default();
            let labels = [(labels::PROJECT, project), (labels::CONFIG_FILES, files)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            record.config.labels.extend(labels);
            Instance { record, state: State { status, ..State::default() } }
        };
        let shown = projects(&[
            instance("shop", "/a.yaml,/b.yaml", Status::Running),
            instance("blog", "/blog.yaml", Status::Paused),
            instance("shop", "/a.yaml", Status::Exited),
            instance("shop", "/a.yaml,/c.yaml", Status::Running),
        ]);
        let texts: Vec<String> =
            shown.iter().map(|it| format!("{}: {} of {}", it.name, it.status, it.files)).collect();
        let shop = "shop: exited(1), running(2) of /a.yaml,/b.yaml,/c.yaml";
        assert_eq!(texts, ["blog: paused(1) of /blog.yaml", shop]);
    }
}
