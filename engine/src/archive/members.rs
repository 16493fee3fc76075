//! The members of an archive by their names: what each of them is, and where a link leads.
//!
//! Names are looked up here and nowhere else, so no name leads out of the archive.

use std::collections::HashMap;

use cache::layers::Layer;

use super::Error;

/// No archive of images has more.
const MOST: usize = 1 << 17;

/// Links that may follow one another; as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// What a name in an archive stands for.
#[derive(Debug)]
pub(super) enum Member {
    /// A file, as long as the archive is at hand.
    At { offset: u64, size: u64 },
    /// A document that was read on the way.
    Document(Vec<u8>),
    /// A layer that was brought into the store on the way.
    Layer(Layer),
    /// A file that turned out to be no layer.
    NoLayer(cache::Error),
    /// A file that is no document that could be kept, and no layer either.
    Other,
    /// Another name.
    Link { target: Vec<u8>, from: From },
}

/// Where the way that a link describes begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// At the archive's root.
    Root,
    /// Where the link is.
    Here,
}

/// All members of an archive.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<Vec<u8>, Member>);

impl Members {
    /// Adds a member; of two with one name the later one stands, as it does for tar.
    pub(super) fn add(&mut self, name: Vec<u8>, member: Member) -> Result<(), Error> {
        self.0.insert(name, member);
        if self.0.len() > MOST { Err(Error::TooManyMembers(MOST)) } else { Ok(()) }
    }

    /// Finds what a name stands for, through links; `..` at the root stays there.
    pub(super) fn find(&self, name: &str) -> Result<Option<&Member>, Error> {
        let mut path: Vec<u8> = Vec::new();
        let mut rest = parts(name.as_bytes());
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == b".." {
                path.truncate(parent(&path));
                continue;
            }
            let next = join(&path, &part);
            let Some(Member::Link { target, from }) = self.0.get(&next) else {
                path = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(Error::Links { member: name.to_owned() });
            }
            if *from == From::Root {
                path.clear();
            }
            rest.extend(parts(target));
        }
        Ok(self.0.get(&path))
    }
}

/// A path's parts, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').rev();
    parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).collect()
}

fn parent(path: &[u8]) -> usize {
    path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)
}

fn join(path: &[u8], part: &[u8]) -> Vec<u8> {
    if path.is_empty() { part.to_vec() } else { [path, b"/", part].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_archive_only() {
        let mut members = Members::default();
        let file = |byte: u8| Member::Document(vec![byte]);
        let link = |target: &str, from| Member::Link { target: target.into(), from };
        for (name, member) in [
            ("a/layer.tar", file(1)),
            ("b/layer.tar", link("../a/layer.tar", From::Here)),
            ("c/layer.tar", link("../b/layer.tar", From::Here)),
            ("hard", link("a/layer.tar", From::Root)),
            ("absolute", link("/a/layer.tar", From::Root)),
            ("d", link("a", From::Here)),
            ("out", link("../../../etc/passwd", From::Here)),
            ("etc/passwd", file(2)),
            ("loop", link("loop", From::Here)),
        ] {
            members.add(name.into(), member).expect("few");
        }
        for (name, expected) in [
            ("a/layer.tar", Some(1)),
            ("./a//layer.tar", Some(1)),
            ("b/layer.tar", Some(1)),
            ("c/layer.tar", Some(1)),
            ("hard", Some(1)),
            ("absolute", Some(1)),
            ("d/layer.tar", Some(1)),
            ("../../a/layer.tar", Some(1)),
            ("out", Some(2)),
            ("missing", None),
            ("", None),
        ] {
            let found = match members.find(name).expect(name) {
                Some(Member::Document(bytes)) => Some(bytes[0]),
                None => None,
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(found, expected, "{name}");
        }
        assert!(matches!(members.find("loop"), Err(Error::Links { .. })));
    }
}
