//! `.dockerignore`: which files of the context exist for a build.

use crate::support::Test;

/// The files that `COPY . /all` finds in a context of fixed files under these patterns.
fn kept(test: &Test, patterns: &str) -> String {
    test.file(".dockerignore", patterns);
    let tree = test.build(&[]).tree_of("all");
    let names = tree.lines().filter_map(|line| line.split_once(" all/")).map(|(_, name)| name);
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_last_pattern_that_matches_decides() {
    let test = Test::of(
        "
        FROM scratch
        COPY . /all
        -- a.txt
        -- b.md
        -- dir/a.txt
        -- dir/deep/a.txt
        -- dir/deep/b.md
        ",
    );
    for (patterns, expected) in [
        ("*", ""),
        ("*\n!b.md\n", "b.md"),
        ("*\n!dir/deep/b.md", "dir dir/deep dir/deep/b.md"),
        (
            "*.txt\nDockerfile\n.docker*\n",
            "b.md dir dir/a.txt dir/deep dir/deep/a.txt dir/deep/b.md",
        ),
        ("**/*.txt\nDockerfile\n.docker*\n", "b.md dir dir/deep dir/deep/b.md"),
        ("dir/\nDockerfile\n.docker*\n", "a.txt b.md"),
        ("/dir\n./Dockerfile\nx/../.docker*\n", "a.txt b.md"),
        ("dir/*\nDockerfile\n.docker*\n", "a.txt b.md dir"),
        ("*\n!dir\ndir/deep\n", "dir dir/a.txt"),
        ("*\n!**/b.md\n", "b.md dir dir/deep dir/deep/b.md"),
        ("# b.md\n\n   \n*\n  !a.txt  \n", "a.txt"),
        ("*\n!a.txt\n!b.md\na.txt\n", "b.md"),
        ("*\n!?.md\n", "b.md"),
        ("*\n![ab].txt\n", "a.txt"),
        ("\u{feff}*\r\n!b.md\r\n", "b.md"),
    ] {
        assert_eq!(kept(&test, patterns), expected, "{patterns:?}");
    }
}

#[test]
fn a_bad_pattern_is_an_error() {
    let test = Test::of("FROM scratch\nCOPY . /\n");
    for (pattern, text) in
        [("[a", "syntax error in pattern"), ("!", "illegal exclusion pattern: \"!\"")]
    {
        test.file(".dockerignore", pattern);
        test.refused(&[], &[text]);
    }
}

#[test]
fn an_ignored_file_cannot_be_copied_even_by_name_and_the_dockerfile_is_read_all_the_same() {
    let test = Test::of(
        "
        FROM scratch
        COPY kept /
        -- .dockerignore
        secret
        Dockerfile
        .dockerignore
        -- secret
        -- kept
        ",
    );
    assert_eq!(test.build(&[]).tree(), "-rw-r--r-- 0/0 kept\n");
    for name in ["secret", "Dockerfile", ".dockerignore"] {
        test.file("Other", format!("FROM scratch\nCOPY {name} /\n"));
        test.refused(&["-f", "Other"], &[&format!("\"/{name}\": not found")]);
    }
}

#[test]
fn the_ignore_file_beside_the_dockerfile_wins() {
    let test = Test::of(
        "
        -- web.Dockerfile
        FROM scratch
        COPY . /
        -- web.Dockerfile.dockerignore
        *
        !a
        -- .dockerignore
        a
        -- a
        -- b
        ",
    );
    assert_eq!(test.build(&["-f", "web.Dockerfile"]).tree(), "-rw-r--r-- 0/0 a\n");
}

#[test]
fn a_named_context_has_an_ignore_file_of_its_own() {
    let test = Test::of(
        "
        FROM scratch
        COPY --from=other . /
        -- .dockerignore
        a
        -- other/a
        -- other/b
        -- other/.dockerignore
        b
        .dockerignore
        ",
    );
    let other = format!("other={}", test.context().join("other").display());
    assert_eq!(test.build(&["--build-context", &other]).tree(), "-rw-r--r-- 0/0 a\n");
}

#[test]
fn files_that_only_root_can_read_are_read_by_root() {
    let test = Test::of(
        "
        FROM scratch
        COPY . /
        -- .dockerignore 0
        Dockerfile
        .dockerignore
        -- secret 0
        text
        ",
    );
    let image = test.build(&[]);
    assert_eq!(
        (image.tree().as_str(), image.read("secret").as_str()),
        ("---------- 0/0 secret\n", "text\n")
    );
}
