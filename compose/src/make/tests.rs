//! What is asked for, beside what docker shows of the same compose files.
//!
//! `testdata/<case>.json` is `docker inspect` of docker 26.1.5 after `docker compose create` (5.6.1) of
//! `testdata/<case>.yaml` in the folder `/bench/make-<case>`, with `GIVEN=host` in the environment. Left out of it is
//! what the engine adds to a request: what the image says, ids, addresses that were given out; and what docker has no
//! say in: the program's version, the compose file's path. Weights of block I/O, which docker's machine had not, are put
//! back. Lists that have no order are sorted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::container::Container;
use super::{container, files, labels, networks};
use crate::model::Project;
use crate::{Request, hash, load};

const IMAGE: &str = "sha256:IMAGE";

fn project(case: &str) -> Project {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/make/testdata");
    let file = dir.join(format!("{case}.yaml")).to_string_lossy().into_owned();
    load_file(&file, &format!("make-{case}"))
}

fn load_file(file: &str, name: &str) -> Project {
    let request = Request {
        files: vec![file.to_owned()],
        project_name: Some(name.to_owned()),
        project_directory: Some(PathBuf::from(format!("/bench/{name}"))),
        environment: BTreeMap::from([("GIVEN".to_owned(), "host".to_owned())]),
        current_dir: PathBuf::from("/"),
        ..Request::default()
    };
    load::load(&request, &mut Vec::new()).unwrap_or_else(|error| panic!("{}", error.render()))
}

/// A project of this text, called `p`, in `/bench/p`.
fn of_text(text: &str) -> Project {
    let request = Request {
        files: vec!["-".to_owned()],
        stdin: Some(text.as_bytes().to_vec()),
        project_name: Some("p".to_owned()),
        project_directory: Some(PathBuf::from("/bench/p")),
        environment: BTreeMap::from([("GIVEN".to_owned(), "host".to_owned())]),
        current_dir: PathBuf::from("/"),
        ..Request::default()
    };
    load::load(&request, &mut Vec::new()).unwrap_or_else(|error| panic!("{}", error.render()))
}

fn container<'a>(
    project: &'a Project,
    service_name: &'a str,
    others: &'a BTreeMap<String, Vec<String>>,
) -> Container<'a> {
    Container {
        project,
        service_name,
        service: &project.services[service_name],
        number: 1,
        image: IMAGE,
        others,
        previous: None,
        files: Path::new("/run/files"),
        one_off: false,
    }
}

/// What is absent or empty says the same, in docker's JSON and in ours.
fn clean(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let is_empty = |value: &Value| {
                matches!(value, Value::Null | Value::Bool(false))
                    || value == &json!("")
                    || value == &json!(0)
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(Map::is_empty)
            };
            let all = map.into_iter().map(|(key, value)| (key, clean(value)));
            Value::Object(all.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(clean).collect()),
        other => other,
    }
}

/// A request as the file of expectations has it.
fn shown(container: &Container<'_>) -> Value {
    let request = match super::request(container) {
        Ok(request) => request,
        Err(error) => panic!("{}: {error}", container.service_name),
    };
    let mut config = request.config;
    assert!(config.labels.remove(labels::VERSION).is_some());
    assert!(config.labels.remove(labels::CONFIG_FILES).is_some());
    assert!(config.labels.remove(labels::ATTRIBUTES).is_some());
    // Docker's is of the service with the containers that it shares something with; ours of the service as it is said.
    let hash = config.labels.insert(labels::CONFIG_HASH.to_owned(), hash_with_others(container));
    assert_eq!(hash, Some(hash::service(container.service)));
    config.env.sort();
    let mut host = request.host_config;
    host.binds.sort();
    host.extra_hosts.sort();
    host.mounts.sort_by(|one, other| one.target.cmp(&other.target));
    host.links.clear();
    if container.service.cgroup.is_empty() {
        host.cgroupns_mode.clear();
    }
    let sees_all = host.masked_paths.take().is_some_and(|paths| paths.is_empty())
        && host.readonly_paths.take().is_some_and(|paths| paths.is_empty());
    let mut endpoints = request.networks;
    for endpoint in endpoints.values_mut() {
        endpoint.links.iter_mut().for_each(|links| links.sort());
    }
    let ports: Vec<&String> = config.exposed_ports.keys().collect();
    let tmpfs: Vec<String> =
        host.tmpfs.iter().map(|(path, options)| format!("{path}:{options}")).collect();
    let mut value = json!({ "Name": request.name, "Config": config, "HostConfig": host,
                            "Networks": endpoints });
    value["Config"]["ExposedPorts"] = json!(ports);
    value["HostConfig"]["Tmpfs"] = json!(tmpfs);
    value["HostConfig"]["ConsoleSize"] = Value::Null;
    if sees_all {
        value["HostConfig"]["Paths"] = json!("all");
    }
    clean(value)
}

