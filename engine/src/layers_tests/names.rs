//! Names that are hard to spell: any bytes but `/` and zero, up to 255 of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::on_both;

/// As many bytes as a name has.
const LONGEST: usize = 255;

fn odd_names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        "new\nline",
        "\n",
        "back\\slash",
        "\\",
        "\\n",
        "tab\t",
        " ",
        " space ",
        "-rf",
        "--",
        "...",
        "a:b",
        "a,b",
        "a=b",
        "quo\"te",
        "quo'te",
        "$HOME",
        "*",
        "[a]",
        "#",
        "%s",
        "\u{7f}",
        "\u{1}",
        "\u{1b}[31m",
        "\u{e9}",
        "e\u{301}",
        "\u{1f980}",
        ".wh",
        "wh.",
        ".a.wh.b",
        ".w",
        "ends.",
    ]
    .iter()
    .map(OsString::from)
    .collect();
    names.extend(
        [&b"\xff"[..], b"\xc3", b"lat\xe9in", b"\x80\x81", b"\xed\xa0\x80"]
            .map(|bytes| OsString::from_vec(bytes.to_vec())),
    );
    names.push(OsString::from_vec((1..=255).filter(|byte| *byte != b'/').collect()));
    names.push(OsString::from_vec(vec![0xff; LONGEST]));
    names.extend(
        [99, 100, 101, 154, 155, 156, 254, LONGEST].map(|length| "n".repeat(length).into()),
    );
    names
}

#[test]
fn odd_names_are_written_deleted_and_come_back() {
    on_both(|chain| {
        let names = odd_names();
        chain.change(|tree| {
            ["files", "dirs", "links", "kept"].into_iter().for_each(|path| tree.dir(path, 0o755));
            for name in &names {
                tree.file(Path::new("files").join(name), name.as_bytes(), 0o644);
                tree.file(Path::new("kept").join(name), "", 0o644);
                tree.dir(Path::new("dirs").join(name), 0o755);
                tree.file(Path::new("dirs").join(name).join(name), "", 0o644);
                tree.symlink(Path::new("links").join(name), name);
            }
        });
        chain.change(|tree| {
            for name in &names {
                tree.remove(Path::new("files").join(name));
                tree.remove(Path::new("links").join(name));
                tree.remove(Path::new("dirs").join(name));
            }
        });
        chain.change(|tree| {
            for name in &names {
                tree.file(Path::new("files").join(name), "again", 0o600);
                tree.dir(Path::new("dirs").join(name), 0o700);
                tree.link(Path::new("kept").join(name), Path::new("links").join(name));
            }
        });
        chain.change(|tree| {
            for name in &names {
                tree.remove(Path::new("dirs").join(name));
                tree.dir(Path::new("dirs").join(name), 0o755);
                tree.file(Path::new("dirs").join(name).join("new"), "", 0o600);
            }
        });
    });
}

#[test]
fn paths_are_as_long_as_the_kernel_takes_them() {
    let long = OsStr::from_bytes(&[b'p'; 249]);
    let path: PathBuf = std::iter::repeat_n(long, 16).collect();
    assert_eq!(path.as_os_str().len(), 3999);
    on_both(|chain| {
        chain.change(|tree| {
            for depth in 1..16 {
                tree.dir(path.iter().take(depth).collect::<PathBuf>(), 0o755);
            }
            tree.file(&path, "deep", 0o644);
            tree.link(&path, "short");
        });
        chain.change(|tree| tree.chmod(path.parent().expect("a directory"), 0o700));
        chain.change(|tree| {
            tree.remove(&path);
            tree.symlink(&path, &path);
        });
        chain.change(|tree| tree.remove(path.iter().take(15).collect::<PathBuf>()));
    });
}

#[test]
fn directories_lie_hundreds_of_levels_deep() {
    on_both(|chain| {
        let path = |depth| PathBuf::from("d/".repeat(depth));
        chain.change(|tree| {
            (1..200).for_each(|depth| tree.dir(path(depth), 0o755));
            tree.file(path(199).join("file"), "deepest", 0o644);
        });
        chain.change(|tree| tree.remove(path(199).join("file")));
        chain.change(|tree| tree.remove(path(100)));
    });
}
