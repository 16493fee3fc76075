//! The applications in examples/ that are compose projects: started, used over HTTP, stopped, started again with their
//! data, and removed with it.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Outcome, Test, finish, need};

/// The program under test.
const RCOMPOSE: &str = env!("CARGO_BIN_EXE_rcompose");

/// How long an application may take until it answers as it should.
const PATIENCE: Duration = Duration::from_secs(90);

/// One application: a copy of its folder, in a store and under a project name of its own.
struct App {
    test: Test,
    project: String,
}

impl App {
    /// Copies the example; `None` if one of its bases has not been made.
    fn of(example: &str, bases: &[&str]) -> Option<Self> {
        if !bases.iter().all(|base| need::base(base)) {
            return None;
        }
        let test = Test::empty();
        for base in bases {
            test.import(base);
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        test.shell(&format!("cp -a {folder}/{example}/. ."));
        let world = test.context().parent().and_then(|path| path.file_name()).unwrap().to_owned();
        let project = world.to_str().unwrap().to_lowercase();
        Some(Self { test, project })
    }

    /// Runs `rcompose` in the application's folder, with every port it publishes at the machine's choice.
    fn compose(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("timeout");
        command.args(["-k", "60", "300", RCOMPOSE, "-p", &self.project]).args(arguments);
        let context = self.test.context();
        command.current_dir(&context).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", context.parent().unwrap()).env("RBUILD_REGISTRIES", need::RULES);
        command.env("RBUILD_ROOT", self.test.outside("store"));
        if let Some(driver) = std::env::var_os("RBUILD_DRIVER") {
            command.env("RBUILD_DRIVER", driver);
        }
        for variable in ["PORT", "VOTE_PORT", "RESULT_PORT"] {
            command.env(variable, "127.0.0.1:");
        }
        finish(command, None)
    }

    /// Starts it, and waits until its services are healthy.
    #[track_caller]
    fn up(&self) {
        self.compose(&["up", "-d", "--wait"]).succeeded();
    }

    /// Stops it; nothing but its volumes may be left.
    #[track_caller]
    fn down(&self) {
        self.compose(&["down"]).succeeded();
        assert_eq!(self.compose(&["ps", "-a", "-q"]).ok(), "");
        assert_eq!(self.test.rbuild(&["ps", "-a", "-q"]).ok(), "");
        let networks = self.test.rbuild(&["network", "ls", "--format", "{{.Name}}"]).ok();
        assert!(!networks.contains(&self.project), "{networks}");
    }

    /// Stops it and removes its volumes.
    #[track_caller]
    fn forget(&self) {
        self.compose(&["down", "-v"]).succeeded();
        let volumes = self.test.rbuild(&["volume", "ls", "--format", "{{.Name}}"]).ok();
        assert!(!volumes.contains(&self.project), "{volumes}");
    }

    /// What a service says to a request: options of curl, and a path.
    #[track_caller]
    fn ask(&self, service: &str, port: &str, request: &str) -> String {
        let address = self.compose(&["port", service, port]).ok();
        let curl = format!("curl -sSf --max-time 20 {}", request.replace('@', address.trim()));
        // It may be a moment before it listens, unless it says itself that it is healthy.
        let script = format!("for i in $(seq 200); do {curl} && exit; sleep 0.05; done; exit 1");
        self.test.shell(&script)
    }

    /// Asks until the answer is this one.
    #[track_caller]
    fn answers(&self, service: &str, port: &str, request: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(service, port, request);
            if answer == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{answer:?}\n{}", self.compose(&["logs"]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "-v", "-t", "0"]);
    }
}

#[test]
fn votes_go_through_queue_and_worker_into_the_database() {
    let Some(app) = App::of("voting", &["python", "redis", "postgres"]) else {
        return;
    };
    app.up();
    assert!(app.ask("vote", "80", "@/").contains("Make your choice."));
    for (voter, choice) in [("amy", "tea"), ("bob", "coffee"), ("cat", "tea"), ("bob", "tea")] {
        let vote = format!("-d voter={voter} -d choice={choice} @/");
        assert!(app.ask("vote", "80", &vote).contains(&format!("You voted for {choice}.")));
    }
    app.ask("vote", "80", "-d voter=dan -d choice=coffee @/");
    app.answers("result", "80", "@/", "{\"coffee\":1,\"tea\":3}\n");
    let log = app.compose(&["logs", "--no-log-prefix", "worker"]).ok();
    assert!(log.contains("bob votes for tea\n"), "{log}");

    app.down();
    app.up();
    app.answers("result", "80", "@/", "{\"coffee\":1,\"tea\":3}\n");
    app.ask("vote", "80", "-d voter=eve -d choice=coffee @/");
    app.answers("result", "80", "@/", "{\"coffee\":2,\"tea\":3}\n");

    app.forget();
    app.up();
    app.answers("result", "80", "@/", "{}\n");
}

#[test]
fn the_visitors_are_counted_in_a_redis_that_is_healthy_first() {
    let Some(app) = App::of("flask-redis", &["python", "redis"]) else {
        return;
    };
    let visit = || app.ask("web", "8000", "@/");
    app.up();
    assert_eq!(visit(), "Hello! You are visitor number 1.\n");
    assert_eq!(visit(), "Hello! You are visitor number 2.\n");
    app.down();
    app.up();
    assert_eq!(visit(), "Hello! You are visitor number 3.\n");
    app.forget();
    app.up();
    assert_eq!(visit(), "Hello! You are visitor number 1.\n");
}

#[test]
fn the_proxy_takes_turns_between_two_replicas() {
    let Some(app) = App::of("proxy", &["python", "nginx"]) else {
        return;
    };
    let ask = |path: &str| app.ask("proxy", "80", path);
    app.up();
    let mut hosts = BTreeSet::new();
    for _ in 0..6 {
        hosts.insert(ask("@/").split(' ').next().unwrap().to_owned());
    }
    let replicas = app.compose(&["ps", "-q", "app"]).ok();
    let replicas: BTreeSet<_> = replicas.lines().map(|id| id[..12].to_owned()).collect();
    assert_eq!(hosts, replicas);
    assert_eq!(hosts.len(), 2);

    let cached = ask("@/cached");
    assert_eq!(ask("@/cached"), cached);
    assert!(ask("-i @/cached").contains("X-Cache: HIT"));
    app.down();
    app.up();
    assert_eq!(ask("@/cached"), cached);
    assert!(!hosts.contains(ask("@/").split(' ').next().unwrap()));
    app.forget();
    app.up();
    assert_ne!(ask("@/cached"), cached);
}

#[test]
fn the_blog_keeps_its_posts_in_a_volume_and_its_passwords_in_secrets() {
    let Some(app) = App::of("blog", &["php", "mariadb"]) else {
        return;
    };
    let page = || app.ask("blog", "80", "@/");
    app.up();
    let first = page();
    assert!(first.contains("<h1>A small blog</h1>") && !first.contains("<article>"), "{first}");
    app.ask("blog", "80", "-d title=First -d text=Bread+%26+butter @/");
    assert!(page().contains("<h2>First</h2>\n  <p>Bread &amp; butter</p>"), "{}", page());
    // No password is in what `inspect` shows of a container.
    let shown = app.test.rbuild(&["inspect", &format!("{}-db-1", app.project)]).ok();
    assert!(shown.contains("MARIADB_PASSWORD_FILE"), "{shown}");
    assert!(!shown.contains("written-by-the-blog"), "{shown}");

    app.down();
    app.up();
    assert!(page().contains("<h2>First</h2>"), "{}", page());
    app.forget();
    app.up();
    assert!(!page().contains("<article>"), "{}", page());
}
