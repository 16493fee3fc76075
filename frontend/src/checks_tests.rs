use super::*;
use crate::{lines, platform};

fn report(text: &str, target: Option<&str>, scope: Scope) -> Report {
    let file = lines::parse(text.as_bytes()).unwrap();
    let platform = platform::parse("linux/amd64").unwrap();
    let options = CheckOptions {
        build_args: &BTreeMap::from([("GIVEN".to_owned(), "1".to_owned())]),
        target,
        scope,
        build_platform: &platform,
        target_platform: &platform,
        ignores: &[],
    };
    check(&file, &options, &mut |name, _| match name {
        "unknown" => None,
        _ => Some(BaseConfig {
            env: vec!["HOME=/root".to_owned()],
            shell: Vec::new(),
            onbuild: vec!["COPY $TRIGGERED /".to_owned()],
            platform: platform::parse(if name == "arm" { "linux/arm64" } else { "linux/amd64" })
                .unwrap(),
        }),
    })
}

fn lines_of(report: Report) -> Vec<String> {
    let warnings = report.warnings.into_iter();
    let warnings = warnings
        .map(|warning| format!("{} {}: {}", warning.rule, warning.lines[0].first, warning.detail));
    warnings.chain(report.error.map(|error| format!("error: {error}"))).collect()
}

fn check_all_stages(text: &str, expected: &[&str]) {
    assert_eq!(lines_of(report(text, None, Scope::AllStages)), expected, "{text}");
}

#[test]
fn only_what_the_target_needs_is_checked() {
    let text = "FROM scratch AS a\nWORKDIR x\nFROM scratch AS b\nWORKDIR y\nFROM scratch\nCOPY --from=b / /\n";
    let at = |line: usize, path: &str| {
        let detail = "can have unexpected results if the base image changes";
        format!("WorkdirRelativePath {line}: Relative workdir \"{path}\" {detail}")
    };
    let check = |target, scope, expected: &[String]| {
        assert_eq!(lines_of(report(text, target, scope)), expected, "{target:?}");
    };
    check(None, Scope::AllStages, &[at(2, "x"), at(4, "y")]);
    check(None, Scope::Target, &[at(4, "y")]);
    check(Some("A"), Scope::Target, &[at(2, "x")]);
    check(Some("0"), Scope::Target, &[at(2, "x")]);
    let missing = "error: target stage \"aa\" could not be found (did you mean a?)".to_owned();
    check(Some("aa"), Scope::Target, &[missing]);
}

#[test]
fn variables_come_from_bases_arguments_and_triggers() {
    check_all_stages(
        "FROM known\nARG UNSET\nCOPY $HOME$UNSET$GIVEN $NOWHERE\n",
        &[
            "UndefinedVar 1: Usage of undefined variable '$TRIGGERED'",
            "UndefinedVar 3: Usage of undefined variable '$GIVEN'",
            "UndefinedVar 3: Usage of undefined variable '$NOWHERE'",
        ],
    );
    check_all_stages("FROM unknown\nCOPY $HOME $NOWHERE\nCMD x\n", &[]);
    check_all_stages(
        "FROM scratch AS a\nONBUILD COPY $X /\nONBUILD CMD b\nFROM a\nRUN --mount=target=$Y,src=/ ls\n",
        &[
            "UndefinedVar 4: Usage of undefined variable '$X'",
            "JSONArgsRecommended 4: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            "UndefinedVar 5: Usage of undefined variable '$Y'",
        ],
    );
}

#[test]
fn the_last_of_several_commands_holds() {
    let detail =
        "instructions should not be used in the same stage because only the last one will be used";
    check_all_stages(
        "FROM scratch\nCMD [\"a\"]\nHEALTHCHECK NONE\nCMD [\"b\"]\nCMD [\"c\"]\nHEALTHCHECK CMD a\nFROM scratch\nCMD [\"d\"]\n",
        &[
            &format!("MultipleInstructionsDisallowed 2: Multiple CMD {detail}"),
            &format!("MultipleInstructionsDisallowed 4: Multiple CMD {detail}"),
            &format!("MultipleInstructionsDisallowed 3: Multiple HEALTHCHECK {detail}"),
        ],
    );
}

#[test]
fn platforms_of_bases_are_compared() {
    check_all_stages(
        "ARG TRIGGERED=x\nFROM arm\nARG TRIGGERED\n",
        &[
            "InvalidBaseImagePlatform 2: Base image arm was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
            "UndefinedVar 2: Usage of undefined variable '$TRIGGERED'",
        ],
    );
}

#[test]
fn errors_end_the_checks() {
    check_all_stages(
        "FROM scratch\nEXPOSE 80/TCP x\n",
        &[
            "ExposeProtoCasing 2: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            "error: invalid containerPort: x",
        ],
    );
    check_all_stages(
        "FROM $NOTHING",
        &[
            "InvalidDefaultArgInFrom 1: Default value for ARG $NOTHING results in empty or invalid base image name",
            "UndefinedArgInFrom 1: FROM argument 'NOTHING' is not declared",
            "error: base name ($NOTHING) should not be blank",
        ],
    );
    check_all_stages(
        "FROM scratch\nCOPY --from=$X / /\n",
        &[
            "error: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ],
    );
    check_all_stages(
        "# check=skip=X;error=yes\nFROM scratch",
        &[
            "error: failed to parse check options: failed to parse check option \"error=yes\": invalid syntax",
        ],
    );
    check_all_stages(
        "# check=error=true\nFROM scratch AS A\nMAINTAINER b\n",
        &[
            "StageNameCasing 2: Stage name 'A' should be lowercase",
            "MaintainerDeprecated 3: Maintainer instruction is deprecated in favor of using label",
            "error: lint violation found for rules: MaintainerDeprecated, StageNameCasing",
        ],
    );
}
