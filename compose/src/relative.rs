//! Phase 13: relative paths begin at the folder of the file that says them.
//!
//! Paths are put together as text; nothing is looked up on the disk.

use crate::canonical::clean;
use crate::node::{Map, Node, Value};

/// What paths are made absolute with.
pub(crate) struct Base<'a> {
    /// The folder. Itself relative while a file is loaded on behalf of another one, which then adds its own.
    pub(crate) dir: &'a str,
    /// What `~` stands for.
    pub(crate) home: Option<&'a str>,
}

impl Base<'_> {
    /// Makes every path of a file begin here.
    pub(crate) fn resolve(&self, file: &mut Map) {
        for service in values(file, "services") {
            self.service(service);
        }
        for kind in ["configs", "secrets"] {
            for resource in values(file, kind) {
                self.change(resource.get_mut("file"), Self::maybe_windows);
            }
        }
        for volume in values(file, "volumes") {
            self.volume(volume);
        }
    }

    fn service(&self, service: &mut Node) {
        if let Some(build) = service.get_mut("build") {
            self.change(build.get_mut("context"), Self::context);
            for context in build.get_mut("additional_contexts").into_iter().flat_map(children) {
                self.change(Some(context), Self::context);
            }
            for key in build.get_mut("ssh").into_iter().flat_map(children) {
                self.change(Some(key), Self::maybe_windows);
            }
        }
        for file in service.get_mut("env_file").into_iter().flat_map(children) {
            self.change(file.get_mut("path"), Self::join);
        }
        for file in service.get_mut("label_file").into_iter().flat_map(children) {
            self.change(Some(file), Self::join);
        }
        if let Some(file) = service.get_mut("extends").and_then(|extends| extends.get_mut("file")) {
            self.change(Some(file), Self::join);
        }
        let watches = service.get_mut("develop").and_then(|develop| develop.get_mut("watch"));
        for watch in watches.into_iter().flat_map(children) {
            self.change(watch.get_mut("path"), Self::join);
        }
        for mount in service.get_mut("volumes").into_iter().flat_map(children) {
            let is_bind = mount.get("type").and_then(Node::as_text) == Some("bind");
            if let Some(source) = mount.get_mut("source").filter(|_| is_bind) {
                self.change(Some(source), Self::maybe_windows);
            }
        }
    }

    /// A volume of the local driver that is a bind mount.
    fn volume(&self, volume: &mut Node) {
        let is_local = volume.get("driver").and_then(Node::as_text) == Some("local");
        let Some(options) = volume.get_mut("driver_opts").filter(|_| is_local) else {
            return;
        };
        let is_bind = options.get("o").and_then(Node::as_text) == Some("bind");
        if let Some(device) = options.get_mut("device").filter(|_| is_bind) {
            self.change(Some(device), Self::maybe_windows);
        }
    }

    fn change(&self, node: Option<&mut Node>, how: fn(&Self, &str) -> String) {
        if let Some(Value::Text(text)) = node.map(|node| &mut node.value) {
            *text = how(self, text);
        }
    }

    /// A path of this machine.
    pub(crate) fn join(&self, path: &str) -> String {
        let path = self.expand(path);
        match path.is_empty() || path.starts_with('/') {
            true => path,
            false => clean(&format!("{}/{path}", self.dir)),
        }
    }

    /// A path that may be one of Windows.
    fn maybe_windows(&self, path: &str) -> String {
        match is_windows_absolute(path) {
            true => path.to_owned(),
            false if path.is_empty() => clean(self.dir),
            false => self.join(path),
        }
    }

    /// A build context: a folder, or what a builder fetches.
    fn context(&self, path: &str) -> String {
        const REMOTE: [&str; 6] =
            ["https://", "http://", "git://", "ssh://", "github.com/", "git@"];
        let is_remote = path.contains("://")
            || path.starts_with("service:")
            || REMOTE.iter().any(|prefix| path.starts_with(prefix));
        if is_remote { path.to_owned() } else { self.join(path) }
    }

    fn expand(&self, path: &str) -> String {
        match (path.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) => clean(&format!("{home}/{rest}")),
            _ => path.to_owned(),
        }
    }
}

fn is_windows_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    let separator = |at: usize| matches!(bytes.get(at), Some(b'\\' | b'/'));
    bytes.get(1) == Some(&b':') && separator(2) || path.starts_with("\\\\")
}

fn values<'a>(file: &'a mut Map, key: &str) -> impl Iterator<Item = &'a mut Node> {
    file.get_mut(key).into_iter().flat_map(children)
}

/// What is inside a list or a mapping.
fn children(node: &mut Node) -> Box<dyn Iterator<Item = &mut Node> + '_> {
    match &mut node.value {
        Value::List(list) => Box::new(list.iter_mut()),
        Value::Map(map) => Box::new(map.values_mut()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The way from one folder to another, both absolute and clean.
pub(crate) fn way(from: &str, to: &str) -> String {
    let parts = |path: &'_ str| {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (from, to) = (parts(from), parts(to));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - common);
    let way: Vec<&str> = up.chain(to[common..].iter().map(String::as_str)).collect();
    if way.is_empty() { ".".to_owned() } else { way.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_their_folder() {
        let base = Base { dir: "/work/app", home: Some("/home/me") };
        let rows = [
            ("./a", "/work/app/a"),
            ("../b/./c", "/work/b/c"),
            ("/x", "/x"),
            ("~/y", "/home/me/y"),
            ("C:\\z", "C:\\z"),
        ];
        for (path, expected) in rows {
            assert_eq!(base.maybe_windows(path), expected);
        }
        for path in ["https://a/b.git", "git@h:a", "service:base", "docker-image://x"] {
            assert_eq!(base.context(path), path);
        }
        assert_eq!(way("/a/b", "/a/c/d"), "../c/d");
        assert_eq!(way("/a", "/a"), ".");
    }
}
