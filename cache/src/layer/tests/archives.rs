//! Archives of other programs, and other programs with ours.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::compress::{self, Compression};

use super::*;

fn run(program: &str, arguments: &[&str], directory: &Path, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    let mut stdin = child.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{program} {arguments:?}: {}", output.status);
        output.stdout
    })
}

/// Makes a tree with names, links and holes that strain every format.
fn tree(root: &Path, long: usize) {
    let long = format!("d/{}", "n".repeat(long));
    let layer =
        ["d/", "d/a=1", "d/b -> a", "d/c => d/a", &format!("{long}=long"), &format!("e -> {long}")];
    unpack_into(&tar_of(&items(&layer)), root, unpack::Form::Apply).expect("unpackable");
    let sparse = File::create(root.join("sparse")).expect("made");
    // More parts than a header and one block after it have room for.
    for part in 0..40 {
        sparse.set_len(part * 65536 + 4096).expect("grown");
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[b'x'; 100], part * 65536)
            .expect("written");
    }
    sparse.set_len(3 << 20).expect("grown");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    sparse.set_modified(time).expect("set");
}

#[test]
fn every_format_of_gnu_tar_is_read() {
    for (long, options) in [
        (90, &["--format=v7"][..]),
        (95, &["--format=ustar"]),
        (200, &["--format=oldgnu"]),
        (200, &["--format=gnu"]),
        (200, &["--format=gnu", "--sparse"]),
        (200, &["--format=oldgnu", "--sparse"]),
        (200, &["--format=posix"]),
        (200, &["--format=posix", "--sparse", "--sparse-version=0.0"]),
        (200, &["--format=posix", "--sparse", "--sparse-version=0.1"]),
        (200, &["--format=posix", "--sparse", "--sparse-version=1.0"]),
        (200, &["--format=posix", "--pax-option=globexthdr.name=g,comment=hello"]),
    ] {
        let temp = tempfile::tempdir().expect("a directory");
        tree(temp.path(), long);
        let arguments = [options, &["--sort=name", "-cf", "-", "d", "e", "sparse"]].concat();
        let tar = run("tar", &arguments, temp.path(), b"");
        let read = read(&tar).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert_eq!(read, list(temp.path()), "{options:?}");
        assert!(compress::is_tar(&tar) && compress::is_archive(tar.as_slice()));
    }
}

#[test]
fn global_records_hold_until_overridden() {
    let tar = tar_of(&items(&["a=1", "b=2", "c=3"]));
    let header = |text: &str, typeflag: u8| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().linkflag = [typeflag];
        header.set_size(text.len() as u64);
        header.set_cksum();
        let mut block = header.as_bytes().to_vec();
        block.extend_from_slice(text.as_bytes());
        block.resize(1024, 0);
        block
    };
    let file = |index: usize| &tar[index * 1024..][..1024];
    let (global, local, cleared) =
        (header("9 uid=12\n", b'g'), header("9 uid=34\n", b'x'), header("7 uid=\n", b'x'));
    let tar = [&global, file(0), &local, file(1), &cleared, file(2), file(0), &[0; 1024]].concat();
    let uids: Vec<_> =
        read(&tar).expect("readable").into_iter().map(|(entry, _)| entry.uid).collect();
    assert_eq!(uids, [12, 34, 0, 12]);
}

#[test]
fn the_end_is_where_the_zeros_are_or_the_bytes_end() {
    let tar = tar_of(&items(&["a=1"]));
    for end in [&[][..], &[0; 512], &[0; 1024], &[0; 10240], &[[0; 512], [b'x'; 512]].concat()] {
        let archive = [&tar[..1024], end].concat();
        assert_eq!(show(&read(&archive).expect("readable")), ["a=1"]);
        let mut entries = reader::entries(archive.as_slice());
        while entries.next_entry().expect("readable").is_some() {}
        assert!(entries.finish().expect("readable").is_empty());
    }
    assert!(read(b"").expect("empty").is_empty());
    assert!(
        !reader::is_archive(&b""[..])
            && !reader::is_archive(&[0; 1024][..])
            && !reader::is_archive(&[b'x'; 1024][..])
    );
}

