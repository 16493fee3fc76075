//! Solves a definition: the loop that turns vertices into layers.
//!
//! [`crate::schedule`] says what may run; a thread each runs it ([`crate::step`] knows how). The
//! loop itself only hands out vertices and takes results:
//!
//! ```text
//! while something is ready and jobs are free: take it, give it a thread
//! wait for one result: keep it, tell the schedule
//! on the first failure: take nothing more, cancel what runs, wait for it
//! ```
//!
//! A result can be used before it is on the disk. The thread that has made it brings it there, beside
//! the steps that follow; the build has ended when all are there. That is not canceled.

use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use cache::digest::Digest;

use crate::graph::{Definition, NetworkMode, Op, Vertex, VertexId};
use crate::product::Product;
use crate::progress::{Event, Outcome};
use crate::schedule::Schedule;
use crate::session::Session;
use crate::step::{self, StepError};

/// How a vertex went.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The vertex.
    pub vertex: VertexId,
    /// Its key, for operations that have one.
    pub key: Option<Digest>,
    /// Another key of the same result, which is found with less work.
    pub short_key: Option<Digest>,
    /// How it came to its result.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The layers of its result, if that is a root file system.
    pub layers: Vec<Digest>,
    /// When the layer it made was made, in seconds since 1970.
    pub created: Option<i64>,
}

/// A solved definition.
#[derive(Debug)]
pub struct Solution {
    /// The target's layers, the lowest first.
    pub layers: Vec<Digest>,
    /// How each vertex went that was begun, in the order they were done.
    pub steps: Vec<StepReport>,
}

/// A definition that could not be solved.
#[derive(Debug)]
pub struct Failure {
    /// The vertex that failed first; none when the build was canceled from outside.
    pub vertex: Option<VertexId>,
    /// Why.
    pub error: StepError,
    /// How each vertex went that was begun.
    pub steps: Vec<StepReport>,
}

/// So many results are on their way to the disk at most before nothing new is begun.
const MOST_COMMITTING: usize = 32;

/// What a vertex's thread has to say.
enum Message {
    /// It is done, or has failed; if it is committing, its result is not in the store yet.
    Finished { report: StepReport, result: Result<Product, StepError>, is_committing: bool },
    /// Its result is in the store, or cannot be put there.
    Committed { vertex: VertexId, result: Result<(), StepError> },
}

/// Blocks of as many bytes are of lists that grow with a context.
const LARGE_BLOCK: i32 = 128 << 10;

/// Has the lists that grow with a context go back to the kernel when they are given up. It is of the
/// whole process, so it is for a program that builds to ask for.
pub fn return_large_blocks() {
    crate::sys::process::map_blocks_from(LARGE_BLOCK);
}

/// Makes what `target` needs, and nothing else.
pub fn solve(
    session: &Session<'_>,
    definition: &Definition,
    target: VertexId,
) -> Result<Solution, Box<Failure>> {
    let products: Vec<OnceLock<Product>> =
        definition.vertices.iter().map(|_| OnceLock::new()).collect();
    let mut schedule = Schedule::new(definition, target);
    let leading_to_network = definition
        .leading_to(target, |op| matches!(op, Op::Run(run) if run.network == NetworkMode::Default));
    let mut steps = Vec::new();
    let mut failure: Option<(VertexId, StepError)> = None;
    let (sender, messages) = mpsc::channel();
    thread::scope(|scope| {
        let (mut running, mut committing) = (0, 0);
        loop {
            while running < session.jobs
                && committing < MOST_COMMITTING
                && failure.is_none()
                && !session.cancel.is_canceled()
            {
                let Some(id) = schedule.take() else { break };
                let (sender, products) = (sender.clone(), &products);
                running += 1;
                let (vertex, leads_to_network) = (definition.vertex(id), leading_to_network[id.0]);
                let work = Work { session, vertex, id, leads_to_network, products };
                scope.spawn(move || work.run(&sender));
            }
            if running == 0 && committing == 0 {
                break;
            }
            let failed = match messages.recv().expect("this loop holds a sender") {
                Message::Finished { report, result, is_committing } => {
                    running -= 1;
                    committing += usize::from(is_committing);
                    let id = report.vertex;
                    steps.push(report);
                    result
                        .map(|product| {
                            let _ = products[id.0].set(product);
                            schedule.finish(id);
                        })
                        .map_err(|error| (id, error))
                }
                Message::Committed { vertex, result } => {
                    committing -= 1;
                    if let Err(error) = &result
                        && let Some(report) = steps.iter_mut().find(|step| step.vertex == vertex)
                    {
                        report.outcome = Outcome::Failed(error.whole());
                    }
                    result.map_err(|error| (vertex, error))
                }
            };
            if let Err(failed) = failed
                && failure.is_none()
            {
                session.cancel.cancel();
                failure = Some(failed);
            }
        }
    });
    if let Some((id, error)) = failure {
        let vertex = Some(id).filter(|_| !matches!(error, StepError::Canceled));
        return Err(Box::new(Failure { vertex, error, steps }));
    }
    if !schedule.is_finished() {
        return Err(Box::new(Failure { vertex: None, error: StepError::Canceled, steps }));
    }
    match products[target.0].get() {
        Some(Product::Rootfs(layers)) => Ok(Solution { layers: layers.clone(), steps }),
        _ => unreachable!("the target of a build is a root file system, and it is done"),
    }
}

/// One vertex on a thread of its own.
struct Work<'a> {
    session: &'a Session<'a>,
    vertex: &'a Vertex,
    id: VertexId,
    leads_to_network: bool,
    products: &'a [OnceLock<Product>],
}

impl Work<'_> {
    /// Runs it, and sends what came of it and what became of that.
    fn run(&self, sender: &Sender<Message>) {
        let send = |message| sender.send(message).expect("the loop waits for every thread");
        let Self { session, vertex, id, leads_to_network, products } = *self;
        let begun = Instant::now();
        (session.listener)(Event::Started { vertex: id });
        let input =
            |id: VertexId| products[id.0].get().expect("inputs are done before their users");
        let done = step::run(session, vertex, id, leads_to_network, &input);
        let took = begun.elapsed();
        let (key, short_key, created) = done
            .as_ref()
            .map_or((None, None, None), |done| (done.key, done.short_key, done.created));
        let (outcome, result, commit) = match done {
            Ok(done) => (done.outcome, Ok(done.product), done.commit),
            // What was killed because something else failed has not failed itself.
            Err(_) if session.cancel.is_canceled() => {
                (Outcome::Canceled, Err(StepError::Canceled), None)
            }
            Err(error) => (Outcome::Failed(error.whole()), Err(error), None),
        };
        let layers = match &result {
            Ok(Product::Rootfs(layers)) | Err(StepError::Exit { layers, .. }) => layers.clone(),
            _ => Vec::new(),
        };
        (session.listener)(Event::Finished { vertex: id, outcome: outcome.clone(), took });
        let report = StepReport { vertex: id, key, short_key, outcome, took, layers, created };
        send(Message::Finished { report, result, is_committing: commit.is_some() });
        if let Some(commit) = commit {
            send(Message::Committed { vertex: id, result: commit() });
        }
    }
}
