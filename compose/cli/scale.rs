//! `scale`: how many containers services have.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::args::Globals;
use crate::up::{self, UpArgs};

/// What `scale` is told.
#[derive(Args, Debug)]
pub(crate) struct ScaleArgs {
    /// Leave alone what the services depend on
    #[arg(long)]
    no_deps: bool,
    /// How many containers each has
    #[arg(value_name = "SERVICE=NUMBER", required = true)]
    scale: Vec<String>,
}

/// Scales.
pub(crate) fn scale(globals: &Globals, args: &ScaleArgs) -> anyhow::Result<ExitCode> {
    let mut services = Vec::new();
    for given in &args.scale {
        let Some((service, number)) = given.split_once('=') else {
            bail!("invalid scale specifier: {given}");
        };
        match number.parse::<i64>() {
            Ok(number) if number < 0 => {
                bail!("invalid scale specifier: {given}: a service cannot have {number} containers")
            }
            Ok(_) => {}
            Err(_) => bail!("invalid scale specifier: can't parse replica value as int: {given}"),
        }
        services.push(service.to_owned());
    }
    up::up(globals, &UpArgs::scaling(args.scale.clone(), services, args.no_deps))
}
