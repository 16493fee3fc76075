//! Plans, by what a project says and what there is.

use std::collections::BTreeMap;

use engine::containers::state::Status;
use engine::network::{Definitions, NetworkDefinition};

use crate::images::Found;
use crate::make::{self, labels};
use crate::model::Project;
use crate::observe::{Instance, Observed};
use crate::reconcile::{Recreate, Up, up};
use crate::request::Request;
use crate::restart::{Which, restart, start};
use crate::teardown::{self, Down};

fn project(services: &str) -> Project {
    let request = Request {
        files: vec!["-".to_owned()],
        stdin: Some(format!("name: p\n{services}").into_bytes()),
        current_dir: "/".into(),
        ..Request::default()
    };
    crate::load::load(&request, &mut Vec::new()).expect("a project")
}

const PAIR: &str = "services: {db: {image: x}, web: {image: x, depends_on: [db]}}";

/// What there is: as `up` has left it, with the containers that are named `service/number`, running.
struct There {
    observed: Observed,
    _store: tempfile::TempDir,
}

impl There {
    fn of(project: &Project, containers: &[&str]) -> There {
        let store = tempfile::tempdir().expect("a folder");
        let mut observed = Observed::default();
        for service in project.services.values() {
            let found = Found { id: "sha256:1".to_owned(), age: None };
            observed.images.insert(service.image.clone(), found);
        }
        let definitions = Definitions::new(store.path(), &store.path().join("run"));
        for key in project.networks.keys() {
            let network = definitions.create(&make::network(project, key)).expect("a network");
            observed.networks.insert(network.name.clone(), network);
        }
        for text in containers {
            let (service, number) = text.split_once('/').expect("service/number");
            let number = number.parse().expect("a number");
            observed.containers.push(instance(project, service, number, &observed.networks));
        }
        There { observed, _store: store }
    }

    fn instance(&mut self, place: usize) -> &mut Instance {
        &mut self.observed.containers[place]
    }

    fn up(&self, project: &Project, wishes: &Up) -> String {
        match up(project, &self.observed, wishes) {
            Ok(done) => {
                let warnings = done.warnings.iter().map(|text| format!("! {text}\n"));
                warnings.chain([done.plan.to_string()]).collect()
            }
            Err(failure) => failure.to_string(),
        }
    }
}

/// A container as `up` makes it.
fn instance(
    project: &Project,
    name: &str,
    number: u32,
    networks: &BTreeMap<String, NetworkDefinition>,
) -> Instance {
    let nowhere = Project { services: BTreeMap::new(), ..project.clone() };
    let fallback = crate::model::Service::default();
    let service = project.services.get(name).unwrap_or(&fallback);
    let others = project.services.keys().map(|name| (name.clone(), vec![format!("{name}1")]));
    let others: BTreeMap<String, Vec<String>> = others.collect();
    let request = make::request(&make::Container {
        project: if project.services.contains_key(name) { project } else { &nowhere },
        service_name: name,
        service,
        number,
        image: "sha256:1",
        others: &others,
        previous: None,
        files: std::path::Path::new("/run"),
        one_off: false,
    })
    .expect("a request");
    let mut instance = Instance::default();
    instance.record.id = format!("{name}{number}");
    instance.record.name = make::name(project, name, service, number);
    instance.record.image = "sha256:1".to_owned();
    instance.record.config = request.config;
    instance.record.host_config = request.host_config;
    instance.record.networks = request.networks;
    instance.record.networks.retain(|name, _| networks.contains_key(name));
    instance.state.status = Status::Running;
    instance
}

#[test]
fn what_is_not_there_is_made_and_started_in_order() {
    let project = project(PAIR);
    let mut there = There::of(&project, &[]);
    there.observed.networks.clear();
    there.observed.images.clear();
    assert_eq!(
        there.up(&project, &Up::default()),
        "  1. Network p_default: create (it is not there)
  2. Image x: pull (it is not here)
  3. Container p-db-1: create (it is not there) after 1, 2
  4. Container p-db-1: start (it is new) after 3
  5. Container p-web-1: create (it is not there) after 1, 2
  6. Container p-web-1: start (it is new) after 4, 5
"
    );
}

