//! Capabilities: the names, and giving up all but those a container keeps (`capabilities(7)`).

use std::sync::OnceLock;

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::spec::Process;
use super::wire::{AtStep, Failure};

/// Names by number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities docker leaves a container by default, as [`Process::capabilities`] has them.
///
/// [`Process::capabilities`]: super::spec::Process::capabilities
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Every capability's name, `CAP_CHOWN` first.
pub fn capability_names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

/// The names of the capabilities that this process can give to others.
pub(super) fn available() -> Vec<String> {
    let own = Capabilities::own_bounding();
    capability_names().filter(|name| own.has(name)).collect()
}

/// A set of capabilities, one bit for each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    /// All we have ourselves.
    pub(super) fn all() -> Capabilities {
        Capabilities::own_bounding()
    }

    /// The set a process keeps: what it is to have, as far as we have it ourselves.
    pub(super) fn kept(process: &Process) -> Result<Capabilities, Failure> {
        let own = Capabilities::own_bounding();
        let mut kept = 0;
        for name in &process.capabilities {
            let number = number(name)
                .ok_or_else(|| Failure::Refused(format!("unknown capability: {name}")))?;
            if own.has_number(number) {
                kept |= 1 << number;
            } else if !DEFAULT_CAPABILITIES.contains(&name.as_str()) {
                return Err(Failure::Refused(format!(
                    "{name} cannot be given to the container: this process does not have it"
                )));
            }
        }
        Ok(Capabilities(kept))
    }

    /// The set of these names, of those we know.
    #[cfg(test)]
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Capabilities {
        Capabilities(names.filter_map(number).fold(0, |set, number| set | 1 << number))
    }

    /// The kernel is asked for each once: nobody takes any from us but ourselves, last of all.
    fn own_bounding() -> Capabilities {
        static OWN: OnceLock<Capabilities> = OnceLock::new();
        *OWN.get_or_init(|| {
            let answers = (0..64).map_while(|number| {
                let held = in_bounding_set(CapabilitySet::from_bits_retain(1 << number))?;
                Some(u64::from(held) << number)
            });
            Capabilities(answers.fold(0, |set, bit| set | bit))
        })
    }

    /// Whether the capability of this name (`CAP_SYS_ADMIN`) is in the set.
    pub(super) fn has(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.has_number(number))
    }

    fn has_number(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }
}

/// The kernel's answer, none for a capability it does not know.
fn in_bounding_set(capability: CapabilitySet) -> Option<bool> {
    rustix::thread::capability_is_in_bounding_set(capability).ok()
}

fn number(name: &str) -> Option<u32> {
    let name = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|known| *known == name).map(|position| position as u32)
}

/// Limits what this process and the programs it executes can ever have.
pub(super) fn limit_bounding_set(kept: Capabilities) -> Result<(), Failure> {
    let own = Capabilities::own_bounding();
    for number in (0..64).filter(|number| own.has_number(*number) && !kept.has_number(*number)) {
        rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
            1 << number,
        ))
        .at(|| "drop capabilities")?;
    }
    Ok(())
}

/// Sets the other four sets: inheritable and ambient are empty, as docker's are; only root has
/// effective and permitted capabilities, as after an exec.
pub(super) fn set(kept: Capabilities, uid: u32) -> Result<(), Failure> {
    let own = if uid == 0 { kept.0 } else { 0 };
    let own = CapabilitySet::from_bits_retain(own);
    rustix::thread::clear_ambient_capability_set().at(|| "clear the ambient capabilities")?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() },
    )
    .at(|| "set capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_default_set_has_its_well_known_bits() {
        let bits = DEFAULT_CAPABILITIES.iter().fold(0u64, |set, name| {
            set | 1 << number(name).expect("a default capability has a number")
        });
        assert_eq!(bits, 0xa80425fb);
    }
}
