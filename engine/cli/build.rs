//! `build`: from what is typed to a request, and through the stations to an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use cache::Store;
use clap::Args;
use engine::graph::{NetworkMode, Op};
use engine::place;
use engine::session::{Cancel, Networks, Session};
use engine::solve::{Failure, Solution, solve};
use engine::source::{Access, Proxy};
use frontend::error::ErrorKind;
use frontend::lines;
use frontend::lower::{LowerError, Lowered, MAIN_CONTEXT, lower};
use frontend::request::{Entitlement, NoCache, Request};

use crate::cache_flags::CacheFlags;
use crate::context::{self, Input};
use crate::journal::Journal;
use crate::limits::LimitArgs;
use crate::paths::{self, Home};
use crate::progress::{Progress, Style};
use crate::resolve::Pulls;
use crate::{checks, contexts, explain, failure, output, resolve, secrets, signals, ui};

/// What `build` is told.
#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// The build context: a directory, a URL, or - for standard input
    #[arg(value_name = "PATH | URL | -", default_value = ".")]
    pub(crate) context: String,
    /// The Dockerfile (default: PATH/Dockerfile); - reads standard input
    #[arg(short, long)]
    pub(crate) file: Option<String>,
    /// The image's name
    #[arg(short, long)]
    pub(crate) tag: Vec<String>,
    /// The stage to build
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Set a build argument, or take it over from here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Give a context, image or stage of this name
    #[arg(long, value_name = "NAME=WHERE")]
    pub(crate) build_context: Vec<String>,
    /// Set a label
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Set an annotation of the manifest
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Do every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Do the steps of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Use results of steps from elsewhere, as type=local,src=DIR
    #[arg(long, value_name = "SOURCE")]
    pub(crate) cache_from: Vec<String>,
    /// Keep results of steps elsewhere, as type=local,dest=DIR,mode=max
    #[arg(long, value_name = "DEST")]
    pub(crate) cache_to: Vec<String>,
    /// Look for a newer base image
    #[arg(long)]
    pub(crate) pull: bool,
    /// A secret for RUN --mount=type=secret
    #[arg(long, value_name = "id=NAME[,src=FILE|,env=NAME]")]
    pub(crate) secret: Vec<String>,
    /// An ssh agent or keys for RUN --mount=type=ssh
    #[arg(long, value_name = "default|ID[=SOCKET|KEY,...]")]
    pub(crate) ssh: Vec<String>,
    /// What to allow: network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// The network of RUN: default, host or none
    #[arg(long, default_value = "default")]
    pub(crate) network: String,
    /// Where the result goes, as type=local,dest=DIR
    #[arg(short, long, value_name = "DEST")]
    pub(crate) output: Vec<String>,
    /// Print the image's id only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what is known of the result to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// How progress is shown
    #[arg(long, value_enum, env = "BUILDKIT_PROGRESS", default_value = "auto")]
    pub(crate) progress: Style,
    /// The platform to build for
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// How many steps run at once
    #[arg(long, value_name = "NUMBER", default_value_t = 32)]
    pub(crate) jobs: usize,
    /// Print the graph and build nothing: dot or json
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) print: Option<PrintFormat>,
    /// Check the Dockerfile and build nothing
    #[arg(long)]
    pub(crate) check: bool,
    /// What to do: build or check
    #[arg(long, default_value = "build", value_parser = ["build", "check", "lint"])]
    pub(crate) call: String,
    /// Tell why each step that ran was not cached
    #[arg(long)]
    pub(crate) explain: bool,
    /// Fail if a step had to run
    #[arg(long)]
    pub(crate) expect_cached: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Limits in one list, as memory=2g,cpu-quota=50000
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    pub(crate) resource: Vec<String>,
    #[command(flatten)]
    pub(crate) accepted: Accepted,
}

/// Flags that scripts give and that change nothing here.
#[derive(Args, Debug)]
pub(crate) struct Accepted {
    /// Accepted; images are always in the local store
    #[arg(long, hide = true)]
    pub(crate) load: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) rm: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    #[arg(long, hide = true)]
    pub(crate) compress: bool,
    #[arg(long, hide = true)]
    pub(crate) squash: bool,
    #[arg(long, hide = true)]
    pub(crate) isolation: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) security_opt: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) builder: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) provenance: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) sbom: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) attest: Vec<String>,
}

