//! BuildKit's table of stage graphs, run where `RBUILD_CONFORMANCE` names its folder.

use crate::lines;
use crate::lines_conformance::rows;
use crate::lower::{LowerError, lower};
use crate::lower_tests::{base, request};
use crate::request::Request;

fn lowered(text: &str, target: Option<&str>) -> Result<(), String> {
    let file = lines::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let request = Request { target: target.map(str::to_owned), ..request() };
    let lowered = lower(&file, &[request], &mut |name, _| Ok(base(name)));
    lowered.map(drop).map_err(|error: LowerError| error.to_string())
}

#[test]
fn stage_graphs() {
    for row in rows("buildkit-instructions/dag_errors.jsonl") {
        let text = row["dockerfile"].as_str().expect("a Dockerfile");
        let found = lowered(text, row["target"].as_str());
        assert_eq!(found.is_ok(), row["ok"] == true, "{row}: {found:?}");
        if let Some(expected) = row["error_contains"].as_str() {
            let error = found.expect_err("checked above");
            assert!(error.contains(expected), "{row}: {error}");
        }
    }
}
