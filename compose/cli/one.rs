//! What is done with one container of a service by the verb of the same name of `rbuild`: `exec`, `attach`, `cp`,
//! `commit`, `export`.

use std::fs::File;
use std::io::Seek;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::{ArgAction, Args};
use compose::apply::Event;
use compose::observe::{Instance, Observed};

use crate::args::Globals;
use crate::commands::{program, rbuild, turn_into};
use crate::home::{self, Here};
use crate::progress::Progress;
use crate::run::{ProcessArgs, Words};
use crate::ui;

/// What `exec` is told.
#[derive(Args, Debug)]
#[command(
    disable_help_subcommand = true,
    args_override_self = true,
    override_usage = "rcompose exec [OPTIONS] SERVICE COMMAND [ARGS...]"
)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    process: ProcessArgs,
    /// Give it all capabilities
    #[arg(long)]
    privileged: bool,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    #[command(subcommand)]
    words: Option<Words>,
}

/// What `attach` is told.
#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    /// Send no input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// The keys that leave the container alone, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The service
    service: String,
}

/// What `cp` is told.
#[derive(Args, Debug)]
pub(crate) struct CpArgs {
    /// Give what is copied into a container to the user it runs as
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link points to, not the link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    /// Copy into all containers of the service
    #[arg(long)]
    all: bool,
    /// SERVICE:PATH, a path here, or - for a tar on standard input
    #[arg(value_name = "SOURCE")]
    from: String,
    /// SERVICE:PATH, a path here, or - for a tar on standard output
    #[arg(value_name = "DESTINATION")]
    to: String,
}

/// What `commit` is told.
#[derive(Args, Debug)]
pub(crate) struct CommitArgs {
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    /// Who made the image
    #[arg(short, long)]
    author: Option<String>,
    /// What to say in the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// Dockerfile instruction to apply
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Pause the container meanwhile
    #[arg(short, long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: bool,
    /// The service
    service: String,
    /// The image's name
    name: Option<String>,
}

/// What `export` is told.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<std::path::PathBuf>,
    /// The service
    service: String,
}

/// What there is of a project.
fn observed(globals: &Globals, what: &str) -> anyhow::Result<Observed> {
    let (_, name) = home::project_or_name(globals, &[])?;
    let here = Here::open(globals, what)?;
    home::observe(&here, &here.containers()?, &name)
}

/// A service's containers that are asked for by number, 0 is any: those of `up` first, in the order of their numbers.
fn of_service<'a>(observed: &'a Observed, service: &str, index: u32) -> Vec<&'a Instance> {
    let is_wanted = |it: &&Instance| {
        it.service() == service && (index == 0 || !it.is_one_off() && it.number() == index)
    };
    let mut all: Vec<&Instance> = observed.containers.iter().filter(is_wanted).collect();
    all.sort_by_key(|it| it.is_one_off());
    all
}

/// The first of a service's containers that run.
fn running<'a>(observed: &'a Observed, service: &str, index: u32) -> anyhow::Result<&'a Instance> {
    let all = of_service(observed, service, index);
    match all.into_iter().find(|it| it.state.status.is_active()) {
        Some(instance) => Ok(instance),
        None if index > 0 => bail!("service {service:?} is not running container #{index}"),
        None => bail!("service {service:?} is not running"),
    }
}

/// Adds options that are on.
fn switch<'a>(command: &mut Command, options: impl IntoIterator<Item = (&'a str, bool)>) {
    let on = options.into_iter().filter(|(_, is_on)| *is_on);
    command.args(on.map(|(flag, _)| flag));
}

/// Adds options that have a value.
fn add<'a>(
    command: &mut Command,
    options: impl IntoIterator<Item = (&'a str, &'a Option<String>)>,
) {
    for (flag, value) in options {
        if let Some(value) = value {
            command.args([flag, value]);
        }
    }
}

/// Runs another command in a container.
pub(crate) fn exec(globals: &Globals, args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let [service, words @ ..] = Words::at_least(args.words.as_ref(), 2)? else {
        bail!("no service is named");
    };
    let observed = observed(globals, "run commands in containers")?;
    let instance = running(&observed, service, args.index)?;
    let mut command = rbuild(globals);
    command.arg("exec");
    let process = &args.process;
    switch(
        &mut command,
        [
            ("--detach", process.detach),
            ("--interactive", process.has_input()),
            ("--tty", process.has_terminal()),
            ("--privileged", args.privileged),
        ],
    );
    add(&mut command, [("--user", &process.user), ("--workdir", &process.workdir)]);
    for variable in &process.env {
        command.args(["--env", variable]);
    }
    if globals.dry_run {
        ui::line(format_args!("Container {}: run {}", instance.name(), words.join(" ")));
        return Ok(ExitCode::SUCCESS);
    }
    command.arg(instance.id()).args(words);
    turn_into(command)
}

/// Connects with a container.
pub(crate) fn attach(globals: &Globals, args: &AttachArgs) -> anyhow::Result<ExitCode> {
    let observed = observed(globals, "attach to containers")?;
    let instance = running(&observed, &args.service, args.index)?;
    let mut command = rbuild(globals);
    command.arg("attach").arg(format!("--sig-proxy={}", args.sig_proxy));
    if args.no_stdin {
        command.arg("--no-stdin");
    }
    add(&mut command, [("--detach-keys", &args.detach_keys)]);
    if globals.dry_run {
        ui::line(format_args!("Container {}: attach", instance.name()));
        return Ok(ExitCode::SUCCESS);
    }
    command.arg(instance.id());
    turn_into(command)
}

