//! `build`: from what is typed to a request, and through the stations to an image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use cache::Store;
use cache::image::Image;
use cache::oci::Index;
use cache::platforms::{Meaning, entries_for};
use clap::Args;
use engine::cache_transfer;
use engine::graph::Op;
use engine::place;
use engine::session::{Cancel, Networks, Session};
use engine::solve::{Failure, Solution, solve};
use frontend::error::ErrorKind;
use frontend::flags::parse_bool;
use frontend::lines;
use frontend::lower::{LowerError, Lowered, LoweredImage, MAIN_CONTEXT, lower};
use frontend::request::Request;

use crate::annotations::{self, Annotation};
use crate::build_request::{access, epoch, request};
use crate::cache_flags::CacheFlags;
use crate::context::{self, Input};
use crate::journal::Journal;
use crate::limits::LimitArgs;
use crate::paths::{self, Home};
use crate::progress::{Progress, Style, StyleName};
use crate::resolve::Pulls;
use crate::transfers::Show;
use crate::{checks, contexts, explain, failure, output, platforms, resolve, secrets, signals, ui};

/// What `build` is told.
#[derive(Args, Debug)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
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
    #[arg(long, value_name = "[manifest:]NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Do every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Do the steps of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Use results of steps from elsewhere, as type=registry,ref=NAME or type=local,src=DIR
    #[arg(long, value_name = "SOURCE")]
    pub(crate) cache_from: Vec<String>,
    /// Keep results of steps elsewhere, as type=registry,ref=NAME,mode=max, type=local,dest=DIR or
    /// type=inline
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
    /// Where the result goes, as type=local,dest=DIR or type=registry
    #[arg(short, long, value_name = "DEST")]
    pub(crate) output: Vec<String>,
    /// Push the image to the registries of its names
    #[arg(long)]
    pub(crate) push: bool,
    /// Have the image in the store, wherever --output says that the result goes
    #[arg(long)]
    pub(crate) load: bool,
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
    #[arg(long, value_parser = StyleName, env = "BUILDKIT_PROGRESS", default_value = "auto")]
    pub(crate) progress: String,
    /// The platforms to build for
    #[arg(
        long,
        env = "DOCKER_DEFAULT_PLATFORM",
        value_name = "OS/ARCH[/VARIANT]",
        value_delimiter = ','
    )]
    pub(crate) platform: Vec<String>,
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
        ];
        for (flag, _) in given.iter().filter(|(_, given)| *given) {
            ui::note(format_args!("WARNING: {flag} has no effect"));
        }
        let attestations = [
            ("--provenance", is_wanted(self.provenance.as_ref())),
            ("--sbom", is_wanted(self.sbom.as_ref())),
            ("--attest", self.attest.iter().any(|given| is_wanted(Some(given)))),
        ];
        for (flag, _) in attestations.iter().filter(|(_, given)| *given) {
            ui::note(format_args!(
                "WARNING: {flag} has no effect: images get no attestations here"
            ));
        }
    }
}

