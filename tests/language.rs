//! The Dockerfile language: parsing, directives, heredocs, ARG, ENV and expansion.

use serde_json::json;

use crate::support::{Test, check};

/// What each CMD line becomes in the image's configuration.
#[test]
fn exec_form_is_a_valid_json_array_of_strings_and_all_else_is_shell_form() {
    let test = Test::empty();
    for (line, expected) in [
        (r#"["a", "b c"]"#, json!(["a", "b c"])),
        (r#"  [ "a" ,"\u0062" ]  "#, json!(["a", "b"])),
        ("[]", json!(null)),
        ("['a', 'b']", json!(["/bin/sh", "-c", "['a', 'b']"])),
        (r#"["a", "b""#, json!(["/bin/sh", "-c", r#"["a", "b""#])),
        (r#"["a"] b"#, json!(["/bin/sh", "-c", r#"["a"] b"#])),
        (r#"a "b c"  $d"#, json!(["/bin/sh", "-c", r#"a "b c"  $d"#])),
    ] {
        test.file("Dockerfile", format!("FROM scratch\nCMD {line}\n"));
        let command = test.build(&[]).config()["Cmd"].take();
        let empty = command.as_array().is_some_and(Vec::is_empty);
        assert_eq!(if empty { json!(null) } else { command }, expected, "CMD {line}");
    }
}

#[test]
fn the_escape_directive_changes_continuation_and_word_escapes() {
    let image = Test::of(
        r"
        # Escape=`
        FROM busybox
        ENV DIR=C:\new `
            PRICE=`$5
        RUN echo one `
            two > /out
        ",
    )
    .build(&[]);
    assert_eq!(image.read("out"), "one two\n");
    assert_eq!(image.variable("DIR").as_deref(), Some(r"C:\new"));
    assert_eq!(image.variable("PRICE").as_deref(), Some("$5"));
}

#[test]
fn a_directive_after_a_comment_is_a_comment() {
    check(
        r"
        # not a directive
        # escape=`
        FROM busybox
        RUN echo one \
            two > /out
        ",
        "one two\n",
    );
}

#[test]
fn comments_and_blank_lines_inside_a_continued_line_are_dropped() {
    let test = Test::of(
        r"
        # a comment
        FROM busybox
        RUN echo one \
            # a comment inside
        two \

            three > /out \
        ",
    );
    let image = test.build(&[]);
    assert_eq!(image.read("out"), "one two three\n");
    assert!(image.log.contains("NoEmptyContinuation"), "{}", image.log);
}

#[test]
fn byte_order_mark_line_ends_of_windows_tabs_and_any_case_are_read() {
    let test = Test::of("");
    test.file("Dockerfile", "\u{feff}from busybox\r\n\trun echo a \\\r\n\tb > /out\r\nEnv K=v\r\n");
    let image = test.build(&[]);
    assert_eq!(image.read("out"), "a b\n");
    assert_eq!(image.variable("K").as_deref(), Some("v"));
}

#[test]
fn a_file_that_is_no_dockerfile_is_refused_with_its_fault() {
    let test = Test::empty();
    let long = format!("FROM scratch\nENV A={}\n", "x".repeat(70_000));
    for (dockerfile, text) in [
        ("", "Dockerfile"),
        ("# only\n# comments\n", "file with no instructions"),
        ("FROM scratch\nENV name\n", "ENV must have two arguments"),
        ("FROM scratch\nENV =v\n", "ENV names can not be blank"),
        ("FROM scratch\nLABEL =v\n", "LABEL names can not be blank"),
        (
            "FROM scratch\nENV a=b c\n",
            "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        ),
        (
            "FROM scratch\nCMD [\"echo\", [\"nested\"]]\n",
            "arrays must be comprised of strings only",
        ),
        ("FROM scratch\nFNTRYPOINT x\n", "unknown instruction: FNTRYPOINT"),
        ("FROM scratch\nfoo x\n", "unknown instruction: foo"),
        (
            "FROM scratch\nCOPY a\n",
            "COPY requires at least two arguments, but only one was provided",
        ),
        ("FROM scratch\nWORKDIR\n", "WORKDIR requires exactly one argument"),
        (
            "FROM scratch\nRUN --mont=type=cache,target=/x true\n",
            "unknown flag: --mont (did you mean mount?)",
        ),
        ("FROM scratch\nCOPY --form=x a b\n", "unknown flag: --form (did you mean from?)"),
        ("FROM scratch\nMAINTAINER --boo x\n", "unknown flag: --boo"),
        ("FROM scratch\nONBUILD FROM x\n", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM scratch\nONBUILD MAINTAINER x\n", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        (
            "FROM scratch\nONBUILD ONBUILD RUN x\n",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("FROM scratch\nHEALTHCHECK --interval=50ns CMD x\n", "cannot be less than 1ms"),
        ("FROM scratch\nSHELL sh -c\n", "SHELL requires the arguments to be in JSON form"),
        ("FROM scratch\nCOPY <<EOF /x\nnever ends\n", "unterminated heredoc"),
        ("COPY a b\n", "no build stage in current context"),
        ("# escape=x\nFROM scratch\n", "invalid escape token 'x'"),
        ("# escape=\\\n# escape=`\nFROM scratch\n", "only one escape parser directive can be used"),
        (long.as_str(), "line greater than max allowed size of 65535"),
    ] {
        test.file("Dockerfile", dockerfile);
        test.refused(&[], &[text]);
    }
}

#[test]
fn an_error_shows_the_line_it_is_about() {
    let test = Test::of(
        "
        FROM scratch
        LABEL a=b
        FNTRYPOINT x
        ",
    );
    test.refused(&[], &["Dockerfile:3", "FNTRYPOINT x"]);
}

#[test]
fn the_dockerfile_may_be_a_link_or_lie_outside_the_context_or_come_on_standard_input() {
    let test = Test::of(
        "
        -- Dockerfile.web
        FROM scratch
        COPY a /web
        -- Dockerfile -> Dockerfile.web
        -- a
        text
        ",
    );
    assert_eq!(test.build(&[]).read("web"), "text\n");

    let outside = test.outside("Outside");
    fs_err::write(&outside, "FROM scratch\nCOPY a /outside\n").unwrap();
    let path = outside.to_str().unwrap();
    assert_eq!(test.build(&["-f", path]).read("outside"), "text\n");

    let line = ["build", "-f", "-", "-t", "stdin", "-o", "type=tar,dest=-", "."];
    let built = test.rbuild_with(&line, &[], Some(b"FROM scratch\nCOPY a /from-stdin\n"));
    assert!(built.ok().contains("from-stdin"));
    test.refused(&["-f", "missing"], &["missing: no such file or directory"]);
}

#[test]
fn run_heredocs_are_one_script_or_anothers_input() {
    check(
        r#"
        FROM busybox
        RUN <<EOF
        x=1
        echo script $x >> /out
        EOF
        RUN <<-EOF
        	echo tabs stripped >> /out
        	EOF
        RUN <<"EOF"
        echo "quoted $HOME" >> /out
        EOF
        RUN <<EOF
        #!/bin/awk -f
        BEGIN { print "shebang" >> "/out" }
        EOF
        RUN <<EOF cat >> /out
        to a command
        EOF
        RUN cat <<ONE - 3<<TWO <&3 >> /out
        unread
        ONE
        from the third descriptor
        TWO
        RUN cat "<<X" >> /out 2> /dev/null || echo a quoted word is no heredoc >> /out
        RUN ["sh", "-c", "echo '<<EOF' in an exec form >> /out"]
        "#,
        r#"
        script 1
        tabs stripped
        quoted /root
        shebang
        to a command
        from the third descriptor
        a quoted word is no heredoc
        <<EOF in an exec form
        "#,
    );
}

#[test]
fn awk_may_be_the_shell() {
    check(
        r#"
        FROM busybox
        SHELL ["awk"]
        RUN BEGIN { print "by awk" > "/out" }
        "#,
        "by awk\n",
    );
}

#[test]
fn copy_heredocs_make_files_named_by_their_word() {
    let image = Test::of(
        r#"
        FROM busybox
        ENV WHO=world
        COPY <<EOF /greeting
        hello $WHO ${WHO:-x} \$WHO "quoted" 'single'
        EOF
        COPY <<"EOF" /verbatim
        hello $WHO
        EOF
        COPY <<-EOF /stripped
        	no tab
        	EOF
        COPY --chmod=711 --chown=1:2 <<one <<two /dir/
        1
        one
        2
        two
        COPY <<EOF /empty
        EOF
        ADD <<EOF plain /added/
        by ADD
        EOF
        -- plain
        a plain file
        "#,
    )
    .build(&[]);
    assert_eq!(image.read("greeting"), "hello world world $WHO \"quoted\" 'single'\n");
    assert_eq!(image.read("verbatim"), "hello $WHO\n");
    assert_eq!(image.read("stripped"), "no tab\n");
    assert_eq!(image.read("empty"), "");
    assert_eq!(image.read("dir/one") + &image.read("dir/two"), "1\n2\n");
    assert_eq!(image.read("added/EOF") + &image.read("added/plain"), "by ADD\na plain file\n");
    assert!(image.tree_of("dir/one").starts_with("-rwx--x--x 1/2"), "{}", image.tree_of("dir"));
    assert!(
        image.tree_of("greeting").starts_with("-rw-r--r-- 0/0"),
        "{}",
        image.tree_of("greeting")
    );
}

#[test]
fn a_global_arg_reaches_from_lines_and_a_stage_that_declares_it_again() {
    let literal = r#"
        ARG BASE=busybox
        ARG TAG="latest" WORDS="two words"
        FROM ${BASE}:$TAG
        RUN echo "undeclared: [$WORDS]" > /out
        ARG WORDS
        RUN echo "declared: [$WORDS]" >> /out
        ARG WORDS=own
        RUN echo "own default: [$WORDS]" >> /out
        "#;
    check(literal, "undeclared: []\ndeclared: [two words]\nown default: [own]\n");
    let given = Test::of(literal).build(&["--build-arg", "WORDS=given"]).read("out");
    assert_eq!(given, "undeclared: []\ndeclared: [given]\nown default: [given]\n");
}

#[test]
fn several_args_on_one_line_see_the_ones_before_them() {
    check(
        r#"
        FROM busybox
        ARG A=1 B="$A 2" C=${B}-3 D='$A'
        RUN echo "$A,$B,$C,$D" > /out
        "#,
        "1,1 2,1 2-3,$A\n",
    );
}

#[test]
fn env_beats_arg_and_the_command_line_beats_an_args_default() {
    let test = Test::of(
        r#"
        FROM busybox
        ARG SHADOWED=arg
        ENV SHADOWED=env
        ARG GIVEN=default
        ARG ABSENT
        ARG EMPTY=
        RUN echo "$SHADOWED $GIVEN ${ABSENT-unset} ${EMPTY-unset}." > /out
        RUN env | grep -c -e ^ABSENT -e ^EMPTY >> /out
        "#,
    );
    let arguments = ["--build-arg", "GIVEN=given", "--build-arg", "SHADOWED=given"];
    assert_eq!(test.build(&arguments).read("out"), "env given unset .\n1\n");
}

/// Each word is expanded by ENV, with `V=value`, `E` empty, `U` unset, `P=/a/b.tar.gz`.
#[test]
fn words_are_expanded_as_in_a_shell() {
    let cases = [
        ("${V:-d}", "value"),
        ("${U:-d}", "d"),
        ("${E:-d}", "d"),
        ("${E-d}", ""),
        ("${U-d}", "d"),
        ("${V:+x}", "x"),
        ("${E:+x}", ""),
        ("${E+x}", "x"),
        ("${U+x}", ""),
        ("${V:?e}", "value"),
        ("${E?e}", ""),
        ("${P#*/}", "a/b.tar.gz"),
        ("${P##*/}", "b.tar.gz"),
        ("${P%.*}", "/a/b.tar"),
        ("${P%%.*}", "/a/b"),
        ("${V/a/o}", "volue"),
        ("${P//[\\/]/-}", "/a/b.tar.gz"),
        ("${P//a/A}", "/A/b.tAr.gz"),
        ("${P//\\//-}", "-a-b.tar.gz"),
        ("${U:-${V:-x}}", "value"),
        ("${U:-${E:-deep}}", "deep"),
        ("\\$V", "$V"),
        ("'$V'", "$V"),
        ("\"$V $V\"", "value value"),
        ("a${V}b", "avalueb"),
        ("$V-$U-", "value--"),
        ("é${V}ü", "évalueü"),
        ("%s%d", "%s%d"),
        ("'a'\"b\"c", "abc"),
        ("a\\ b", "a b"),
    ];
    let mut dockerfile = "FROM scratch\nENV V=value E= P=/a/b.tar.gz\n".to_owned();
    for (i, (word, _)) in cases.iter().enumerate() {
        dockerfile += &format!("ENV R{i}={word}\n");
    }
    let test = Test::empty();
    let image = test.file("Dockerfile", dockerfile).build(&[]);
    let config = image.config();
    for (i, (word, expected)) in cases.iter().enumerate() {
        let variable = format!("R{i}={expected}");
        assert!(
            config["Env"].as_array().unwrap().contains(&json!(variable)),
            "{word} is not {expected:?}: {config}"
        );
    }
}

#[test]
fn a_bad_expansion_is_refused_with_its_message() {
    let test = Test::empty();
    for (word, text) in [
        ("${FOO:?custom error}", "FOO: custom error"),
        ("${FOO?custom error}", "FOO: custom error"),
        ("${FOO:?}", "FOO: is not allowed to be unset"),
        ("${FOO", "unsupported modifier"),
        ("${}", "syntax error"),
        ("${FOO:x}", "unsupported modifier"),
    ] {
        test.file("Dockerfile", format!("FROM scratch\nENV A=\"{word}\"\n"));
        test.refused(&[], &[text]);
    }
}

#[test]
fn expansion_reaches_the_instructions_it_should_and_no_other() {
    let test = Test::of(
        r#"
        FROM busybox AS from
        FROM from
        ENV N=8080 DIR=/work FILE=a OWNER=12 GROUP=34 MODE=4711 TEXT=text USER=nobody
        WORKDIR $DIR/${TEXT}
        COPY --chown=$OWNER:$GROUP --chmod=$MODE $FILE $DIR/b
        ADD ${FILE} $DIR/c
        EXPOSE $N ${N}/udp
        LABEL $TEXT=$TEXT "quoted $TEXT"="$TEXT $TEXT"
        VOLUME $DIR/volume
        STOPSIGNAL ${SIGNAL:-SIGUSR1}
        RUN --mount=type=tmpfs,target=$DIR/tmp touch $DIR/tmp/x
        USER $USER
        CMD echo $TEXT
        ENTRYPOINT ["echo", "$TEXT"]
        -- a
        a
        "#,
    );
    let image = test.build(&[]);
    let config = image.config();
    assert_eq!(config["WorkingDir"], "/work/text");
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}, "8080/udp": {}}));
    assert_eq!(config["Labels"], json!({"text": "text", "quoted text": "text text"}));
    assert_eq!(config["Volumes"], json!({"/work/volume": {}}));
    assert_eq!(config["StopSignal"], "SIGUSR1");
    assert_eq!(config["User"], "nobody");
    assert_eq!(config["Cmd"], json!(["/bin/sh", "-c", "echo $TEXT"]));
    assert_eq!(config["Entrypoint"], json!(["echo", "$TEXT"]));
    assert!(image.tree_of("work/b").starts_with("-rws--x--x 12/34"), "{}", image.tree_of("work"));
    assert_eq!(image.read("work/c"), "a\n");
}

#[test]
fn a_variable_that_names_what_to_copy_from_is_refused_with_advice() {
    let test = Test::empty();
    let copy = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope";
    let mount = "'from' doesn't support variable expansion, define alias stage instead";
    for (line, text) in
        [("COPY --from=$STAGE /a /b", copy), ("RUN --mount=from=$STAGE,target=/x true", mount)]
    {
        test.file(
            "Dockerfile",
            format!("ARG STAGE=base\nFROM scratch AS base\nFROM base\n{line}\n"),
        );
        test.refused(&[], &[text]);
    }
}

#[test]
fn an_env_instruction_sees_the_values_from_before_it() {
    let image = Test::of(
        r#"
        FROM scratch
        ENV abc=hello
        ENV abc=bye def=$abc
        ENV ghi=$abc
        ENV legacy the rest of the line  $abc
        ENV multi="a b" \
            line=c
        ENV PATH=/opt/bin:$PATH
        "#,
    )
    .build(&[]);
    let variable = |name| image.variable(name).unwrap_or_default();
    assert_eq!((variable("def"), variable("ghi")), ("hello".into(), "bye".into()));
    assert_eq!(variable("legacy"), "the rest of the line  bye");
    assert_eq!((variable("multi"), variable("line")), ("a b".into(), "c".into()));
    assert!(variable("PATH").starts_with("/opt/bin:"), "{}", variable("PATH"));
}

#[test]
fn proxy_args_reach_run_and_leave_no_trace() {
    let test = Test::of(
        r#"
        FROM busybox
        RUN echo "$HTTP_PROXY $https_proxy $NO_PROXY" > /out
        "#,
    );
    let proxies = [
        "--build-arg",
        "HTTP_PROXY=http://one",
        "--build-arg",
        "https_proxy=http://two",
        "--build-arg",
        "NO_PROXY=x",
    ];
    let image = test.build(&proxies);
    assert_eq!(image.read("out"), "http://one http://two x\n");
    let traces = format!("{} {:?}", image.inspect(), image.history());
    assert!(!traces.contains("http://one") && !traces.contains("http://two"), "{traces}");
    let other = test.build(&["--build-arg", "HTTP_PROXY=http://three"]);
    assert_eq!(other.cached(), 1, "{}", other.log);
}

#[test]
fn platform_args_are_global_and_need_declaring_in_a_stage() {
    let test = Test::of(
        r#"
        FROM --platform=$BUILDPLATFORM busybox AS named
        RUN echo "[$TARGETPLATFORM]" > /out
        ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDOS TARGETSTAGE
        RUN echo "$TARGETPLATFORM $TARGETOS $TARGETARCH [$TARGETVARIANT] $BUILDPLATFORM $BUILDOS $TARGETSTAGE" >> /out
        FROM busybox
        ARG TARGETSTAGE TARGETOS=mine
        RUN echo "$TARGETSTAGE $TARGETOS" > /out
        "#,
    );
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let named = test.build(&["--target", "named"]).read("out");
    assert_eq!(named, format!("[]\nlinux/{arch} linux {arch} [] linux/{arch} linux named\n"));
    assert_eq!(test.build(&[]).read("out"), "default mine\n");
    assert_eq!(test.build(&["--build-arg", "TARGETOS=other"]).read("out"), "default other\n");
}

#[test]
fn an_arg_changes_the_key_only_of_steps_that_see_it_and_an_unused_one_warns() {
    let test = Test::of(
        "
        FROM busybox
        RUN echo before > /before
        ARG VERSION=1
        RUN echo after > /after
        ",
    );
    test.build(&[]);
    let changed = test.build(&["--build-arg", "VERSION=2"]);
    assert_eq!(changed.cached(), 1, "{}", changed.log);
    let unused = test.build(&["--build-arg", "NOBODY=asks"]);
    assert_eq!(unused.cached(), 2, "{}", unused.log);
    assert!(
        unused.log.contains("[Warning] One or more build-args [NOBODY] were not consumed"),
        "{}",
        unused.log
    );
}

#[test]
fn an_arg_that_a_base_triggers_is_asked_for() {
    let test = Test::of("FROM busybox\nONBUILD ARG VALUE=own\n");
    test.rbuild(&["build", "-t", "triggers", "."]).succeeded();
    test.file("Dockerfile", "FROM triggers\nRUN echo $VALUE > /value\n");
    let image = test.build(&["--build-arg", "VALUE=given"]);
    assert_eq!(image.read("value"), "given\n");
    assert!(!image.log.contains("not consumed"), "{}", image.log);
}

#[test]
fn a_workdir_that_is_a_file_is_refused() {
    let test = Test::of("FROM busybox\nWORKDIR /bin/sh/x\n");
    let text = "cannot make the directory /bin/sh/x: /bin/sh is not a directory";
    test.refused(&[], &[text, "2 | >>> WORKDIR /bin/sh/x"]);
}

#[test]
fn the_syntax_directive_is_read_and_never_fetched() {
    check(
        "
        # syntax=docker/dockerfile:1
        FROM busybox
        RUN echo ours > /out
        ",
        "ours\n",
    );
}
