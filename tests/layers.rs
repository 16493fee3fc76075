//! Layers: what they hold, how they are laid over each other, and that hostile ones change nothing outside.

use std::process::Command;

use crate::support::{Image, Test, finish, layer, need, sha256, unindent, write_layout};

/// Builds `FROM` an image of these layers and compares what is seen.
#[track_caller]
fn check_layers(layers: &[&str], tree: &str) {
    assert_eq!(over(&Test::empty(), layers).tree(), unindent(tree));
}

fn over(test: &Test, layers: &[&str]) -> Image {
    let layers: Vec<_> = layers.iter().map(|text| layer(text)).collect();
    write_layout(&test.outside("layout"), &layers);
    test.file("Dockerfile", "FROM base\nCOPY Dockerfile /top\n");
    let base = format!("base=oci-layout://{}", test.outside("layout").display());
    test.build(&["--build-context", &base])
}

#[test]
fn whiteouts_remove_and_opaque_folders_begin_empty_in_any_order() {
    check_layers(
        &[
            "
            .dot: 1
            dir/
            dir/a: 1
            dir/sub/
            dir/sub/b: 1
            file: 1
            opaque/
            opaque/old: 1
            opaque/both: 1
            ",
            "
            ..wh.no: a name that only looks like one
            .wh..dot
            .wh.file
            dir/.wh.sub
            opaque/both: 2
            opaque/
            opaque/.wh..wh..opq
            opaque/new: 2
            ",
        ],
        "
        -rw-r--r-- 0/0 ..wh.no
        drwxr-xr-x 0/0 dir
        -rw-r--r-- 0/0 dir/a
        drwxr-xr-x 0/0 opaque
        -rw-r--r-- 0/0 opaque/both
        -rw-r--r-- 0/0 opaque/new
        -rw-r--r-- 0/0 top
        ",
    );
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    check_layers(
        &["a: 1\nd/\nd/b: 1\n", ".wh..wh..opq\nc: 2\n"],
        "-rw-r--r-- 0/0 c\n-rw-r--r-- 0/0 top\n",
    );
}

#[test]
fn a_later_layer_may_change_what_kind_a_path_is() {
    check_layers(
        &[
            "
            to-dir: 1
            to-file/
            to-file/inside: 1
            link -> to-file
            kept-dir/
            kept-dir/a: 1
            ",
            "
            to-dir/
            to-dir/x: 2
            to-file: 2
            link/
            link/y: 2
            kept-dir/
            kept-dir/b: 2
            ",
        ],
        "
        drwxr-xr-x 0/0 kept-dir
        -rw-r--r-- 0/0 kept-dir/a
        -rw-r--r-- 0/0 kept-dir/b
        drwxr-xr-x 0/0 link
        -rw-r--r-- 0/0 link/y
        drwxr-xr-x 0/0 to-dir
        -rw-r--r-- 0/0 to-dir/x
        -rw-r--r-- 0/0 to-file
        -rw-r--r-- 0/0 top
        ",
    );
}

#[test]
fn hard_links_hold_within_a_layer_and_to_layers_below() {
    let image = over(&Test::empty(), &["a: one\nb => a\n", "c => a\nd: two\ne => d\n"]);
    let folder = image.unpacked();
    for (name, content) in [("a", "one"), ("b", "one"), ("c", "one"), ("d", "two"), ("e", "two")] {
        assert_eq!(fs_err::read_to_string(folder.join(name)).unwrap(), content, "{name}");
    }
}

#[test]
fn hostile_layers_change_nothing_outside() {
    let test = Test::empty();
    let canary = test.outside("canary");
    fs_err::write(&canary, "alive").unwrap();
    let up = "../".repeat(12);
    let (at, name) = (canary.parent().unwrap().display().to_string(), canary.display().to_string());
    for hostile in [
        format!("{up}{name}: dead\n"),
        format!("{name}: dead\n"),
        format!("x/{up}{name}: dead\n"),
        format!("link -> {at}\nlink/canary: dead\n"),
        format!("link -> {up}{at}\nlink/canary: dead\n"),
        format!("link -> /\ndeep -> link{at}\ndeep/canary: dead\n"),
        format!("hard => {name}\nhard: dead\n"),
        format!("hard => {up}{name}\nhard: dead\n"),
        format!("link -> {at}\nhard => link/canary\nhard: dead\n"),
        format!("{up}{at}/.wh.canary\n"),
        format!("link -> {at}\nlink/.wh.canary\n"),
        format!("link -> {at}\nlink/.wh..wh..opq\n"),
        ".wh..\n.wh...\n".to_owned(),
    ] {
        // Whether such a layer is refused or tamed is not the point here.
        write_layout(&test.outside("layout"), &[layer("a: 1\n"), layer(&hostile)]);
        fs_err::write(test.context().join("hostile.tar"), layer(&hostile)).unwrap();
        let base = format!("base=oci-layout://{}", test.outside("layout").display());
        for dockerfile in [
            "FROM base\nCOPY Dockerfile /x\n",
            "FROM scratch\nADD hostile.tar /\nADD hostile.tar /d/\n",
        ] {
            test.file("Dockerfile", dockerfile);
            for output in ["type=local,dest=../out", "type=tar,dest=../out.tar"] {
                test.rbuild(&["build", "--build-context", &base, "-o", output, "."]);
                assert_eq!(
                    fs_err::read_to_string(&canary).unwrap(),
                    "alive",
                    "{hostile}{dockerfile}{output}"
                );
            }
        }
        test.rbuild(&["import", "hostile.tar", "hostile"]);
        assert_eq!(fs_err::read_to_string(&canary).unwrap(), "alive", "{hostile}");
    }
}

