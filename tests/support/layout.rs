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
            entry(&mut tar, path.as_bytes(), b'2', 0o777, target, b"");
        } else if let Some((path, target)) = line.split_once(" => ") {
            entry(&mut tar, path.as_bytes(), b'1', 0o644, target, b"");
        } else if let Some((path, content)) = line.split_once(": ") {
            entry(&mut tar, path.as_bytes(), b'0', 0o644, "", content.as_bytes());
        } else if line.ends_with('/') {
            entry(&mut tar, line.as_bytes(), b'5', 0o755, "", b"");
        } else {
            entry(&mut tar, line.as_bytes(), b'0', 0o644, "", b"");
        }
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// The tar of one empty file whose name is of any bytes and any length, which a pax header says.
pub(crate) fn layer_of_a_name(name: &[u8]) -> Vec<u8> {
    let rest = [b" path=", name, b"\n"].concat();
    // The record's length counts its own digits.
    let length = (1..)
        .map(|digits| rest.len() + digits)
        .find(|length| length.to_string().len() + rest.len() == *length);
    let record = [length.expect("some length fits").to_string().as_bytes(), &rest].concat();
    let mut tar = Vec::new();
    entry(&mut tar, b"pax", b'x', 0o644, "", &record);
    entry(&mut tar, b"short", b'0', 0o644, "", b"");
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// The tar of one device, which is the host's memory or its kind.
pub(crate) fn layer_of_a_device(name: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    entry(&mut tar, name.as_bytes(), b'3', 0o666, "", b"");
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// One ustar header and its content. POSIX pax, "ustar Interchange Format".
fn entry(tar: &mut Vec<u8>, path: &[u8], kind: u8, mode: u32, target: &str, content: &[u8]) {
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path);
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, format!("{:011o}\0", 1_000_000_000).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    if kind == b'3' {
        // Its number: 1:3, which is /dev/null.
        put(329, b"0000001\0");
        put(337, b"0000003\0");
    }
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(header);
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// The SHA-256 of bytes in hex, by the program that others trust.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let printed = super::finish(std::process::Command::new("sha256sum"), Some(bytes)).ok();
    printed.split(' ').next().expect("sha256sum prints a sum").to_owned()
}
