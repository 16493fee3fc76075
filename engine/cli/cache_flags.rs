//! `--cache-from` and `--cache-to`: results of steps that come from elsewhere, or go there.
//!
//! Of docker's places for them there are three here: a registry, a directory, and the image itself.
//! The others belong to services of one vendor each: a build does without them, and says so.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cache::Store;
use cache::oci::Platform;
use engine::cache_transfer::{Imports, Mode, ToDirectory, ToRegistry, Which};
use engine::reference::Reference;
use engine::registry::{Pushed, Settings};
use engine::solve::Solution;
use frontend::flags::{comma_fields, parse_bool};

use crate::publish::{self, Packing};
use crate::transfers::{Show, Transfers, Way};
use crate::ui;

/// What `--cache-from` and `--cache-to` ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheFlags {
    from: Vec<From>,
    to: Vec<To>,
    /// Registries, as names in them, that may be spoken to in plain text.
    insecure: Vec<String>,
    /// What is asked for and not done.
    ignored: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum From {
    Directory(PathBuf, Which),
    Registry(Reference),
}

#[derive(Debug, PartialEq, Eq)]
struct To {
    place: Place,
    ignore_error: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Directory(ToDirectory),
    Registry(ToRegistry),
    Inline,
}

/// The fields of one value, docker's way: `type=local,src=DIR`.
struct Fields {
    kind: String,
    fields: Vec<(String, String)>,
}

impl Fields {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let given = comma_fields(text)?;
        if let [reference] = given.as_slice()
            && !reference.contains('=')
        {
            let fields = vec![("ref".to_owned(), reference.clone())];
            return Ok(Self { kind: "registry".to_owned(), fields });
        }
        let mut fields = Vec::new();
        for field in given {
            let Some((name, value)) = field.split_once('=') else { bail!("invalid value {field}") };
            fields.push((name.trim().to_lowercase(), value.to_owned()));
        }
        let mut fields = Self { kind: String::new(), fields };
        fields.kind = fields.take("type").context("type is missing")?;
        Ok(fields)
    }

    /// Takes out a field; the last one counts.
    fn take(&mut self, name: &str) -> Option<String> {
        let value = self.fields.iter().rev().find(|(field, _)| field == name)?.1.clone();
        self.fields.retain(|(field, _)| field != name);
        Some(value)
    }

    fn take_bool(&mut self, name: &str) -> anyhow::Result<bool> {
        let Some(value) = self.take(name) else { return Ok(false) };
        parse_bool(&value).with_context(|| format!("{name}={value}: expected true or false"))
    }

    /// Takes out a field that must be there.
    fn take_given(&mut self, name: &str) -> anyhow::Result<String> {
        let value = self.take(name).filter(|value| !value.is_empty());
        value.with_context(|| format!("{name} is missing"))
    }

    /// Takes out the name in a registry.
    fn take_reference(&mut self) -> anyhow::Result<Reference> {
        let text = self.take_given("ref")?;
        Reference::parse(&text).with_context(|| format!("ref={text}"))
    }

    fn take_mode(&mut self) -> anyhow::Result<Mode> {
        match self.take("mode").as_deref() {
            None | Some("min") => Ok(Mode::Min),
            Some("max") => Ok(Mode::Max),
            Some(other) => bail!("unknown mode {other:?}: use min or max"),
        }
    }

    /// Takes out what says how layers are compressed.
    fn take_packing(&mut self) -> anyhow::Result<Packing> {
        let names = ["compression", "compression-level", "force-compression"];
        let fields = names.into_iter().filter_map(|name| Some((name.to_owned(), self.take(name)?)));
        Packing::parse(&fields.collect())
    }
}

impl CacheFlags {
    /// Reads the values of both flags, and of the build argument that says `type=inline` too.
    pub(crate) fn parse(
        from: &[String],
        to: &[String],
        build_args: &[String],
    ) -> anyhow::Result<Self> {
        let mut flags = Self::default();
        for text in from {
            flags.add_from(text).with_context(|| format!("--cache-from {text}"))?;
        }
        for text in to {
            flags.add_to(text).with_context(|| format!("--cache-to {text}"))?;
        }
        let inline = build_args.iter().rev().find_map(|arg| {
            let value = arg.strip_prefix("BUILDKIT_INLINE_CACHE")?;
            value.strip_prefix('=')
        });
        if inline.and_then(parse_bool) == Some(true) {
            flags.to.push(To { place: Place::Inline, ignore_error: false });
        }
        Ok(flags)
    }

