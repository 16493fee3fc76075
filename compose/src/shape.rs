//! What each attribute of a compose file may be: the schema, as data.
//!
//! Only kinds and names; what values mean is for the phases behind it. `validate` walks it.

/// What a value may be.
pub(crate) enum Shape {
    Any,
    Text,
    Bool,
    Int,
    Number,
    Null,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A whole number within bounds.
    Bounded(i64, i64),
    List(&'static Shape),
    /// A list without the same item twice.
    Set(&'static Shape),
    /// Free keys.
    Map(&'static Shape),
    /// Keys that name things: letters, digits, `.`, `_`, `-`.
    Named(&'static Shape),
    Object(&'static Object),
    Either(&'static [Shape]),
}

/// A mapping with keys of its own.
pub(crate) struct Object {
    pub(crate) keys: &'static [(&'static str, Shape)],
    pub(crate) required: &'static [&'static str],
    /// Whether `x-*` may stand beside them.
    pub(crate) extensions: bool,
    /// Whether a service's keys may stand beside them.
    pub(crate) service: bool,
}

use Shape::{Any, Bool, Bounded, Choice, Either, Int, List, Map, Named, Null, Number, Set, Text};

const fn object(keys: &'static [(&'static str, Shape)]) -> Object {
    Object { keys, required: &[], extensions: true, service: false }
}

const fn requiring(
    required: &'static [&'static str],
    keys: &'static [(&'static str, Shape)],
) -> Object {
    Object { keys, required, extensions: true, service: false }
}

const fn closed(
    required: &'static [&'static str],
    keys: &'static [(&'static str, Shape)],
) -> Object {
    Object { keys, required, extensions: false, service: false }
}

const BOOL_TEXT: Shape = Either(&[Bool, Text]);
const INT_TEXT: Shape = Either(&[Int, Text]);
const NUMBER_TEXT: Shape = Either(&[Number, Text]);
const STRINGS: Shape = Set(&Text);
const STRING_OR_LIST: Shape = Either(&[Text, STRINGS]);
const COMMAND: Shape = Either(&[Null, Text, List(&Text)]);
const PAIRS: Shape = Either(&[Map(&Either(&[Text, Number, Bool, Null])), STRINGS]);
const OPTIONS: Shape = Map(&Either(&[Text, Number]));
const HOSTS: Shape = Either(&[Map(&Either(&[Text, List(&Text)])), STRINGS]);
const EXTERNAL: Shape = Either(&[Bool, Text, Shape::Object(&object(&[("name", Text)]))]);
const FILES: Shape = List(&Either(&[
    Text,
    Shape::Object(&object(&[
        ("source", Text),
        ("target", Text),
        ("uid", Text),
        ("gid", Text),
        ("mode", NUMBER_TEXT),
    ])),
]));
const ULIMITS: Shape = Map(&Either(&[
    INT_TEXT,
    Shape::Object(&requiring(&["soft", "hard"], &[("hard", INT_TEXT), ("soft", INT_TEXT)])),
]));

/// A whole file.
pub(crate) const FILE: Object = object(&[
    ("version", Text),
    ("name", Text),
    ("include", List(&Either(&[Text, Shape::Object(&INCLUDE)]))),
    ("services", Named(&Shape::Object(&SERVICE))),
    ("models", Named(&Shape::Object(&MODEL))),
    ("networks", Named(&Either(&[Null, Shape::Object(&NETWORK)]))),
    ("volumes", Named(&Either(&[Null, Shape::Object(&VOLUME)]))),
    ("secrets", Named(&Shape::Object(&SECRET))),
    ("configs", Named(&Shape::Object(&CONFIG))),
]);

const INCLUDE: Object = closed(
    &[],
    &[("path", STRING_OR_LIST), ("env_file", STRING_OR_LIST), ("project_directory", Text)],
);

const MODEL: Object = requiring(
    &["model"],
    &[("name", Text), ("model", Text), ("context_size", Int), ("runtime_flags", List(&Text))],
);

const NETWORK: Object = object(&[
    ("name", Text),
    ("driver", Text),
    ("driver_opts", OPTIONS),
    (
        "ipam",
        Shape::Object(&object(&[
            ("driver", Text),
            (
                "config",
                List(&Shape::Object(&object(&[
                    ("subnet", Text),
                    ("ip_range", Text),
                    ("gateway", Text),
                    ("aux_addresses", Map(&Text)),
                ]))),
            ),
            ("options", Map(&Text)),
        ])),
    ),
    ("external", EXTERNAL),
    ("internal", BOOL_TEXT),
    ("enable_ipv4", BOOL_TEXT),
    ("enable_ipv6", BOOL_TEXT),
    ("attachable", BOOL_TEXT),
    ("labels", PAIRS),
]);

