//! Volumes as they are made, found and removed.

use super::*;
use serde_json::json;

fn with_store(check: impl FnOnce(&Volumes<'_>)) {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = Store::open(directory.path()).expect("store");
    check(&Volumes::open(&store).expect("volumes"));
}

fn named(name: &str) -> Draft {
    Draft { name: Some(name.to_owned()), ..Draft::default() }
}

fn nobody() -> io::Result<Users> {
    Ok(Users::new())
}

#[test]
fn a_volume_is_what_docker_shows() {
    with_store(|volumes| {
        let labels = StringMap::from([("a".to_owned(), "b".to_owned())]);
        let made = volumes.create(Draft { labels, ..named("data") }).expect("create");
        let mut shown = serde_json::to_value(&made).expect("JSON");
        let created = shown["CreatedAt"].take();
        assert!(created.as_str().expect("a time").parse::<jiff::Timestamp>().is_ok());
        let mountpoint = volumes.root.join("data/_data");
        assert_eq!(
            shown,
            json!({"CreatedAt": null, "Driver": "local", "Labels": {"a": "b"},
                   "Mountpoint": mountpoint, "Name": "data", "Options": null,
                   "Scope": "local"})
        );
        for (path, expected) in [(&mountpoint, 0o755), (&volumes.root, 0o701)] {
            let mode = fs::metadata(path).expect("made").permissions().mode();
            assert_eq!(mode & 0o7777, expected, "{}", path.display());
        }
        let again = volumes.create(named("data")).expect("create");
        assert_eq!(again, made, "it is made once");
        let anonymous = volumes.create(Draft::default()).expect("create");
        assert!(anonymous.name.len() == 64);
        assert!(anonymous.labels.expect("labels").contains_key(ANONYMOUS));
        assert_eq!(volumes.list().expect("list").len(), 2);
    });
}

#[test]
fn names_and_drivers_that_are_none_are_refused() {
    with_store(|volumes| {
        for (name, why) in [
            ("a", "too short"),
            ("a/b", "create a/b: \"a/b\" includes invalid characters"),
            ("../x", "includes invalid characters"),
            ("-x", "includes invalid characters"),
            (".lock", "includes invalid characters"),
            (&"x".repeat(256), "too long"),
        ] {
            let error = volumes.create(named(name)).expect_err(name).to_string();
            assert!(error.contains(why), "{error}");
            assert!(matches!(volumes.get(name), Err(Error::NotFound(_))), "{name}");
        }
        let draft = Draft { driver: "ceph".to_owned(), ..named("data") };
        let error = volumes.create(draft).expect_err("a driver").to_string();
        assert!(error.contains("plugin \"ceph\" not found"), "{error}");
        assert_eq!(volumes.list().expect("list"), []);
    });
}

#[test]
fn many_who_make_one_volume_make_one() {
    with_store(|volumes| {
        let made: Vec<Volume> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|number: u32| {
                    let labels = StringMap::from([("by".to_owned(), number.to_string())]);
                    let draft = Draft { labels, ..named("shared") };
                    scope.spawn(|| volumes.create(draft).expect("create"))
                })
                .collect();
            makers.into_iter().map(|maker| maker.join().expect("no panic")).collect()
        });
        assert!(made.iter().all(|volume| *volume == made[0]), "{made:?}");
        assert_eq!(volumes.list().expect("list").len(), 1);
    });
}

#[test]
fn a_volume_in_use_stays() {
    with_store(|volumes| {
        for name in ["one", "two"] {
            volumes.create(named(name)).expect("create");
            fs::write(volumes.data(name).join("file"), "12345").expect("write");
            fs::hard_link(volumes.data(name).join("file"), volumes.data(name).join("again"))
                .expect("link");
        }
        volumes.create(Draft::default()).expect("create");
        let used =
            || Ok(Users::from([("one".to_owned(), vec!["abc".to_owned(), "def".to_owned()])]));
        let error = volumes.remove("one", used).expect_err("used").to_string();
        assert_eq!(error, "remove one: volume is in use - [abc, def]");
        let error = volumes.remove("three", nobody).expect_err("missing").to_string();
        assert_eq!(error, "get three: no such volume");
        let pruned = volumes.prune(is_anonymous, nobody).expect("prune");
        assert_eq!((pruned.names.len(), pruned.bytes), (1, 0));
        let pruned = volumes.prune(|_| true, used).expect("prune");
        assert_eq!(pruned, Pruned { names: vec!["two".to_owned()], bytes: 5 });
        assert!(!volumes.directory("two").exists());
        volumes.remove("one", nobody).expect("remove");
        assert_eq!(volumes.list().expect("list"), []);
    });
}

#[test]
fn a_damaged_volume_hides_no_other_and_can_be_removed() {
    with_store(|volumes| {
        volumes.create(named("good")).expect("create");
        volumes.create(named("torn")).expect("create");
        fs::write(volumes.directory("torn").join(FILE), "{").expect("write");
        fs::write(volumes.data("torn").join("file"), "kept").expect("write");
        let error = volumes.get("torn").expect_err("damaged").to_string();
        assert!(error.contains("volume.json is damaged"), "{error}");
        let names = volumes.list().expect("list");
        let names: Vec<_> = names.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["good", "torn"]);
        volumes.remove("torn", nobody).expect("remove");
        assert_eq!(volumes.list().expect("list").len(), 1);
    });
}

