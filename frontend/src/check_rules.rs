//! The rules of the build checks: names, descriptions and where they are explained.
//!
//! What breaks a rule is decided in [`crate::checks`]; the texts are those of BuildKit, since
//! people skip rules by name and look their texts up.

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name that `# check=skip=` takes.
    pub name: &'static str,
    /// What the rule asks for.
    pub description: &'static str,
    /// The last part of the address of its page, if it has one.
    page: &'static str,
    /// Whether it runs only where asked for.
    pub experimental: bool,
}

impl Rule {
    /// Returns the address of the page that explains it; empty if there is none.
    pub fn url(&self) -> String {
        match self.page {
            "" => String::new(),
            page => format!("https://docs.docker.com/go/dockerfile/rule/{page}/"),
        }
    }
}

const fn rule(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule { name, description, page, experimental: false }
}

pub(crate) static STAGE_NAME_CASING: Rule =
    rule("StageNameCasing", "stage-name-casing", "Stage names should be lowercase");
pub(crate) static FROM_AS_CASING: Rule = rule(
    "FromAsCasing",
    "from-as-casing",
    "The 'as' keyword should match the case of the 'from' keyword",
);
pub(crate) static NO_EMPTY_CONTINUATION: Rule = rule(
    "NoEmptyContinuation",
    "no-empty-continuation",
    "Empty continuation lines will become errors in a future release",
);
pub(crate) static CONSISTENT_INSTRUCTION_CASING: Rule = rule(
    "ConsistentInstructionCasing",
    "consistent-instruction-casing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
);
pub(crate) static DUPLICATE_STAGE_NAME: Rule =
    rule("DuplicateStageName", "duplicate-stage-name", "Stage names should be unique");
pub(crate) static RESERVED_STAGE_NAME: Rule = rule(
    "ReservedStageName",
    "reserved-stage-name",
    "Reserved words should not be used as stage names",
);
pub(crate) static JSON_ARGS_RECOMMENDED: Rule = rule(
    "JSONArgsRecommended",
    "json-args-recommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
);
pub(crate) static MAINTAINER_DEPRECATED: Rule = rule(
    "MaintainerDeprecated",
    "maintainer-deprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
);
pub(crate) static UNDEFINED_ARG_IN_FROM: Rule =
    rule("UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs");
pub(crate) static WORKDIR_RELATIVE_PATH: Rule = rule(
    "WorkdirRelativePath",
    "workdir-relative-path",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
);
pub(crate) static UNDEFINED_VAR: Rule =
    rule("UndefinedVar", "undefined-var", "Variables should be defined before their use");
pub(crate) static MULTIPLE_INSTRUCTIONS_DISALLOWED: Rule = rule(
    "MultipleInstructionsDisallowed",
    "multiple-instructions-disallowed",
    "Multiple instructions of the same type should not be used in the same stage",
);
pub(crate) static LEGACY_KEY_VALUE_FORMAT: Rule = rule(
    "LegacyKeyValueFormat",
    "legacy-key-value-format",
    "Legacy key/value format with whitespace separator should not be used",
);
pub(crate) static INVALID_BASE_IMAGE_PLATFORM: Rule = rule(
    "InvalidBaseImagePlatform",
    "",
    "Base image platform does not match expected target platform",
);
pub(crate) static REDUNDANT_TARGET_PLATFORM: Rule = rule(
    "RedundantTargetPlatform",
    "redundant-target-platform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
);
pub(crate) static SECRETS_USED_IN_ARG_OR_ENV: Rule = rule(
    "SecretsUsedInArgOrEnv",
    "secrets-used-in-arg-or-env",
    "Sensitive data should not be used in the ARG or ENV commands",
);
pub(crate) static INVALID_DEFAULT_ARG_IN_FROM: Rule = rule(
    "InvalidDefaultArgInFrom",
    "invalid-default-arg-in-from",
    "Default value for global ARG results in an empty or invalid base image name",
);
pub(crate) static FROM_PLATFORM_FLAG_CONST_DISALLOWED: Rule = rule(
    "FromPlatformFlagConstDisallowed",
    "from-platform-flag-const-disallowed",
    "FROM --platform flag should not use a constant value",
);
pub(crate) static COPY_IGNORED_FILE: Rule = rule(
    "CopyIgnoredFile",
    "copy-ignored-file",
    "Attempting to Copy file that is excluded by .dockerignore",
);
pub(crate) static EXPOSE_PROTO_CASING: Rule = rule(
    "ExposeProtoCasing",
    "expose-proto-casing",
    "Protocol in EXPOSE instruction should be lowercase",
);
pub(crate) static EXPOSE_INVALID_FORMAT: Rule = rule(
    "ExposeInvalidFormat",
    "expose-invalid-format",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
);

pub(crate) static INVALID_DEFINITION_DESCRIPTION: Rule = Rule {
    name: "InvalidDefinitionDescription",
    description: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    page: "invalid-definition-description",
    experimental: true,
};
