//! Resource limits: `--ulimit`.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::spec::Rlimit;
use super::wire::Failure;

/// Sets the limits of this process; one that cannot be set is a failure that names it.
pub(super) fn set(limits: &[Rlimit]) -> Result<(), Failure> {
    for limit in limits {
        let Some(resource) = resource(&limit.name) else {
            return Err(Failure::Refused(format!("invalid ulimit type: {}", limit.name)));
        };
        let new =
            rustix::process::Rlimit { current: finite(limit.soft), maximum: finite(limit.hard) };
        setrlimit(resource, new).map_err(|errno| refusal(limit, resource, errno))?;
    }
    Ok(())
}

fn refusal(limit: &Rlimit, resource: Resource, errno: Errno) -> Failure {
    let asked = format!("--ulimit {}={}:{}", limit.name, show(limit.soft), show(limit.hard));
    let maximum = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    if errno == Errno::PERM && limit.hard > maximum {
        Failure::Refused(format!(
            "{asked}: raising the hard limit above {} needs CAP_SYS_RESOURCE, which this process does not have",
            show(maximum)
        ))
    } else {
        Failure::Step { step: asked, errno: errno.raw_os_error() }
    }
}

fn finite(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

fn show(limit: u64) -> String {
    finite(limit).map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}
