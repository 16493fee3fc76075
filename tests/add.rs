//! ADD: archives, URLs and git repositories.

use crate::support::{LAST_MODIFIED, NAME, Server, Test, need, unindent};

#[test]
fn archives_are_unpacked_by_their_content_and_copy_never_does() {
    let test = Test::of(
        "
        FROM scratch
        ADD a.tar /tar/
        ADD a.tar.gz /gz/
        ADD named.txt /bz2/
        ADD a.txz /xz/
        ADD a.tar.zst /zst/
        ADD fake.tar /fake/
        ADD --unpack=false a.tar /kept/
        COPY a.tar /copied/
        ADD *.tar /all/
        -- fake.tar
        not an archive
        -- made/dir/file
        text
        ",
    );
    test.shell("tar -C made -cf a.tar dir; gzip -k a.tar; bzip2 -c a.tar > named.txt; xz -c a.tar > a.txz; zstd -q a.tar");
    let image = test.build(&[]);
    for folder in ["tar", "gz", "bz2", "xz", "zst", "all"] {
        assert_eq!(image.read(&format!("{folder}/dir/file")), "text\n", "{folder}");
    }
    assert_eq!(image.read("fake/fake.tar"), "not an archive\n");
    assert_eq!(image.read("all/fake.tar"), "not an archive\n");
    let archive = fs_err::read(test.context().join("a.tar")).unwrap();
    assert!(image.bytes("kept/a.tar") == archive && image.bytes("copied/a.tar") == archive);
}

#[test]
fn an_archive_keeps_its_owners_modes_and_times_unless_told_otherwise() {
    let test = Test::of(
        "
        FROM scratch
        ADD a.tar /kept/
        ADD --chown=100:200 a.tar /chowned/
        -- made/dir/file 4640
        -- made/dir/link -> file
        ",
    );
    test.shell("touch -d @1000000000 made/dir/file; tar -C made --owner=7 --group=8 -cf a.tar dir");
    let image = test.build(&[]);
    let tree = "
        drwxr-xr-x 100/200 chowned/dir
        -rwSr----- 100/200 chowned/dir/file
        lrwxrwxrwx 100/200 chowned/dir/link -> file
        drwxr-xr-x 7/8 kept/dir
        -rwSr----- 7/8 kept/dir/file
        lrwxrwxrwx 7/8 kept/dir/link -> file
        ";
    assert_eq!(image.tree_of("chowned/dir") + &image.tree_of("kept/dir"), unindent(tree));
    assert_eq!(image.mtime("kept/dir/file"), 1_000_000_000);
}

#[test]
fn an_archive_may_leave_out_parents_and_go_through_links_of_the_image() {
    let test = Test::of(
        "
        FROM scratch
        ADD rootfs.tar /
        ADD payload.tar /
        ADD implied.tar /implied/
        -- rootfs/run/
        -- rootfs/var/run -> /run
        -- payload/var/run/act/HEAD
        ref
        -- implied/a/b/c
        c
        ",
    );
    test.shell(
        "ln payload/var/run/act/HEAD payload/var/run/act/link
         tar -C rootfs -cf rootfs.tar run var/run
         tar -C payload -cf payload.tar var/run/act/HEAD var/run/act/link
         tar -C implied -cf implied.tar a/b/c",
    );
    let image = test.build(&[]);
    assert_eq!(image.read("run/act/HEAD"), "ref\n");
    assert!(
        image.tree_of("run/act").contains("run/act/link link to run/act/HEAD\n")
            || image.tree_of("run/act").contains("run/act/HEAD link to run/act/link\n")
    );
    assert!(image.tree_of("var/run").contains("var/run -> /run"));
    assert!(image.tree_of("implied/a").starts_with("drwxr-xr-x 0/0 implied/a\n"));
    assert_eq!(image.read("implied/a/b/c"), "c\n");
}

#[test]
fn an_archive_may_give_a_symbolic_link_a_second_name() {
    let test = Test::of(
        "
        FROM busybox
        ADD links.tar /w/
        ADD through.tar /t/
        -- real/
        -- through
        through
        ",
    );
    test.shell(
        "ln -s x s; ln s q; tar -cf links.tar s q
         ln -s real link; ln link again; tar -cf through.tar real link again
         tar -rf through.tar --transform 's,^through$,again/file,' through",
    );
    let image = test.build(&[]);
    assert_eq!(
        image.tree_of("w"),
        unindent(
            "
            drwxr-xr-x 0/0 w
            lrwxrwxrwx 0/0 w/q -> x
            hrwxrwxrwx 0/0 w/s link to w/q
            "
        )
    );
    assert_eq!(image.read("t/real/file"), "through\n");
    let look = "test $(stat -c %i /w/q) = $(stat -c %i /w/s); readlink /w/s; cat /t/again/file";
    let command = ["run", "--rm", "--network", "none", NAME, "sh", "-ec", look];
    for variables in [&[][..], &[("RBUILD_DRIVER", "dir")]] {
        assert_eq!(test.rbuild_with(&command, variables, None).ok(), "x\nthrough\n");
    }
    if need::program("skopeo") && need::program("umoci") {
        test.shell(&format!(
            "skopeo --insecure-policy copy -q oci:{} oci:../named:latest
             umoci --log=error unpack --image ../named:latest ../bundle
             test $(readlink ../bundle/rootfs/w/s) = x
             test $(stat -c %i ../bundle/rootfs/w/s) = $(stat -c %i ../bundle/rootfs/w/q)",
            image.layout().display()
        ));
    }
}

