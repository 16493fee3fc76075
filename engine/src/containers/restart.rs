//! Whether a program that has ended is started again, and when. Pure.

use std::time::Duration;

use super::record::RestartPolicy;

/// Waited before the first restart; each further one waits twice as long.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

/// A program that ran this long was well: the waiting begins anew.
const WELL: Duration = Duration::from_secs(10);

/// How a container's program has fared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) exit_code: i32,
    pub(super) ran_for: Duration,
    /// How often the policy has started it already.
    pub(super) restarts: u32,
    /// What was waited before this run; none before the first.
    pub(super) waited: Option<Duration>,
    /// Whether somebody asked it to end.
    pub(super) asked_to: bool,
}

/// How long to wait until the program is started again; none if it is not.
pub(super) fn after(policy: &RestartPolicy, run: Run) -> Option<Duration> {
    let wanted = match policy.name.as_str() {
        _ if run.asked_to => false,
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let most = policy.maximum_retry_count;
            run.exit_code != 0 && (most == 0 || run.restarts < most)
        }
        _ => false,
    };
    let wait = match run.waited {
        Some(waited) if run.ran_for < WELL => (waited * 2).min(LONGEST),
        _ => FIRST,
    };
    wanted.then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers() {
        let run = Run {
            exit_code: 1,
            ran_for: Duration::from_secs(1),
            restarts: 0,
            waited: None,
            asked_to: false,
        };
        let check = |name: &str, most, run, expected: Option<u64>| {
            let policy = RestartPolicy { name: name.to_owned(), maximum_retry_count: most };
            let found = after(&policy, run).map(|wait| wait.as_millis() as u64);
            assert_eq!(found, expected, "{name}:{most} {run:?}");
        };
        check("no", 0, run, None);
        check("", 0, run, None);
        check("always", 0, run, Some(100));
        check("always", 0, Run { exit_code: 0, ..run }, Some(100));
        check("always", 0, Run { asked_to: true, ..run }, None);
        check("unless-stopped", 0, run, Some(100));
        check("on-failure", 0, run, Some(100));
        check("on-failure", 0, Run { exit_code: 0, ..run }, None);
        check("on-failure", 2, Run { restarts: 1, ..run }, Some(100));
        check("on-failure", 2, Run { restarts: 2, ..run }, None);
        let waited = |ms| Run { waited: Some(Duration::from_millis(ms)), ..run };
        check("always", 0, waited(100), Some(200));
        check("always", 0, waited(51_200), Some(60_000));
        check("always", 0, Run { ran_for: WELL, ..waited(800) }, Some(100));
    }
}
