//! `push`: images of services to their registries.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use compose::apply::{Cancel, Event};
use compose::failure::Failure;

use crate::args::Globals;
use crate::commands::Rbuild;
use crate::home;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::ui;

/// What `push` is told.
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// Push what can be pushed
    #[arg(long)]
    ignore_push_failures: bool,
    /// Push the images of dependencies as well
    #[arg(long)]
    include_deps: bool,
    /// Show no progress of uploads
    #[arg(short, long)]
    quiet: bool,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Pushes.
pub(crate) fn push(globals: &Globals, args: &PushArgs) -> anyhow::Result<ExitCode> {
    let mut project = home::load(globals, &args.services)?;
    if !args.include_deps {
        project.select_alone(&args.services)?;
    }
    let progress = Progress::new(&globals.progress, "push");
    let tell = |name: &str, what: &str, done: bool| {
        if !args.quiet || !done {
            progress.event(&Event::Progress { kind: "", name, what, cause: "", done });
        }
    };
    let mut images: Vec<&str> = Vec::new();
    for (name, service) in &project.services {
        match &service.build {
            Some(build) if !service.image.is_empty() => {
                images.push(&service.image);
                images.extend(build.tags.iter().map(String::as_str));
            }
            _ if service.image.is_empty() || service.build.is_none() => tell(name, "Skipped", true),
            _ => {}
        }
    }
    images.sort_unstable();
    images.dedup();
    if globals.dry_run {
        images.iter().for_each(|image| ui::line(format_args!("Image {image}: push")));
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = Interrupt::take()?;
    let cancel = Cancel::new()?;
    let commands =
        Rbuild { globals, project: &project, cancel: &cancel, quiet_build: true, build: None };
    let failed: Mutex<Option<Failure>> = Mutex::default();
    let one = |image: &str| {
        tell(image, "Pushing", false);
        match commands.push(image) {
            Ok(()) => tell(image, "Pushed", true),
            Err(failure) if args.ignore_push_failures && !cancel.is_canceled() => {
                ui::warn(ui::chain(&failure));
            }
            Err(failure) => {
                let mut first = failed.lock().expect("no holder panics");
                if first.is_none() {
                    tell(image, "Error", true);
                    *first = Some(failure);
                }
                cancel.cancel();
            }
        }
    };
    let next = AtomicUsize::new(0);
    let threads = globals.parallel().unwrap_or(images.len()).min(images.len());
    let ended = interrupt.during(&cancel, || {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if !cancel.is_canceled() {
                            one(image);
                        }
                    }
                });
            }
        });
        Ok(ExitCode::SUCCESS)
    });
    match failed.into_inner().expect("no holder panics") {
        Some(failure) => Err(failure.into()),
        None => ended,
    }
}