    fn add_from(&mut self, text: &str) -> anyhow::Result<()> {
        let mut fields = Fields::parse(text)?;
        let from = match fields.kind.as_str() {
            "local" => {
                let dir = fields.take_given("src")?.into();
                let which = match (fields.take("digest"), fields.take("tag")) {
                    (Some(digest), _) => Which::Manifest(digest.parse()?),
                    (None, Some(tag)) => Which::Tag(tag),
                    (None, None) => Which::All,
                };
                From::Directory(dir, which)
            }
            "registry" => {
                let reference = fields.take_reference()?.for_pull();
                self.note_insecure(&mut fields, &reference)?;
                From::Registry(reference)
            }
            "inline" => bail!("an inline cache is read as type=registry,ref=IMAGE"),
            other => {
                self.ignored.push(format!("--cache-from: {}", unknown(other)));
                return Ok(());
            }
        };
        self.note_rest(&fields, "--cache-from");
        self.from.push(from);
        Ok(())
    }

    fn add_to(&mut self, text: &str) -> anyhow::Result<()> {
        let mut fields = Fields::parse(text)?;
        let ignore_error = fields.take_bool("ignore-error")?;
        let place = match fields.kind.as_str() {
            "local" => {
                // Layers are kept as they are.
                fields.take_packing()?;
                Place::Directory(ToDirectory {
                    mode: fields.take_mode()?,
                    dir: fields.take_given("dest")?.into(),
                    tag: fields.take("tag"),
                    reset: fields.take_bool("reset")?,
                })
            }
            "registry" => {
                let reference = fields.take_reference()?;
                if reference.digest.is_some() {
                    bail!("ref={reference}: a name with a digest cannot be given to a cache");
                }
                self.note_insecure(&mut fields, &reference)?;
                let format = fields.take_packing()?.format;
                let (reference, mode) = (reference.or_latest(), fields.take_mode()?);
                Place::Registry(ToRegistry { reference, mode, format })
            }
            "inline" => match fields.take_mode()? {
                Mode::Min => Place::Inline,
                Mode::Max => {
                    bail!(
                        "mode=max: an inline cache has the image's own steps only; use a registry"
                    )
                }
            },
            other @ ("gha" | "s3" | "azblob") => {
                self.ignored.push(format!("--cache-to: {}", unknown(other)));
                return Ok(());
            }
            other => return Err(unknown(other)),
        };
        if fields.take("oci-mediatypes").as_deref().and_then(parse_bool) == Some(false) {
            self.ignored.push("--cache-to: oci-mediatypes=false has no effect".to_owned());
        }
        if fields.take("image-manifest").as_deref().and_then(parse_bool) == Some(false) {
            self.ignored.push("--cache-to: image-manifest=false has no effect".to_owned());
        }
        self.note_rest(&fields, "--cache-to");
        self.to.push(To { place, ignore_error });
        Ok(())
    }

    fn note_insecure(&mut self, fields: &mut Fields, name: &Reference) -> anyhow::Result<()> {
        if fields.take_bool("registry.insecure")? {
            self.insecure.push(name.to_string());
        }
        Ok(())
    }

    fn note_rest(&mut self, fields: &Fields, flag: &str) {
        let rest = fields.fields.iter();
        self.ignored.extend(rest.map(|(name, _)| format!("{flag}: {name:?} has no effect")));
    }

    /// Whether the image is to carry its own cache.
    pub(crate) fn is_inline(&self) -> bool {
        self.to.iter().any(|to| to.place == Place::Inline)
    }

    /// What is known of registries, if one is needed.
    pub(crate) fn registries(&self) -> anyhow::Result<Settings> {
        let from = self.from.iter().any(|from| matches!(from, From::Registry(_)));
        if from || self.to.iter().any(|to| matches!(to.place, Place::Registry(_))) {
            publish::settings(&self.insecure, true)
        } else {
            Ok(Settings::default())
        }
    }

