//! `--cache-from` and `--cache-to`: results of steps that come from elsewhere, or go there.
//!
//! Of docker's places for them a directory is the only one there is here; a registry and its like
//! are accepted, and it is said that they have no effect.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cache::Store;
use engine::cache_transfer::{Export, Imports, Mode, Which};
use engine::solve::Solution;
use frontend::flags::{comma_fields, parse_bool};

use crate::ui;

/// What `--cache-from` and `--cache-to` ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheFlags {
    from: Vec<(PathBuf, Which)>,
    to: Vec<To>,
    /// What is asked for and not done.
    ignored: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct To {
    export: Export,
    ignore_error: bool,
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
            return Ok(Self { kind: "registry".to_owned(), fields: Vec::new() });
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

    /// Takes out the directory that a field names.
    fn take_dir(&mut self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.take(name).filter(|dir| !dir.is_empty());
        dir.map(PathBuf::from).with_context(|| format!("{name} is missing"))
    }
}

impl CacheFlags {
    /// Reads the values of both flags.
    pub(crate) fn parse(from: &[String], to: &[String]) -> anyhow::Result<Self> {
        let mut flags = Self::default();
        for text in from {
            flags.add_from(text).with_context(|| format!("--cache-from {text}"))?;
        }
        for text in to {
            flags.add_to(text).with_context(|| format!("--cache-to {text}"))?;
        }
        Ok(flags)
    }

    fn add_from(&mut self, text: &str) -> anyhow::Result<()> {
        let mut fields = Fields::parse(text)?;
        if !self.is_local(&fields.kind, "--cache-from", text)? {
            return Ok(());
        }
        let dir = fields.take_dir("src")?;
        let which = match (fields.take("digest"), fields.take("tag")) {
            (Some(digest), _) => Which::Manifest(digest.parse()?),
            (None, Some(tag)) => Which::Tag(tag),
            (None, None) => Which::All,
        };
        self.note_rest(&fields, "--cache-from");
        self.from.push((dir, which));
        Ok(())
    }

    fn add_to(&mut self, text: &str) -> anyhow::Result<()> {
        let mut fields = Fields::parse(text)?;
        if !self.is_local(&fields.kind, "--cache-to", text)? {
            return Ok(());
        }
        let mode = match fields.take("mode").as_deref() {
            None | Some("min") => Mode::Min,
            Some("max") => Mode::Max,
            Some(other) => bail!("unknown mode {other:?}: use min or max"),
        };
        let export = Export {
            dir: fields.take_dir("dest")?,
            mode,
            tag: fields.take("tag"),
            reset: fields.take_bool("reset")?,
        };
        let ignore_error = fields.take_bool("ignore-error")?;
        self.note_rest(&fields, "--cache-to");
        self.to.push(To { export, ignore_error });
        Ok(())
    }

    /// Whether a place is a directory; notes it when it is one of docker's others.
    fn is_local(&mut self, kind: &str, flag: &str, text: &str) -> anyhow::Result<bool> {
        match kind {
            "local" => return Ok(true),
            "registry" | "inline" | "gha" | "s3" | "azblob" => self.ignored.push(format!(
                "{flag} {text} has no effect: a cache of type {kind} is not supported, only local is"
            )),
            other => bail!("unknown type {other:?}: use local"),
        }
        Ok(false)
    }

    /// Layers are kept as they are, so what says how to pack them needs no answer.
    fn note_rest(&mut self, fields: &Fields, flag: &str) {
        for (name, _) in &fields.fields {
            if !matches!(
                name.as_str(),
                "compression"
                    | "compression-level"
                    | "force-compression"
                    | "image-manifest"
                    | "oci-mediatypes"
            ) {
                self.ignored.push(format!("{flag}: {name:?} has no effect"));
            }
        }
    }

    /// Reads what there is to import. What cannot be read costs only its results.
    pub(crate) fn imports(&self) -> Imports {
        for ignored in &self.ignored {
            warn(ignored);
        }
        let mut imports = Imports::default();
        for (dir, which) in &self.from {
            if let Err(error) = imports.add(dir, which) {
                warn(format_args!("{:#}", anyhow::Error::from(error)));
            }
        }
        imports
    }

    /// Tells of what was to be imported and could not be.
    pub(crate) fn tell_problems(imports: &Imports) {
        for problem in imports.take_problems() {
            warn(format_args!("{:#}", anyhow::Error::from(problem)));
        }
    }

    /// Exports the results of a build.
    pub(crate) fn export(&self, store: &Store, solution: &Solution) -> anyhow::Result<()> {
        for To { export, ignore_error } in &self.to {
            match export.write(store, solution) {
                Err(error) if *ignore_error => {
                    warn(format_args!("{:#}", anyhow::Error::from(error)));
                }
                written => written?,
            }
        }
        Ok(())
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
            "from" => CacheFlags::parse(&values, &[]),
            _ => CacheFlags::parse(&[], &values),
        };
        let found = match flags {
            Ok(CacheFlags { from, to, ignored }) => {
                let from = from.iter().map(|(dir, which)| format!("{}{which}", dir.display()));
                let to = to.iter().map(|To { export, ignore_error }| {
                    let Export { dir, mode, tag, reset } = export;
                    let (mode, dir) = (format!("{mode:?}").to_lowercase(), dir.display());
                    format!("{dir} {mode} tag={tag:?} reset={reset} ignore={ignore_error}")
                });
                from.chain(to).chain(ignored).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("error: {:#}", error.source().expect("has a cause")),
        };
        assert_eq!(found, expected, "{flag} {value}");
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
            ("from", "type=nfs,src=a", "error: unknown type \"nfs\": use local"),
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
    fn other_places_are_accepted_and_said_to_have_no_effect() {
        for (flag, value, kind) in [
            ("from", "user/app:cache", "registry"),
            ("from", "type=registry,ref=user/app", "registry"),
            ("to", "type=inline", "inline"),
            ("to", "type=gha,mode=max", "gha"),
            ("to", "type=s3,region=x,bucket=y,name=z", "s3"),
            ("from", "type=azblob,name=z", "azblob"),
        ] {
            let expected = format!(
                "--cache-{flag} {value} has no effect: a cache of type {kind} is not supported, only local is"
            );
            check(flag, value, &expected);
        }
    }
}
