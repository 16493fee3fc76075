//! A compose project in a world of its own.

use std::process::Command;

use super::{Outcome, Test, finish};

/// The program under test.
pub(crate) const RCOMPOSE: &str = env!("CARGO_BIN_EXE_rcompose");

/// A folder with a compose file; what is left of the project goes with it.
pub(crate) struct Project {
    /// The world around it.
    pub(crate) test: Test,
    /// The project's name.
    pub(crate) name: String,
}

impl Project {
    /// A project of this compose file, in a world that knows `busybox`.
    pub(crate) fn of(yaml: &str) -> Self {
        let test = Test::empty();
        test.import("busybox");
        test.file("compose.yaml", yaml);
        let world = test.outside("").file_name().expect("the world has a name").to_owned();
        let name = world.to_string_lossy().to_lowercase();
        Self { test, name }
    }

    /// Writes the compose file anew.
    pub(crate) fn rewrite(&self, yaml: &str) {
        self.test.file("compose.yaml", yaml);
    }

    /// Runs `rcompose` in the project's folder.
    pub(crate) fn compose(&self, arguments: &[&str]) -> Outcome {
        self.compose_with(arguments, &[], None)
    }

    /// The same with variables and an input.
    pub(crate) fn compose_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
        input: Option<&[u8]>,
    ) -> Outcome {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        finish(command, input)
    }

    /// A command that runs `rcompose` on the project.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        // It begins to count to the kill with any signal that it passes on.
        command.args(["--foreground", "-k", "60", "120", RCOMPOSE]).args(arguments);
        command.current_dir(self.test.context()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.test.outside("")).env("RBUILD_ROOT", self.test.outside("store"));
        // A name on the command line would be all that there is of the project.
        command.env("COMPOSE_PROJECT_NAME", &self.name);
        // No test asks anybody beyond this machine.
        command.env("RBUILD_REGISTRIES", super::need::RULES);
        if let Some(driver) = std::env::var_os("RBUILD_DRIVER") {
            command.env("RBUILD_DRIVER", driver);
        }
        command
    }

    /// What a template shows of a service's first container.
    #[track_caller]
    pub(crate) fn shown(&self, service: &str, template: &str) -> String {
        let name = format!("{}-{service}-1", self.name);
        self.test.rbuild(&["inspect", "--format", template, &name]).ok().trim().to_owned()
    }

    /// The id of a service's first container.
    #[track_caller]
    pub(crate) fn id(&self, service: &str) -> String {
        self.shown(service, "{{.Id}}")
    }

    /// The names of the project's containers without the project's, sorted.
    pub(crate) fn containers(&self) -> Vec<String> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let args = ["ps", "-a", "--filter", &label, "--format", "{{.Names}}"];
        let listed = self.test.rbuild(&args).ok();
        let short = |name: &str| name.replacen(&format!("{}-", self.name), "", 1);
        let mut names: Vec<String> = listed.lines().map(short).collect();
        names.sort();
        names
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "-v", "-t", "0", "--remove-orphans"]);
    }
}

/// A service's command that waits for its end.
pub(crate) const IDLE: &str =
    "command: [sh, -c, 'trap \"exit 0\" TERM; sleep 600 & wait'], stop_grace_period: 2s";

/// A project with one service of busybox that does nothing.
pub(crate) fn idle() -> Project {
    Project::of(&format!("services:\n  web: {{image: busybox, {IDLE}}}\n"))
}

/// The same, running.
pub(crate) fn running() -> Project {
    let project = idle();
    project.compose(&["up", "-d"]).succeeded();
    project
}

#[track_caller]
pub(crate) fn refused(outcome: &Outcome, text: &str) {
    let told = outcome.failed(1);
    assert!(told.contains(text), "no {text:?} in\n{outcome}");
}
