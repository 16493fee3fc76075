//! Dockerfile text in, [`engine::graph::Definition`] out; no I/O of any kind.
//!
//! The way of the data: text -> [`lines::Dockerfile`] (raw instructions with their places) ->
//! [`instruction::Instruction`] (typed) -> stages -> [`engine::graph::Definition`] and image config.

pub mod arguments;
pub mod change;
pub mod check_config;
mod check_from;
pub mod check_rules;
mod check_stage;
mod check_text;
pub mod checks;
#[cfg(test)]
mod checks_conformance;
pub mod device;
pub mod directive;
pub mod error;
pub mod expand;
pub mod expose;
pub mod flags;
pub mod git_url;
mod healthcheck;
pub mod heredoc;
pub mod history;
pub mod ignore;
pub mod instruction;
#[cfg(test)]
mod instruction_conformance;
pub mod lines;
#[cfg(test)]
mod lines_conformance;
pub mod lower;
#[cfg(test)]
mod lower_conformance;
mod lower_stage;
#[cfg(test)]
mod lower_tests;
pub mod mount;
mod mount_options;
pub mod parse;
pub mod path;
pub mod platform;
mod reader;
pub mod request;
pub mod run_command;
pub mod shell_pattern;
pub mod shown;
pub mod span;
pub mod stage;
mod substitution;
pub mod suggest;
pub mod words;
#[cfg(test)]
mod words_conformance;
