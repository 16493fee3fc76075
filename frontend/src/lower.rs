//! From stages to an [`engine::graph::Definition`] and the image's configuration.
//!
//! Each instruction is lowered once, in order, by `StageLowering` in `lower_stage`;
//! here stages are found, their bases resolved and their results shared. Only stages that the
//! target needs are looked at.
//!
//! For several platforms the file is lowered once for each, into one graph: what is the same for
//! two of them, as a stage on `$BUILDPLATFORM` that does not ask what it builds for, is one vertex.

use std::collections::{BTreeMap, BTreeSet};

use cache::oci::{ImageConfig, Platform};
use engine::graph::{
    Base, Caching, Copy, CopySource, Definition, Local, Merge, Op, Origin as Place, Unpack, Vertex,
    VertexId,
};

use crate::error::{Error, ErrorKind, StageError};
use crate::instruction::{Instruction, Kind};
use crate::lines::Dockerfile;
use crate::lower_stage::{self, StageLowering, makes_layer};
use crate::parse::{parse_file, parse_trigger};
use crate::platform;
use crate::request::{BaseImage, NamedContext, NoCache, Request, Resolve};
use crate::span::Lines;
use crate::stage::{Origin, Stage, Stages};

/// The name of the main build context.
pub const MAIN_CONTEXT: &str = "";

