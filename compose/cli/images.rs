//! `images`: the images of a project's containers.

use std::process::ExitCode;

use anyhow::bail;
use cache::Store;
use clap::Args;
use compose::make::labels;
use compose::observe::{self, Instance};
use engine::reference::Reference;
use serde_json::{Map, Value};

use crate::args::Globals;
use crate::container_row::Rows;
use crate::format::{aligned, seconds, since, size};
use crate::home::{self, Here};
use crate::ui;

/// What `images` is told.
#[derive(Args, Debug)]
pub(crate) struct ImagesArgs {
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// A container's image.
#[derive(Default)]
struct Shown {
    container: String,
    /// `sha256:` and digits.
    id: String,
    repository: String,
    tag: String,
    /// Empty, like all that follows, if the image is gone.
    platform: String,
    size: u64,
    created: Option<String>,
}

/// Lists images.
pub(crate) fn images(globals: &Globals, args: &ImagesArgs) -> anyhow::Result<ExitCode> {
    let name = home::name(globals)?;
    let here = Here::look(globals)?;
    let chosen = |it: &Instance| {
        let services = &args.services;
        it.label(labels::PROJECT) == name
            && (services.is_empty() || services.iter().any(|service| service == it.service()))
    };
    let mut chosen = observe::instances(&here.containers()?, chosen)?;
    chosen.sort_by(|a, b| a.name().cmp(b.name()));
    let rows = Rows::new(&here.store, true)?;
    let images: Vec<Shown> = chosen.iter().map(|it| Shown::of(&here.store, &rows, it)).collect();
    if args.quiet {
        let mut ids: Vec<&str> = Vec::new();
        for image in &images {
            let id = image.digits();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids.iter().for_each(ui::line);
        return Ok(ExitCode::SUCCESS);
    }
    match args.format.as_str() {
        "json" => ui::line(Value::Array(images.iter().map(Shown::json).collect())),
        "table" | "pretty" | "" => {
            let mut text =
                "CONTAINER\tREPOSITORY\tTAG\tPLATFORM\tIMAGE ID\tSIZE\tCREATED\n".to_owned();
            images.iter().for_each(|image| text += &image.line());
            ui::raw(aligned(&text, 20, 3));
        }
        other => bail!("format value {other:?} could not be parsed: there are table and json"),
    }
    Ok(ExitCode::SUCCESS)
}

impl Shown {
    fn of(store: &Store, rows: &Rows, instance: &Instance) -> Shown {
        let record = &instance.record;
        let mut shown =
            Shown { container: record.name.clone(), id: record.image.clone(), ..Shown::default() };
        let typed = rows.whole_image(record);
        // What only has its id has no name.
        let reference = Reference::parse(&typed).ok().filter(|_| !typed.starts_with("sha256:"));
        if let Some(reference) = reference {
            shown.repository = reference.familiar_name();
            shown.tag = match &reference.digest {
                Some(_) => reference.tag.unwrap_or_default(),
                None => reference.or_latest().tag.unwrap_or_default(),
            };
        }
        let image = record.manifest.and_then(|manifest| store.peek_image(&manifest).ok());
        if let Some(image) = image {
            let config = &image.config;
            let variant = config.variant.iter().filter(|variant| !variant.is_empty());
            let variant: String = variant.map(|variant| format!("/{variant}")).collect();
            shown.platform = format!("{}/{}{variant}", config.os, config.architecture);
            shown.size = image.size();
            shown.created.clone_from(&config.created);
        }
        shown
    }

    fn digits(&self) -> &str {
        self.id.strip_prefix("sha256:").unwrap_or(&self.id)
    }

    fn line(&self) -> String {
        let named =
            |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
        let id = self.digits();
        let cells = [
            self.container.clone(),
            named(&self.repository),
            named(&self.tag),
            self.platform.clone(),
            id[..id.len().min(12)].to_owned(),
            size(self.size),
            self.created.as_deref().and_then(seconds).map_or_else(|| "N/A".to_owned(), since),
        ];
        cells.join("\t") + "\n"
    }

    fn json(&self) -> Value {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("ID", self.id.clone().into());
        set("ContainerName", self.container.clone().into());
        set("Repository", self.repository.clone().into());
        set("Tag", self.tag.clone().into());
        set("Platform", self.platform.clone().into());
        set("Size", self.size.into());
        if let Some(created) = &self.created {
            set("Created", created.clone().into());
        }
        Value::Object(fields)
    }
}
