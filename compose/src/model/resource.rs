//! What services share: networks, volumes, secrets, configs, models.

use std::collections::BTreeMap;

use super::value::{Hidden, Options, Pairs};
use crate::field::record;

record! {
    /// A network.
    pub struct Network {
        name: String = "name",
        driver: String = "driver",
        driver_opts: Options = "driver_opts",
        ipam: Ipam = "ipam",
        /// It is there already and not ours to make or remove.
        external: bool = "external",
        internal: bool = "internal",
        attachable: bool = "attachable",
        labels: Pairs = "labels",
        enable_ipv4: Option<bool> = "enable_ipv4",
        enable_ipv6: Option<bool> = "enable_ipv6",
    }
}

record! {
    /// How a network's addresses are given out.
    pub struct Ipam {
        driver: String = "driver",
        config: Vec<IpamPool> = "config",
        options: Options = "options",
    }
}

record! {
    /// A subnet.
    pub struct IpamPool {
        subnet: String = "subnet",
        gateway: String = "gateway",
        ip_range: String = "ip_range",
        aux_addresses: BTreeMap<String, String> = "aux_addresses",
    }
}

record! {
    /// A volume.
    pub struct Volume {
        name: String = "name",
        driver: String = "driver",
        driver_opts: Options = "driver_opts",
        /// It is there already and not ours to make or remove.
        external: bool = "external",
        labels: Pairs = "labels",
    }
}

record! {
    /// A secret: a file, or the value of a variable.
    pub struct Secret {
        name: String = "name",
        file: String = "file",
        environment: String = "environment",
        /// The value of the variable that `environment` names; none if it is not set.
        value: Hidden = "#value",
        external: bool = "external",
        labels: Pairs = "labels",
        driver: String = "driver",
        driver_opts: Options = "driver_opts",
        template_driver: String = "template_driver",
    }
}

record! {
    /// A config: a file, the value of a variable, or text.
    pub struct Config {
        name: String = "name",
        file: String = "file",
        environment: String = "environment",
        /// The value of the variable that `environment` names; none if it is not set.
        value: Hidden = "#value",
        content: String = "content",
        external: bool = "external",
        labels: Pairs = "labels",
        template_driver: String = "template_driver",
    }
}

record! {
    /// A model that services talk to.
    pub struct Model {
        name: String = "name",
        model: String = "model",
        context_size: i64 = "context_size",
        runtime_flags: Vec<String> = "runtime_flags",
    }
}
