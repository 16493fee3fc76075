//! What every verb is told: which project, and how to show things.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use cache::lower::Driver;
use clap::Args;
use compose::Request;

/// Flags before the verb.
#[derive(Args, Debug)]
pub(crate) struct Globals {
    /// Compose files; later ones are laid over earlier ones, `-` is standard input
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<String>,
    /// The project's name
    #[arg(short, long, value_name = "NAME")]
    project_name: Option<String>,
    /// Profiles to enable; `*` is all
    #[arg(long = "profile", value_name = "PROFILE")]
    profiles: Vec<String>,
    /// Variable files in place of `.env`
    #[arg(
        long = "env-file",
        value_name = "FILE",
        env = "COMPOSE_ENV_FILES",
        value_delimiter = ','
    )]
    env_files: Vec<PathBuf>,
    /// The folder that relative paths begin at (default: the first compose file's)
    #[arg(long, alias = "workdir", value_name = "DIR")]
    project_directory: Option<PathBuf>,
    /// When to print control characters
    #[arg(long, env = "COMPOSE_ANSI", default_value = "auto", value_parser = ["auto", "never", "always"])]
    pub(crate) ansi: String,
    /// How to show progress
    #[arg(long, env = "COMPOSE_PROGRESS", default_value = "auto", value_parser = ["auto", "tty", "plain", "json", "quiet", "none"])]
    pub(crate) progress: String,
    /// How many things to do at once; -1 for as many as there are
    #[arg(long, env = "COMPOSE_PARALLEL_LIMIT", default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) parallel: i64,
    /// Only say what would be done
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Names as docker-compose 1 had them
    #[arg(long)]
    pub(crate) compatibility: bool,
    /// Include networks, volumes and so on that no service uses
    #[arg(long)]
    all_resources: bool,
    /// Where images, containers and volumes are kept
    #[arg(long, env = "RBUILD_ROOT", value_name = "DIR", hide = true)]
    pub(crate) root: Option<PathBuf>,
    /// How layers are mounted
    #[arg(long, env = "RBUILD_DRIVER", value_name = "DRIVER", hide = true)]
    pub(crate) storage_driver: Option<Driver>,
}

impl Globals {
    /// The project's name, if it was given by name.
    pub(crate) fn named(&self) -> Result<Option<String>, compose::Error> {
        let given = self.project_name.clone();
        let given = given.or_else(|| std::env::var("COMPOSE_PROJECT_NAME").ok());
        let given = given.filter(|name| !name.is_empty());
        given.as_deref().map_or(Ok(()), compose::check_name)?;
        Ok(given)
    }

    /// Whether the project is called by its name, and nobody says which files it is of.
    pub(crate) fn is_only_named(&self) -> bool {
        self.files.is_empty() && self.project_name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// How many steps run at once; none is without end.
    pub(crate) fn parallel(&self) -> Option<usize> {
        usize::try_from(self.parallel).ok().filter(|most| *most > 0)
    }

    /// What the flags ask to load, with the process's environment.
    pub(crate) fn request(&self) -> anyhow::Result<Request> {
        let current_dir = crate::paths::current_dir()?;
        // Variables that are not text cannot be in a compose file either.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let stdin = match self.files.iter().any(|file| file == "-") {
            true => {
                let mut text = Vec::new();
                std::io::stdin().read_to_end(&mut text).context("cannot read standard input")?;
                Some(text)
            }
            false => None,
        };
        Ok(Request {
            files: self.files.clone(),
            stdin,
            project_name: self.project_name.clone(),
            project_directory: self.project_directory.clone(),
            profiles: self.profiles.clone(),
            env_files: self
                .env_files
                .iter()
                .filter(|file| !file.as_os_str().is_empty())
                .cloned()
                .collect(),
            environment,
            current_dir,
            all_resources: self.all_resources,
            ..Request::default()
        })
    }
}
