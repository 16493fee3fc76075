//! Permission changes as `COPY --chmod` writes them: octal, or symbolic in the way of chmod(1).
//!
//! Symbolic modes follow BSD's `setmode(3)`, as BuildKit's do: `=` also clears set-id bits, and
//! there is no umask.

use std::str::FromStr;

/// A change of permission bits, to be applied to any number of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    steps: Vec<Step>,
}

/// A text that is not a mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// It looks like a number, but is not octal or too large.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Octal(String),
    /// It is not a list of symbolic changes either.
    #[error("invalid chmod parameter: '{0}': invalid syntax")]
    Symbolic(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Clear(u32),
    Set(u32),
    /// `X`: only for directories and for files that somebody could execute before the change.
    SetIfExecutable(u32),
    /// `g=u`: takes the bits of one class for others.
    Copy {
        from: Class,
        to: Vec<Class>,
        operator: Operator,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Assign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    User,
    Group,
    Others,
}

const ALL_BITS: u32 = 0o7777;
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;

impl Mode {
    /// Parses an octal number up to 7777, or symbolic changes such as `u=rwX,go-w`.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(bits) if bits <= ALL_BITS => Ok(Self::from_bits(bits)),
                _ => Err(ModeError::Octal(text.to_owned())),
            };
        }
        let mut parser = Parser { rest: text, steps: Vec::new() };
        parser.clauses().ok_or_else(|| ModeError::Symbolic(text.to_owned()))?;
        Ok(Self { steps: parser.steps })
    }

    /// Sets exactly these permission bits, whatever was there.
    pub fn from_bits(bits: u32) -> Self {
        Self { steps: vec![Step::Clear(ALL_BITS), Step::Set(bits & ALL_BITS)] }
    }

    /// Whether it sets all bits, so that what was there does not matter.
    pub fn is_absolute(&self) -> bool {
        matches!(self.steps.as_slice(), [Step::Clear(ALL_BITS), Step::Set(_)])
    }

    /// Returns what becomes of the mode `current`; bits that are not permissions stay.
    pub fn apply(&self, current: u32, is_dir: bool) -> u32 {
        let executable = is_dir || current & EXECUTE != 0;
        self.steps.iter().fold(current, |mode, step| match step {
            Step::Clear(bits) => mode & !bits,
            Step::Set(bits) => mode | bits,
            Step::SetIfExecutable(bits) => {
                if executable {
                    mode | bits
                } else {
                    mode
                }
            }
            Step::Copy { from, to, operator } => copy(mode, *from, to, *operator),
        })
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        Self::parse(text)
    }
}

fn copy(mode: u32, from: Class, to: &[Class], operator: Operator) -> u32 {
    let bits = (mode >> from.shift()) & 0o7;
    to.iter().fold(mode, |mode, class| match operator {
        Operator::Add => mode | (bits << class.shift()),
        Operator::Remove => mode & !(bits << class.shift()),
        Operator::Assign => (mode & !(0o7 << class.shift())) | (bits << class.shift()),
    })
}

impl Class {
    fn shift(self) -> u32 {
        match self {
            Self::User => 6,
            Self::Group => 3,
            Self::Others => 0,
        }
    }

    /// Returns the bits that belong to this class, its set-id bit included.
    fn bits(self) -> u32 {
        match self {
            Self::User => SET_UID | 0o700,
            Self::Group => SET_GID | 0o070,
            Self::Others => 0o007,
        }
    }

    fn of(letter: char) -> Option<Self> {
        match letter {
            'u' => Some(Self::User),
            'g' => Some(Self::Group),
            'o' => Some(Self::Others),
            _ => None,
        }
    }
}

const CLASSES: [Class; 3] = [Class::User, Class::Group, Class::Others];

struct Parser<'a> {
    rest: &'a str,
    steps: Vec<Step>,
}

