//! The bytes themselves, and what other programs say of them.

use super::*;

use std::process::Command;

use crate::digest::Digest;

fn specimen() -> Vec<Item> {
    let mut layer = items(&[
        "d/",
        "d/file=content",
        "d/link -> file",
        "d/again => d/file",
        ".wh.gone=",
        "e/.wh..wh..opq=",
        "e/other=12345",
    ]);
    layer[1].0.xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
    layer[6].0.xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
    layer[6].0.uid = 100_000;
    layer
}

#[test]
fn the_same_layer_always_has_the_same_index() {
    let tar = tar_of(&specimen());
    let (index, _) = index_of(&[&tar], Form::Overlay).expect("expressible");
    assert_eq!(index, index_of(&[&tar], Form::Overlay).expect("expressible").0);
    assert_eq!(
        (index.len(), Digest::of(&index).to_string()),
        (
            2560,
            "sha256:8a8fdef0c7c41d98dee7ae1d83f483fc7abd8a838d8043567021b3d4f9c2d663".to_owned()
        )
    );
}

#[test]
fn indexes_have_uuids_of_their_own() {
    let uuid = |layer: &[Item], tag: &[u8]| {
        let mut builder = Builder::new();
        builder.set_tag(tag);
        let tar = tar_of(layer);
        add_all(&mut builder, &tar).expect("expressible");
        let mut index = Vec::new();
        builder.finish(tar.len() as u64, &mut index).expect("writable");
        index[1072..1088].to_vec()
    };
    let (one, mut other) = (specimen(), specimen());
    other[0].0.mode = 0o700;
    assert_eq!(uuid(&one, b""), uuid(&one, b""));
    assert_ne!(uuid(&one, b""), uuid(&other, b""));
    assert_ne!(uuid(&one, b""), uuid(&one, Digest::of(b"").hex().as_bytes()));
}

#[test]
fn an_entry_costs_few_bytes() {
    let layer: Vec<Item> =
        (0..2000).map(|number| item(&format!("d/{}/{number:012}=x", number / 20))).collect();
    let (index, _) = index_of(&[&tar_of(&layer)], Form::Overlay).expect("expressible");
    assert!(index.len() / layer.len() < 120, "{}", index.len());
}

/// Runs a program of erofs-utils on an index.
fn run(program: &str, arguments: &[&str], index: &Path, tar: &Path) -> String {
    let mut command = Command::new(program);
    command.args(arguments).arg(format!("--device={}", tar.display())).arg(index);
    let output = command.output().expect(program);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {stdout}{stderr}");
    stdout
}

/// Returns the size of blocks that the installed erofs-utils read: before 1.6 they knew one.
fn block_bits() -> u32 {
    let output = Command::new("fsck.erofs").arg("-V").output().expect("fsck.erofs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let version = text.split_whitespace().find_map(|word| {
        let (major, rest) = word.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    if version.expect("a version") < (1, 6) { 12 } else { 9 }
}

#[test]
fn other_programs_accept_an_index() {
    let block_bits = block_bits();
    let temp = tempfile::tempdir().expect("a directory");
    let (tar, index) = (temp.path().join("tar"), temp.path().join("index"));
    let mut layer = specimen();
    layer.extend((0..500).map(|number| item(&format!("many/{number:040}={number}"))));
    layer.extend(
        (1..40).map(|number| item(&format!("links/{number} -> {}", "t".repeat(number * 100)))),
    );
    layer.push(item(&format!("large={}", "x".repeat(100_000))));
    layer.push((Entry::new("device", Kind::Char(1, 3), 0o600), Vec::new()));
    layer.push((Entry::new("sparse", Kind::File { size: 1 << 20 }, 0o600), Vec::new()));

    // Contents at multiples of whatever is a block.
    let (mut builder, mut device) = (Builder::new(), Vec::new());
    for (entry, content) in &layer {
        let position = device.len() as u64;
        let place = match &*entry.path {
            b"sparse" => {
                let part = super::super::Part { offset: 65_536, length: 4096, position };
                device.resize(device.len() + 4096, b's');
                Content::Parts(vec![part])
            }
            _ if content.is_empty() => Content::None,
            _ => Content::At(position),
        };
        builder.add(entry, place).expect("expressible");
        device.extend_from_slice(content);
        device.resize(device.len().next_multiple_of(1 << block_bits), 0);
    }
    fs::write(&tar, &device).expect("written");
    builder.end_layer(device.len() as u64).expect("one layer");
    let file = File::create(&index).expect("made");
    builder.write(file, block_bits).expect("writable");

    let out = temp.path().join("out");
    let extract = format!("--extract={}", out.display());
    run("fsck.erofs", &[&extract, "--preserve"], &index, &tar);
    for (entry, content) in &layer {
        let path = out.join(std::str::from_utf8(&entry.path).expect("text"));
        match &entry.kind {
            // Before 1.8 holes were not extracted; that they are read is enough.
            Kind::File { .. } if entry.path == b"sparse" => assert!(path.exists()),
            Kind::File { .. }
                if !entry
                    .path
                    .split(|byte| *byte == b'/')
                    .any(|name| name.starts_with(b".wh.")) =>
            {
                assert_eq!(&fs::read(&path).expect("extracted"), content, "{path:?}");
            }
            Kind::Symlink(target) => {
                let read = fs::read_link(&path).expect("extracted").into_os_string();
                assert_eq!(read.as_encoded_bytes(), target);
            }
            _ => {}
        }
    }
    let told = run("dump.erofs", &["-s"], &index, &tar);
    assert!(told.contains("chunked_file") && told.contains("device_table"), "{told}");
    assert!(told.contains("mtime"), "{told}");
    let told = run("dump.erofs", &["--path=/d/file", "-e"], &index, &tar);
    assert!(told.contains("Size: 7"), "{told}");
    let told = run("dump.erofs", &["--path=/many", "--ls"], &index, &tar);
    assert!(told.contains(&format!("{:040}", 499)), "{told}");
}
