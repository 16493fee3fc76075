//! Dockerfiles against the graph and the configuration they are lowered to.

use std::collections::{BTreeMap, BTreeSet};

use engine::graph::{NetworkMode, Op};

use crate::lines;
use crate::lower::{Lowered, lower};
use crate::platform;
use crate::request::{BaseImage, NamedContext, NoCache, Request};

/// A request for the last stage, with nothing special about it.
pub(crate) fn request() -> Request {
    Request {
        target: None,
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        platform: platform::parse("linux/amd64").unwrap(),
        build_platform: platform::parse("linux/amd64").unwrap(),
        no_cache: NoCache::Never,
        contexts: BTreeMap::new(),
        network: NetworkMode::Default,
        allowed: BTreeSet::new(),
        hostname: "buildkitsandbox".into(),
        extra_hosts: Vec::new(),
        shm_size: None,
        ulimits: Vec::new(),
        resources: Default::default(),
        cgroup_parent: None,
        cache_mount_namespace: String::new(),
    }
}

/// A base image with a variable and, if its name says so, triggers.
pub(crate) fn base(name: &str) -> BaseImage {
    let mut image = BaseImage { reference: name.to_owned(), ..Default::default() };
    image.config.config.env = vec!["PATH=/bin".into(), "BASE=yes".into()];
    image.config.config.cmd = Some(vec!["base".into()]);
    if name == "shell-less" {
        image.config.config.shell = Some(Vec::new());
    }
    if name == "triggers" {
        image.config.config.on_build = vec!["ENV T=1".into(), "RUN trigger".into()];
    }
    image
}

fn lowered(text: &str, change: impl FnOnce(&mut Request)) -> Lowered {
    let mut request = request();
    change(&mut request);
    let file = lines::parse(text.as_bytes()).unwrap();
    lower(&file, &[request], &mut |name, _| Ok(base(name))).unwrap()
}

/// The names of what the target needs, internal ones left out.
fn names(lowered: &Lowered) -> Vec<String> {
    let needed = lowered.definition.needed(lowered.target);
    let vertices = lowered.definition.vertices.iter().zip(needed);
    let names = vertices.filter(|(_, needed)| *needed).map(|(vertex, _)| vertex.name.clone());
    names.filter(|name| !name.starts_with("[internal]")).collect()
}

/// The environment of the last process.
fn last_env(lowered: &Lowered) -> Vec<String> {
    let runs = lowered.definition.vertices.iter().rev();
    let run = runs.filter_map(|vertex| match &vertex.op {
        Op::Run(run) => Some(run.env.clone()),
        _ => None,
    });
    run.into_iter().next().unwrap()
}

#[test]
fn only_needed_stages_are_lowered_and_named_as_buildkit_does() {
    let text =
        "FROM a AS one\nRUN 1\nFROM b AS unused\nRUN 2\nFROM c\nWORKDIR /x\nCOPY --from=one /f .\n";
    assert_eq!(
        names(&lowered(text, |_| {})),
        [
            "[one 1/2] FROM a",
            "[one 2/2] RUN 1",
            "[stage-2 1/3] FROM c",
            "[stage-2 2/3] WORKDIR /x",
            "[stage-2 3/3] COPY --from=one /f ."
        ]
    );
    assert_eq!(
        names(&lowered("FROM a\nENV V=3\nRUN echo $V\n", |_| {})),
        ["[1/2] FROM a", "[2/2] RUN echo 3"]
    );
    let target = |request: &mut Request| request.target = Some("ONE".into());
    assert_eq!(names(&lowered(text, target)), ["[one 1/2] FROM a", "[one 2/2] RUN 1"]);
}

#[test]
fn a_base_with_an_empty_shell_has_the_usual_one() {
    let lowered = lowered("FROM shell-less\nRUN x\nCMD y\n", |_| {});
    let run = lowered.definition.vertices.iter().find_map(|vertex| match &vertex.op {
        Op::Run(run) => Some(run.args.clone()),
        _ => None,
    });
    assert_eq!(run.unwrap(), ["/bin/sh", "-c", "x"]);
    let cmd = lowered.images[0].config.config.cmd.clone();
    assert_eq!(cmd.unwrap(), ["/bin/sh", "-c", "y"]);
}

