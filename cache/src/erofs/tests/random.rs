//! Random layers over random layers: names so few that everything meets everything.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn path() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "b", "c", "l", "m", ".-", "a/a"]);
    vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn kind() -> impl Strategy<Value = Kind> {
    let targets = vec!["a", "b", "/", "..", "/a/b", "../b", "a/c", "./l", "/m/..", "nowhere"];
    prop_oneof![
        4 => Just(Kind::Directory),
        4 => (0..2000_u64).prop_map(|size| Kind::File { size }),
        3 => select(targets).prop_map(|target| Kind::Symlink(target.into())),
        3 => path().prop_map(|target| Kind::Hardlink(target.into())),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Char(0, 0)),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    // Links in directories that anybody may write to are followed by some kernels only.
    let mode = (0..0o10000_u32).prop_map(|mode| mode & !0o1002);
    let owner = (select(vec![0, 7, 70_000_u64]), select(vec![0, 65_535_u64]));
    let mtime = (select(vec![-5, 5, 1_700_000_000]), select(vec![0, 5]))
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds });
    let xattrs = vec(
        (
            select(vec!["trusted.a", "user.b", "security.c", "user.overlay.opaque"]),
            vec(any::<u8>(), 0..40),
        ),
        0..3,
    );
    (path(), kind(), mode, owner, mtime, xattrs).prop_map(
        |(path, kind, mode, (uid, gid), mtime, xattrs)| Entry {
            uid,
            gid,
            mtime,
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            ..Entry::new(path, kind, mode)
        },
    )
}

fn line() -> impl Strategy<Value = Entry> {
    let mark = |path: String| Entry::new(path, Kind::File { size: 0 }, 0);
    prop_oneof![
        12 => entry(),
        2 => path().prop_map(move |path| match path.rsplit_once('/') {
            Some((directory, name)) => mark(format!("{directory}/.wh.{name}")),
            None => mark(format!(".wh.{path}")),
        }),
        1 => path().prop_map(move |path| mark(format!("{path}/.wh..wh..opq"))),
    ]
}

fn tar_of_entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
    let items = entries.into_iter().enumerate().map(|(at, entry)| {
        (entry.clone(), (0..entry.size()).map(|byte| (byte % 251) as u8 ^ at as u8).collect())
    });
    tar_of(&items.collect::<Vec<_>>())
}

/// Leaves out what cannot be added to what is before it.
fn addable(layers: &[Vec<Entry>], form: Form) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<&Entry>> = Vec::new();
    for layer in layers {
        kept.push(Vec::new());
        for entry in layer {
            kept.last_mut().expect("pushed").push(entry);
            let tars: Vec<Vec<u8>> =
                kept.iter().map(|layer| tar_of_entries(layer.iter().copied())).collect();
            let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
            if index_of(&tars, form).is_err() {
                kept.last_mut().expect("pushed").pop();
            }
        }
    }
    kept.into_iter().map(tar_of_entries).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mounted_layer_is_the_unpacked_layer(layer in vec(line(), 0..40)) {
        // Errors are the same, and so is all before them.
        let _ = check(&[&tar_of_entries(&layer)], Form::Overlay);
        let tars = addable(&[layer], Form::Overlay);
        prop_assert!(check(&[&tars[0]], Form::Overlay).is_ok());
    }

    #[test]
    fn a_mounted_chain_is_the_applied_chain(layers in vec(vec(line(), 0..16), 1..5)) {
        let tars: Vec<Vec<u8>> = layers.iter().map(tar_of_entries).collect();
        let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        let _ = check(&tars, Form::Apply);
        let tars = addable(&layers, Form::Apply);
        let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        prop_assert!(check(&tars, Form::Apply).is_ok());
    }
}
