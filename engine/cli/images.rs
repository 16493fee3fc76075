//! `images`: the list of images; and the filters that lists and prunes of images share.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use cache::image::Image;
use clap::Args;
use engine::reference::Reference;
use serde_json::{Value, json};

use crate::format::{self, Listing};
use crate::list_flags::ListFlags;
use crate::{resolve, ui};

/// What `images` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ImagesArgs {
    /// Show all images (there are no hidden ones)
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: ListFlags,
    /// Print whole image ids
    #[arg(long)]
    no_trunc: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Only images that fit: dangling=, label=, before=, since=, reference=, until=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Only images with names that match
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// An image under all its names.
pub(crate) struct Named {
    pub(crate) image: Image,
    /// Those with tags, sorted.
    pub(crate) names: Vec<Reference>,
    /// Those that it has in registries: with digests, sorted.
    pub(crate) digests: Vec<Reference>,
    /// Seconds since 1970.
    pub(crate) created: Option<i64>,
}

impl Named {
    /// Pairs an image with its names.
    pub(crate) fn new(image: Image, mut names: Vec<Reference>) -> Self {
        names.sort();
        let created = image.config.created.as_deref().and_then(format::seconds);
        let (digests, names) = names.into_iter().partition(|name| name.digest.is_some());
        Self { image, names, digests, created }
    }

    /// What a repository calls the image: by the digest that it has in the registry, or else by the
    /// one that it has here.
    pub(crate) fn digest_in(&self, repository: &str) -> String {
        let known = self.digests.iter().find(|name| name.familiar_name() == repository);
        let known = known.and_then(|name| name.digest.clone());
        known.unwrap_or_else(|| self.image.digest.to_string())
    }

    /// Its names as people write them.
    pub(crate) fn familiar(&self) -> Vec<String> {
        self.names.iter().map(Reference::familiar).collect()
    }
}

/// All images, the newest first.
pub(crate) fn all(store: &Store) -> anyhow::Result<Vec<Named>> {
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for listed in store.list_images()? {
        let names = names.entry(listed.digest).or_default();
        names.extend(listed.name.and_then(|name| Reference::parse(&name).ok()));
    }
    let mut all = Vec::new();
    for (digest, names) in names {
        match store.peek_image(&digest) {
            Ok(image) => all.push(Named::new(image, names)),
            // One damaged image should not hide the others.
            Err(error) => ui::note(format_args!("WARNING: image {digest} cannot be read: {error}")),
        }
    }
    all.sort_by_key(|named| (std::cmp::Reverse(named.created), named.names.first().cloned()));
    Ok(all)
}

/// Lists images.
pub(crate) fn images(root: &Path, args: &ImagesArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let mut filters = Filters::parse(&store, &args.filter)?;
    filters.references.extend(args.repository.clone());
    let mut rows = Vec::new();
    for named in filters.choose(all(&store)?)? {
        rows.extend(table_rows(&named, args));
    }
    let listing = if args.digests { &WITH_DIGESTS } else { &IMAGES };
    ui::raw(listing.text(args.flags.format("{{.ID}}"), &rows)?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

const HEADINGS: &[(&str, &str)] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const ROW: &str = "*formatter.imageContext";

const IMAGES: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    headings: HEADINGS,
    type_name: ROW,
};

const WITH_DIGESTS: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    headings: HEADINGS,
    type_name: ROW,
};

/// One row for each name, or one for an image without any.
fn table_rows(named: &Named, args: &ImagesArgs) -> Vec<Value> {
    let asks_digest = args.digests || args.flags.asks_for(".Digest");
    let of_name = |name: &Reference| {
        let (repository, tag) = (name.familiar_name(), name.tag.as_deref().unwrap_or("<none>"));
        let digest = if asks_digest { named.digest_in(&repository) } else { "<none>".to_owned() };
        row(named, &repository, tag, &digest, args.no_trunc)
    };
    let repository_of = |name: &&Reference| {
        let repository = name.name();
        !named.names.iter().any(|other| other.name() == repository)
    };
    let mut rows: Vec<Value> = named.names.iter().map(of_name).collect();
    let untagged = named.digests.iter().filter(repository_of);
    rows.extend(untagged.map(of_name));
    if rows.is_empty() {
        rows.push(row(named, "<none>", "<none>", "<none>", args.no_trunc));
    }
    rows
}

/// A row in the fields of docker's images.
pub(crate) fn row(
    named: &Named,
    repository: &str,
    tag: &str,
    digest: &str,
    whole_id: bool,
) -> Value {
    let id = named.image.id();
    let size = format::size(named.image.size());
    json!({
        "Containers": "N/A",
        "CreatedAt": named.created.map(format::go_time).unwrap_or_default(),
        "CreatedSince": named.created.map_or_else(|| "N/A".to_owned(), format::since),
        "Digest": digest,
        "ID": if whole_id { id.to_string() } else { id.short() },
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": size,
        "Tag": tag,
        "UniqueSize": "N/A",
    })
}

/// Which images are meant.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    dangling: Option<bool>,
    labels: Vec<String>,
    without_labels: Vec<String>,
    before: Option<i64>,
    since: Option<i64>,
    pub(crate) references: Vec<String>,
}