#[test]
fn variables_have_their_scopes() {
    let env = |text: &str, arg: Option<(&str, &str)>| {
        let lowered = lowered(text, |request| {
            request.build_args.extend(arg.map(|(name, value)| (name.into(), value.into())));
        });
        last_env(&lowered)[2..].join(" ")
    };
    assert_eq!(env("ARG G=1\nFROM a\nRUN x", None), "");
    assert_eq!(env("ARG G=1\nFROM a\nARG G\nRUN x", None), "G=1");
    assert_eq!(env("FROM a\nARG A=1 B=$A-2\nRUN x", None), "A=1 B=1-2");
    assert_eq!(env("FROM a\nARG A=1\nRUN x", Some(("A", "given"))), "A=given");
    assert_eq!(env("FROM a\nARG A\nARG E=\nRUN x", None), "E=");
    assert_eq!(env("FROM a\nENV A=env\nARG A=arg\nRUN x", None), "A=env");
    assert_eq!(env("FROM a\nARG BASE=arg\nRUN x", None), "");
    assert_eq!(
        env("FROM a\nENV abc=hello\nENV abc=bye def=$abc\nRUN x", None),
        "abc=bye def=hello"
    );
    assert_eq!(env("FROM a\nARG TARGETARCH\nRUN x", None), "TARGETARCH=amd64");
    assert_eq!(env("FROM a AS s\nARG TARGETSTAGE\nRUN x", None), "TARGETSTAGE=s");
}

#[test]
fn proxies_are_seen_and_not_kept() {
    let lowered = lowered("FROM a\nRUN x", |request| {
        request.build_args.insert("http_proxy".into(), "p".into());
    });
    let Op::Run(run) = &lowered.definition.vertex(lowered.target).op else { panic!("no process") };
    assert_eq!(run.unkeyed_env, ["HTTP_PROXY=p", "http_proxy=p"]);
    assert!(!run.env.iter().any(|pair| pair.contains("proxy")));
    assert!(lowered.unused_args.is_empty());
    let history = lowered.images[0].config.history.last().unwrap();
    assert_eq!(history.created_by.as_deref(), Some("RUN /bin/sh -c x # buildkit"));
}

#[test]
fn the_configuration_follows_the_instructions() {
    let config = |text: &str| lowered(text, |_| {}).images.remove(0).config.config;
    assert_eq!(config("FROM a\nENTRYPOINT [\"e\"]").cmd, None);
    let both = config("FROM a\nCMD c\nENTRYPOINT [\"e\"]");
    assert_eq!(both.cmd, Some(vec!["/bin/sh".into(), "-c".into(), "c".into()]));
    assert_eq!(config("FROM a\nWORKDIR a\nWORKDIR ../b/").working_dir, "/b");
    assert_eq!(config("FROM scratch\nUSER x").working_dir, "/");
    let ports = config("FROM a\nARG P=\"80 81/udp\"\nEXPOSE $P").exposed_ports;
    assert_eq!(ports.into_keys().collect::<Vec<_>>(), ["80/tcp", "81/udp"]);
    let none = config("FROM a\nCMD []\nENTRYPOINT []");
    assert_eq!((none.cmd, none.entrypoint), (None, None));
    let shell = config("FROM a\nSHELL [\"x\", \"-y\"]\nCMD z");
    assert_eq!(shell.cmd, Some(vec!["x".into(), "-y".into(), "z".into()]));
}

#[test]
fn a_search_path_is_always_known_and_kept_unless_there_is_no_image() {
    let lowered = |text: &str| {
        let file = lines::parse(text.as_bytes()).unwrap();
        lower(&file, &[request()], &mut |name, _| {
            let mut image = base(name);
            image.config.config.env = vec!["A=1".into()];
            Ok(image)
        })
        .unwrap()
    };
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lowered("FROM a").images[0].config.config.env, ["A=1", path]);
    assert_eq!(lowered("FROM scratch\nENV B=2").images[0].config.config.env, ["B=2"]);
    let longer = path.replace('=', "=/x:");
    assert_eq!(lowered("FROM scratch\nENV PATH=/x:$PATH").images[0].config.config.env, [longer]);
}

#[test]
fn a_linked_copy_with_a_mode_or_a_users_name_is_an_ordinary_one() {
    let merges = |text: &str| {
        let vertices = lowered(text, |_| {}).definition.vertices;
        vertices.iter().filter(|vertex| matches!(vertex.op, Op::Merge(_))).count()
    };
    assert_eq!(merges("FROM a\nCOPY --link --chown=1 f /d/"), 1);
    assert_eq!(merges("FROM a\nCOPY --link --chmod=600 f /d/"), 0);
    assert_eq!(merges("FROM a\nCOPY --link --chown=1:app f /d/"), 0);
}

#[test]
fn triggers_run_first_and_are_cleared() {
    let lowered = lowered("FROM triggers\nRUN own\nONBUILD RUN later", |_| {});
    assert_eq!(
        names(&lowered),
        ["[1/3] FROM triggers", "[2/3] ONBUILD RUN trigger", "[3/3] RUN own"]
    );
    assert_eq!(last_env(&lowered).last().unwrap(), "T=1");
    assert_eq!(lowered.images[0].config.config.on_build, ["RUN later"]);
}

