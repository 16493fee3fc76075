//! Images made by hand, out of layers that no well-behaved program would write: an OCI layout in a folder.
//!
//! A layer is a text with one entry a line: `path: content`, `path/`, `path -> symbolic link`, `path => hard link`.

use std::path::Path;

use serde_json::{Value, json};

/// Writes an OCI layout with one image of these layers.
pub(crate) fn write_layout(folder: &Path, layers: &[Vec<u8>]) {
    fs_err::create_dir_all(folder.join("blobs/sha256")).expect("make the layout");
    let blob = |media: &str, bytes: &[u8]| -> Value {
        let digest = sha256(bytes);
        fs_err::write(folder.join("blobs/sha256").join(&digest), bytes).expect("write a blob");
        json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layer = |layer: &Vec<u8>| blob("application/vnd.oci.image.layer.v1.tar", layer);
    let layers: Vec<Value> = layers.iter().map(layer).collect();
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = json!({
        "architecture": arch, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
    });
    let manifest =
        blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs_err::write(folder.join("index.json"), index.to_string()).expect("write the index");
    fs_err::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("write the marker");
}

/// The tar of a layer's text, in its order.
pub(crate) fn layer(text: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    for line in super::unindent(text).lines() {
        if let Some((path, target)) = line.split_once(" -> ") {
            entry(&mut tar, path, b'2', 0o777, target, "");
        } else if let Some((path, target)) = line.split_once(" => ") {
            entry(&mut tar, path, b'1', 0o644, target, "");
        } else if let Some((path, content)) = line.split_once(": ") {
            entry(&mut tar, path, b'0', 0o644, "", content);
        } else if line.ends_with('/') {
            entry(&mut tar, line, b'5', 0o755, "", "");
        } else {
            entry(&mut tar, line, b'0', 0o644, "", "");
        }
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// One ustar header and its content. POSIX pax, "ustar Interchange Format".
fn entry(tar: &mut Vec<u8>, path: &str, kind: u8, mode: u32, target: &str, content: &str) {
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, format!("{:011o}\0", 1_000_000_000).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(header);
    tar.extend(content.as_bytes());
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// The SHA-256 of bytes in hex, by the program that others trust.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let printed = super::finish(std::process::Command::new("sha256sum"), Some(bytes)).ok();
    printed.split(' ').next().expect("sha256sum prints a sum").to_owned()
}