#[test]
fn what_is_as_it_should_be_needs_nothing() {
    let project = project(PAIR);
    let mut there = There::of(&project, &["db/1", "web/1"]);
    assert_eq!(there.up(&project, &Up::default()), "");
    there.instance(0).state.status = Status::Exited;
    there.instance(0).state.exit_code = 3;
    let started = "  1. Container p-db-1: start (it has ended with 3)\n";
    assert_eq!(there.up(&project, &Up::default()), started);
    assert_eq!(there.up(&project, &Up { no_start: true, ..Up::default() }), "");
}

#[test]
fn each_container_that_is_made_anew_has_its_cause() {
    let before = project(PAIR);
    let check = |now: &str, change: &dyn Fn(&mut There), expected: &str| {
        let mut there = There::of(&before, &["db/1", "web/1"]);
        change(&mut there);
        let plan = there.up(&project(now), &Up::default());
        let recreated: Vec<&str> = plan.lines().filter(|line| line.contains("recreate")).collect();
        assert_eq!(recreated.join("\n"), expected, "{plan}");
    };
    let nothing = |_: &mut There| {};
    check(
        "services: {db: {image: x, user: me, command: a}, web: {image: x, depends_on: [db]}}",
        &nothing,
        "  1. Container p-db-1: recreate (its command and user have changed)",
    );
    check(
        PAIR,
        &|there| there.instance(1).record.image = "sha256:0".to_owned(),
        "  1. Container p-web-1: recreate (its image is another one now, 1)",
    );
    check(
        PAIR,
        &|there| there.instance(0).record.networks.clear(),
        "  1. Container p-db-1: recreate (it is not on the network p_default)",
    );
    check(
        PAIR,
        &|there| {
            let labels = &mut there.instance(0).record.config.labels;
            labels.remove(labels::ATTRIBUTES);
            labels.insert(labels::CONFIG_HASH.to_owned(), "of docker compose".to_owned());
        },
        "  1. Container p-db-1: recreate (its configuration has changed)",
    );
    check(
        "services: {db: {image: x}, web: {image: x, depends_on: [db]}}
networks: {default: {internal: true}}",
        &nothing,
        "  5. Container p-db-1: recreate (the network p_default is made anew) after 4
  7. Container p-web-1: recreate (the network p_default is made anew) after 4",
    );
}

#[test]
fn for_a_network_that_is_made_anew_containers_are_stopped_in_order_when_images_are_there() {
    let before = project("services: {db: {image: x, build: .}, web: {image: x, depends_on: [db]}}");
    let now = project(
        "services: {db: {image: x, build: .}, web: {image: x, depends_on: [db]}}
networks: {default: {internal: true}}",
    );
    let mut there = There::of(&before, &["db/1", "web/1", "web/2"]);
    let build = crate::images::Wishes { build: true, ..Default::default() };
    assert_eq!(
        there.up(&now, &Up { images: build, ..Up::default() }),
        "  1. Image x: build (a build was asked for)
  2. Container p-web-1: stop (for the network p_default, which is made anew) after 1
  3. Container p-web-2: stop (for the network p_default, which is made anew) after 1
  4. Container p-db-1: stop (for the network p_default, which is made anew) after 1, 2, 3
  5. Network p_default: remove (its configuration has changed) after 2, 3, 4
  6. Network p_default: create (its configuration has changed) after 5
  7. Container p-db-1: recreate (the network p_default is made anew) after 1, 6
  8. Container p-db-1: start (it is to run) after 7
  9. Container p-web-2: remove (1 of web are wanted) after 3
 10. Container p-web-1: recreate (the network p_default is made anew) after 1, 6
 11. Container p-web-1: start (it is to run) after 8, 10
"
    );
    let strangers = ["other".to_owned(), "run".to_owned()];
    there.observed.strangers.insert("p_default".to_owned(), strangers.into());
    let refused = "network p_default is not what the compose file says and has to be made anew, but containers are on \
                   it that this does not change: other, run: stop them with: rbuild stop other run";
    assert_eq!(there.up(&now, &Up::default()), refused);
    there.observed.strangers.clear();
    // One of `run`, and one of a service that is not in the project any more, are left alone.
    for (label, value) in [(labels::ONEOFF, "True"), (labels::SERVICE, "gone")] {
        let mut there = There {
            observed: there.observed.clone(),
            _store: tempfile::tempdir().expect("a folder"),
        };
        there.instance(1).record.config.labels.insert(label.to_owned(), value.to_owned());
        let text = there.up(&now, &Up::default());
        assert!(text.contains("does not change: p-web-1: stop"), "{text}");
        let wishes = Up { remove_orphans: true, ..Up::default() };
        let text = there.up(&now, &wishes);
        let removed = "Container p-web-1: remove (no service of the project has it) after";
        assert_eq!(text.contains(removed), label == labels::SERVICE, "{text}");
    }
}

