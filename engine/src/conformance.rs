//! Reads the reference tables that tests run when `RBUILD_CONFORMANCE` names their folder.
//!
//! Knows no table; asked for and missing is a failure, not asked for is nothing.

use std::path::PathBuf;

use serde_json::Value;

/// Returns the folder `suite`, or `None` if no tables were asked for.
pub(crate) fn folder(suite: &str) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("RBUILD_CONFORMANCE")?).join(suite))
}

/// Returns the values of a table: the lines of a `.jsonl` file, or the one value of a `.json`.
pub(crate) fn rows(suite: &str, file: &str) -> Vec<Value> {
    let Some(folder) = folder(suite) else {
        return Vec::new();
    };
    let text = fs_err::read_to_string(folder.join(file)).expect("the suite is there");
    let rows = serde_json::Deserializer::from_str(&text).into_iter();
    let rows: Vec<Value> = rows.collect::<Result<_, _>>().expect("the suite is JSON");
    assert!(!rows.is_empty(), "{suite}/{file} has no rows");
    rows
}

/// Returns the strings of a JSON array; nothing for null.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().expect("a string").to_owned()).collect()
}
