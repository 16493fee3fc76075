//! `up` in the foreground: what containers print, until they have ended or somebody wants them to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::bail;
use cache::Store;
use clap::Args;
use compose::Project;
use compose::apply::{Cancel, Event};
use compose::failure::Failure;
use compose::observe::{Instance, Observed};
use compose::teardown;
use engine::containers::Containers;
use engine::containers::follow::{Follower, Next, Range};
use rustix::event::{PollFd, PollFlags};

use crate::args::Globals;
use crate::down::Change;
use crate::home::{self, Here};
use crate::interrupt::{Interrupt, News};
use crate::printer::{Printer, label};
use crate::ui;
use crate::watch::Watcher;

const KILL: i32 = 9;

/// What `up` is told of containers that it stays with.
#[derive(Args, Debug, Default)]
pub(crate) struct AttachedArgs {
    /// Stop all containers when one has ended
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stop all containers when one has failed
    #[arg(long, conflicts_with = "abort_on_container_exit")]
    abort_on_container_failure: bool,
    /// End with this service's exit code; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE")]
    exit_code_from: Option<String>,
    /// Show what these services print, and no others
    #[arg(long, value_name = "SERVICE", conflicts_with = "attach_dependencies")]
    attach: Vec<String>,
    /// Do not show what these services print
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Show what dependencies print as well
    #[arg(long)]
    attach_dependencies: bool,
    /// Print without colours
    #[arg(long)]
    no_color: bool,
    /// Print no names in front of lines
    #[arg(long)]
    no_log_prefix: bool,
    /// Print when each line was printed
    #[arg(long)]
    timestamps: bool,
    /// Kept for docker compose's sake
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    menu: Option<bool>,
}

/// What the end of a container means for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cascade {
    /// Nothing.
    None,
    /// They are stopped.
    Exit,
    /// They are stopped, if it has failed.
    Failure,
}

impl AttachedArgs {
    /// The flag by which one stays with the containers, if there is one.
    pub(crate) fn stays(&self) -> Option<&'static str> {
        let given = [
            (self.abort_on_container_exit, "--abort-on-container-exit"),
            (self.abort_on_container_failure, "--abort-on-container-failure"),
            (self.exit_code_from.is_some(), "--exit-code-from"),
            (!self.attach.is_empty(), "--attach"),
            (self.attach_dependencies, "--attach-dependencies"),
        ];
        given.iter().find(|(given, _)| *given).map(|(_, flag)| *flag)
    }

    fn cascade(&self) -> Cascade {
        match self {
            Self { abort_on_container_failure: true, .. } => Cascade::Failure,
            Self { abort_on_container_exit: true, .. } | Self { exit_code_from: Some(_), .. } => {
                Cascade::Exit
            }
            _ => Cascade::None,
        }
    }

    /// The services whose lines are shown.
    fn shown(&self, project: &Project, named: &[String]) -> anyhow::Result<BTreeSet<String>> {
        let given = self.attach.iter().chain(&self.no_attach).chain(&self.exit_code_from);
        for name in given {
            if !project.services.contains_key(name) {
                bail!("no such service: {name}");
            }
        }
        let is_shown = |(name, service): &(&String, &compose::model::Service)| {
            let chosen =
                match (self.attach.is_empty(), named.is_empty() || self.attach_dependencies) {
                    (false, _) => self.attach.contains(name),
                    (true, true) => true,
                    (true, false) => named.contains(name),
                };
            chosen && service.attach != Some(false) && !self.no_attach.contains(name)
        };
        Ok(project.services.iter().filter(is_shown).map(|(name, _)| name.clone()).collect())
    }
}

