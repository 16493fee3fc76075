//! `tag` and `rmi`: names given to images and taken away, and images that go with their last name.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use cache::image::Image;
use cache::prune::{Kind, Plan, Scope};
use clap::Args;
use engine::events::{self, Event};
use engine::reference::Reference;

use crate::in_use::InUse;
use crate::{resolve, ui};

/// What `tag` is told.
#[derive(Args)]
pub(crate) struct TagArgs {
    /// The image: a name or an id
    source: String,
    /// The name to give it
    name: String,
}

/// Gives an image one more name.
pub(crate) fn tag(root: &Path, args: &TagArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let name = Reference::parse(&args.name).with_context(|| {
        format!("Error parsing reference: {:?} is not a valid repository/tag", args.name)
    })?;
    if name.digest.is_some() {
        bail!("refusing to create a tag with a digest reference");
    }
    let Some(meaning) = resolve::meaning(&store, &args.source)? else {
        return Ok(no_such_image(&args.source));
    };
    let name = name.or_latest();
    store.tag_meaning(&meaning, &[name.to_string()])?;
    tell(&store, "tag", &meaning.image, &name.familiar());
    Ok(ExitCode::SUCCESS)
}

/// Writes down that something happened to an image.
pub(crate) fn tell(store: &Store, action: &str, image: &Image, name: &str) {
    let event = Event::now("image", action, &image.id().to_string());
    events::emit(store.root(), &event.with("name", name));
}

/// Says in docker's words that there is no such image.
pub(crate) fn no_such_image(name: &str) -> ExitCode {
    ui::note(missing(name));
    ExitCode::FAILURE
}

/// The words for an image that is not there.
pub(crate) fn missing(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) => format!("Error: No such image: {}", reference.or_latest().familiar()),
        Err(_) if is_id(name) => format!("Error: No such image: {name}"),
        Err(error) => format!("Error: No such image: {name}: {error}"),
    }
}

