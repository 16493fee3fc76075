//! `network`: the networks that containers are connected to.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use engine::network::{
    AskedAddresses, DefinitionError, Definitions, NetworkDefinition, NetworkRequest,
};
use serde_json::{Value, json};

use crate::format::{self, Listing};
use crate::images::until;
use crate::list_flags::ListFlags;
use crate::paths::network_dir;
use crate::{inspect, prune, ui};

/// `network`.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum NetworkVerb {
    /// Make a network
    Create(CreateArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show all that is known of networks
    Inspect(InspectArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Remove all networks that no container is connected to
    Prune(PruneArgs),
    /// Connect a container to a network
    Connect(ConnectArgs),
    /// Disconnect a container from a network
    Disconnect(DisconnectArgs),
}

/// What `network create` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct CreateArgs {
    /// How containers are connected: bridge
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// A subnet, one for each of IPv4 and IPv6
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    subnet: Vec<String>,
    /// The bridge's address in its subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// The part of a subnet that containers get their addresses from
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// An address that no container gets
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Give containers IPv6 addresses
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ipv6: Option<bool>,
    /// Give containers IPv4 addresses, as all networks do
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ipv4: Option<bool>,
    /// Leave no way out of the network
    #[arg(long)]
    internal: bool,
    /// For scripts: every network is attachable
    #[arg(long)]
    attachable: bool,
    /// Where addresses come from: default
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// What is said about the network
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// What the driver is told, such as com.docker.network.driver.mtu=1400
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// The network's name
    name: String,
}

/// What `network ls` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    flags: ListFlags,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only networks that fit: name=, id=, driver=, label=, scope=, type=, dangling=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

/// What `network inspect` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct InspectArgs {
    /// json or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// For scripts: all is always shown
    #[arg(short, long)]
    verbose: bool,
    /// Names or ids
    #[arg(required = true)]
    names: Vec<String>,
}

/// What `network rm` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct RemoveArgs {
    /// Say nothing of networks that are not there
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true)]
    names: Vec<String>,
}

/// What `network prune` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only networks that fit: label=, label!=, until=
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

/// What `network connect` is told.
#[derive(Args)]
pub(crate) struct ConnectArgs {
    /// One more name of the container on this network
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    /// The container's IPv4 address
    #[arg(long)]
    pub(crate) ip: Option<std::net::Ipv4Addr>,
    /// The container's IPv6 address
    #[arg(long)]
    pub(crate) ip6: Option<std::net::Ipv6Addr>,
    /// What the driver is told
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) driver_opt: Vec<String>,
    /// Which of the container's networks is the way out: the one with the highest number
    #[arg(long)]
    pub(crate) gw_priority: Option<i64>,
    /// The network
    pub(crate) network: String,
    /// The container
    pub(crate) container: String,
}

/// What `network disconnect` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct DisconnectArgs {
    /// Also where the container is gone
    #[arg(short, long)]
    pub(crate) force: bool,
    /// The network
    pub(crate) network: String,
    /// The container
    pub(crate) container: String,
}

/// The networks of the store.
pub(crate) fn definitions(root: &Path) -> Definitions {
    Definitions::new(root, &network_dir())
}

/// Does what `network` is told; connections are another's, who knows containers.
pub(crate) fn network(
    root: &Path,
    verb: &NetworkVerb,
    connect: impl FnOnce(&ConnectArgs) -> anyhow::Result<ExitCode>,
    disconnect: impl FnOnce(&DisconnectArgs) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let definitions = definitions(root);
    match verb {
        NetworkVerb::Create(args) => create(&definitions, args),
        NetworkVerb::Ls(args) => list(&definitions, args),
        NetworkVerb::Inspect(args) => inspect_networks(&definitions, args),
        NetworkVerb::Rm(args) => remove(&definitions, args),
        NetworkVerb::Prune(args) => prune_networks(&definitions, args),
        NetworkVerb::Connect(args) => connect(args),
        NetworkVerb::Disconnect(args) => disconnect(args),
    }
}

