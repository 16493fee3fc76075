//! Where a build's result goes: exporters, tags, files with ids; where its context comes from; what it prints.

use std::process::Command;

use crate::support::{Server, Test, finish, need, sha256, unindent};

const SMALL: &str = "
    FROM scratch
    COPY a /dir/a
    ENV K=v
    CMD [\"/dir/a\"]
    -- a 755
    text
    ";

fn tar_names(bytes: &[u8]) -> String {
    let mut tar = Command::new("tar");
    tar.arg("-t");
    let mut names: Vec<_> = finish(tar, Some(bytes)).ok().lines().map(str::to_owned).collect();
    names.sort();
    names.join(" ")
}

#[test]
fn local_and_tar_give_the_files() {
    let test = Test::of(SMALL);
    test.rbuild(&["build", "-o", "../plain", "."]).succeeded();
    test.rbuild(&["build", "--output", "type=local,dest=../local", "."]).succeeded();
    for folder in ["plain", "local"] {
        assert_eq!(fs_err::read_to_string(test.outside(folder).join("dir/a")).unwrap(), "text\n");
    }
    for arguments in [["-o", "-"], ["-o", "type=tar,dest=-"]] {
        let line = [&["build"], arguments.as_slice(), &["."]].concat();
        let outcome = test.rbuild(&line);
        assert_eq!(tar_names(&outcome.succeeded().stdout), "dir/ dir/a");
    }
    test.rbuild(&["build", "-o", "type=tar,dest=../out.tar", "."]).succeeded();
    assert_eq!(tar_names(&fs_err::read(test.outside("out.tar")).unwrap()), "dir/ dir/a");
    test.refused(&["-o", "type=nonsense"], &["nonsense"]);
}

#[test]
fn local_files_are_the_callers_and_those_of_a_tar_are_whose_they_were() {
    let test = Test::of("FROM scratch\nCOPY --chown=12:34 a /dir/\n-- a\n");
    test.rbuild(&["build", "-o", "../local", "."]).succeeded();
    let caller = test.shell("id -u; id -g");
    for path in ["dir", "dir/a"] {
        assert_eq!(test.shell(&format!("stat -c '%u\n%g' ../local/{path}")), caller, "{path}");
    }
    test.rbuild(&["build", "-o", "type=tar,dest=../out.tar", "."]).succeeded();
    let listed = test.shell("tar --numeric-owner -tvf ../out.tar dir/a");
    assert!(listed.contains(" 12/34 "), "{listed}");
}

#[test]
fn a_dockerfile_may_be_behind_a_url() {
    let test = Test::of("FROM scratch\nCOPY wrong /\n-- a\ntext\n");
    let served = test.outside("served");
    fs_err::create_dir(&served).unwrap();
    fs_err::write(served.join("Other"), "FROM scratch\nCOPY a /b\n").unwrap();
    fs_err::write(served.join("Wrong"), "FROM scratch\nNOPE\n").unwrap();
    let server = Server::of(&served);
    let [other, wrong, missing] = ["Other", "Wrong", "none"].map(|name| server.url(name));
    assert_eq!(test.build(&["-f", &other, "--no-cache"]).read("b"), "text\n");
    test.refused(
        &["-f", &wrong, "--no-cache"],
        &["unknown instruction: NOPE", &format!("{wrong}:2")],
    );
    test.refused(&["-f", &missing, "--no-cache"], &["failed to read dockerfile", &missing, "404"]);
}

#[test]
fn another_platform_is_built_for() {
    let test = Test::of("FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n-- a\n");
    let image = test.build(&["--platform", "linux/arm64"]);
    assert_eq!(image.tree(), "-rw-r--r-- 0/0 arm64\n");
}

#[test]
fn oci_and_docker_archives_are_read_by_other_programs() {
    if !need::program("skopeo") {
        return;
    }
    let test = Test::of(SMALL);
    for (kind, transport) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let output = format!("type={kind},dest=../{kind}.tar");
        test.rbuild(&["build", "-t", "small:1", "-o", &output, "."]).succeeded();
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["inspect", "--config"])
            .arg(format!("{transport}:{}", test.outside(kind).with_extension("tar").display()));
        let config: serde_json::Value = serde_json::from_str(&finish(skopeo, None).ok()).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "/dir/a", "{config}");
    }
}