const VOLUME: Object = object(&[
    ("name", Text),
    ("driver", Text),
    ("driver_opts", OPTIONS),
    ("external", EXTERNAL),
    ("labels", PAIRS),
]);

const SECRET: Object = object(&[
    ("name", Text),
    ("environment", Text),
    ("file", Text),
    ("external", EXTERNAL),
    ("labels", PAIRS),
    ("driver", Text),
    ("driver_opts", OPTIONS),
    ("template_driver", Text),
]);

const CONFIG: Object = object(&[
    ("name", Text),
    ("content", Text),
    ("environment", Text),
    ("file", Text),
    ("external", EXTERNAL),
    ("labels", PAIRS),
    ("template_driver", Text),
]);

/// A service.
pub(crate) const SERVICE: Object = object(&[
    ("annotations", PAIRS),
    ("attach", BOOL_TEXT),
    ("blkio_config", Shape::Object(&BLKIO)),
    ("build", Either(&[Text, Shape::Object(&BUILD)])),
    ("cap_add", STRINGS),
    ("cap_drop", STRINGS),
    ("cgroup", Choice(&["host", "private"])),
    ("cgroup_parent", Text),
    ("command", COMMAND),
    ("configs", FILES),
    ("container_name", Text),
    ("cpu_count", Either(&[Text, Bounded(0, i64::MAX)])),
    ("cpu_percent", Either(&[Text, Number])),
    ("cpu_period", NUMBER_TEXT),
    ("cpu_quota", NUMBER_TEXT),
    ("cpu_rt_period", NUMBER_TEXT),
    ("cpu_rt_runtime", NUMBER_TEXT),
    ("cpu_shares", NUMBER_TEXT),
    ("cpus", NUMBER_TEXT),
    ("cpuset", Text),
    (
        "credential_spec",
        Shape::Object(&object(&[("config", Text), ("file", Text), ("registry", Text)])),
    ),
    ("depends_on", Either(&[STRINGS, Named(&Shape::Object(&DEPENDENCY))])),
    ("deploy", Either(&[Null, Shape::Object(&DEPLOY)])),
    ("develop", Either(&[Null, Shape::Object(&DEVELOP)])),
    ("device_cgroup_rules", STRINGS),
    (
        "devices",
        List(&Either(&[
            Text,
            Shape::Object(&requiring(
                &["source"],
                &[("source", Text), ("target", Text), ("permissions", Text)],
            )),
        ])),
    ),
    ("dns", STRING_OR_LIST),
    ("dns_opt", STRINGS),
    ("dns_search", STRING_OR_LIST),
    ("domainname", Text),
    ("entrypoint", COMMAND),
    ("env_file", Either(&[Text, List(&Either(&[Text, Shape::Object(&ENV_FILE)]))])),
    ("environment", PAIRS),
    ("expose", Set(&Either(&[Text, Number]))),
    ("extends", Either(&[Text, Shape::Object(&EXTENDS)])),
    ("external_links", STRINGS),
    ("extra_hosts", HOSTS),
    ("gpus", Either(&[Choice(&["all"]), List(&Shape::Object(&GPU))])),
    ("group_add", Set(&Either(&[Text, Number]))),
    ("healthcheck", Shape::Object(&HEALTHCHECK)),
    ("hostname", Text),
    ("image", Text),
    ("init", BOOL_TEXT),
    ("ipc", Text),
    ("isolation", Text),
    ("label_file", Either(&[Text, List(&Text)])),
    ("labels", PAIRS),
    ("links", STRINGS),
    (
        "logging",
        Shape::Object(&object(&[
            ("driver", Text),
            ("options", Map(&Either(&[Text, Number, Null]))),
        ])),
    ),
    ("mac_address", Text),
    ("mem_limit", NUMBER_TEXT),
    ("mem_reservation", NUMBER_TEXT),
    ("mem_swappiness", INT_TEXT),
    ("memswap_limit", NUMBER_TEXT),
    (
        "models",
        Either(&[
            STRINGS,
            Named(&Either(&[
                Null,
                Shape::Object(&object(&[("endpoint_var", Text), ("model_var", Text)])),
            ])),
        ]),
    ),
    ("network_mode", Text),
    ("networks", Either(&[STRINGS, Named(&Either(&[Null, Shape::Object(&SERVICE_NETWORK)]))])),
    ("oom_kill_disable", BOOL_TEXT),
    ("oom_score_adj", Either(&[Text, Bounded(-1000, 1000)])),
    ("pid", Either(&[Text, Null])),
    ("pids_limit", NUMBER_TEXT),
    ("platform", Text),
    ("ports", Set(&Either(&[Number, Text, Shape::Object(&PORT)]))),
    ("post_start", List(&Shape::Object(&HOOK))),
    ("pre_start", List(&Shape::Object(&PRE_START))),
    ("pre_stop", List(&Shape::Object(&HOOK))),
    ("privileged", BOOL_TEXT),
    ("profiles", STRINGS),
    ("provider", Shape::Object(&requiring(&["type"], &[("type", Text), ("options", Map(&Any))]))),
    ("pull_policy", Text),
    ("pull_refresh_after", Text),
    ("read_only", BOOL_TEXT),
    ("restart", Text),
    ("runtime", Text),
    ("scale", INT_TEXT),
    ("secrets", FILES),
    ("security_opt", STRINGS),
    ("shm_size", NUMBER_TEXT),
    ("stdin_open", BOOL_TEXT),
    ("stop_grace_period", Text),
    ("stop_signal", Text),
    ("storage_opt", Map(&Any)),
    ("sysctls", PAIRS),
    ("tmpfs", STRING_OR_LIST),
    ("tty", BOOL_TEXT),
    ("ulimits", ULIMITS),
    ("use_api_socket", Bool),
    ("user", Text),
    ("userns_mode", Text),
    ("uts", Text),
    ("volumes", Set(&Either(&[Text, Shape::Object(&MOUNT)]))),
    ("volumes_from", STRINGS),
    ("working_dir", Text),
]);

