//! `RUN --device`: a CDI device asked for by name.
//!
//! Knows no devices.

use crate::flags::{FieldsError, comma_fields, parse_bool};
use crate::suggest::{self, Suggestion};

/// A device that a `RUN` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its CDI name, `vendor/class=name` or `vendor/class`.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// A `--device` flag that cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// Quotes that do not match.
    #[error("failed to parse csv devices: {0}")]
    Fields(FieldsError),
    /// A field that should have a value.
    #[error("invalid field '{field}' must be a key=value pair")]
    NotAPair {
        /// The field.
        field: String,
    },
    /// A second name.
    #[error("device name already set to {name}")]
    TwoNames {
        /// The first name.
        name: String,
    },
    /// A value that is not a truth value.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A key that does not exist.
    #[error("unexpected key '{key}' in '{field}'{suggestion}")]
    Key {
        /// The key.
        key: String,
        /// The field that it stands in.
        field: String,
        /// A key that it may have meant.
        suggestion: Suggestion,
    },
}

impl Device {
    /// Reads the value of `--device`: `[name=]NAME[,required[=bool]]`.
    pub fn parse(text: &str) -> Result<Self, DeviceError> {
        let mut device = Self::default();
        for field in comma_fields(text).map_err(DeviceError::Fields)? {
            device.set(&field)?;
        }
        Ok(device)
    }

    fn set(&mut self, field: &str) -> Result<(), DeviceError> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => self.required = true,
            ("required", Some(value)) => {
                let invalid = || DeviceError::Value { key: key.clone(), value: value.to_owned() };
                self.required = parse_bool(value).ok_or_else(invalid)?;
            }
            ("name", Some(_)) if !self.name.is_empty() => {
                return Err(DeviceError::TwoNames { name: self.name.clone() });
            }
            ("name", Some(value)) => value.clone_into(&mut self.name),
            // A device's own name has an equals sign in it.
            _ if self.name.is_empty() => field.clone_into(&mut self.name),
            (_, None) => {
                return Err(DeviceError::NotAPair { field: field.to_owned() });
            }
            (_, Some(_)) => {
                let suggestion = suggest::nearest(&key, ["name", "required"]);
                return Err(DeviceError::Key { key, field: field.to_owned(), suggestion });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_a_name_and_may_be_required() {
        let check = |text: &str, expected: Result<(&str, bool), &str>| {
            let found = Device::parse(text).map(|device| (device.name, device.required));
            let expected = expected.map(|(name, required)| (name.to_owned(), required));
            assert_eq!(
                found.map_err(|error| error.to_string()),
                expected.map_err(str::to_owned),
                "{text}"
            );
        };
        check("vendor.com/gpu", Ok(("vendor.com/gpu", false)));
        check("vendor.com/gpu=all,required=1", Ok(("vendor.com/gpu=all", true)));
        check("REQUIRED,name=a=b", Ok(("a=b", true)));
        check("a,b", Err("invalid field 'b' must be a key=value pair"));
        check("a,nam=b", Err("unexpected key 'nam' in 'nam=b' (did you mean name?)"));
        check("a,name=b", Err("device name already set to a"));
        check("a,required=x", Err("invalid value for required: x"));
    }
}
