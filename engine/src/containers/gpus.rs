//! `--gpus`: what was asked for in the shape of docker's API, and the devices that it means here.

use super::record::DeviceRequest;
use super::{Error, Result};

/// What a device must be capable of to be a GPU.
const GPU: &str = "gpu";

/// The names by which the CDI knows the GPUs.
const VENDOR: &str = "nvidia.com/gpu";

impl DeviceRequest {
    /// Reads `--gpus`: `all`, a number, or `key=value` pairs with commas between, in double quotes
    /// where a value has commas itself.
    pub fn gpus(text: &str) -> Result<DeviceRequest> {
        let mut request = DeviceRequest::default();
        let (mut seen, mut counted) = (Vec::new(), false);
        for field in fields(text) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field.as_str(), None),
            };
            let name = if value.is_none() { "count" } else { key };
            if seen.contains(&name.to_owned()) {
                return refused(format!("gpu request key '{name}' can be specified only once"));
            }
            seen.push(name.to_owned());
            let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
            match (key, value) {
                (text, None) | ("count", Some(text)) => {
                    (request.count, counted) = (count(text)?, true);
                }
                ("driver", Some(driver)) => driver.clone_into(&mut request.driver),
                ("device", Some(ids)) => request.device_ids = words(ids),
                ("capabilities", Some(names)) => {
                    let mut names = words(names);
                    names.push(GPU.to_owned());
                    request.capabilities = vec![names];
                }
                ("options", Some(pairs)) => {
                    let pair = |pair: String| match pair.split_once('=') {
                        Some((name, value)) => (name.to_owned(), value.to_owned()),
                        None => (pair, String::new()),
                    };
                    request.options = Some(fields(pairs).into_iter().map(pair).collect());
                }
                (key, Some(_)) => return refused(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        if !counted && request.device_ids.is_empty() {
            request.count = 1;
        }
        request.options.get_or_insert_default();
        if request.capabilities.is_empty() {
            request.capabilities = vec![vec![GPU.to_owned()]];
        }
        Ok(request)
    }

    /// The devices it means, by their qualified names.
    pub(super) fn device_names(&self) -> Result<Vec<String>> {
        if self.driver == "cdi" {
            return Ok(self.device_ids.clone());
        }
        let is_gpu = self.capabilities.iter().flatten().any(|name| name == GPU);
        if !is_gpu || !matches!(self.driver.as_str(), "" | "nvidia") {
            // Docker's words.
            return refused(format!(
                "could not select device driver {:?} with capabilities: {:?}",
                self.driver, self.capabilities
            ));
        }
        let name = |id: &dyn std::fmt::Display| format!("{VENDOR}={id}");
        Ok(match self.count {
            _ if !self.device_ids.is_empty() => self.device_ids.iter().map(|id| name(id)).collect(),
            count if count < 0 => vec![name(&"all")],
            count => (0..count).map(|number| name(&number)).collect(),
        })
    }
}

fn refused<T>(text: String) -> Result<T> {
    Err(Error::Refused(text))
}

fn count(text: &str) -> Result<i64> {
    match text {
        "all" => Ok(-1),
        text => text
            .parse()
            .or_else(|_| refused(format!("invalid --gpus: count must be an integer: {text:?}"))),
    }
}

/// The fields of a line of CSV.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for char in line.chars() {
        match char {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            char => fields.last_mut().expect("there is a field from the start").push(char),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str, names: &[&str]) {
        let request = DeviceRequest::gpus(text).expect(text);
        assert_eq!(serde_json::to_string(&request).expect("print"), shown, "{text}");
        assert_eq!(request.device_names().expect(text), names, "{text}");
    }

    #[test]
    fn gpus_are_shown_as_docker_does_and_are_devices_of_a_vendor() {
        let shape = |count: i64, ids: &str, capabilities: &str| {
            format!(
                "{{\"Driver\":\"\",\"Count\":{count},\"DeviceIDs\":{ids},\
                 \"Capabilities\":[[{capabilities}]],\"Options\":{{}}}}"
            )
        };
        let gpu = "\"gpu\"";
        check("all", &shape(-1, "null", gpu), &["nvidia.com/gpu=all"]);
        check("2", &shape(2, "null", gpu), &["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        check("count=1", &shape(1, "null", gpu), &["nvidia.com/gpu=0"]);
        let two = ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-x"];
        check("\"device=0,GPU-x\"", &shape(0, "[\"0\",\"GPU-x\"]", gpu), &two);
        let more = "\"capabilities=compute,utility\"";
        let capable = shape(1, "null", "\"compute\",\"utility\",\"gpu\"");
        check(more, &capable, &["nvidia.com/gpu=0"]);
    }

    #[test]
    fn what_is_no_request_for_gpus_is_refused() {
        for (text, expected) in [
            ("some", "count must be an integer"),
            ("1,count=2", "gpu request key 'count' can be specified only once"),
            ("size=2", "unexpected key 'size' in 'size=2'"),
        ] {
            let error = DeviceRequest::gpus(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let other = DeviceRequest::gpus("driver=amd,count=1").expect("a request");
        let error = other.device_names().expect_err("a driver").to_string();
        assert!(error.starts_with("could not select device driver \"amd\""), "{error}");
    }
}