/// `docker load` and `podman load` take their images by `manifest.json`, and read nothing but the
/// files that it names.
#[test]
fn a_docker_archive_has_what_others_load_an_image_from() {
    let test = Test::of("FROM scratch\nCOPY a /\nCOPY a /b\nCOPY a /\n-- a\ntext\n");
    let line = ["build", "-t", "small:1", "-t", "example.com/user/app:2", "-o"];
    test.rbuild(&[&line[..], &["type=docker,dest=../archive.tar", "."]].concat()).succeeded();
    test.shell("mkdir ../archive; tar -C ../archive -xf ../archive.tar");
    let read = |name: &str| fs_err::read(test.outside("archive").join(name)).unwrap();
    let json = |name: &str| -> serde_json::Value { serde_json::from_slice(&read(name)).unwrap() };
    let manifest = json("manifest.json");
    let image = &manifest[0];
    let tags = serde_json::json!(["docker.io/library/small:1", "example.com/user/app:2"]);
    assert_eq!((manifest.as_array().unwrap().len(), &image["RepoTags"]), (1, &tags));
    let config = json(image["Config"].as_str().unwrap());
    let layers = image["Layers"].as_array().unwrap();
    let digests: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(&read(layer.as_str().unwrap()))))
        .collect();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(digests));
    assert_eq!(json("index.json")["manifests"].as_array().unwrap().len(), 2);
    if !need::program("skopeo") {
        return;
    }
    for tag in ["small:1", "example.com/user/app:2"] {
        let mut skopeo = Command::new("skopeo");
        let from = format!("docker-archive:{}:{tag}", test.outside("archive.tar").display());
        let to = format!("oci:{}:x", test.outside("copied").display());
        skopeo.args(["copy", "--insecure-policy", "-q", &from, &to]);
        finish(skopeo, None).ok();
    }
    test.file("from", "FROM busybox\nCOPY a /c\n");
    let copied = test.rbuild(&[
        "build",
        "-f",
        "from",
        "-o",
        "-",
        "--build-context",
        &format!("busybox=oci-layout://{}:x", test.outside("copied").display()),
        ".",
    ]);
    assert_eq!(tar_names(&copied.succeeded().stdout), "a b c");
}

#[test]
fn an_output_that_does_not_fit_leaves_what_was_there() {
    let test = Test::of(SMALL);
    test.build(&["-o", "type=oci,tar=false,dest=../old"]);
    test.shell("head -c 4000000 /dev/urandom > a");
    test.build(&[]);
    let script = r#"
        mkdir ../full
        mount -t tmpfs -o size=3m none ../full
        cp -a ../old ../full/layout
        mkdir -p ../full/local/dir
        for file in tar oci docker id metadata local/dir/a local/other; do echo old > ../full/$file; done
        listed() { (cd ../full; find . -type f -exec sha256sum {} + | sort); }
        listed > ../before
        for kind in tar oci docker; do
          if "$RBUILD" build -o type=$kind,dest=../full/$kind . 2> ../log; then exit 1; fi
          grep -q "No space left on device" ../log
        done
        if "$RBUILD" build -o type=local,dest=../full/local . 2> ../log; then exit 1; fi
        if "$RBUILD" build -o type=oci,tar=false,dest=../full/layout . 2> ../log; then exit 1; fi
        dd if=/dev/zero of=../full/filler bs=4k 2> ../log || true
        if "$RBUILD" build --iidfile ../full/id . 2> ../log; then exit 1; fi
        grep -q "No space left on device" ../log
        if "$RBUILD" build --metadata-file ../full/metadata . 2> ../log; then exit 1; fi
        rm ../full/filler
        listed > ../after
        comm -23 ../before ../after
        # Blobs may have come to the layout; each is whole.
        listed | grep sha256/ | while read -r digest file; do [ "$digest" = "${file##*/}" ]; done
        find ../full -name '.rbuild-*'
        "$RBUILD" build --iidfile ../full/id . 2> ../log
        cat ../full/id
        "#;
    let id = test.rbuild(&["build", "-q", "."]).ok();
    assert_eq!(format!("{}\n", test.unshared(script)), id);
}

#[test]
fn files_are_put_over_a_directory_that_is_there() {
    let test = Test::of(
        "
        FROM scratch
        COPY new /
        COPY --chown=7:8 --chmod=700 new/dir /owned/
        -- new/dir/file
        new
        -- new/file-to-dir/in
        new
        -- new/dir-to-file
        new
        -- new/link-to-dir/in
        new
        -- new/hard
        new
        -- new/mounted/sub/in
        new
        ",
    );
    let script = r#"
        mkdir -p ../out/dir ../out/dir-to-file/gone ../out/owned ../elsewhere ../out/mounted
        mount -t tmpfs none ../out/mounted
        mkdir ../out/mounted/sub ../out/.rbuild-1-0.part
        echo kept > ../out/dir/kept
        echo old > ../out/dir/file
        echo old > ../out/file-to-dir
        ln -s ../elsewhere ../out/link-to-dir
        echo precious > ../elsewhere/precious
        ln ../elsewhere/precious ../out/hard
        echo kept > ../out/mounted/sub/kept
        "$RBUILD" build -o ../out . 2> ../log
        cd ../out
        find . -name '.rbuild-*'
        find . -type f | sort | while read -r file; do echo "$file $(cat "$file")"; done
        stat -c '%u:%g %a' owned
        ls ../elsewhere; cat ../elsewhere/precious
        "#;
    let expected = "
        ./dir-to-file new
        ./dir/file new
        ./dir/kept kept
        ./file-to-dir/in new
        ./hard new
        ./link-to-dir/in new
        ./mounted/sub/in new
        ./mounted/sub/kept kept
        ./owned/file new
        0:0 700
        precious
        precious
        ";
    assert_eq!(test.unshared(script), unindent(expected));
}