impl Filters {
    /// Reads `--filter`s; images that they name must be there.
    pub(crate) fn parse(store: &Store, given: &[String]) -> anyhow::Result<Self> {
        let mut filters = Self::default();
        for text in given {
            let Some((name, value)) = text.split_once('=') else {
                bail!("invalid filter '{text}': write NAME=VALUE");
            };
            // `label!=x` is the filter `label!`.
            match name.trim().to_lowercase().as_str() {
                "dangling" => filters.dangling = Some(truth(value)?),
                "label" => filters.labels.push(value.to_owned()),
                "label!" => filters.without_labels.push(value.to_owned()),
                "before" => filters.not_after(created(store, value)?),
                "until" => filters.not_after(Some(until(value, format::now())?)),
                "since" => filters.since = created(store, value)?.max(filters.since),
                "reference" => filters.references.push(value.to_owned()),
                _ => bail!("invalid filter '{name}'"),
            }
        }
        Ok(filters)
    }

    fn not_after(&mut self, time: Option<i64>) {
        self.before = self.before.into_iter().chain(time).min();
    }

    /// Keeps the images that fit; where names must match, an image keeps only those that do.
    pub(crate) fn choose(&self, images: Vec<Named>) -> anyhow::Result<Vec<Named>> {
        let mut chosen = Vec::new();
        for mut named in images {
            if !self.fits(&named) {
                continue;
            }
            if !self.references.is_empty() {
                named.names = self.matching(&named.names)?;
                named.digests = self.matching(&named.digests)?;
                if named.names.is_empty() && named.digests.is_empty() {
                    continue;
                }
            }
            chosen.push(named);
        }
        Ok(chosen)
    }

    fn fits(&self, named: &Named) -> bool {
        let created = named.created.unwrap_or_default();
        let labels = &named.image.config.config.labels;
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.dangling.is_none_or(|dangling| dangling == named.names.is_empty())
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }

    fn matching(&self, names: &[Reference]) -> anyhow::Result<Vec<Reference>> {
        let mut matching = Vec::new();
        for name in names {
            if self.names(name)? {
                matching.push(name.clone());
            }
        }
        Ok(matching)
    }

    fn names(&self, name: &Reference) -> anyhow::Result<bool> {
        for pattern in &self.references {
            let matches = name.familiar_matches(pattern);
            if matches.with_context(|| format!("invalid reference pattern '{pattern}'"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn truth(text: &str) -> anyhow::Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => bail!("invalid filter 'dangling={text}'"),
    }
}

fn created(store: &Store, name: &str) -> anyhow::Result<Option<i64>> {
    let image = resolve::image(store, name)?;
    Ok(image.config.created.as_deref().and_then(format::seconds))
}

/// Reads a time as docker's `until` has it: how long ago (`10m`, `1h30m`), seconds since 1970, a
/// date, or RFC 3339 with its zone or in UTC.
pub(crate) fn until(text: &str, now: i64) -> anyhow::Result<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok(seconds as i64);
    }
    if let Ok(nanoseconds) = engine::duration::parse(text) {
        return Ok(now - nanoseconds / 1_000_000_000);
    }
    let completed = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        13 => format!("{text}:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    format::seconds(text).or_else(|| format::seconds(&completed)).with_context(|| {
        format!("invalid time '{text}': write 24h, 2024-05-06 or 2024-05-06T07:08:09Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_as_docker_does() {
        for (text, expected) in [
            ("24h", 1_000_000 - 86_400),
            ("1h30m", 1_000_000 - 5_400),
            ("500", 500),
            ("1970-01-02", 86_400),
            ("1970-01-01T01", 3_600),
            ("1970-01-01T00:01", 60),
            ("1970-01-01T00:00:07", 7),
            ("1970-01-01T01:00:00+01:00", 0),
        ] {
            assert_eq!(until(text, 1_000_000).expect(text), expected, "{text}");
        }
        assert!(until("soon", 0).is_err());
    }

    fn named(names: &[&str], created: i64, labels: &[(&str, &str)]) -> Named {
        let mut config = cache::oci::ImageConfig::default();
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config.config.labels = labels.collect();
        let digest = Digest::of("manifest");
        let descriptor = cache::oci::Descriptor::new("", digest, 0);
        let manifest = cache::oci::Manifest::new(descriptor, Vec::new());
        let names = names.iter().map(|name| Reference::parse(name).expect(name)).collect();
        Named { created: Some(created), ..Named::new(Image { digest, manifest, config }, names) }
    }

    #[test]
    fn filters_choose_images_and_names() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        for (filters, expected) in [
            (&[][..], "app:1 app:2 other:1 none"),
            (&["dangling=true"], "none"),
            (&["dangling=false"], "app:1 app:2 other:1"),
            (&["label=a"], "app:1 app:2 other:1"),
            (&["label=a=1"], "app:1 app:2"),
            (&["label=a", "label!=a=1"], "other:1"),
            (&["until=1970-01-01T00:00:15"], "other:1"),
            (&["reference=app"], "app:1 app:2"),
            (&["reference=*:1"], "app:1 other:1"),
            (&["reference=app:2", "reference=other"], "app:2 other:1"),
        ] {
            let images = vec![
                named(&["app:1", "app:2"], 20, &[("a", "1")]),
                named(&["other:1"], 10, &[("a", "2")]),
                named(&[], 30, &[]),
            ];
            let given: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
            let chosen =
                Filters::parse(&store, &given).expect("filters").choose(images).expect("choose");
            let mut shown = Vec::new();
            for named in chosen {
                let names = named.familiar();
                shown.extend(if names.is_empty() { vec!["none".to_owned()] } else { names });
            }
            assert_eq!(shown.join(" "), expected, "{filters:?}");
        }
        for bad in ["dangling", "dangling=maybe", "color=red", "before=missing", "until=soon"] {
            assert!(Filters::parse(&store, &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
