//! RUN: shells, users, networks, limits and mounts of a build step.

use crate::support::{Test, check};

#[test]
fn the_shell_is_sh_until_shell_says_otherwise() {
    let image = Test::of(
        r#"
        FROM busybox
        RUN echo "$0" > /out
        SHELL ["/bin/sh", "-ec"]
        RUN case $- in *e*) echo "-e $0" >> /out ;; esac
        CMD echo hi
        RUN ["sh", "-c", "echo exec >> /out"]
        "#,
    )
    .build(&[]);
    assert_eq!(image.read("out"), "/bin/sh\n-e /bin/sh\nexec\n");
    let config = image.config();
    assert_eq!(config["Shell"], serde_json::json!(["/bin/sh", "-ec"]));
    assert_eq!(config["Cmd"], serde_json::json!(["/bin/sh", "-ec", "echo hi"]));
}

#[test]
fn a_step_that_fails_is_named_with_its_exit_code_and_nothing_is_tagged() {
    let test = Test::of(
        "
        FROM busybox
        RUN true
        RUN echo to stdout; echo to stderr >&2; exit 7
        ",
    );
    let process = "process \"/bin/sh -c echo to stdout; echo to stderr >&2; exit 7\"";
    let text = format!("{process} did not complete successfully: exit code: 7");
    test.refused(&[], &[&text, "to stdout", "to stderr", "Dockerfile:3", "RUN echo to stdout"]);
    assert_eq!(test.names(), ["busybox:latest"]);

    test.file("Dockerfile", "FROM busybox\nRUN [\"/missing\"]\n");
    test.refused(&[], &["/missing", "no such file or directory"]);
    test.file("Dockerfile", "FROM busybox\nRUN missing\n");
    test.refused(&[], &["exit code: 127", "missing: not found"]);
    test.file("Dockerfile", "FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n");
    test.refused(&[], &["exit code: 137"]);
}

#[test]
fn a_step_makes_a_root_with_devices_and_goes_there() {
    let test = Test::of(
        "
        FROM busybox
        RUN mkdir -p /target/dev /target/bin && cp /bin/busybox /target/bin && mknod -m 666 /target/dev/null c 1 3
        RUN chroot /target /bin/busybox sh -c 'echo x > /dev/null' && echo in a layer > /out
        RUN mknod /fuse c 10 229 && mknod /target/null c 1 3 && echo x > /target/null && cat /fuse 2>> /out || true
        ",
    );
    let denied = "cat: can't open '/fuse': Operation not permitted\n";
    assert_eq!(test.build(&[]).read("out"), format!("in a layer\n{denied}"));

    // Where there are no cgroups, mounts allow no devices but the usual ones.
    test.file(
        "Dockerfile",
        "FROM busybox\nRUN for i in 1 2; do echo $i > /dev/null; done && mknod /fuse c 10 229 && ! cat /fuse 2> /out\n\
         RUN echo again > /dev/null && ! cat /fuse 2>> /out\n",
    );
    let line =
        "umount -R /sys/fs/cgroup; $RBUILD build -q --network none -o type=tar .| tar -xO out";
    let denied = "cat: can't open '/fuse': Permission denied\n";
    assert_eq!(test.unshared(line), denied.repeat(2));
}

#[test]
fn the_entrypoint_of_the_base_and_standard_input_play_no_part() {
    check(
        r#"
        FROM busybox AS base
        ENTRYPOINT ["false"]
        FROM base
        RUN []
        RUN cat > /out; readlink /proc/self/fd/0 >> /out; cat /proc/self/comm >> /out
        "#,
        "/dev/null\ncat\n",
    );
}

