//! Compose files are found, put together, checked and printed as docker compose does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder with files, and what `rcompose` makes of them.
struct Folder(tempfile::TempDir);

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Folder {
    fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self(
            tempfile::Builder::new().prefix("shop").rand_bytes(0).tempdir_in(unique()).unwrap(),
        );
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, args: &[&str]) -> Answer {
        self.run_in(self.path(), args, &[], "")
    }

    fn run_in(&self, dir: &Path, args: &[&str], variables: &[(&str, &str)], stdin: &str) -> Answer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rcompose"))
            .args(args)
            .current_dir(dir)
            .env_clear()
            .env("HOME", "/home/me")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What the command printed, with the folder's path as `$DIR`.
    fn shows(&self, args: &[&str]) -> String {
        let answer = self.run(args);
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
        answer.stdout.replace(self.path().to_str().unwrap(), "$DIR")
    }

    /// What the command refused with, with the folder's path as `$DIR`.
    fn refuses(&self, args: &[&str]) -> String {
        let answer = self.run(args);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{}", answer.stderr);
        answer.stderr.replace(self.path().to_str().unwrap(), "$DIR")
    }

    /// One value of the project, by a JSON pointer.
    fn value(&self, args: &[&str], pointer: &str) -> serde_json::Value {
        let args = [args, &["config", "--format", "json"]].concat();
        let json: serde_json::Value = serde_json::from_str(&self.shows(&args)).unwrap();
        json.pointer(pointer).cloned().unwrap_or_default()
    }
}

/// A folder of this test's own, so that the project's name can be the same in all.
fn unique() -> PathBuf {
    tempfile::tempdir().unwrap().keep()
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.path().parent().unwrap());
    }
}

#[test]
fn config_prints_the_project_in_long_syntax() {
    let folder = Folder::of(&[(
        "compose.yaml",
        r#"
services:
  web:
    build: .
    ports: ["127.0.0.1:8080:80"]
    environment: [A=1, B]
    volumes: ["./src:/src:ro", "data:/data"]
    depends_on: [db]
    command: echo "a b" $$HOME
  db:
    image: db:${TAG:-1}
    deploy: {resources: {limits: {cpus: "0.50", memory: 50M}}}
volumes:
  data:
"#,
    )]);
    let expected = "\
name: shop
services:
  db:
    deploy:
      resources:
        limits:
          cpus: 0.5
          memory: '52428800'
    image: db:1
    networks:
      default: null
  web:
    command:
      - echo
      - a b
      - $$HOME
    environment:
      A: '1'
      B: null
    networks:
      default: null
    volumes:
      - type: bind
        source: $DIR/src
        target: /src
        read_only: true
        bind: {}
      - type: volume
        source: data
        target: /data
        volume: {}
    build:
      context: $DIR
      dockerfile: Dockerfile
    depends_on:
      db:
        condition: service_started
        required: true
    ports:
      - mode: ingress
        host_ip: '127.0.0.1'
        target: 80
        published: '8080'
        protocol: tcp
networks:
  default:
    name: shop_default
volumes:
  data:
    name: shop_data
";
    assert_eq!(folder.shows(&["config"]).replace('"', "'"), expected);
}

#[test]
fn what_config_prints_loads_to_the_same_project() {
    let folder = Folder::of(&[(
        "compose.yaml",
        r##"
x-common: &common {restart: always, labels: {a: "yes", b: "1.10", c: "22:22", d: "null", e: "# no", f: "~"}}
services:
  a: {<<: *common, image: "x:1", environment: {M: "two\nlines\n", D: "$$x", E: "", S: " pad ", Q: "it's"}}
  b: {<<: *common, image: x, healthcheck: {test: curl, interval: 90s}, ulimits: {nproc: 5}, ports: ["1-3:1-3/udp"]}
"##,
    )]);
    let once = folder.shows(&["config"]);
    std::fs::write(folder.path().join("again.yaml"), &once).unwrap();
    assert_eq!(folder.shows(&["-f", "again.yaml", "config"]), once);
    let hashes = folder.shows(&["config", "--hash", "*"]);
    assert_eq!(folder.shows(&["-f", "again.yaml", "config", "--hash", "*"]), hashes);
}

