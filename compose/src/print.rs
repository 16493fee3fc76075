//! A project as text: the canonical compose file, in YAML and in the JSON of docker compose.

use serde_json::{Map, Value, json};

use crate::model::{Project, Service};

impl Project {
    /// The project as a compose file in YAML.
    pub fn to_yaml(&self) -> String {
        yaml(self)
    }

    /// The project as docker compose writes it in JSON: without `x-*` but at the top, and with what its types always have.
    pub fn to_json(&self) -> Value {
        let mut project = self.clone();
        let mut all = Map::new();
        for (name, service) in &mut project.services {
            all.insert(name.clone(), service_json(service));
        }
        let mut json = Map::new();
        macro_rules! put {
            ($($kind:ident),*) => {$(
                project.$kind.values_mut().for_each(crate::field::Field::forget_extensions);
                if !project.$kind.is_empty() {
                    json.insert(stringify!($kind).to_owned(), json!(project.$kind));
                }
            )*};
        }
        put!(networks, volumes, secrets, configs);
        json.insert("name".to_owned(), project.name.clone().into());
        json.insert("services".to_owned(), all.into());
        let networks = json.get_mut("networks").and_then(Value::as_object_mut);
        for network in networks.into_iter().flat_map(|networks| networks.values_mut()) {
            always(network, "ipam", json!({}), crate::model::Network::KEYS);
        }
        json.extend(project.extensions.clone());
        json.sort_keys();
        json.into()
    }
}

/// A value in YAML.
pub fn yaml(value: &impl serde::Serialize) -> String {
    // Lists stand deeper than their keys, and long lines are one line, as docker compose has them.
    let options = serde_saphyr::ser_options! {
        compact_list_indent: false,
        folded_wrap_chars: usize::MAX,
    };
    serde_saphyr::to_string_with_options(value, options)
        .expect("maps with text keys can be written")
}

/// A service in docker compose's JSON; its order and its nulls are part of the config hash.
pub(crate) fn service_json(service: &mut Service) -> Value {
    crate::field::Field::forget_extensions(service);
    let mut json = json!(service);
    complete(&mut json);
    let hooks = json.get_mut("pre_start").and_then(Value::as_array_mut);
    hooks.into_iter().flatten().for_each(complete);
    json
}

/// A network in docker compose's JSON.
pub(crate) fn network_json(network: &crate::model::Network) -> Value {
    let mut json = json!(network);
    always(&mut json, "ipam", json!({}), crate::model::Network::KEYS);
    json
}

/// What docker compose's types write though it is empty.
fn complete(service: &mut Value) {
    always(service, "command", Value::Null, Service::KEYS);
    always(service, "entrypoint", Value::Null, Service::KEYS);
    if let Some(deploy) = service.get_mut("deploy") {
        always(deploy, "resources", json!({}), crate::model::Deploy::KEYS);
        always(deploy, "placement", json!({}), crate::model::Deploy::KEYS);
    }
    for key in ["post_start", "pre_stop"] {
        for hook in service.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            always(hook, "command", Value::Null, crate::model::Hook::KEYS);
        }
    }
    let watches = service.get_mut("develop").and_then(|develop| develop.get_mut("watch"));
    for watch in watches.and_then(Value::as_array_mut).into_iter().flatten() {
        always(watch, "exec", json!({"command": null}), crate::model::Trigger::KEYS);
    }
    if let Some(blkio) = service.get_mut("blkio_config").and_then(Value::as_object_mut) {
        for devices in blkio.values_mut().filter_map(Value::as_array_mut).flatten() {
            capitalize(devices);
        }
    }
}

/// Gives an object a value that it has not, at the place where its type has it.
fn always(object: &mut Value, key: &str, value: Value, order: &[&str]) {
    let Some(map) = object.as_object_mut().filter(|map| !map.contains_key(key)) else {
        return;
    };
    let place = |key: &str| order.iter().position(|known| *known == key);
    let at = map.keys().position(|other| place(other) > place(key)).unwrap_or(map.len());
    map.shift_insert(at, key.to_owned(), value);
}

/// Limits of devices have no names of their own in that JSON.
fn capitalize(device: &mut Value) {
    if let Some(map) = device.as_object_mut() {
        let old = std::mem::take(map);
        for (key, value) in old {
            let mut name = key;
            name[..1].make_ascii_uppercase();
            map.insert(name, value);
        }
    }
}