/// Containers that are watched: a thread each.
pub(crate) struct Attached {
    project: String,
    shown: BTreeSet<String>,
    cascade: Cascade,
    exit_code_from: Option<String>,
    watch: Watch,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What it takes to stay with containers.
pub(crate) struct Run<'a> {
    pub(crate) globals: &'a Globals,
    pub(crate) here: &'a Here,
    pub(crate) project: &'a Project,
    pub(crate) interrupt: &'a Interrupt,
    /// Seconds that containers have to end, if not their own.
    pub(crate) timeout: Option<i64>,
    /// What follows files, if something does: containers come and go then.
    pub(crate) watcher: Option<&'a Watcher<'a>>,
}

/// What each thread has.
#[derive(Clone)]
struct Watch {
    root: PathBuf,
    printer: Arc<Printer>,
    stop: Arc<Cancel>,
    news: Sender<News>,
}

impl Attached {
    /// Watches the services' containers that stay as they are, from now on.
    pub(crate) fn new(
        here: &Here,
        project: &Project,
        args: &AttachedArgs,
        named: &[String],
        interrupt: &Interrupt,
        ansi: &str,
    ) -> anyhow::Result<Attached> {
        let shown = args.shown(project, named)?;
        let colors = if args.no_color { ui::Colors::Never } else { ui::colors(ansi) };
        let printer = Printer::new(!args.no_log_prefix, args.timestamps, colors);
        let mut labels = Vec::new();
        for name in &shown {
            let service = &project.services[name];
            for number in 1..=u32::try_from(service.replicas()).unwrap_or(0) {
                let container = compose::make::name(project, name, service, number);
                labels.push(label(&project.name, &container));
            }
        }
        labels.iter().for_each(|label| printer.know(label));
        labels.sort();
        ui::line(format_args!("Attaching to {}", labels.join(", ")));
        Ok(Attached {
            project: project.name.clone(),
            shown,
            cascade: args.cascade(),
            exit_code_from: args.exit_code_from.clone(),
            watch: Watch {
                root: here.store.root().to_owned(),
                printer: Arc::new(printer),
                stop: Arc::new(Cancel::new()?),
                news: interrupt.sender(),
            },
            threads: Mutex::default(),
        })
    }

    /// Begins to watch what has been started.
    pub(crate) fn event(&self, event: &Event<'_>) {
        if let Event::Running { service, id, name, since } = event {
            self.begin(service, id, name, *since);
        }
    }

    /// Says what is done about files that have changed.
    pub(crate) fn say(&self, text: &str) {
        self.watch.printer.say(text);
    }

    fn begin(&self, service: &str, id: &str, name: &str, since: Option<jiff::Timestamp>) {
        let is_shown = self.shown.contains(service);
        if !is_shown && self.cascade == Cascade::None {
            return;
        }
        let (service, id) = (service.to_owned(), id.to_owned());
        let label = label(&self.project, name);
        let watch = self.watch.clone();
        let thread = std::thread::spawn(move || {
            let code = watch.follow(&id, &label, since, is_shown).unwrap_or_else(|error| {
                ui::warn(format_args!("{label}: {error:#}"));
                None
            });
            if let Some(code) = code {
                let _ = watch.news.send(News::Ended { service, label, code });
            }
        });
        self.threads.lock().expect("no holder panics").push(thread);
    }

    fn watched(&self) -> usize {
        self.threads.lock().expect("no holder panics").len()
    }