#[test]
fn user_takes_names_and_numbers_and_gives_the_groups_of_the_image() {
    check(
        r#"
        FROM busybox
        RUN echo jo:x:1500:1500::/home/jo:/bin/sh >> /etc/passwd && echo jo:x:1500: >> /etc/group && echo more:x:1600:jo >> /etc/group
        RUN touch /out && chmod 666 /out
        RUN echo "$(id -u):$(id -g) $(id -G) $HOME" >> /out
        USER jo
        RUN echo "$(id -u):$(id -g) $(id -G) $HOME" >> /out
        USER 1500
        RUN echo "$(id -u):$(id -g) $(id -G) $HOME" >> /out
        USER jo:daemon
        RUN echo "$(id -u):$(id -g) $(id -G) $HOME" >> /out
        USER jo:7
        RUN echo "$(id -u):$(id -g) $(id -G)" >> /out
        USER 77:88
        RUN echo "$(id -u):$(id -g) $(id -G) $HOME" >> /out
        USER 77
        RUN echo "$(id -u):$(id -g) $(id -G)" >> /out
        "#,
        "
        0:0 0 10 /root
        1500:1500 1500 1600 /home/jo
        1500:1500 1500 1600 /home/jo
        1500:1 1 /home/jo
        1500:7 7
        77:88 88 /
        77:0 0
        ",
    );
    let test = Test::of("FROM busybox\nUSER stranger\nRUN true\n");
    test.refused(&[], &["unable to find user stranger: no matching entries in passwd file"]);
}

#[test]
fn the_files_that_name_hosts_are_there_during_run_and_not_in_the_layer() {
    let test = Test::of(
        "
        FROM scratch AS files
        FROM busybox
        RUN grep -q localhost /etc/hosts && [ -s /etc/resolv.conf ] && [ -e /etc/hostname ]
        RUN grep extra /etc/hosts > /out; hostname >> /out
        ",
    );
    let image = test.build(&["--add-host", "extra:10.1.2.3"]);
    assert_eq!(image.read("out"), "10.1.2.3\textra\nbuildkitsandbox\n");
    for name in ["etc/hosts", "etc/resolv.conf", "etc/hostname", "dev/null"] {
        assert_eq!(image.tree_of(name), "", "{name}");
    }
    let named = test.build(&["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=mine"]);
    assert!(named.read("out").ends_with("mine\n"));
}

#[test]
fn a_step_has_its_own_network_none_or_the_hosts() {
    let test = Test::of(
        r#"
        FROM busybox
        RUN ls /sys/class/net | tr '\n' ' ' > /out
        RUN --network=none ls /sys/class/net | tr '\n' ' ' > /none
        "#,
    );
    let image = test.build(&[]);
    assert_eq!((image.read("out").as_str(), image.read("none").as_str()), ("eth0 lo ", "lo "));
    assert_eq!(test.build(&["--network", "none"]).read("out"), "lo ");
    // Other tests' networks come and go on the host meanwhile.
    let own = |names: String| {
        let names: Vec<_> =
            names.split_whitespace().filter(|name| !name.starts_with("rb")).collect();
        names.join(" ")
    };
    let host = own(test.shell("ls /sys/class/net"));
    assert_eq!(own(test.build(&["--network", "host"]).read("out")), host);

    test.file(
        "Dockerfile",
        "FROM busybox\nRUN --network=host ls /sys/class/net | tr '\\n' ' ' > /out\n",
    );
    test.refused(&[], &["network.host is not allowed"]);
    assert_eq!(own(test.build(&["--allow", "network.host"]).read("out")), host);
}

#[test]
fn limits_and_the_size_of_shared_memory_hold_in_run() {
    let test = Test::of(
        r#"
        FROM busybox
        RUN df -k /dev/shm | awk 'END { print $2 }' > /out
        RUN ulimit -n >> /out; ulimit -Hn >> /out
        "#,
    );
    let image = test.build(&["--shm-size", "128m", "--ulimit", "nofile=1062:1063"]);
    assert_eq!(image.read("out"), "131072\n1062\n1063\n");
    assert!(test.build(&[]).read("out").starts_with("65536\n"));
}

#[test]
fn memory_and_processor_limits_are_the_cgroups() {
    let test = Test::of(
        r"
        FROM busybox
        RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null > /out; \
            cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2> /dev/null >> /out || cut -d' ' -f1 /sys/fs/cgroup/cpu.max >> /out
        ",
    );
    let limits = ["--memory", "64m", "--cpu-quota", "50000"];
    assert_eq!(test.build(&limits).read("out"), "67108864\n50000\n");
    test.file("Dockerfile", "FROM busybox\nRUN x=a; while :; do x=$x$x; done\n");
    test.refused(&["--memory", "64m"], &["exit code: 137"]);
}

