//! The reference's tables of inputs and results, for tests: run where `RBUILD_CONFORMANCE` names their folder.

use serde_json::Value;

/// Runs a check on every row of a table; what it returns is a disagreement. A table that was asked for must be there.
pub(crate) fn rows(table: &str, check: impl Fn(&Value) -> Option<String>) {
    let Some(folder) = std::env::var_os("RBUILD_CONFORMANCE") else {
        return;
    };
    let path = std::path::Path::new(&folder).join(table);
    let text = fs_err::read_to_string(&path).expect("the table is there");
    let mut count = 0;
    let mut wrong = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("each line is JSON");
        count += 1;
        if let Some(disagreement) = check(&row) {
            wrong.push(format!("{line}\n    {disagreement}"));
        }
    }
    assert!(count > 0, "{table} has no rows");
    assert!(wrong.is_empty(), "{} of {count} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Compares with `expected`, or with any error where the row has `error_contains`.
pub(crate) fn compare(row: &Value, found: Result<Value, String>) -> Option<String> {
    let refuses = row.get("error_contains").or(row.get("error"));
    match (refuses, &found) {
        (Some(_), Err(_)) => None,
        (None, Ok(value)) if Some(value) == row.get("expected") => None,
        _ => Some(format!("found {found:?}")),
    }
}
