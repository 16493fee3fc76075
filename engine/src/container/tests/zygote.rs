//! Containers of a process that launches many.

use super::*;

/// What a program can see of how it was started (but `SigQ`, which counts the signals of all that a user has).
const LOOK: &str = "echo $$; umask; env | sort; ls /proc/self/fd; tr '\\0' ' ' < /proc/1/cmdline; \
                    grep -E '^(Name|PPid|SigPnd|SigBlk|SigIgn|SigCgt|Shd|Cap|Seccomp|NoNew|Groups)' /proc/1/status; \
                    hostname; cut -d' ' -f4-6 /proc/self/stat; ip link | grep -c lo:; ls /proc";

#[test]
fn an_init_made_ahead_makes_the_same_container() {
    let zygote = Zygote::default();
    for network in [Network::Host, Network::None] {
        let mut machine = Machine::new();
        machine.spec.network = network;
        let args = ["sh", "-c", LOOK];
        let expected = machine.run(&args).unwrap();
        assert_eq!(expected.exit.code, 0, "{expected:?}");
        for _ in 0..3 {
            let found = machine.run_from(Some(&zygote), &args).unwrap();
            assert_eq!(found.stdout, expected.stdout);
            assert_eq!((found.stderr, found.exit.code), (expected.stderr.clone(), 0));
        }
    }
}

#[test]
fn threads_share_a_zygote_and_errors_are_told_as_ever() {
    let zygote = Zygote::default();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let zygote = &zygote;
            scope.spawn(move || {
                let machine = Machine::new();
                for _ in 0..3 {
                    let line = format!("echo {number}; exit {number}");
                    let found = machine.run_from(Some(zygote), &["sh", "-c", &line]).unwrap();
                    assert_eq!(found.stdout, format!("{number}\n"));
                    assert_eq!(found.exit.code, number);
                    let missing = machine.run_from(Some(zygote), &["/no/such"]).unwrap_err();
                    assert_eq!(missing.exit_code(), 127);
                }
            });
        }
    });
}
