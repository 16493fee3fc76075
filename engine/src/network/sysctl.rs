//! Kernel parameters of the calling thread's network namespace, below `/proc/sys/net`.
//!
//! Does not undo: whoever relies on a parameter by now, a firewall or another engine, is not known.

use std::io::{self, ErrorKind};
use std::path::Path;

const ROOT: &str = "/proc/sys/net";

/// Lets the machine forward IPv4 packets.
pub(super) fn forward_ipv4() -> io::Result<()> {
    set("ipv4/ip_forward", "1")
}

/// Lets the machine forward IPv6 packets, without making it deaf to its router.
///
/// A forwarding machine ignores router advertisements and drops the default route it had from
/// them, unless the device's `accept_ra` is 2.
pub(super) fn forward_ipv6() -> io::Result<()> {
    const FORWARDING: &str = "ipv6/conf/all/forwarding";
    if get(FORWARDING)? == "1" {
        return Ok(());
    }
    for device in fs_err::read_dir(Path::new(ROOT).join("ipv6/conf"))? {
        let name = format!("ipv6/conf/{}/accept_ra", device?.file_name().to_string_lossy());
        if get(&name)? == "1" {
            set(&name, "2")?;
        }
    }
    set(FORWARDING, "1")
}

/// Lets packets with a loopback address leave by a device, and their answers come back.
pub(super) fn route_loopback(device: &str) -> io::Result<()> {
    set(&format!("ipv4/conf/{device}/route_localnet"), "1")
}

/// Lets a device have IPv6 addresses, where the kernel has any.
pub(super) fn allow_ipv6(device: &str) -> io::Result<()> {
    set(&format!("ipv6/conf/{device}/disable_ipv6"), "0")
}

/// Sets what docker sets in every container: any user may ping and use low ports.
///
/// `ipv6` is whether devices that are still to come may have IPv6 addresses.
pub(super) fn prepare_container(ipv6: bool) -> io::Result<()> {
    set("ipv4/ping_group_range", "0 2147483647")?;
    set("ipv4/ip_unprivileged_port_start", "0")?;
    if ipv6 {
        return Ok(());
    }
    match set("ipv6/conf/default/disable_ipv6", "1") {
        // A kernel without IPv6 has nothing to disable.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn get(name: &str) -> io::Result<String> {
    Ok(fs_err::read_to_string(Path::new(ROOT).join(name))?.trim_end().to_owned())
}

/// Writes a parameter that does not have the value yet, so that a read-only `/proc/sys` where
/// nothing is to be changed is no failure.
fn set(name: &str, value: &str) -> io::Result<()> {
    if get(name)? == value {
        return Ok(());
    }
    fs_err::write(Path::new(ROOT).join(name), value)
}
