//! COPY: what is taken and where it goes.

use crate::support::{Test, check, check_tree, unindent};

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
fn paths_of_parents_are_tidied_first() {
    for path in ["k", "./k/", "/k", "../k", "k/d/../d", ".", "./", "/", "./k/./."] {
        let test = Test::of(&format!("FROM scratch\nCOPY --parents {path} /\n-- k/d/f\n"));
        let tree = test.build(&[]).tree();
        assert!(
            tree.contains(" k/d/f\n") || path.ends_with("/.") && tree.contains(" d/f\n"),
            "{path}: {tree}"
        );
    }
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

/// Appends to a file as soon as somebody begins to read it, each of so many times; long files are
/// still being read then.
fn append_when_read(path: std::path::PathBuf, times: usize) -> std::thread::JoinHandle<()> {
    use rustix::fs::inotify;
    let mut file = fs_err::OpenOptions::new().append(true).open(&path).unwrap();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, &path, inotify::WatchFlags::OPEN).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut opened = inotify::Reader::new(&watch, &mut buffer);
        for _ in 0..times {
            opened.next().unwrap();
            std::io::Write::write_all(&mut file, b"more\n").unwrap();
        }
    })
}

#[test]
fn a_file_that_is_written_to_is_copied_again_until_it_is_whole() {
    let bytes = vec![b'x'; 96 << 20];
    let test = Test::of("FROM scratch\nCOPY log /\n");
    test.file("log", &bytes);
    let writer = append_when_read(test.context().join("log"), 1);
    test.rbuild(&["build", "-o", "../out", "."]).succeeded();
    writer.join().unwrap();
    let found = fs_err::read(test.outside("out/log")).unwrap();
    assert!(found == [&bytes[..], b"more\n"].concat(), "{} bytes", found.len());
}

#[test]
fn a_file_that_never_stops_changing_is_not_copied() {
    let test = Test::of("FROM scratch\nCOPY log /\n");
    test.file("log", vec![b'x'; 96 << 20]);
    append_when_read(test.context().join("log"), usize::MAX);
    let words = "/log changed while it was copied: build again once nothing writes to it";
    test.refused(&[], &[words]);
}

/// The names of files right in a folder that are opened while something is done, each once.
fn opened_meanwhile(folder: &std::path::Path, work: impl FnOnce()) -> Vec<String> {
    use rustix::fs::inotify;
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags).unwrap();
    inotify::add_watch(&watch, folder, inotify::WatchFlags::OPEN).unwrap();
    work();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut names = std::collections::BTreeSet::new();
    while let Ok(event) = events.next() {
        let is_folder = event.events().contains(inotify::ReadFlags::ISDIR);
        let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
        names.extend(name.filter(|_| !is_folder));
    }
    names.into_iter().collect()
}

#[test]
fn of_a_context_that_changed_a_little_only_that_is_read() {
    let test = Test::of("FROM scratch\nCOPY src /\n");
    for number in 0..300 {
        test.file(&format!("src/{number:03}"), vec![number as u8; 40_000]);
    }
    // What was written at the moment of a build may be written to at the same one.
    std::thread::sleep(std::time::Duration::from_millis(50));
    test.build(&[]);
    test.file("src/150", "changed").file("src/more", "new");
    fs_err::remove_file(test.context().join("src/200")).unwrap();
    let opened = opened_meanwhile(&test.context().join("src"), || drop(test.build(&[])));
    assert_eq!(opened, ["150", "more"]);
    let like = test.build(&[]);
    assert_eq!(like.layers(), test.build(&["--no-cache"]).layers());
    // It is like one that was like another.
    test.file("src/000", "changed too");
    let opened = opened_meanwhile(&test.context().join("src"), || drop(test.build(&[])));
    assert_eq!(opened, ["000"]);
    assert_eq!(test.build(&[]).layers(), test.build(&["--no-cache"]).layers());
    test.rbuild(&["system", "check"]).succeeded();
}

#[test]
fn files_are_copied_however_few_may_be_open_at_once() {
    let test = Test::of("FROM scratch\nCOPY . /\n");
    for number in 0..200 {
        test.file(&format!("files/{number}"), number.to_string());
    }
    let line = "ulimit -n 48; $RBUILD build -q -o type=tar . | tar -x -O files/7 files/199";
    assert_eq!(test.unshared(line), "1997");
}