#[test]
fn a_removed_file_is_a_whiteout_and_a_folder_made_anew_hides_the_old_one() {
    let test = Test::of(
        "
        FROM busybox
        RUN mkdir -p /d/sub && echo a > /d/a && echo b > /d/sub/b && echo c > /c && chmod 711 /d/sub
        RUN rm /c
        ",
    );
    let removed = test.build(&[]);
    assert_eq!(
        removed
            .top_layer()
            .lines()
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect::<Vec<_>>(),
        [".wh.c"]
    );
    assert_eq!(removed.tree_of("c"), "");

    test.file(
        "Dockerfile",
        fs_err::read_to_string(test.context().join("Dockerfile"))
            .unwrap()
            .replace("rm /c", "rm /d/sub/b"),
    );
    let deep = test.build(&[]);
    let names = "drwxr-xr-x 0/0 d\ndrwx--x--x 0/0 d/sub\n";
    assert!(
        deep.top_layer().starts_with(names) && deep.top_layer().contains("d/sub/.wh.b\n"),
        "{}",
        deep.top_layer()
    );

    test.file(
        "Dockerfile",
        fs_err::read_to_string(test.context().join("Dockerfile"))
            .unwrap()
            .replace("rm /d/sub/b", "rm -rf /d && mkdir /d && echo n > /d/n"),
    );
    let anew = test.build(&[]);
    assert_eq!(anew.tree_of("d"), "drwxr-xr-x 0/0 d\n-rw-r--r-- 0/0 d/n\n");
    let layer = anew.top_layer();
    assert!(
        layer.contains("d/.wh..wh..opq\n")
            || layer.contains("d/.wh.a\n") && layer.contains("d/.wh.sub\n"),
        "{layer}"
    );
}

#[test]
fn only_what_changed_is_in_a_layer() {
    let test = Test::of(
        "
        FROM busybox
        RUN mkdir -p /a/b && echo x > /a/b/c && echo y > /y
        RUN chmod 600 /a/b/c && touch -d @1000000000 /y && cat /bin/busybox > /dev/null
        ",
    );
    let names: Vec<_> = test
        .build(&[])
        .top_layer()
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert!(names.contains(&"a/b/c".to_owned()) && names.contains(&"y".to_owned()), "{names:?}");
    assert!(
        names.iter().all(|name| ["a", "a/b", "a/b/c", "y"].contains(&name.as_str())),
        "{names:?}"
    );
}

#[test]
fn rare_files_come_through_every_way_of_copying() {
    let test = Test::of(
        r#"
        FROM busybox AS from
        RUN mkdir /rare && cd /rare && mknod char c 1 3 && mknod block b 7 200 && mkfifo fifo && ln -s nowhere link \
         && echo x > a && ln a b && touch $(head -c 200 /dev/zero | tr '\0' n) && mkdir -m 1777 sticky \
         && truncate -s 10M sparse && chown 3000000:3000001 a && touch -d '1969-12-31 23:00:00' old && touch -d '2150-01-01 00:00:00' late
        FROM scratch
        COPY --from=from /rare /copy
        FROM busybox
        COPY --from=1 / /
        COPY --from=from /rare /copy2
        RUN for d in copy copy2; do cd /$d; stat -c '%F %t:%T %u:%g %a %h %s %Y' char block fifo link a sticky sparse old late n*; done > /out
        "#,
    );
    let image = test.build(&[]);
    let out = image.read("out");
    let (one, other) = out.split_at(out.len() / 2);
    assert_eq!(one, other);
    let lines: Vec<_> = one.lines().map(|line| line.rsplit_once(' ').unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|(kind, _)| *kind).collect();
    let expected = [
        "character special file 1:3 0:0 644 1 0",
        "block special file 7:c8 0:0 644 1 0",
        "fifo 0:0 0:0 644 1 0",
        "symbolic link 0:0 0:0 777 1 7",
        "regular file 0:0 3000000:3000001 644 2 2",
        "directory 0:0 0:0 1777 2 4096",
        "regular file 0:0 0:0 644 1 10485760",
        "regular empty file 0:0 0:0 644 1 0",
        "regular empty file 0:0 0:0 644 1 0",
        "regular empty file 0:0 0:0 644 1 0",
    ];
    for (kind, expected) in kinds.iter().zip(expected) {
        // A folder's size is its file system's own affair.
        assert!(
            *kind == expected
                || expected.starts_with("directory") && kind.starts_with("directory 0:0 0:0 1777"),
            "{kind} is not {expected}"
        );
    }
    assert_eq!((lines[7].1, lines[8].1), ("-3600", "5680281600"));
}