#[test]
fn files_are_found_above_and_their_override_is_laid_over_them() {
    let folder = Folder::of(&[
        (
            "compose.yaml",
            "services: {a: {image: x, command: one, ports: ['80:80'], environment: {A: 1, B: 1}}}",
        ),
        (
            "compose.override.yaml",
            "services: {a: {command: two, ports: ['81:81'], environment: [B=2]}}",
        ),
        ("deep/down/here", ""),
    ]);
    let below = folder.path().join("deep/down");
    let answer = folder.run_in(&below, &["config", "--format", "json"], &[], "");
    let json: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let service = &json["services"]["a"];
    assert_eq!(json["name"], "shop");
    assert_eq!(service["command"], serde_json::json!(["two"]));
    assert_eq!(service["environment"], serde_json::json!({"A": "1", "B": "2"}));
    assert_eq!(service["ports"].as_array().unwrap().len(), 2);
}

#[test]
fn variables_come_from_the_shell_then_from_env_files() {
    let folder = Folder::of(&[
        ("compose.yaml", "services: {a: {image: 'x:$A-$B-${C:-default}'}}"),
        (".env", "A=dotenv\nB=dotenv\n"),
        ("other.env", "B=other\nC='$kept'\n"),
    ]);
    let image = |args: &[&str]| folder.value(args, "/services/a/image");
    assert_eq!(image(&[]), "x:dotenv-dotenv-default");
    assert_eq!(image(&["--env-file", ".env", "--env-file", "other.env"]), "x:dotenv-other-$$kept");
    let shell = folder.run_in(folder.path(), &["config"], &[("A", "shell")], "");
    assert!(shell.stdout.contains("x:shell-dotenv-default"), "{}", shell.stdout);
    let off = folder.run_in(folder.path(), &["config"], &[("COMPOSE_DISABLE_ENV_FILE", "1")], "");
    assert!(off.stdout.contains("x:--default"), "{}", off.stdout);
    assert!(off.stderr.contains("The \"A\" variable is not set. Defaulting to a blank string."));
}

#[test]
fn a_variable_without_a_name_is_told_with_its_line() {
    let folder = Folder::of(&[
        (
            "compose.yaml",
            "services: {a: {image: 'x:$A', env_file: [{path: a.env, format: '${F:-}'}]}}",
        ),
        (".env", "A=1\n=x\n"),
        ("a.env", "B=2\n\n=x\n"),
    ]);
    for format in ["", "raw"] {
        let refused = folder.run_in(folder.path(), &["config"], &[("F", format)], "");
        let expected = "/a.env: line 3: no variable name on line '=x'\n";
        assert!(refused.stderr.ends_with(expected), "{}", refused.stderr);
        assert_eq!(refused.code, Some(1));
    }
    // Where no container is to have it there is no harm in it.
    let kept = folder.run_in(folder.path(), &["config", "--no-env-resolution"], &[], "");
    assert!(kept.stdout.contains("image: x:1\n"), "{}", kept.stderr);
    assert!(
        kept.stderr.contains(".env: line 2: no variable name on line '=x'\n"),
        "{}",
        kept.stderr
    );
}

#[test]
fn the_project_is_named_by_flag_variable_file_or_folder() {
    let folder = Folder::of(&[
        ("compose.yaml", "name: From-File\nservices: {a: {image: x}}"),
        ("plain.yaml", "services: {a: {image: '${COMPOSE_PROJECT_NAME}'}}"),
    ]);
    assert_eq!(folder.value(&[], "/name"), "from-file");
    assert_eq!(folder.value(&["-p", "flag"], "/name"), "flag");
    assert_eq!(folder.value(&["-f", "plain.yaml"], "/services/a/image"), "shop");
    let variable = [("COMPOSE_PROJECT_NAME", "var"), ("COMPOSE_FILE", "plain.yaml")];
    let answer = folder.run_in(folder.path(), &["config"], &variable, "");
    assert!(answer.stdout.starts_with("name: var\n"), "{}", answer.stdout);
    let error = folder.refuses(&["-p", "No Good", "config"]);
    assert!(error.starts_with("invalid project name \"No Good\": must consist only of"), "{error}");
}

#[test]
fn standard_input_is_a_compose_file_too() {
    let folder = Folder::of(&[]);
    let text = "services: {a: {image: x}}";
    let answer = folder.run_in(folder.path(), &["-f", "-", "config", "--services"], &[], text);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "a\n"), "{}", answer.stderr);
}

