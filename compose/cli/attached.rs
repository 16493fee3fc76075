//! `up` in the foreground: what containers print, until they have ended or somebody wants them to.

mod follow;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use compose::Project;
use compose::apply::{Cancel, Event};
use compose::failure::Failure;
use compose::make::labels;
use compose::observe::{Instance, Observed};
use compose::teardown;
use engine::containers::Client;
use engine::events;
use follow::Watch;
use rustix::event::{PollFd, PollFlags};

use crate::args::Globals;
use crate::down::Change;
use crate::home::{self, Here};
use crate::interrupt::{INTERRUPTED, Interrupt, News};
use crate::printer::{Printer, label};
use crate::turn::Turn;
use crate::ui;
use crate::watch::Watcher;

const KILL: i32 = 9;
/// How long somebody who has asked twice still waits for what has not been read.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody still changes the project whose containers have all ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    watched: Mutex<Watched>,
}

/// Containers that are watched now.
#[derive(Default)]
struct Watched {
    /// Their ids.
    ids: BTreeSet<String>,
    /// The ids of those that cannot be.
    lost: BTreeSet<String>,
    threads: Vec<JoinHandle<()>>,
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
                read: Arc::default(),
            },
            watched: Mutex::default(),
        })
    }

    /// Begins to watch what has been started.
    pub(crate) fn event(&self, event: &Event<'_>) {
        if let Event::Running { service, id, name, since, output } = event {
            let output = output.lock().expect("no holder panics").take();
            self.begin(service, id, name, *since, output);
        }
    }

    /// Says what is done about files that have changed.
    pub(crate) fn say(&self, text: &str) {
        self.watch.printer.say(text);
    }

    fn begin(
        &self,
        service: &str,
        id: &str,
        name: &str,
        since: Option<jiff::Timestamp>,
        output: Option<Client>,
    ) {
        let is_shown = self.shown.contains(service);
        if !is_shown && self.cascade == Cascade::None {
            return;
        }
        let mut watched = self.watched();
        // What is started anew while its last lines are printed is taken up afterwards.
        if watched.lost.contains(id) || !watched.ids.insert(id.to_owned()) {
            return;
        }
        let (service, id) = (service.to_owned(), id.to_owned());
        let label = label(&self.project, name);
        let watch = self.watch.clone();
        watched.threads.push(std::thread::spawn(move || {
            let tell = |code, restarts| {
                // Here, where somebody who does not read keeps nobody from hearing a signal.
                if is_shown {
                    let again = if restarts { " (restarting)" } else { "" };
                    ui::line(format_args!("{label} exited with code {code}{again}"));
                }
                let _ = watch.news.send(News::Ended { service: service.clone(), code });
            };
            let lines = is_shown.then_some(label.as_str());
            let followed = watch.follow(&id, lines, (since, output), &|code| tell(code, true));
            match &followed {
                Ok(Some(code)) => tell(*code, false),
                Ok(None) => {}
                Err(error) => ui::warn(format_args!("{label}: {error:#}")),
            }
            let _ = watch.news.send(News::Left { id, is_lost: followed.is_err() });
        }));
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().expect("no holder panics")
    }

    /// Begins to watch containers that run and are not watched yet, whoever has started them: that of an id, or all.
    fn take_up(&self, run: &Run<'_>, id: Option<&str>) -> anyhow::Result<()> {
        if id.is_some_and(|id| self.watched().ids.contains(id)) {
            return Ok(());
        }
        let observed = home::observe(run.here, &run.here.containers()?, &self.project)?;
        let is_meant = |it: &&Instance| {
            it.is_active()
                && !it.is_one_off()
                && run.project.services.contains_key(it.service())
                && id.is_none_or(|id| id == it.id())
        };
        for instance in observed.containers.iter().filter(is_meant) {
            let since = instance.state.started_at.parse().ok();
            self.begin(instance.service(), instance.id(), instance.name(), since, None);
        }
        Ok(())
    }

    /// Has it among the news when somebody starts a container of the project.
    fn hear_of_starts(&self) -> anyhow::Result<()> {
        let mut events =
            events::Follower::from_now(&self.watch.root).context("cannot watch the events")?;
        let (project, watch) = (self.project.clone(), self.watch.clone());
        let mut hear = move || -> std::io::Result<()> {
            loop {
                for event in events.read()? {
                    let is_ours = event.actor.attributes.get(labels::PROJECT) == Some(&project);
                    if is_ours && event.kind == "container" && event.action == "start" {
                        let _ = watch.news.send(News::Started { id: event.actor.id });
                    }
                }
                let stop = PollFd::new(&*watch.stop, PollFlags::IN);
                if events.wait(None, stop)? == events::Next::Stopped {
                    return Ok(());
                }
            }
        };
        self.watched().threads.push(std::thread::spawn(move || {
            if let Err(error) = hear() {
                ui::warn(format_args!("cannot read the events: {error}"));
            }
        }));
        Ok(())
    }

    /// Shows what containers print until there is no more, or somebody wants it to end.
    pub(crate) fn run(
        &self,
        run: &Run<'_>,
        applied: Result<(), Failure>,
    ) -> anyhow::Result<ExitCode> {
        if matches!(applied, Err(Failure::Interrupted)) {
            return self.stop_all(run, ExitCode::from(INTERRUPTED));
        }
        applied?;
        let mut first = None;
        self.hear_of_starts()?;
        tell_when_unread(run.interrupt);
        while let Some(news) = self.next(run)? {
            match news {
                News::Signal(_) => return self.stop_all(run, ExitCode::from(INTERRUPTED)),
                News::Unread => return self.stop_all(run, ExitCode::SUCCESS),
                News::Ended { service, code } => {
                    let is_cause = match self.cascade {
                        Cascade::None => false,
                        Cascade::Exit => true,
                        Cascade::Failure => code != 0,
                    };
                    let is_asked = self.exit_code_from.as_ref() == Some(&service);
                    if first.is_none() && is_cause {
                        first = Some(code);
                        run.stop("Aborting on container exit...")?;
                    }
                    if is_asked {
                        first = Some(code);
                    }
                }
                News::Left { id, is_lost } => {
                    self.watched().ids.remove(&id);
                    if is_lost {
                        self.watched().lost.insert(id);
                    } else {
                        self.take_up(run, Some(&id))?;
                        if !self.watched().ids.contains(&id) {
                            self.watch.forget(&id);
                        }
                    }
                }
                News::Started { id } => self.take_up(run, Some(&id))?,
                News::Settled | News::Done => {}
            }
        }
        self.end();
        Ok(first
            .map_or(ExitCode::SUCCESS, |code| ExitCode::from(u8::try_from(code).unwrap_or(255))))
    }

    /// The next news; none when all containers have ended, and nobody is about to start one again.
    fn next(&self, run: &Run<'_>) -> anyhow::Result<Option<News>> {
        loop {
            if run.watcher.is_some_and(Watcher::is_busy) || !self.watched().ids.is_empty() {
                return Ok(Some(run.interrupt.next()));
            }
            if Turn::is_taken(run.here, &self.project)? {
                match run.interrupt.next_within(LOOK_EVERY) {
                    None => continue,
                    news => return Ok(news),
                }
            }
            self.take_up(run, None)?;
            if self.watched().ids.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Ends, with all containers.
    fn stop_all(&self, run: &Run<'_>, code: ExitCode) -> anyhow::Result<ExitCode> {
        let asked_twice = run.stop("Gracefully Stopping... press Ctrl+C again to force")?;
        self.watch.stop.cancel();
        let stopped = Instant::now();
        // Who reads may not want to, and who waits for that may not want to any more.
        while !self.watched().ids.is_empty() {
            let news = match asked_twice {
                true => run.interrupt.next_within(LAST_LINES.saturating_sub(stopped.elapsed())),
                false => Some(run.interrupt.next()),
            };
            match news {
                Some(News::Left { id, .. }) => drop(self.watched().ids.remove(&id)),
                Some(News::Signal(signal)) => std::process::exit(128 + signal),
                Some(News::Unread) => return Ok(code),
                Some(_) => {}
                // Not by way of those who print, who may wait for ever.
                None => std::process::exit(INTERRUPTED.into()),
            }
        }
        self.end();
        Ok(code)
    }

    /// Waits for what has still to be printed.
    fn end(&self) {
        self.watch.stop.cancel();
        let threads = std::mem::take(&mut self.watched().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Run<'_> {
    /// Stops the project's containers; at once when a signal comes meanwhile. Returns whether one has.
    fn stop(&self, what: &str) -> anyhow::Result<bool> {
        let Run { globals, here, project, interrupt, timeout, watcher } = *self;
        if let Some(watcher) = watcher {
            watcher.halt();
        }
        ui::note(format_args!(" Compose Stopping {what} "));
        let asked = AtomicBool::new(false);
        let hurry = || {
            asked.store(true, Ordering::Relaxed);
            if let Err(error) = kill(here, project) {
                ui::warn(format_args!("cannot kill what runs: {error:#}"));
            }
        };
        let _turn = Turn::attend(here, &project.name, interrupt, |_| hurry())?;
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
            deadline: None,
            hurry: Some(&hurry),
        };
        change.carry_out(&plan, None)?;
        Ok(asked.load(Ordering::Relaxed))
    }
}

/// Has the end of whoever reads standard output among the news.
fn tell_when_unread(interrupt: &Interrupt) {
    // A terminal that goes away sends a signal.
    if ui::stdout_is_terminal() {
        return;
    }
    let news = interrupt.sender();
    std::thread::spawn(move || {
        ui::wait_until_unread();
        let _ = news.send(News::Unread);
    });
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
