use super::*;
use crate::expand::Expander;

fn parse(text: &str) -> std::result::Result<Vec<Instruction>, Error> {
    parse_file(&lines::parse(text.as_bytes())?)
}

/// Checks what the second instruction of a file becomes, or why none does.
fn check(text: &str, expected: &str) {
    let found = match parse(&format!("FROM scratch\n{text}")) {
        Ok(instructions) => format!("{:?}", instructions[1].kind),
        Err(error) => error.kind.to_string(),
    };
    assert_eq!(found, expected, "{text}");
}

#[test]
fn commands_have_two_forms() {
    check("CMD echo  hi", r#"Cmd(Shell("echo  hi"))"#);
    check(r#"CMD ["echo", "hi"]"#, r#"Cmd(Exec(["echo", "hi"]))"#);
    check("CMD ['echo']", r#"Cmd(Shell("['echo']"))"#);
    check("cmd", r#"Cmd(Shell(""))"#);
    check("ENTRYPOINT []", "Entrypoint(Exec([]))");
    check(r#"SHELL ["a", "b"]"#, r#"Shell(["a", "b"])"#);
    check("SHELL a b", "SHELL requires the arguments to be in JSON form");
    check("SHELL []", "SHELL requires at least one argument");
    check(r#"CMD ["a", 42]"#, r#"Cmd(Shell("[\"a\", 42]"))"#);
    check(
        r#"CMD ["a", ["b"]]"#,
        "when using JSON array syntax, arrays must be comprised of strings only",
    );
}

#[test]
fn pairs_are_read_in_both_forms() {
    check(
        "ENV a=1 b=\"x y\"",
        r#"Env([KeyValue { key: "a", value: "1", legacy: false }, KeyValue { key: "b", value: "\"x y\"", legacy: false }])"#,
    );
    check("LABEL a  1 2", r#"Label([KeyValue { key: "a", value: "1 2", legacy: true }])"#);
    check("ENV a", "ENV must have two arguments");
    check("ENV =1", "ENV names can not be blank");
    check(
        "# a first\nARG a b= c=1",
        r#"Arg([ArgPair { key: "a", value: None, description: Some("first") }, ArgPair { key: "b", value: Some(""), description: None }, ArgPair { key: "c", value: Some("1"), description: None }])"#,
    );
}

#[test]
fn stages_begin_with_from() {
    check(
        "FROM --platform=$P a:1 aS B.c-d_e",
        r#"From(From { base: "a:1", name: Some("b.c-d_e"), platform: Some("$P"), description: None })"#,
    );
    check("FROM", "FROM requires either one or three arguments");
    check("FROM a b c", "FROM requires either one or three arguments");
    check(
        "FROM a AS 1b",
        "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
    );
    let refused = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(refused("ARG a\nRUN b\nFROM c"), "no build stage in current context");
    assert_eq!(refused("ARG a"), "dockerfile contains no stages to build");
    assert_eq!(
        refused("FROM a\nRNU b"),
        "dockerfile parse error on line 2: unknown instruction: RNU (did you mean RUN?)"
    );
}

#[test]
fn runs_have_flags() {
    check(
        "RUN --network=none --security=insecure --device=a.b/c,required --mount=from=x,target=/y ls",
        r#"Run(Run { command: Shell("ls"), heredocs: [], mounts: [MountFlag { text: "from=x,target=/y", from: Some("x") }], network: None, security: Insecure, devices: [Device { name: "a.b/c", required: true }] })"#,
    );
    check("RUN --mont=x ls", "unknown flag: --mont (did you mean mount?)");
    check("RUN --network=bridge ls", "invalid network mode \"bridge\"");
    check("RUN --security=x ls", "security \"x\" is not valid");
    check(
        "RUN --mount=from=$x ls",
        "'from' doesn't support variable expansion, define alias stage instead",
    );
}

#[test]
fn copies_have_sources_and_flags() {
    check(
        "COPY --from=a --chown=1:2 --chmod=u+x --link --parents --exclude=b --exclude=c d e /f/",
        r#"Copy(Copy { paths: SourcesAndDest { sources: ["d", "e"], contents: [], dest: "/f/" }, from: Some("a"), chown: Some("1:2"), chmod: Some("u+x"), link: true, parents: true, excludes: ["b", "c"] })"#,
    );
    check(
        r#"ADD --keep-git-dir --unpack=false --checksum=x ["a b", "c"]"#,
        r#"Add(Add { paths: SourcesAndDest { sources: ["a b"], contents: [], dest: "c" }, chown: None, chmod: None, link: false, excludes: [], keep_git_dir: Some(true), checksum: Some("x"), unpack: Some(false) })"#,
    );
    check(
        "COPY a <<-'X' b <<Y c/\n\tx\nX\ny\nY",
        r#"Copy(Copy { paths: SourcesAndDest { sources: ["a", "b"], contents: [InlineFile { path: "X", data: "x\n", expand: false }, InlineFile { path: "Y", data: "y\n", expand: true }], dest: "c/" }, from: None, chown: None, chmod: None, link: false, parents: false, excludes: [] })"#,
    );
    check("COPY a <<X\nX", "COPY cannot accept a heredoc as a destination");
    check("ADD --from=x a b", "unknown flag: --from");
}

#[test]
fn healthchecks_have_intervals() {
    check(
        "HEALTHCHECK --interval=1m --timeout=1.5s --start-period=0 --start-interval=5ms --retries=2 CMD a b",
        r#"Healthcheck(Healthcheck { test: ["CMD-SHELL", "a b"], interval: 60s, timeout: 1.5s, start_period: 0ns, start_interval: 5ms, retries: 2 })"#,
    );
    check(
        r#"HEALTHCHECK cmd ["a", "b"]"#,
        r#"Healthcheck(Healthcheck { test: ["CMD", "a", "b"], interval: 0ns, timeout: 0ns, start_period: 0ns, start_interval: 0ns, retries: 0 })"#,
    );
    check(
        "HEALTHCHECK none",
        r#"Healthcheck(Healthcheck { test: ["NONE"], interval: 0ns, timeout: 0ns, start_period: 0ns, start_interval: 0ns, retries: 0 })"#,
    );
    check("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments");
    check("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD");
    check("HEALTHCHECK x", "Unknown type \"X\" in HEALTHCHECK (try CMD)");
    check("HEALTHCHECK --interval=50ns CMD x", "Interval \"interval\" cannot be less than 1ms");
    check("HEALTHCHECK --timeout=5 CMD x", "time: missing unit in duration \"5\"");
    check("HEALTHCHECK --retries=x CMD x", "strconv.ParseInt: parsing \"x\": invalid syntax");
    check("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)");
}

#[test]
fn triggers_are_kept_as_text() {
    check("ONBUILD RUN  a \\\n  b", r#"Onbuild("RUN  a   b")"#);
    check("onbuild copy <<X /y\nz\nX", r#"Onbuild("copy <<X /y\nz\nX")"#);
    check("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger");
    check("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");

    let lines = Lines { first: 7, last: 7 };
    let trigger = parse_trigger("COPY <<X /y\nz\nX", lines).unwrap();
    assert_eq!((trigger.keyword.as_str(), trigger.lines), ("COPY", lines));
    let refused = parse_trigger("RUN a\nRUN b", lines).unwrap_err();
    assert_eq!(refused.kind.to_string(), "onbuild trigger should be a single expression");
}

#[test]
fn variables_are_expanded_where_allowed() {
    let expand = |text: &str, expected: &str| {
        let lookup = |name: &str| (name == "V").then(|| "x y".to_owned());
        let mut expander = Expander::new('\\', &lookup);
        let mut instruction = parse(&format!("FROM scratch\n{text}")).unwrap().remove(1);
        instruction.expand(&mut expander).unwrap();
        assert_eq!(format!("{:?}", instruction.kind), expected, "{text}");
        expander.unmatched
    };
    expand("ENV $V=\"$V\"", r#"Env([KeyValue { key: "x y", value: "x y", legacy: false }])"#);
    expand("EXPOSE $V 1", r#"Expose(["x", "y", "1"])"#);
    expand("VOLUME $V", r#"Volume(["x y"])"#);
    expand("WORKDIR /${V}", r#"Workdir("/x y")"#);
    expand("CMD $V", r#"Cmd(Shell("$V"))"#);
    expand("ARG a=$V", r#"Arg([ArgPair { key: "a", value: Some("$V"), description: None }])"#);
    expand("ONBUILD USER $V", r#"Onbuild("USER $V")"#);
    expand(
        "ADD --chown=$V --checksum=$V$W <<X <<'Y' $V/\n'$V'\nX\n$V\nY",
        r#"Add(Add { paths: SourcesAndDest { sources: [], contents: [InlineFile { path: "X", data: "'x y'\n", expand: true }, InlineFile { path: "Y", data: "$V\n", expand: false }], dest: "x y/" }, chown: Some("x y"), chmod: None, link: false, excludes: [], keep_git_dir: None, checksum: Some("x y"), unpack: None })"#,
    );
    let unmatched = expand("USER $W${X:-}${V}", r#"User("x y")"#);
    assert_eq!(unmatched.into_iter().collect::<Vec<_>>(), ["W", "X"]);
}