#[test]
fn extends_and_include_keep_the_folders_of_their_files() {
    let folder = Folder::of(&[
        (
            "compose.yaml",
            "
include: [sub/compose.yaml]
services:
  own: {extends: {file: far/base.yaml, service: base}, environment: {B: 2}, ports: !override ['90:90'], command: !reset null}
",
        ),
        ("far/base.yaml", "services: {base: {extends: root, environment: {A: 1}}, root: {build: ., command: c, ports: ['80:80'], volumes: ['./v:/v']}}"),
        ("sub/compose.yaml", "services: {inner: {image: 'i:$TAG', env_file: e.env, volumes: ['./w:/w']}}"),
        ("sub/.env", "TAG=of-sub\n"),
        ("sub/e.env", "E=${TAG:-outside}\n"),
    ]);
    let value = |pointer: &str| folder.value(&[], pointer);
    assert_eq!(value("/services/own/build/context"), "$DIR/far");
    assert_eq!(value("/services/own/volumes/0/source"), "$DIR/far/v");
    assert_eq!(value("/services/own/environment"), serde_json::json!({"A": "1", "B": "2"}));
    assert_eq!(value("/services/own/ports/0/published"), "90");
    assert_eq!(value("/services/own/ports/1"), serde_json::Value::Null);
    assert_eq!(value("/services/own/command"), serde_json::Value::Null);
    assert_eq!(value("/services/inner/image"), "i:of-sub");
    assert_eq!(value("/services/inner/volumes/0/source"), "$DIR/sub/w");
    assert_eq!(value("/services/inner/environment/E"), "outside");
}

#[test]
fn profiles_and_names_select_services() {
    let folder = Folder::of(&[(
        "compose.yaml",
        "
services:
  web: {image: x, depends_on: [db]}
  db: {image: y, volumes: ['data:/d']}
  debug: {image: z, profiles: [dev], depends_on: [web]}
  lone: {image: l}
volumes: {data: , unused: }
",
    )]);
    assert_eq!(folder.shows(&["config", "--services"]), "db\nlone\nweb\n");
    assert_eq!(
        folder.shows(&["--profile", "dev", "config", "--services"]),
        "db\ndebug\nlone\nweb\n"
    );
    assert_eq!(folder.shows(&["config", "--images", "web"]), "y\nx\n");
    assert_eq!(folder.shows(&["config", "--images", "debug"]), "y\nz\nx\n");
    assert_eq!(folder.shows(&["config", "--profiles"]), "dev\n");
    assert_eq!(folder.shows(&["config", "--volumes"]), "data\n");
    assert_eq!(folder.shows(&["--all-resources", "config", "--volumes"]), "data\nunused\n");
    let error = folder.refuses(&["config", "wbe"]);
    assert_eq!(error, "no such service: wbe (did you mean web?)\n");
}

#[test]
fn mistakes_are_shown_in_their_line() {
    let check = |text: &str, expected: &str| {
        let folder = Folder::of(&[("compose.yaml", text)]);
        assert_eq!(folder.refuses(&["config"]).trim_end(), expected);
    };
    check(
        "services:\n  web:\n    image: x\n    prots: []\n",
        "$DIR/compose.yaml:4:5: services.web: additional property \"prots\" is not allowed (did you mean ports?)\n 4 |     prots: []\n   |     ^^^^^",
    );
    check(
        "services:\n  web:\n    image: x\n    ports: '80'\n",
        "$DIR/compose.yaml:4:12: services.web.ports: must be a list, not a string\n 4 |     ports: '80'\n   |            ^^^^",
    );
    check(
        "services:\n  web: {image: '${NO:?set it}'}\n",
        "$DIR/compose.yaml:2:16: services.web.image: required variable NO is missing a value: set it\n 2 |   web: {image: '${NO:?set it}'}\n   |                ^^^^^^^^^^^^^^^",
    );
    check(
        "services:\n  web: {image: x, ports: ['80:http']}\n",
        "$DIR/compose.yaml:2:27: services.web.ports[0]: invalid containerPort: http\n 2 |   web: {image: x, ports: ['80:http']}\n   |                           ^^^^^^^^^",
    );
    check(
        "services:\n  web: {image: x, healthcheck: {test: t, interval: 10q}}\n",
        "$DIR/compose.yaml:2:52: services.web.healthcheck.interval: invalid duration \"10q\" (numbers with the units w, d, h, m, s, ms, us, ns, as in \"1m30s\")\n 2 |   web: {image: x, healthcheck: {test: t, interval: 10q}}\n   |                                                    ^^^",
    );
    check(
        "services: {a: {image: x}, a: {image: y}}\n",
        "$DIR/compose.yaml:1:27: mapping key \"a\" already defined at line 1\n 1 | services: {a: {image: x}, a: {image: y}}\n   |                           ^",
    );
    check(
        "services: {a: {}}\n",
        "$DIR/compose.yaml:1:12: services.a: service \"a\" has neither an image nor a build context specified\n 1 | services: {a: {}}\n   |            ^",
    );
    check(
        "services: {a: {image: x, networks: [frnt]}}\nnetworks: {front: }\n",
        "$DIR/compose.yaml:1:37: services.a.networks: service \"a\" refers to undefined network frnt (did you mean front?)\n 1 | services: {a: {image: x, networks: [frnt]}}\n   |                                     ^^^^",
    );
    check(
        "services: {a: {image: x, volumes: ['dta:/d']}}\n",
        "$DIR/compose.yaml:1:36: services.a.volumes: service \"a\" refers to undefined volume dta\n 1 | services: {a: {image: x, volumes: ['dta:/d']}}\n   |                                    ^^^^^^^^",
    );
    check("# nothing\n", "empty compose file: $DIR/compose.yaml");
    check("- a\n", "$DIR/compose.yaml:1:1: top-level object must be a mapping\n 1 | - a\n   | ^");
}

