//! Lowers the instructions of one stage: each changes the stage's image configuration, and those
//! that change files add a vertex.
//!
//! What other stages and images are is [`crate::lower`]'s to say.

mod copy;
mod mounts;

use std::collections::BTreeMap;

use cache::oci::{Empty, Healthcheck, History, ImageConfig, Platform, RunConfig};
use engine::graph::{
    Mkdir, NetworkMode, Op, Origin, Run, RunMount, RunMountKind, Security, Vertex, VertexId,
};

use crate::error::{Error, ErrorKind, InstructionError};
use crate::expand::Expander;
use crate::expose::parse_ports;
use crate::history;
use crate::instruction::{self, ArgPair, Instruction, Kind, RunNetwork, RunSecurity};
use crate::lower::{Built, LowerError, Lowering, is_proxy};
use crate::path;
use crate::request::Entitlement;
use crate::span::Lines;
use crate::stage::Stage;
use crate::words::Lexer;

type Result<T, E = LowerError> = std::result::Result<T, E>;

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Where programs are when nothing says so.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A stage being lowered.
pub(crate) struct StageLowering<'l, 'a> {
    lowering: &'l mut Lowering<'a>,
    stage: &'l Stage,
    root: VertexId,
    image: ImageConfig,
    history: Vec<Option<VertexId>>,
    base_history: usize,
    /// What `ARG`s declared, in order; one declared twice stands where it first stood.
    args: Vec<(String, Option<String>)>,
    platform: Platform,
    /// Whether a `CMD` of this stage stands, which an `ENTRYPOINT` does not reset.
    own_cmd: bool,
    from_trigger: bool,
    step: usize,
    steps: usize,
}

impl<'l, 'a> StageLowering<'l, 'a> {
    pub(crate) fn new(
        lowering: &'l mut Lowering<'a>,
        stage: &'l Stage,
        base: Built,
        triggers: &[Instruction],
    ) -> Self {
        // What a base stage has done is part of this one's first step.
        let first = usize::from(stage.base_stage.is_none() && stage.base != "scratch");
        let commands = triggers.iter().chain(&stage.instructions);
        let steps = commands.filter(|instruction| makes_layer(&instruction.kind)).count();
        let mut image = base.image;
        image.config.on_build.clear();
        Self {
            lowering,
            stage,
            root: base.root,
            image,
            history: base.history,
            base_history: base.base_history,
            args: base.args,
            platform: stage.platform.clone().unwrap_or(base.platform),
            own_cmd: false,
            from_trigger: !triggers.is_empty(),
            step: first,
            steps: steps + first,
        }
    }

    pub(crate) fn triggers_done(&mut self) {
        self.from_trigger = false;
    }

    pub(crate) fn finish(self) -> Built {
        Built {
            root: self.root,
            image: self.image,
            history: self.history,
            base_history: self.base_history,
            args: self.args,
            platform: self.platform,
        }
    }

    /// Lowers one instruction.
    pub(crate) fn instruction(&mut self, mut instruction: Instruction) -> Result<()> {
        let lines = instruction.lines;
        let lookup = |name: &str| self.variable(name);
        let mut expander = Expander::new(self.lowering.escape, &lookup);
        instruction.expand(&mut expander)?;
        let shell = self.shell();
        let said = history::created_by(&instruction.kind, &shell);
        match &instruction.kind {
            Kind::From(_) => unreachable!("FROM begins a stage"),
            Kind::Run(run) => return self.run(run, &instruction),
            Kind::Copy(copy) => return self.copy(copy, said, &instruction),
            Kind::Add(add) => return self.add(add, said, &instruction),
            Kind::Workdir(dir) => return self.workdir(dir, &instruction),
            Kind::Arg(pairs) => return self.arg(pairs, lines),
            Kind::Expose(specs) => return self.expose(specs, lines),
            Kind::Env(pairs) => {
                for pair in pairs {
                    set_env(&mut self.image.config.env, &pair.key, &pair.value);
                }
            }
            Kind::Onbuild(trigger) => {
                // A trigger leaves no entry: it happens in the images built on this one.
                self.config().on_build.push(trigger.clone());
                return Ok(());
            }
            Kind::StopSignal(signal) if !is_signal(signal) => {
                return Err(refused(InstructionError::Signal(signal.clone()), lines));
            }
            kind => set_config(&mut self.image, kind, &shell, &mut self.own_cmd),
        }
        if let Some(said) = said {
            self.remember(said, None);
        }
        Ok(())
    }

