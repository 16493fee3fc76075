//! What an image is besides its files: configuration and history.

use serde_json::json;

use crate::support::{Test, check, unindent};

#[test]
fn workdir_makes_its_folder_once_for_the_current_user() {
    check(
        r#"
        FROM busybox
        RUN mkdir -m 700 /old && chown 5:6 /old
        WORKDIR /old
        RUN stat -c '%a %u:%g %n' /old > /out && chmod 666 /out
        WORKDIR /made/deep
        RUN stat -c '%a %u:%g %n' /made /made/deep >> /out
        USER daemon
        WORKDIR sub/
        RUN pwd >> /out; stat -c '%a %u:%g %n' /made/deep/sub >> /out
        WORKDIR ..
        RUN pwd >> /out
        WORKDIR /
        WORKDIR tmp
        RUN pwd >> /out
        "#,
        "
        700 5:6 /old
        755 0:0 /made
        755 0:0 /made/deep
        /made/deep/sub
        755 1:1 /made/deep/sub
        /made/deep
        /tmp
        ",
    );
    let test = Test::of("FROM scratch\nWORKDIR /a/b/\nWORKDIR c\n");
    assert_eq!(test.build(&[]).config()["WorkingDir"], "/a/b/c");
}

#[test]
fn expose_takes_ports_ranges_and_protocols_and_drops_the_hosts_part() {
    let test = Test::of("");
    for (line, ports) in [
        ("80", vec!["80/tcp"]),
        ("80/udp 53/TCP", vec!["53/tcp", "80/udp"]),
        ("1000-1002/udp", vec!["1000/udp", "1001/udp", "1002/udp"]),
        ("8080:80 127.0.0.1:1:2/sctp", vec!["2/sctp", "80/tcp"]),
        ("$PORTS", vec!["1/tcp", "2/udp"]),
        ("80 80/tcp", vec!["80/tcp"]),
    ] {
        test.file("Dockerfile", format!("FROM scratch\nENV PORTS=\"1 2/udp\"\nEXPOSE {line}\n"));
        let config = test.build(&[]).config();
        let mut found: Vec<_> =
            config["ExposedPorts"].as_object().unwrap().keys().cloned().collect();
        found.sort();
        assert_eq!(found, ports, "EXPOSE {line}");
    }
    for (line, text) in [("x", "x"), ("80/nope", "nope"), ("70000", "70000"), ("5-3", "5-3")] {
        test.file("Dockerfile", format!("FROM scratch\nEXPOSE {line}\n"));
        test.refused(&[], &[text]);
    }
}

#[test]
fn labels_are_merged_in_order_and_the_command_line_adds_to_them() {
    let image = Test::of(
        r#"
        FROM scratch AS base
        LABEL inherited=base overridden=base
        FROM base
        LABEL overridden=own "two words"='single $quoted' \
              escaped="a \"b\" c" \
              multi="line one \
        line two"
        LABEL legacy the rest
        "#,
    )
    .build(&["--label", "given=here", "--label", "overridden=command line", "--label", "bare"]);
    let expected = json!({
        "inherited": "base", "overridden": "command line", "two words": "single $quoted", "escaped": "a \"b\" c",
        "multi": "line one line two", "legacy": "the rest", "given": "here", "bare": "",
    });
    assert_eq!(image.config()["Labels"], expected);
}

#[test]
fn env_keeps_its_order_and_the_bases_path() {
    let image = Test::of(
        "
        FROM busybox
        ENV Z=1 A=2
        ENV M=3 Z=4
        ",
    )
    .build(&[]);
    let expected =
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "Z=4", "A=2", "M=3"];
    assert_eq!(image.config()["Env"], json!(expected));
}

#[test]
fn entrypoint_resets_the_inherited_cmd_and_keeps_its_own_stages() {
    let test = Test::of("");
    for (lines, entrypoint, cmd) in [
        ("ENTRYPOINT [\"e\"]", json!(["e"]), json!(null)),
        ("ENTRYPOINT [\"e\"]\nCMD [\"c\"]", json!(["e"]), json!(["c"])),
        ("CMD [\"c\"]\nENTRYPOINT [\"e\"]", json!(["e"]), json!(["c"])),
        ("CMD c", json!(null), json!(["/bin/sh", "-c", "c"])),
        ("ENTRYPOINT e", json!(["/bin/sh", "-c", "e"]), json!(null)),
        ("CMD [\"a\"]\nCMD [\"b\"]", json!(null), json!(["b"])),
        ("SHELL [\"x\", \"-y\"]\nCMD c", json!(null), json!(["x", "-y", "c"])),
        ("", json!(null), json!(["inherited"])),
    ] {
        test.file(
            "Dockerfile",
            format!("FROM scratch AS base\nCMD [\"inherited\"]\nFROM base\n{lines}\n"),
        );
        let config = test.build(&[]).config();
        assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&entrypoint, &cmd), "{lines}");
    }
}

