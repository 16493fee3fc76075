//! What a volume has of an image, whoever is killed on the way.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use cache::Store;
use rustix::fs::{FileType, Stat};

use super::*;
use crate::volume::store::Draft;

/// A tree as text: each entry with all that a copy has to keep.
fn shown(root: &Path) -> Vec<String> {
    let directory = File::open(root).expect("open");
    let mut lines = Vec::new();
    let line = |path: &[u8], stat: &Stat, attributes: String| {
        format!(
            "{} {:o} {}:{} {}.{} {} {:x} {attributes}",
            String::from_utf8_lossy(path),
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_mtime,
            stat.st_mtime_nsec,
            if FileType::from_raw_mode(stat.st_mode).is_dir() { 0 } else { stat.st_nlink },
            stat.st_rdev,
        )
    };
    let stat = rustix::fs::fstat(&directory).expect("stat");
    lines.push(line(b".", &stat, format!("{:?}", xattrs(directory.as_fd()).expect("xattrs"))));
    walk(directory.as_fd(), |found| {
        let entry = found.entry()?.expect("no socket");
        let attributes = format!("{:?} {:?}", entry.kind, entry.xattrs);
        lines.push(line(found.path(), found.stat(), attributes));
        Ok::<_, cache::layer::Error>(Next::Enter)
    })
    .expect("walk");
    lines
}

/// An image's directory with one of each kind of file.
fn rich(root: &Path) {
    let path = |name: &str| root.join(name);
    fs::create_dir_all(path("deep/er")).expect("mkdir");
    fs::write(path("file"), "content").expect("write");
    fs::hard_link(path("file"), path("deep/again")).expect("link");
    fs::set_permissions(path("file"), PermissionsExt::from_mode(0o4711)).expect("chmod");
    fs::set_permissions(root, PermissionsExt::from_mode(0o1770)).expect("chmod");
    symlink("/etc/passwd", path("link")).expect("symlink");
    for (name, uid, gid) in [("file", 33, 34), ("deep", 35, 36), (".", 999, 998)] {
        std::os::unix::fs::chown(path(name), Some(uid), Some(gid)).expect("chown");
    }
    rustix::fs::lsetxattr(path("file"), "user.colour", b"green", XattrFlags::CREATE)
        .expect("setxattr");
    rustix::fs::lsetxattr(root, "user.root", b"x", XattrFlags::CREATE).expect("setxattr");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .expect("mknod");
    for name in ["deep/er", "deep", "."] {
        let file = File::open(path(name)).expect("open");
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 5);
        file.set_modified(time).expect("touch");
    }
}