fn is_id(name: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What `rmi` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct RemoveArgs {
    /// Take all names away; an image that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Keep the image's layers until the next prune
    #[arg(long)]
    no_prune: bool,
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// Removes names, and images without any.
pub(crate) fn remove(root: &Path, args: &RemoveArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let containers = InUse::read(&store)?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.images {
        let image = match resolve::find(&store, name) {
            Ok(Some(image)) => image,
            Ok(None) => {
                let missing = no_such_image(name);
                code = if args.force { code } else { missing };
                continue;
            }
            Err(_) if forget_damaged(&store, name)? => continue,
            Err(error) => return Err(error.into()),
        };
        let names = names(&store, &image)?;
        let users = Users::of(&containers, &image, &names);
        let decision = decide(name, &image, &names, &users, args.force);
        match decision {
            Ok(removal) => carry_out(&store, &image, removal, args.no_prune)?,
            Err(conflict) => {
                ui::note(format_args!("Error: {conflict}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Takes a name off an image that cannot be read any more, and the image with its last name.
fn forget_damaged(store: &Store, name: &str) -> anyhow::Result<bool> {
    let Ok(name) = Reference::parse(name).map(Reference::or_latest) else { return Ok(false) };
    let Some(digest) = store.find_image(&name.to_string())? else { return Ok(false) };
    store.untag(&name.to_string())?;
    ui::line(format_args!("Untagged: {}", name.familiar()));
    let mut left = store.list_images()?.into_iter().filter(|listed| listed.digest == digest);
    if left.all(|listed| listed.name.is_none()) {
        store.forget_image(&digest)?;
        ui::line(format_args!("Deleted: {digest}"));
    }
    Ok(true)
}

/// The names of an image, under whatever manifest.
fn names(store: &Store, image: &Image) -> anyhow::Result<Vec<Reference>> {
    let mut names = Vec::new();
    for digest in manifests(store, image)? {
        for listed in store.list_images()?.into_iter().filter(|listed| listed.digest == digest) {
            names.extend(listed.name.and_then(|name| Reference::parse(&name).ok()));
        }
    }
    names.sort();
    Ok(names)
}

/// All manifests of the list that have this image's configuration, and so its id.
fn manifests(store: &Store, image: &Image) -> anyhow::Result<Vec<Digest>> {
    let mut digests: Vec<Digest> =
        store.list_images()?.iter().map(|listed| listed.digest).collect();
    digests.sort();
    digests.dedup();
    let same = |digest: &Digest| match store.peek_image(digest) {
        Ok(found) => found.id() == image.id(),
        Err(_) => *digest == image.digest,
    };
    digests.retain(same);
    Ok(digests)
}

/// What removing an image by one of its names comes to.
#[derive(Debug, PartialEq, Eq)]
struct Removal {
    untag: Vec<Reference>,
    /// Whether the image goes too.
    delete: bool,
}

/// The containers that use an image, by the short ids of one of each kind.
#[derive(Debug, Default)]
struct Users {
    running: Option<String>,
    stopped: Option<String>,
}

impl Users {
    fn of(containers: &InUse, image: &Image, names: &[Reference]) -> Self {
        let mut users = Self::default();
        for user in containers.of(image, names) {
            let kind = match user.state.status.is_active() {
                true => &mut users.running,
                false => &mut users.stopped,
            };
            kind.get_or_insert_with(|| user.record.short_id().to_owned());
        }
        users
    }
}

/// Decides as docker does: a name takes the image along only if it was the last; an id means all
/// names, but more than one only by force. What a container uses goes only by force, and of what one
/// that runs uses only the name does.
fn decide(
    given: &str,
    image: &Image,
    names: &[Reference],
    users: &Users,
    force: bool,
) -> Result<Removal, String> {
    let id = image.id();
    let digits = given.strip_prefix("sha256:").unwrap_or(given);
    let name = Reference::parse(given).ok().map(Reference::or_latest);
    let by_name = name.filter(|name| names.contains(name) && !id.hex().starts_with(digits));
    if let Some(name) = by_name {
        let untag = with_digests(name, names);
        let is_last = untag.len() == names.len();
        return match users.running.as_ref().or(users.stopped.as_ref()) {
            Some(user) if is_last && !force => Err(format!(
                "conflict: unable to remove repository reference {given:?} (must force) - \
                 container {user} is using its referenced image {}",
                id.short()
            )),
            _ => {
                let delete = is_last && users.running.is_none();
                Ok(Removal { untag, delete })
            }
        };
    }
    let (how, why) = match users {
        Users { running: Some(user), .. } => {
            ("cannot be forced", format!("image is being used by running container {user}"))
        }
        _ if are_many(names) && !force => {
            ("must be forced", "image is referenced in multiple repositories".to_owned())
        }
        Users { stopped: Some(user), .. } if !force => {
            ("must be forced", format!("image is being used by stopped container {user}"))
        }
        _ => return Ok(Removal { untag: names.to_vec(), delete: true }),
    };
    Err(format!("conflict: unable to delete {} ({how}) - {why}", id.short()))
}

/// A name, and those by digest that are not needed without it: with the last tag of a repository
/// goes what the registry calls the image there.
fn with_digests(name: Reference, names: &[Reference]) -> Vec<Reference> {
    let repository = name.name();
    let others = || names.iter().filter(|other| **other != name && other.name() == repository);
    let is_last = name.digest.is_none() && others().all(|other| other.digest.is_some());
    let digests: Vec<_> = others().filter(|_| is_last).cloned().collect();
    std::iter::once(name).chain(digests).collect()
}

/// Whether names mean more than one thing: several tags, or several repositories.
fn are_many(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|name| name.digest.is_none()).count();
    let mut repositories: Vec<String> = names.iter().map(Reference::name).collect();
    repositories.dedup();
    tags > 1 || repositories.len() > 1
}

fn carry_out(store: &Store, image: &Image, removal: Removal, no_prune: bool) -> anyhow::Result<()> {
    let manifests = manifests(store, image)?;
    for name in removal.untag {
        store.untag(&name.to_string())?;
        tell(store, "untag", image, &name.familiar());
        ui::line(format_args!("Untagged: {}", name.familiar()));
    }
    if !removal.delete {
        return Ok(());
    }
    for manifest in manifests {
        store.forget_image(&manifest)?;
    }
    tell(store, "delete", image, &image.id().to_string());
    ui::line(format_args!("Deleted: {}", image.id()));
    // What others use stays, for the next prune.
    let pruned = if no_prune { None } else { Some(store.prune(&Scope::default())?) };
    for layer in pruned.iter().flat_map(gone_layers) {
        ui::line(format_args!("Deleted: {layer}"));
    }
    Ok(())
}

/// The layers that a prune has taken.
pub(crate) fn gone_layers(plan: &Plan) -> impl Iterator<Item = String> {
    plan.of(Kind::Layer).map(|item| format!("sha256:{}", item.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache::oci::ImageConfig;

    #[test]
    fn a_name_takes_the_image_along_only_if_it_was_the_last() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let (digest, _) =
            store.put_image(&ImageConfig::default(), &Default::default()).expect("put");
        let image = store.read_image(&digest).expect("read");
        let id = image.id().to_string();
        let short = image.id().short();
        let decided = |given: &str, names: &[&str], users: &Users, force: bool| {
            let names: Vec<_> =
                names.iter().map(|name| Reference::parse(name).expect(name)).collect();
            decide(given, &image, &names, users, force).map(|removal| {
                let untag: Vec<_> = removal.untag.iter().map(Reference::familiar).collect();
                (untag.join(" "), removal.delete)
            })
        };
        let check =
            |given: &str, names: &[&str], force, expected: Result<(&str, bool), &str>| match (
                decided(given, names, &Users::default(), force),
                expected,
            ) {
                (Ok((untag, delete)), Ok(expected)) => {
                    assert_eq!((untag.as_str(), delete), expected, "{given}");
                }
                (Err(conflict), Err(part)) => {
                    assert!(conflict.contains(part), "{given}: {conflict}");
                }
                (decided, _) => panic!("{given}: {decided:?}"),
            };
        check("app", &["app:latest"], false, Ok(("app:latest", true)));
        check("app", &["app:latest", "b:1"], false, Ok(("app:latest", false)));
        check("app", &["app:latest", "b:1"], true, Ok(("app:latest", false)));
        let [here, there] = ["app", "b"].map(|name| format!("{name}@{}", image.digest));
        let both = format!("app:latest {here}");
        check("app", &["app:latest", &here], false, Ok((&both, true)));
        check("app", &["app:latest", &here, &there], false, Ok((&both, false)));
        check("app", &["app:1", "app:latest", &here], false, Ok(("app:latest", false)));
        check(&short, &["app:latest", &here], false, Ok((&both, true)));
        check(&short, &["app:latest", &there], false, Err("must be forced"));
        check(&here, &[&here], false, Ok((&here, true)));
        check(&id, &["app:latest"], false, Ok(("app:latest", true)));
        check(&short, &["a:1", "b:1"], false, Err("must be forced"));
        check(&short, &["a:1", "b:1"], true, Ok(("a:1 b:1", true)));
        check(&short, &[], false, Ok(("", true)));
        let user = |id: &str| Some(id.to_owned());
        let stopped = Users { stopped: user("abc"), ..Users::default() };
        let running = Users { running: user("def"), stopped: user("abc") };
        let using = |user: &str| {
            Err(format!(
                "conflict: unable to remove repository reference \"app\" (must force) - container \
                 {user} is using its referenced image {short}"
            ))
        };
        let delete = |how: &str| Err(format!("conflict: unable to delete {short} {how}"));
        let untag = |delete| Ok(("app:latest".to_owned(), delete));
        let by_stopped = "(must be forced) - image is being used by stopped container abc";
        let by_running = "(cannot be forced) - image is being used by running container def";
        for (given, users, force, expected) in [
            ("app", &stopped, false, using("abc")),
            ("app", &stopped, true, untag(true)),
            ("app", &running, false, using("def")),
            ("app", &running, true, untag(false)),
            (&short, &stopped, false, delete(by_stopped)),
            (&short, &stopped, true, untag(true)),
            (&short, &running, true, delete(by_running)),
        ] {
            assert_eq!(
                decided(given, &["app:latest"], users, force),
                expected,
                "{given} {users:?}"
            );
        }
        assert_eq!(decided("app", &["app:latest", "b:1"], &running, false), untag(false));
    }

    #[test]
    fn what_is_missing_is_named_in_full() {
        for (name, expected) in [
            ("app", "Error: No such image: app:latest"),
            ("docker.io/library/app:1", "Error: No such image: app:1"),
            ("sha256:abcd", "Error: No such image: sha256:abcd"),
        ] {
            assert_eq!(missing(name), expected);
        }
        assert!(missing("Upper").contains("must be lowercase"));
    }
}
