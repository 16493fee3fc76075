//! `build --push`, `--output type=image` and `type=registry`: a built image gets its names here, and
//! is sent to where these are.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use cache::Store;
use cache::compressor::Format;
use cache::digest::Digest;
use cache::platforms::Meaning;
use engine::reference::Reference;
use engine::registry::{Push, Pushed, Rules, Settings, Words};
use frontend::flags::parse_bool;

use crate::transfers::{Show, Transfers, Way};
use crate::{registries, tags, ui};

/// What an output of type `image` says beyond its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Send it.
    pub(crate) push: bool,
    /// In the registry only its digest names it.
    by_digest: bool,
    /// Name it here by its digest too.
    is_canonical: bool,
    /// What it is called, with its digest, if nothing else names it.
    dangling: Option<String>,
    /// It is not on the list of this machine's images.
    is_unlisted: bool,
    /// Plain http, and certificates nobody vouches for, will do.
    is_insecure: bool,
    packing: Packing,
    words: Words,
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Those that are sent; none for docker's usual.
    pub(crate) format: Option<Format>,
    /// Also those that others have made.
    pub(crate) is_forced: bool,
}

/// Fields as `NAME=VALUE`, by their names.
pub(crate) type Fields = BTreeMap<String, String>;

/// Reads a field that is true or false.
pub(crate) fn flag(fields: &Fields, name: &str) -> anyhow::Result<Option<bool>> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let read = parse_bool(value);
    read.map(Some).with_context(|| format!("{name}={value}: expected true or false"))
}

impl Packing {
    /// Reads `compression`, `compression-level` and `force-compression`.
    pub(crate) fn parse(fields: &Fields) -> anyhow::Result<Self> {
        let level: Option<u32> = match fields.get("compression-level") {
            Some(text) => Some(text.parse().with_context(|| {
                format!("compression-level={text}: expected 0 to 9 for gzip, 1 to 22 for zstd")
            })?),
            None => None,
        };
        let kind = fields.get("compression").map(String::as_str);
        let format = match (kind, level) {
            (None, None) => None,
            (None | Some("gzip"), level) => Some(level.map_or(Format::GZIP, Format::Gzip)),
            (Some("zstd"), None) => Some(Format::ZSTD),
            (Some("zstd"), Some(level)) => Some(Format::Zstd(level.min(22) as i32)),
            (Some("uncompressed"), _) => Some(Format::Uncompressed),
            (Some(other), _) => {
                bail!(
                    "unsupported layer compression type {other:?}: use gzip, zstd or uncompressed"
                )
            }
        };
        let is_forced = flag(fields, "force-compression")?.unwrap_or(false);
        // To force without saying what means what is made if nothing is said.
        Ok(Self { format: format.or(is_forced.then_some(Format::GZIP)), is_forced })
    }
}

impl Options {
    /// Reads the fields of an output; `pushed` says that its type sends it anyway.
    pub(crate) fn parse(fields: &Fields, pushed: bool) -> anyhow::Result<Self> {
        let is = |name: &str| flag(fields, name).map(Option::unwrap_or_default);
        let words = match flag(fields, "oci-mediatypes")? {
            None => Words::Any,
            Some(true) => Words::Oci,
            Some(false) => Words::Docker,
        };
        Ok(Self {
            push: flag(fields, "push")?.unwrap_or(pushed),
            by_digest: is("push-by-digest")?,
            is_canonical: is("name-canonical")?,
            dangling: fields.get("dangling-name-prefix").cloned(),
            is_unlisted: flag(fields, "store")? == Some(false),
            is_insecure: is("registry.insecure")?,
            packing: Packing::parse(fields)?,
            words,
        })
    }

    /// Names in full, as far as they need be: one that is pushed by its digest has no tag.
    pub(crate) fn names(&self, given: &[String]) -> anyhow::Result<Vec<String>> {
        if self.push && given.is_empty() {
            bail!("tag is needed when pushing to registry");
        }
        let name = |name: &String| {
            let reference =
                Reference::parse(name).with_context(|| format!("invalid tag {name:?}"))?;
            if reference.digest.is_some() {
                bail!("invalid tag {name:?}: a name with a digest cannot be given to an image");
            }
            match reference.tag {
                Some(_) if self.by_digest => bail!("can't push tagged ref {reference} by digest"),
                None if self.by_digest => Ok(reference.to_string()),
                _ => Ok(reference.or_latest().to_string()),
            }
        };
        given.iter().map(name).collect()
    }
}