#[test]
fn a_volume_is_in_the_configuration_and_later_changes_below_it_stay() {
    let image = Test::of(
        r#"
        FROM busybox
        VOLUME /a /b
        VOLUME ["/d", "/e"]
        RUN mkdir -p /a && echo kept > /a/file
        "#,
    )
    .build(&[]);
    assert_eq!(image.config()["Volumes"], json!({"/a": {}, "/b": {}, "/d": {}, "/e": {}}));
    assert_eq!(image.read("a/file"), "kept\n");
}

#[test]
fn healthcheck_options_are_nanoseconds_and_none_and_inheritance_hold() {
    let test = Test::of(
        "
        FROM scratch AS base
        HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=500ms --retries=2 CMD curl -f localhost
        FROM base AS exec
        HEALTHCHECK --interval=0 CMD [\"probe\", \"x\"]
        FROM base AS none
        HEALTHCHECK NONE
        FROM base AS inherits
        ",
    );
    let checked = json!({
        "Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 300_000_000_000_u64, "Timeout": 3_000_000_000_u64,
        "StartPeriod": 1_000_000_000, "StartInterval": 500_000_000, "Retries": 2,
    });
    for (target, expected) in [
        ("base", checked.clone()),
        ("exec", json!({"Test": ["CMD", "probe", "x"]})),
        ("none", json!({"Test": ["NONE"]})),
        ("inherits", checked),
    ] {
        assert_eq!(test.build(&["--target", target]).config()["Healthcheck"], expected, "{target}");
    }
    for (line, text) in [
        ("--interval=1us CMD x", "cannot be less than 1ms"),
        ("--interval=never CMD x", "never"),
        ("--retries=-1 CMD x", "-1"),
        ("SOMETIMES x", "SOMETIMES"),
        ("NONE x", "NONE"),
        ("CMD", "CMD"),
    ] {
        test.file("Dockerfile", format!("FROM scratch\nHEALTHCHECK {line}\n"));
        test.refused(&[], &[text]);
    }
}

#[test]
fn stopsignal_maintainer_and_user_are_in_the_configuration() {
    let test = Test::of(
        "
        FROM scratch
        MAINTAINER Ann Author <ann@example.com>
        STOPSIGNAL SIGQUIT
        USER 5:6
        ",
    );
    let inspected = test.build(&[]).inspect();
    assert_eq!(inspected["Author"], "Ann Author <ann@example.com>");
    assert_eq!(
        (&inspected["Config"]["StopSignal"], &inspected["Config"]["User"]),
        (&json!("SIGQUIT"), &json!("5:6"))
    );
    test.file("Dockerfile", "FROM scratch\nSTOPSIGNAL SIGNONE\n");
    test.refused(&[], &["SIGNONE"]);
}

#[test]
fn history_has_one_entry_for_each_instruction() {
    let test = Test::of(
        r#"
        FROM scratch
        ARG A=b
        COPY a /a
        ENV K=v
        COPY --from=busybox /bin /bin
        RUN echo hi > /x
        RUN ["busybox", "ls"]
        WORKDIR /w
        LABEL l=m
        EXPOSE 80
        USER 1
        VOLUME /v
        STOPSIGNAL SIGTERM
        CMD ["c"]
        -- a
        "#,
    );
    let image = test.build(&[]);
    let mut history = image.history();
    history.reverse();
    let expected = r#"
        ARG A=b
        COPY a /a # buildkit
        ENV K=v
        COPY /bin /bin # buildkit
        RUN |1 A=b /bin/sh -c echo hi > /x # buildkit
        RUN |1 A=b busybox ls # buildkit
        WORKDIR /w
        LABEL l=m
        EXPOSE [80/tcp]
        USER 1
        VOLUME [/v]
        STOPSIGNAL SIGTERM
        CMD ["c"]
        "#;
    assert_eq!(history.join("\n") + "\n", unindent(expected));
    let sizes = test.rbuild(&["history", "--format", "{{.Size}}", "test"]).ok();
    assert_eq!(sizes.lines().count(), 13);
    assert_eq!(image.layers().len(), 5);
}

#[test]
fn an_image_without_layers_is_valid_and_a_base_alone_is_the_same_content() {
    let test = Test::of("FROM scratch\nLABEL only=labels\n");
    let image = test.build(&[]);
    assert!(image.layers().is_empty());
    assert_eq!(image.tree(), "");
    test.file("Dockerfile", "FROM busybox\n");
    let base = crate::support::inspect(&test, "busybox");
    assert_eq!(json!(test.build(&[]).layers()), base["RootFS"]["Layers"]);
}