/// Splits `SERVICE:PATH`. What begins with a slash or a dot is a path here.
fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once(':') {
        Some((name, path)) if !argument.starts_with(['/', '.']) => (Some(name), path),
        _ => (None, argument),
    }
}

/// Copies.
pub(crate) fn cp(globals: &Globals, args: &CpArgs) -> anyhow::Result<ExitCode> {
    let (service, is_into) = match (split(&args.from).0, split(&args.to).0) {
        (Some(_), Some(_)) => bail!("copying between services is not supported"),
        (None, None) => bail!("unknown copy direction"),
        (Some(service), None) => (service, false),
        (None, Some(service)) => (service, true),
    };
    let observed = observed(globals, "copy files of containers")?;
    let mut instances = of_service(&observed, service, args.index);
    // Those that `run` has made only if they are asked for.
    instances.retain(|it| args.all || !it.is_one_off());
    if instances.is_empty() {
        match args.index {
            0 => bail!("no container found for service {service:?}"),
            index => bail!("service {service:?} is not running container #{index}"),
        }
    }
    if !is_into {
        instances.truncate(1);
    }
    // What is given once is there for all of them.
    let input = match args.from == "-" && instances.len() > 1 && !globals.dry_run {
        true => Some(held_input()?),
        false => None,
    };
    let progress = Progress::new(&globals.progress, "cp");
    for instance in instances {
        let place = |argument: &str, container: &str| match split(argument) {
            (Some(_), path) => format!("{container}:{path}"),
            (None, path) => path.to_owned(),
        };
        let way = format!(
            "{} to {}",
            place(&args.from, instance.name()),
            place(&args.to, instance.name())
        );
        let tell = |what: &str, done| {
            let what = format!("{what} {way}");
            let name = instance.name();
            progress.event(&Event::Progress { kind: "", name, what: &what, cause: "", done });
        };
        let mut command = rbuild(globals);
        command.arg("cp").arg("--quiet");
        switch(&mut command, [("--archive", args.archive), ("--follow-link", args.follow_link)]);
        command.args([place(&args.from, instance.id()), place(&args.to, instance.id())]);
        if let Some(mut input) = input.as_ref() {
            input.rewind().context("cannot read standard input again")?;
            command.stdin(input.try_clone().context("cannot read standard input again")?);
        }
        if globals.dry_run {
            ui::line(format_args!("Container {}: copy {way}", instance.name()));
            continue;
        }
        tell("Copying", false);
        if !finished(command)? {
            return Ok(ExitCode::FAILURE);
        }
        tell("Copied", true);
    }
    Ok(ExitCode::SUCCESS)
}

/// All of standard input, to be read more than once.
fn held_input() -> anyhow::Result<File> {
    let held = || -> std::io::Result<File> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("rcompose-input", flags)?);
        std::io::copy(&mut std::io::stdin(), &mut file)?;
        Ok(file)
    };
    held().context("cannot hold standard input")
}

/// Runs a command to its end; whether it was a success. What it has to say it says itself.
fn finished(mut command: Command) -> anyhow::Result<bool> {
    let status = command.status();
    Ok(status.with_context(|| format!("cannot start {}", program().display()))?.success())
}

/// Tells of something that is done to a container.
fn tell(globals: &Globals, instance: &Instance, what: &str, done: bool) {
    let name = instance.name();
    let event = Event::Progress { kind: "", name, what, cause: "", done };
    Progress::new(&globals.progress, "cp").event(&event);
}

/// Makes an image of a container.
pub(crate) fn commit(globals: &Globals, args: &CommitArgs) -> anyhow::Result<ExitCode> {
    let observed = observed(globals, "make images of containers")?;
    let instance = running(&observed, &args.service, args.index)?;
    let mut command = rbuild(globals);
    command.arg("commit").arg(format!("--pause={}", args.pause));
    add(&mut command, [("--author", &args.author), ("--message", &args.message)]);
    for change in &args.change {
        command.args(["--change", change]);
    }
    command.arg(instance.id()).args(&args.name);
    if globals.dry_run {
        ui::line(format_args!("Container {}: commit", instance.name()));
        return Ok(ExitCode::SUCCESS);
    }
    tell(globals, instance, "Committing", false);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", program().display()))?;
    if !output.status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let id = String::from_utf8_lossy(&output.stdout);
    tell(globals, instance, &format!("Committed as {}", id.trim()), true);
    Ok(ExitCode::SUCCESS)
}

/// Writes a container's files as a tar.
pub(crate) fn export(globals: &Globals, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let observed = observed(globals, "read files of containers")?;
    let instance = running(&observed, &args.service, args.index)?;
    let mut command = rbuild(globals);
    command.arg("export");
    if let Some(path) = &args.output {
        command.arg("--output").arg::<&Path>(path);
    }
    command.arg(instance.id());
    if globals.dry_run {
        ui::line(format_args!("Container {}: export", instance.name()));
        return Ok(ExitCode::SUCCESS);
    }
    tell(globals, instance, "Exporting", false);
    turn_into(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_stands_before_a_colon_but_in_no_path() {
        for (argument, expected) in [
            ("web:/x", (Some("web"), "/x")),
            ("web:x:y", (Some("web"), "x:y")),
            ("./a:b", (None, "./a:b")),
            ("/a:b", (None, "/a:b")),
            ("-", (None, "-")),
        ] {
            assert_eq!(split(argument), expected, "{argument}");
        }
    }
}
