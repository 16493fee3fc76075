//! `--output`, `--iidfile`, `--metadata-file`: where a build's result goes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cache::Store;
use cache::image::Image;
use cache::layer::Timestamp;
use engine::archive::{self, Form, Named};
use engine::export;
use engine::place::NewFile;
use engine::reference::Reference;

use crate::{tags, ui};

/// One place for the result.
#[derive(Debug)]
pub(crate) struct Output {
    kind: Kind,
    dest: Option<Dest>,
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    Oci,
    OciDirectory,
    Docker,
    Tar,
    Local,
}

#[derive(Debug)]
enum Dest {
    Stdout,
    Path(PathBuf),
}

/// Reads `--output`s; without any, the image goes into the store.
pub(crate) fn parse(given: &[String], tags: &[String]) -> anyhow::Result<Vec<Output>> {
    let tags = normal_names(tags)?;
    if given.is_empty() {
        return Ok(vec![Output { kind: Kind::Image, dest: None, names: tags }]);
    }
    given
        .iter()
        .map(|text| parse_one(text, &tags).with_context(|| format!("--output {text}")))
        .collect()
}

fn parse_one(text: &str, tags: &[String]) -> anyhow::Result<Output> {
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    if text == "-" {
        fields.extend([("type", "tar"), ("dest", "-")]);
    } else if !text.contains('=') {
        fields.extend([("type", "local"), ("dest", text)]);
    } else {
        for field in text.split(',') {
            let (name, value) = field.split_once('=').unwrap_or((field, "true"));
            fields.insert(name, value);
        }
    }
    let is = |name: &str, value: &str| fields.get(name) == Some(&value);
    let kind = match fields.get("type").copied() {
        Some("image") => Kind::Image,
        Some("oci") if is("tar", "false") => Kind::OciDirectory,
        Some("oci") => Kind::Oci,
        Some("docker") => Kind::Docker,
        Some("tar") => Kind::Tar,
        Some("local") => Kind::Local,
        Some("registry") => bail!("pushing to a registry is not part of a build here"),
        Some("cacheonly") => {
            return Ok(Output { kind: Kind::Image, dest: None, names: Vec::new() });
        }
        Some(other) => bail!("unknown type {other:?}: use image, oci, docker, tar or local"),
        None => bail!("type is missing"),
    };
    let dest = match fields.get("dest").copied() {
        Some("-") => Some(Dest::Stdout),
        Some(path) => Some(Dest::Path(path.into())),
        None => None,
    };
    let dest = match (kind, dest) {
        (Kind::Image, _) => None,
        (Kind::Local | Kind::OciDirectory, Some(Dest::Stdout)) => {
            bail!("a directory cannot go to standard output")
        }
        (Kind::Local | Kind::OciDirectory, None) => bail!("dest is missing"),
        // Docker's own form without a place is an image in the store.
        (Kind::Docker, None) => {
            return Ok(Output { kind: Kind::Image, dest: None, names: tags.to_vec() });
        }
        (_, None) => Some(Dest::Stdout),
        (_, dest) => dest,
    };
    if matches!(dest, Some(Dest::Stdout)) && ui::stdout_is_terminal() {
        bail!("the result would go to the terminal: name a file with dest=FILE");
    }
    let names = match fields.get("name") {
        Some(name) => normal_names(&[(*name).to_owned()])?,
        None => tags.to_vec(),
    };
    Ok(Output { kind, dest, names })
}

/// Names in full: `docker.io/library/app:latest`.
fn normal_names(names: &[String]) -> anyhow::Result<Vec<String>> {
    let normal = |name: &String| {
        let reference = Reference::parse(name).with_context(|| format!("invalid tag {name:?}"))?;
        if reference.digest.is_some() {
            bail!("invalid tag {name:?}: a name with a digest cannot be given to an image");
        }
        Ok(reference.or_latest().to_string())
    };
    names.iter().map(normal).collect()
}

/// Writes the result to all its places.
pub(crate) fn write(
    store: &Store,
    image: &Image,
    outputs: &[Output],
    epoch: Option<i64>,
) -> anyhow::Result<()> {
    let clamp = epoch.map(Timestamp::from_seconds);
    let layers = &image.config.rootfs.diff_ids;
    for output in outputs {
        let names = &output.names;
        match output.kind {
            Kind::Image => {
                store.tag(&image.digest, names)?;
                for name in names.iter().filter_map(|name| Reference::parse(name).ok()) {
                    tags::tell(store, "tag", image, &name.familiar());
                }
            }
            Kind::Local => export::write_files(store, layers, clamp, path(output))?,
            Kind::OciDirectory => export::write_layout(store, image, names, path(output))?,
            Kind::Tar => to_file(output, |out| export::write_tar(store, layers, clamp, out))?,
            Kind::Oci | Kind::Docker => {
                let form = if output.kind == Kind::Oci { Form::Oci } else { Form::Docker };
                let named = [Named { image, names }];
                to_file(output, |out| Ok(archive::write(store, &named, form, out)?))?
            }
        }
    }
    Ok(())
}

fn path(output: &Output) -> &Path {
    match &output.dest {
        Some(Dest::Path(path)) => path,
        _ => unreachable!("a directory's place was checked when it was read"),
    }
}

/// Writes an archive to its place.
fn to_file(
    output: &Output,
    write: impl FnOnce(&mut dyn Write) -> Result<(), export::Error>,
) -> anyhow::Result<()> {
    let Some(Dest::Path(path)) = &output.dest else {
        return Ok(write(&mut std::io::stdout().lock())?);
    };
    let mut file = NewFile::create(path)?;
    write(&mut file)?;
    Ok(file.commit()?)
}

/// What is known of the result, as docker's `--metadata-file` has it.
pub(crate) fn metadata(store: &Store, image: &Image, tags: &[String]) -> anyhow::Result<Vec<u8>> {
    let size = store.read_blob(&image.digest)?.len();
    let mut known = serde_json::json!({
        "containerimage.config.digest": image.id(),
        "containerimage.descriptor": {
            "mediaType": cache::oci::MANIFEST,
            "digest": image.digest,
            "size": size,
        },
        "containerimage.digest": image.digest,
    });
    if !tags.is_empty() {
        known["image.name"] = normal_names(tags)?.join(",").into();
    }
    Ok(serde_json::to_vec_pretty(&known)?)
}

/// Says what was built.
pub(crate) fn tell(image: &Image, tags: &[String]) {
    ui::note(format_args!("built {}", image.id()));
    for tag in normal_names(tags).unwrap_or_default() {
        ui::note(format_args!("named {tag}"));
    }
}