#[test]
fn an_image_that_is_built_on_the_way_decides_later() {
    let project = project("services: {a: {image: x, build: .}, b: {image: y}}");
    let there = There::of(&project, &["a/1", "b/1"]);
    let wishes = crate::images::Wishes { build: true, ..Default::default() };
    assert_eq!(
        there.up(&project, &Up { images: wishes, ..Up::default() }),
        "  1. Image x: build (a build was asked for)
  2. Container p-a-1: recreate if its image changes (its image may be another one then) after 1
  3. Container p-a-1: start (it is to run) after 2
"
    );
}

#[test]
fn a_wait_is_shared_and_only_made_for_who_starts() {
    let project = project(
        "services:
  db: {image: x}
  a: {image: x, depends_on: {db: {condition: service_healthy}}}
  b: {image: x, depends_on: {db: {condition: service_healthy}}}
",
    );
    let there = There::of(&project, &["db/1", "a/1"]);
    assert_eq!(
        there.up(&project, &Up::default()),
        "  1. Service db: wait until it is healthy (another service depends on it)
  2. Container p-b-1: create (it is not there)
  3. Container p-b-1: start (it is new) after 1, 2
"
    );
    assert_eq!(There::of(&project, &["db/1", "a/1", "b/1"]).up(&project, &Up::default()), "");
}

#[test]
fn who_is_restarted_with_what_it_depends_on_is() {
    let of = |command: &str| {
        project(&format!(
            "services:
  db: {{image: x, command: {command}}}
  web: {{image: x, depends_on: {{db: {{condition: service_started, restart: true}}}}}}
"
        ))
    };
    let there = There::of(&of("one"), &["db/1", "web/1"]);
    assert_eq!(
        there.up(&of("two"), &Up::default()),
        "  1. Container p-db-1: recreate (its command has changed)
  2. Container p-db-1: start (it is to run) after 1
  3. Container p-web-1: restart if what it depends on is recreated (it says so of db) after 2
"
    );
    let mut more = of("one");
    more.services.get_mut("db").expect("db").scale = Some(2);
    let plan = there.up(&more, &Up::default());
    assert!(plan.contains("p-db-2: create") && !plan.contains("p-web-1"), "{plan}");
}

#[test]
fn who_shares_a_network_with_a_new_container_is_new_too() {
    let of = |command: &str| {
        project(&format!(
            "services: {{vpn: {{image: x, command: {command}}}, app: {{image: x, network_mode: 'service:vpn'}}}}"
        ))
    };
    let mut there = There::of(&of("one"), &["vpn/1", "app/1"]);
    assert_eq!(there.up(&of("one"), &Up::default()), "");
    let plan = there.up(&of("two"), &Up::default());
    assert!(
        plan.contains("p-app-1: recreate if its image changes (what it shares may be another"),
        "{plan}"
    );
    there.instance(1).record.host_config.network_mode = "container:gone".to_owned();
    let plan = there.up(&of("one"), &Up::default());
    assert!(
        plan.contains("p-app-1: recreate (the container of vpn, whose network it shares"),
        "{plan}"
    );
}