/// A Dockerfile that cannot be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// Something in the file is wrong.
    #[error("{}", .0.kind)]
    File(Error),
    /// A base image cannot be had.
    #[error("{image}")]
    Base {
        /// The image as written.
        image: String,
        /// Where.
        lines: Lines,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LowerError {
    /// Where the error is.
    pub fn lines(&self) -> Lines {
        match self {
            Self::File(error) => error.lines,
            Self::Base { lines, .. } => *lines,
        }
    }
}

impl std::convert::From<Error> for LowerError {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

/// What a Dockerfile is turned into.
#[derive(Debug)]
pub struct Lowered {
    /// The graph.
    pub definition: Definition,
    /// The vertex that needs all that the images need.
    pub target: VertexId,
    /// What is made, in the order of the requests.
    pub images: Vec<LoweredImage>,
    /// Build arguments that no `ARG` asked for.
    pub unused_args: Vec<String>,
}

/// One image that is made.
#[derive(Debug)]
pub struct LoweredImage {
    /// What was asked for.
    pub platform: Platform,
    /// The vertex whose file system is the image's.
    pub root: VertexId,
    /// The image's configuration, but for its layers and the times of its history.
    pub config: ImageConfig,
    /// For each entry of the history that this build adds, the vertex that made its layer.
    pub history: Vec<Option<VertexId>>,
    /// How many entries of the history came with the base.
    pub base_history: usize,
}

/// A stage that has been lowered.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) root: VertexId,
    pub(crate) image: ImageConfig,
    pub(crate) history: Vec<Option<VertexId>>,
    pub(crate) base_history: usize,
    pub(crate) args: Vec<(String, Option<String>)>,
    pub(crate) platform: Platform,
}

/// Lowers the target of a Dockerfile and all it needs, for requests that differ in their platforms;
/// there is at least one.
pub fn lower(
    dockerfile: &Dockerfile,
    requests: &[Request],
    resolve: Resolve<'_>,
) -> Result<Lowered, LowerError> {
    let mut definition = Definition::default();
    let (mut images, mut unused): (Vec<LoweredImage>, _) = (Vec::new(), None);
    for request in requests {
        let (stages, target) = stages(dockerfile, request)?;
        let mut lowering = Lowering {
            stages: &stages,
            request,
            resolve: &mut *resolve,
            escape: dockerfile.escape,
            earlier: definition.vertices.len(),
            definition,
            tells_platforms: requests.len() > 1,
            built: BTreeMap::new(),
            images: BTreeMap::new(),
            locals: BTreeMap::new(),
            triggered: BTreeSet::new(),
        };
        images.push(lowering.target(target)?);
        unused.get_or_insert_with(|| unused_args(&stages, request, &lowering.triggered));
        definition = lowering.definition;
    }
    let roots = images.iter().map(|image| image.root);
    let target = roots.reduce(|lower, upper| join(&mut definition, lower, upper));
    let target = target.expect("something is asked for");
    Ok(Lowered { definition, target, images, unused_args: unused.unwrap_or_default() })
}

/// The stages of a Dockerfile, as a request sees them, and the one that it wants.
fn stages(dockerfile: &Dockerfile, request: &Request) -> Result<(Stages, usize), LowerError> {
    let instructions = parse_file(dockerfile)?;
    let mut stages =
        Stages::group(instructions, dockerfile.escape, predefined(request), &request.build_args)?;
    let stage_error = |error| Error::new(ErrorKind::Stage(error), Lines::default());
    let target = stages.target(request.target.as_deref()).map_err(stage_error)?;
    let name = stages.stages[target].name.clone().unwrap_or_else(|| "default".to_owned());
    stages.globals.entry("TARGETSTAGE".to_owned()).or_insert(name);
    Ok((stages, target))
}

/// A vertex that needs two others. It is not for its own result, which is no file system that
/// anybody wants, and costs nothing.
fn join(definition: &mut Definition, lower: VertexId, upper: VertexId) -> VertexId {
    definition.add(Vertex {
        name: "[internal] all platforms".to_owned(),
        origin: None,
        caching: Caching::Use,
        op: Op::Merge(Merge { lower, upper }),
    })
}

/// The variables that are there without being declared (`TARGETPLATFORM` and the like).
fn predefined(request: &Request) -> BTreeMap<String, String> {
    let mut globals = BTreeMap::new();
    for (prefix, platform) in [("BUILD", &request.build_platform), ("TARGET", &request.platform)] {
        let variant = platform.variant.clone().unwrap_or_default();
        globals.insert(format!("{prefix}PLATFORM"), platform::format(platform));
        globals.insert(format!("{prefix}OS"), platform.os.clone());
        globals.insert(format!("{prefix}OSVERSION"), String::new());
        globals.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        globals.insert(format!("{prefix}VARIANT"), variant);
    }
    for (name, value) in &mut globals {
        if let Some(given) = request.build_args.get(name) {
            value.clone_from(given);
        }
    }
    if let Some(stage) = request.build_args.get("TARGETSTAGE") {
        globals.insert("TARGETSTAGE".to_owned(), stage.clone());
    }
    globals
}

/// Arguments that were given but that nothing asks for, neither the file nor what bases trigger.
fn unused_args(stages: &Stages, request: &Request, triggered: &BTreeSet<String>) -> Vec<String> {
    let declared = |name: &str| {
        stages.globals.contains_key(name)
            || triggered.contains(name)
            || stages.stages.iter().flat_map(|stage| &stage.instructions).any(|instruction| {
                matches!(&instruction.kind, Kind::Arg(pairs) if pairs.iter().any(|pair| pair.key == name))
            })
    };
    request
        .build_args
        .keys()
        .filter(|name| !declared(name) && !is_proxy(name) && !name.starts_with("BUILDKIT_"))
        .filter(|name| *name != "SOURCE_DATE_EPOCH")
        .cloned()
        .collect()
}

/// Refuses what is neither an image's name nor its whole id.
fn check_name(name: &str, lines: Lines) -> Result<(), Error> {
    let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match engine::reference::Reference::parse(name) {
        Err(error) if !is_id => {
            let (base, reason) = (name.to_owned(), error.to_string());
            Err(Error::new(ErrorKind::Stage(StageError::Base { base, reason }), lines))
        }
        _ => Ok(()),
    }
}

/// How many of a stage's instructions make layers, those that its base triggers included.
fn steps_of(stage: &Stage, base: &BaseImage) -> usize {
    let triggers = base.config.config.on_build.iter();
    let triggers = triggers.filter_map(|text| parse_trigger(text, stage.from.lines).ok());
    let own = stage.instructions.iter().filter(|own| makes_layer(&own.kind)).count();
    own + triggers.filter(|trigger| makes_layer(&trigger.kind)).count()
}

/// Whether a build argument is known without being declared, and is no part of the image.
pub(crate) fn is_proxy(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let known = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    known.contains(&upper.as_str()) && (upper == name || upper.to_ascii_lowercase() == name)
}

/// A lowering under way.
pub(crate) struct Lowering<'a> {
    pub(crate) stages: &'a Stages,
    pub(crate) request: &'a Request,
    resolve: Resolve<'a>,
    pub(crate) escape: char,
    definition: Definition,
    /// How many vertices were there before this request: they may be this one's too.
    earlier: usize,
    /// Whether people have to be told which platform a step is for.
    tells_platforms: bool,
    built: BTreeMap<usize, Built>,
    images: BTreeMap<(String, String), (VertexId, BaseImage)>,
    locals: BTreeMap<String, VertexId>,
    /// The arguments that bases declare for what is built on them.
    triggered: BTreeSet<String>,
}