const BUILD: Object = object(&[
    ("additional_contexts", PAIRS),
    ("args", PAIRS),
    ("cache_from", List(&Text)),
    ("cache_to", List(&Text)),
    ("context", Text),
    ("dockerfile", Text),
    ("dockerfile_inline", Text),
    ("entitlements", List(&Text)),
    ("extra_hosts", HOSTS),
    ("isolation", Text),
    ("labels", PAIRS),
    ("network", Text),
    ("no_cache", BOOL_TEXT),
    ("no_cache_filter", STRING_OR_LIST),
    ("platforms", List(&Text)),
    ("privileged", BOOL_TEXT),
    ("provenance", BOOL_TEXT),
    ("pull", BOOL_TEXT),
    ("sbom", BOOL_TEXT),
    ("secrets", FILES),
    ("shm_size", INT_TEXT),
    ("ssh", PAIRS),
    ("tags", List(&Text)),
    ("target", Text),
    ("ulimits", ULIMITS),
]);

const BLKIO: Object = closed(
    &[],
    &[
        ("device_read_bps", BLKIO_RATES),
        ("device_read_iops", BLKIO_RATES),
        ("device_write_bps", BLKIO_RATES),
        ("device_write_iops", BLKIO_RATES),
        ("weight", INT_TEXT),
        (
            "weight_device",
            List(&Shape::Object(&closed(&[], &[("path", Text), ("weight", INT_TEXT)]))),
        ),
    ],
);
const BLKIO_RATES: Shape =
    List(&Shape::Object(&closed(&[], &[("path", Text), ("rate", INT_TEXT)])));

const DEPENDENCY: Object = requiring(
    &["condition"],
    &[
        (
            "condition",
            Choice(&["service_started", "service_healthy", "service_completed_successfully"]),
        ),
        ("required", Bool),
        ("restart", BOOL_TEXT),
    ],
);

const ENV_FILE: Object =
    closed(&["path"], &[("path", Text), ("format", Text), ("required", BOOL_TEXT)]);

const EXTENDS: Object = closed(&["service"], &[("service", Text), ("file", Text)]);

const HEALTHCHECK: Object = object(&[
    ("disable", BOOL_TEXT),
    ("interval", Text),
    ("retries", NUMBER_TEXT),
    ("start_interval", Text),
    ("start_period", Text),
    ("test", Either(&[Text, List(&Text)])),
    ("timeout", Text),
]);

const SERVICE_NETWORK: Object = object(&[
    ("aliases", STRINGS),
    ("driver_opts", OPTIONS),
    ("gw_priority", Number),
    ("interface_name", Text),
    ("ipv4_address", Text),
    ("ipv6_address", Text),
    ("link_local_ips", STRINGS),
    ("mac_address", Text),
    ("priority", Number),
]);