#[test]
fn who_shares_with_a_service_that_is_not_selected_stays() {
    let mut project = project(
        "services: {vpn: {image: x}, app: {image: x, network_mode: 'service:vpn', volumes_from: [vpn]}}",
    );
    let mut there = There::of(&project, &["vpn/1", "app/1"]);
    assert_eq!(there.up(&project, &Up::default()), "");
    project.select_alone(&["app".to_owned()]).expect("app");
    assert_eq!(there.up(&project, &Up::default()), "");
    there.instance(1).record.host_config.volumes_from = vec!["gone".to_owned()];
    let plan = there.up(&project, &Up::default());
    assert!(plan.contains("(the container of vpn, whose volumes it has, is made anew)"), "{plan}");
}

#[test]
fn numbers_stay_low_and_orphans_go_if_that_is_asked_for() {
    let mut project = project(PAIR);
    let there = There::of(&project, &["db/1", "web/1", "web/2", "web/4", "old/1"]);
    project.services.get_mut("web").expect("web").scale = Some(2);
    let plan = there.up(&project, &Up::default());
    assert!(plan.starts_with("! Found orphan containers ([p-old-1])"), "{plan}");
    assert!(plan.contains("Container p-web-4: remove (2 of web are wanted)"), "{plan}");
    assert!(!plan.contains("p-web-2"), "{plan}");
    let plan = there.up(&project, &Up { remove_orphans: true, ..Up::default() });
    assert!(
        plan.contains("Container p-old-1: remove (no service of the project has it)"),
        "{plan}"
    );
    project.services.get_mut("web").expect("web").scale = Some(4);
    let plan = there.up(&project, &Up { ignore_orphans: true, ..Up::default() });
    assert_eq!(
        plan,
        "  1. Container p-web-5: create (it is not there)
  2. Container p-web-5: start (it is new) after 1
"
    );
}

#[test]
fn what_was_asked_for_comes_before_what_has_changed() {
    let project = project(PAIR);
    let there = There::of(&project, &["db/1", "web/1"]);
    let named = vec!["web".to_owned()];
    let plan = there.up(&project, &Up { named, recreate: Recreate::Always, ..Up::default() });
    assert!(plan.contains("p-web-1: recreate (it was asked for)"), "{plan}");
    assert!(!plan.contains("p-db-1"), "{plan}");
    let changed = self::project("services: {db: {image: x, user: me}, web: {image: x}}");
    let never = Up { recreate: Recreate::Never, ..Up::default() };
    assert_eq!(there.up(&changed, &never), "");
}

#[test]
fn who_says_so_is_restarted_with_what_it_depends_on_when_that_is_well_again() {
    let project = project(
        "services:
  app: {image: x, depends_on: {db: {condition: service_healthy, restart: true}}}
  db: {image: x}
  edge: {image: x, depends_on: {app: {condition: service_started, restart: true}}}
  side: {image: x, network_mode: 'service:db'}
  web: {image: x, depends_on: [db]}
",
    );
    let there = There::of(&project, &["app/1", "app/2", "db/1", "edge/1", "side/1", "web/1"]);
    let of = |project: Option<&Project>, which: Which<'_>| {
        restart(project, &there.observed, which).expect("a plan").to_string()
    };
    let names = ["db".to_owned()];
    let expected = "  1. Container p-db-1: stop (it is restarted)
  2. Container p-db-1: start (it is restarted) after 1
  3. Service db: wait until it is healthy (another service depends on it) after 2
  4. Container p-app-1: stop (it is restarted) after 2, 3
  5. Container p-app-1: start (it is restarted) after 4
  6. Container p-app-2: stop (it is restarted) after 2, 3
  7. Container p-app-2: start (it is restarted) after 6
  8. Container p-edge-1: stop (it is restarted) after 2, 3, 5, 7
  9. Container p-edge-1: start (it is restarted) after 8
 10. Container p-side-1: stop (it is restarted) after 2
 11. Container p-side-1: start (it is restarted) after 10
