//! `update`: other limits and another restart policy, also for containers that run.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use engine::containers::Containers;
use engine::containers::record::HostConfig;

use crate::create_args::{ResourceArgs, restart_policy};
use crate::error::Silent;
use crate::paths::Home;
use crate::ui;

/// What `update` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    resources: ResourceArgs,
    /// What to do when the program ends: no, `on-failure[:N]`, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Changes containers.
pub(crate) fn update(home: &Home, args: &UpdateArgs) -> anyhow::Result<ExitCode> {
    if args.restart.is_none() && args.resources.is_empty() {
        bail!("You must provide one or more flags when using this command.");
    }
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let mut failed = false;
    for name in &args.containers {
        match change(&containers, name, args) {
            Ok(()) => ui::line(name),
            Err(error) => {
                ui::error(&error.context(format!("Cannot update container {name}")));
                failed = true;
            }
        }
    }
    if failed { Err(Silent(1).into()) } else { Ok(ExitCode::SUCCESS) }
}

fn change(containers: &Containers<'_>, name: &str, args: &UpdateArgs) -> anyhow::Result<()> {
    let id = containers.find(name)?;
    let record = containers.change(&id, |record| apply(&mut record.host_config, args))?;
    containers.tell(&record, "update", &[]);
    Ok(())
}

fn apply(host: &mut HostConfig, args: &UpdateArgs) -> anyhow::Result<()> {
    let before = host.clone();
    if let Some(policy) = &args.restart {
        if host.auto_remove {
            bail!(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            );
        }
        host.restart_policy = restart_policy(policy)?;
    }
    args.resources.conflict(&before)?;
    args.resources.apply(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: UpdateArgs,
    }

    #[test]
    fn what_contradicts_the_container_is_refused() {
        let check = |line: &str, host: HostConfig, expected: Result<(), &str>| {
            let words = format!("update {line} c");
            let args = Line::try_parse_from(words.split_whitespace())
                .unwrap_or_else(|error| panic!("{error}"))
                .args;
            let found = apply(&mut host.clone(), &args).map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(()), Ok(())) => {}
                (Err(found), Err(part)) => assert!(found.contains(part), "{line}: {found}"),
                (found, _) => panic!("{line}: {found:?}"),
            }
        };
        let limited =
            || HostConfig { memory: 64 << 20, memory_swap: 128 << 20, ..HostConfig::default() };
        check("-m 100m", limited(), Ok(()));
        check("-m 200m", limited(), Err("update the memoryswap at the same time"));
        check("-m 200m --memory-swap 300m", limited(), Ok(()));
        check("-m 1m", limited(), Err("Minimum memory limit allowed is 6MB"));
        check("--memory-swap 32m", limited(), Err("memoryswap limit should be larger"));
        let removed = HostConfig { auto_remove: true, ..HostConfig::default() };
        check("--restart always", removed.clone(), Err("AutoRemove is enabled"));
        check("--pids-limit 5", removed, Ok(()));
        check("--restart sometimes", HostConfig::default(), Err("invalid restart policy"));
        let cpus = HostConfig { nano_cpus: 1, ..HostConfig::default() };
        check("--cpu-quota 5000", cpus, Err("NanoCPUs has already been set"));
        let quota = HostConfig { cpu_quota: 5000, ..HostConfig::default() };
        check("--cpus 1", quota, Err("CPU Quota has already been set"));
    }
}
