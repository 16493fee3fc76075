//! What lists print: docker's tables, `--format` with Go templates, and JSON lines.
//!
//! A row is a JSON object whose keys are the names that templates use. Knows nothing of what is
//! listed; `ui` prints the text.

use std::time::Duration;

use anyhow::Context;
use engine::template::{Template, TemplateError, unescape};
use engine::units;
use serde_json::{Map, Value};

/// How one kind of list looks unless `--format` says otherwise.
pub(crate) struct Listing {
    /// The template of a row, its cells divided by tabs.
    pub(crate) table: &'static str,
    /// The heading of each field that a table may show.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// What docker calls the type of a row.
    pub(crate) type_name: &'static str,
}

/// How a template says that a row has no such field.
const NO_ENTRY: &str = "map has no entry for key ";

impl Listing {
    /// Prints rows as `--format` asks for: `table`, `table TEMPLATE`, `json` or a template. A field
    /// that no row of this kind has is an error, as soon as there is a row.
    pub(crate) fn text(&self, format: Option<&str>, rows: &[Value]) -> anyhow::Result<String> {
        let (template, headed) = match format.unwrap_or("table") {
            "table" => (self.table.to_owned(), true),
            "json" => ("{{json .}}".to_owned(), false),
            given => match given.strip_prefix("table") {
                Some(rest) => (unescape(rest.trim_matches(' ')), true),
                None => (unescape(given.trim_matches(' ')), false),
            },
        };
        let template = Template::parse(&template)?;
        rows.iter().try_for_each(|row| self.check_fields(&template, row))?;
        let mut text = String::new();
        if headed {
            text += &template.render_headings(&self.heading())?;
            text.push('\n');
        }
        for row in rows {
            text += &template.render(row)?;
            text.push('\n');
        }
        Ok(if headed { aligned(&text, 10, 3) } else { text })
    }

    /// Refuses a template that asks for what there is in no row.
    pub(crate) fn check_fields(
        &self,
        template: &Template,
        row: &Value,
    ) -> Result<(), TemplateError> {
        let mut row = row.clone();
        if let Some(fields) = row.as_object_mut() {
            // With something beside texts it is no map of texts, in which a field may be missing.
            fields.insert(String::new(), Value::from(0));
        }
        match template.render(&row) {
            Err(TemplateError::Render { line, column, at, message }) => {
                let Some(field) = message.strip_prefix(NO_ENTRY) else { return Ok(()) };
                let (field, type_name) = (field.trim_matches('"'), self.type_name);
                let message = format!("can't evaluate field {field} in type {type_name}");
                Err(TemplateError::Render { line, column, at, message })
            }
            // Whatever else is wrong is said by who prints the row.
            _ => Ok(()),
        }
    }

    /// A row of which nothing is known.
    pub(crate) fn empty_row(&self) -> Value {
        let field = |(field, _): &(&str, &str)| ((*field).to_owned(), Value::from(""));
        Value::Object(self.headings.iter().map(field).collect::<Map<_, _>>())
    }

    fn heading(&self) -> Value {
        let heading = |(field, heading): &(&str, &str)| ((*field).to_owned(), (*heading).into());
        Value::Object(self.headings.iter().map(heading).collect::<Map<_, _>>())
    }
}

/// Prints one value by a template, `json` standing for the whole value in one line. A field that
/// Go has and the JSON leaves out, or spells otherwise, is found in `full`.
pub(crate) fn value(format: &str, json: &Value, full: &Value) -> anyhow::Result<String> {
    if format == "json" {
        return serde_json::to_string(json).context("print JSON");
    }
    let template = Template::parse(format)?;
    Ok(template.render(json).or_else(|_| template.render(full))?)
}

/// Pads the cells of lines, divided by tabs, to columns: each as wide as its widest cell and the
/// padding, and at least `narrowest`; what is behind a line's last tab is as wide as it is.
pub(crate) fn aligned(text: &str, narrowest: usize, padding: usize) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        for (column, cell) in cells.iter().take(cells.len() - 1).enumerate() {
            if widths.len() == column {
                widths.push(narrowest);
            }
            widths[column] = widths[column].max(cell.chars().count() + padding);
        }
    }
    let mut padded = String::new();
    for line in text.lines() {
        let (cells, last) =
            line.rsplit_once('\t').map_or((None, line), |(cells, last)| (Some(cells), last));
        for (cell, width) in cells.into_iter().flat_map(|cells| cells.split('\t')).zip(&widths) {
            padded += &format!("{cell:<width$}");
        }
        padded += last;
        padded.push('\n');
    }
    padded
}