#[test]
fn a_step_has_dockers_capabilities_and_insecure_must_be_allowed() {
    let test = Test::of(
        "
        FROM busybox
        RUN grep CapBnd /proc/self/status > /out
        ",
    );
    assert_eq!(test.build(&[]).read("out"), "CapBnd:\t00000000a80425fb\n");
    test.file(
        "Dockerfile",
        "FROM busybox\nRUN --security=insecure grep CapBnd /proc/self/status > /out\n",
    );
    test.refused(&[], &["security.insecure is not allowed"]);
    let all = test.build(&["--allow", "security.insecure"]).read("out");
    assert_ne!(all, "CapBnd:\t00000000a80425fb\n");
}

#[test]
fn a_cache_mount_lasts_between_builds_and_leaves_nothing_in_the_layer() {
    let test = Test::of(
        r"
        FROM busybox AS other
        RUN echo other > /other
        FROM busybox
        COPY --from=other /other /
        ARG TURN=1
        RUN --mount=type=cache,target=/cache echo $TURN >> /cache/log && cat /cache/log > /out
        RUN --mount=type=cache,id=/cache,target=/elsewhere cat /elsewhere/log > /same
        RUN --mount=type=cache,id=other,target=/cache,mode=0700,uid=5,gid=6 stat -c '%a %u:%g' /cache > /mode; ls /cache >> /mode
        RUN --mount=type=cache,target=/cache,sharing=private ls /cache > /private
        RUN --mount=type=cache,target=/cache,ro ! touch /cache/x
        ",
    );
    test.build(&[]);
    let image = test.build(&["--build-arg", "TURN=2"]);
    assert_eq!(image.read("out"), "1\n2\n");
    assert_eq!(image.read("same"), "1\n2\n");
    assert_eq!(image.read("mode"), "700 5:6\n");
    assert_eq!(image.tree_of("elsewhere/log"), "");
    let third = test.build(&["--no-cache-filter", "other", "--build-arg", "TURN=3"]);
    assert_eq!(third.read("out"), "1\n2\n3\n");
}

#[test]
fn a_cache_mount_may_start_from_a_stage_and_a_link_in_it_leads_nowhere() {
    check(
        r"
        FROM busybox AS seed
        RUN mkdir /seed && echo seeded > /seed/file && ln -s /etc /seed/etc
        FROM busybox
        RUN --mount=type=cache,target=/cache,from=seed,source=/seed cat /cache/file > /out; echo more >> /cache/file
        RUN --mount=type=cache,target=/cache,from=seed,source=/seed cat /cache/file >> /out
        RUN --mount=type=cache,target=/in,from=seed,source=/seed/etc ls /in/passwd >> /out
        ",
        "seeded\nseeded\nmore\n/in/passwd\n",
    );
}

#[test]
fn a_locked_cache_mount_has_one_user_at_a_time() {
    let step = "RUN --mount=type=cache,target=/c,sharing=locked mkdir /c/held && sleep 0.2 && rmdir /c/held && echo ok > /out\n";
    let mut dockerfile = String::new();
    for i in 0..4 {
        dockerfile += &format!("FROM busybox AS s{i}\nENV I={i}\n{step}");
    }
    dockerfile += "FROM scratch\n";
    for i in 0..4 {
        dockerfile += &format!("COPY --from=s{i} /out /{i}\n");
    }
    let test = Test::of("");
    assert_eq!(test.file("Dockerfile", dockerfile).build(&[]).tree().lines().count(), 4);
}

#[test]
fn a_bind_mount_shows_the_context_a_stage_or_an_image_and_forgets_what_is_written() {
    check(
        r#"
        FROM busybox AS stage
        RUN mkdir /made && echo stage > /made/file
        FROM busybox
        WORKDIR /work
        RUN --mount=target=/context cat /context/dir/file > /out
        RUN --mount=type=bind,source=dir,target=relative cat /work/relative/file >> /out
        RUN --mount=source=dir/file,target=/file cat /file >> /out
        RUN --mount=from=stage,source=/made,target=/made cat /made/file >> /out
        RUN --mount=from=busybox,target=/image ls -d /image/bin >> /out
        RUN --mount=target=/c ! touch /c/new 2> /dev/null
        RUN --mount=target=/c,rw echo new > /c/new && cat /c/new >> /out
        RUN --mount=target=/c ! cat /c/new 2> /dev/null
        RUN --mount=target=/c --mount=target=/c,source=dir ls /c >> /out
        -- dir/file
        context
        "#,
        "context\ncontext\ncontext\nstage\n/image/bin\nnew\nfile\n",
    );
}

