//! The limit on open files: raised for this program, which holds one for each layer it mounts, and
//! what it was before for the containers, whose programs may close as many as they may open.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::container::spec;

/// As many as are of use: there are programs that close every number below their limit.
const ENOUGH: u64 = 1 << 16;

/// The limit that this program was started with, if it has been raised.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process as far as the hard one lets it.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(ENOUGH);
    let raised = Rlimit { current: Some(most), ..limit };
    if limit.current.is_some_and(|current| current < most)
        && setrlimit(Resource::Nofile, raised).is_ok()
    {
        let _ = ORIGINAL.set(limit);
    }
}

/// The soft and the hard limit that this program was started with, if they have been changed.
pub(crate) fn original() -> Option<(Option<u64>, Option<u64>)> {
    ORIGINAL.get().map(|limit| (limit.current, limit.maximum))
}

/// Says what the limit was before a program that started this one changed it.
pub(crate) fn set_original(limit: Option<(Option<u64>, Option<u64>)>) {
    if let Some((current, maximum)) = limit {
        let _ = ORIGINAL.set(Rlimit { current, maximum });
    }
}

/// A container's limits: those that are asked for, and that on open files as it was.
pub fn limits_of_container(asked: &[spec::Rlimit]) -> Vec<spec::Rlimit> {
    with_original(asked, ORIGINAL.get())
}

fn with_original(asked: &[spec::Rlimit], original: Option<&Rlimit>) -> Vec<spec::Rlimit> {
    let mut limits = asked.to_vec();
    if let Some(original) = original
        && !asked.iter().any(|limit| limit.name == "nofile")
    {
        let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        let (soft, hard) = (number(original.current), number(original.maximum));
        limits.push(spec::Rlimit { name: "nofile".to_owned(), soft, hard });
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_the_limit_that_is_asked_for_or_the_one_that_was() {
        let limit = |name: &str, soft| spec::Rlimit { name: name.to_owned(), soft, hard: u64::MAX };
        let original = Rlimit { current: Some(64), maximum: None };
        for (asked, original, expected) in [
            (vec![], None, vec![]),
            (vec![], Some(&original), vec![limit("nofile", 64)]),
            (vec![limit("nofile", 7)], Some(&original), vec![limit("nofile", 7)]),
            (vec![limit("core", 0)], Some(&original), vec![limit("core", 0), limit("nofile", 64)]),
        ] {
            assert_eq!(with_original(&asked, original), expected);
        }
    }
}
