//! `config`: the project that compose files come to, or a part of it.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use clap::Args;
use compose::load::{self, Warnings};
use compose::{Project, Request, Skip, hash, print};

use crate::args::Globals;
use crate::pin;
use crate::ui;

/// What `config` is told.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Services to select, with what they depend on
    #[arg(value_name = "SERVICE")]
    services_named: Vec<String>,
    /// `yaml` or `json`
    #[arg(long, value_parser = ["yaml", "json"])]
    format: Option<String>,
    /// Only look whether the files are valid
    #[arg(short, long)]
    quiet: bool,
    /// Leave variables as they are
    #[arg(long)]
    no_interpolate: bool,
    /// Imply nothing
    #[arg(long)]
    no_normalize: bool,
    /// Leave relative paths as they are
    #[arg(long)]
    no_path_resolution: bool,
    /// Do not look whether what services refer to is there
    #[arg(long)]
    no_consistency: bool,
    /// Do not read the variable files of services
    #[arg(long)]
    no_env_resolution: bool,
    /// Name images by their digests
    #[arg(long)]
    resolve_image_digests: bool,
    /// Print only the images, by their digests, to be laid over the project
    #[arg(long)]
    lock_image_digests: bool,
    /// Print the names of services, one a line
    #[arg(long)]
    services: bool,
    /// Print the names of volumes, one a line
    #[arg(long)]
    volumes: bool,
    /// Print the names of networks, one a line
    #[arg(long)]
    networks: bool,
    /// Print the names of models, one a line
    #[arg(long)]
    models: bool,
    /// Print the names of profiles, one a line
    #[arg(long)]
    profiles: bool,
    /// Print the names of images, one a line
    #[arg(long)]
    images: bool,
    /// Print the config hashes of services (names with commas, or `*`), one a line
    #[arg(long, value_name = "SERVICES")]
    hash: Option<String>,
    /// Print the variables that the files use, and their defaults
    #[arg(long)]
    variables: bool,
    /// Print the variables that the files are read with
    #[arg(long)]
    environment: bool,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<std::path::PathBuf>,
}

