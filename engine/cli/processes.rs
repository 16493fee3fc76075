//! Processes of containers as `ps -ef` lists them, read from /proc. Both programs have this module.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use engine::container::Running;
use engine::containers::{Error, Observed, Status};
use fs_err as fs;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rustix::process::Pid;

/// A container that must run.
pub(crate) fn running(observed: &Observed) -> anyhow::Result<Running> {
    let name = &observed.record.name;
    if observed.state.status == Status::Restarting {
        bail!("Container {name} is restarting, wait until the container is running");
    }
    let pid = Pid::from_raw(observed.state.pid.cast_signed());
    match pid.map(|pid| Running::find(pid, None)) {
        Some(Ok(running)) => Ok(running),
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(format!("cannot look at container {name}"))
        }
        _ => Err(Error::NotRunning(name.clone()).into()),
    }
}

/// Units of time in a second, as /proc counts them on all machines we run on (`USER_HZ`).
const TICKS: f64 = 100.0;

const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// What `ps -ef` says of these processes, headings first.
pub(crate) fn table(processes: &[Pid]) -> anyhow::Result<Vec<Vec<String>>> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime = uptime.split_whitespace().next().and_then(|text| text.parse::<f64>().ok());
    let machine =
        Machine { users: users(), now: Timestamp::now(), uptime: uptime.unwrap_or_default() };
    let mut table = vec![TITLES.map(str::to_owned).to_vec()];
    for pid in processes {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        // One that has ended is not listed.
        if let (Ok(stat), Ok(status), Ok(words)) = (file("stat"), file("status"), file("cmdline")) {
            table.extend(machine.row(&stat, &status, &words));
        }
    }
    Ok(table)
}

/// The names of the host's users.
fn users() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.nth(2)?.to_owned(), line.split(':').next()?.to_owned()))
    };
    // Of two names the first one counts.
    text.lines().rev().filter_map(user).collect()
}

struct Machine {
    users: BTreeMap<String, String>,
    now: Timestamp,
    /// Seconds since it was started.
    uptime: f64,
}

impl Machine {
    fn row(&self, stat: &str, status: &str, words: &str) -> Option<Vec<String>> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        // From the third field of proc_pid_stat(5) on.
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        let used = (number(14)? + number(15)?) / TICKS;
        let age = (self.uptime - number(22)? / TICKS).max(0.0);
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        // The effective one.
        let uid = uid.split_whitespace().nth(1)?;
        let words = words.trim_end_matches('\0').replace(['\0', '\n', '\t'], " ");
        Some(vec![
            self.users.get(uid).map_or(uid, String::as_str).to_owned(),
            pid.to_owned(),
            fields.get(1)?.to_string(),
            format!("{:.0}", (100.0 * used / age.max(1.0)).floor().min(99.0)),
            self.started(age),
            terminal(fields.get(4)?.parse().ok()?),
            clock(used as u64),
            if words.is_empty() { format!("[{name}]") } else { words },
        ])
    }

    /// When something so old was started: the time if that was today, else the day.
    fn started(&self, age: f64) -> String {
        let utc = |time: Timestamp| time.to_zoned(TimeZone::UTC);
        let Ok(then) = self.now.checked_sub(SignedDuration::from_secs_f64(age)) else {
            return "?".to_owned();
        };
        let (now, then) = (utc(self.now), utc(then));
        let form = match now.date() == then.date() {
            true => "%H:%M",
            false if now.year() == then.year() => "%b%d",
            false => "%Y",
        };
        then.strftime(form).to_string()
    }
}

/// A terminal by its device number.
fn terminal(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        4 => format!("tty{minor}"),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

fn clock(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60);
    if days == 0 { time } else { format!("{days}-{time}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_ps() {
        let machine = Machine {
            users: BTreeMap::from([("33".to_owned(), "www-data".to_owned())]),
            now: "2024-05-06T12:00:00Z".parse().expect("a time"),
            uptime: 1_000_000.0,
        };
        let check = |words: &str, uid: &str, started: u64, expected: &[&str]| {
            let stat =
                format!("42 (a b) c) S 7 1 1 34817 1 0 0 0 0 0 6000 1500 0 0 20 0 1 0 {started} 0");
            let status = format!("Name:\tx\nUid:\t0\t{uid}\t0\t0\n");
            assert_eq!(machine.row(&stat, &status, words).expect("a row"), expected);
        };
        let minutes_ago = 100_000_000 - 100 * 60 * 5;
        check(
            "sh\0-c\0sleep 5\0",
            "33",
            minutes_ago,
            &["www-data", "42", "7", "25", "11:55", "pts/1", "00:01:15", "sh -c sleep 5"],
        );
        let days_ago = 100_000_000 - 100 * 86_400 * 3;
        check("", "5", days_ago, &["5", "42", "7", "0", "May03", "pts/1", "00:01:15", "[a b) c]"]);
    }

    #[test]
    fn terminals_and_times_are_named() {
        assert_eq!((terminal(0).as_str(), terminal(1025).as_str()), ("?", "tty1"));
        assert_eq!(terminal((137 << 8) | 3), "pts/259");
        assert_eq!(clock(86_400 + 3_661), "1-01:01:01");
    }
}