/// Prints bytes as docker's lists do: `4.43MB`.
pub(crate) fn size(bytes: u64) -> String {
    units::human_size_with(bytes as f64, 3)
}

/// Reads RFC 3339 as seconds since 1970.
pub(crate) fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Prints how long ago something was: `3 weeks ago`.
pub(crate) fn since(seconds: i64) -> String {
    let ago = u64::try_from(now() - seconds).unwrap_or_default();
    format!("{} ago", units::human_duration(Duration::from_secs(ago)))
}

/// Prints a time as Go prints one: `2024-05-06 07:08:09 +0000 UTC`.
pub(crate) fn go_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
        .unwrap_or_default()
}

/// Shortens a text to so many characters, the last of them an ellipsis.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PETS: Listing = Listing {
        table: "{{.Name}}\t{{.Kind}}\t{{.Age}}",
        headings: &[("Name", "NAME"), ("Kind", "KIND"), ("Age", "AGE")],
        type_name: "*formatter.petContext",
    };

    fn check(format: Option<&str>, expected: &str) {
        let rows = [
            json!({"Age": "3", "Kind": "<none>", "Name": "Rex"}),
            json!({"Age": "12 years", "Kind": "a very old cat", "Name": "Ä"}),
        ];
        assert_eq!(PETS.text(format, &rows).expect("text"), expected, "{format:?}");
    }

    #[test]
    fn lists_look_as_docker_prints_them() {
        let table = "NAME      KIND             AGE\n\
                     Rex       <none>           3\n\
                     Ä         a very old cat   12 years\n";
        check(None, table);
        check(Some("table"), table);
        check(
            Some("table {{.Age}}\\t{{.Name}}"),
            "AGE        NAME\n3          Rex\n12 years   Ä\n",
        );
        check(Some("{{.Name}}:\\t{{upper .Kind}}"), "Rex:\t<NONE>\nÄ:\tA VERY OLD CAT\n");
        check(
            Some("json"),
            "{\"Age\":\"3\",\"Kind\":\"<none>\",\"Name\":\"Rex\"}\n\
             {\"Age\":\"12 years\",\"Kind\":\"a very old cat\",\"Name\":\"Ä\"}\n",
        );
        let labels = "table {{.Label \"com.example.some-name_here\"}}";
        assert_eq!(PETS.text(Some(labels), &[]).expect("text"), "some name here\n");
        assert!(PETS.text(Some("{{"), &[]).is_err());
        // Where there is no row, nobody has looked for a field.
        assert_eq!(PETS.text(Some("{{.Colour}}"), &[]).expect("text"), "");
        for (format, column) in [("{{.Colour}}", 2), ("table {{.Name}} {{upper .Colour}}", 18)] {
            let refused = PETS.text(Some(format), &[PETS.empty_row()]).expect_err("refused");
            let expected = format!(
                "template parsing error: template: :1:{column}: executing \"\" at <.Colour>: can't \
                 evaluate field Colour in type *formatter.petContext"
            );
            assert_eq!(refused.to_string(), expected);
        }
        assert_eq!(PETS.text(None, &[]).expect("text"), "NAME      KIND      AGE\n");
    }

    #[test]
    fn what_the_json_leaves_out_is_found_in_the_full_value() {
        let (json, full) = (
            json!({"Id": "x", "Size": 1}),
            json!({"Id": "x", "ID": "x", "Size": 1, "Shell": null}),
        );
        for (format, expected) in [
            ("{{.Id}}", "x"),
            ("{{.ID}}", "x"),
            ("{{json .}}", "{\"Id\":\"x\",\"Size\":1}"),
            ("json", "{\"Id\":\"x\",\"Size\":1}"),
            ("{{json .Shell}}", "null"),
        ] {
            assert_eq!(value(format, &json, &full).expect("text"), expected, "{format}");
        }
        assert!(value("{{.Missing}}", &json, &full).is_err());
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("abcde", 5), "abcde");
        assert_eq!(ellipsis("äbcdef", 5), "äbcd…");
    }

    #[test]
    fn times_are_read_and_printed() {
        assert_eq!(seconds("2024-05-06T07:08:09.5Z"), Some(1_714_979_289));
        assert_eq!(go_time(1_714_979_289), "2024-05-06 07:08:09 +0000 UTC");
        assert_eq!(seconds("yesterday"), None);
    }
}
