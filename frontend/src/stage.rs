//! Stages: the instructions between one `FROM` and the next, what they are called, and which needs
//! which. Also the global scope, whose variables only `FROM` lines see.
//!
//! Knows nothing of images: a base that is no stage is just a name.

use std::collections::BTreeMap;

use cache::oci::Platform;

use crate::error::{Error, ErrorKind, StageError};
use crate::expand::Expander;
use crate::instruction::{From, Instruction, Kind};
use crate::platform;
use crate::suggest;
use crate::words::Lexer;

/// A stage as it stands in the file, its `FROM` line expanded.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its place in the file, from 0.
    pub index: usize,
    /// What `AS` calls it.
    pub name: Option<String>,
    /// What it is built on: an earlier stage, an image, or `scratch`.
    pub base: String,
    /// The place of the stage it is built on.
    pub base_stage: Option<usize>,
    /// What `--platform` asks for.
    pub platform: Option<Platform>,
    /// Its `FROM`.
    pub from: Instruction,
    /// What comes after.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// What the stage is called in messages.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{}", self.index))
    }
}

/// All stages of a file.
#[derive(Clone, Debug)]
pub struct Stages {
    /// In the order of the file.
    pub stages: Vec<Stage>,
    /// The variables of `FROM` lines, which a stage's `ARG` may take over.
    pub globals: BTreeMap<String, String>,
}

/// What a `--from` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A stage, by its place.
    Stage(usize),
    /// An image or a named context.
    Elsewhere(String),
}

impl Stages {
    /// Groups instructions into stages. `globals` are the predefined variables; `build_args` win
    /// over what the file says.
    pub fn group(
        instructions: Vec<Instruction>,
        escape: char,
        mut globals: BTreeMap<String, String>,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut stages: Vec<Stage> = Vec::new();
        for instruction in instructions {
            match (&instruction.kind, stages.last_mut()) {
                (Kind::From(from), _) => {
                    let from = from.clone();
                    let stage = open_stage(&stages, &from, instruction, escape, &globals)?;
                    stages.push(stage);
                }
                (_, Some(stage)) => stage.instructions.push(instruction),
                (Kind::Arg(_), None) => declare(&instruction, escape, &mut globals, build_args)?,
                (_, None) => unreachable!("only ARG may stand before the first FROM"),
            }
        }
        let stages = Self { stages, globals };
        stages.check_circles()?;
        Ok(stages)
    }

    /// Finds the stage to build: by name in any case, by number, or the last one.
    pub fn target(&self, wanted: Option<&str>) -> Result<usize, StageError> {
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
            return Ok(self.stages.len() - 1);
        };
        if let Some(index) = self.named(wanted) {
            return Ok(index);
        }
        match wanted.parse::<usize>() {
            Ok(index) if index < self.stages.len() => Ok(index),
            _ => Err(StageError::UnknownTarget {
                target: wanted.to_owned(),
                suggestion: suggest::nearest_ignoring_case(
                    wanted,
                    self.stages.iter().filter_map(|stage| stage.name.as_deref()),
                ),
            }),
        }
    }

    /// Tells what a `--from` means; a number is a stage or a mistake.
    pub fn origin(&self, text: &str) -> Result<Origin, StageError> {
        if let Ok(index) = text.parse::<i64>() {
            return match usize::try_from(index) {
                Ok(place) if place < self.stages.len() => Ok(Origin::Stage(place)),
                _ => Err(StageError::Index { index }),
            };
        }
        Ok(match self.named(text) {
            Some(index) => Origin::Stage(index),
            None => Origin::Elsewhere(text.to_owned()),
        })
    }

    /// The last stage with this name, in any case.
    fn named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&name))
    }

    /// What a stage needs, its base first, in the order it is mentioned.
    fn needs(&self, stage: &Stage) -> Result<Vec<Origin>, Error> {
        let base = match stage.base_stage {
            Some(index) => Origin::Stage(index),
            None => Origin::Elsewhere(stage.base.clone()),
        };
        let mut needs = vec![base];
        for instruction in &stage.instructions {
            let froms: Vec<&String> = match &instruction.kind {
                Kind::Copy(copy) => copy.from.iter().collect(),
                Kind::Run(run) => {
                    run.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect()
                }
                _ => continue,
            };
            for from in froms {
                let origin = self.origin(from);
                needs.push(
                    origin
                        .map_err(|error| Error::new(ErrorKind::Stage(error), instruction.lines))?,
                );
            }
        }
        Ok(needs)
    }

    /// The stages that `roots` need, themselves included, each after all that it needs. `replace`
    /// says which stages, if any, stand for something that is needed. Without recursion: a file
    /// may chain any number of stages.
    pub fn order(
        &self,
        roots: impl Iterator<Item = usize>,
        replace: &dyn Fn(Origin) -> Result<Vec<usize>, Error>,
    ) -> Result<Vec<usize>, Error> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            Unseen,
            Open,
            Done,
        }
        let mut states = vec![State::Unseen; self.stages.len()];
        let mut order = Vec::new();
        for root in roots {
            let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
            let mut next = Some(root);
            while next.is_some() || !open.is_empty() {
                if let Some(index) = next.take() {
                    let stage = &self.stages[index];
                    match states[index] {
                        State::Done => continue,
                        State::Open => {
                            let error = StageError::Circular { stage: stage.label() };
                            return Err(Error::new(ErrorKind::Stage(error), stage.from.lines));
                        }
                        State::Unseen => states[index] = State::Open,
                    }
                    let mut needs = Vec::new();
                    for origin in self.needs(stage)? {
                        needs.extend(replace(origin)?);
                    }
                    needs.reverse();
                    open.push((index, needs));
                } else if let Some((index, needs)) = open.last_mut() {
                    next = needs.pop();
                    if next.is_none() {
                        states[*index] = State::Done;
                        order.push(*index);
                        open.pop();
                    }
                }
            }
        }
        Ok(order)
    }

    fn check_circles(&self) -> Result<(), Error> {
        let stages = |origin| match origin {
            Origin::Stage(index) => Ok(vec![index]),
            Origin::Elsewhere(_) => Ok(Vec::new()),
        };
        self.order(0..self.stages.len(), &stages).map(drop)
    }
}