/// Whether an attestation is asked for: `false` and `disabled=true` say that there should be none.
fn is_wanted(attestation: Option<&String>) -> bool {
    let says_no = |text: &String| {
        let field = |field: &str| match field.split_once('=') {
            Some(("disabled", value)) => parse_bool(value) == Some(true),
            _ => parse_bool(field) == Some(false),
        };
        text.split(',').any(field)
    };
    attestation.is_some_and(|text| !says_no(text))
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
    let style = args.effective_style()?;
    let cancel = Arc::new(Cancel::default());
    let store = Arc::new(home.open()?);
    signals::cancel_on_signals(cancel.clone(), &store)?;
    store.sweep()?;
    let shorthand = output::Shorthand { push: args.push, load: args.load };
    let outputs = output::parse(&args.output, &args.tag, shorthand)?;
    let annotations = Annotation::parse_all(&args.annotation)?;
    let platforms = platforms::parse_all(&args.platform)?;
    output::check(&outputs, platforms.len())?;
    if platforms.len() == 1 {
        annotations::check_single(&annotations)?;
    }
    let cache_flags = CacheFlags::parse(&args.cache_from, &args.cache_to, &args.build_arg)?;
    let show = if args.quiet { Show::Nothing } else { Show::Beside };
    let secrets = secrets::read(&args.secret)?;
    let find_secret = |id: &str| secrets.get(id).cloned();
    let access = access(&args, &find_secret);
    let input = context::open(&store, &access, &args.context, args.file.as_deref())?;
    let request = request(&args, &platforms[0])?;
    let dockerfile = lines::parse(&input.dockerfile).map_err(|error| {
        let error = frontend::error::Error::new(ErrorKind::Text(error.kind), error.lines);
        anyhow::anyhow!("{}", error.render(&input.name, &input.text()))
    })?;
    if args.check || args.call != "build" {
        return checks::print(&store, &input, &dockerfile, &request);
    }
    let requests =
        platforms.iter().map(|platform| Request { platform: platform.clone(), ..request.clone() });
    let (requests, contexts) =
        contexts::add(&store, &access, requests.collect(), &args.build_context)?;
    let request = &requests[0];
    let pulls = if args.pull { Pulls::Always } else { Pulls::Missing };
    let lowered = match lower(&dockerfile, &requests, &mut |name, platform| {
        resolve::base(&store, name, platform, pulls, args.quiet).map_err(Into::into)
    }) {
        Ok(lowered) => lowered,
        Err(error) => return Err(shown(error, &input)),
    };
    if let Some(format) = args.print {
        return print_graph(&lowered, format);
    }
    let mut work = Work {
        store: &store,
        args: &args,
        input: &input,
        lowered: &lowered,
        annotations: &annotations,
        style,
        inline_cache: cache_flags.is_inline(),
    };
    let registries = cache_flags.registries()?;
    let warnings = checks::warnings(&store, &input, &dockerfile, request);
    let session = Session {
        store: &store,
        contexts: contexts::all(&input, contexts),
        mounts: Default::default(),
        imports: &cache_flags.imports(&store, &registries, &platforms, show),
        secrets: secrets.clone(),
        ssh: secrets::agents(&store, &args.ssh)?,
        access,
        jobs: args.jobs.max(1),
        epoch: epoch(request)?,
        networks: &Networks::new(&crate::paths::network_dir(), 2),
        zygote: Default::default(),
        cancel: &cancel,
        listener: &|_| {},
    };
    if let Some(error) = &warnings.error {
        if matches!(error.kind, ErrorKind::Violations { .. }) {
            checks::tell(&warnings.warnings, &[], style, &input);
        }
        bail!("{}", error.render(&input.name, &input.text()));
    }
    let (solution, meaning) = work.solve(session)?;
    checks::tell(&warnings.warnings, &lowered.unused_args, style, &input);
    let found = lowered.definition.vertices.iter().filter_map(|vertex| match &vertex.op {
        Op::Base(base) => Some(base.layers.as_slice()),
        _ => None,
    });
    let found: Vec<_> = found.flatten().copied().collect();
    let mut made = output::write(&store, &meaning, &outputs, epoch(request)?, &found, show)?;
    made.cache = cache_flags.export(&store, &registries, &solution, show)?;
    work.tell(&meaning, &made)
}

impl BuildArgs {
    fn effective_style(&self) -> anyhow::Result<Style> {
        Ok(match Style::named(&self.progress)? {
            _ if self.quiet => Style::Quiet,
            Style::Auto if ui::is_terminal() => Style::Tty,
            Style::Auto => Style::Plain,
            style => style,
        })
    }
}

/// A build under way.
struct Work<'a> {
    store: &'a Store,
    args: &'a BuildArgs,
    input: &'a Input,
    lowered: &'a Lowered,
    annotations: &'a [Annotation],
    style: Style,
    /// Whether the image carries what is needed to take its steps from it.
    inline_cache: bool,
}