";
    assert_eq!(of(Some(&project), Which::WithDependents(&names)), expected);
    // Labels say the same, but not who can do without.
    assert_eq!(of(None, Which::WithDependents(&names)), expected);
    let alone = "  1. Container p-db-1: stop (it is restarted)
  2. Container p-db-1: start (it is restarted) after 1
";
    assert_eq!(of(Some(&project), Which::Only(&names)), alone);
    let all = of(Some(&project), Which::WithDependents(&[]));
    let web = "
 12. Container p-web-1: stop (it is restarted) after 2
 13. Container p-web-1: start (it is restarted) after 12
";
    assert_eq!(all, format!("{}{web}", expected.trim_end()));
    let without = There::of(&project, &["app/1"]);
    let refused = restart(Some(&project), &without.observed, Which::WithDependents(&names));
    assert_eq!(
        refused.expect_err("it waits for what is not there").to_string(),
        "service \"app\" depends on \"db\", which has no container: make it with: rcompose up db"
    );
}

#[test]
fn who_is_started_waits_for_what_it_depends_on() {
    let project = project(
        "services:
  app: {image: x, depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}}
  db: {image: x}
  job: {image: x}
  other: {image: x}
  tool: {image: x, profiles: [tools]}
",
    );
    let mut there = There::of(&project, &["app/1", "db/1", "job/1", "other/1", "tool/1"]);
    for instance in &mut there.observed.containers {
        instance.state.status = Status::Exited;
    }
    let of = |project: Option<&Project>, names: &[&str], wait: bool| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        start(project, &there.observed, &names, wait).expect("a plan").to_string()
    };
    let app = "  1. Container p-db-1: start (it was asked for)
  2. Container p-job-1: start (it was asked for)
  3. Service db: wait until it is healthy (another service depends on it) after 1
  4. Service job: wait until it has completed (another service depends on it) after 2
  5. Container p-app-1: start (it was asked for) after 1, 2, 3, 4
";
    assert_eq!(of(Some(&project), &["app"], false), app);
    assert_eq!(of(None, &["app"], false), app);
    let all = of(Some(&project), &[], true);
    let rest = "  6. Container p-other-1: start (it was asked for)
  7. Service app: wait until it is healthy (--wait) after 1, 2, 3, 4, 5
  8. Service db: wait until it is healthy (--wait) after 1
  9. Service job: wait until it has completed (--wait) after 2
 10. Service other: wait until it is healthy (--wait) after 6
";
    assert_eq!(
        all,
        format!("{app}{rest}"),
        "what is of a profile that is not enabled is left alone"
    );
    assert!(of(None, &[], false).contains("p-tool-1: start"));
}

#[test]
fn what_others_depend_on_goes_last() {
    let project = project(PAIR);
    let there = There::of(&project, &["db/1", "web/1"]);
    let expected = "  1. Container p-web-1: stop (down)
  2. Container p-db-1: stop (down) after 1
  3. Container p-db-1: remove (down) after 2
  4. Container p-web-1: remove (down) after 1
  5. Network p_default: remove (down) after 3, 4
";
    let down = |project: Option<&Project>, wishes: &Down| {
        teardown::down(project, "p", &there.observed, wishes).to_string()
    };
    assert_eq!(down(Some(&project), &Down::default()), expected);
    // Labels say the same.
    assert_eq!(down(None, &Down::default()), expected);
    let named = Down { named: vec!["web".to_owned()], ..Down::default() };
    assert_eq!(
        down(Some(&project), &named),
        "  1. Container p-web-1: stop (down)\n  2. Container p-web-1: remove (down) after 1\n"
    );
}
