//! Input made to harm, and a store that has been harmed: refused by name or made again, never a
//! wrong image.

use crate::support::Test;

#[test]
fn what_would_delete_files_when_unpacked_is_refused() {
    let test = Test::of("FROM busybox\nCOPY marks /etc\n-- marks/.wh.passwd\n\n");
    let refused = |instruction: &str, name: &str| {
        test.file("Dockerfile", format!("FROM busybox\n{instruction}\n"));
        test.refused(&[], &[&format!("cannot put \"{name}\" into a layer")]);
    };
    refused("COPY marks /etc", "etc/.wh.passwd");
    refused("RUN touch /.wh..wh..opq", ".wh..wh..opq");
    test.shell(
        "tar -cf marks.tar marks; mknod marks/0 c 0 0; tar -cf zero.tar marks/0; rm marks/0",
    );
    refused("ADD marks.tar /", "marks/.wh.passwd");
    refused("ADD zero.tar /", "marks/0");
    test.shell("echo > a; ln a b; tar -cf link.tar a b; tar --delete -f link.tar a");
    refused("ADD link.tar /x/", "x/b");
}

#[test]
fn building_again_without_the_cache_repairs_damaged_layers() {
    let test = Test::of("FROM busybox\nCOPY f /f\nRUN cat /f > /out\n-- f\nhello\n");
    let image = test.build(&[]);
    let copied = image.layers()[1].trim_start_matches("sha256:").to_owned();
    let layer = test.outside("store/layers").join(&copied);
    for damage in
        ["truncate -s 700", "printf x | dd conv=notrunc seek=520 bs=1 status=none of=", "rm"]
    {
        let space = if damage.ends_with('=') { "" } else { " " };
        test.shell(&format!(
            "{damage}{space}{0}/layer.tar; rm -r {0}/tree || true",
            layer.display()
        ));
        let outcome = test.rbuild(&["build", "-o", "type=tar,dest=../tar", "."]);
        assert!(outcome.code == Some(0) || outcome.stderr.contains(&copied), "{outcome}");
        assert_eq!(test.build(&["--no-cache"]).read("out"), "hello\n");
        test.rbuild(&["build", "-o", "type=oci,dest=../oci", "."]).succeeded();
    }
}

#[test]
fn an_output_that_is_a_device_or_a_link_stays_one() {
    let test = Test::of("FROM scratch\nCOPY Dockerfile /\n");
    test.shell("mknod ../null c 1 3; echo old > ../file; ln -s file ../link");
    for place in ["null", "link"] {
        let output = format!("type=tar,dest=../{place}");
        test.rbuild(&["build", "-o", &output, "."]).succeeded();
    }
    let kinds = test.shell("stat -c %F ../null ../link; tar -tf ../file");
    assert_eq!(kinds, "character special file\nsymbolic link\nDockerfile\n");
}

#[test]
fn a_context_that_is_removed_while_it_is_needed_ends_the_build() {
    let test = Test::of("FROM busybox\nCOPY . /all\n-- f\n\n");
    test.shell("mkdir ../gone; cp * ../gone; printf 'FROM busybox\\nRUN sleep 1\\nCOPY . /all\\n' > ../gone/Dockerfile");
    test.shell(
        "(sleep 0.5; rm -r ../gone) & ! $RBUILD build ../gone 2> ../log; wait; grep removed ../log",
    );
}

#[test]
fn a_link_in_the_place_of_a_directory_of_the_kernels_is_refused() {
    for (name, target) in [("proc", "/"), ("proc", "/tmp"), ("sys", "/"), ("dev", "/")] {
        let text = format!(
            "FROM busybox AS base\nFROM scratch\nCOPY --from=busybox /bin /bin\nCOPY links/{name} /\nRUN : > /../sys/kernel/nothing\n"
        );
        let test = Test::of(&text);
        test.shell(&format!("mkdir -p links/{name}; ln -s {target} links/{name}/{name}"));
        let expected =
            format!("/{name} is a link to \"{target}\" in the image; it must be a directory");
        test.refused(&[], &[&expected]);
    }
}