fn create(definitions: &Definitions, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    if args.ipv4 == Some(false) {
        bail!("a network without IPv4 is not supported: leave out --ipv4=false");
    }
    if args.ipam_driver != "default" {
        bail!("the IPAM driver {:?} is not supported: use default", args.ipam_driver);
    }
    let request = NetworkRequest {
        name: args.name.clone(),
        driver: args.driver.clone(),
        addresses: AskedAddresses {
            subnets: args.subnet.clone(),
            ip_ranges: args.ip_range.clone(),
            gateways: args.gateway.clone(),
            auxiliary_addresses: pairs(&args.aux_address),
            ipv6: args.ipv6.unwrap_or(false),
        },
        internal: args.internal,
        attachable: args.attachable,
        options: pairs(&args.opt),
        labels: pairs(&args.label),
    };
    let made = definitions.create(&request)?;
    ui::line(made.id);
    Ok(ExitCode::SUCCESS)
}

/// Reads `NAME=VALUE`s; one without a value has an empty one.
fn pairs(given: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    given.iter().map(pair).collect()
}

const HEADINGS: &[(&str, &str)] = &[
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("ID", "NETWORK ID"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Name", "NAME"),
    ("Scope", "SCOPE"),
];

const NETWORKS: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    headings: HEADINGS,
    type_name: "*network.networkContext",
};

fn list(definitions: &Definitions, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let filters = Filters::parse(&args.filter, &LIST_FILTERS)?;
    let mut rows = Vec::new();
    for definition in definitions.list()? {
        if filters.fit(definitions, &definition)? {
            rows.push(row(&definition, args.no_trunc));
        }
    }
    ui::raw(NETWORKS.text(args.flags.format("{{.ID}}"), &rows)?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// A row in the fields of docker's networks.
fn row(definition: &NetworkDefinition, whole_id: bool) -> Value {
    let id = if whole_id { definition.id.as_str() } else { &definition.id[..12] };
    let labels: Vec<_> =
        definition.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "CreatedAt": go_time(&definition.created),
        "Driver": definition.driver,
        "ID": id,
        "IPv4": definition.enable_ipv4.to_string(),
        "IPv6": definition.enable_ipv6.to_string(),
        "Internal": definition.internal.to_string(),
        "Labels": labels.join(","),
        "Name": definition.name,
        "Scope": definition.scope,
    })
}

/// A time of RFC 3339 as Go prints one, with its fraction.
fn go_time(time: &str) -> String {
    match time.strip_suffix('Z').and_then(|time| time.split_once('T')) {
        Some((date, clock)) => format!("{date} {clock} +0000 UTC"),
        None => time.to_owned(),
    }
}