    /// Shows what containers print until there is no more, or somebody wants it to end.
    pub(crate) fn run(
        &self,
        run: &Run<'_>,
        applied: Result<(), Failure>,
    ) -> anyhow::Result<ExitCode> {
        let Run { globals, here, project, interrupt, timeout, watcher } = *run;
        let stop = |what: &str| -> anyhow::Result<()> {
            if let Some(watcher) = watcher {
                watcher.halt();
            }
            ui::note(format_args!(" Compose Stopping {what} "));
            let observed = home::observe(here, &here.containers()?, &project.name)?;
            let chosen = |instance: &Instance| {
                !instance.is_one_off() && project.services.contains_key(instance.service())
            };
            let plan = teardown::stop(Some(project), &observed, chosen, "up ends");
            let change = Change {
                globals,
                here,
                project,
                observed: &observed,
                interrupt,
                verb: "stop",
                timeout,
                hurry: Some(&|| {
                    if let Err(error) = kill(here, project) {
                        ui::warn(format_args!("cannot kill what runs: {error:#}"));
                    }
                }),
            };
            change.carry_out(&plan)
        };
        const GRACEFULLY: &str = "Gracefully Stopping... press Ctrl+C again to force";
        match applied {
            Err(Failure::Interrupted) => {
                stop(GRACEFULLY)?;
                self.end();
                return Ok(ExitCode::from(130));
            }
            applied => applied?,
        }
        let mut ended = 0;
        let mut first = None;
        while watcher.is_some_and(|it| !it.is_halted()) || ended < self.watched() {
            match interrupt.next() {
                News::Signal(_) => {
                    stop(GRACEFULLY)?;
                    self.end();
                    return Ok(ExitCode::from(130));
                }
                News::Ended { service, label, code } => {
                    ended += 1;
                    if self.shown.contains(&service) {
                        ui::line(format_args!("{label} exited with code {code}"));
                    }
                    let is_cause = match self.cascade {
                        Cascade::None => false,
                        Cascade::Exit => true,
                        Cascade::Failure => code != 0,
                    };
                    let is_asked = self.exit_code_from.as_ref() == Some(&service);
                    if first.is_none() && is_cause {
                        first = Some(code);
                        stop("Aborting on container exit...")?;
                    }
                    if is_asked {
                        first = Some(code);
                    }
                }
                News::Done => {}
            }
        }
        self.end();
        Ok(first
            .map_or(ExitCode::SUCCESS, |code| ExitCode::from(u8::try_from(code).unwrap_or(255))))
    }

    /// Waits for what has still to be printed.
    fn end(&self) {
        self.watch.stop.cancel();
        let threads = std::mem::take(&mut *self.threads.lock().expect("no holder panics"));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Watch {
    /// Prints a container's lines until it has ended; how it has. None if nobody wants to know any more.
    fn follow(
        &self,
        id: &str,
        label: &str,
        since: Option<jiff::Timestamp>,
        is_shown: bool,
    ) -> anyhow::Result<Option<i32>> {
        let store = Store::open(&self.root)?;
        let containers = Containers::open(&store)?;
        let mut follower = Follower::open(&containers, id, Range { since, ..Range::default() })?;
        follower.follow(&containers)?;
        let mut is_stopped = false;
        loop {
            while let Some(line) = follower.next_line()? {
                if is_shown {
                    self.printer.line(label, &line);
                }
            }
            if is_stopped {
                return Ok(None);
            }
            match follower.wait(PollFd::new(&*self.stop, PollFlags::IN))? {
                Next::More => {}
                // What was printed until then is shown.
                Next::Stopped => is_stopped = true,
                Next::Over => break,
            }
        }
        // One that was removed when it ended is not there to be asked.
        let code = follower.exit().or_else(|| Some(containers.observe(id).ok()?.state.exit_code));
        Ok(Some(code.unwrap_or_default()))
    }
}

/// Ends a project's containers at once.
fn kill(here: &Here, project: &Project) -> anyhow::Result<()> {
    let containers = here.containers()?;
    let observed = home::observe(here, &containers, &project.name)?;
    for instance in observed.containers.iter().filter(|it| !it.is_one_off() && it.is_active()) {
        engine::containers::stop(&containers, instance.id(), Some(KILL), Some(0))?;
    }
    Ok(())
}

/// Containers that run and stay as they are.
pub(crate) fn running<'a>(
    observed: &'a Observed,
    kept: &'a [String],
) -> impl Iterator<Item = &'a Instance> {
    let is_kept = |it: &&Instance| kept.iter().any(|name| name == it.name());
    observed.containers.iter().filter(move |it| it.is_running() && is_kept(it))
}