    /// Reads what there is to import. What cannot be read costs only its results.
    pub(crate) fn imports<'a>(
        &self,
        store: &Store,
        registries: &'a Settings,
        platforms: &[Platform],
        show: Show,
    ) -> Imports<'a> {
        for ignored in &self.ignored {
            warn(ignored);
        }
        let mut imports = Imports::default();
        for from in &self.from {
            let added = match from {
                From::Directory(dir, which) => imports.add_directory(dir, which),
                From::Registry(reference) => {
                    if show != Show::Nothing {
                        ui::note(format_args!("importing cache manifest from {reference}"));
                    }
                    // The images of a list each carry their own.
                    platforms.iter().try_for_each(|platform| {
                        imports.add_registry(store, reference, registries, platform)
                    })
                }
            };
            if let Err(error) = added {
                warn(format_args!("{:#}", anyhow::Error::from(error)));
            }
        }
        imports
    }

    /// Tells of what was to be imported and could not be.
    pub(crate) fn tell_problems(imports: &Imports<'_>) {
        for problem in imports.take_problems() {
            warn(format_args!("{:#}", anyhow::Error::from(problem)));
        }
    }

    /// Exports the results of a build; returns what they are in a registry.
    pub(crate) fn export(
        &self,
        store: &Store,
        registries: &Settings,
        solution: &Solution,
        show: Show,
    ) -> anyhow::Result<Option<Pushed>> {
        let mut last = None;
        for To { place, ignore_error } in &self.to {
            let written = match place {
                Place::Directory(export) => export.write(store, solution).map(|()| None),
                Place::Registry(export) => {
                    if show != Show::Nothing {
                        ui::note(format_args!("exporting cache to {}", export.reference));
                    }
                    let transfers = Transfers::new(Way::Push, show);
                    let listener =
                        |event: engine::registry::progress::Event<'_>| transfers.event(event);
                    export.write(store, registries, solution, &listener).map(Some)
                }
                // It is in the image.
                Place::Inline => Ok(None),
            };
            match written {
                Err(error) if *ignore_error => {
                    warn(format_args!("{:#}", anyhow::Error::from(error)));
                }
                written => {
                    let Some(pushed) = written? else { continue };
                    if show != Show::Nothing {
                        ui::note(format_args!(
                            "writing cache image manifest {} done",
                            pushed.digest
                        ));
                    }
                    last = Some(pushed);
                }
            }
        }
        Ok(last)
    }
}

/// Says what there is instead of a place that is not known here.
fn unknown(kind: &str) -> anyhow::Error {
    match kind {
        "gha" | "s3" | "azblob" => anyhow::anyhow!(
            "a cache of type {kind} is not supported: use type=registry,ref=NAME, or type=local \
             with a directory that something else carries, such as the cache action of a CI"
        ),
        other => anyhow::anyhow!("unknown type {other:?}: use registry, local or inline"),
    }
}