fn hash_with_others(container: &Container<'_>) -> String {
    let (name, service) = (container.service_name, container.service);
    hash::service(&container::resolve(name, service, container.others).expect("its containers"))
}

fn compare(what: &str, found: &Value, expected: &Value, differences: &mut Vec<String>) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            let keys: std::collections::BTreeSet<&String> =
                found.keys().chain(expected.keys()).collect();
            for key in keys {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&format!("{what}.{key}"), &of(found), &of(expected), differences);
            }
        }
        _ if found == expected => {}
        _ => differences.push(format!("{what}: {found}, docker has {expected}")),
    }
}

#[track_caller]
fn check(case: &str) {
    let path = format!("{}/src/make/testdata/{case}.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs_err::read_to_string(path).expect("expectations");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let others: BTreeMap<String, Vec<String>> =
        serde_json::from_value(expected["ids"].clone()).expect("ids");
    let project = project(case);
    let mut differences = Vec::new();
    for (name, expected) in expected["services"].as_object().expect("services") {
        let (service, number) = name.rsplit_once('-').expect("a number");
        let mut container = container(&project, service, &others);
        container.number = number.parse().expect("a number");
        compare(name, &shown(&container), expected, &mut differences);
    }
    for (key, expected) in expected["networks"].as_object().expect("networks") {
        let network = networks::network(&project, key);
        compare(key, &shown_network(network), expected, &mut differences);
    }
    for (key, expected) in expected["volumes"].as_object().expect("volumes") {
        let mut volume = networks::volume(&project, key);
        assert!(volume.labels.remove(labels::VERSION).is_some());
        let driver = if volume.driver.is_empty() { "local" } else { &volume.driver };
        let found = json!({ "Name": volume.name, "Driver": driver, "Options": volume.options,
                            "Labels": volume.labels });
        compare(key, &clean(found), expected, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn shown_network(mut network: engine::network::NetworkRequest) -> Value {
    assert!(network.labels.remove(labels::VERSION).is_some());
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    let addresses = network.addresses;
    clean(json!({
        "Name": network.name,
        "Driver": if network.driver.is_empty() { "bridge" } else { &network.driver },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "EnableIPv6": addresses.ipv6,
        "IPAM": {
            "Subnets": sorted(addresses.subnets),
            "Ranges": sorted(addresses.ip_ranges),
            "Gateways": sorted(addresses.gateways),
            "Auxiliary": addresses.auxiliary_addresses,
        },
        "Options": network.options,
        "Labels": network.labels,
    }))
}

#[test]
fn programs_are_told_what_docker_tells_them() {
    check("program");
}

#[test]
fn limits_are_dockers() {
    check("limits");
}

#[test]
fn mounts_are_dockers() {
    check("mounts");
}

#[test]
fn networks_are_dockers() {
    check("networks");
}

fn request(text: &str) -> engine::containers::create::Request {
    let project = of_text(text);
    super::request(&container(&project, "s", &BTreeMap::new())).expect("a request")
}

#[test]
fn what_cannot_be_had_is_refused_with_the_service_and_the_attribute() {
    let check = |attributes: &str, expected: &str| {
        let project = of_text(&format!(
            "services: {{s: {{image: x, {attributes}}}, other: {{image: x}}}}\n\
             secrets: {{out: {{external: true}}, unset: {{environment: NOPE}}, file: {{file: ./f}}}}\n\
             volumes: {{named: {{}}}}\nnetworks: {{bridge: {{external: true}}}}\nmodels: {{m: {{model: ai/x}}}}\n"
        ));
        let found = super::request(&container(&project, "s", &BTreeMap::new()));
        assert_eq!(found.map(drop).expect_err(attributes).to_string(), expected, "{attributes}");
    };
    let s = "service \"s\": ";
    for (attributes, expected) in [
        (
            "isolation: hyperv",
            "isolation is not supported: there is one kind on Linux, write `default` or nothing",
        ),
        (
            "storage_opt: {size: 1g}",
            "storage_opt is not supported: the size of a container cannot be limited",
        ),
        (
            "use_api_socket: true",
            "use_api_socket is not supported: there is no daemon, and so no socket of one",
        ),
        (
            "cpu_rt_period: 1000",
            "cpu_rt_runtime is not supported: the kernel's real-time scheduler cannot be limited",
        ),
        ("models: [m]", "models is not supported: there is nothing here that runs models"),
        ("userns_mode: auto", "userns_mode is not supported: write `host` or nothing"),
        (
            "runtime: nvidia",
            "runtime is not supported: there is one runtime, write `runc` or nothing; for GPUs, write `gpus: all`",
        ),
        (
            "networks: {default: {link_local_ips: [169.254.8.8]}}",
            "link_local_ips is not supported: a container has one address of each kind in a network, see ipv4_address",
        ),
        (
            "networks: {default: {interface_name: eth7}}",
            "interface_name is not supported: devices are called eth0, eth1 and so on, in the order of gw_priority",
        ),
        (
            "volumes: [{type: npipe, source: a, target: /x}]",
            "volumes is not supported: there are no mounts of type \"npipe\" on Linux without a swarm",
        ),
        (
            "volumes: [{type: volume, target: /x, read_only: true}]",
            "volumes: must not set ReadOnly mode when using anonymous volumes",
        ),
        (
            "volumes: [{type: bind, source: /a, target: /x, bind: {propagation: sideways}}]",
            "volumes: invalid propagation mode: sideways",
        ),
        ("mem_limit: 1m", "mem_limit: Minimum memory limit allowed is 6MB"),
        ("mem_limit: -1", "mem_limit: Minimum memory limit allowed is 6MB"),
        (
            "mem_limit: 8m, mem_reservation: 9m",
            "mem_reservation: Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            "mem_limit: 8m, memswap_limit: 7m",
            "memswap_limit: Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            "memswap_limit: 7m",
            "memswap_limit: You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        ("mem_swappiness: 200", "mem_swappiness: valid memory swappiness range is 0-100"),
        (
            "cpus: 0.5, cpu_quota: 20000",
            "cpus: Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        ("cpu_quota: 20", "cpu_quota: CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ("dns: [nope]", "dns: \"nope\" is not an address"),
        ("security_opt: [bogus]", "security_opt: invalid security-opt: \"bogus\""),
        (
            "restart: sometimes",
            "restart: invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            "deploy: {restart_policy: {max_attempts: 2}}",
            "restart: invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            "healthcheck: {start_interval: 2s}",
            "healthcheck: start_interval requires start_period to be set",
        ),
        (
            "mac_address: '02:42:ac:11:65:43', networks: {default: {mac_address: '02:42:ac:11:65:44'}}",
            "mac_address: it is not the one that the service's first network has",
        ),
        (
            "network_mode: 'container:c', ports: ['80:80']",
            "ports: conflicting options: port publishing and the container type network mode",
        ),
        (
            "network_mode: 'container:c', expose: ['80']",
            "expose: conflicting options: port exposing and the container type network mode",
        ),
        (
            "network_mode: host, external_links: [c]",
            "links: conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
        ("uts: host, hostname: x", "hostname: conflicting options: hostname and the UTS mode"),
        (
            "networks: [bridge]",
            "networks: network-scoped alias is supported only for containers in user defined networks, \
             write `network_mode: bridge`",
        ),
        (
            "network_mode: 'service:other'",
            "cannot share network namespace with service \"other\": it has no container, start it first",
        ),
        (
            "volumes_from: [other]",
            "cannot share volumes with service \"other\": it has no container, start it first",
        ),
    ] {
        check(attributes, &format!("{s}{expected}"));
    }
    check(
        "secrets: [out]",
        "unsupported external secret out: give it a `file` or an `environment`",
    );
    check(
        "secrets: [unset]",
        "environment variable \"NOPE\" required by secret \"p_unset\" is not set",
    );
    check("secrets: [{source: file, uid: www}]", "secret \"p_file\": uid \"www\" is not a number");
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    check(
        "cpus: 9999",
        &format!(
            "{s}cpus: range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
        ),
    );
}

#[test]
fn a_container_that_replaces_another_keeps_its_volumes_without_a_name() {
    let project = of_text(
        "services: {s: {image: x, volumes: [/anon, named:/n, './:/b', {type: tmpfs, target: /t}]}}\nvolumes: {named: }",
    );
    let others = BTreeMap::new();
    let mount = |kind: &str, name: &str, target: &str, rw: bool| {
        json!({ "Point": { "Type": kind, "Name": name, "Source": "/src", "Destination": target, "RW": rw },
                "Origin": "Mount" })
    };
    let mut named = mount("volume", "eee", "/named", true);
    named["Spec"] = json!({ "Type": "volume", "Source": "eee", "Target": "/named" });
    // `/v` and `/named` are volumes of the image, `/gone` one that the service has no more.
    let previous = serde_json::from_value(json!({
        "Config": { "Volumes": { "/v": {}, "/n": {}, "/host": {}, "/named": {} } },
        "Mounts": [
            mount("volume", "aaa", "/anon", true),
            mount("volume", "bbb", "/v", false),
            mount("volume", "old", "/n", true),
            mount("volume", "ccc", "/gone", true),
            mount("volume", "ddd", "/t", true),
            mount("bind", "", "/host", true),
            mount("tmpfs", "", "/v/tmp", true),
            named,
        ],
    }))
    .expect("a record");
    let asked = Container { previous: Some(&previous), ..container(&project, "s", &others) };
    let request = super::request(&asked).expect("a request");
    assert_eq!(request.host_config.binds, ["p_named:/n:rw", "/bench/p:/b:rw"]);
    // What nobody named still goes with the container.
    let unnamed = json!({ "Labels": { "com.docker.volume.anonymous": "" } });
    assert_eq!(
        json!(request.host_config.mounts),
        json!([
            { "Type": "volume", "Source": "aaa", "Target": "/anon", "VolumeOptions": unnamed },
            { "Type": "volume", "Source": "bbb", "Target": "/v", "ReadOnly": true,
              "VolumeOptions": unnamed },
            { "Type": "bind", "Source": "/src", "Target": "/host" },
            { "Type": "volume", "Source": "eee", "Target": "/named" },
            { "Type": "tmpfs", "Target": "/t" },
        ])
    );
    assert_eq!(request.config.labels[labels::REPLACE], "s-1");
}

#[test]
fn links_go_by_names_and_what_is_shared_by_ids() {
    let text = "
services:
  s: {image: x, links: [db, 'one:only'], external_links: ['far:near'], volumes_from: ['db:ro', 'container:c:ro'], pid: 'service:one'}
  db: {image: x}
  one: {image: x, container_name: fixed}
";
    let project = of_text(text);
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let others = BTreeMap::from([
        ("db".to_owned(), ids(&["id1", "id2"])),
        ("one".to_owned(), ids(&["id3"])),
    ]);
    let asked = Container { number: 7, ..container(&project, "s", &others) };
    let host = super::request(&asked).expect("a request").host_config;
    assert_eq!(
        host.links,
        [
            "p-db-1:db",
            "p-db-1:db-7",
            "p-db-1:p-db-7",
            "p-db-2:db",
            "p-db-2:db-7",
            "p-db-2:p-db-7",
            "fixed:only",
            "fixed:one-7",
            "fixed:p-one-7",
            "far:near",
        ]
    );
    assert_eq!(host.volumes_from, ["id1:ro", "c:ro"]);
    assert_eq!(host.pid_mode, "container:id3");
}

#[test]
fn a_one_off_container_has_no_number_no_ports_and_no_restarts() {
    let project = of_text(
        "services: {s: {image: x, restart: always, ports: ['1080:80'], expose: ['99'], networks: {default: {aliases: [a]}}}}",
    );
    let others = BTreeMap::new();
    let mut service = project.services["s"].clone();
    let asked = Container { one_off: true, service: &service, ..container(&project, "s", &others) };
    let request = super::request(&asked).expect("a request");
    assert_eq!(
        (request.name.as_str(), request.host_config.restart_policy.name.as_str()),
        ("", "no")
    );
    assert_eq!(request.networks["p_default"].aliases, Some(Vec::new()));
    service.container_name = "p-s-run-1".to_owned();
    let asked = Container { one_off: true, service: &service, ..container(&project, "s", &others) };
    let mut request = super::request(&asked).expect("a request");
    assert_eq!(request.name, "p-s-run-1");
    assert_eq!(request.config.labels[labels::ONEOFF], "True");
    assert!(!request.config.labels.contains_key(labels::NUMBER));
    assert_eq!(Vec::from_iter(request.config.exposed_ports.keys()), ["99/tcp"]);
    assert!(request.host_config.port_bindings.is_empty());
    networks::publish("s", &mut request, &service.ports).expect("ports");
    networks::use_aliases(&asked, &mut request);
    assert_eq!(Vec::from_iter(request.config.exposed_ports.keys()), ["80/tcp", "99/tcp"]);
    assert_eq!(
        json!(request.host_config.port_bindings),
        json!({ "80/tcp": [{ "HostIp": "", "HostPort": "1080" }] })
    );
    let aliases = request.networks["p_default"].aliases.clone().expect("aliases");
    assert_eq!(aliases, ["p-s-run-1", "s", "a"]);
}

#[test]
fn a_profile_is_read_from_the_projects_folder() {
    let host =
        request("services: {s: {image: x, security_opt: ['seccomp:./s.json', 'seccomp=/abs']}}");
    assert_eq!(host.host_config.security_opt, ["seccomp=/bench/p/./s.json", "seccomp=/abs"]);
}

const FILES: &str = "
services:
  s:
    image: x
    read_only: true
    volumes: [/run/secrets/hidden]
    secrets:
      - plain
      - {source: plain, target: mine, uid: '103', mode: 0o440}
      - variable
      - {source: variable, target: /abs/variable, gid: '7'}
      - {source: plain, target: hidden}
    configs:
      - text
      - {source: text, target: etc/text.conf, mode: 0o600}
      - {source: disk, target: /disk}
secrets:
  plain: {file: ./plain.txt}
  variable: {environment: GIVEN}
configs:
  text: {content: a-b}
  disk: {file: ./disk.txt}
";

#[test]
fn secrets_and_configs_are_files_on_disk_or_in_memory() {
    let project = of_text(FILES);
    let others = BTreeMap::new();
    let request = super::request(&container(&project, "s", &others)).expect("a request");
    let line = |mount: &engine::volume::api::Mount| {
        assert!(mount.read_only != mount.source.is_empty());
        format!("{} {}", mount.source, mount.target)
    };
    let mounts: Vec<String> = request.host_config.mounts.iter().map(line).collect();
    assert_eq!(
        mounts,
        [
            " /run/secrets/hidden",
            "/bench/p/plain.txt /run/secrets/plain",
            "/run/files/secret-plain-103-0-440 /run/secrets/mine",
            "/run/files/secret-variable-0-0-444 /run/secrets/variable",
            "/run/files/secret-variable-0-7-444 /abs/variable",
            "/run/files/config-text-0-0-444 /text",
            "/run/files/config-text-0-0-600 /etc/text.conf",
            "/bench/p/disk.txt /disk",
        ]
    );
    let files = files::files(&project, &project.services["s"], Path::new("/run/files"));
    let line = |file: files::File| format!("{} {:?}", file.path.display(), file.content);
    let files: Vec<String> = files.expect("files").into_iter().map(line).collect();
    assert_eq!(
        files,
        [
            "/run/files/secret-plain-103-0-440 copy of /bench/p/plain.txt",
            "/run/files/secret-variable-0-0-444 4 bytes",
            "/run/files/secret-variable-0-7-444 4 bytes",
            "/run/files/config-text-0-0-444 3 bytes",
            "/run/files/config-text-0-0-600 3 bytes",
        ]
    );
}