impl Lowering<'_> {
    /// Lowers the stage that is wanted, and all it needs.
    fn target(&mut self, target: usize) -> Result<LoweredImage, LowerError> {
        // In this order a stage finds all it needs lowered already, however long the chain is.
        for index in self.order(target)? {
            self.stage(index)?;
        }
        let built = self.stage(target)?;
        let mut config = built.image;
        config.config.labels.extend(self.request.labels.clone());
        Ok(LoweredImage {
            platform: self.request.platform.clone(),
            root: built.root,
            config,
            history: built.history,
            base_history: built.base_history,
        })
    }

    /// Adds a vertex, or finds the one that an earlier request has added and that is the same.
    pub(crate) fn add(&mut self, vertex: Vertex) -> VertexId {
        let same = |known: &Vertex| *known == vertex;
        match self.definition.vertices[..self.earlier].iter().position(same) {
            Some(place) => VertexId(place),
            None => self.definition.add(vertex),
        }
    }

    /// Lowers a stage, once.
    pub(crate) fn stage(&mut self, index: usize) -> Result<Built, LowerError> {
        if let Some(built) = self.built.get(&index) {
            return Ok(built.clone());
        }
        let stages = self.stages;
        let stage = &stages.stages[index];
        let built = match self.replaced(index) {
            Some(context) => self.context_as_stage(stage, &context)?,
            None => self.instructions(stage)?,
        };
        self.built.insert(index, built.clone());
        Ok(built)
    }

    /// The stages that the target needs when named contexts have taken their places.
    fn order(&self, target: usize) -> Result<Vec<usize>, Error> {
        let named = |context: Option<NamedContext>| match context {
            Some(NamedContext::Stage(name)) => {
                let error = |error| Error::new(ErrorKind::Stage(error), Lines::default());
                self.stages.target(Some(&name)).map(|index| vec![index]).map_err(error)
            }
            _ => Ok(Vec::new()),
        };
        self.stages.order(std::iter::once(target), &|origin| match origin {
            Origin::Stage(index) => match self.replaced(index) {
                None => Ok(vec![index]),
                context => named(context),
            },
            Origin::Elsewhere(name) => named(self.context_for_image(&name)),
        })
    }

    /// What the caller replaces a stage by.
    fn replaced(&self, index: usize) -> Option<NamedContext> {
        let name = self.stages.stages[index].name.as_ref()?;
        self.request.contexts.get(name).cloned()
    }

    fn instructions(&mut self, stage: &Stage) -> Result<Built, LowerError> {
        let base = match (stage.base_stage, self.context_for_image(&stage.base)) {
            (Some(index), _) => self.stage(index)?,
            (None, Some(context)) => self.context_as_stage(stage, &context)?,
            (None, None) => self.base(stage, &stage.base)?,
        };
        let lines = stage.from.lines;
        let triggers: Vec<Instruction> = base
            .image
            .config
            .on_build
            .iter()
            .map(|text| parse_trigger(text, lines))
            .collect::<Result<_, _>>()?;
        for trigger in &triggers {
            if let Kind::Arg(pairs) = &trigger.kind {
                self.triggered.extend(pairs.iter().map(|pair| pair.key.clone()));
            }
        }
        let mut lowering = StageLowering::new(self, stage, base, &triggers);
        for instruction in triggers {
            lowering.instruction(instruction)?;
        }
        lowering.triggers_done();
        for instruction in stage.instructions.clone() {
            lowering.instruction(instruction)?;
        }
        Ok(lowering.finish())
    }

    /// A stage that the caller replaces by something of its own.
    fn context_as_stage(
        &mut self,
        stage: &Stage,
        context: &NamedContext,
    ) -> Result<Built, LowerError> {
        match context {
            NamedContext::Image(image) => self.base(stage, image),
            NamedContext::Stage(name) => {
                let error = |error| Error::new(ErrorKind::Stage(error), stage.from.lines);
                let index = self.stages.target(Some(name)).map_err(error)?;
                self.stage(index)
            }
            NamedContext::Local(name) => Ok(Built {
                root: self.directory_as_root(name),
                image: self.empty_image(&self.request.platform),
                history: Vec::new(),
                base_history: 0,
                args: Vec::new(),
                platform: self.request.platform.clone(),
            }),
        }
    }

    /// A directory of the caller's as a root file system.
    fn directory_as_root(&mut self, name: &str) -> VertexId {
        let (base, from) = (self.nothing(), self.local(name));
        let source =
            CopySource { from, path: "/".to_owned(), wildcards: false, unpack: Unpack::Never };
        self.add(Vertex {
            name: format!("FROM {name}"),
            origin: None,
            caching: Caching::Use,
            op: Op::Copy(Copy {
                base,
                sources: vec![source],
                dest: "/".to_owned(),
                owner: None,
                mode: None,
                parents: false,
                excludes: Vec::new(),
            }),
        })
    }

    /// A root file system with nothing in it.
    pub(crate) fn nothing(&mut self) -> VertexId {
        self.add(Vertex {
            name: "[internal] nothing".to_owned(),
            origin: None,
            caching: Caching::Use,
            op: Op::Base(Base { reference: "scratch".to_owned(), layers: Vec::new() }),
        })
    }

    /// A stage's beginning: an image or nothing.
    fn base(&mut self, stage: &Stage, name: &str) -> Result<Built, LowerError> {
        let platform = stage.platform.clone().unwrap_or_else(|| self.request.platform.clone());
        let (root, base) = self.image(name, &platform, stage.from.lines, Some(stage))?;
        let mut image = base.config;
        image.rootfs.diff_ids.clear();
        image.created = None;
        // Every image but an empty one gets to know where its programs are.
        if name != "scratch" && !lower_stage::sets(&image.config.env, "PATH") {
            image.config.env.push(format!("PATH={}", lower_stage::DEFAULT_PATH));
        }
        Ok(Built {
            root,
            base_history: image.history.len(),
            image,
            history: Vec::new(),
            args: Vec::new(),
            platform,
        })
    }

    /// The vertex of an image, resolved once for each platform.
    fn image(
        &mut self,
        name: &str,
        platform: &Platform,
        lines: Lines,
        stage: Option<&Stage>,
    ) -> Result<(VertexId, BaseImage), LowerError> {
        let key = (name.to_owned(), platform::format(platform));
        if let Some(found) = self.images.get(&key) {
            return Ok(found.clone());
        }
        let base = if name == "scratch" {
            let config = self.empty_image(platform);
            BaseImage { reference: name.to_owned(), config, layers: Vec::new() }
        } else {
            let image = match self.context_for_image(name) {
                Some(NamedContext::Image(image)) => image,
                _ => {
                    check_name(name, lines)?;
                    name.to_owned()
                }
            };
            (self.resolve)(&image, platform).map_err(|source| LowerError::Base {
                image: name.to_owned(),
                lines,
                source,
            })?
        };
        let steps = stage.map(|stage| (stage, steps_of(stage, &base) + 1));
        let place = steps.map(|(stage, steps)| self.step_place(stage, platform, 1, steps));
        let vertex = self.add(Vertex {
            name: format!("{}FROM {}", place.unwrap_or_default(), base.reference),
            origin: stage.map(|stage| Place {
                stage: self.stage_label(stage, platform),
                first_line: lines.first,
                last_line: lines.last,
                step: 1,
            }),
            caching: Caching::Use,
            op: Op::Base(Base { reference: base.reference.clone(), layers: base.layers.clone() }),
        });
        self.images.insert(key, (vertex, base.clone()));
        Ok((vertex, base))
    }

    /// What stands before a step's text, as BuildKit prints it: `[build 2/3] `, and with several
    /// platforms `[linux/amd64 build 2/3] `.
    pub(crate) fn step_place(
        &self,
        stage: &Stage,
        platform: &Platform,
        step: usize,
        steps: usize,
    ) -> String {
        let mut label = match self.tells_platforms {
            true => format!("{} ", platform::format(platform)),
            false => String::new(),
        };
        if self.stages.stages.len() > 1 {
            label.push_str(&format!("{} ", stage.label()));
        }
        let width = steps.to_string().len();
        format!("[{label}{step:width$}/{steps}] ")
    }

    /// A stage's name, which with several platforms is that of a stage for one of them.
    pub(crate) fn stage_label(&self, stage: &Stage, platform: &Platform) -> String {
        match self.tells_platforms {
            true => format!("{}@{}", stage.label(), platform::format(platform)),
            false => stage.label(),
        }
    }

    /// A named context that replaces an image: by the name as written, or any that means the same.
    fn context_for_image(&self, name: &str) -> Option<NamedContext> {
        let normal = |name: &str| {
            let reference = engine::reference::Reference::parse(name).ok()?;
            Some(reference.or_latest().to_string())
        };
        let wanted = normal(name);
        self.request
            .contexts
            .iter()
            .find(|(given, _)| *given == name || (wanted.is_some() && normal(given) == wanted))
            .map(|(_, context)| context.clone())
    }

    /// The configuration of an image with nothing in it.
    fn empty_image(&self, platform: &Platform) -> ImageConfig {
        let mut image = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..Default::default()
        };
        image.config.working_dir = "/".to_owned();
        image
    }

    /// The vertex of a directory of the caller's.
    pub(crate) fn local(&mut self, name: &str) -> VertexId {
        if let Some(vertex) = self.locals.get(name) {
            return *vertex;
        }
        let what = if name == MAIN_CONTEXT { "build context" } else { "context" };
        let vertex = self.add(Vertex {
            name: format!("[internal] load {what} {name}").trim_end().to_owned(),
            origin: None,
            caching: Caching::Use,
            op: Op::Local(Local { name: name.to_owned() }),
        });
        self.locals.insert(name.to_owned(), vertex);
        vertex
    }

    /// The vertex behind a `--from`, for a stage that is being lowered; `before` tells what to say
    /// of a stage that comes later.
    pub(crate) fn from(
        &mut self,
        text: &str,
        stage: &Stage,
        platform: &Platform,
        lines: Lines,
        later: StageError,
    ) -> Result<VertexId, LowerError> {
        let place = |error| Error::new(ErrorKind::Stage(error), lines);
        let stages = self.stages;
        match stages.origin(text).map_err(place)? {
            Origin::Stage(index) if index >= stage.index => Err(place(later).into()),
            Origin::Stage(index) => match self.replaced(index) {
                // Files are copied from the directory itself.
                Some(NamedContext::Local(name)) => Ok(self.local(&name)),
                _ => Ok(self.stage(index)?.root),
            },
            Origin::Elsewhere(name) => match self.context_for_image(&name) {
                Some(NamedContext::Local(local)) => Ok(self.local(&local)),
                Some(context @ NamedContext::Stage(_)) => {
                    Ok(self.context_as_stage(stage, &context)?.root)
                }
                _ => Ok(self.image(&name, platform, lines, None)?.0),
            },
        }
    }

    /// Whether a stage's steps are done again.
    pub(crate) fn caching(&self, stage: &Stage) -> Caching {
        let skip = match &self.request.no_cache {
            NoCache::Never => false,
            NoCache::All => true,
            NoCache::Stages(names) => {
                names.iter().any(|name| stage.name.as_deref() == Some(&name.to_lowercase()))
            }
        };
        if skip { Caching::Skip } else { Caching::Use }
    }
}
