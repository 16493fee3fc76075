//! Stages: names, targets, what is built and what is inherited; named contexts; ONBUILD.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Test, check};

const THREE: &str = "
    FROM scratch AS Base
    COPY a /base
    FROM scratch AS build
    COPY a /build
    FROM base
    COPY --from=BUILD build /last
    -- a
    ";

#[test]
fn a_target_is_named_in_any_case_or_numbered_and_a_typo_gets_advice() {
    let test = Test::of(THREE);
    for (target, tree) in [
        ("base", "-rw-r--r-- 0/0 base\n"),
        ("BASE", "-rw-r--r-- 0/0 base\n"),
        ("Build", "-rw-r--r-- 0/0 build\n"),
        ("1", "-rw-r--r-- 0/0 build\n"),
        ("2", "-rw-r--r-- 0/0 base\n-rw-r--r-- 0/0 last\n"),
    ] {
        assert_eq!(test.build(&["--target", target]).tree(), tree, "{target}");
    }
    let text = "target stage \"bulid\" could not be found (did you mean build?)";
    test.refused(&["--target", "bulid"], &[text]);
    test.refused(
        &["--target", "nothing-like-it"],
        &["target stage \"nothing-like-it\" could not be found"],
    );
}

#[test]
fn a_stage_is_copied_from_by_name_or_number_and_an_image_by_its_name() {
    let image = Test::of(
        "
        FROM scratch AS one
        COPY a /one
        FROM one
        COPY --from=one one /by-name
        COPY --from=0 one /by-number
        COPY --from=busybox /etc/group /of-image
        COPY --from=busybox:latest /etc/group /of-tag
        -- a
        ",
    )
    .build(&[]);
    let names: Vec<_> = image.tree().lines().map(|line| line[15..].to_owned()).collect();
    assert_eq!(names, ["by-name", "by-number", "of-image", "of-tag", "one"]);
}

#[test]
fn a_stage_that_comes_later_or_depends_on_itself_is_refused() {
    let test = Test::of("");
    for (dockerfile, texts) in [
        (
            "FROM busybox AS target\nCOPY --from=build /a /\nFROM busybox AS build\nRUN true\nFROM target\n",
            ["cannot copy from stage", "needs to be defined before current stage"].as_slice(),
        ),
        (
            "FROM busybox AS stage0\nCOPY --from=stage0 f1 /sub/\n",
            &["circular dependency detected on stage: stage0"],
        ),
        (
            "FROM busybox AS stage0\nCOPY --from=stage2 f1 /sub/\nFROM busybox AS stage1\nCOPY --from=stage0 f2 /sub/\n\
             FROM busybox AS stage2\nCOPY --from=stage1 f2 /sub/\n",
            &["circular dependency detected on stage: stage0"],
        ),
        ("FROM ${BLANK} AS foo\n", &["base name (${BLANK}) should not be blank"]),
        ("ARG A=1\n", &["dockerfile contains no stages to build"]),
        (
            "FROM busybox AS context\nFROM scratch AS 1x\n",
            &["invalid name for build stage: \"1x\""],
        ),
    ] {
        test.file("Dockerfile", dockerfile);
        test.refused(&[], texts);
    }
}

#[test]
fn what_the_target_does_not_need_is_not_built() {
    let test = Test::of(
        "
        FROM busybox AS broken
        RUN false
        FROM no-such-image AS missing
        FROM busybox AS wanted
        RUN echo wanted > /out
        FROM broken AS after
        ",
    );
    assert_eq!(test.build(&["--target", "wanted"]).read("out"), "wanted\n");
    test.refused(&[], &["exit code: 1"]);
}

#[test]
fn independent_stages_run_at_the_same_time() {
    let mut dockerfile = String::new();
    for i in 0..4 {
        dockerfile += &format!("FROM busybox AS s{i}\nRUN sleep 1 && echo {i} > /out\n");
    }
    dockerfile += "FROM scratch\n";
    for i in 0..4 {
        dockerfile += &format!("COPY --from=s{i} /out /{i}\n");
    }
    let test = Test::of("");
    let start = Instant::now();
    let image = test.file("Dockerfile", dockerfile).build(&[]);
    // One second each, and half as much again for a busy machine; one after the other takes four.
    assert!(start.elapsed() < Duration::from_millis(3000), "{:?}", start.elapsed());
    assert_eq!((0..4).map(|i| image.read(&i.to_string())).collect::<String>(), "0\n1\n2\n3\n");
}