/// An image and a volume `data`, of which the image has `/srv/data`.
fn with_volume(check: impl FnOnce(&Volumes<'_>, &Path)) {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&directory.path().join("store")).expect("store");
    let volumes = Volumes::open(&store).expect("volumes");
    volumes.create(named("data")).expect("create");
    let image = directory.path().join("image");
    fs::create_dir_all(image.join("srv/data")).expect("mkdir");
    rich(&image.join("srv/data"));
    check(&volumes, &image);
}

fn named(name: &str) -> Draft {
    Draft { name: Some(name.to_owned()), ..Draft::default() }
}

fn fill(volumes: &Volumes<'_>, image: &Path, path: &str) -> Filled {
    let root = File::open(image).expect("open");
    volumes.fill("data", root.as_fd(), Path::new(path)).expect("fill")
}

fn entries(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).expect("list").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn a_new_volume_has_all_that_the_image_has() {
    with_volume(|volumes, image| {
        let data = volumes.directory("data").join(DATA);
        assert_eq!(fill(volumes, image, "/srv/data"), Filled::Copied);
        assert_eq!(shown(&data), shown(&image.join("srv/data")));
        assert_eq!(entries(&volumes.directory("data")), [DATA, "lock", "volume.json"]);
        fs::remove_file(data.join("file")).expect("remove");
        assert_eq!(fill(volumes, image, "/srv/data"), Filled::InUse);
        assert!(!data.join("file").exists(), "it is filled once");
    });
}

#[test]
fn an_empty_directory_gives_its_owner_and_mode() {
    with_volume(|volumes, image| {
        fs::create_dir(image.join("empty")).expect("mkdir");
        fs::set_permissions(image.join("empty"), PermissionsExt::from_mode(0o2750)).expect("chmod");
        std::os::unix::fs::chown(image.join("empty"), Some(7), Some(8)).expect("chown");
        fs::set_permissions(image.join("empty"), PermissionsExt::from_mode(0o2750)).expect("chmod");
        assert_eq!(fill(volumes, image, "/empty"), Filled::Copied);
        let data = fs::metadata(volumes.directory("data").join(DATA)).expect("stat");
        assert_eq!((data.uid(), data.gid(), data.mode() & 0o7777), (7, 8, 0o2750));
    });
}

#[test]
fn no_link_leads_out_of_the_image() {
    with_volume(|volumes, image| {
        symlink("/srv/data", image.join("inside")).expect("symlink");
        symlink("../../../../../../../../../../tmp", image.join("out")).expect("symlink");
        symlink("/proc/self/root", image.join("magic")).expect("symlink");
        fs::write(image.join("plain"), "").expect("write");
        for (path, expected) in [
            ("/out", Filled::Nothing),
            ("/magic", Filled::Nothing),
            ("/missing/deep", Filled::Nothing),
            ("/plain", Filled::NoDirectory),
            ("/inside/../data/deep/../../../inside", Filled::Copied),
        ] {
            assert_eq!(fill(volumes, image, path), expected, "{path}");
        }
        assert!(volumes.directory("data").join("_data/deep/again").exists());
    });
}

#[test]
fn who_was_killed_on_the_way_is_followed_by_who_finishes() {
    with_volume(|volumes, image| {
        let directory = volumes.directory("data");
        // Killed while copying.
        fs::create_dir_all(directory.join("filling/half")).expect("mkdir");
        assert_eq!(fill(volumes, image, "/srv/data"), Filled::Copied);
        assert!(!directory.join("filling").exists() && !directory.join("_data/half").exists());
        // Killed while moving in: a part is in the volume, and somebody has written there.
        let whole = shown(&directory.join(DATA));
        fs::create_dir_all(directory.join("filled/tree")).expect("mkdir");
        let from = File::open(directory.join(DATA)).expect("open");
        let to = File::open(directory.join("filled")).expect("open");
        copy_attributes(from.as_fd(), to.as_fd()).expect("attributes");
        for name in ["deep", "file", "null"] {
            fs::rename(directory.join(DATA).join(name), directory.join("filled/tree").join(name))
                .expect("rename");
        }
        fs::write(directory.join("_data/null"), "theirs").expect("write");
        fs::set_permissions(directory.join(DATA), PermissionsExt::from_mode(0o755)).expect("chmod");
        assert_eq!(fill(volumes, image, "/missing"), Filled::Copied);
        let after = shown(&directory.join(DATA));
        let others = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| !line.starts_with("null ")).cloned().collect()
        };
        assert_eq!(others(&after), others(&whole));
        assert_eq!(fs::read(directory.join("_data/null")).expect("read"), b"theirs");
        assert_eq!(entries(&directory), [DATA, "lock", "volume.json"]);
    });
}

/// Names the directory in which a process of this test fills until it is killed.
const VICTIM: &str = "RBUILD_TEST_FILL";

