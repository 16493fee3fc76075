//! `ps`: the list of a project's containers.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgAction, Args};
use compose::Project;
use compose::make::labels;
use compose::observe::{self, Instance};
use engine::containers::{Observed, Status};
use serde_json::{Value, json};

use crate::args::Globals;
use crate::container_row::Rows;
use crate::format::Listing;
use crate::home::{self, Here};
use crate::{port_map, ui};

/// What `ps` is told.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Show all containers, not only those that run: those of `run` as well
    #[arg(short, long)]
    all: bool,
    /// Only containers that fit: status=
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Option<String>,
    /// table, table TEMPLATE, json or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show containers of services that the project does not have
    #[arg(
        long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value_t = true, default_missing_value = "true"
    )]
    orphans: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print services only
    #[arg(long)]
    services: bool,
    /// Only containers that do this: paused, restarting, removing, running, dead, created or exited
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    named: Vec<String>,
}

const CONTAINERS: Listing = Listing {
    table: "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}",
    headings: &[
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("Engine", "ENGINE"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("Name", "NAME"),
        ("Ports", "PORTS"),
        ("Project", "PROJECT"),
        ("RunningFor", "CREATED"),
        ("Service", "SERVICE"),
        ("Size", "SIZE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ],
    type_name: "*formatter.ContainerContext",
};

/// The field that stands for published ports where a template prints them all as one text.
const PUBLISHERS_TEXT: &str = "PublishersText";

/// Lists containers.
pub(crate) fn ps(globals: &Globals, args: &PsArgs) -> anyhow::Result<ExitCode> {
    let statuses = args.statuses()?;
    let (project, name) = home::project_or_name(globals, &args.named)?;
    let here = Here::look(globals)?;
    let containers = here.containers()?;
    let chosen = |it: &Instance| {
        let is_shown = it.is_active() && !it.is_one_off() || args.all || !statuses.is_empty();
        let is_wanted =
            statuses.is_empty() || statuses.iter().any(|status| status == it.state.status.as_str());
        it.label(labels::PROJECT) == name
            && is_shown
            && is_wanted
            && args.is_of(project.as_ref(), it.service())
    };
    let mut chosen = observe::instances(&containers, chosen)?;
    chosen.sort_by(|a, b| a.name().cmp(b.name()));
    if args.quiet {
        chosen.iter().for_each(|it| ui::line(it.id()));
    } else if args.services {
        let mut services: Vec<&str> = Vec::new();
        for instance in &chosen {
            if !services.contains(&instance.service()) {
                services.push(instance.service());
            }
        }
        ui::line(services.join("\n"));
    } else {
        let rows = Rows::new(&here.store, args.no_trunc)?;
        let format = args.format.as_deref().filter(|format| !format.is_empty()).map(with_text);
        let has_text = format.as_ref().is_some_and(|format| format.contains(PUBLISHERS_TEXT));
        let rows: Vec<Value> = chosen.into_iter().map(|it| row(&rows, it, has_text)).collect();
        ui::raw(CONTAINERS.text(format.as_deref(), &rows)?);
    }
    Ok(ExitCode::SUCCESS)
}

impl PsArgs {
    /// What containers must do; none if it is all the same.
    fn statuses(&self) -> anyhow::Result<Vec<String>> {
        let mut statuses = self.status.clone();
        let filter = self.filter.as_deref().filter(|filter| !filter.is_empty());
        match filter.map(|filter| filter.split_once('=')) {
            None => {}
            Some(Some(("status", status))) => statuses.push(status.to_owned()),
            Some(Some((name, _))) => bail!("unknown filter {name}: there is status"),
            Some(None) => bail!("arguments to --filter should be in form KEY=VAL"),
        }
        Ok(statuses)
    }

    /// Whether a service is asked for.
    fn is_of(&self, project: Option<&Project>, service: &str) -> bool {
        match project {
            _ if !self.named.is_empty() => self.named.iter().any(|name| name == service),
            Some(project) if !self.orphans => project.services.contains_key(service),
            _ => true,
        }
    }
}

/// A template that prints published ports as one text where it prints them all, as Go does by itself.
fn with_text(format: &str) -> String {
    let text = format!("{{{{.{PUBLISHERS_TEXT}}}}}");
    format.replace("{{.Publishers}}", &text).replace("{{ .Publishers }}", &text)
}

/// A row in the fields of docker compose's containers, and with all published ports as one text.
fn row(rows: &Rows, instance: Instance, with_text: bool) -> Value {
    let state = instance.state.status;
    let health = instance.state.health.as_ref().filter(|_| state == Status::Running);
    let health = health.map_or("", |health| health.status.as_str());
    let exit_code = match state {
        Status::Exited | Status::Dead => instance.state.exit_code,
        _ => 0,
    };
    let own = [
        ("Engine", json!("")),
        ("ExitCode", json!(exit_code)),
        ("Health", json!(if health == "none" { "" } else { health })),
        ("Image", json!(rows.whole_image(&instance.record))),
        ("Name", json!(instance.name())),
        ("Project", json!(instance.label(labels::PROJECT))),
        ("Service", json!(instance.service())),
    ];
    let own: Vec<(String, Value)> =
        own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let observed = Observed { record: instance.record, state: instance.state };
    let map = port_map::map(&observed);
    let ports = port_map::list(&map);
    let publishers = ports.iter().map(|port| {
        json!({
            "URL": port.host,
            "TargetPort": port.private,
            "PublishedPort": port.public,
            "Protocol": port.protocol,
        })
    });
    let publishers = Value::Array(publishers.collect());
    let text: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let text =
        with_text.then(|| (PUBLISHERS_TEXT.to_owned(), json!(format!("[{}]", text.join(" ")))));
    let Value::Object(fields) = rows.of(&observed, "0B".to_owned()) else {
        unreachable!("a row is an object")
    };
    let mut fields: BTreeMap<String, Value> = fields.into_iter().collect();
    fields.remove("Platform");
    fields.insert("Publishers".to_owned(), publishers);
    fields.extend(own.into_iter().chain(text));
    Value::Object(fields.into_iter().collect())
}
