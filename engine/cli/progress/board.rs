//! What is known of a build under way: its steps in the order they began. Knows no style.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::graph::VertexId;
use engine::progress::Outcome;

use super::output::{Line, Output};

/// A build's steps.
pub(super) struct Board {
    /// When the build began.
    pub(super) begun: Instant,
    /// How many steps there are to do.
    pub(super) total: usize,
    steps: Vec<Step>,
    places: BTreeMap<VertexId, usize>,
}

/// A step that has begun.
pub(super) struct Step {
    /// As `[build 2/3] RUN make`.
    pub(super) name: String,
    /// When it began.
    pub(super) begun: Instant,
    /// How it ended and how long it took; none while it runs.
    pub(super) end: Option<(Outcome, Duration)>,
    /// What it printed.
    pub(super) output: Output,
}

impl Step {
    /// Whether it has not ended.
    pub(super) fn is_running(&self) -> bool {
        self.end.is_none()
    }

    /// How long it took, or has taken so far.
    pub(super) fn took(&self, now: Instant) -> Duration {
        self.end
            .as_ref()
            .map_or_else(|| now.saturating_duration_since(self.begun), |(_, took)| *took)
    }
}

impl Board {
    /// A board of which nothing has begun.
    pub(super) fn new(total: usize, begun: Instant) -> Self {
        Self { begun, total, steps: Vec::new(), places: BTreeMap::new() }
    }

    /// The steps that have begun, in that order.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step of a vertex, if it has begun.
    pub(super) fn step(&self, vertex: VertexId) -> Option<&Step> {
        self.places.get(&vertex).map(|place| &self.steps[*place])
    }

    /// How many steps have come to a result.
    pub(super) fn done(&self) -> usize {
        self.steps.iter().filter(|step| !step.is_running()).count()
    }

    /// Whether every step has come to a good result.
    pub(super) fn is_finished(&self) -> bool {
        let good = |step: &Step| matches!(step.end, Some((Outcome::Cached | Outcome::Done, _)));
        self.steps.len() == self.total && self.steps.iter().all(good)
    }

    /// A vertex begins.
    pub(super) fn start(&mut self, vertex: VertexId, name: &str, now: Instant) {
        self.places.insert(vertex, self.steps.len());
        let (name, output) = (name.to_owned(), Output::default());
        self.steps.push(Step { name, begun: now, end: None, output });
    }

    /// A vertex prints; what of it makes whole lines is returned.
    pub(super) fn output(&mut self, vertex: VertexId, bytes: &[u8], now: Instant) -> Vec<Line> {
        let step = self.begun(vertex);
        let at = step.took(now);
        step.output.push(bytes, at)
    }

    /// A vertex ends; a last line without an end is returned.
    pub(super) fn end(
        &mut self,
        vertex: VertexId,
        outcome: Outcome,
        took: Duration,
    ) -> Option<Line> {
        let step = self.begun(vertex);
        let rest = step.output.flush(took);
        // Only a failed step's output is asked for again.
        if !matches!(outcome, Outcome::Failed(_)) {
            step.output = Output::default();
        }
        step.end = Some((outcome, took));
        rest
    }

    fn begun(&mut self, vertex: VertexId) -> &mut Step {
        let place = self.places.get(&vertex).expect("a vertex starts before it does anything else");
        &mut self.steps[*place]
    }
}