#[test]
fn a_filler_that_is_killed_costs_nothing() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        let directory = Path::new(&directory);
        let store = Store::open(&directory.join("store")).expect("store");
        let volumes = Volumes::open(&store).expect("volumes");
        println!("ready");
        fill(&volumes, &directory.join("image"), "/srv/data");
        return;
    }
    with_volume(|volumes, image| {
        for number in 0..20 {
            let path = image.join(format!("srv/data/{number}"));
            fs::write(path, number.to_string().repeat(5000)).expect("write");
        }
        let name = "volume::fill::tests::a_filler_that_is_killed_costs_nothing";
        let data = volumes.directory("data").join(DATA);
        let mut delay = std::time::Duration::ZERO;
        let mut killed = 0;
        while is_empty(&data).expect("list") || volumes.directory("data").join("filled").exists() {
            let mut command = std::process::Command::new(std::env::current_exe().expect("exe"));
            command.args(["--exact", name, "--nocapture"]);
            command.env(VICTIM, image.parent().expect("a parent"));
            let mut child = command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("spawn");
            let output = io::BufReader::new(child.stdout.take().expect("piped"));
            let ready = io::BufRead::lines(output).map_while(std::result::Result::ok);
            assert!(ready.into_iter().any(|line| line.ends_with("ready")));
            std::thread::sleep(delay);
            child.kill().expect("kill");
            killed += 1;
            child.wait().expect("wait");
            delay = delay * 3 / 2 + std::time::Duration::from_micros(500);
        }
        assert!(killed > 1, "it was killed on the way");
        assert_eq!(shown(&data), shown(&image.join("srv/data")));
        assert_eq!(fill(volumes, image, "/srv/data"), Filled::InUse);
        assert_eq!(entries(&volumes.directory("data")), [DATA, "lock", "volume.json"]);
    });
}

#[test]
fn of_many_containers_one_fills() {
    with_volume(|volumes, image| {
        let filled: Vec<Filled> = std::thread::scope(|scope| {
            let fillers: Vec<_> =
                (0..6).map(|_| scope.spawn(|| fill(volumes, image, "/srv/data"))).collect();
            fillers.into_iter().map(|filler| filler.join().expect("no panic")).collect()
        });
        assert_eq!(filled.iter().filter(|filled| **filled == Filled::Copied).count(), 1);
        let data = volumes.directory("data").join(DATA);
        assert_eq!(shown(&data), shown(&image.join("srv/data")));
    });
}

#[test]
fn an_image_is_opened_only_when_there_is_something_to_fill() {
    use crate::volume::{Request, resolve};
    with_volume(|volumes, image| {
        let resolved = |binds: &[&str], volumes_of_image: &[&str]| {
            let texts = |texts: &[&str]| -> Vec<String> {
                texts.iter().map(|text| (*text).to_owned()).collect()
            };
            let mut resolved = resolve(Request {
                volumes: &texts(volumes_of_image),
                volumes_from: &[],
                binds: &texts(binds),
                mounts: &[],
                tmpfs: &cache::oci::StringMap::new(),
                volume_driver: "",
            })
            .expect("resolve");
            let hold = volumes.hold().expect("hold");
            volumes.provide(&hold, &mut resolved).expect("provide");
            resolved
        };
        let never = || -> io::Result<OwnedFd> { panic!("nobody needs the image") };
        volumes.fill_all(&resolved(&["data:/srv/data:nocopy"], &[]), never).expect("nothing");
        let opened = std::cell::Cell::new(0);
        let open = || {
            opened.set(opened.get() + 1);
            File::open(image).map(OwnedFd::from)
        };
        let both = resolved(&["data:/srv/data"], &["/srv"]);
        volumes.fill_all(&both, open).expect("fill");
        assert_eq!(opened.get(), 1);
        assert!(Path::new(&both[0].point.source).join("data/file").exists());
        volumes.fill_all(&both, never).expect("nothing");
        fs::write(image.join("plain"), "").expect("write");
        let over = volumes.fill_all(&resolved(&[], &["/plain"]), open).expect_err("a file");
        assert_eq!(over.to_string(), "cannot mount volume over existing file, file exists /plain");
    });
}