impl Work<'_> {
    /// Runs what has to be run, and makes an image of it in the store.
    fn solve(&mut self, session: Session<'_>) -> anyhow::Result<(Solution, Meaning)> {
        let definition = &self.lowered.definition;
        self.check_root()?;
        let id =
            Journal::id(&self.input.context_name, &self.input.name, self.args.target.as_deref());
        let earlier = Journal::load(self.store, Some(id));
        let progress = Progress::start(definition, self.lowered.target, self.style);
        let listener = |event: engine::progress::Event<'_>| progress.event(event);
        let epoch = session.epoch;
        let session = Session { listener: &listener, ..session };
        engine::solve::return_large_blocks();
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
        session.end();
        let meaning = self.meaning(&solution, epoch)?;
        Ok((solution, meaning))
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

    /// Puts the images into the store, and an index over them if they are several.
    fn meaning(&self, solution: &Solution, epoch: Option<i64>) -> anyhow::Result<Meaning> {
        let all = self.lowered.images.iter().map(|lowered| self.image(lowered, solution, epoch));
        let mut images = all.collect::<anyhow::Result<Vec<_>>>()?;
        if images.len() == 1 {
            return Ok(Meaning::one(images.remove(0)));
        }
        let platforms = self.lowered.images.iter().map(|lowered| &lowered.platform);
        let image = images[platforms::main_of(platforms)].clone();
        let (mut like, mut entries) = (Index::default(), entries_for(&images));
        annotations::annotate_list(self.annotations, &mut like, &mut entries, &images);
        Ok(Meaning { image, several: Some(self.store.put_index_like(like, entries, images)?) })
    }

    /// Puts an image into the store.
    fn image(
        &self,
        lowered: &LoweredImage,
        solution: &Solution,
        epoch: Option<i64>,
    ) -> anyhow::Result<Image> {
        let made: BTreeMap<_, _> =
            solution.steps.iter().map(|step| (step.vertex, step.created)).collect();
        let own = lowered.history.iter().map(|vertex| vertex.and_then(|vertex| made[&vertex]));
        let times: Vec<Option<i64>> =
            std::iter::repeat_n(None, lowered.base_history).chain(own).collect();
        let root = solution.steps.iter().find(|step| step.vertex == lowered.root);
        let layers = root.map(|step| step.layers.clone()).unwrap_or_default();
        let mut config = engine::export::complete(lowered.config.clone(), &layers, &times, epoch);
        cache_transfer::remove_inline(&mut config);
        if self.inline_cache {
            let solution = Solution { layers, steps: solution.steps.clone() };
            cache_transfer::add_inline(&mut config, self.store, &solution, epoch)?;
        }
        let platform = engine::platform::of(&config);
        let annotations = annotations::of_manifest(self.annotations, &platform);
        let (digest, _) = self.store.put_image(&config, &annotations)?;
        Ok(self.store.read_image(&digest)?)
    }

    /// Says what was made, where it was asked for.
    fn tell(&self, meaning: &Meaning, made: &output::Made) -> anyhow::Result<ExitCode> {
        let several = meaning.several.as_ref().map(|several| several.digest);
        let id = several.unwrap_or(meaning.image.id());
        if let Some(path) = &self.args.iidfile {
            place::write(path, id.to_string().as_bytes())?;
        }
        if let Some(path) = &self.args.metadata_file {
            place::write(path, &output::metadata(self.store, meaning, made)?)?;
        }
        if self.style == Style::Quiet {
            ui::line(id);
        } else if self.style != Style::None {
            output::tell(meaning, made);
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
            let first: &dyn std::error::Error = &*source;
            let causes = std::iter::successors(Some(first), |error| error.source());
            let causes: Vec<_> = causes.map(ToString::to_string).collect();
            anyhow::anyhow!("failed to resolve {image}: {}\n{place}", causes.join(": "))
        }
    }
}

fn print_graph(lowered: &Lowered, format: PrintFormat) -> anyhow::Result<ExitCode> {
    match format {
        PrintFormat::Json => {
            let graph = serde_json::json!({
                "target": lowered.target,
                "vertices": lowered.definition.vertices,
            });
            let graph = with_images(graph, lowered);
            ui::line(serde_json::to_string_pretty(&graph)?);
        }
        PrintFormat::Dot => ui::raw(lowered.definition.to_dot(lowered.target).as_bytes()),
    }
    Ok(ExitCode::SUCCESS)
}

/// A graph with the configuration of the image that it makes, or of each of several.
fn with_images(mut graph: serde_json::Value, lowered: &Lowered) -> serde_json::Value {
    let image = |image: &LoweredImage| serde_json::json!(image.config);
    match lowered.images.as_slice() {
        [only] => graph["image"] = image(only),
        several => graph["images"] = several.iter().map(image).collect(),
    }
    graph
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