/// Expands a `FROM` line with the global variables.
fn open_stage(
    earlier: &[Stage],
    from: &From,
    instruction: Instruction,
    escape: char,
    globals: &BTreeMap<String, String>,
) -> Result<Stage, Error> {
    let lines = instruction.lines;
    let lookup = |name: &str| globals.get(name).cloned();
    let mut expander = Expander::new(escape, &lookup);
    let word = |error| Error::new(ErrorKind::Word(error), lines);
    let stage = |error| Error::new(ErrorKind::Stage(error), lines);
    let base = expander.word(&from.base).map_err(word)?;
    if base.is_empty() {
        return Err(stage(StageError::BlankBase { base: from.base.clone() }));
    }
    let mut platform = None;
    if let Some(expression) = &from.platform {
        let mut expander = Expander::new(escape, &lookup);
        let text = expander.word(expression).map_err(word)?;
        let suggestion = expander
            .unmatched
            .iter()
            .next()
            .map(|name| suggest::nearest(name, globals.keys().map(String::as_str)))
            .unwrap_or_default();
        if text.is_empty() {
            let expression = expression.clone();
            return Err(stage(StageError::EmptyPlatform { expression, suggestion }));
        }
        platform = Some(platform::parse(&text).map_err(|error| {
            let (expression, reason) = (expression.clone(), error.to_string());
            stage(StageError::Platform { expression, reason, suggestion })
        })?);
    }
    let name = base.to_lowercase();
    Ok(Stage {
        index: earlier.len(),
        name: from.name.clone(),
        base_stage: earlier.iter().rposition(|stage| stage.name.as_deref() == Some(&name)),
        base,
        platform,
        from: instruction,
        instructions: Vec::new(),
    })
}

/// Adds what an `ARG` before the first `FROM` declares.
fn declare(
    instruction: &Instruction,
    escape: char,
    globals: &mut BTreeMap<String, String>,
    build_args: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let Kind::Arg(pairs) = &instruction.kind else { return Ok(()) };
    for pair in pairs {
        if let Some(given) = build_args.get(&pair.key) {
            globals.insert(pair.key.clone(), given.clone());
        } else if let Some(default) = &pair.value {
            let lookup = |name: &str| globals.get(name).cloned();
            let expanded = Lexer::new(escape)
                .expand_word(default, &lookup)
                .map_err(|error| Error::new(ErrorKind::Word(error), instruction.lines))?;
            globals.insert(pair.key.clone(), expanded.text);
        }
    }
    Ok(())
}
