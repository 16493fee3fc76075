use super::*;
use crate::model::{Command, Develop};

const ROOT: &str = "/p";

fn trigger(action: &str, path: &str, target: &str) -> Trigger {
    let path = format!("{ROOT}/{path}");
    Trigger { path, action: action.to_owned(), target: target.to_owned(), ..Trigger::default() }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn project(services: &[(&str, Vec<Trigger>)]) -> Project {
    let services = services.iter().map(|(name, watch)| {
        let build = Build { context: ROOT.to_owned(), ..Build::default() };
        let develop = Some(Develop { watch: watch.clone(), ..Develop::default() });
        ((*name).to_owned(), Service { build: Some(build), develop, ..Service::default() })
    });
    Project { services: services.collect(), ..Project::default() }
}

fn rules(watch: Vec<Trigger>, ignored: &str) -> Rules {
    Rules::with(&project(&[("web", watch)]), |_| Ok(words(ignored))).expect("rules")
}

fn batch(rules: &Rules, changed: &str) -> String {
    let changed = words(changed).iter().map(|name| Path::new(ROOT).join(name)).collect();
    rules.batch(&changed).to_string()
}

#[track_caller]
fn check(watch: Trigger, ignored: &str, changed: &str, expected: &str) {
    let told = batch(&rules(vec![watch], ignored), changed);
    let places: Vec<&str> =
        told.lines().map(|line| line.rsplit(' ').next().expect("one")).collect();
    assert_eq!(places.join(" "), expected, "{changed}");
}

#[test]
fn changed_files_go_where_their_trigger_says() {
    let sync = |path, target| trigger("sync", path, target);
    check(sync("src", "/app"), "", "src/a src/b/c srcs/d e", "/app/a /app/b/c");
    check(sync("src", "/"), "", "src/a", "/a");
    check(sync("src/", "/app/"), "", "src/a", "/app/a");
    check(sync("conf", "/etc/conf"), "", "conf conf.d/x", "/etc/conf");
    check(sync(".", "/app"), "", "a/b", "/app/a/b");
}

#[test]
fn patterns_say_what_is_left_alone() {
    let with = |include, ignore| Trigger {
        include: words(include),
        ignore: words(ignore),
        ..trigger("sync", "src", "/app")
    };
    let changed = "src/a.js src/b.txt src/sub/c.js src/node_modules/d.js src/node_modules";
    check(with("", "node_modules/"), "", changed, "/app/a.js /app/b.txt /app/sub/c.js");
    check(with("*.js", ""), "", changed, "/app/a.js");
    check(with("**/*.js", "node_modules sub"), "", changed, "/app/a.js");
    check(with("", "*.js"), "", "src/a.js src/sub/c.js", "/app/sub/c.js");
    check(with("", "sub !sub/c.js"), "", "src/sub/b src/sub/c.js", "/app/sub/c.js");
    check(with("*", ""), "", "src/a src/b/c", "/app/a /app/b/c");
    // The context's patterns are relative to the context.
    check(with("", ""), "src/a.js **/node_modules", changed, "/app/b.txt /app/sub/c.js");
    check(with("", ""), "* !other", "src/a", "/app/a");
    check(
        with("", ""),
        "",
        "src/a~ src/.a.swp src/.git/HEAD src/4913 src/.gitignore",
        "/app/.gitignore",
    );
}

#[test]
fn a_folder_may_be_called_like_a_pattern() {
    let watch = Trigger { ignore: words("no"), ..trigger("sync", "[ab]*", "/app") };
    check(watch, "", "[ab]*/no [ab]*/yes a/no", "/app/yes");
}

#[test]
fn a_batch_is_what_all_rules_say_together() {
    let command = Some(Command(words("nginx -s reload")));
    let exec = Trigger {
        exec: Hook { command, ..Hook::default() },
        ..trigger("sync+exec", "conf", "/conf")
    };
    let watch = vec![
        trigger("sync", "src", "/app"),
        trigger("sync+restart", "src/main", "/app/main"),
        trigger("rebuild", "package", ""),
        trigger("restart", "signal", ""),
        exec,
    ];
    let rules = rules(watch, "");
    assert_eq!(batch(&rules, "other"), "");
    assert_eq!(
        batch(&rules, "src/main src/b"),
        "sync web /p/src/b /app/b\nsync web /p/src/main /app/main\nrestart web\n"
    );
    assert_eq!(batch(&rules, "package signal"), "rebuild web\nrestart web\n");
    assert_eq!(
        batch(&rules, "conf/a conf/b"),
        "sync web /p/conf/a /conf/a\nsync web /p/conf/b /conf/b\nexec web nginx -s reload\n"
    );
}

#[test]
fn a_directory_is_entered_unless_all_of_it_is_ignored() {
    let watch =
        Trigger { ignore: words("node_modules keep !keep/a"), ..trigger("sync", "src", "/app") };
    let rules = rules(vec![watch, trigger("rebuild", "deep/down/package", "")], "");
    for (dir, expected) in [
        ("", true),
        ("src", true),
        ("src/sub", true),
        ("src/node_modules", false),
        ("src/node_modules/x", false),
        ("src/keep", true),
        ("src/.git", false),
        ("other", false),
        ("deep", true),
        ("deep/down", true),
        ("deep/up", false),
    ] {
        assert_eq!(rules.enters(&Path::new(ROOT).join(dir)), expected, "{dir}");
    }
    assert!(rules.enters(Path::new("/")));
}

#[test]
fn only_what_is_asked_for_is_copied_at_the_beginning() {
    let initial = |action| Trigger {
        initial_sync: true,
        ignore: words("no"),
        ..trigger(action, "src", "/app")
    };
    let there: BTreeSet<PathBuf> =
        ["/p/src/a", "/p/src/no"].into_iter().map(PathBuf::from).collect();
    let copied =
        |watch| Batch { sync: rules(vec![watch], "").initial(there.iter()), ..Batch::default() };
    assert_eq!(copied(initial("sync")).to_string(), "sync web /p/src/a /app/a\n");
    assert_eq!(copied(initial("sync+restart")).to_string(), "sync web /p/src/a /app/a\n");
    assert_eq!(copied(trigger("sync", "src", "/app")).to_string(), "");
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let refused = |project: &Project| match Rules::with(project, |_| Ok(Vec::new())) {
        Err(failure) => failure.to_string(),
        Ok(rules) => format!("{:?}", rules.warnings),
    };
    let mut unbuilt = project(&[("web", vec![trigger("rebuild", "src", "")])]);
    unbuilt.services.get_mut("web").expect("it").build = None;
    let expected = "can't watch service \"web\" with action rebuild without a build context";
    assert_eq!(refused(&unbuilt), expected);
    let silent = project(&[("web", vec![trigger("sync+exec", "src", "/a")])]);
    let expected = "can't watch with action \"sync+exec\" on service web without a command";
    assert_eq!(refused(&silent), expected);
    let mut mounted = project(&[("web", vec![trigger("sync", "src/a", "/a")])]);
    let mount = Mount { kind: "bind".to_owned(), source: "/p/src".to_owned(), ..Mount::default() };
    mounted.services.get_mut("web").expect("it").volumes.push(mount);
    let expected =
        "path '/p/src/a' also declared by a bind mount volume, this path won't be monitored!";
    assert_eq!(refused(&mounted), format!("{:?}", [expected]));
    assert!(Rules::with(&mounted, |_| Ok(Vec::new())).expect("rules").is_empty());
    let broken = Trigger { ignore: words("[a"), ..trigger("sync", "src", "/a") };
    let told = refused(&project(&[("web", vec![broken])]));
    assert!(told.contains("service \"web\": develop.watch: syntax error in pattern"), "{told}");
}
