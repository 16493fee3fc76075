//! End-to-end tests: the real program on real stores, one binary. `tests/run` installs what they need and runs them.
//!
//! Each module is one subject of what docker's users rely on. What can be seen closer to its cause is tested beside the code.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed and says where")]

mod add;
mod archives;
mod attributes;
mod bad_input;
mod cache;
mod compose_apps;
mod compose_attached;
mod compose_changed;
mod compose_config;
mod compose_do;
mod compose_images;
mod compose_pins;
mod compose_run;
mod compose_show;
mod compose_turn;
mod compose_up;
mod compose_watch;
mod compose_wild;
mod config;
mod container_files;
mod containers;
mod containers_broken;
mod containers_changed;
mod containers_exec;
mod containers_life;
mod containers_real;
mod containers_shown;
mod copy;
mod dockerignore;
mod examples;
mod hostile;
mod images;
mod language;
mod layers;
mod login;
mod manifests;
mod network;
mod output;
mod platforms;
mod prune;
mod publish;
mod registry;
mod registry_access;
mod registry_hostile;
mod registry_lies;
mod run_step;
mod stages;
mod support;
mod tools;
mod volume;