    fn config(&mut self) -> &mut RunConfig {
        &mut self.image.config
    }

    fn shell(&self) -> Vec<String> {
        shell_of(&self.image.config)
    }

    /// The value of a variable here: what the image sets wins over what is declared.
    fn variable(&self, name: &str) -> Option<String> {
        let set = self.image.config.env.iter().find_map(|pair| {
            pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        });
        let declared =
            || self.args.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone());
        set.or_else(declared).or_else(|| (name == "PATH").then(|| DEFAULT_PATH.to_owned()))
    }

    /// Adds an entry to the history; `vertex` is what made its layer.
    fn remember(&mut self, created_by: String, vertex: Option<VertexId>) {
        self.image.history.push(History {
            created: None,
            created_by: Some(created_by),
            author: None,
            comment: Some(COMMENT.to_owned()),
            empty_layer: vertex.is_none(),
        });
        self.history.push(vertex);
    }

    /// Adds a vertex that changes files, and makes it the stage's root.
    fn add_step(&mut self, instruction: &Instruction, op: Op, said: String) {
        let vertex = self.step_vertex(instruction, op);
        self.root = self.lowering.add(vertex);
        self.remember(said, Some(self.root));
    }

    fn step_vertex(&mut self, instruction: &Instruction, op: Op) -> Vertex {
        self.step += 1;
        let lines = instruction.lines;
        Vertex {
            name: self.step_name(instruction),
            origin: Some(Origin {
                stage: self.lowering.stage_label(self.stage, &self.platform),
                first_line: lines.first,
                last_line: lines.last,
                step: self.step,
            }),
            caching: self.lowering.caching(self.stage),
            op,
        }
    }

    /// As BuildKit prints it: `[build 2/3] RUN make`.
    fn step_name(&self, instruction: &Instruction) -> String {
        let place = self.lowering.step_place(self.stage, &self.platform, self.step, self.steps);
        let trigger = if self.from_trigger { "ONBUILD " } else { "" };
        format!("{place}{trigger}{}", self.shown(instruction))
    }

    /// An instruction as people are shown it: its variables replaced where they are known.
    fn shown(&self, instruction: &Instruction) -> String {
        let mut lexer = Lexer::new(self.lowering.escape);
        (lexer.raw_quotes, lexer.raw_escapes, lexer.skip_unset) = (true, true, true);
        let text = instruction.original.lines().next().unwrap_or_default();
        let expanded = lexer.expand_word(text, &|name| self.variable(name));
        let text = expanded.map_or_else(|_| text.to_owned(), |expansion| expansion.text);
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        let mut shown = format!("{} {}", keyword.to_uppercase(), rest.trim_start());
        if let Kind::Run(run) = &instruction.kind
            && let Some(summary) = run.to_command(&[]).summary
        {
            shown.push_str(&format!(" ({summary})"));
        }
        shown
    }

    fn arg(&mut self, pairs: &[ArgPair], lines: Lines) -> Result<()> {
        let mut said = Vec::new();
        for pair in pairs {
            let value = match self.lowering.request.build_args.get(&pair.key) {
                Some(given) => Some(given.clone()),
                None => match &pair.value {
                    Some(default) => {
                        let lookup = |name: &str| self.variable(name);
                        let mut expander = Expander::new(self.lowering.escape, &lookup);
                        let word = expander.word(default);
                        Some(word.map_err(|error| Error::new(ErrorKind::Word(error), lines))?)
                    }
                    None => self.lowering.stages.globals.get(&pair.key).cloned(),
                },
            };
            said.push((pair.key.clone(), value.clone()));
            match self.args.iter_mut().find(|(name, _)| *name == pair.key) {
                Some((_, known)) => *known = value,
                None => self.args.push((pair.key.clone(), value)),
            }
        }
        self.remember(history::arg(&said), None);
        Ok(())
    }

    fn expose(&mut self, specs: &[String], lines: Lines) -> Result<()> {
        let ports =
            parse_ports(specs).map_err(|error| Error::new(ErrorKind::Port(error), lines))?;
        self.config().exposed_ports.extend(ports.iter().map(|port| (port.clone(), Empty {})));
        self.remember(history::expose(&ports), None);
        Ok(())
    }

    fn workdir(&mut self, dir: &str, instruction: &Instruction) -> Result<()> {
        let dir = self.absolute(dir);
        self.config().working_dir.clone_from(&dir);
        let said = history::workdir(&dir);
        if dir == "/" {
            self.remember(said, None);
            return Ok(());
        }
        let owner = self.image.config.user.clone();
        let op = Op::Mkdir(Mkdir { base: self.root, path: dir, owner });
        self.add_step(instruction, op, said);
        Ok(())
    }

    /// A path seen from the working directory.
    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            path::clean(path)
        } else {
            path::join(&format!("/{}", self.image.config.working_dir), path)
        }
    }

    fn run(&mut self, run: &instruction::Run, instruction: &Instruction) -> Result<()> {
        let lines = instruction.lines;
        let command = run.to_command(&self.shell());
        let mut mounts = self.mounts(run, lines)?;
        if let Some(script) = &command.script {
            mounts.push(RunMount {
                target: format!("{}/{}", script.dir, script.name),
                kind: RunMountKind::Script { content: script.data.clone() },
            });
        }
        let said = history::run(&command.args, &self.args_in_history());
        let op = Op::Run(Box::new(Run {
            base: self.root,
            args: command.args,
            env: self.environment(),
            unkeyed_env: self.proxies(),
            cwd: self.absolute(""),
            user: self.image.config.user.clone(),
            mounts,
            network: self.network(run.network, lines)?,
            security: self.security(run.security, lines)?,
            hostname: self.lowering.request.hostname.clone(),
            extra_hosts: self.lowering.request.extra_hosts.clone(),
            shm_size: self.lowering.request.shm_size,
            ulimits: self.lowering.request.ulimits.clone(),
            resources: self.lowering.request.resources.clone(),
            cgroup_parent: self.lowering.request.cgroup_parent.clone(),
            devices: run.devices.iter().map(|device| device.name.clone()).collect(),
            architecture: self.image.architecture.clone(),
        }));
        self.add_step(instruction, op, said);
        Ok(())
    }

    /// The variables of a process: the image's, and what was declared and has a value.
    fn environment(&self) -> Vec<String> {
        let mut env = self.image.config.env.clone();
        for (name, value) in &self.args {
            if let (Some(value), false) = (value, sets(&env, name)) {
                env.push(format!("{name}={value}"));
            }
        }
        if !sets(&env, "PATH") {
            env.insert(0, format!("PATH={DEFAULT_PATH}"));
        }
        env
    }

    fn args_in_history(&self) -> Vec<(String, String)> {
        let value = |name: &String| self.variable(name).unwrap_or_default();
        self.args.iter().map(|(name, _)| (name.clone(), value(name))).collect()
    }

    /// Proxies that were given: the process sees each in capitals and in small letters, as
    /// programs look for the one or the other; nobody else does.
    fn proxies(&self) -> Vec<String> {
        let given = &self.lowering.request.build_args;
        let declared = |name: &str| self.args.iter().any(|(known, _)| known == name);
        let mut proxies = BTreeMap::new();
        for (name, value) in given.iter().filter(|(name, _)| is_proxy(name)) {
            for spelling in [name.to_uppercase(), name.to_lowercase()] {
                let own = given.get(&spelling).unwrap_or(value);
                proxies.insert(spelling, own);
            }
        }
        let undeclared = proxies.into_iter().filter(|(name, _)| !declared(name));
        undeclared.map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn network(&self, network: RunNetwork, lines: Lines) -> Result<NetworkMode> {
        let request = self.lowering.request;
        match network {
            RunNetwork::Default => Ok(request.network),
            RunNetwork::None => Ok(NetworkMode::None),
            RunNetwork::Host
                if request.allowed.contains(&Entitlement::NetworkHost)
                    || request.network == NetworkMode::Host =>
            {
                Ok(NetworkMode::Host)
            }
            RunNetwork::Host => {
                Err(refused(InstructionError::NotAllowed { entitlement: "network.host" }, lines))
            }
        }
    }

    fn security(&self, security: RunSecurity, lines: Lines) -> Result<Security> {
        let allowed = &self.lowering.request.allowed;
        match security {
            RunSecurity::Sandbox => Ok(Security::Sandbox),
            RunSecurity::Insecure if allowed.contains(&Entitlement::SecurityInsecure) => {
                Ok(Security::Insecure)
            }
            RunSecurity::Insecure => {
                let entitlement = "security.insecure";
                Err(refused(InstructionError::NotAllowed { entitlement }, lines))
            }
        }
    }
}

