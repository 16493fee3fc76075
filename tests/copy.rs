//! COPY: what is taken, where it goes, and with which owner, mode and attributes.

use crate::support::{Test, check, need, unindent};

/// Builds a literal and compares the whole file system that comes out, one line a file.
#[track_caller]
fn check_tree(literal: &str, tree: &str) {
    assert_eq!(Test::of(literal).build(&[]).tree(), unindent(tree));
}

#[test]
fn a_file_goes_to_a_path_into_a_folder_or_below_parents_that_are_made() {
    check_tree(
        "
        FROM scratch
        COPY a /renamed
        COPY a dir/
        COPY b dir
        COPY a b many/
        COPY a made/on/the/way
        COPY a /
        COPY ./b .
        -- a
        a
        -- b 600
        b
        ",
        "
        -rw-r--r-- 0/0 a
        -rw------- 0/0 b
        drwxr-xr-x 0/0 dir
        -rw-r--r-- 0/0 dir/a
        -rw------- 0/0 dir/b
        drwxr-xr-x 0/0 made
        drwxr-xr-x 0/0 made/on
        drwxr-xr-x 0/0 made/on/the
        -rw-r--r-- 0/0 made/on/the/way
        drwxr-xr-x 0/0 many
        -rw-r--r-- 0/0 many/a
        -rw------- 0/0 many/b
        -rw-r--r-- 0/0 renamed
        ",
    );
}

#[test]
fn several_sources_need_a_destination_that_is_a_folder() {
    let test = Test::of(
        "
        FROM scratch
        COPY a b /c
        -- a
        -- b
        ",
    );
    let text = "When using COPY with more than one source file, the destination must be a directory and end with a /";
    test.refused(&[], &[text]);
}