fn warn(text: impl std::fmt::Display) {
    ui::note(format_args!("WARNING: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flag: &str, value: &str, expected: &str) {
        let values = [value.to_owned()];
        let flags = match flag {
            "from" => CacheFlags::parse(&values, &[], &[]),
            _ => CacheFlags::parse(&[], &values, &[]),
        };
        let found = match flags {
            Ok(CacheFlags { from, to, insecure, ignored }) => {
                let from = from.iter().map(|from| match from {
                    From::Directory(dir, which) => format!("{}{which}", dir.display()),
                    From::Registry(reference) => reference.to_string(),
                });
                let to = to.iter().map(shown);
                let insecure = insecure.iter().map(|name| format!("insecure {name}"));
                from.chain(to).chain(insecure).chain(ignored).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("error: {:#}", error.source().expect("has a cause")),
        };
        assert_eq!(found, expected, "{flag} {value}");
    }

    fn shown(to: &To) -> String {
        let (place, mode, more) = match &to.place {
            Place::Directory(ToDirectory { dir, mode, tag, reset }) => {
                (dir.display().to_string(), *mode, format!("tag={tag:?} reset={reset}"))
            }
            Place::Registry(ToRegistry { reference, mode, format }) => {
                (reference.to_string(), *mode, format!("{format:?}"))
            }
            Place::Inline => ("inline".to_owned(), Mode::Min, String::new()),
        };
        let mode = format!("{mode:?}").to_lowercase();
        format!("{place} {mode} {more} ignore={}", to.ignore_error)
    }

    #[test]
    fn the_flags_are_dockers() {
        let digest = cache::digest::Digest::of("").to_string();
        for (flag, value, expected) in [
            ("from", "type=local,src=a/b", "a/b"),
            ("from", "\"type=local\",\"src=a,b\"", "a,b"),
            ("from", "Type=local, src=a,tag=t", "a with tag \"t\""),
            (
                "from",
                &format!("type=local,src=a,digest={digest}"),
                &format!("a with digest {digest}"),
            ),
            ("from", "type=local", "error: src is missing"),
            ("from", "type=local,src=", "error: src is missing"),
            ("from", "src=a", "error: type is missing"),
            ("from", "type=local,a", "error: invalid value a"),
            (
                "from",
                "type=nfs,src=a",
                "--cache-from: unknown type \"nfs\": use registry, local or inline",
            ),
            ("to", "type=local,dest=a", "a min tag=None reset=false ignore=false"),
            (
                "to",
                "type=local,dest=a,mode=max,reset=1,ignore-error=true,tag=t,compression=zstd",
                "a max tag=Some(\"t\") reset=true ignore=true",
            ),
            ("to", "type=local,dest=a,mode=all", "error: unknown mode \"all\": use min or max"),
            ("to", "type=local,dest=a,reset=maybe", "error: reset=maybe: expected true or false"),
            (
                "to",
                "type=local,dest=a,dst=b",
                "a min tag=None reset=false ignore=false; --cache-to: \"dst\" has no effect",
            ),
        ] {
            check(flag, value, expected);
        }
    }

    #[test]
    fn a_registry_is_named() {
        let name = "docker.io/user/app";
        for (flag, value, expected) in [
            ("from", "user/app:cache", "docker.io/user/app:cache"),
            ("from", "type=registry,ref=user/app", "docker.io/user/app:latest"),
            ("from", "type=registry", "error: ref is missing"),
            ("from", "type=registry,ref=A", "error: ref=A"),
            (
                "from",
                "type=registry,ref=r.lan/a,registry.insecure=true",
                "r.lan/a:latest; insecure r.lan/a:latest",
            ),
            (
                "to",
                "type=registry,ref=user/app,image-manifest=true,oci-mediatypes=true",
                &format!("{name}:latest min None ignore=false"),
            ),
            (
                "to",
                "type=registry,ref=user/app:c,mode=max,compression=zstd,ignore-error=true",
                &format!("{name}:c max Some(Zstd(3)) ignore=true"),
            ),
            (
                "to",
                "type=registry,ref=user/app,image-manifest=false",
                &format!(
                    "{name}:latest min None ignore=false; --cache-to: image-manifest=false has no effect"
                ),
            ),
            ("to", "type=inline", "inline min  ignore=false"),
        ] {
            check(flag, value, expected);
        }
    }

    #[test]
    fn a_build_does_without_places_of_one_vendor_and_says_what_works() {
        for (flag, value) in [
            ("to", "type=gha,mode=max"),
            ("to", "type=s3,region=x,bucket=y,name=z"),
            ("from", "type=azblob,name=z"),
        ] {
            let values = [value.to_owned()];
            let flags = match flag {
                "from" => CacheFlags::parse(&values, &[], &[]),
                _ => CacheFlags::parse(&[], &values, &[]),
            };
            let ignored = flags.expect(value).ignored;
            let expected = "not supported: use type=registry,ref=NAME";
            assert!(ignored.len() == 1 && ignored[0].contains(expected), "{ignored:?}");
        }
    }

    #[test]
    fn the_build_argument_asks_for_an_inline_cache() {
        for (arg, expected) in [("=1", true), ("=true", true), ("=0", false), ("", false)] {
            let args = [format!("BUILDKIT_INLINE_CACHE{arg}")];
            let flags = CacheFlags::parse(&[], &[], &args).expect(arg);
            assert_eq!(flags.is_inline(), expected, "{arg}");
        }
    }
}