#[test]
fn a_url_is_a_file_named_by_its_path_and_asked_for_again_only_when_it_changed() {
    let test = Test::empty();
    let folder = test.outside("served");
    fs_err::create_dir(&folder).unwrap();
    fs_err::write(folder.join("foo"), "first").unwrap();
    let server = Server::of(&folder);
    let (foo, query) = (server.url("foo"), server.url("foo?x=y"));
    test.file(
        "Dockerfile",
        format!("FROM scratch\nADD {foo} /dest/\nADD {foo} /named\nADD {query} /query/\nADD --chmod=755 --chown=1:2 {foo} /mode\n"),
    );
    let image = test.build(&["--network", "host"]);
    let tree = "
        drwxr-xr-x 0/0 dest
        -rw------- 0/0 dest/foo
        -rwxr-xr-x 1/2 mode
        -rw------- 0/0 named
        drwxr-xr-x 0/0 query
        -rw------- 0/0 query/foo
        ";
    assert_eq!(image.tree(), unindent(tree));
    assert_eq!(image.read("dest/foo"), "first");
    assert_eq!(image.mtime("dest/foo"), LAST_MODIFIED);

    let before = server.requests().len();
    assert_eq!(test.build(&["--network", "host"]).cached(), 4);
    let again = &server.requests()[before..];
    assert!(
        again.iter().all(|request| request.starts_with("HEAD") || request.ends_with("304")),
        "{again:?}"
    );
    fs_err::write(folder.join("foo"), "second!").unwrap();
    assert_eq!(test.build(&["--network", "host"]).read("named"), "second!");
}

#[test]
fn a_url_is_not_unpacked_unless_told_and_its_checksum_is_held() {
    let test = Test::empty();
    let folder = test.outside("served");
    fs_err::create_dir(&folder).unwrap();
    fs_err::write(folder.join("file"), "x").unwrap();
    test.shell("tar -C ../served -cf ../served/a.tar file");
    let server = Server::of(&folder);
    let sum = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let (tar, file) = (server.url("a.tar"), server.url("file"));
    test.file(
        "Dockerfile",
        format!("FROM scratch\nADD {tar} /kept/\nADD --unpack=true {tar} /out/\nENV SUM={sum}\nADD --checksum=$SUM {file} /sum\n"),
    );
    let image = test.build(&[]);
    assert!(image.tree_of("kept").ends_with("kept/a.tar\n"));
    assert_eq!(image.read("out/file") + &image.read("sum"), "xx");

    let wrong = format!("sha256:{}", "0".repeat(64));
    for (line, text) in [
        (format!("ADD --checksum={wrong} {file} /"), "digest mismatch"),
        (
            format!("ADD --checksum=md5:7e55db001d319a94b0b713529a756623 {file} /x"),
            "md5:7e55db001d319a94b0b713529a756623",
        ),
        (format!("ADD {} /x", server.url("missing")), "404"),
        ("ADD http://127.0.0.1:1/x /x".to_owned(), "127.0.0.1:1"),
    ] {
        test.file("Dockerfile", format!("FROM scratch\n{line}\n"));
        test.refused(&[], &[text, "Dockerfile:2", &line]);
    }
}

#[test]
fn a_git_repository_is_checked_out_at_its_ref_and_folder() {
    let test = Test::empty();
    let folder = test.outside("served");
    fs_err::create_dir(&folder).unwrap();
    let commit = test.shell(
        "export HOME=$PWD GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
         git init -q -b main ../work; cd ../work; mkdir sub; echo one > sub/file; echo top > top; chmod 755 top
         git add .; git commit -qm one; git tag v1; echo two > sub/file; git commit -qam two
         git clone -q --bare . ../served/repo.git; cd ../served/repo.git; git repack -qad; git update-server-info
         git rev-parse v1",
    );
    let (url, commit) = (Server::of(&folder).url("repo.git"), commit.trim().to_owned());
    test.file(
        "Dockerfile",
        format!(
            "FROM scratch\nADD {url} /head/\nADD {url}#v1:sub /sub/\nADD {url}?tag=v1 /query/\n\
             ADD --keep-git-dir=true {url}#v1 /git/\nADD --checksum={commit} {url}#v1 /checked/\n"
        ),
    );
    let image = test.build(&[]);
    assert_eq!(
        image.read("head/sub/file") + &image.read("sub/file") + &image.read("query/sub/file"),
        "two\none\none\n"
    );
    assert_eq!(image.read("checked/sub/file"), "one\n");
    assert!(
        image.tree_of("git/.git").contains("git/.git/HEAD\n")
            && image.tree_of("head/.git").is_empty()
    );
    let modes = "-rwxr-xr-x 0/0 head/top\n-rw-r--r-- 0/0 head/sub/file\n";
    assert_eq!(image.tree_of("head/top") + &image.tree_of("head/sub/file"), modes);

    test.file(
        "Dockerfile",
        format!("FROM scratch\nADD --checksum={} {url}#v1 /\n", "0".repeat(40)),
    );
    test.refused(&[], &["expected checksum to match"]);
}
