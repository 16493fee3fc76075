//! One record of comma-separated values, as Go's `encoding/csv` reads it.

/// Splits a line into its fields. Errors are Go's.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let column = line.len() - rest.len();
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, column + 1)?,
            None => {
                let (field, behind) = match rest.split_once(',') {
                    Some((field, behind)) => (field, Some(behind)),
                    None => (rest, None),
                };
                if let Some(at) = field.find('"') {
                    return Err(error(column + at, "bare \" in non-quoted field"));
                }
                (field.to_owned(), behind)
            }
        };
        fields.push(field);
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(fields),
        }
    }
}

/// Reads up to the closing quote; `column` is where the field's text begins.
fn quoted_field(text: &str, column: usize) -> Result<(String, Option<&str>), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some(at) = rest.find('"') else {
            return Err(error(column + text.len(), "extraneous or missing \" in quoted-field"));
        };
        field.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.bytes().next() {
            Some(b'"') => {
                field.push('"');
                rest = &rest[1..];
            }
            Some(b',') => return Ok((field, Some(&rest[1..]))),
            None => return Ok((field, None)),
            Some(_) => {
                let at = column + text.len() - rest.len() - 1;
                return Err(error(at, "extraneous or missing \" in quoted-field"));
            }
        }
    }
}

fn error(at: usize, what: &str) -> String {
    format!("parse error on line 1, column {}: {what}", at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let found = fields(line).map_or_else(|error| error, |fields| fields.join("|"));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn fields_are_split_as_go_does() {
        check("a,b=c", "a|b=c");
        check("a,,", "a||");
        check("\"a,b\",c", "a,b|c");
        check("\"say \"\"hi\"\"\",x", "say \"hi\"|x");
        check("a=\"b\"", "parse error on line 1, column 3: bare \" in non-quoted field");
        check(
            "x,\"a\"b",
            "parse error on line 1, column 5: extraneous or missing \" in quoted-field",
        );
        check("\"a", "parse error on line 1, column 3: extraneous or missing \" in quoted-field");
    }
}
