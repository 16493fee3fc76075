//! Which vertices may run now. Pure: no thread, no clock, no idea of what a vertex does.

use std::collections::BTreeSet;

use crate::graph::{Definition, VertexId};

/// Where a vertex stands. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The target does not need it.
    Unneeded,
    /// This many of its inputs are not done.
    Waiting(usize),
    /// All its inputs are done.
    Ready,
    /// Somebody has taken it.
    Running,
    /// It is done.
    Done,
}

/// The queue of a build.
///
/// `take` hands out ready vertices in the order of the definition, so that a build with one job is
/// the text from top to bottom; `finish` makes those ready that waited for nothing else.
pub struct Schedule {
    states: Vec<State>,
    users: Vec<Vec<VertexId>>,
    ready: BTreeSet<VertexId>,
    left: usize,
}

impl Schedule {
    /// Plans what `target` needs.
    pub fn new(definition: &Definition, target: VertexId) -> Self {
        let needed = definition.needed(target);
        let mut schedule = Self {
            states: vec![State::Unneeded; needed.len()],
            users: vec![Vec::new(); needed.len()],
            ready: BTreeSet::new(),
            left: needed.iter().filter(|needed| **needed).count(),
        };
        for (place, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
            let id = VertexId(place);
            // An input that is used twice is waited for once.
            let inputs: BTreeSet<_> = definition.vertex(id).op.inputs().into_iter().collect();
            for input in &inputs {
                schedule.users[input.0].push(id);
            }
            schedule.set(id, State::Waiting(inputs.len()));
        }
        schedule
    }

    /// Takes the first ready vertex.
    pub fn take(&mut self) -> Option<VertexId> {
        let id = *self.ready.first()?;
        self.set(id, State::Running);
        Some(id)
    }

    /// Marks a taken vertex as done.
    pub fn finish(&mut self, id: VertexId) {
        debug_assert_eq!(self.states[id.0], State::Running);
        self.set(id, State::Done);
        for user in std::mem::take(&mut self.users[id.0]) {
            if let State::Waiting(inputs) = self.states[user.0] {
                self.set(user, State::Waiting(inputs - 1));
            }
        }
    }

    /// Whether everything the target needs is done.
    pub fn is_finished(&self) -> bool {
        self.left == 0
    }

    /// How many vertices the target needs.
    pub fn needed(&self) -> usize {
        self.states.iter().filter(|state| **state != State::Unneeded).count()
    }

    /// The one place where a state changes.
    fn set(&mut self, id: VertexId, state: State) {
        let state = if state == State::Waiting(0) { State::Ready } else { state };
        match state {
            State::Ready => drop(self.ready.insert(id)),
            State::Running => drop(self.ready.remove(&id)),
            State::Done => self.left -= 1,
            State::Unneeded | State::Waiting(_) => {}
        }
        self.states[id.0] = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Base, Caching, Merge, Op, Vertex};

    /// Builds a graph from the inputs of each vertex and plays it with `jobs` at once; what is
    /// taken in one round stands in one group.
    fn trace(graph: &[&[usize]], jobs: usize) -> String {
        let mut definition = Definition::default();
        for inputs in graph {
            let op = match inputs {
                [] => Op::Base(Base { reference: String::new(), layers: vec![] }),
                [one] => Op::Merge(Merge { lower: VertexId(*one), upper: VertexId(*one) }),
                [one, two, ..] => Op::Merge(Merge { lower: VertexId(*one), upper: VertexId(*two) }),
            };
            definition.add(Vertex { name: String::new(), origin: None, caching: Caching::Use, op });
        }
        let mut schedule = Schedule::new(&definition, VertexId(graph.len() - 1));
        let mut rounds = Vec::new();
        while !schedule.is_finished() {
            let taken: Vec<_> = (0..jobs).map_while(|_| schedule.take()).collect();
            assert!(!taken.is_empty(), "nothing ready, nothing running");
            rounds.push(taken.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(" "));
            taken.into_iter().for_each(|id| schedule.finish(id));
        }
        rounds.join(", ")
    }

    #[test]
    fn independent_vertices_run_together_and_users_follow() {
        // A diamond beside a vertex that nobody needs.
        let diamond: [&[usize]; 6] = [&[], &[0], &[0], &[0], &[1, 2], &[4]];
        assert_eq!(trace(&diamond, 8), "0, 1 2, 4, 5");
        assert_eq!(trace(&diamond, 1), "0, 1, 2, 4, 5");
    }

    #[test]
    fn an_input_used_twice_is_waited_for_once() {
        assert_eq!(trace(&[&[], &[0, 0]], 1), "0, 1");
    }

    #[test]
    fn every_schedule_of_a_random_graph_ends() {
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for _ in 0..200 {
            let graph: Vec<Vec<usize>> = (0..30)
                .map(|place| (0..random(3).min(place)).map(|_| random(place)).collect())
                .collect();
            let graph: Vec<&[usize]> = graph.iter().map(Vec::as_slice).collect();
            trace(&graph, 1 + random(8));
        }
    }
}