#[test]
fn ids_go_to_files_and_quiet_prints_only_the_id() {
    let test = Test::of(SMALL);
    let id = test
        .build(&["-t", "other:1.0", "--iidfile", "../id", "--metadata-file", "../metadata"])
        .id();
    assert_eq!(fs_err::read_to_string(test.outside("id")).unwrap(), id);
    let metadata = fs_err::read(test.outside("metadata")).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id.as_str(), "{metadata}");
    assert!(
        metadata["containerimage.digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    );
    assert_eq!(test.names(), ["busybox:latest", "other:1.0", "test:latest"]);

    let quiet = test.rbuild(&["build", "-q", "."]);
    assert_eq!(quiet.ok(), format!("{id}\n"));
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_build_without_the_verb_is_a_build() {
    let test = Test::of(SMALL);
    test.rbuild(&["-t", "short", "."]).succeeded();
    assert!(test.names().contains(&"short:latest".to_owned()));
}

#[test]
fn a_context_may_come_as_a_tar_or_only_a_dockerfile_on_standard_input() {
    let test = Test::of(SMALL);
    test.shell(
        "mkdir sub; mv Dockerfile sub/Named; tar -cf ../context.tar .; gzip -k ../context.tar",
    );
    for name in ["context.tar", "context.tar.gz"] {
        let input = fs_err::read(test.outside(name)).unwrap();
        let line = ["build", "-f", "sub/Named", "-o", "type=tar,dest=-", "-"];
        let outcome = test.rbuild_with(&line, &[], Some(&input));
        assert_eq!(tar_names(&outcome.succeeded().stdout), "dir/ dir/a", "{name}");
    }
    let only = test.rbuild_with(
        &["build", "-o", "type=tar,dest=-", "-"],
        &[],
        Some(b"FROM busybox\nRUN echo x > /x\n"),
    );
    assert!(tar_names(&only.succeeded().stdout).ends_with(" x"));
}

#[test]
fn a_context_may_come_by_url_or_from_git() {
    let test = Test::of(SMALL);
    let served = test.outside("served");
    fs_err::create_dir(&served).unwrap();
    test.shell(
        "export HOME=$PWD GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
         tar -cf ../served/context.tar Dockerfile a
         git init -q -b main ../work; mkdir ../work/sub; cp Dockerfile a ../work/sub; cd ../work; git add .; git commit -qm one
         git clone -q --bare . ../served/repo.git; cd ../served/repo.git; git update-server-info",
    );
    let server = Server::of(&served);
    for context in [server.url("context.tar"), server.url("repo.git#main:sub")] {
        let outcome = test.rbuild(&["build", "-o", "type=tar,dest=-", context.as_str()]);
        assert_eq!(tar_names(&outcome.succeeded().stdout), "dir/ dir/a", "{context}");
    }
}

#[test]
fn plain_progress_names_stage_step_and_instruction() {
    let test = Test::of(
        "
        FROM busybox AS base
        WORKDIR /w
        RUN echo \"base\" > base
        FROM scratch
        COPY --from=base /w/base /
        ",
    );
    let log = test.build(&[]).log;
    for text in [
        "[base 2/3] WORKDIR /w",
        "[base 3/3] RUN echo \"base\" > base",
        "[stage-1 1/1] COPY --from=base /w/base /",
    ] {
        assert!(log.contains(text), "no {text:?} in\n{log}");
    }
    let quiet = test.rbuild(&["build", "--progress", "quiet", "."]);
    assert_eq!(quiet.succeeded().stderr, "");
}

#[test]
fn a_steps_output_is_shown_as_it_comes() {
    let test = Test::of("FROM busybox\nRUN echo to-stdout; echo to-stderr >&2\n");
    let log = test.build(&[]).log;
    assert!(log.contains(" to-stdout\n") && log.contains(" to-stderr\n"), "{log}");
    assert!(!test.build(&[]).log.contains("to-stdout\n#"), "a cached step has no output");
}

#[test]
fn checks_warn_and_fail_when_told() {
    let test = Test::of(
        "
        from scratch as base
        MAINTAINER me
        ENV legacy value
        CMD echo shell
        ",
    );
    let rules =
        ["FromAsCasing", "MaintainerDeprecated", "LegacyKeyValueFormat", "JSONArgsRecommended"];
    let log = test.build(&[]).log;
    for rule in rules.iter().skip(1) {
        assert!(log.contains(rule), "no {rule} in\n{log}");
    }
    let check = test.rbuild(&["build", "--check", "."]).ok();
    assert!(check.contains("MaintainerDeprecated"), "{check}");

    test.file("Dockerfile", "# check=skip=all\nFROM scratch\nMAINTAINER me\n");
    test.rbuild(&["build", "--check", "."]).succeeded();
    test.file("Dockerfile", "# check=error=true\nFROM scratch\nMAINTAINER me\n");
    let violation = "lint violation found for rules: MaintainerDeprecated";
    test.refused(&[], &[violation, "- MaintainerDeprecated: ", "(Dockerfile line 3)"]);
    assert_eq!(test.rbuild(&["build", "--check", "."]).code, Some(1));
}