#[test]
fn of_a_folder_its_contents_are_copied_however_it_is_written() {
    check_tree(
        "
        FROM scratch
        COPY dir /1
        COPY dir/ /2
        COPY dir/. /3/
        COPY [\"dir\", \"/a space/\"]
        -- dir/file
        -- dir/sub/empty/
        ",
        "
        drwxr-xr-x 0/0 1
        -rw-r--r-- 0/0 1/file
        drwxr-xr-x 0/0 1/sub
        drwxr-xr-x 0/0 1/sub/empty
        drwxr-xr-x 0/0 2
        -rw-r--r-- 0/0 2/file
        drwxr-xr-x 0/0 2/sub
        drwxr-xr-x 0/0 2/sub/empty
        drwxr-xr-x 0/0 3
        -rw-r--r-- 0/0 3/file
        drwxr-xr-x 0/0 3/sub
        drwxr-xr-x 0/0 3/sub/empty
        drwxr-xr-x 0/0 a space
        -rw-r--r-- 0/0 a space/file
        drwxr-xr-x 0/0 a space/sub
        drwxr-xr-x 0/0 a space/sub/empty
        ",
    );
}

#[test]
fn a_relative_destination_starts_at_the_working_directory_and_a_relative_source_of_a_stage_at_its_root()
 {
    check_tree(
        r#"
        FROM scratch AS from
        WORKDIR /here
        COPY a a
        FROM scratch
        ENV empty=""
        WORKDIR /work
        WORKDIR deep/er
        COPY a .
        COPY a ./b
        COPY a ../c
        WORKDIR ..
        COPY a d
        COPY a $empty
        WORKDIR /
        COPY --from=from here/a e
        -- a
        "#,
        "
        -rw-r--r-- 0/0 e
        drwxr-xr-x 0/0 work
        drwxr-xr-x 0/0 work/deep
        -rw-r--r-- 0/0 work/deep/a
        -rw-r--r-- 0/0 work/deep/c
        -rw-r--r-- 0/0 work/deep/d
        drwxr-xr-x 0/0 work/deep/er
        -rw-r--r-- 0/0 work/deep/er/a
        -rw-r--r-- 0/0 work/deep/er/b
        ",
    );
}

#[test]
fn globs_match_files_and_folders_anywhere_in_the_path() {
    check_tree(
        r"
        FROM scratch
        COPY *.go /star/
        COPY f*.go one.go
        COPY ?a[a-r].go /class/
        COPY sub/* /folder/
        COPY sub/*/dir2/foo /middle/
        COPY sub/*/dir2/foo /renamed/bar
        COPY fo* no* /some/
        COPY [[]x] odd\?\*.go /odd/
        -- foo.go
        -- bar.go
        -- sub/dir1/dir2/foo
        -- [x]
        -- odd?*.go
        ",
        r"
        drwxr-xr-x 0/0 class
        -rw-r--r-- 0/0 class/bar.go
        drwxr-xr-x 0/0 folder
        drwxr-xr-x 0/0 folder/dir2
        -rw-r--r-- 0/0 folder/dir2/foo
        drwxr-xr-x 0/0 middle
        -rw-r--r-- 0/0 middle/foo
        drwxr-xr-x 0/0 odd
        -rw-r--r-- 0/0 odd/[x]
        -rw-r--r-- 0/0 odd/odd?*.go
        -rw-r--r-- 0/0 one.go
        drwxr-xr-x 0/0 renamed
        -rw-r--r-- 0/0 renamed/bar
        drwxr-xr-x 0/0 some
        -rw-r--r-- 0/0 some/foo.go
        drwxr-xr-x 0/0 star
        -rw-r--r-- 0/0 star/bar.go
        -rw-r--r-- 0/0 star/foo.go
        -rw-r--r-- 0/0 star/odd?*.go
        ",
    );
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let test = Test::of(
        "
        -- a
        ",
    );
    for (line, text) in [
        ("COPY missing /", "\"/missing\": not found"),
        ("COPY a missing /dir/", "\"/missing\": not found"),
        ("COPY dir/missing /", "\"/dir/missing\": not found"),
        ("COPY ../outside /", "\"/outside\": not found"),
        ("ADD missing /", "\"/missing\": not found"),
        ("COPY http://example.com/a /", "source can't be a URL for COPY"),
    ] {
        test.file("Dockerfile", format!("FROM scratch\n{line}\n"));
        test.refused(&[], &[text]);
    }
}

#[test]
fn nothing_outside_the_context_can_be_copied() {
    let test = Test::of(
        "
        FROM scratch
        COPY ../../a ../../../dir/../../b /
        -- a
        within
        -- b
        also within
        -- out -> /etc
        ",
    );
    let image = test.build(&[]);
    assert_eq!(image.read("a") + &image.read("b"), "within\nalso within\n");
    test.file("Dockerfile", "FROM scratch\nCOPY out/passwd /\n");
    test.refused(&[], &["passwd\": not found"]);
}

#[test]
fn links_inside_a_folder_stay_links_and_a_link_that_is_named_is_followed() {
    let image = Test::of(
        "
        FROM scratch
        COPY foo /
        COPY sub/l* /links/
        COPY sub /dir
        COPY folder-link /through
        COPY folder-link/file /in
        -- bar
        bar
        -- foo -> bar
        -- sub/lfile
        lfile
        -- sub/l0 -> subfile
        -- sub/subfile
        subfile
        -- sub/l1 -> second
        -- sub/second -> baz
        -- sub/baz
        baz
        -- sub/dangling -> /nowhere
        -- folder-link -> /target
        -- target/file
        target
        ",
    )
    .build(&[]);
    for (path, content) in [
        ("foo", "bar\n"),
        ("links/l0", "subfile\n"),
        ("links/lfile", "lfile\n"),
        ("links/l1", "baz\n"),
    ] {
        assert_eq!(image.read(path), content, "{path}");
    }
    let links = image.tree_of("dir");
    assert!(
        links.contains("dir/dangling -> /nowhere\n") && links.contains("dir/l0 -> subfile\n"),
        "{links}"
    );
    assert_eq!(image.read("through/file") + &image.read("in"), "target\ntarget\n");
}

#[test]
fn links_in_a_stage_are_resolved_inside_that_stage() {
    check(
        "
        FROM busybox AS from
        RUN mkdir -p /real/sub && echo real > /real/sub/file && ln -s /real /absolute && ln -s ../../../real/sub /real/up
        RUN ln -s /absolute/sub/file /file-link
        FROM busybox
        COPY --from=from /absolute/sub/file /1
        COPY --from=from /real/up/file /2
        COPY --from=from /file-link /3
        RUN cat 1 2 3 > /out
        ",
        "real\nreal\nreal\n",
    );
}

#[test]
fn a_destination_behind_a_link_is_written_inside_the_root() {
    let image = Test::of(
        "
        FROM busybox
        RUN mkdir /real && ln -s /real /absolute && ln -s ../../real /relative && ln -s real/late /dangling
        COPY a /absolute/1
        COPY a /relative/2
        COPY dir /absolute/
        COPY a /dangling/3
        -- a
        a
        -- dir/4
        ",
    )
    .build(&[]);
    let names: Vec<_> = image.tree_of("real").lines().map(|line| line[15..].to_owned()).collect();
    assert_eq!(names, ["real", "real/1", "real/2", "real/4", "real/late", "real/late/3"]);
    assert!(image.tree_of("absolute").contains("absolute -> /real"));
}

#[test]
fn what_is_there_is_overwritten_unless_a_file_and_a_folder_clash() {
    let test = Test::of(
        "
        FROM scratch
        COPY old /file
        COPY dir dir
        COPY dir dir
        COPY new /file
        COPY over dir
        -- old
        old
        -- new
        new
        -- dir/a
        first
        -- dir/b
        kept
        -- over/a
        second
        ",
    );
    let image = test.build(&[]);
    assert_eq!(
        image.read("file") + &image.read("dir/a") + &image.read("dir/b"),
        "new\nsecond\nkept\n"
    );
    test.file("Dockerfile", "FROM scratch\nCOPY dir /x\nCOPY new /y/x\nCOPY dir /y/x\n");
    test.refused(&[], &["/y/x"]);
    test.file("Dockerfile", "FROM scratch\nCOPY new /y/a/b\nCOPY clash /y\n").file("clash/a", "");
    test.refused(&[], &["/y/a"]);
}

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
fn a_socket_in_the_context_is_no_error_and_odd_names_are_kept() {
    let test = Test::of(
        r#"
        FROM scratch
        COPY . /all
        COPY ["two words", "/words"]
        COPY über %C3 a+b /odd/
        -- two words
        -- über
        -- %C3
        -- a+b
        "#,
    );
    let _socket = std::os::unix::net::UnixListener::bind(test.context().join("socket")).unwrap();
    let image = test.build(&[]);
    let odd = "
        drwxr-xr-x 0/0 odd
        -rw-r--r-- 0/0 odd/%C3
        -rw-r--r-- 0/0 odd/a+b
        -rw-r--r-- 0/0 odd/über
        ";
    assert_eq!(image.tree_of("odd"), unindent(odd));
    assert!(image.tree().contains("all/two words\n") && image.tree().contains(" words\n"));
}

#[test]
fn link_copies_without_looking_at_the_base() {
    let test = Test::of(
        r#"
        ARG BASE=one
        FROM busybox AS one
        FROM busybox AS two
        RUN echo different > /base
        FROM $BASE
        ENV empty=""
        WORKDIR /work
        COPY --link a .
        COPY --link b $empty
        COPY --link --chown=3:4 a /deep/er/a
        -- a
        a
        -- b
        b
        "#,
    );
    let image = test.build(&[]);
    assert_eq!(image.read("work/a") + &image.read("work/b"), "a\nb\n");
    assert!(image.tree_of("deep/er/a").starts_with("-rw-r--r-- 3/4"), "{}", image.tree_of("deep"));
    let layers = image.layers();
    let other = test.build(&["--build-arg", "BASE=two"]);
    assert_eq!(other.layers()[other.layers().len() - 3..], layers[layers.len() - 3..]);
    let linked = other.log.lines().filter(|line| line.ends_with(" CACHED")).count();
    assert!(linked >= 3, "{}", other.log);
}

#[test]
fn parents_keeps_the_folders_of_a_source_from_its_pivot_on() {
    check_tree(
        "
        FROM scratch AS from
        COPY a /test/a
        FROM scratch
        COPY --parents a/b/c/foo /
        COPY --parents a/**/ba? /wild/
        COPY --parents a/./b/c/foo /pivot/
        COPY --parents a/b/c/foo a/b2/bar /several/
        COPY --from=from --parents /test/a/./b /stage/
        COPY --from=from --parents /test/no*/c /nothing/
        -- a/b/c/foo
        -- a/b2/bar
        -- a/b2/deep/baz
        ",
        "
        drwxr-xr-x 0/0 a
        drwxr-xr-x 0/0 a/b
        drwxr-xr-x 0/0 a/b/c
        -rw-r--r-- 0/0 a/b/c/foo
        drwxr-xr-x 0/0 nothing
        drwxr-xr-x 0/0 pivot
        drwxr-xr-x 0/0 pivot/b
        drwxr-xr-x 0/0 pivot/b/c
        -rw-r--r-- 0/0 pivot/b/c/foo
        drwxr-xr-x 0/0 several
        drwxr-xr-x 0/0 several/a
        drwxr-xr-x 0/0 several/a/b
        drwxr-xr-x 0/0 several/a/b/c
        -rw-r--r-- 0/0 several/a/b/c/foo
        drwxr-xr-x 0/0 several/a/b2
        -rw-r--r-- 0/0 several/a/b2/bar
        drwxr-xr-x 0/0 stage
        drwxr-xr-x 0/0 stage/b
        drwxr-xr-x 0/0 stage/b/c
        -rw-r--r-- 0/0 stage/b/c/foo
        drwxr-xr-x 0/0 wild
        drwxr-xr-x 0/0 wild/a
        drwxr-xr-x 0/0 wild/a/b2
        -rw-r--r-- 0/0 wild/a/b2/bar
        drwxr-xr-x 0/0 wild/a/b2/deep
        -rw-r--r-- 0/0 wild/a/b2/deep/baz
        ",
    );
    let test = Test::of("FROM scratch\nCOPY --parents missing/file /\n");
    test.refused(&[], &["missing/file\": not found"]);
}

#[test]
fn exclude_leaves_out_what_its_patterns_match() {
    let image = Test::of(
        "
        FROM scratch AS from
        COPY d1 d1
        FROM scratch
        COPY --exclude=*/*.png --exclude=*/*.jpg . /1/
        COPY --exclude=* --exclude=!*.txt d1 /2/
        COPY --from=from --exclude=*.png /d1 /3/
        ADD --exclude=*.png d* /4/
        ADD --exclude=* d* /5/
        -- .dockerignore
        Dockerfile
        .dockerignore
        -- d1/a.png
        -- d1/a.txt
        -- d2/b.jpg
        -- d2/b.txt
        ",
    )
    .build(&[]);
    let names = |folder: &str| -> String {
        let tree = image.tree_of(folder);
        let files = tree.lines().filter(|line| line.starts_with('-'));
        files.map(|line| line.rsplit('/').next().unwrap_or(line)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("1"), "a.txt b.txt");
    assert_eq!(names("2"), "a.txt");
    assert_eq!(names("3"), "a.txt");
    assert_eq!(names("4"), "a.txt b.jpg b.txt");
    assert_eq!(names("5"), "");
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
