//! Networks as people make, list, inspect and remove them.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::Test;
use crate::support::containers::world;

fn network(test: &Test, words: &str) -> String {
    let line: Vec<&str> = std::iter::once("network").chain(words.split(' ')).collect();
    test.rbuild(&line).ok()
}

#[track_caller]
fn refused(test: &Test, words: &str, text: &str) {
    let line: Vec<&str> = std::iter::once("network").chain(words.split(' ')).collect();
    let outcome = test.rbuild(&line);
    let said = outcome.failed(1);
    assert!(said.contains(text), "{said}");
}

#[test]
fn a_network_is_made_listed_inspected_and_removed() {
    let test = Test::empty();
    let id = network(&test, "create --label a=b --label c app");
    let id = id.trim_end();
    assert_eq!(id.len(), 64);
    let listed = network(&test, "ls");
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[0], "NETWORK ID     NAME      DRIVER    SCOPE");
    assert_eq!(lines[1], format!("{}   app       bridge    local", &id[..12]));
    assert_eq!(lines.len(), 5, "the predefined networks are listed too: {listed}");
    assert_eq!(network(&test, "ls -q --no-trunc --filter label=a=b").trim_end(), id);
    assert_eq!(
        network(&test, "ls --filter type=custom --format {{.Name}}/{{.Labels}}"),
        "app/a=b,c=\n"
    );

    let inspected: Value = serde_json::from_str(&network(&test, "inspect app")).unwrap();
    let shown = &inspected[0];
    assert_eq!(shown["Id"], id);
    assert_eq!(shown["Labels"], json!({"a": "b", "c": ""}));
    assert_eq!((&shown["Driver"], &shown["Containers"]), (&json!("bridge"), &json!({})));
    let format = "{{.ID}} {{(index .IPAM.Config 0).Gateway}} {{.Internal}}";
    let printed = test.rbuild(&["network", "inspect", "-f", format, &id[..8]]).ok();
    let gateway = shown["IPAM"]["Config"][0]["Gateway"].as_str().unwrap();
    assert_eq!(printed, format!("{id} {gateway} false\n"));

    refused(&test, "create app", "network with name app already exists");
    assert_eq!(network(&test, "rm app"), "app\n");
    refused(&test, "rm app", "network app not found");
    network(&test, "rm -f app");
    refused(&test, "inspect app", "Error: network app not found");
}

#[test]
fn subnets_are_checked_in_docker_s_words() {
    let test = Test::empty();
    network(
        &test,
        "create --subnet 10.201.7.0/24 --gateway 10.201.7.254 --ip-range 10.201.7.0/25 one",
    );
    let config = test.rbuild(&["network", "inspect", "-f", "{{json .IPAM.Config}}", "one"]).ok();
    assert_eq!(
        config,
        "[{\"Subnet\":\"10.201.7.0/24\",\"IPRange\":\"10.201.7.0/25\",\"Gateway\":\"10.201.7.254\"}]\n"
    );
    for (words, text) in [
        (
            "create --subnet 10.201.7.128/25 two",
            "Pool overlaps with other one on this address space",
        ),
        ("create --subnet 10.201.8.1/24 two", "it should be 10.201.8.0/24"),
        ("create --subnet ten two", "invalid subnet ten"),
        (
            "create --subnet 10.201.8.0/24 --gateway 10.201.9.1 two",
            "no matching subnet for gateway 10.201.9.1",
        ),
        ("create --gateway 10.201.9.1 two", "must have a corresponding subnet"),
        ("create -d overlay two", "network driver \"overlay\" is not supported"),
        ("create host", "operation is not permitted on predefined host network"),
        ("rm bridge", "bridge is a pre-defined network and cannot be removed"),
    ] {
        refused(&test, words, text);
    }
    assert_eq!(network(&test, "ls -q --filter type=custom").lines().count(), 1);
    assert_eq!(network(&test, "prune -f"), "Deleted Networks:\none\n\n");
    assert_eq!(network(&test, "prune -f"), "");
}

#[test]
fn who_is_not_on_a_network_is_not_taken_from_it_even_by_force() {
    let test = world();
    let id = test.rbuild(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sleep",
        "300",
    ]);
    let id = id.ok().trim_end().to_owned();
    let made = test.rbuild(&["create", "--name", "idle", "--network", "none", "busybox"]).ok();
    test.rbuild(&["network", "create", "app"]).succeeded();
    for options in ["disconnect", "disconnect -f"] {
        let text = format!("container {id} is not connected to network app");
        refused(&test, &format!("{options} app web"), &text);
        let text = format!("container {} is not connected to the network app", made.trim_end());
        refused(&test, &format!("{options} app idle"), &text);
    }
    // One that is gone is none that it could be connected to either.
    let text = format!("container {id} is not connected to the network gone");
    refused(&test, "disconnect -f gone web", &text);
    refused(&test, "disconnect gone web", "network gone not found");
}

#[test]
fn who_comes_when_all_addresses_are_taken_is_told_so_and_a_free_one_is_given_again() {
    let test = world();
    network(&test, "create --subnet 10.99.7.0/28 few");
    // 16 addresses without those of the network, the gateway and the broadcast.
    let names: Vec<String> = (0..16).map(|number| format!("few{number}")).collect();
    let starting: Vec<_> = names
        .iter()
        .map(|name| {
            let line = ["run", "-d", "--name", name, "--network", "few", "busybox", "sleep", "600"];
            let mut command = test.command(&line);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let ended = starting.into_iter().map(|child| child.wait_with_output().unwrap());
    let (started, refused): (Vec<_>, Vec<_>) =
        names.iter().zip(ended).partition(|(_, output)| output.status.success());
    assert_eq!((started.len(), refused.len()), (13, 3));
    for (name, output) in &refused {
        assert_eq!(output.status.code(), Some(125));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("no address is free in 10.99.7.0/28"), "{said}");
        let state = test.rbuild(&["inspect", "-f", "{{.State.Status}}", name]).ok();
        assert_eq!(state, "created\n");
    }
    let format = "{{range .Containers}}{{.IPv4Address}} {{end}}";
    let shown = test.rbuild(&["network", "inspect", "few", "-f", format]).ok();
    let mut shown: Vec<&str> = shown.split_whitespace().collect();
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), 13, "{shown:?}");
    test.rbuild(&["rm", "-f", started[0].0]).succeeded();
    test.rbuild(&["start", refused[0].0]).succeeded();
}

#[test]
fn an_address_of_ones_own_and_aliases_are_for_networks_that_users_make() {
    let test = world();
    for network in ["bridge", "none", "host"] {
        for (option, value, text) in [
            ("--ip", "10.1.2.3", "user specified IP address is supported on user defined networks"),
            ("--network-alias", "web", "network-scoped alias is supported only for containers in"),
        ] {
            let line = ["run", "--rm", "--network", network, option, value, "busybox", "true"];
            let outcome = test.rbuild(&line);
            let said = outcome.failed(125);
            assert!(said.contains(text), "{said}");
            assert!(said.contains(&format!("invalid config for network {network}")), "{said}");
        }
    }
}
