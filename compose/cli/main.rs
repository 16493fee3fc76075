//! `rcompose`: the command line of compose. Each verb is a file; [`ui`] alone writes to the terminal.

mod args;
mod attached;
mod build;
mod commands;
mod config;
mod down;
mod ending;
mod events;
mod fetch;
mod home;
mod images;
mod interrupt;
mod lifecycle;
mod logs;
mod ls;
mod one;
// Where things are kept is the same for both programs.
#[path = "../../engine/cli/paths.rs"]
mod paths;
mod pin;
mod port;
mod printer;
mod progress;
mod ps;
mod pull;
mod push;
mod run;
mod scale;
mod stats;
// So is what they answer on.
#[path = "../../engine/cli/terminal.rs"]
mod terminal;
// So is how text fits into a line.
mod passing;
#[path = "../../engine/cli/progress/text.rs"]
mod text;
mod top;
mod turn;
mod ui;
mod up;
mod volumes;
mod wait;
mod watch;

// How things look is the same for both programs, each of which uses a part of it.
#[allow(dead_code)]
#[path = "../../engine/cli/container_row.rs"]
mod container_row;
#[allow(dead_code)]
#[path = "../../engine/cli/format.rs"]
mod format;
#[path = "../../engine/cli/ps/pattern.rs"]
mod pattern;
#[allow(dead_code)]
#[path = "../../engine/cli/port_map.rs"]
mod port_map;
#[path = "../../engine/cli/processes.rs"]
mod processes;
#[path = "../../engine/cli/usage.rs"]
mod usage;
#[path = "../../engine/cli/volume_row.rs"]
mod volume_row;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use args::Globals;

/// Runs compose files.
#[derive(Parser)]
#[command(name = "rcompose", version, disable_help_subcommand = true, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// What is to be done.
#[derive(Subcommand)]
enum Verb {
    /// Connect this terminal with a service's container
    Attach(one::AttachArgs),
    /// Build images of services
    Build(build::BuildArgs),
    /// Make an image of what a service's container has changed
    Commit(one::CommitArgs),
    /// Copy files between a service's container and here
    Cp(one::CpArgs),
    /// Parse, resolve and render compose files in canonical format
    #[command(alias = "convert")]
    Config(config::ConfigArgs),
    /// Create containers for services
    Create(up::CreateVerb),
    /// Stop and remove containers and networks
    Down(down::DownArgs),
    /// Show what happens to containers
    Events(events::EventsArgs),
    /// List the images of containers
    Images(images::ImagesArgs),
    /// Run a command in a service's container that runs
    Exec(one::ExecArgs),
    /// Write the files of a service's container as a tar
    Export(one::ExportArgs),
    /// Kill containers, or send them a signal
    Kill(lifecycle::KillArgs),
    /// Show what containers have printed
    Logs(logs::LogsArgs),
    /// List projects
    #[command(alias = "list")]
    Ls(ls::LsArgs),
    /// Freeze containers
    Pause(lifecycle::NamesArgs),
    /// Show where a service's ports are published
    Port(port::PortArgs),
    /// List containers
    Ps(ps::PsArgs),
    /// Start stopped containers again
    Restart(lifecycle::RestartArgs),
    /// Bring the images of services from registries
    Pull(pull::PullArgs),
    /// Send the images of services to registries
    Push(push::PushArgs),
    /// Remove stopped containers
    Rm(lifecycle::RmArgs),
    /// Run a command in a new container of a service
    Run(Box<run::RunArgs>),
    /// Have so many containers of services
    Scale(scale::ScaleArgs),
    /// Start containers that are there
    Start(lifecycle::StartArgs),
    /// Show what containers use
    Stats(stats::StatsArgs),
    /// Stop containers
    Stop(lifecycle::StopArgs),
    /// Show the processes of containers
    Top(top::TopArgs),
    /// Let frozen containers go on
    Unpause(lifecycle::NamesArgs),
    /// Create and start containers
    Up(up::UpArgs),
    /// List volumes
    Volumes(volumes::VolumesArgs),
    /// Wait until containers of services have ended
    Wait(wait::WaitArgs),
    /// Follow the files of sources: build anew, copy or restart when they change
    Watch(watch::WatchArgs),
    /// Show the version
    Version(VersionArgs),
}

/// What `version` is told.
#[derive(clap::Args)]
struct VersionArgs {
    /// Only the number
    #[arg(long)]
    short: bool,
    /// pretty or json
    #[arg(short, long, default_value = "pretty")]
    format: String,
}

fn main() -> ExitCode {
    if engine::container::is_init() {
        engine::container::init_main();
    }
    if engine::containers::is_monitor() {
        engine::containers::monitor_main();
    }
    engine::open_files::raise_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ui::usage(&error),
    };
    let done = verb(&cli.globals, cli.verb);
    match done.and_then(|code| ui::answered().map(|()| code)) {
        Ok(code) => code,
        Err(error) => ui::failed(&error),
    }
}

fn verb(globals: &Globals, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Attach(args) => one::attach(globals, &args),
        Verb::Build(args) => build::build(globals, &args),
        Verb::Commit(args) => one::commit(globals, &args),
        Verb::Cp(args) => one::cp(globals, &args),
        Verb::Exec(args) => one::exec(globals, &args),
        Verb::Export(args) => one::export(globals, &args),
        Verb::Pull(args) => pull::pull(globals, &args),
        Verb::Push(args) => push::push(globals, &args),
        Verb::Run(args) => run::run(globals, &args),
        Verb::Scale(args) => scale::scale(globals, &args),
        Verb::Wait(args) => wait::wait(globals, &args),
        Verb::Config(args) => config::run(globals, &args).map(|()| ExitCode::SUCCESS),
        Verb::Create(args) => up::create(globals, args),
        Verb::Down(args) => down::down(globals, &args),
        Verb::Events(args) => events::events(globals, &args),
        Verb::Images(args) => images::images(globals, &args),
        Verb::Kill(args) => lifecycle::kill(globals, &args),
        Verb::Logs(args) => logs::logs(globals, &args),
        Verb::Ls(args) => ls::ls(globals, &args),
        Verb::Pause(args) => lifecycle::pause(globals, &args),
        Verb::Port(args) => port::port(globals, &args),
        Verb::Ps(args) => ps::ps(globals, &args),
        Verb::Restart(args) => lifecycle::restart(globals, &args),
        Verb::Rm(args) => lifecycle::rm(globals, &args),
        Verb::Start(args) => lifecycle::start(globals, &args),
        Verb::Stats(args) => stats::stats(globals, &args),
        Verb::Stop(args) => lifecycle::stop(globals, &args),
        Verb::Top(args) => top::top(globals, &args),
        Verb::Unpause(args) => lifecycle::unpause(globals, &args),
        Verb::Up(args) => up::up(globals, &args),
        Verb::Volumes(args) => volumes::volumes(globals, &args),
        Verb::Watch(args) => watch::watch(globals, &args),
        Verb::Version(args) => {
            version(&args);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn version(args: &VersionArgs) {
    let number = env!("CARGO_PKG_VERSION");
    match (args.short, args.format.as_str()) {
        (true, _) => ui::line(number),
        (false, "json") => ui::line(serde_json::json!({ "version": number })),
        (false, _) => ui::line(format_args!("rcompose version {number}")),
    }
}