#[test]
fn a_stage_inherits_the_configuration_of_its_base() {
    let image = Test::of(
        r#"
        FROM busybox AS base
        ENV KEPT=kept
        WORKDIR /work
        SHELL ["/bin/sh", "-uc"]
        LABEL a=b
        EXPOSE 80
        USER daemon
        FROM base
        USER root
        RUN case $- in *u*) echo "$KEPT $(pwd) -u" ;; esac > out
        "#,
    )
    .build(&[]);
    assert_eq!(image.read("work/out"), "kept /work -u\n");
    let config = image.config();
    assert_eq!(config["Labels"], json!({"a": "b"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
}

#[test]
fn scratch_has_a_path_for_run_only() {
    let image = Test::of(
        r#"
        FROM scratch
        COPY --from=busybox /bin /bin
        RUN ["busybox", "sh", "-c", "echo $PATH > /out"]
        "#,
    )
    .build(&[]);
    assert_eq!(image.read("out"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
}

#[test]
fn a_named_context_replaces_a_stage_or_an_image() {
    let test = Test::of(
        "
        FROM busybox AS stage
        RUN false
        FROM scratch AS other
        COPY a /other
        FROM scratch
        COPY --from=stage file /of-folder
        COPY --from=image etc/group /of-image
        COPY --from=alias other /of-target
        -- a
        -- folder/file
        ",
    );
    let folder = format!("stage={}", test.context().join("folder").display());
    let given = [
        "--build-context",
        "image=docker-image://busybox",
        "--build-context",
        "alias=target:other",
    ];
    let arguments = [&["--build-context", &folder], given.as_slice()].concat();
    let tree = test.build(&arguments).tree();
    assert_eq!(tree.lines().count(), 3, "{tree}");

    test.file("Dockerfile", "FROM base\nCOPY a /\n");
    let replaced = ["--build-context", "base=docker-image://docker.io/library/busybox:latest"];
    assert!(test.build(&replaced).tree().contains(" a\n"));
    test.refused(&["--build-context", "base=/no/such/folder"], &["/no/such/folder"]);
}

#[test]
fn a_named_context_may_be_an_image_layout() {
    let test = Test::of(
        "
        FROM scratch
        COPY a /layout
        -- a
        ",
    );
    test.rbuild(&["build", "-o", "type=oci,tar=false,dest=../layout", "."]).ok();
    test.file("Dockerfile", "FROM base\nCOPY a /above\n");
    let layout = format!("base=oci-layout://{}", test.outside("layout").display());
    assert_eq!(
        test.build(&["--build-context", &layout]).tree(),
        "-rw-r--r-- 0/0 above\n-rw-r--r-- 0/0 layout\n"
    );
}

#[test]
fn onbuild_triggers_run_in_the_child_and_not_in_the_grandchild() {
    check(
        r#"
        FROM busybox AS from
        RUN echo from > /from
        FROM busybox AS parent
        ONBUILD RUN echo first >> /out
        ONBUILD COPY --from=from /from /copied
        ONBUILD RUN --mount=type=cache,target=/c cat /copied >> /out
        ONBUILD ENV X=y
        ONBUILD RUN <<EOF
        echo heredoc $X >> /out
        EOF
        FROM parent AS child
        RUN echo child >> /out
        FROM child
        RUN echo grandchild >> /out
        "#,
        "first\nfrom\nheredoc y\nchild\ngrandchild\n",
    );
}

#[test]
fn onbuild_triggers_are_kept_in_the_image_and_run_when_it_is_built_upon() {
    let test = Test::of(
        "
        FROM busybox
        ONBUILD COPY a /a
        ONBUILD RUN echo trigger > /out
        -- a
        ",
    );
    let image = test.build(&[]);
    assert_eq!(image.config()["OnBuild"], json!(["COPY a /a", "RUN echo trigger > /out"]));
    test.rbuild(&["tag", "test", "parent"]).ok();
    test.file("Dockerfile", "FROM parent\nRUN echo child >> /out\n");
    let child = test.build(&[]);
    assert_eq!(child.read("out"), "trigger\nchild\n");
    assert!(child.config()["OnBuild"].as_array().is_none_or(Vec::is_empty));
    test.rbuild(&["tag", "test", "child"]).ok();
    test.file("Dockerfile", "FROM child\nRUN echo grandchild >> /out\n");
    assert_eq!(test.build(&[]).read("out"), "trigger\nchild\ngrandchild\n");
}

#[test]
fn a_base_image_that_is_not_there_is_named() {
    let test = Test::of("FROM 127.0.0.1:1/no/such:image\n");
    test.refused(&[], &["127.0.0.1:1/no/such:image"]);
}
