//! The part of Go's `text/template` that people use in `--format`, over JSON values.
//!
//! A subset: fields, variables, pipelines, `if`, `with`, `range` (with `else`, `break`,
//! `continue`), trimming, comments, and the functions of `functions`. There is no `define`,
//! `template`, `block` or `call`. The way of the data: text -> `lex` -> `parse` -> `run`.
//!
//! Knows neither tables nor what is printed: a leading `table ` and the header line are the
//! caller's.

mod format;
mod functions;
mod lex;
mod nil;
mod parse;
mod run;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// A template that can be rendered for any number of values.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    nodes: Vec<Node>,
}

/// Why a template cannot be parsed or rendered, in Go's and docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("template parsing error: template: :{line}: {message}")]
    Parse {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The value does not have what the template asks for.
    #[error(
        "template parsing error: template: :{line}:{column}: executing \"\" at <{at}>: {message}"
    )]
    Render {
        /// The line, counted from 1.
        line: usize,
        /// The byte in that line, counted from 0.
        column: usize,
        /// The part of the template that failed.
        at: String,
        /// What is wrong there.
        message: String,
    },
}

impl Template {
    /// Parses a template; functions and variables it uses must exist.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = parse::parse(text)?;
        Ok(Self { text: text.to_owned(), nodes })
    }

    /// Renders the template with `data` as the dot.
    ///
    /// A field that an object lacks is an error, but in an object of nothing but strings, such as
    /// labels, it prints `<no value>`. `.Label "key"` looks up one of the dot's `Labels`.
    pub fn render(&self, data: &Value) -> Result<String, TemplateError> {
        run::render(&self.text, &self.nodes, data, run::label)
    }

    /// Renders the head of a table whose rows are rendered with this template: `headings` has the
    /// heading of each field, and a label's is its name.
    pub fn render_headings(&self, headings: &Value) -> Result<String, TemplateError> {
        run::render(&self.text, &self.nodes, headings, run::label_heading)
    }
}

/// Replaces `\t` and `\n`, written with a backslash, as docker does for lists (not for inspect).
pub fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Action(Pipeline),
    Branch(Branch),
    Break,
    Continue,
}

/// `if`, `with` and `range` with their two bodies.
#[derive(Clone, Debug)]
struct Branch {
    kind: BranchKind,
    pipeline: Pipeline,
    body: Vec<Node>,
    otherwise: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BranchKind {
    If,
    With,
    Range,
}

/// `$a, $b := command | command`.
#[derive(Clone, Debug)]
struct Pipeline {
    variables: Vec<String>,
    /// `=` instead of `:=`.
    assigns: bool,
    /// Each one's value is the last argument of the next.
    commands: Vec<Command>,
}

/// A value, or a function or method and its arguments.
#[derive(Clone, Debug)]
struct Command {
    operands: Vec<Operand>,
}

#[derive(Clone, Debug)]
struct Operand {
    kind: OperandKind,
    /// The fields behind it: `.A.B` is the dot and two fields.
    fields: Vec<String>,
    /// Where Go says that it is: at the second field if there is one.
    position: usize,
    start: usize,
    end: usize,
}

#[derive(Clone, Debug)]
enum OperandKind {
    Dot,
    Literal(Value),
    Variable(String),
    Function(functions::Function),
    Pipeline(Pipeline),
}