fn inspect_networks(definitions: &Definitions, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in &args.names {
        match definitions.find(name) {
            Ok(definition) => found.push(document(definitions, definition)?),
            Err(error @ (DefinitionError::NotFound { .. } | DefinitionError::Ambiguous { .. })) => {
                failed.push(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    inspect::print(&found, args.format.as_deref())?;
    failed.iter().for_each(|error| ui::note(format_args!("Error: {error}")));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A network in the shape of docker's API, as `inspect` shows it.
pub(crate) fn document(
    definitions: &Definitions,
    definition: NetworkDefinition,
) -> anyhow::Result<Value> {
    let shown = definitions.inspect(definition)?;
    let mut document = serde_json::to_value(shown).context("print the network")?;
    // Go's structure has the field ID, its JSON calls it Id.
    document["ID"] = document["Id"].clone();
    Ok(document)
}

fn remove(definitions: &Definitions, args: &RemoveArgs) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        let removed = definitions.find(name).and_then(|found| definitions.remove(&found));
        match removed {
            Ok(()) => ui::line(name),
            Err(DefinitionError::NotFound { .. }) if args.force => {}
            Err(error) => {
                ui::error(&error.into());
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one \
                       container.\nAre you sure you want to continue?";

fn prune_networks(definitions: &Definitions, args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let filters = Filters::parse(&args.filter, &PRUNE_FILTERS)?;
    if !args.force && !prune::confirmed(WARNING)? {
        bail!("network prune has been cancelled");
    }
    let removed = definitions.prune(|definition| filters.fit_value(definition))?;
    prune::tell_list("Deleted Networks:", removed.into_iter());
    Ok(ExitCode::SUCCESS)
}

const LIST_FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

/// Which networks are meant: of each filter one value must fit, of labels all.
#[derive(Debug, Default)]
struct Filters {
    given: BTreeMap<String, Vec<String>>,
    dangling: Option<bool>,
    until: Option<i64>,
}

impl Filters {
    fn parse(given: &[String], known: &[&str]) -> anyhow::Result<Self> {
        let mut filters = Self::default();
        for text in given {
            let Some((name, value)) = text.split_once('=') else {
                bail!("invalid filter '{text}': write NAME=VALUE");
            };
            let name = name.trim().to_lowercase();
            if !known.contains(&name.as_str()) {
                bail!("invalid filter '{name}'");
            }
            match name.as_str() {
                "dangling" => {
                    let parsed = match value {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => bail!("invalid filter 'dangling={value}'"),
                    };
                    filters.dangling = Some(parsed);
                }
                "type" if !matches!(value, "custom" | "builtin") => {
                    bail!("invalid filter 'type={value}'");
                }
                "until" => filters.until = Some(until(value, format::now())?),
                _ => {}
            }
            filters.given.entry(name).or_default().push(value.to_owned());
        }
        Ok(filters)
    }

    fn fit(
        &self,
        definitions: &Definitions,
        definition: &NetworkDefinition,
    ) -> anyhow::Result<bool> {
        if !self.fit_value(definition) {
            return Ok(false);
        }
        let Some(dangling) = self.dangling else { return Ok(true) };
        let unused = !definition.is_predefined() && definitions.users(definition)?.is_empty();
        Ok(unused == dangling)
    }

    /// Whether a network fits, whoever is connected to it.
    fn fit_value(&self, definition: &NetworkDefinition) -> bool {
        let any = |name: &str, fits: &dyn Fn(&str) -> bool| {
            self.given.get(name).is_none_or(|values| values.iter().any(|value| fits(value)))
        };
        let labelled = |wanted: &str| match wanted.split_once('=') {
            Some((name, value)) => definition.labels.get(name).is_some_and(|found| found == value),
            None => definition.labels.contains_key(wanted),
        };
        let labels = |name: &str| self.given.get(name).into_iter().flatten();
        let kind = if definition.is_predefined() { "builtin" } else { "custom" };
        let created = format::seconds(&definition.created).unwrap_or_default();
        any("driver", &|value| definition.driver == value)
            && any("id", &|value| definition.id.starts_with(value))
            && any("name", &|value| definition.name.contains(value))
            && any("scope", &|value| definition.scope == value)
            && any("type", &|value| kind == value)
            && labels("label").all(|label| labelled(label))
            && !labels("label!").any(|label| labelled(label))
            && self.until.is_none_or(|until| created < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_networks() {
        let dir = tempfile::tempdir().expect("tempdir");
        let definitions = Definitions::new(dir.path(), &dir.path().join("run"));
        for (name, label) in [("front", "a=1"), ("back", "a=2")] {
            let labels = pairs(&[label.to_owned()]);
            let request = NetworkRequest { name: name.into(), labels, ..Default::default() };
            definitions.create(&request).expect(name);
        }
        for (filters, expected) in [
            (&[][..], "back bridge front host none"),
            (&["type=custom"], "back front"),
            (&["driver=host", "driver=null"], "host none"),
            (&["name=on"], "front none"),
            (&["label=a"], "back front"),
            (&["label=a", "label=a=2"], "back"),
            (&["dangling=true"], "back front"),
            (&["dangling=false"], "bridge host none"),
            (&["scope=swarm"], ""),
        ] {
            let given: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
            let filters = Filters::parse(&given, &LIST_FILTERS).expect("filters");
            let all = definitions.list().expect("list");
            let chosen = all.iter().filter(|one| filters.fit(&definitions, one).expect("fit"));
            let names: Vec<_> = chosen.map(|one| one.name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{given:?}");
        }
        for bad in ["name", "color=red", "dangling=maybe", "type=own", "until=1h"] {
            assert!(Filters::parse(&[bad.to_owned()], &LIST_FILTERS).is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_have_docker_s_fields() {
        let dir = tempfile::tempdir().expect("tempdir");
        let definitions = Definitions::new(dir.path(), &dir.path().join("run"));
        let host = definitions.find("host").expect("host");
        let text = NETWORKS
            .text(
                Some("{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.CreatedAt}}"),
                &[row(&host, false)],
            )
            .expect("text");
        assert_eq!(text, "host host local false 0001-01-01 00:00:00 +0000 UTC\n");
        let table = NETWORKS.text(None, &[row(&host, false)]).expect("table");
        assert!(table.starts_with("NETWORK ID     NAME      DRIVER    SCOPE\n"), "{table}");
    }
}
