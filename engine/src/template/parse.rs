//! Builds the tree of a template from its tokens.

use serde_json::Value;

use super::functions::Function;
use super::lex::{self, Kind, Token};
use super::{Branch, BranchKind, Command, Node, Operand, OperandKind, Pipeline, TemplateError};

/// Parses a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let tokens = lex::lex(text)?;
    let variables = vec!["$".to_owned()];
    let mut parser = Parser { text, tokens, next: 0, variables, loops: 0 };
    match parser.list()? {
        (nodes, End::Text) => Ok(nodes),
        (_, End::End) => Err(parser.error("unexpected {{end}}")),
        (_, End::Else) => Err(parser.error("unexpected {{else}}")),
    }
}

/// What ended a list of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the keyword is `end`")]
enum End {
    Text,
    /// `{{end}}`, taken whole.
    End,
    /// `{{else`, without what may follow.
    Else,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    /// The variables in scope.
    variables: Vec<String>,
    /// How many `range`s are open.
    loops: usize,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> TemplateError {
        let last = self.tokens.get(self.next.saturating_sub(1));
        lex::error(self.text, last.map_or(0, |token| token.start), message)
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn take_if(&mut self, kind: &Kind) -> bool {
        let found = self.peek() == Some(kind);
        self.next += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.take_if(&Kind::Word(word.to_owned()))
    }

    fn unexpected(&self, token: Option<Token>, context: &str) -> TemplateError {
        let Some(token) = token else {
            return self.error("unexpected EOF");
        };
        let found = &self.text[token.start..token.end];
        lex::error(self.text, token.start, format!("unexpected {found:?} in {context}"))
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        match self.take() {
            Some(Token { kind: Kind::Close, .. }) => Ok(()),
            other => Err(self.unexpected(other, context)),
        }
    }

    fn list(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(token) = self.take() {
            if let Kind::Text(text) = token.kind {
                nodes.push(Node::Text(text));
                continue;
            }
            // Outside an action there are but texts and openings.
            if self.take_word("end") {
                self.close("end")?;
                return Ok((nodes, End::End));
            }
            if self.take_word("else") {
                return Ok((nodes, End::Else));
            }
            nodes.push(self.action()?);
        }
        Ok((nodes, End::Text))
    }

    fn action(&mut self) -> Result<Node, TemplateError> {
        if let Some(kind) = self.branch_kind() {
            return self.branch(kind).map(Node::Branch);
        }
        for (word, node) in [("break", Node::Break), ("continue", Node::Continue)] {
            if self.take_word(word) {
                if self.loops == 0 {
                    return Err(self.error(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(word)?;
                return Ok(node);
            }
        }
        let pipeline = self.pipeline("command", None)?;
        self.close("command")?;
        Ok(Node::Action(pipeline))
    }

    fn branch_kind(&mut self) -> Option<BranchKind> {
        let kinds =
            [("if", BranchKind::If), ("with", BranchKind::With), ("range", BranchKind::Range)];
        kinds.into_iter().find(|(word, _)| self.take_word(word)).map(|(_, kind)| kind)
    }

    /// Parses from behind the keyword to its `{{end}}`, which it shares with `else if`.
    fn branch(&mut self, kind: BranchKind) -> Result<Branch, TemplateError> {
        let context = match kind {
            BranchKind::If => "if",
            BranchKind::With => "with",
            BranchKind::Range => "range",
        };
        let scope = self.variables.len();
        let pipeline = self.pipeline(context, Some(kind))?;
        self.close(context)?;
        let looping = usize::from(kind == BranchKind::Range);
        self.loops += looping;
        let (body, end) = self.list()?;
        self.loops -= looping;
        let otherwise = match end {
            End::Text => return Err(self.error("unexpected EOF")),
            End::End => Vec::new(),
            End::Else => self.otherwise(kind)?,
        };
        self.variables.truncate(scope);
        Ok(Branch { kind, pipeline, body, otherwise })
    }

    fn otherwise(&mut self, kind: BranchKind) -> Result<Vec<Node>, TemplateError> {
        let chains = match kind {
            BranchKind::If => self.take_word("if"),
            BranchKind::With => self.take_word("with"),
            BranchKind::Range => false,
        };
        if chains {
            return Ok(vec![Node::Branch(self.branch(kind)?)]);
        }
        self.close("else")?;
        match self.list()? {
            (nodes, End::End) => Ok(nodes),
            (_, End::Else) => Err(self.error("expected end; found {{else}}")),
            (_, End::Text) => Err(self.error("unexpected EOF")),
        }
    }

    fn pipeline(
        &mut self,
        context: &str,
        kind: Option<BranchKind>,
    ) -> Result<Pipeline, TemplateError> {
        let (variables, assigns) = self.declaration(kind)?;
        let mut commands = Vec::new();
        loop {
            if matches!(self.peek(), Some(Kind::Close | Kind::RightParen)) && commands.is_empty() {
                return Err(self.error(format!("missing value for {context}")));
            }
            let command = self.command()?;
            let stage = commands.len() + 1;
            if stage > 1 && !command.can_be_called() {
                let message = format!("non executable command in pipeline stage {stage}");
                return Err(self.error(message));
            }
            commands.push(command);
            if !self.take_if(&Kind::Pipe) {
                break;
            }
        }
        // Only now, as a pipeline does not see what it declares.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, assigns, commands })
    }

    /// Parses `$a :=`, `$a =`, and for `range` also `$a, $b :=`.
    fn declaration(
        &mut self,
        kind: Option<BranchKind>,
    ) -> Result<(Vec<String>, bool), TemplateError> {
        let start = self.next;
        let mut variables = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek().cloned() {
            self.next += 1;
            variables.push(name);
            if kind != Some(BranchKind::Range) || !self.take_if(&Kind::Comma) {
                break;
            }
        }
        if variables.len() > 2 {
            return Err(self.error("too many declarations in range"));
        }
        if !variables.is_empty() && self.take_if(&Kind::Declare) {
            return Ok((variables, false));
        }
        if !variables.is_empty() && self.take_if(&Kind::Assign) {
            variables.iter().try_for_each(|name| self.check_variable(name))?;
            return Ok((variables, true));
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn check_variable(&self, name: &str) -> Result<(), TemplateError> {
        match self.variables.iter().any(|known| known == name) {
            true => Ok(()),
            false => Err(self.error(format!("undefined variable {name:?}"))),
        }
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut operands = Vec::new();
        loop {
            match self.peek() {
                Some(Kind::Close | Kind::RightParen | Kind::Pipe) => break,
                _ if operands.is_empty() || self.tokens.get(self.next).is_none_or(|t| t.spaced) => {
                    operands.push(self.operand()?);
                }
                Some(Kind::LeftParen) => operands.push(self.operand()?),
                _ => {
                    let token = self.take();
                    return Err(self.unexpected(token, "operand"));
                }
            }
        }
        match operands.is_empty() {
            true => Err(self.error("empty command")),
            false => Ok(Command { operands }),
        }
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let token = self.take();
        let Some(Token { kind, start, end, .. }) = token.clone() else {
            return Err(self.unexpected(token, "operand"));
        };
        let mut fields = Vec::new();
        let kind = match kind {
            Kind::Dot => OperandKind::Dot,
            Kind::Literal(value) => OperandKind::Literal(value),
            Kind::Field(name) => {
                fields.push(name);
                OperandKind::Dot
            }
            Kind::Variable(name) => {
                self.check_variable(&name)?;
                OperandKind::Variable(name)
            }
            Kind::Word(word) => self.word(&word)?,
            Kind::LeftParen => {
                let pipeline = self.pipeline("parenthesized pipeline", None)?;
                if !self.take_if(&Kind::RightParen) {
                    let token = self.take();
                    return Err(self.unexpected(token, "parenthesized pipeline"));
                }
                OperandKind::Pipeline(pipeline)
            }
            _ => return Err(self.unexpected(token, "operand")),
        };
        let mut operand = Operand { kind, fields, position: start, start, end };
        self.fields(&mut operand);
        Ok(operand)
    }

    /// Takes the fields that follow without a space.
    fn fields(&mut self, operand: &mut Operand) {
        operand.end = self.tokens[self.next - 1].end;
        let mut chained = false;
        while let Some(Token { kind: Kind::Field(name), spaced: false, start, end }) =
            self.tokens.get(self.next).cloned()
        {
            self.next += 1;
            operand.fields.push(name);
            operand.end = end;
            if !chained {
                operand.position = start;
                chained = true;
            }
        }
    }

    fn word(&self, word: &str) -> Result<OperandKind, TemplateError> {
        Ok(match word {
            "nil" => OperandKind::Literal(Value::Null),
            "true" => OperandKind::Literal(true.into()),
            "false" => OperandKind::Literal(false.into()),
            "define" | "template" | "block" => {
                return Err(self.error(format!("{{{{{word}}}}} is not supported")));
            }
            _ => match Function::of(word) {
                Some(function) => OperandKind::Function(function),
                None => return Err(self.error(format!("function {word:?} not defined"))),
            },
        })
    }
}

impl Command {
    /// Literals and the dot cannot take the value of the stage before as an argument.
    fn can_be_called(&self) -> bool {
        self.operands.first().is_some_and(|first| match &first.kind {
            OperandKind::Literal(_) => false,
            OperandKind::Dot => !first.fields.is_empty(),
            _ => true,
        })
    }
}
