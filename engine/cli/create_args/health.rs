//! How to tell whether a container works: the flags of its probe.

use anyhow::{Context, bail};
use cache::oci::Healthcheck;
use clap::Args;
use engine::duration;

/// How to tell whether it works.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct HealthArgs {
    /// A command that tells whether it is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// The time between two probes
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// Failures in a row that mean unhealthy
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<i64>,
    /// How long a probe may take
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// How long failures do not count at first
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// The time between two probes meanwhile
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Take the image's probe away
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthArgs {
    pub(super) fn healthcheck(&self) -> anyhow::Result<Option<Healthcheck>> {
        let time = |text: &Option<String>, flag: &str| match text {
            None => Ok(0),
            Some(text) => match duration::parse(text) {
                Ok(time) if time >= 0 => Ok(time),
                Ok(_) => bail!("{flag} cannot be negative"),
                Err(error) => Err(error).with_context(|| format!("{flag} {text}")),
            },
        };
        let given = Healthcheck {
            test: match &self.health_cmd {
                Some(command) if !command.is_empty() => {
                    vec!["CMD-SHELL".to_owned(), command.clone()]
                }
                _ => Vec::new(),
            },
            interval: time(&self.health_interval, "--health-interval")?,
            timeout: time(&self.health_timeout, "--health-timeout")?,
            start_period: time(&self.health_start_period, "--health-start-period")?,
            start_interval: time(&self.health_start_interval, "--health-start-interval")?,
            retries: self.health_retries.unwrap_or(0),
        };
        let any = given != Healthcheck::default();
        if given.retries < 0 {
            bail!("--health-retries cannot be negative");
        }
        if !self.no_healthcheck {
            return Ok(any.then_some(given));
        }
        if any {
            bail!("--no-healthcheck conflicts with --health-* options");
        }
        Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }))
    }
}
