//! `port`: where a service's ports are published.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use compose::make::labels;
use compose::observe::{self, Instance};
use engine::containers::Observed;

use crate::args::Globals;
use crate::home::{self, Here};
use crate::port_map::{self, Port};
use crate::ui;

/// What `port` is told.
#[derive(Args, Debug)]
pub(crate) struct PortArgs {
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    /// tcp or udp
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    protocol: String,
    /// The service
    service: String,
    /// Only where this port of the container is published
    #[arg(value_name = "PRIVATE_PORT")]
    port: Option<String>,
}

/// Tells where ports are published.
pub(crate) fn port(globals: &Globals, args: &PortArgs) -> anyhow::Result<ExitCode> {
    let wanted = args.port.as_ref().map(|text| {
        let parsed = text.parse::<u16>();
        parsed
            .with_context(|| format!("invalid port {text:?} (the protocol is said by --protocol)"))
    });
    let wanted = wanted.transpose()?;
    let name = home::name(globals)?;
    let here = Here::look(globals)?;
    let instances =
        observe::instances(&here.containers()?, |it| it.label(labels::PROJECT) == name)?;
    let instance = running(instances, &args.service, args.index)?;
    let container = instance.name().to_owned();
    let map = port_map::map(&Observed { record: instance.record, state: instance.state });
    let ports = port_map::list(&map);
    let Some(wanted) = wanted else {
        ports.iter().for_each(ui::line);
        return Ok(ExitCode::SUCCESS);
    };
    let protocol = args.protocol.to_lowercase();
    match ports.iter().find(|port| (port.private, port.protocol) == (wanted, &protocol)) {
        Some(Port { host, public, .. }) => ui::line(port_map::joined(host, &public.to_string())),
        None => {
            let ports: Vec<String> =
                ports.iter().map(|port| format!("{}/{}", port.private, port.protocol)).collect();
            bail!("no port {wanted}/{protocol} for container {container}: {}", ports.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The running container of a service with this number, or the first one. One of `run` stands behind all others.
fn running(instances: Vec<Instance>, service: &str, index: u32) -> anyhow::Result<Instance> {
    let mut running: Vec<Instance> =
        instances.into_iter().filter(|it| it.service() == service && it.is_active()).collect();
    if index > 0 {
        running.retain(|it| !it.is_one_off() && it.number() == index);
    }
    running.sort_by_key(|it| (it.is_one_off(), it.number()));
    match running.into_iter().next() {
        Some(instance) => Ok(instance),
        None if index > 0 => bail!("service {service:?} is not running container #{index}"),
        None => bail!("service {service:?} is not running"),
    }
}
