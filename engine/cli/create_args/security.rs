//! What a container is allowed: the flags of privileges, devices and namespaces.

use anyhow::bail;
use clap::Args;
use engine::container::spec::Device;
use engine::containers::record::{DeviceMapping, DeviceRequest, HostConfig};

use super::pairs;

/// What it is allowed.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct SecurityArgs {
    /// Give the command all the host's powers
    #[arg(long)]
    privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined, ...
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Give it a device of the host
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<String>,
    /// Allow devices by their numbers, as 'c 1:3 rwm'
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Give it GPUs: all, a number, or device=ID
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
    /// Set a kernel parameter
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Process namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Shared memory: private, shareable, none, host or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Host name namespace: host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Cgroup namespace: private or host
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// User namespace: host
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Kept for docker's sake: on Linux there is nothing but default
    #[arg(long, value_name = "NAME", hide = true)]
    isolation: Option<String>,
    /// Kept for docker's sake: there is runc, by this name or io.containerd.runc.v2
    #[arg(long, value_name = "RUNTIME", hide = true)]
    runtime: Option<String>,
}

impl SecurityArgs {
    pub(super) fn apply(&self, host: &mut HostConfig) -> anyhow::Result<()> {
        let runtime = self.runtime.as_deref().filter(|name| !name.is_empty());
        runtime.unwrap_or("runc").clone_into(&mut host.runtime);
        host.privileged = self.privileged;
        host.cap_add.clone_from(&self.cap_add);
        host.cap_drop.clone_from(&self.cap_drop);
        for option in &self.security_opt {
            if option == "systempaths=unconfined" {
                // Docker keeps what follows from it, and not the words.
                (host.masked_paths, host.readonly_paths) = (Some(Vec::new()), Some(Vec::new()));
            } else {
                host.security_opt.push(option.clone());
            }
        }
        host.device_cgroup_rules.clone_from(&self.device_cgroup_rule);
        for text in &self.device {
            if is_cdi(text) {
                host.device_requests.push(cdi(vec![text.clone()]));
                continue;
            }
            let device: Device = text.parse()?;
            host.devices.push(DeviceMapping {
                path_on_host: device.host.display().to_string(),
                path_in_container: device.container.display().to_string(),
                cgroup_permissions: device.access.to_string(),
            });
        }
        if let Some(text) = &self.gpus {
            host.device_requests.push(DeviceRequest::gpus(text)?);
        }
        if let Some(isolation) = &self.isolation {
            if !(isolation.is_empty() || isolation.eq_ignore_ascii_case("default")) {
                bail!("Invalid isolation: {isolation:?} - linux only supports 'default'");
            }
            host.isolation.clone_from(isolation);
        }
        host.sysctls = pairs(&self.sysctl, "--sysctl")?;
        host.pid_mode = self.pid.clone().unwrap_or_default();
        host.ipc_mode = self.ipc.clone().unwrap_or_else(|| "private".to_owned());
        host.uts_mode = self.uts.clone().unwrap_or_default();
        host.cgroupns_mode = self.cgroupns.clone().unwrap_or_else(|| "private".to_owned());
        host.userns_mode = self.userns.clone().unwrap_or_default();
        if !matches!(host.userns_mode.as_str(), "" | "host") {
            bail!(
                "invalid USER mode {:?}: containers have no user namespace of their own here",
                host.userns_mode
            );
        }
        Ok(())
    }
}

/// Whether a device is one by its qualified name, `vendor/class=name`.
fn is_cdi(text: &str) -> bool {
    !text.starts_with('/') && text.contains('/') && text.contains('=')
}

fn cdi(device_ids: Vec<String>) -> DeviceRequest {
    DeviceRequest { driver: "cdi".to_owned(), device_ids, ..DeviceRequest::default() }
}
