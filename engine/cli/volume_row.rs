//! Volumes as the rows of a list: docker's fields. Both programs have this module.

use engine::volume::api::Volume;
use serde_json::{Value, json};

use crate::format::Listing;

const HEADINGS: &[(&str, &str)] = &[
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Group", "GROUP"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
];

/// The list.
pub(crate) const VOLUMES: Listing = Listing {
    table: "{{.Driver}}\t{{.Name}}",
    headings: HEADINGS,
    type_name: "*formatter.volumeContext",
};

/// A row in the fields of docker's volumes.
pub(crate) fn row(volume: &Volume) -> Value {
    let labels = volume.labels.iter().flatten();
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "Availability": "N/A",
        "Driver": volume.driver,
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": volume.scope,
        "Size": "N/A",
        "Status": "N/A",
    })
}