impl Accepted {
    /// Tells of flags that promise something that is not done.
    fn warn(&self) {
        let given = [
            ("--squash", self.squash),
            ("--compress", self.compress),
            ("--isolation", self.isolation.is_some()),
            ("--security-opt", !self.security_opt.is_empty()),
            ("--sbom", self.sbom.is_some()),
            ("--attest", !self.attest.is_empty()),
        ];
        for (flag, _) in given.iter().filter(|(_, given)| *given) {
            ui::note(format_args!("WARNING: {flag} has no effect"));
        }
    }
}

/// How the graph is printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PrintFormat {
    /// Graphviz
    Dot,
    /// JSON
    Json,
}

/// Builds.
pub(crate) fn build(home: &Home, args: BuildArgs) -> anyhow::Result<ExitCode> {
    args.accepted.warn();
    let cancel = Arc::new(Cancel::default());
    let store = Arc::new(home.open()?);
    signals::cancel_on_signals(cancel.clone(), &store)?;
    store.sweep()?;
    let outputs = output::parse(&args.output, &args.tag)?;
    let cache_flags = CacheFlags::parse(&args.cache_from, &args.cache_to)?;
    let secrets = secrets::read(&args.secret)?;
    let find_secret = |id: &str| secrets.get(id).cloned();
    let access = access(&args, &find_secret);
    let input = context::open(&store, &access, &args.context, args.file.as_deref())?;
    let request = request(&args)?;
    let dockerfile = lines::parse(&input.dockerfile).map_err(|error| {
        let error = frontend::error::Error::new(ErrorKind::Text(error.kind), error.lines);
        anyhow::anyhow!("{}", error.render(&input.name, &input.text()))
    })?;
    if args.check || args.call != "build" {
        return checks::print(&store, &input, &dockerfile, &request);
    }
    let (request, contexts) = contexts::add(&store, &access, request, &args.build_context)?;
    let pulls = if args.pull { Pulls::Always } else { Pulls::Missing };
    let lowered = match lower(&dockerfile, &request, &mut |name, platform| {
        resolve::base(&store, name, platform, pulls, args.quiet).map_err(Into::into)
    }) {
        Ok(lowered) => lowered,
        Err(error) => return Err(shown(error, &input)),
    };
    if let Some(format) = args.print {
        return print_graph(&lowered, format);
    }
    let mut work = Work { store: &store, args: &args, input: &input, lowered: &lowered };
    let warnings = checks::warnings(&store, &input, &dockerfile, &request);
    let session = Session {
        store: &store,
        contexts: contexts::all(&input, contexts),
        mounts: Default::default(),
        imports: &cache_flags.imports(),
        secrets: secrets.clone(),
        ssh: secrets::agents(&store, &args.ssh)?,
        access,
        jobs: args.jobs.max(1),
        epoch: epoch(&request)?,
        networks: &Networks::new(&crate::paths::network_dir(), 2),
        cancel: &cancel,
        listener: &|_| {},
    };
    if let Some(error) = &warnings.error {
        bail!("{}", error.render(&input.name, &input.text()));
    }
    let (solution, image) = work.solve(session)?;
    let style = args.effective_style();
    checks::tell(&warnings.warnings, &lowered.unused_args, style, &input);
    output::write(&store, &image, &outputs, epoch(&request)?)?;
    cache_flags.export(&store, &solution)?;
    work.tell(&image, style)
}

impl BuildArgs {
    fn effective_style(&self) -> Style {
        match self.progress {
            _ if self.quiet => Style::Quiet,
            Style::Auto if ui::is_terminal() => Style::Tty,
            Style::Auto => Style::Plain,
            style => style,
        }
    }
}

/// A build under way.
struct Work<'a> {
    store: &'a Store,
    args: &'a BuildArgs,
    input: &'a Input,
    lowered: &'a Lowered,
}

