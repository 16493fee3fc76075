//! `wait`: until containers have ended.

use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::bail;
use cache::Store;
use clap::Args;
use compose::observe::Instance;
use engine::containers::protocol::Request;
use engine::containers::{Client, Containers, Status};

use crate::args::Globals;
use crate::down::{self, DownArgs};
use crate::home::{self, Here};
use crate::ui;

/// What `wait` is told.
#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// Take the project down then
    #[arg(long)]
    down_project: bool,
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
}

/// Waits for the end of all containers of the services; the exit code is that of the last.
pub(crate) fn wait(globals: &Globals, args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let (_, name) = home::project_or_name(globals, &[])?;
    let here = Here::open(globals, "look at containers")?;
    let observed = home::observe(&here, &here.containers()?, &name)?;
    let is_named = |service: &str| args.services.iter().any(|name| name == service);
    // One that has ended already has its code; docker compose does not know it then.
    let has_run = |it: &&Instance| it.state.status != Status::Created;
    let ids = observed.containers.iter().filter(|it| is_named(it.service())).filter(has_run);
    let ids: Vec<&str> = ids.map(|it| it.id()).collect();
    if ids.is_empty() {
        bail!("no containers for project {name:?}");
    }
    let last: Mutex<anyhow::Result<i32>> = Mutex::new(Ok(0));
    let root = here.store.root();
    std::thread::scope(|scope| {
        for id in ids {
            let last = &last;
            scope.spawn(move || {
                let ended = end_of(root, id);
                let mut last = last.lock().expect("no holder panics");
                if let Ok(code) = &ended {
                    ui::line(format_args!("container {id:?} exited with status code {code}"));
                }
                // What could not be waited for is not forgotten over others.
                if last.is_ok() {
                    *last = ended;
                }
            });
        }
    });
    let code = last.into_inner().expect("no holder panics")?;
    if args.down_project {
        drop(here);
        down::down(globals, &DownArgs::of_all())?;
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

/// Waits for the end of a container; its exit code.
fn end_of(root: &std::path::Path, id: &str) -> anyhow::Result<i32> {
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    if let Some(mut client) = Client::connect(&containers, id, Request::Wait)?
        && let Some(code) = client.exit()?
    {
        return Ok(code);
    }
    Ok(containers.observe(id)?.state.exit_code)
}