/// What runs the shell forms; some programs write an empty list where there is none.
pub(crate) fn shell_of(config: &RunConfig) -> Vec<String> {
    let given = config.shell.clone().filter(|shell| !shell.is_empty());
    given.unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec())
}

/// Changes what an instruction without a layer changes.
pub(crate) fn set_config(
    image: &mut ImageConfig,
    kind: &Kind,
    shell: &[String],
    own_cmd: &mut bool,
) {
    let config = &mut image.config;
    match kind {
        Kind::Label(pairs) => {
            config.labels.extend(pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone())));
        }
        Kind::User(user) => config.user.clone_from(user),
        Kind::Cmd(command) => {
            config.cmd = Some(command.to_args(shell)).filter(|args| !args.is_empty());
            config.args_escaped = true;
            *own_cmd = true;
        }
        Kind::Entrypoint(command) => {
            config.entrypoint = Some(command.to_args(shell)).filter(|args| !args.is_empty());
            // A base's CMD was meant for the base's entry point.
            if !*own_cmd {
                config.cmd = None;
            }
        }
        Kind::Volume(paths) => {
            config.volumes.extend(paths.iter().map(|path| (path.clone(), Empty {})));
        }
        Kind::Shell(words) => config.shell = Some(words.clone()),
        Kind::StopSignal(signal) => config.stop_signal.clone_from(signal),
        Kind::Healthcheck(check) => {
            config.healthcheck = Some(Healthcheck {
                test: check.test.clone(),
                interval: check.interval.as_nanos() as i64,
                timeout: check.timeout.as_nanos() as i64,
                start_period: check.start_period.as_nanos() as i64,
                start_interval: check.start_interval.as_nanos() as i64,
                retries: check.retries.into(),
            });
        }
        Kind::Maintainer(name) => image.author = Some(name.clone()),
        _ => {}
    }
}

/// Whether a variable is set, be it to nothing.
pub(crate) fn sets(env: &[String], name: &str) -> bool {
    env.iter().any(|pair| pair.split_once('=').is_some_and(|(key, _)| key == name))
}

/// Sets a variable where it stands, or at the end.
pub(crate) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    match env.iter_mut().find(|old| old.split_once('=').is_some_and(|(key, _)| key == name)) {
        Some(old) => *old = pair,
        None => env.push(pair),
    }
}

/// Whether an instruction makes a layer.
pub(crate) fn makes_layer(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// Whether this is a signal's name, with or without `SIG`, or its number (signal(7)).
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 35] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN",
    ];
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, sign: char, most: u32| {
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(sign));
        number.and_then(|text| text.parse::<u32>().ok()).is_some_and(|number| number <= most)
    };
    NAMES.contains(&name)
        || name == "RTMAX"
        || real_time("RTMIN", '+', 15)
        || real_time("RTMAX", '-', 14)
}

fn refused(error: InstructionError, lines: Lines) -> LowerError {
    Error::new(ErrorKind::Instruction(error), lines).into()
}
