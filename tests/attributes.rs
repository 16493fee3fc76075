//! The owners, modes, extended attributes and hard links that COPY keeps or sets.

use crate::support::{Test, check_tree, need, unindent};

#[test]
fn files_of_the_context_belong_to_root_and_those_of_a_stage_to_their_owner() {
    let test = Test::of(
        r#"
        FROM busybox AS from
        RUN echo x > /file && chown 100:200 /file && mkdir -m 700 /dir && echo y > /dir/sub && chown 101:201 /dir/sub
        FROM busybox
        COPY mine /
        COPY --from=from /file /
        COPY --from=from /dir /dir
        COPY --chown=daemon mine /daemon
        COPY --chown=1000:nobody mine /1000
        COPY --chown=12 mine /12
        ENV owner=www-data group=users
        COPY --chown=$owner:${group} mine /variable
        COPY --from=from --chown=bin:0 /file /bin-file
        WORKDIR /
        RUN stat -c '%u:%g %n' mine file dir dir/sub daemon 1000 12 variable bin-file > /out
        -- mine
        "#,
    );
    test.shell("chown 55:66 mine");
    assert_eq!(
        test.build(&[]).read("out"),
        unindent(
            "
            0:0 mine
            100:200 file
            0:0 dir
            101:201 dir/sub
            1:1 daemon
            1000:65534 1000
            12:12 12
            33:100 variable
            2:0 bin-file
            "
        )
    );
}

#[test]
fn chown_takes_numbers_without_a_passwd_file() {
    let test = Test::of(
        "
        FROM scratch
        COPY --chown=7:8 a /
        -- a
        ",
    );
    assert_eq!(test.build(&[]).tree(), "-rw-r--r-- 7/8 a\n");
}

/// The matrix of BuildKit: new folders and files get the new owner, what is there keeps its own.
#[test]
fn chown_changes_what_is_new_and_leaves_folders_that_exist() {
    let literal = r#"
        FROM busybox AS source
        RUN mkdir -p /dir/subdir && touch /file /dir/subdir/nested && chown 100:200 /file /dir \
         && chown 101:201 /dir/subdir && chown 102:202 /dir/subdir/nested
        FROM busybox AS base
        RUN mkdir -p /old/oldsub && touch /old/oldfile && chown 500:600 /old && chown 501:601 /old/oldsub /old/oldfile
        FROM base AS plain
        COPY --from=source /file .
        COPY --from=source /dir /dir
        COPY --from=source /dir/. /old
        RUN find /file /dir /old | sort | xargs stat -c '%u:%g %n' > /out
        FROM base AS chowned
        COPY --from=source --chown=300:400 /file .
        COPY --from=source --chown=300:400 /dir /dir
        COPY --from=source --chown=300:400 /dir/. /old
        RUN find /file /dir /old | sort | xargs stat -c '%u:%g %n' > /out
        "#;
    let test = Test::of(literal);
    let plain = "
        0:0 /dir
        101:201 /dir/subdir
        102:202 /dir/subdir/nested
        100:200 /file
        500:600 /old
        501:601 /old/oldfile
        501:601 /old/oldsub
        101:201 /old/subdir
        102:202 /old/subdir/nested
        ";
    assert_eq!(test.build(&["--target", "plain"]).read("out"), unindent(plain));
    let chowned = "
        300:400 /dir
        300:400 /dir/subdir
        300:400 /dir/subdir/nested
        300:400 /file
        500:600 /old
        501:601 /old/oldfile
        501:601 /old/oldsub
        300:400 /old/subdir
        300:400 /old/subdir/nested
        ";
    assert_eq!(test.build(&["--target", "chowned"]).read("out"), unindent(chowned));
}

#[test]
fn chmod_takes_octal_and_symbolic_modes_and_reaches_parents_that_copy_makes() {
    check_tree(
        "
        FROM scratch
        ARG mode=755
        COPY --chmod=0644 file /1
        COPY --chmod=755 file /2
        COPY --chmod=0413 file /3
        COPY --chmod=$mode file /4
        COPY --chmod=7777 file /5
        COPY --chmod=u=rwX,go=rX tree /6
        COPY --chmod=go-rw,a+x file /7
        COPY --chmod=0 file /8
        COPY --chmod=0777 file /parent/file
        -- file
        -- tree/plain 600
        -- tree/program 700
        -- tree/dir/
        ",
        "
        -rw-r--r-- 0/0 1
        -rwxr-xr-x 0/0 2
        -r----x-wx 0/0 3
        -rwxr-xr-x 0/0 4
        -rwsrwsrwt 0/0 5
        drwxr-xr-x 0/0 6
        drwxr-xr-x 0/0 6/dir
        -rw-r--r-- 0/0 6/plain
        -rwxr-xr-x 0/0 6/program
        -rwx--x--x 0/0 7
        ---------- 0/0 8
        drwxrwxrwx 0/0 parent
        -rwxrwxrwx 0/0 parent/file
        ",
    );
}

#[test]
fn a_mode_that_is_none_is_refused() {
    let test = Test::of(
        "
        -- file
        ",
    );
    for instruction in ["COPY", "ADD"] {
        for mode in ["64a", "10000"] {
            test.file("Dockerfile", format!("FROM scratch\n{instruction} --chmod={mode} file /\n"));
            let text = format!(
                "invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777"
            );
            test.refused(&[], &[&text]);
        }
    }
}