/// Prints what was asked for.
pub(crate) fn run(globals: &Globals, args: &ConfigArgs) -> anyhow::Result<()> {
    let mut warnings = Warnings::new();
    let shown = show(globals, &request(globals, args)?, args, &mut warnings);
    warnings.iter().for_each(ui::warn);
    let shown = shown?;
    match &args.output {
        _ if args.quiet => {}
        Some(path) if !shown.is_empty() => engine::place::write(path, shown.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?,
        _ => ui::raw(&shown),
    }
    Ok(())
}

impl ConfigArgs {
    /// Whether images are named by their digests.
    fn pins(&self) -> bool {
        self.resolve_image_digests || self.lock_image_digests
    }
}

fn request(globals: &Globals, args: &ConfigArgs) -> anyhow::Result<Request> {
    let mut request = globals.request()?;
    // Lists of names are of the whole project.
    let is_list =
        args.services || args.volumes || args.networks || args.models || args.hash.is_some();
    if !is_list {
        request.services = args.services_named.clone();
    }
    request.skip = Skip {
        interpolation: args.no_interpolate,
        normalization: args.no_normalize || globals.compatibility,
        paths: args.no_path_resolution,
        consistency: args.no_consistency,
        environment: args.no_env_resolution || is_list,
        validation: false,
    };
    Ok(request)
}

fn show(
    globals: &Globals,
    request: &Request,
    args: &ConfigArgs,
    warnings: &mut Warnings,
) -> anyhow::Result<String> {
    let lines = |names: Vec<String>| names.into_iter().map(|name| name + "\n").collect::<String>();
    if args.variables {
        return show_variables(request, args, warnings);
    }
    if request.skip.interpolation {
        return show_untyped(globals, request, args, warnings);
    }
    let mut project = load::load(request, warnings)?;
    if args.services {
        return Ok(lines(project.services.into_keys().collect()));
    }
    if args.volumes {
        return Ok(lines(project.volumes.into_keys().collect()));
    }
    if args.networks {
        return Ok(lines(project.networks.into_keys().collect()));
    }
    if args.models {
        return Ok(lines(project.models.into_values().map(|model| model.model).collect()));
    }
    if let Some(names) = &args.hash {
        return hashes(&mut project, names, args.no_env_resolution, warnings);
    }
    if args.profiles {
        let all = project.all_services();
        let profiles: BTreeSet<String> =
            all.values().flat_map(|service| service.profiles.clone()).collect();
        return Ok(lines(profiles.into_iter().collect()));
    }
    if args.images {
        return Ok(lines(images(&project)));
    }
    if args.environment {
        let line = |(name, value): (&String, &String)| format!("{name}={value}");
        return Ok(lines(project.environment.iter().map(line).collect()));
    }
    if args.pins() {
        pin::resolve(globals, pin::images(&mut project))?;
    }
    if args.lock_image_digests {
        project = pin::lock(project, warnings);
    }
    let shown = match args.format.as_deref() {
        Some("json") => format!("{:#}", project.to_json()),
        _ => project.to_yaml(),
    };
    // What is printed is a compose file again, and a dollar in it one.
    Ok(shown.replace('$', "$$"))
}

fn show_untyped(
    globals: &Globals,
    request: &Request,
    args: &ConfigArgs,
    warnings: &mut Warnings,
) -> anyhow::Result<String> {
    if !request.services.is_empty() {
        warnings.push(
            "service filtering is not applied when --no-interpolate is set, the full model will be rendered"
                .to_owned(),
        );
    }
    let mut model = load::load_untyped(request, warnings)?;
    let part = match args {
        ConfigArgs { services: true, .. } => Some("services"),
        ConfigArgs { volumes: true, .. } => Some("volumes"),
        ConfigArgs { networks: true, .. } => Some("networks"),
        ConfigArgs { hash: Some(_), .. } => {
            bail!("--hash needs the values of variables, without --no-interpolate")
        }
        _ => None,
    };
    if let Some(part) = part {
        let names = model.get(part).and_then(|part| part.as_object()).into_iter().flatten();
        return Ok(names.map(|(name, _)| format!("{name}\n")).collect());
    }
    if args.pins() {
        pin::resolve(globals, pin::images_untyped(&mut model))?;
    }
    if args.lock_image_digests {
        pin::lock_untyped(&mut model, warnings);
    }
    Ok(match args.format.as_deref() {
        Some("json") => format!("{model:#}"),
        _ => print::yaml(&model),
    })
}

fn hashes(
    project: &mut Project,
    names: &str,
    without_environment: bool,
    warnings: &mut Warnings,
) -> anyhow::Result<String> {
    let names: Vec<String> = match names {
        "*" => Vec::new(),
        names => names.split(',').map(str::to_owned).collect(),
    };
    project.select_alone(&names)?;
    if !without_environment {
        // Containers are made with their variable files read, and so is their hash.
        project.read_environments(warnings)?;
    }
    let lines = project.services.iter();
    Ok(lines.map(|(name, service)| format!("{name} {}\n", hash::service(service))).collect())
}

/// The images of services, and of what runs before them.
fn images(project: &Project) -> Vec<String> {
    let mut images = Vec::new();
    for (name, service) in &project.services {
        images.push(service.image_name(&project.name, name));
        let hooks = service.pre_start.iter().map(|hook| hook.image.as_str());
        let others = hooks.filter(|image| !image.is_empty() && *image != service.image);
        images.extend(others.map(str::to_owned));
    }
    images
}

fn show_variables(
    request: &Request,
    args: &ConfigArgs,
    warnings: &mut Warnings,
) -> anyhow::Result<String> {
    let variables = load::variables(request, warnings)?;
    match args.format.as_deref() {
        Some("json") => return Ok(format!("{:#}\n", serde_json::json!(variables))),
        Some(_) => return Ok(print::yaml(&variables)),
        None => {}
    }
    let mut rows =
        vec![["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"].map(str::to_owned)];
    for variable in variables.into_values() {
        let required = variable.required.to_string();
        rows.push([variable.name, required, variable.default, variable.alternative]);
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}   "));
        }
        line + row[3].as_str()
    };
    Ok(rows.iter().map(|row| line(row).trim_end().to_owned() + "\n").collect())
}
