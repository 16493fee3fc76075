//! What Go's nil prints as: JSON's null does not tell a slice from a map or a pointer, but docker's
//! fields are known by their names.
//!
//! A field that is in none of these lists is taken for an interface's, of which Go says that there is
//! no value.

use serde_json::Value;

/// What a field of docker's types is, if it can be nil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nil {
    Slice,
    Map,
    Pointer,
}

const SLICES: [&str; 43] = [
    "Aliases",
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Capabilities",
    "Cmd",
    "Config",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceIDs",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Layers",
    "LinkLocalIPs",
    "Links",
    "Log",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "Test",
    "Ulimits",
    "VolumesFrom",
];

const MAPS: [&str; 15] = [
    "Annotations",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Status",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

const POINTERS: [&str; 12] = [
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "UsageData",
];

impl Nil {
    /// What the field of that name is.
    pub(super) fn of(field: &str) -> Option<Nil> {
        let has = |names: &[&str]| names.contains(&field);
        match () {
            () if has(&SLICES) => Some(Nil::Slice),
            () if has(&MAPS) => Some(Nil::Map),
            () if has(&POINTERS) => Some(Nil::Pointer),
            () => None,
        }
    }

    /// The value that behaves as it does where JSON's null would not.
    pub(super) fn value(self) -> Value {
        match self {
            Nil::Slice => Value::Array(Vec::new()),
            Nil::Map => Value::Object(serde_json::Map::new()),
            Nil::Pointer => Value::Null,
        }
    }
}