#[test]
fn history_has_an_entry_for_each_instruction_and_a_vertex_for_each_layer() {
    let lowered = lowered("FROM a\nARG X=1\nRUN [\"ls\"]\nCOPY --link f /\nLABEL l=1\n", |_| {});
    let said: Vec<_> = lowered.images[0]
        .config
        .history
        .iter()
        .map(|entry| entry.created_by.clone().unwrap())
        .collect();
    assert_eq!(said, ["ARG X=1", "RUN |1 X=1 ls # buildkit", "COPY f / # buildkit", "LABEL l=1"]);
    let made: Vec<bool> = lowered.images[0].history.iter().map(Option::is_some).collect();
    assert_eq!(made, [false, true, true, false]);
    assert!(
        lowered.images[0]
            .config
            .history
            .iter()
            .zip(&made)
            .all(|(entry, made)| entry.empty_layer != *made)
    );
}

#[test]
fn named_contexts_take_the_place_of_stages_and_images() {
    let text = "FROM base AS dep\nFROM a\nCOPY --from=dep /x /\nCOPY --from=img /y /\n";
    let lowered = lowered(text, |request| {
        request.contexts.insert("dep".into(), NamedContext::Local("dep".into()));
        request.contexts.insert("img".into(), NamedContext::Image("other".into()));
    });
    let all: Vec<_> =
        lowered.definition.vertices.iter().map(|vertex| vertex.name.as_str()).collect();
    assert!(all.contains(&"[internal] load context dep") && all.contains(&"FROM other"), "{all:?}");
    assert!(!all.contains(&"FROM base"), "{all:?}");
}

#[test]
fn a_build_without_cache_does_its_steps_again() {
    use engine::graph::Caching::{Skip, Use};
    let caching = |no_cache: NoCache| {
        let lowered = lowered("FROM a AS x\nRUN 1\nFROM x AS y\nRUN 2", |request| {
            request.no_cache = no_cache
        });
        let steps = lowered.definition.vertices.iter().filter(|vertex| vertex.name.contains("RUN"));
        steps.map(|vertex| vertex.caching).collect::<Vec<_>>()
    };
    assert_eq!(caching(NoCache::Never), [Use, Use]);
    assert_eq!(caching(NoCache::All), [Skip, Skip]);
    assert_eq!(caching(NoCache::Stages(vec!["Y".into()])), [Use, Skip]);
}

#[test]
fn a_file_may_chain_any_number_of_stages() {
    let mut text = String::from("FROM a AS s0\n");
    for index in 1..3000 {
        let from = index - 1;
        text += &match index % 2 {
            0 => format!("FROM s{from} AS s{index}\n"),
            _ => format!("FROM a AS s{index}\nCOPY --from=s{from} /f /\n"),
        };
    }
    assert!(!names(&lowered(&text, |_| {})).is_empty());
}

#[test]
fn a_context_that_leads_back_to_its_stage_is_a_circle() {
    let file = lines::parse(b"FROM a AS base\nFROM base AS other\nFROM other\n").unwrap();
    let mut request = request();
    request.contexts.insert("base".into(), NamedContext::Stage("other".into()));
    let error = lower(&file, &[request], &mut |name, _| Ok(base(name))).unwrap_err();
    assert!(error.to_string().contains("circular dependency"), "{error}");
}

/// What the stages are called that a Dockerfile needs for two platforms, and how many images come out.
#[track_caller]
fn check_platforms(text: &str, expected: &[&str]) {
    let requests = ["linux/amd64", "linux/arm64"]
        .map(|text| Request { platform: platform::parse(text).unwrap(), ..request() });
    let file = lines::parse(text.as_bytes()).unwrap();
    let lowered = lower(&file, &requests, &mut |name, _| Ok(base(name))).unwrap();
    assert_eq!(names(&lowered), expected, "{text}");
    let architectures = requests.iter().map(|request| &request.platform);
    assert!(lowered.images.iter().map(|image| &image.platform).eq(architectures));
}

#[test]
fn a_stage_that_does_not_know_the_target_is_one_for_all_platforms() {
    let shared = "FROM --platform=$BUILDPLATFORM a AS tool\nRUN make\n";
    let copied = "FROM b\nCOPY --from=tool /f /\n";
    check_platforms(
        &format!("{shared}{copied}"),
        &[
            "[linux/amd64 tool 1/2] FROM a",
            "[linux/amd64 tool 2/2] RUN make",
            "[linux/amd64 stage-1 1/2] FROM b",
            "[linux/amd64 stage-1 2/2] COPY --from=tool /f /",
            "[linux/arm64 stage-1 1/2] FROM b",
            "[linux/arm64 stage-1 2/2] COPY --from=tool /f /",
        ],
    );
    let aware = shared.replace("RUN", "ARG TARGETARCH\nRUN");
    check_platforms(
        &format!("{aware}{copied}"),
        &[
            "[linux/amd64 tool 1/2] FROM a",
            "[linux/amd64 tool 2/2] RUN make",
            "[linux/amd64 stage-1 1/2] FROM b",
            "[linux/amd64 stage-1 2/2] COPY --from=tool /f /",
            "[linux/amd64 tool 2/2] RUN make",
            "[linux/arm64 stage-1 1/2] FROM b",
            "[linux/arm64 stage-1 2/2] COPY --from=tool /f /",
        ],
    );
}