impl Work<'_> {
    /// Runs what has to be run, and makes an image of it in the store.
    fn solve(&mut self, session: Session<'_>) -> anyhow::Result<(Solution, cache::image::Image)> {
        let definition = &self.lowered.definition;
        self.check_root()?;
        let id =
            Journal::id(&self.input.context_name, &self.input.name, self.args.target.as_deref());
        let earlier = Journal::load(self.store, Some(id));
        let progress =
            Progress::start(definition, self.lowered.target, self.args.effective_style());
        let listener = |event: engine::progress::Event<'_>| progress.event(event);
        let epoch = session.epoch;
        let session = Session { listener: &listener, ..session };
        let solved = solve(&session, definition, self.lowered.target);
        progress.finish();
        CacheFlags::tell_problems(session.imports);
        let steps = match &solved {
            Ok(solution) => &solution.steps,
            Err(failure) => &failure.steps,
        };
        let what = format!("{} ({})", self.input.context_name, self.input.name);
        let journal = Journal::new(what, definition, steps, earlier.as_ref());
        let kept = journal.save(self.store, id);
        let solution = solved.map_err(|failure| self.failed(*failure, &progress, &kept))?;
        kept?;
        if self.args.explain {
            ui::note(explain::text(self.store, &journal)?);
        }
        if self.args.expect_cached {
            explain::expect_cached(self.store, &journal)?;
        }
        let image = self.image(&solution, epoch)?;
        Ok((solution, image))
    }

    /// Whatever writes files mounts what it writes to.
    fn check_root(&self) -> anyhow::Result<()> {
        let definition = &self.lowered.definition;
        let needed = definition.needed(self.lowered.target);
        let mut ops = definition.vertices.iter().zip(needed).filter(|(_, needed)| *needed);
        match ops.any(|(vertex, _)| matches!(vertex.op, Op::Run(_) | Op::Copy(_) | Op::Mkdir(_))) {
            true => paths::need_root("build file systems"),
            false => Ok(()),
        }
    }

    fn failed(
        &self,
        failure: Failure,
        progress: &Progress<'_>,
        journal: &anyhow::Result<()>,
    ) -> anyhow::Error {
        let text = self.input.text();
        let (definition, file) = (&self.lowered.definition, &self.input.name);
        failure::describe(failure, definition, progress, journal, file, &text)
    }

    /// Puts the image into the store, under its names.
    fn image(
        &self,
        solution: &Solution,
        epoch: Option<i64>,
    ) -> anyhow::Result<cache::image::Image> {
        let made: BTreeMap<_, _> =
            solution.steps.iter().map(|step| (step.vertex, step.created)).collect();
        let own = self.lowered.history.iter().map(|vertex| vertex.and_then(|vertex| made[&vertex]));
        let times: Vec<Option<i64>> =
            std::iter::repeat_n(None, self.lowered.base_history).chain(own).collect();
        let config =
            engine::export::complete(self.lowered.image.clone(), &solution.layers, &times, epoch);
        let annotations = pairs(&self.args.annotation, "--annotation")?;
        let annotations = annotations
            .into_iter()
            .map(|(name, value)| {
                (name.strip_prefix("manifest:").unwrap_or(&name).to_owned(), value)
            })
            .collect();
        let (digest, _) = self.store.put_image(&config, &annotations)?;
        Ok(self.store.read_image(&digest)?)
    }

    /// Says what was made, where it was asked for.
    fn tell(&self, image: &cache::image::Image, style: Style) -> anyhow::Result<ExitCode> {
        let id = image.id();
        if let Some(path) = &self.args.iidfile {
            place::write(path, id.to_string().as_bytes())?;
        }
        if let Some(path) = &self.args.metadata_file {
            place::write(path, &output::metadata(self.store, image, &self.args.tag)?)?;
        }
        if style == Style::Quiet {
            ui::line(id);
        } else if style != Style::None {
            output::tell(image, &self.args.tag);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The Dockerfile's error in the Dockerfile's text.
fn shown(error: LowerError, input: &Input) -> anyhow::Error {
    match error {
        LowerError::File(error) => {
            anyhow::anyhow!("{}", error.render(&input.name, &input.text()))
        }
        LowerError::Base { image, lines, source } => {
            let place = failure::excerpt(&input.name, &input.text(), lines.first, lines.last);
            anyhow::anyhow!("failed to resolve {image}: {source:#}\n{place}")
        }
    }
}

fn print_graph(lowered: &Lowered, format: PrintFormat) -> anyhow::Result<ExitCode> {
    match format {
        PrintFormat::Json => {
            let graph = serde_json::json!({
                "target": lowered.target,
                "vertices": lowered.definition.vertices,
                "image": lowered.image,
            });
            ui::line(serde_json::to_string_pretty(&graph)?);
        }
        PrintFormat::Dot => ui::raw(lowered.definition.to_dot(lowered.target).as_bytes()),
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: &BuildArgs) -> anyhow::Result<Request> {
    let mut build_args = BTreeMap::new();
    for name in ["SOURCE_DATE_EPOCH"] {
        if let Ok(value) = std::env::var(name) {
            build_args.insert(name.to_owned(), value);
        }
    }
    for given in &args.build_arg {
        match given.split_once('=') {
            Some(("", _)) => bail!("invalid key-value pair {given:?}: empty key"),
            Some((name, value)) => drop(build_args.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Ok(value) = std::env::var(given) {
                    build_args.insert(given.clone(), value);
                }
            }
        }
    }
    let mut limits = args.limits.clone();
    limits.add_resources(&args.resource)?;
    let platform = match &args.platform {
        Some(text) if text.contains(',') => {
            bail!("--platform {text}: build one platform at a time")
        }
        Some(text) => frontend::platform::parse(text).context("--platform")?,
        None => frontend::platform::host(),
    };
    let hostname = build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned();
    let namespace = build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned();
    Ok(Request {
        target: args.target.clone(),
        labels: pairs(&args.label, "--label")?,
        platform,
        build_platform: frontend::platform::host(),
        no_cache: match (args.no_cache, args.no_cache_filter.is_empty()) {
            (true, _) => NoCache::All,
            (false, true) => NoCache::Never,
            (false, false) => NoCache::Stages(args.no_cache_filter.clone()),
        },
        contexts: BTreeMap::new(),
        network: network(&args.network)?,
        allowed: allowed(&args.allow)?,
        hostname: hostname.unwrap_or_else(|| "buildkitsandbox".to_owned()),
        extra_hosts: limits.hosts()?,
        shm_size: limits.shm_bytes()?,
        ulimits: limits.rlimits()?,
        resources: limits.resources()?,
        cgroup_parent: limits.cgroup_parent.clone(),
        cache_mount_namespace: namespace.unwrap_or_default(),
        build_args,
    })
}

fn network(text: &str) -> anyhow::Result<NetworkMode> {
    match text {
        "default" | "bridge" | "" => Ok(NetworkMode::Default),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => {
            bail!("network mode {other:?} not supported by a build: use default, host or none")
        }
    }
}

fn allowed(given: &[String]) -> anyhow::Result<BTreeSet<Entitlement>> {
    let one = |text: &String| match text.as_str() {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        other => bail!("--allow {other}: known are network.host and security.insecure"),
    };
    given.iter().map(one).collect()
}

/// `NAME=VALUE`s; one without a value has an empty one.
fn pairs(given: &[String], flag: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => bail!("{flag} {text}: expected NAME=VALUE"),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    };
    given.iter().map(pair).collect()
}

fn epoch(request: &Request) -> anyhow::Result<Option<i64>> {
    let Some(text) = request.build_args.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let seconds = text.parse::<i64>();
    seconds.map(Some).with_context(|| format!("invalid SOURCE_DATE_EPOCH: {text}"))
}

/// What fetching may use: the proxies that the build was given, secrets, programs of ours.
fn access<'a>(args: &BuildArgs, secrets: &'a engine::source::Secrets<'a>) -> Access<'a> {
    let variable = |name: &str| {
        let given = args.build_arg.iter().find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        let here = || std::env::var(name.to_lowercase()).or_else(|_| std::env::var(name)).ok();
        given.or_else(here).filter(|value| !value.is_empty())
    };
    Access {
        proxy: Proxy {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            all: variable("ALL_PROXY"),
            no_proxy: variable("NO_PROXY"),
        },
        secrets,
        ssh_auth_sock: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        program_path: std::env::var_os("PATH").unwrap_or_default(),
        ..Access::none()
    }
}

impl Input {
    /// The Dockerfile's text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.dockerfile).into_owned()
    }

    /// The name of the main context for the engine, with where it is.
    pub(crate) fn main_context(&self) -> (String, engine::session::Context) {
        (MAIN_CONTEXT.to_owned(), self.context.clone())
    }
}