/// Names an image, and sends it if that is asked for; returns what it is in the registry.
/// `found` are the layers that others have made.
pub(crate) fn publish(
    store: &Store,
    meaning: &Meaning,
    names: &[String],
    options: &Options,
    found: &[Digest],
    show: Show,
) -> anyhow::Result<Option<Pushed>> {
    if !options.is_unlisted {
        list(store, meaning, names, options)?;
    }
    if !options.push {
        return Ok(None);
    }
    let settings = settings(names, options.is_insecure)?;
    let push = Push {
        format: options.packing.format,
        as_found: if options.packing.is_forced { &[] } else { found },
        words: options.words,
        ..Push::new(store, &settings)
    };
    let mut last = None;
    for name in names {
        let reference = Reference::parse(name)?;
        let transfers = Transfers::new(Way::Push, show);
        let listener = |event: engine::registry::progress::Event<'_>| transfers.event(event);
        let pushed = match options.is_unlisted {
            true => Pushed::of(&push.publish(meaning, &reference, &listener)?.root),
            false => push.push(meaning, &reference, &listener)?,
        };
        if show != Show::Nothing {
            ui::note(format_args!("pushing manifest for {name}@{} done", pushed.digest));
        }
        tags::tell(store, "push", &meaning.image, &reference.familiar());
        last = Some(pushed);
    }
    Ok(last)
}

/// Has the image on the list of this machine's.
fn list(
    store: &Store,
    meaning: &Meaning,
    names: &[String],
    options: &Options,
) -> anyhow::Result<()> {
    // By digest alone it is named when that is known.
    let named = if options.by_digest { &[][..] } else { names };
    let dangling = options.dangling.as_ref().filter(|_| names.is_empty());
    let canonical = names.iter().filter(|_| options.is_canonical && !options.push);
    let by_digest = dangling.into_iter().chain(canonical).map(|name| {
        let reference = Reference::parse(name).with_context(|| format!("invalid name {name:?}"))?;
        Ok(format!("{}@{}", reference.name(), meaning.digest()))
    });
    let by_digest = by_digest.collect::<anyhow::Result<Vec<_>>>()?;
    store.tag_meaning(meaning, &[named, &by_digest].concat())?;
    for name in named.iter().filter_map(|name| Reference::parse(name).ok()) {
        tags::tell(store, "tag", &meaning.image, &name.familiar());
    }
    Ok(())
}

/// What is known of registries, and that those of these names may be spoken to in plain text.
pub(crate) fn settings(names: &[String], is_insecure: bool) -> anyhow::Result<Settings> {
    let mut settings = registries::settings()?;
    if is_insecure {
        mark_insecure(&mut settings.rules, names)?;
    }
    Ok(settings)
}

/// Notes that the registries of these names may be spoken to in plain text.
fn mark_insecure(rules: &mut Rules, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        let host = Reference::parse(name)?.domain;
        rules.registries.entry(host).or_default().insecure = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use engine::registry::Rule;

    use super::*;

    fn fields(text: &str) -> Fields {
        let pairs = text.split(',').filter_map(|field| field.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn compression_is_what_is_said() {
        let check = |text: &str, expected: Result<Option<Format>, &str>| {
            let found = Packing::parse(&fields(text)).map(|packing| packing.format);
            assert_eq!(
                found.map_err(|error| format!("{error:#}")),
                expected.map_err(str::to_owned)
            );
        };
        check("", Ok(None));
        check("compression=gzip", Ok(Some(Format::GZIP)));
        check("compression=gzip,compression-level=9", Ok(Some(Format::Gzip(9))));
        check("compression-level=1", Ok(Some(Format::Gzip(1))));
        check("compression=zstd,compression-level=30", Ok(Some(Format::Zstd(22))));
        check("compression=uncompressed", Ok(Some(Format::Uncompressed)));
        check("force-compression=true", Ok(Some(Format::GZIP)));
        check(
            "compression=estargz",
            Err("unsupported layer compression type \"estargz\": use gzip, zstd or uncompressed"),
        );
        check("force-compression=x", Err("force-compression=x: expected true or false"));
    }

    #[test]
    fn a_registry_is_made_insecure_and_keeps_its_other_rules() {
        let mut rules = Rules::default();
        let mirrors = vec!["mirror.lan".to_owned()];
        rules.registries.insert("a.lan".to_owned(), Rule { mirrors, ..Rule::default() });
        mark_insecure(&mut rules, &["a.lan/x:1".to_owned(), "b.lan:5000/y".to_owned()])
            .expect("names");
        let shown = |(host, rule): (&String, &Rule)| {
            format!("{host} {} {}", rule.insecure, rule.mirrors.join(","))
        };
        let shown: Vec<_> = rules.registries.iter().map(shown).collect();
        assert_eq!(shown, ["a.lan true mirror.lan", "b.lan:5000 true "]);
    }

    #[test]
    fn what_is_pushed_has_a_name_and_by_its_digest_no_tag() {
        let check = |text: &str, given: &[&str], expected: Result<&[&str], &str>| {
            let options = Options::parse(&fields(text), false).expect(text);
            let given: Vec<String> = given.iter().map(ToString::to_string).collect();
            let found = options.names(&given).map_err(|error| format!("{error:#}"));
            let expected = expected.map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        };
        check("push=false", &[], Ok(&[]));
        check("push=true", &[], Err("tag is needed when pushing to registry"));
        check("push=true", &["a"], Ok(&["docker.io/library/a:latest"]));
        check("push=true,push-by-digest=true", &["r.io/a"], Ok(&["r.io/a"]));
        check(
            "push=true,push-by-digest=true",
            &["r.io/a:1"],
            Err("can't push tagged ref r.io/a:1 by digest"),
        );
    }
}