#[test]
fn special_modes_attributes_and_hard_links_survive() {
    let test = Test::of(
        r#"
        FROM busybox AS from
        RUN mkdir /tree && echo x > /tree/a && ln /tree/a /tree/b && chmod 2750 /tree && chmod 4755 /tree/a
        FROM busybox
        COPY special /special
        COPY --from=from /tree /copies/tree
        COPY --from=from / /whole
        RUN stat -c '%a %n' /special/* > /out
        RUN for d in copies whole; do stat -c '%a %h' /$d/tree/a; [ /$d/tree/a -ef /$d/tree/b ] && echo same; done >> /out
        -- special/setuid 4755
        -- special/sticky/ 1777
        -- special/setgid/ 2755
        -- special/attributed
        "#,
    );
    let attributed = test.context().join("special/attributed");
    rustix::fs::setxattr(&attributed, "user.colour", b"green", rustix::fs::XattrFlags::empty())
        .unwrap();
    let image = test.build(&[]);
    let expected = "
        644 /special/attributed
        2755 /special/setgid
        4755 /special/setuid
        1777 /special/sticky
        4755 2
        same
        4755 2
        same
        ";
    assert_eq!(image.read("out"), unindent(expected));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(
        image.unpacked().join("special/attributed"),
        "user.colour",
        &mut value,
    )
    .unwrap();
    assert_eq!(&value[..length], b"green");
}

#[test]
fn attributes_of_folders_survive_too_and_count() {
    let test = Test::of(
        "
        FROM scratch AS from
        COPY d /d/
        FROM scratch
        COPY d /c/
        COPY --from=from / /
        -- d/sub/file
        ",
    );
    let set = |value: &str| {
        let set = rustix::fs::setxattr(
            test.context().join("d/sub"),
            "user.colour",
            value.as_bytes(),
            rustix::fs::XattrFlags::empty(),
        );
        set.expect("set");
    };
    set("green");
    let image = test.build(&[]);
    for folder in ["c/sub", "d/sub"] {
        let mut value = [0; 16];
        let path = image.unpacked().join(folder);
        let length = rustix::fs::getxattr(path, "user.colour", &mut value).expect(folder);
        assert_eq!(&value[..length], b"green", "{folder}");
    }
    assert_eq!(test.build(&[]).cached(), 3);
    set("red");
    assert_eq!(test.build(&[]).cached(), 0);
}

#[test]
fn whether_two_names_have_one_file_counts() {
    let test = Test::of("FROM scratch\nCOPY d /\n-- d/a\nsame\n");
    test.shell("ln d/a d/b");
    let built = || {
        let image = test.build(&[]);
        (image.cached(), image.id())
    };
    let linked = built();
    test.shell("cp -p d/b d/c && mv d/c d/b");
    let apart = built();
    assert_eq!((linked.0, apart.0), (0, 0));
    assert_ne!(linked.1, apart.1);
    assert_eq!(test.build(&["--no-cache"]).id(), apart.1);
    assert_eq!(test.build(&[]).cached(), 1);
}

#[test]
fn a_file_of_the_context_brings_no_capabilities_and_one_of_a_stage_does() {
    let test = Test::of(
        "
        FROM scratch AS stage
        ADD given.tar /
        FROM scratch
        COPY program /of-context
        COPY --from=stage /program /of-stage
        -- program
        ",
    );
    let program = test.context().join("program");
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&program, "user.colour", b"green", none).unwrap();
    test.shell("setcap cap_net_bind_service=ep program");
    test.shell("tar --xattrs --xattrs-include='*' -cf given.tar program");
    let image = test.build(&[]);
    let length = |file: &str, name: &str| {
        rustix::fs::getxattr(image.unpacked().join(file), name, &mut [0_u8; 64]).ok()
    };
    for (file, capability) in [("of-context", None), ("of-stage", Some(20))] {
        assert_eq!(length(file, "user.colour"), Some(5), "{file}");
        assert_eq!(length(file, "security.capability"), capability, "{file}");
    }
}

/// BuildKit's own table of symbolic modes: what each makes of four files.
#[test]
fn symbolic_modes_give_what_the_reference_gives() {
    let Some(folder) = need::conformance("copy-chmod") else {
        return;
    };
    let rows = suite(&folder);
    let mut dockerfile = "FROM scratch\n".to_owned();
    for (i, row) in rows.iter().enumerate() {
        dockerfile += &format!("COPY --chmod={} tree /{i}/\n", row["mode"].as_str().unwrap());
    }
    let test = Test::of(
        "
        -- tree/file 644
        -- tree/executable_file 755
        -- tree/dir/ 750
        -- tree/restricted_dir/ 700
        ",
    );
    let tree = test.file("Dockerfile", dockerfile).build(&[]).tree();
    for (i, row) in rows.iter().enumerate() {
        for (column, name) in [
            ("file_0644", "file"),
            ("exec_0755", "executable_file"),
            ("dir_0750", "dir"),
            ("dir_0700", "restricted_dir"),
        ] {
            let line = tree.lines().find(|line| line.ends_with(&format!(" {i}/{name}")));
            assert_eq!(line.map(mode_of).as_deref(), row[column].as_str(), "{row} {name}");
        }
    }
}

fn suite(folder: &std::path::Path) -> Vec<serde_json::Value> {
    let files = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let rows = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let text: String = rows.map(|path| fs_err::read_to_string(path).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `-rwsr-xr-x` as `4755`.
fn mode_of(line: &str) -> String {
    let bits = line.as_bytes();
    let mut mode = 0;
    for (i, &bit) in bits[1..10].iter().enumerate() {
        let set = !matches!(bit, b'-' | b'S' | b'T');
        mode |= u32::from(set) << (8 - i);
        if matches!(bit, b's' | b'S' | b't' | b'T') {
            mode |= 0o4000 >> (i / 3);
        }
    }
    format!("{mode:04o}")
}
