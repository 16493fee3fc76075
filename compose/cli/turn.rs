//! Turns: one rcompose at a time changes a project, and the others wait until it is done.
//!
//! Who does nothing but wait for containers lets others have the turn meanwhile (see [`Yielding`]): what it waits for may
//! come of what they do. What only shows something needs no turn. Nor do builds and downloads, which change no project, or `kill`, `pause` and
//! `unpause`: who wants containers to end at once does not wait for anybody.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use cache::claim::Claim;
use cache::digest::Digest;
use compose::apply::{self, Cancel};
use compose::failure::Failure;

use crate::home::Here;
use crate::interrupt::Interrupt;
use crate::ui;

/// Shorter waits are nobody's concern.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// The right to change a project; given up when it is dropped, and by the kernel when we are killed.
pub(crate) struct Turn {
    _claim: Claim,
}

impl Turn {
    /// Waits for the right to change a project; a signal ends us meanwhile.
    pub(crate) fn take(here: &Here, project: &str, interrupt: &Interrupt) -> anyhow::Result<Turn> {
        Turn::attend(here, project, interrupt, |signal| std::process::exit(128 + signal))
    }

    /// The same, but a signal has something else done.
    pub(crate) fn attend(
        here: &Here,
        project: &str,
        interrupt: &Interrupt,
        on_signal: impl FnMut(i32) + Send,
    ) -> anyhow::Result<Turn> {
        match Turn::try_take(here, project)? {
            Some(turn) => Ok(turn),
            None => interrupt.attend(on_signal, || Turn::wait(here, project, || false)),
        }
    }

    /// The same, but the wish to stop ends the waiting.
    pub(crate) fn unless(here: &Here, project: &str, cancel: &Cancel) -> anyhow::Result<Turn> {
        Turn::wait(here, project, || cancel.is_canceled())
    }

    /// Whether somebody changes a project now, or will when what it waits for has come.
    pub(crate) fn is_taken(here: &Here, project: &str) -> anyhow::Result<bool> {
        let is_free = Turn::try_take(here, project)?.is_some() && at_work(here, project)?.is_some();
        Ok(!is_free)
    }

    fn try_take(here: &Here, project: &str) -> anyhow::Result<Option<Turn>> {
        let key = Digest::of(format!("rcompose changes project {project}"));
        Ok(here.store.try_claim(&key)?.map(|claim| Turn { _claim: claim }))
    }

    fn wait(here: &Here, project: &str, is_over: impl Fn() -> bool) -> anyhow::Result<Turn> {
        let begun = Instant::now();
        let mut is_told = false;
        loop {
            if let Some(turn) = Turn::try_take(here, project)? {
                return Ok(turn);
            }
            if is_over() {
                return Err(Failure::Interrupted.into());
            }
            if !is_told && begun.elapsed() >= PATIENCE {
                ui::note(format_args!(
                    "waiting for another rcompose that changes project {project:?}"
                ));
                is_told = true;
            }
            std::thread::sleep(TRY_EVERY);
        }
    }
}

/// What is held by one who waits for his turn to go on.
fn at_work(here: &Here, project: &str) -> anyhow::Result<Option<Claim>> {
    let key = Digest::of(format!("rcompose is to change project {project}"));
    Ok(here.store.try_claim(&key)?)
}

/// A turn that others may have while nothing is changed.
pub(crate) struct Yielding<'a> {
    /// One of several has it: when nobody has, nobody is at work.
    _at_work: Option<Claim>,
    here: &'a Here,
    project: &'a str,
    cancel: &'a Cancel,
    turn: Mutex<Option<Turn>>,
}

impl<'a> Yielding<'a> {
    /// One that is held; the wish to stop ends the waiting for it later.
    pub(crate) fn new(here: &'a Here, project: &'a str, cancel: &'a Cancel, turn: Turn) -> Self {
        let _at_work = at_work(here, project).ok().flatten();
        Yielding { _at_work, here, project, cancel, turn: Mutex::new(Some(turn)) }
    }
}

impl apply::Turn for Yielding<'_> {
    fn leave(&self) {
        self.turn.lock().expect("no holder panics").take();
    }

    fn take(&self) -> Result<(), Failure> {
        let mut turn = self.turn.lock().expect("no holder panics");
        if turn.is_none() {
            let taken = Turn::unless(self.here, self.project, self.cancel);
            *turn = Some(taken.map_err(|error| match error.downcast() {
                Ok(failure) => failure,
                Err(error) => Failure::Command { text: format!("{error:#}") },
            })?);
        }
        Ok(())
    }
}
