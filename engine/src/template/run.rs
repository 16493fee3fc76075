//! Renders a template's tree over a value.

use serde_json::Value;

use super::functions::{self, Function};
use super::nil::Nil;
use super::{
    Branch, BranchKind, Command, Node, Operand, OperandKind, Pipeline, TemplateError, format,
};

/// Renders `nodes`, parsed from `text`, with `data` as the dot and as `$`; `label` is what a label
/// of some labels is.
pub(super) fn render(
    text: &str,
    nodes: &[Node],
    data: &Value,
    label: fn(&Value, &str) -> Value,
) -> Result<String, TemplateError> {
    let variables = vec![("$".to_owned(), data.clone())];
    let mut run = Run { text, variables, label, output: String::new() };
    run.nodes(nodes, data)?;
    Ok(run.output)
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    text: &'a str,
    /// The variables in scope, innermost last.
    variables: Vec<(String, Value)>,
    label: fn(&Value, &str) -> Value,
    output: String,
}

impl Run<'_> {
    fn error(&self, operand: &Operand, message: impl Into<String>) -> TemplateError {
        let before = &self.text[..operand.position];
        TemplateError::Render {
            line: 1 + before.matches('\n').count(),
            column: before.len() - before.rfind('\n').map_or(0, |newline| newline + 1),
            at: self.text[operand.start..operand.end].to_owned(),
            message: message.into(),
        }
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        let scope = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = match node {
                Node::Text(text) => {
                    self.output.push_str(text);
                    Flow::On
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let last = pipeline.commands.last().and_then(nil_of);
                        self.output.push_str(&format::printed(&value, last));
                    }
                    Flow::On
                }
                Node::Branch(branch) => self.branch(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn branch(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, TemplateError> {
        let scope = self.variables.len();
        let flow = if branch.kind == BranchKind::Range {
            self.range(branch, dot)
        } else {
            let value = self.pipeline(&branch.pipeline, dot)?;
            match (functions::is_true(&value), branch.kind) {
                (true, BranchKind::With) => self.nodes(&branch.body, &value),
                (true, _) => self.nodes(&branch.body, dot),
                (false, _) => self.nodes(&branch.otherwise, dot),
            }
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, TemplateError> {
        let value = self.commands(&branch.pipeline, dot)?;
        let Some(entries) = entries(&value) else {
            let operand = &branch.pipeline.commands[0].operands[0];
            let message = format!("range can't iterate over {}", format::printed(&value, None));
            return Err(self.error(operand, message));
        };
        if entries.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        for (key, value) in entries {
            let scope = self.variables.len();
            match branch.pipeline.variables.as_slice() {
                [element] => self.bind(&branch.pipeline, element, &value),
                [index, element] => {
                    self.bind(&branch.pipeline, index, &key);
                    self.bind(&branch.pipeline, element, &value);
                }
                _ => {}
            }
            let flow = self.nodes(&branch.body, &value)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn bind(&mut self, pipeline: &Pipeline, name: &str, value: &Value) {
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        match known {
            Some((_, slot)) if pipeline.assigns => *slot = value.clone(),
            _ => self.variables.push((name.to_owned(), value.clone())),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            self.bind(pipeline, name, &value);
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        let mut before = None;
        for command in &pipeline.commands {
            let piped = value.map(|value| unless_shown_as_json(command, value, before));
            value = Some(self.command(command, dot, piped)?);
            before = nil_of(command);
        }
        Ok(value.expect("a pipeline has a command"))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let (first, arguments) = command.operands.split_first().expect("a command has an operand");
        if let OperandKind::Function(function) = first.kind {
            return self.call(function, first, arguments, dot, piped);
        }
        if arguments.is_empty() && piped.is_none() {
            return self.operand(first, dot);
        }
        let mut values = self.arguments(arguments, dot)?;
        values.extend(piped);
        match (first.fields.split_last(), values.as_slice()) {
            (Some((method, path)), [Value::String(key)]) if method == "Label" => {
                let receiver = self.base(first, dot)?;
                let receiver = self.walk(first, path, &receiver)?;
                Ok((self.label)(&receiver["Labels"], key))
            }
            (Some((method, _)), _) => {
                Err(self.error(first, format!("{method} is not a method but has arguments")))
            }
            (None, _) => {
                let text = &self.text[first.start..first.end];
                Err(self.error(first, format!("can't give argument to non-function {text}")))
            }
        }
    }

    fn arguments(
        &mut self,
        operands: &[Operand],
        dot: &Value,
    ) -> Result<Vec<Value>, TemplateError> {
        operands.iter().map(|operand| self.operand(operand, dot)).collect()
    }

    /// `and` and `or` stop at the first argument that decides.
    fn call(
        &mut self,
        function: Function,
        name: &Operand,
        arguments: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut values = Vec::new();
        for operand in arguments {
            let value = self.operand(operand, dot)?;
            let value = match function {
                Function::Json => value,
                _ => filled(value, nil_of_operand(operand)),
            };
            if function.decides(&value) {
                return Ok(value);
            }
            values.push(value);
        }
        values.extend(piped);
        function.call(&values).map_err(|message| self.error(name, message))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let base = self.base(operand, dot)?;
        self.walk(operand, &operand.fields, &base)
    }

    /// Returns the value that the operand's fields are looked up in.
    fn base(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match &operand.kind {
            OperandKind::Dot => Ok(dot.clone()),
            OperandKind::Literal(value) => Ok(value.clone()),
            OperandKind::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                // The parser lets a variable of one body through in the other, as Go's does.
                let undefined = || self.error(operand, format!("undefined variable: {name}"));
                found.map(|(_, value)| value.clone()).ok_or_else(undefined)
            }
            OperandKind::Function(function) => {
                function.call(&[]).map_err(|message| self.error(operand, message))
            }
            OperandKind::Pipeline(pipeline) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot);
                self.variables.truncate(scope);
                value
            }
        }
    }

    fn walk(
        &self,
        operand: &Operand,
        fields: &[String],
        value: &Value,
    ) -> Result<Value, TemplateError> {
        let mut value = value;
        for field in fields {
            value = match value {
                Value::Object(object) => match object.get(field) {
                    Some(found) => found,
                    None if functions::maps_strings(object) => &Value::Null,
                    None => {
                        let message = format!("map has no entry for key {field:?}");
                        return Err(self.error(operand, message));
                    }
                },
                Value::Null => {
                    let message = format!("nil pointer evaluating interface {{}}.{field}");
                    return Err(self.error(operand, message));
                }
                other => {
                    let of = format::type_name(other);
                    let message = format!("can't evaluate field {field} in type {of}");
                    return Err(self.error(operand, message));
                }
            };
        }
        Ok(value.clone())
    }
}

/// Returns what a command's value is if it is null: a field's value is of the field's type.
fn nil_of(command: &Command) -> Option<Nil> {
    match command.operands.as_slice() {
        [operand] => nil_of_operand(operand),
        _ => None,
    }
}

fn nil_of_operand(operand: &Operand) -> Option<Nil> {
    Nil::of(operand.fields.last()?)
}

/// Puts what behaves as a nil of that type does in the place of null.
fn filled(value: Value, nil: Option<Nil>) -> Value {
    match (&value, nil) {
        (Value::Null, Some(nil)) => nil.value(),
        _ => value,
    }
}

/// The same, for a command's last argument; as JSON a nil is null whatever its type.
fn unless_shown_as_json(command: &Command, value: Value, nil: Option<Nil>) -> Value {
    match command.operands[0].kind {
        OperandKind::Function(Function::Json) => value,
        _ => filled(value, nil),
    }
}

/// Returns what `range` visits, keys in order; `None` for what has no elements.
fn entries(value: &Value) -> Option<Vec<(Value, Value)>> {
    let counted = |(index, value): (usize, Value)| (Value::from(index), value);
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(elements) => Some(elements.iter().cloned().enumerate().map(counted).collect()),
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let owned = |(key, value): (&String, &Value)| (key.clone().into(), value.clone());
            Some(entries.into_iter().map(owned).collect())
        }
        Value::Number(number) => {
            let end = number.as_u64()?;
            Some((0..end).map(|index| (index.into(), index.into())).collect())
        }
        Value::Bool(_) | Value::String(_) => None,
    }
}

/// Looks a label up in an object, or in the `a=1,b=2` of docker's lists.
pub(super) fn label(labels: &Value, key: &str) -> Value {
    match labels {
        Value::Object(labels) => labels.get(key).cloned().unwrap_or_else(|| "".into()),
        Value::String(labels) => {
            let mut pairs = labels.split(',').filter_map(|label| label.split_once('='));
            pairs.find(|(name, _)| *name == key).map_or("", |(_, value)| value).into()
        }
        _ => "".into(),
    }
}

/// The heading that docker gives to a column of labels: the last part of the label's name.
pub(super) fn label_heading(_labels: &Value, key: &str) -> Value {
    let last = key.rsplit('.').next().unwrap_or(key);
    last.replace(['-', '_'], " ").into()
}
