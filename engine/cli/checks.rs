//! The build checks on the terminal: `--check`, and warnings at the end of a build.

use std::process::ExitCode;

use cache::Store;
use cache::oci::Platform;
use frontend::checks::{BaseConfig, CheckOptions, Report, Scope, Warning, check};
use frontend::lines::Dockerfile;
use frontend::request::Request;
use frontend::shown::escaped;

use crate::context::Input;
use crate::progress::Style;
use crate::{failure, resolve, ui};

/// `--check`: prints what the checks found; fails when they find an error.
pub(crate) fn print(
    store: &Store,
    input: &Input,
    dockerfile: &Dockerfile,
    request: &Request,
) -> anyhow::Result<ExitCode> {
    let scope = if request.target.is_some() { Scope::Target } else { Scope::AllStages };
    let report = run(store, input, dockerfile, request, scope);
    if report.warnings.is_empty() && report.error.is_none() {
        ui::line("Check complete, no warnings found.");
        return Ok(ExitCode::SUCCESS);
    }
    if !report.warnings.is_empty() {
        let count = report.warnings.len();
        let plural = if count == 1 { "warning has" } else { "warnings have" };
        ui::line(format_args!("Check complete, {count} {plural} been found!\n"));
    }
    for warning in &report.warnings {
        ui::line(shown(warning, input));
    }
    match report.error {
        Some(error) => anyhow::bail!("{}", error.render(&input.name, &input.text())),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// What the checks find while the target is built.
pub(crate) fn warnings(
    store: &Store,
    input: &Input,
    dockerfile: &Dockerfile,
    request: &Request,
) -> Report {
    run(store, input, dockerfile, request, Scope::Target)
}

/// Tells of warnings at the end of a build.
pub(crate) fn tell(warnings: &[Warning], unused_args: &[String], style: Style, input: &Input) {
    if matches!(style, Style::Quiet | Style::None | Style::Rawjson) {
        return;
    }
    if !unused_args.is_empty() {
        let names = unused_args.join(" ");
        let names = escaped(&names);
        ui::note(format_args!("[Warning] One or more build-args [{names}] were not consumed"));
    }
    if warnings.is_empty() {
        return;
    }
    let count = warnings.len();
    let plural = if count == 1 { "warning" } else { "warnings" };
    ui::note(format_args!("\n {count} {plural} found (use --check to see the lines):"));
    for warning in warnings {
        let line = warning.lines.first().map_or(0, |lines| lines.first);
        let Warning { rule, detail, .. } = warning;
        let file = &input.name;
        ui::note(escaped(&format!(" - {rule}: {detail} ({file} line {line})")));
    }
}

fn run(
    store: &Store,
    input: &Input,
    dockerfile: &Dockerfile,
    request: &Request,
    scope: Scope,
) -> Report {
    let options = CheckOptions {
        build_args: &request.build_args,
        target: request.target.as_deref(),
        scope,
        build_platform: &request.build_platform,
        target_platform: &request.platform,
        ignores: &input.context.ignore,
    };
    check(dockerfile, &options, &mut |name, platform| base(store, name, platform))
}

fn base(store: &Store, name: &str, platform: &Platform) -> Option<BaseConfig> {
    let image = resolve::find_for(store, name, platform).ok().flatten();
    let image = image.or_else(|| resolve::find(store, name).ok().flatten())?;
    let config = image.config;
    Some(BaseConfig {
        env: config.config.env,
        shell: config.config.shell.unwrap_or_default(),
        onbuild: config.config.on_build,
        platform: Platform {
            architecture: config.architecture,
            os: config.os,
            variant: config.variant,
            ..Platform::default()
        },
    })
}

/// A warning as BuildKit prints it.
fn shown(warning: &Warning, input: &Input) -> String {
    let lines = warning.lines.first().copied().unwrap_or_default();
    let place = failure::excerpt(&input.name, &input.text(), lines.first, lines.last);
    let url = if warning.url.is_empty() { String::new() } else { format!(" - {}", warning.url) };
    let Warning { rule, description, detail, .. } = warning;
    escaped(&format!("WARNING: {rule}{url}\n{description}\n{detail}\n{place}"))
}