/// Entries that other programs must understand as we do.
fn layer() -> Vec<Item> {
    let mut layer = items(&["d/", "d/f=content", "d/l -> f", "d/h => d/f", "d/\u{e4}\u{20ac}=1"]);
    layer[0].0.mode = 0o1777;
    layer[1].0.mtime = Timestamp { seconds: -2, nanoseconds: 750_000_000 };
    layer[1].0.uid = 3_000_000;
    layer[1].0.xattrs.insert(b"user.note".to_vec(), b"a\n=\0b".to_vec());
    layer.push((Entry { path: b"d/bytes\xff\n".to_vec(), ..item("x=4").0 }, b"4".to_vec()));
    layer
        .push((Entry { path: b"d/null".to_vec(), kind: Kind::Char(1, 3), ..item("x=").0 }, vec![]));
    layer.push((Entry { path: b"d/fifo".to_vec(), kind: Kind::Fifo, ..item("x=").0 }, vec![]));
    layer.push(item(&format!("{}/{}=2", "p".repeat(120), "n".repeat(150))));
    layer.push(item(&format!("{}/{}=3", "q".repeat(80), "m".repeat(90))));
    layer
}

#[test]
fn gnu_tar_makes_the_same_tree_of_a_layer() {
    let temp = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (temp.path().join("ours"), temp.path().join("theirs"));
    let tar = tar_of(&layer());
    let stats = unpack_into(&tar, &ours, unpack::Form::Apply).expect("unpackable");
    fs::create_dir(&theirs).expect("made");
    let arguments = [
        "-xpf",
        "-",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--same-owner",
        // It doubts that a file is older than the epoch.
        "--warning=no-timestamp",
    ];
    run("tar", &arguments, &theirs, &tar);
    let mut expected = list(&ours);
    let mut found = list(&theirs);
    // The two know of directories without entries, but not their times.
    for tree in [&mut expected, &mut found] {
        tree.iter_mut()
            .filter(|(entry, _)| stats.implied.contains(&entry.path))
            .for_each(|(entry, _)| entry.mtime = Timestamp::default());
    }
    assert_eq!(found, expected);
    let listing = String::from_utf8(run("tar", &["-tvf", "-"], temp.path(), &tar)).expect("text");
    assert!(listing.starts_with("drwxrwxrwt 0/0 "), "{listing}");
}

#[test]
fn pythons_tarfile_reads_a_layer() {
    let script = "
import sys, tarfile
for member in tarfile.open(fileobj=sys.stdin.buffer, mode='r|'):
    data = tarfile.TarFile.extractfile(None, member) if False else None
    name = member.name.encode('utf-8', 'surrogateescape').hex()
    print(name, member.type.decode(), oct(member.mode), member.uid, member.size, member.linkname, member.mtime)
";
    let expected: Vec<_> = layer()
        .iter()
        .map(|(entry, _)| {
            let name: String = entry.path.iter().map(|byte| format!("{byte:02x}")).collect();
            let (typeflag, link) = match &entry.kind {
                Kind::File { .. } => ("0", ""),
                Kind::Directory => ("5", ""),
                Kind::Symlink(_) => ("2", "f"),
                Kind::Hardlink(_) => ("1", "d/f"),
                Kind::Char(..) => ("3", ""),
                _ => ("6", ""),
            };
            let mtime = if entry.mtime.nanoseconds == 0 {
                entry.mtime.seconds.to_string()
            } else {
                "-1.25".to_owned()
            };
            format!(
                "{name} {typeflag} 0o{:o} {} {} {link} {mtime}",
                entry.mode,
                entry.uid,
                entry.size()
            )
        })
        .collect();
    let output = run("python3", &["-c", script], Path::new("/"), &tar_of(&layer()));
    let output = String::from_utf8(output).expect("text");
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn every_compression_is_undone() {
    let tar = tar_of(&items(&["a=1"]));
    let root = Path::new("/");
    for (program, compression) in [
        ("gzip", Compression::Gzip),
        ("bzip2", Compression::Bzip2),
        ("xz", Compression::Xz),
        ("zstd", Compression::Zstd),
        ("cat", Compression::None),
    ] {
        let whole = match program {
            "zstd" => zstd::encode_all(tar.as_slice(), 1).expect("compressed"),
            _ => run(program, &[], root, &tar),
        };
        let mut members = whole.clone();
        members.extend_from_slice(&whole);
        for (bytes, expected) in [(&whole, tar.clone()), (&members, [&tar[..], &tar].concat())] {
            let (mut plain, found) = compress::decompress(bytes.as_slice()).expect("known");
            let mut read = Vec::new();
            plain.read_to_end(&mut read).expect(program);
            assert_eq!((found, read), (compression, expected), "{program}");
        }
        assert!(compress::is_archive(whole.as_slice()), "{program}");
        if compression != Compression::None {
            let mut plain = compress::decompress(&whole[..whole.len() - 9]).expect("known").0;
            plain.read_to_end(&mut Vec::new()).expect_err("truncated");
        }
    }
    assert!(!compress::is_archive(&run("gzip", &[], root, b"just text")[..]));
    assert!(
        !compress::is_archive(&b""[..]) && !compress::is_tar(b"") && !compress::is_tar(&[0; 512])
    );
}