#[test]
fn a_capability_of_a_file_survives_layers() {
    let test = Test::of(
        "
        FROM scratch
        ADD program.tar /
        -- program 755
        ",
    );
    // VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective: capabilities(7), <linux/capability.h>.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let program = test.context().join("program");
    rustix::fs::setxattr(
        &program,
        "security.capability",
        &capability,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    // A file that is copied from the context brings none.
    test.shell("tar --xattrs --xattrs-include='*' -cf program.tar program");
    let unpacked = test.build(&[]).unpacked();
    let mut value = [0; 32];
    let length =
        rustix::fs::getxattr(unpacked.join("program"), "security.capability", &mut value).unwrap();
    assert_eq!(value[..length], capability);
}

#[test]
fn blobs_are_addressed_by_their_content_and_other_programs_accept_them() {
    let test = Test::of("FROM busybox\nRUN echo x > /x\n");
    let image = test.build(&[]);
    let layout = image.layout();
    for blob in fs_err::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        assert_eq!(
            sha256(&fs_err::read(&path).unwrap()),
            path.file_name().unwrap().to_str().unwrap()
        );
    }
    let read = |digest: &serde_json::Value| {
        fs_err::read(layout.join("blobs/sha256").join(&digest.as_str().unwrap()[7..])).unwrap()
    };
    let index: serde_json::Value =
        serde_json::from_slice(&fs_err::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&read(&index["manifests"][0]["digest"])).unwrap();
    for (layer, diff_id) in manifest["layers"].as_array().unwrap().iter().zip(image.layers()) {
        let mut unpack = Command::new("gzip");
        unpack.arg("-dcf");
        let tar = finish(unpack, Some(&read(&layer["digest"]))).stdout;
        assert_eq!(format!("sha256:{}", sha256(&tar)), diff_id);
    }
    if need::program("skopeo") && need::program("umoci") {
        test.shell(
            "skopeo --insecure-policy copy -q oci:$(ls -d ../*.oci) oci:../named:latest
             umoci --log=error unpack --image ../named:latest ../bundle
             grep -qx x ../bundle/rootfs/x",
        );
    }
}

#[test]
fn holes_take_no_room_in_the_store_and_are_zeros_all_the_same() {
    let test = Test::of(
        "
        FROM busybox
        RUN truncate -s 256M /written && echo end >> /written
        COPY hole /copied
        -- Dockerfile.look
        FROM test
        RUN cmp /written /copied && test $(tail -c 4 /copied) = end && test $(stat -c %s /copied) = 268435460
        ",
    );
    test.shell("truncate -s 256M hole; echo end >> hole");
    test.build(&[]);
    let blocks = "du -ck --block-size=1M $RBUILD_ROOT/layers/*/layer.tar | tail -n 1 | cut -f 1";
    let used: u64 = test.shell(blocks).trim().parse().unwrap();
    assert!(used < 16, "the layers take {used} MB");
    // Digested as if it were all there.
    test.shell(
        "for tar in $RBUILD_ROOT/layers/*/layer.tar; do
           test $(sha256sum < $tar | cut -c 1-64) = $(basename $(dirname $tar))
         done",
    );
    let said = test.rbuild(&["system", "df", "--format", "{{.Size}}"]).ok();
    let megabytes = |size: &str| size.strip_suffix("MB").map_or(0.0, |size| size.parse().unwrap());
    let all: f64 = said.lines().map(megabytes).sum();
    assert!(all < 16.0 && !said.contains("GB"), "{said}");
    test.build(&["-f", "Dockerfile.look"]);
}
