//! `--output`, `--iidfile`, `--metadata-file`: where a build's result goes.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use cache::image::{Image, Said};
use cache::layer::Timestamp;
use cache::platforms::{Meaning, Several};
use engine::archive::{self, Form, Named};
use engine::export::{self, Files};
use engine::place::NewFile;
use engine::platform;
use engine::registry::Pushed;
use frontend::flags::comma_fields;

use crate::annotations::{self, Annotation};
use crate::publish::{self, Fields, Options};
use crate::transfers::Show;
use crate::ui;

/// One place for the result.
#[derive(Debug)]
pub(crate) struct Output {
    kind: Kind,
    dest: Option<Dest>,
    names: Vec<String>,
    options: Options,
    annotations: Vec<Annotation>,
    /// Whether each platform has a directory of its own, if that is said.
    split: Option<bool>,
}

/// `--push` and `--load`: outputs that need not be written out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shorthand {
    /// Send the image to the registries of its names.
    pub(crate) push: bool,
    /// Have it in the store, whatever else becomes of it.
    pub(crate) load: bool,
}

/// What is known of a result once it is where it should be.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// What the image is in a registry.
    pub(crate) pushed: Option<Pushed>,
    /// Its names in full.
    pub(crate) names: Vec<String>,
    /// What the cache is in a registry.
    pub(crate) cache: Option<Pushed>,
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
pub(crate) fn parse(
    given: &[String],
    tags: &[String],
    shorthand: Shorthand,
) -> anyhow::Result<Vec<Output>> {
    let one = |text: &String| parse_one(text, tags).with_context(|| format!("--output {text}"));
    let mut outputs = given.iter().map(one).collect::<anyhow::Result<Vec<_>>>()?;
    let is_image = |output: &Output| output.kind == Kind::Image;
    if outputs.is_empty() || shorthand.load && !outputs.iter().any(is_image) {
        outputs.push(parse_one("type=image", tags)?);
    }
    if shorthand.push {
        if !outputs.iter().any(is_image) {
            outputs.push(parse_one("type=image", tags)?);
        }
        for output in outputs.iter_mut().filter(|output| is_image(output)) {
            output.options.push = true;
            output.names = output.options.names(&output.names)?;
        }
    }
    Ok(outputs)
}

/// The fields of one output; names of annotations keep their case.
fn fields_of(text: &str) -> anyhow::Result<(Fields, Vec<Annotation>)> {
    let (mut fields, mut annotations) = (Fields::new(), Vec::new());
    let given = match text {
        "-" => vec!["type=tar".to_owned(), "dest=-".to_owned()],
        path if !path.contains('=') => vec!["type=local".to_owned(), format!("dest={path}")],
        _ => comma_fields(text)?,
    };
    for field in given {
        let Some((name, value)) = field.split_once('=') else { bail!("invalid value {field}") };
        match Annotation::parse_field(name.trim(), value)? {
            Some(annotation) => annotations.push(annotation),
            None => drop(fields.insert(name.trim().to_lowercase(), value.to_owned())),
        }
    }
    Ok((fields, annotations))
}

fn parse_one(text: &str, tags: &[String]) -> anyhow::Result<Output> {
    let (fields, annotations) = fields_of(text)?;
    let field = |name: &str| fields.get(name).map(String::as_str);
    let kind = match field("type") {
        Some("image" | "registry") => Kind::Image,
        Some("oci") if publish::flag(&fields, "tar")? == Some(false) => Kind::OciDirectory,
        Some("oci") => Kind::Oci,
        Some("docker") => Kind::Docker,
        Some("tar") => Kind::Tar,
        Some("local") => Kind::Local,
        Some("cacheonly") => return parse_one("type=image", &[]),
        Some(other) => {
            bail!("unknown type {other:?}: use image, registry, oci, docker, tar or local")
        }
        None => bail!("type is missing"),
    };
    let dest = match field("dest") {
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
        (Kind::Docker, None) => return parse_one("type=image", tags),
        (_, None) => Some(Dest::Stdout),
        (_, dest) => dest,
    };
    if matches!(dest, Some(Dest::Stdout)) && ui::stdout_is_terminal() {
        bail!("the result would go to the terminal: name a file with dest=FILE");
    }
    let names: Vec<String> = match field("name") {
        // As docker has it, tags count more.
        Some(names) if tags.is_empty() => names.split(',').map(str::to_owned).collect(),
        _ => tags.to_vec(),
    };
    let options = Options::parse(&fields, field("type") == Some("registry"))?;
    let names = options.names(&names)?;
    let split = publish::flag(&fields, "platform-split")?;
    Ok(Output { kind, dest, names, options, annotations, split })
}

/// Refuses what cannot be done for as many platforms as are asked for.
pub(crate) fn check(outputs: &[Output], platforms: usize) -> anyhow::Result<()> {
    for output in outputs {
        if platforms == 1 {
            annotations::check_single(&output.annotations)?;
        } else if output.split == Some(false) {
            bail!(
                "platform-split=false: files for several platforms need directories of their own"
            );
        }
    }
    Ok(())
}

