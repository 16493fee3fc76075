//! Chains of layers in one index.

use super::*;

fn check_chain(layers: &[&[&str]]) -> Vec<Seen> {
    let tars: Vec<Vec<u8>> = layers.iter().map(|layer| tar_of(&items(layer))).collect();
    let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    check(&tars, Form::Apply).expect("applicable")
}

#[test]
fn deletions_are_carried_out() {
    let lower: &[&str] = &["d/", "d/a=1", "d/s/", "d/s/x=3", "f=4"];
    for upper in [
        &["d/", "d/.wh..wh..opq=", "d/new=5"][..],
        &["d/", "d/new=5", "d/.wh..wh..opq="],
        &["d/new=5", "d/", "d/.wh..wh..opq="],
        &["d/", "d/s/", "d/s/y=6", "d/.wh..wh..opq="],
        &["d/", "d/s/y=6", "d/.wh..wh..opq="],
        &[".wh.d=", "d/", "d/new=5"],
        &["d/", ".wh.d=", "d/new=5"],
        &["d/new=5", ".wh.d="],
        &["new=5", ".wh..wh..opq="],
        &["f/", "f/x=1", ".wh.f="],
        &["l -> d", "l/.wh.a="],
        &["l -> d", "l/.wh..wh..opq="],
        &["l -> missing", "l/.wh.a=", "missing/.wh..wh..opq=", "f/.wh.x=", "f/.wh..wh..opq="],
        &["h => f", ".wh.f="],
        &["d/", "d/h => d/a", "d/.wh..wh..opq="],
    ] {
        let once = check_chain(&[lower, upper]);
        // What is applied twice is applied, unless it takes what it deleted.
        if !upper.iter().any(|line| line.contains("=>")) {
            let paths =
                |seen: &[Seen]| seen.iter().map(|seen| seen.entry.path.clone()).collect::<Vec<_>>();
            assert_eq!(paths(&check_chain(&[lower, upper, upper])), paths(&once), "{upper:?}");
        }
        check_chain(&[lower, upper, lower]);
        check_all(&[], upper);
    }
}

#[test]
fn a_link_in_a_directory_s_place_leaves_the_time_of_what_it_leads_to() {
    let mut lower = items(&["l/"]);
    lower[0].0.mtime = Timestamp { seconds: 77, nanoseconds: 0 };
    let lower = tar_of(&lower);
    let others = [items(&["m/a/"]), items(&["m/a/", "m -> ./l"])].map(|layer| tar_of(&layer));
    let seen = check(&[&lower, &others[0], &others[1]], Form::Apply).expect("applicable");
    assert_eq!((seen[0].entry.path.as_slice(), seen[0].entry.mtime.seconds), (&b"l"[..], 77));
}

#[test]
fn a_link_to_a_file_of_a_layer_below_is_one() {
    let (lower, upper) = (tar_of(&items(&["f=content"])), tar_of(&items(&["g => f"])));
    let alone = index_of(&[&upper], Form::Overlay).expect_err("a link to nothing");
    assert!(matches!(alone, Error::Layer(layer::Error::MissingLinkTarget { .. })), "{alone}");
    let seen = check(&[&lower, &upper], Form::Apply).expect("applicable");
    assert_eq!((seen[1].same_as.as_deref(), seen[1].links), (Some(b"f".as_slice()), 2));
    assert_eq!(seen[1].content.0, b"content");
}

#[test]
fn a_directory_loses_the_attributes_it_had_below() {
    let mut layer = items(&["d/"]);
    layer[0].0.xattrs.insert(b"user.old".to_vec(), b"1".to_vec());
    let (with, without) = (tar_of(&layer), tar_of(&items(&["d/"])));
    let seen = check(&[&with, &without], Form::Apply).expect("applicable");
    assert!(seen[0].entry.xattrs.is_empty());
    let seen = check(&[&without, &with], Form::Apply).expect("applicable");
    assert_eq!(seen[0].entry.xattrs.len(), 1);
}

#[test]
fn the_content_of_many_layers_is_that_of_their_tars() {
    let tars: Vec<Vec<u8>> = (0..300)
        .map(|number| {
            let lines = [
                format!("d/{}={number}", number % 100),
                format!("last={}", "x".repeat(number)),
                format!("e/{number}/x=y"),
                format!("e/.wh.{}=", number - number % 7),
            ];
            tar_of(&items(&lines.each_ref().map(String::as_str)))
        })
        .collect();
    let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    let seen = check(&tars, Form::Apply).expect("applicable");
    let last = seen.iter().find(|seen| seen.entry.path == b"last").expect("shown");
    assert_eq!(last.entry.size(), 299);
}

#[test]
fn too_many_layers_are_told() {
    let mut builder = Builder::merged();
    let refused = (0..20_000).find_map(|_| builder.next_layer(0).err()).expect("refused");
    assert_eq!(refused.to_string(), "cannot index \"\": there are too many layers");
}