#[test]
fn the_content_of_a_bound_file_is_in_the_key_and_its_time_is_not() {
    let test = Test::of(
        "
        FROM busybox
        RUN --mount=source=used,target=/used cat /used > /out
        -- used
        one
        -- unused
        ",
    );
    test.build(&[]);
    test.shell("touch -d @1 used; echo changed > unused");
    let same = test.build(&[]);
    assert_eq!((same.cached(), same.read("out").as_str()), (1, "one\n"), "{}", same.log);
    assert_eq!(test.file("used", "two\n").build(&[]).read("out"), "two\n");
}

#[test]
fn a_tmpfs_mount_is_empty_sized_and_gone_afterwards() {
    let image = Test::of(
        r"
        FROM busybox
        RUN --mount=type=tmpfs,target=/t,size=4m touch /t/x && df -k /t | awk 'END { print $2 }' > /out
        RUN --mount=type=tmpfs,target=/t ls /t >> /out
        ",
    )
    .build(&[]);
    assert_eq!(image.read("out"), "4096\n");
    assert_eq!(image.tree_of("t/x"), "");
}

#[test]
fn a_secret_is_a_file_or_a_variable_and_never_in_layer_history_or_key() {
    let test = Test::of(
        r#"
        FROM busybox
        RUN --mount=type=secret,id=one cat /run/secrets/one > /dev/null && stat -c '%a %u:%g' /run/secrets/one > /out
        RUN --mount=type=secret,id=one,target=/etc/key,mode=0440,uid=5,gid=6 stat -c '%a %u:%g' /etc/key >> /out
        RUN --mount=type=secret,id=one,env=TOKEN [ ${#TOKEN} = 12 ]
        RUN --mount=type=secret,id=two [ "$(cat /run/secrets/two)" = from-variable ]
        RUN --mount=type=secret,id=absent [ ! -e /run/secrets/absent ]
        "#,
    );
    fs_err::write(test.outside("secret"), "hidden-value").unwrap();
    let secret = format!("id=one,src={}", test.outside("secret").display());
    let line = [
        "build",
        "--progress",
        "plain",
        "-t",
        "test",
        "--secret",
        &secret,
        "--secret",
        "id=two,env=TWO",
        ".",
    ];
    let outcome = test.rbuild_with(&line, &[("TWO", "from-variable")], None);
    let log = &outcome.succeeded().stderr;
    assert!(!log.contains("hidden-value"), "{log}");

    fs_err::write(test.outside("secret"), "hidden-value!").unwrap();
    let other = test.rbuild_with(&line, &[("TWO", "changed")], None);
    assert_eq!(other.succeeded().stderr.matches(" CACHED").count(), 5, "{other}");
    let image = test.build(&["--secret", &secret, "--secret", "id=two,src=../secret"]);
    assert_eq!(image.read("out"), "400 0:0\n440 5:6\n");
    assert!(!format!("{:?} {}", image.history(), image.inspect()).contains("hidden"));
    let traces = test.shell("grep -rl hidden-value ../store || true");
    assert_eq!(traces, "", "the secret's value is in the store");

    test.file(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=mysecret,required cat /run/secrets/mysecret\n",
    );
    test.refused(&[], &["secret mysecret: not found"]);
}

#[test]
fn an_ssh_mount_is_the_callers_agent() {
    let test = Test::of(
        r#"
        FROM busybox
        RUN --mount=type=ssh,mode=0666 [ -S "$SSH_AUTH_SOCK" ] && stat -c '%a %n' "$SSH_AUTH_SOCK" > /out
        "#,
    );
    let socket = test.outside("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let agent = format!("default={}", socket.display());
    assert_eq!(test.build(&["--ssh", &agent]).read("out"), "666 /run/buildkit/ssh_agent.0\n");
    test.file("Dockerfile", "FROM busybox\nRUN --mount=type=ssh,required true\n");
    test.refused(&[], &["ssh"]);
}

#[test]
fn a_mount_that_is_none_is_refused_with_advice() {
    let test = Test::of("");
    for (mount, texts) in [
        ("typ=cache,target=/x", ["unexpected key 'typ'", "did you mean type?"]),
        ("type=tmp,target=/x", ["unsupported mount type \"tmp\"", "did you mean tmpfs?"]),
        ("type=cache", ["invalid mount target", ""]),
        ("type=cache,target=/x,sharing=some", ["unsupported sharing value \"some\"", ""]),
        ("type=tmpfs,target=/x,size=much", ["size", "much"]),
    ] {
        test.file("Dockerfile", format!("FROM busybox\nRUN --mount={mount} true\n"));
        test.refused(&[], &texts);
    }
}

#[test]
fn what_a_step_leaves_running_ends_with_it() {
    let test = Test::of(
        "
        FROM busybox
        RUN sleep 1000 & echo started > /out
        RUN ps | grep -c '[s]leep' >> /out || true
        ",
    );
    assert_eq!(test.build(&[]).read("out"), "started\n0\n");
}

#[test]
fn mount_points_made_for_a_step_are_not_kept_in_its_layer() {
    let test = Test::of(
        r#"
        FROM busybox
        RUN --mount=type=cache,target=/new/cache/dir --mount=type=tmpfs,target=/new/tmp \
            --mount=type=secret,id=s --mount=type=bind,target=/src \
            cat /run/secrets/s && touch /new/cache/dir/file && ls /src/Dockerfile
        "#,
    );
    let secret = test.outside("secret");
    fs_err::write(&secret, "hidden").unwrap();
    let source = format!("id=s,src={}", secret.display());
    let image = test.build(&["--secret", &source]);
    assert_eq!(image.top_layer(), "");
}

#[test]
fn the_containers_of_a_build_live_below_the_cgroup_that_is_asked_for() {
    let test = Test::of("FROM busybox\nRUN cat /proc/1/cgroup > /out; sleep 0.1\n");
    let parent = format!("rbuild-test-{}", std::process::id());
    let mut build = test.command(&["build", "--memory", "64m", "--cgroup-parent", &parent, "."]);
    let mut running = build.spawn().expect("start the build");
    let seen = || {
        // Other tests' cgroups go while it looks.
        let find = format!("find /sys/fs/cgroup -path '*/{parent}/*' -type d 2> /dev/null || :");
        let below = test.shell(&find);
        !below.is_empty()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut found = false;
    while running.try_wait().expect("look at the build").is_none() {
        found |= seen();
        assert!(std::time::Instant::now() < deadline, "the build hangs");
    }
    assert!(found, "no cgroup below {parent} was seen");
    test.shell(&format!("! find /sys/fs/cgroup -path '*/{parent}/*' -type d | grep ."));
    test.shell(&format!(
        "find /sys/fs/cgroup -depth -name '{parent}' -type d -exec rmdir '{{}}' + || :"
    ));
}

/// A step's root stays mounted a moment longer than it is needed, but not when much was written there: that would have
/// its room on the disk twice.
#[test]
fn what_a_step_has_written_has_its_room_once() {
    let test = Test::of(
        "
        FROM busybox AS big
        RUN dd if=/dev/urandom of=/big bs=1M count=100
        FROM busybox
        RUN sleep 5
        COPY --from=big /big /
        ",
    );
    test.import("busybox");
    let script = "
        $RBUILD save -o ../busybox.tar busybox
        mkdir ../small
        truncate -s 500M ../disk
        mkfs.ext4 -q ../disk
        mount -o loop ../disk ../small
        export RBUILD_ROOT=$PWD/../small
        $RBUILD load -q -i ../busybox.tar > /dev/null
        $RBUILD build -q . > ../said 2>&1 &
        until [ $(ls ../small/layers | wc -l) -ge 2 ]; do sleep 0.05; done
        sleep 0.5
        df --output=used -m ../small | tail -n 1
        wait $!
    ";
    let used: u64 = test.unshared(script).trim().parse().expect("a number");
    assert!((100..150).contains(&used), "{used} MB");
}

#[test]
fn what_a_step_wrote_is_removed_when_its_build_has_ended() {
    let test = Test::of("FROM busybox\nRUN for i in $(seq 5000); do echo $i > /f$i; done\n");
    let script = r#"
        "$RBUILD" build -q --network none -t some . > /dev/null
        for i in $(seq 100); do
          [ "$(ls -A "$RBUILD_ROOT/tmp" | wc -l)" -gt 0 ] || break
          sleep 0.05
        done
        ls -A "$RBUILD_ROOT/tmp"
        "$RBUILD" run --rm --network none some cat /f5000
        "$RBUILD" system check
        "#;
    let said = test.shell(script);
    assert!(said.starts_with("5000\n"), "{said}");
}