const PORT: Object = object(&[
    ("app_protocol", Text),
    ("host_ip", Text),
    ("mode", Text),
    ("name", Text),
    ("protocol", Text),
    ("published", INT_TEXT),
    ("target", INT_TEXT),
]);

const MOUNT: Object = requiring(
    &["type"],
    &[
        (
            "bind",
            Shape::Object(&object(&[
                ("create_host_path", BOOL_TEXT),
                ("propagation", Text),
                ("recursive", Choice(&["enabled", "disabled", "writable", "readonly"])),
                ("selinux", Choice(&["z", "Z"])),
            ])),
        ),
        ("consistency", Text),
        ("image", Shape::Object(&object(&[("subpath", Text)]))),
        ("read_only", BOOL_TEXT),
        ("source", Text),
        ("target", Text),
        (
            "tmpfs",
            Shape::Object(&object(&[
                ("mode", NUMBER_TEXT),
                ("size", Either(&[Bounded(0, i64::MAX), Text])),
            ])),
        ),
        ("type", Choice(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        (
            "volume",
            Shape::Object(&object(&[("labels", PAIRS), ("nocopy", BOOL_TEXT), ("subpath", Text)])),
        ),
    ],
);

const HOOK: Object = requiring(
    &["command"],
    &[
        ("command", COMMAND),
        ("environment", PAIRS),
        ("privileged", BOOL_TEXT),
        ("user", Text),
        ("working_dir", Text),
    ],
);

/// Containers that run before a service's are said as services are.
const PRE_START: Object =
    Object { keys: &[("per_replica", BOOL_TEXT)], required: &[], extensions: true, service: true };

const DEVELOP: Object = object(&[(
    "watch",
    List(&Shape::Object(&requiring(
        &["path", "action"],
        &[
            ("action", Choice(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
            ("exec", Shape::Object(&HOOK)),
            ("ignore", STRING_OR_LIST),
            ("include", STRING_OR_LIST),
            ("initial_sync", Bool),
            ("path", Text),
            ("target", Text),
        ],
    ))),
)]);

const DEPLOY: Object = object(&[
    ("endpoint_mode", Text),
    ("labels", PAIRS),
    ("mode", Text),
    (
        "placement",
        Shape::Object(&object(&[
            ("constraints", List(&Text)),
            ("max_replicas_per_node", INT_TEXT),
            ("preferences", List(&Shape::Object(&object(&[("spread", Text)])))),
        ])),
    ),
    ("replicas", INT_TEXT),
    (
        "resources",
        Shape::Object(&object(&[
            (
                "limits",
                Shape::Object(&object(&[
                    ("cpus", NUMBER_TEXT),
                    ("memory", Text),
                    ("pids", INT_TEXT),
                ])),
            ),
            (
                "reservations",
                Shape::Object(&object(&[
                    ("cpus", NUMBER_TEXT),
                    ("devices", List(&Shape::Object(&DEVICE_REQUEST))),
                    ("generic_resources", List(&Shape::Object(&GENERIC_RESOURCE))),
                    ("memory", Text),
                ])),
            ),
        ])),
    ),
    (
        "restart_policy",
        Shape::Object(&object(&[
            ("condition", Text),
            ("delay", Text),
            ("max_attempts", INT_TEXT),
            ("window", Text),
        ])),
    ),
    ("rollback_config", Shape::Object(&UPDATE)),
    ("update_config", Shape::Object(&UPDATE)),
]);

const UPDATE: Object = object(&[
    ("delay", Text),
    ("failure_action", Text),
    ("max_failure_ratio", NUMBER_TEXT),
    ("monitor", Text),
    ("order", Choice(&["start-first", "stop-first"])),
    ("parallelism", INT_TEXT),
]);

const GENERIC_RESOURCE: Object = object(&[(
    "discrete_resource_spec",
    Shape::Object(&object(&[("kind", Text), ("value", NUMBER_TEXT)])),
)]);

const DEVICE_REQUEST: Object = requiring(&["capabilities"], DEVICE_REQUEST_KEYS);
const GPU: Object = object(DEVICE_REQUEST_KEYS);
const DEVICE_REQUEST_KEYS: &[(&str, Shape)] = &[
    ("capabilities", STRINGS),
    ("count", INT_TEXT),
    ("device_ids", STRINGS),
    ("driver", Text),
    ("options", PAIRS),
];