#[test]
fn nobody_removes_while_a_container_is_made() {
    with_store(|volumes| {
        volumes.create(named("data")).expect("create");
        let hold = volumes.hold().expect("hold");
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| volumes.remove("data", nobody));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(volumes.get("data").is_ok(), "it waits");
            drop(hold);
            remover.join().expect("no panic").expect("remove");
        });
    });
}

fn mounts(anonymous: &[&str], binds: &[&str]) -> Vec<Resolved> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    crate::volume::resolve(crate::volume::Request {
        volumes: &texts(anonymous),
        volumes_from: &[],
        binds: &texts(binds),
        mounts: &[],
        tmpfs: &StringMap::new(),
        volume_driver: "",
    })
    .expect("resolve")
}

#[test]
fn what_was_made_for_a_container_that_never_came_to_be_goes() {
    with_store(|volumes| {
        let mut mounts = mounts(&["/a", "/b", "/c"], &["data:/data"]);
        let hold = volumes.hold().expect("hold");
        volumes.provide(&hold, &mut mounts).expect("provide");
        let names: Vec<String> = mounts.iter().map(|mount| mount.point.name.clone()).collect();
        let there =
            || volumes.list().expect("list").into_iter().map(|it| it.name).collect::<Vec<_>>();
        let sorted = |names: &[&String]| {
            let mut names: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
            names.sort();
            names
        };
        // Its maker lives.
        volumes.sweep_unclaimed(nobody).expect("sweep");
        assert_eq!(there(), sorted(&[&names[0], &names[1], &names[2], &names[3]]));
        // What has a container on record is claimed by it.
        volumes.claim(&hold, &names[0]).expect("claim");
        drop(hold);
        // As if it was killed before it could say so of the second, and the third never had one. Nobody made what was named.
        let users = || Ok(Users::from([(names[1].clone(), vec!["id".to_owned()])]));
        let unknown = || Err(io::Error::other("a record is damaged"));
        volumes.sweep_unclaimed(unknown).expect("nothing is done");
        assert_eq!(there().len(), 4);
        volumes.sweep_unclaimed(users).expect("sweep");
        assert_eq!(there(), sorted(&[&names[0], &names[1], &names[3]]));
        // From now on they are as any other.
        volumes.sweep_unclaimed(nobody).expect("sweep");
        assert_eq!(there(), sorted(&[&names[0], &names[1], &names[3]]));
        // As if who removes its container was killed before it came to the volume.
        let hold = volumes.hold().expect("hold");
        volumes.unclaim(&hold, &names[0]).expect("unclaim");
        drop(hold);
        volumes.sweep_unclaimed(nobody).expect("sweep");
        assert_eq!(there(), sorted(&[&names[1], &names[3]]));
        // Nothing is left of one that goes the usual way, or never was.
        let hold = volumes.hold().expect("hold");
        volumes.unclaim(&hold, &names[1]).expect("unclaim");
        volumes.unclaim(&hold, "never").expect("unclaim");
        drop(hold);
        volumes.remove(&names[1], nobody).expect("remove");
        volumes.sweep_unclaimed(nobody).expect("sweep");
        assert_eq!(volumes.unclaimed().expect("list"), [""; 0]);
    });
}

#[test]
fn a_containers_volumes_are_provided() {
    use crate::volume::{Request, resolve};
    with_store(|volumes| {
        let mut mounts = mounts(&["/anonymous"], &["data:/data:ro", "/tmp:/tmp"]);
        let hold = volumes.hold().expect("hold");
        volumes.provide(&hold, &mut mounts).expect("provide");
        let points: Vec<_> = mounts.iter().map(|mount| &mount.point).collect();
        assert_eq!((points[0].name.len(), points[0].driver.as_str()), (64, "local"));
        assert_eq!(Path::new(&points[1].source), volumes.data("data"));
        assert_eq!((points[2].source.as_str(), points[2].driver.as_str()), ("/tmp", ""));
        // Another container has the same volume, as long as it is there.
        let from = (mounts.clone(), false);
        let mut again = resolve(Request {
            volumes: &[],
            volumes_from: &[from],
            binds: &[],
            mounts: &[],
            tmpfs: &StringMap::new(),
            volume_driver: "",
        })
        .expect("resolve");
        volumes.provide(&hold, &mut again).expect("provide");
        assert_eq!(again[0].point.name, mounts[0].point.name);
        drop(hold);
        volumes.remove(&again[0].point.name.clone(), nobody).expect("remove");
        let hold = volumes.hold().expect("hold");
        let error = volumes.provide(&hold, &mut again).expect_err("gone").to_string();
        assert!(error.ends_with("no such volume"), "{error}");
    });
}
