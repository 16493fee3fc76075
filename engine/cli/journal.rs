//! What the last build of a context looked like, kept in the store: what `explain`, `shell` and
//! `diff` speak about.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use cache::Store;
use cache::digest::Digest;
use engine::graph::{Definition, Op, Origin};
use engine::progress::Outcome;
use engine::solve::StepReport;
use serde::{Deserialize, Serialize};

/// A build as it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// The context and the Dockerfile, as people would name them.
    pub(crate) what: String,
    /// The steps that have a place in the Dockerfile, in its order.
    pub(crate) steps: Vec<Step>,
}

/// One step of a build.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// As `[build 2/3] RUN make`.
    pub(crate) name: String,
    /// Its place in the Dockerfile.
    pub(crate) origin: Origin,
    /// How it went.
    pub(crate) status: Status,
    /// Its key, if it was looked up.
    pub(crate) key: Option<Digest>,
    /// What key it missed, and what the key of the build before was.
    pub(crate) before: Option<Digest>,
    /// Milliseconds it took.
    pub(crate) took_ms: u64,
    /// The image it is based on, if it stands right on one.
    pub(crate) base: Option<String>,
    /// The file system before it, and after it.
    pub(crate) layers_before: Vec<Digest>,
    pub(crate) layers: Vec<Digest>,
    /// How its process is started, if it has one.
    pub(crate) process: Option<Process>,
}

/// How a step's process is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
}

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Cached,
    Done,
    Failed(String),
    Canceled,
}

impl Journal {
    /// Names the builds of a context, a Dockerfile and a target.
    pub(crate) fn id(context: &str, dockerfile: &str, target: Option<&str>) -> Digest {
        Digest::of(format!("{context}\n{dockerfile}\n{}", target.unwrap_or_default()))
    }

    /// Writes down how a build went, beside what the one before did.
    pub(crate) fn new(
        what: String,
        definition: &Definition,
        reports: &[StepReport],
        earlier: Option<&Journal>,
    ) -> Self {
        let by_vertex: BTreeMap<_, _> =
            reports.iter().map(|report| (report.vertex, report)).collect();
        let mut steps = Vec::new();
        for (vertex, report) in &by_vertex {
            let known = definition.vertex(*vertex);
            let (Some(origin), false) =
                (&known.origin, matches!(known.op, Op::Base(_) | Op::Merge(_)))
            else {
                continue;
            };
            let first = known.op.inputs().first().copied();
            let base = first.and_then(|base| by_vertex.get(&base));
            steps.push(Step {
                name: known.name.clone(),
                origin: origin.clone(),
                status: match &report.outcome {
                    Outcome::Cached => Status::Cached,
                    Outcome::Done => Status::Done,
                    Outcome::Failed(why) => Status::Failed(why.clone()),
                    Outcome::Canceled => Status::Canceled,
                },
                key: report.key,
                before: earlier.and_then(|earlier| earlier.step_like(&known.name, origin)?.key),
                took_ms: report.took.as_millis() as u64,
                base: first.and_then(|base| match &definition.vertex(base).op {
                    Op::Base(base) => Some(base.reference.clone()),
                    _ => None,
                }),
                layers_before: base.map(|base| base.layers.clone()).unwrap_or_default(),
                layers: report.layers.clone(),
                process: match &known.op {
                    Op::Run(run) => Some(Process {
                        env: run.env.clone(),
                        cwd: run.cwd.clone(),
                        user: run.user.clone(),
                    }),
                    _ => None,
                },
            });
        }
        Self { what, steps }
    }

    /// The step of this build that was most likely the same: the same text in the same stage, or
    /// the same place.
    fn step_like(&self, name: &str, origin: &Origin) -> Option<&Step> {
        let text = |name: &str| name.split_once("] ").map_or(name, |(_, text)| text).to_owned();
        let in_stage = || self.steps.iter().filter(|step| step.origin.stage == origin.stage);
        let same_text = in_stage().find(|step| text(&step.name) == text(name));
        same_text.or_else(|| in_stage().find(|step| step.origin.step == origin.step))
    }

    /// The step that failed.
    pub(crate) fn failed(&self) -> Option<&Step> {
        self.steps.iter().find(|step| matches!(step.status, Status::Failed(_)))
    }

    /// The steps of a stage, named in any case.
    pub(crate) fn in_stage<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Step> {
        self.steps.iter().filter(move |step| step.origin.stage.eq_ignore_ascii_case(stage))
    }

    /// Reads the last build with this id, or of all.
    pub(crate) fn load(store: &Store, id: Option<Digest>) -> Option<Self> {
        let name = id.map_or_else(|| "last".to_owned(), |id| id.hex());
        let bytes = fs_err::read(Self::path(store, &name)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps it as the last build with this id, and of all.
    pub(crate) fn save(&self, store: &Store, id: Digest) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(self).context("write the build's journal")?;
        for name in [id.hex(), "last".to_owned()] {
            let path = Self::path(store, &name);
            if fs_err::read(&path).is_ok_and(|old| old == bytes) {
                continue;
            }
            store.write_atomically(&path, &bytes)?;
        }
        Ok(())
    }

    fn path(store: &Store, name: &str) -> std::path::PathBuf {
        store.root().join(Path::new("cache/builds")).join(format!("{name}.json"))
    }
}
