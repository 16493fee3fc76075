//! BuildKit's table of build checks, run where `RBUILD_CONFORMANCE` names its folder.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checks::{BaseConfig, CheckOptions, Report, Scope, check};
use crate::lines_conformance::rows;
use crate::{ignore, lines, platform};

fn run(row: &Value) -> Report {
    let file = lines::parse(row["dockerfile"].as_str().unwrap().as_bytes()).unwrap();
    let args = row["build_args"].as_object().unwrap().iter();
    let build_args: BTreeMap<String, String> =
        args.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    let ignores = ignore::parse(row["dockerignore"].as_str().unwrap_or_default().as_bytes());
    let platform = platform::parse("linux/amd64").unwrap();
    let options = CheckOptions {
        build_args: &build_args,
        target: None,
        // The table holds what a build of the last stage warns of.
        scope: Scope::Target,
        build_platform: &platform,
        target_platform: &platform,
        ignores: &ignores,
    };
    check(&file, &options, &mut |_, _| {
        Some(BaseConfig {
            env: vec!["PATH=/bin".to_owned()],
            shell: Vec::new(),
            onbuild: Vec::new(),
            platform: platform.clone(),
        })
    })
}

#[test]
fn warnings_are_those_of_buildkit() {
    for row in rows("buildkit-lint/lint.jsonl") {
        let report = run(&row);
        let error = report.error.map(|error| error.to_string());
        assert_eq!(error.as_deref(), row["build_error"].as_str(), "{row}");
        // Two rows say "?" where the table's own expectation is computed: see the test below.
        let Some(expected) =
            row["warnings"].as_array().filter(|list| list.iter().all(Value::is_object))
        else {
            continue;
        };
        let found = report.warnings.iter().map(|warning| {
            serde_json::json!({
                "rule": warning.rule,
                "description": warning.description,
                "detail": warning.detail,
                "line": warning.lines[0].first,
                "level": warning.level,
                "url": warning.url,
            })
        });
        assert_eq!(sorted(found.collect()), sorted(expected.clone()), "{row}");
    }
}

fn sorted(mut warnings: Vec<Value>) -> Vec<Value> {
    for warning in &mut warnings {
        warning.sort_all_objects();
    }
    warnings.sort_by_key(Value::to_string);
    warnings
}