#[test]
fn circles_are_refused_with_their_links() {
    let depends = Folder::of(&[(
        "compose.yaml",
        "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [c]}, c: {image: x, depends_on: [a]}}",
    )]);
    let refusal = depends.refuses(&["config"]);
    let expected = "$DIR/compose.yaml:1:39: dependency cycle detected: a -> b -> c -> a\n";
    assert!(refusal.starts_with(expected), "{refusal}");
    let extends = Folder::of(&[("compose.yaml", "services: {a: {extends: b}, b: {extends: a}}")]);
    let expected = "Circular reference:\n  a in $DIR/compose.yaml\n  extends b in $DIR/compose.yaml\n  extends a in $DIR/compose.yaml\n";
    assert_eq!(extends.refuses(&["config"]), expected);
    let include =
        Folder::of(&[("compose.yaml", "include: [b.yaml]"), ("b.yaml", "include: [compose.yaml]")]);
    let expected = "include cycle detected:\n$DIR/compose.yaml\n include $DIR/b.yaml\n include $DIR/compose.yaml\n";
    assert_eq!(include.refuses(&["config"]), expected);
}

#[test]
fn what_is_no_compose_file_is_refused_at_once() {
    let folder = Folder::of(&[("folder/x", ""), ("binary", "")]);
    assert_eq!(
        folder.refuses(&["-f", "folder", "config"]),
        "$DIR/folder is a directory, not a file\n"
    );
    std::fs::write(folder.path().join("binary"), b"a: \xff").unwrap();
    assert_eq!(
        folder.refuses(&["-f", "binary", "config"]),
        "$DIR/binary is not valid UTF-8 text (byte 3)\n"
    );
    let large = std::fs::File::create(folder.path().join("large")).unwrap();
    large.set_len(50 << 20).unwrap();
    let error = folder.refuses(&["-f", "large", "config"]);
    assert!(
        error.starts_with("$DIR/large is 52428800 bytes, and a compose file may have"),
        "{error}"
    );
    let error = folder.refuses(&["config"]);
    assert!(error.starts_with("no configuration file provided: not found"), "{error}");
    let mut bomb = "x-a0: &a0 [1,2,3,4,5,6,7,8,9,0]\n".to_owned();
    for level in 1..20 {
        let items = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("x-a{level}: &a{level} [{items}]\n"));
    }
    std::fs::write(folder.path().join("bomb"), bomb).unwrap();
    let error = folder.refuses(&["-f", "bomb", "config"]);
    assert!(error.contains("aliases expand to more than"), "{error}");
}

#[test]
fn rbuild_compose_is_the_same_program() {
    let folder = Folder::of(&[("compose.yaml", "services:\n  web:\n    image: nginx\n")]);
    let ask = |program: &str, words: &[&str]| {
        Command::new(program).args(words).current_dir(folder.path()).output().unwrap()
    };
    let own = ask(env!("CARGO_BIN_EXE_rcompose"), &["config", "--services"]);
    let other = ask(env!("CARGO_BIN_EXE_rbuild"), &["compose", "config", "--services"]);
    assert_eq!(String::from_utf8_lossy(&own.stdout), "web\n");
    assert_eq!(other, own);
    let wrong = ask(env!("CARGO_BIN_EXE_rbuild"), &["compose", "-f", "nosuch.yaml", "config"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("nosuch"));
}

#[test]
fn errors_do_nothing_to_the_terminal() {
    let answer = Folder::of(&[]).run(&["-f", "a\x1b[31m.yaml", "config"]);
    let stderr = answer.stderr;
    assert_eq!(answer.code, Some(1));
    assert!(stderr.contains("a\\u{1b}[31m.yaml") && !stderr.contains('\x1b'), "{stderr:?}");
}