impl Parser<'_> {
    /// `clause ("," clause)*`, where a clause is `[ugoa]*` and one or more actions.
    fn clauses(&mut self) -> Option<()> {
        loop {
            let classes = self.classes();
            self.action(&classes)?;
            while !self.rest.is_empty() && !self.rest.starts_with(',') {
                self.action(&classes)?;
            }
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => return Some(()),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    /// No letter means everybody, as `a` does.
    fn classes(&mut self) -> Vec<Class> {
        let end = self.rest.find(|letter| !"ugoa".contains(letter)).unwrap_or(self.rest.len());
        let (letters, rest) = self.rest.split_at(end);
        self.rest = rest;
        if letters.is_empty() || letters.contains('a') {
            return CLASSES.to_vec();
        }
        CLASSES
            .into_iter()
            .filter(|class| letters.chars().filter_map(Class::of).any(|named| named == *class))
            .collect()
    }

    /// An operator and its permissions, `+rX` or `=u`.
    fn action(&mut self, classes: &[Class]) -> Option<()> {
        let operator = match self.next()? {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Assign,
            _ => return None,
        };
        let end = self.rest.find(|letter| !"rwxXstugo".contains(letter)).unwrap_or(self.rest.len());
        let (letters, rest) = self.rest.split_at(end);
        self.rest = rest;

        let mut owned: u32 = classes.iter().map(|class| class.bits()).sum();
        // Others have neither a set-id nor a sticky bit to change.
        let special = classes != [Class::Others];
        if special && letters.contains('t') {
            owned |= STICKY;
        }
        if operator == Operator::Assign && !letters.starts_with(['u', 'g', 'o']) {
            self.steps.push(Step::Clear(owned));
        }
        for letter in letters.chars() {
            let bits = match letter {
                'r' => READ,
                'w' => WRITE,
                'x' | 'X' => EXECUTE,
                's' if special => SET_UID | SET_GID,
                't' if special => STICKY,
                _ => 0,
            } & owned;
            self.steps.push(match (Class::of(letter), operator) {
                (Some(from), _) => Step::Copy { from, to: classes.to_vec(), operator },
                (None, Operator::Remove) => Step::Clear(bits),
                (None, _) if letter == 'X' => Step::SetIfExecutable(bits),
                (None, _) => Step::Set(bits),
            });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    fn check(text: &str, current: u32, expected: u32) {
        let mode = Mode::parse(text).expect("valid");
        assert_eq!(format!("{:o}", mode.apply(current, false)), format!("{expected:o}"), "{text}");
    }

    #[test]
    fn octal_modes_replace_the_permissions_only() {
        check("0413", 0o100_644, 0o100_413);
        check("7777", 0o644, 0o7777);
        check("0", 0o7777, 0);
    }

    #[test]
    fn symbolic_modes_change_them_step_by_step() {
        check("u=rwx,go=rx", 0o600, 0o755);
        check("+x", 0o644, 0o755);
        check("=r", 0o7777, 0o1444);
        check("g=u", 0o640, 0o660);
        check("go=u-w", 0o700, 0o755);
        check("u+s,g+s,+t", 0o755, 0o7755);
        check("o+s", 0o755, 0o755);
        check("u-s", 0o4755, 0o755);
        check("u+rw-x", 0o100, 0o600);
        check("a-X", 0o755, 0o644);
        check("u+x,g+X", 0o644, 0o744);
        check("=", 0o755, 0);
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Mode::parse(text).expect_err(text).to_string(), expected);
        };
        let octal = "it should be octal string and between 0 and 07777";
        check("64a", &format!("invalid chmod parameter: '64a'. {octal}"));
        check("10000", &format!("invalid chmod parameter: '10000'. {octal}"));
        check("999", &format!("invalid chmod parameter: '999'. {octal}"));
        for text in ["", "u", "rwx", "u+y", "u+x,", "-644", "u+x g-w", ",u+x"] {
            check(text, &format!("invalid chmod parameter: '{text}': invalid syntax"));
        }
    }

    #[test]
    fn every_row_of_the_chmod_suite_holds() {
        for row in conformance::rows("copy-chmod", "symbolic.jsonl") {
            let mode = Mode::parse(row["mode"].as_str().expect("a mode")).expect("valid");
            for (key, current, is_dir) in [
                ("file_0644", 0o644, false),
                ("exec_0755", 0o755, false),
                ("dir_0750", 0o750, true),
                ("dir_0700", 0o700, true),
            ] {
                let found = format!("{:04o}", mode.apply(current, is_dir));
                assert_eq!(row[key], found, "{key} of {row}");
            }
        }
    }
}
