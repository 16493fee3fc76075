//! `rbuild`: the command line. Each verb is a file; [`ui`] alone writes to the terminal.

mod annotations;
mod args;
mod attach;
mod build;
mod build_request;
mod buildx;
mod cache_flags;
mod check;
mod checks;
mod commit;
mod completion;
mod compose;
mod connect;
mod container_diff;
mod container_export;
mod container_inspect;
mod container_row;
mod context;
mod contexts;
mod cp;
mod create_args;
mod df;
mod diff;
mod enter;
mod error;
mod events;
mod exec;
mod explain;
mod failure;
mod files;
mod format;
mod groups;
mod history;
mod image_inspect;
mod images;
mod import;
mod in_use;
mod info;
mod inspect;
mod journal;
mod layout;
mod lifecycle;
mod limits;
mod list_flags;
mod load;
mod login;
mod logs;
mod manifest;
mod misuse;
mod network;
mod output;
mod paths;
mod platforms;
mod port;
mod port_map;
mod processes;
mod progress;
mod prune;
mod ps;
mod publish;
mod pull;
mod push;
mod reconcile;
mod registries;
mod resolve;
mod run;
mod save;
mod secrets;
mod shell;
mod signals;
mod stats;
mod tags;
mod terminal;
mod top;
mod transfers;
mod ui;
mod update;
mod usage;
mod volume;
mod volume_row;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser};

fn main() -> ExitCode {
    if engine::container::is_init() {
        engine::container::init_main();
    }
    if engine::containers::is_monitor() {
        engine::containers::monitor_main();
    }
    completion::answer();
    // Cannot fail: the set of no signals is a set.
    let _ = engine::signals::let_all_come();
    engine::open_files::raise_limit();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let Some(too_few) = misuse::too_few(&error) else { return ui::usage(&error) };
            ui::error(&too_few);
            return ExitCode::FAILURE;
        }
    };
    let done = verb(cli).and_then(|code| ui::answered().map(|()| code));
    match done {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(error::exit_code(&error))
        }
    }
}

/// Reads the command line and the variables that stand for options; an empty one is none.
fn parse() -> Result<args::Cli, clap::Error> {
    const VARIABLES: [(&str, &str); 2] =
        [("root", "RBUILD_ROOT"), ("storage_driver", "RBUILD_DRIVER")];
    let argv = args::normalize(std::env::args_os().collect());
    let empty = |variable| std::env::var_os(variable).is_some_and(|value| value.is_empty());
    if !VARIABLES.iter().any(|(_, variable)| empty(variable)) {
        return args::Cli::try_parse_from(argv);
    }
    let mut command = args::Cli::command();
    for (option, _) in VARIABLES.iter().filter(|(_, variable)| empty(variable)) {
        command = command.mut_arg(option, |option| option.env(None::<&str>));
    }
    let matches = command.clone().try_get_matches_from(argv)?;
    args::Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn verb(cli: args::Cli) -> anyhow::Result<ExitCode> {
    let home = paths::Home { root: paths::store_root(cli.root), driver: cli.storage_driver };
    let root = &home.root;
    match cli.verb {
        args::Verb::Build(build) => build::build(&home, *build),
        args::Verb::Run(run) => {
            paths::need_root("run containers").context(error::RunFailed)?;
            run::run(&home, &run)
        }
        args::Verb::Create(create) => run::create_verb(&home, &create),
        args::Verb::Start(args) => lifecycle::start_verb(&home, &args),
        args::Verb::Stop(args) => lifecycle::stop_verb(&home, &args),
        args::Verb::Restart(args) => lifecycle::restart(&home, &args),
        args::Verb::Kill(args) => lifecycle::kill(&home, &args),
        args::Verb::Rm(args) => lifecycle::rm(&home, &args),
        args::Verb::Wait(args) => lifecycle::wait(&home, &args),
        args::Verb::Pause(args) => lifecycle::pause(&home, &args),
        args::Verb::Unpause(args) => lifecycle::unpause(&home, &args),
        args::Verb::Rename(args) => lifecycle::rename(&home, &args),
        args::Verb::Ps(args) => ps::ps(root, &args),
        args::Verb::Logs(args) => logs::logs(root, &args),
        args::Verb::Top(args) => top::top(root, &args),
        args::Verb::Stats(args) => stats::stats(root, &args),
        args::Verb::Port(args) => port::port(root, &args),
        args::Verb::Cp(args) => cp::cp(&home, &args),
        args::Verb::Commit(args) => commit::commit(&home, &args),
        args::Verb::Export(args) => container_export::export(&home, &args),
        args::Verb::Exec(args) => exec::exec_verb(&home, &args),
        args::Verb::Pid(args) => enter::pid(&home, &args),
        args::Verb::Enter(args) => enter::enter(&home, &args),
        args::Verb::Update(args) => update::update(&home, &args),
        args::Verb::Events(args) => events::events(root, &args),
        args::Verb::Attach(args) => attach::attach(&home, &args),
        args::Verb::Volume { verb } => volume::volume(root, &verb),
        args::Verb::Network { verb } => network::network(
            root,
            &verb,
            |args| connect::connect(&home, args),
            |args| connect::disconnect(&home, args),
        ),
        args::Verb::Explain(explain) => explain::explain(root, &explain),
        args::Verb::Shell(shell) => {
            paths::need_root("run containers")?;
            shell::shell(&home, &shell)
        }
        args::Verb::Diff(diff) => diff::diff(&home, &diff),
        args::Verb::Save(args) => save::save(root, &args),
        args::Verb::Load(args) => load::load(&home, &args),
        args::Verb::Login(args) => login::login(&args),
        args::Verb::Logout(args) => login::logout(&args),
        args::Verb::Pull(args) => pull::pull(&home, &args),
        args::Verb::Manifest { verb } => manifest::manifest(&home, &verb),
        args::Verb::Push(args) => push::push(&home, &args),
        args::Verb::Import(import) => import::import(&home, &import),
        args::Verb::Images(args) => images::images(root, &args),
        args::Verb::Inspect(args) => inspect::inspect(&home, &args),
        args::Verb::History(args) => history::history(root, &args),
        args::Verb::Tag(args) => tags::tag(root, &args),
        args::Verb::Rmi(args) => tags::remove(root, &args),
        args::Verb::Container { verb } => groups::container(&home, &verb),
        args::Verb::Image { verb } => groups::image(&home, &verb),
        args::Verb::Builder { verb } => groups::builder(root, &verb),
        args::Verb::Buildx { verb } => buildx::buildx(root, verb),
        args::Verb::System { verb } => groups::system(&home, &verb),
        args::Verb::Compose(args) => compose::compose(&args),
        args::Verb::Completion(args) => completion::completion(&args),
        args::Verb::Man(args) => completion::man(&args),
        args::Verb::Info(args) => info::info(&home, &args),
        args::Verb::Version(args) => info::version(&args),
    }
}