/// Writes the result to all its places. `found` are the layers that others have made.
pub(crate) fn write(
    store: &Store,
    meaning: &Meaning,
    outputs: &[Output],
    epoch: Option<i64>,
    found: &[Digest],
    show: Show,
) -> anyhow::Result<Made> {
    let mut made = Made::default();
    let clamp = epoch.map(Timestamp::from_seconds);
    for output in outputs {
        let names = &output.names;
        let meaning = &output.annotated(store, meaning)?;
        let dirs = output.dirs(meaning);
        let files: Vec<Files<'_>> = files(meaning, &dirs);
        match output.kind {
            Kind::Image => {
                let pushed = publish::publish(store, meaning, names, &output.options, found, show)?;
                made.pushed = pushed.or(made.pushed);
                made.names.extend_from_slice(names);
            }
            Kind::Local => export::write_files(store, &files, clamp, path(output))?,
            Kind::OciDirectory => {
                export::write_layout(store, Named { meaning, names }, path(output))?
            }
            Kind::Tar => to_file(output, |out| export::write_tar(store, &files, clamp, out))?,
            Kind::Oci | Kind::Docker => {
                let form = if output.kind == Kind::Oci { Form::Oci } else { Form::Docker };
                let named = [Named { meaning, names }];
                to_file(output, |out| Ok(archive::write(store, &named, form, out)?))?
            }
        }
    }
    Ok(made)
}

impl Output {
    /// The images with what this output says of them.
    fn annotated(&self, store: &Store, meaning: &Meaning) -> anyhow::Result<Meaning> {
        if self.annotations.is_empty() {
            return Ok(meaning.clone());
        }
        let one = |image: &Image| {
            let own = annotations::of_manifest(&self.annotations, &platform::of(&image.config));
            let mut said = Said::from(&image.manifest);
            said.annotations.extend(own);
            let (digest, _) = store.put_raw_image(&store.read_blob(&image.id())?, &said)?;
            anyhow::Ok(store.read_image(&digest)?)
        };
        let several = meaning.several.as_ref().map(|Several { index, images, .. }| {
            let images = images.iter().map(one).collect::<anyhow::Result<Vec<_>>>()?;
            let (mut like, mut entries) = (index.clone(), index.manifests.clone());
            annotations::annotate_list(&self.annotations, &mut like, &mut entries, &images);
            anyhow::Ok(store.put_index_like(like, entries, images)?)
        });
        Ok(Meaning { image: one(&meaning.image)?, several: several.transpose()? })
    }

    /// The directories of the platforms' files: with one platform it has none, if nothing is said.
    fn dirs(&self, meaning: &Meaning) -> Vec<Option<String>> {
        let splits = self.split.unwrap_or(meaning.several.is_some());
        let dir = |image: &Image| platform::shown(&platform::of(&image.config)).replace('/', "_");
        meaning.images().iter().map(|image| splits.then(|| dir(image))).collect()
    }
}

/// The files of the images, each in its directory.
fn files<'a>(meaning: &'a Meaning, dirs: &'a [Option<String>]) -> Vec<Files<'a>> {
    let of = |(image, dir): (&'a Image, &'a Option<String>)| Files {
        layers: &image.config.rootfs.diff_ids,
        dir: dir.as_deref(),
    };
    meaning.images().iter().zip(dirs).map(of).collect()
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
/// What an image that was pushed is there counts more than what it is here.
pub(crate) fn metadata(store: &Store, meaning: &Meaning, made: &Made) -> anyhow::Result<Vec<u8>> {
    let digest = meaning.digest();
    let media_type =
        if meaning.several.is_some() { cache::oci::INDEX } else { cache::oci::MANIFEST };
    let here = Pushed {
        digest,
        size: store.read_blob(&digest)?.len() as u64,
        media_type: media_type.to_owned(),
    };
    let manifest = made.pushed.as_ref().unwrap_or(&here);
    let mut known = serde_json::json!({
        "containerimage.descriptor": descriptor(manifest),
        "containerimage.digest": manifest.digest,
    });
    // Several images have no configuration in common.
    if meaning.several.is_none() {
        known["containerimage.config.digest"] = serde_json::to_value(meaning.image.id())?;
        known["containerimage.descriptor"]["platform"] =
            serde_json::to_value(platform::of(&meaning.image.config))?;
    }
    if !made.names.is_empty() {
        known["image.name"] = made.names.join(",").into();
    }
    if let Some(cache) = &made.cache {
        // Docker has a text here and no object.
        known["cache.manifest"] = descriptor(cache).to_string().into();
    }
    Ok(serde_json::to_vec_pretty(&known)?)
}

fn descriptor(document: &Pushed) -> serde_json::Value {
    serde_json::json!({
        "mediaType": document.media_type,
        "digest": document.digest,
        "size": document.size,
    })
}

/// Says what was built.
pub(crate) fn tell(meaning: &Meaning, made: &Made) {
    for image in meaning.images() {
        let platform = platform::shown(&platform::of(&image.config));
        match meaning.several {
            None => ui::note(format_args!("built {}", image.id())),
            Some(_) => ui::note(format_args!("built {} for {platform}", image.id())),
        }
    }
    for name in &made.names {
        ui::note(format_args!("named {name}"));
    }
}
