//! What `deploy` says: replicas, resources, restarts; and what only swarm heeds.

use super::value::{Bytes, Decimal, DeviceCount, Duration, Pairs};
use crate::field::record;

record! {
    /// How many containers there are and what they may use.
    pub struct Deploy {
        mode: String = "mode",
        replicas: Option<i64> = "replicas",
        labels: Pairs = "labels",
        update_config: Option<Update> = "update_config",
        rollback_config: Option<Update> = "rollback_config",
        resources: Resources = "resources",
        restart_policy: Option<RestartPolicy> = "restart_policy",
        placement: Placement = "placement",
        endpoint_mode: String = "endpoint_mode",
    }
}

record! {
    /// How containers are replaced.
    pub struct Update {
        parallelism: Option<u64> = "parallelism",
        delay: Duration = "delay",
        failure_action: String = "failure_action",
        monitor: Duration = "monitor",
        max_failure_ratio: Decimal = "max_failure_ratio",
        order: String = "order",
    }
}

record! {
    /// What a container may use and what is kept for it.
    pub struct Resources {
        limits: Option<Limits> = "limits",
        reservations: Option<Reservations> = "reservations",
    }
}

record! {
    /// What a container may use.
    pub struct Limits {
        cpus: Decimal = "cpus",
        memory: Bytes = "memory",
        pids: i64 = "pids",
    }
}

record! {
    /// What is kept for a container.
    pub struct Reservations {
        cpus: Decimal = "cpus",
        memory: Bytes = "memory",
        devices: Vec<DeviceRequest> = "devices",
        generic_resources: Vec<GenericResource> = "generic_resources",
    }
}

record! {
    /// Devices such as GPUs.
    pub struct DeviceRequest {
        capabilities: Vec<String> = "capabilities",
        driver: String = "driver",
        count: DeviceCount = "count",
        device_ids: Vec<String> = "device_ids",
        options: Pairs = "options",
    }
}

record! {
    /// A resource of a kind that the user has named.
    pub struct GenericResource {
        discrete_resource_spec: Option<GenericResourceSpec> = "discrete_resource_spec",
    }
}

record! {
    /// How much of such a resource.
    pub struct GenericResourceSpec {
        kind: String = "kind",
        value: i64 = "value",
    }
}

record! {
    /// When a container is started again.
    pub struct RestartPolicy {
        condition: String = "condition",
        delay: Option<Duration> = "delay",
        max_attempts: Option<u64> = "max_attempts",
        window: Option<Duration> = "window",
    }
}

record! {
    /// Where containers run.
    pub struct Placement {
        constraints: Vec<String> = "constraints",
        preferences: Vec<PlacementPreference> = "preferences",
        max_replicas_per_node: u64 = "max_replicas_per_node",
    }
}

record! {
    /// Over what containers are spread.
    pub struct PlacementPreference {
        spread: String = "spread",
    }
}
