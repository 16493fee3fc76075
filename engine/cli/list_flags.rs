//! What all lists of docker's are told about how they look.

use clap::Args;

/// How a list is printed.
#[derive(Args)]
pub(crate) struct ListFlags {
    /// Print ids or names only
    #[arg(short, long)]
    quiet: bool,
    /// table, table TEMPLATE, json or a Go template
    #[arg(long)]
    format: Option<String>,
}

impl ListFlags {
    /// The format asked for; `short` is the template of all that `--quiet` leaves of a row.
    pub(crate) fn format<'a>(&'a self, short: &'a str) -> Option<&'a str> {
        match self.format.as_deref() {
            None | Some("table") if self.quiet => Some(short),
            format => format,
        }
    }

    /// Whether a field is asked for by its name.
    pub(crate) fn asks_for(&self, field: &str) -> bool {
        self.format.as_ref().is_some_and(|format| format.contains(field))
    }
}
