//! This boot of the machine: its name, and when it was.

use fs_err as fs;

/// Names this boot of the machine.
pub(super) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// When the machine was started (`btime` of proc(5)).
pub(super) fn boot_time() -> Option<jiff::Timestamp> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    jiff::Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_was_started_before_now() {
        assert!(!boot_id().is_empty());
        assert!(boot_time().expect("the kernel says it") < jiff::Timestamp::now());
    }
}
