//! Statements: tokens to a template's body. Expressions are in expressions.rs.

use super::ast::{Expr, For, Name, Stmt, StmtKind};
use super::error::{Error, Outcome};
use super::lexer::{Kind, Token};
use std::collections::HashMap;
use std::sync::Arc;

/// How deep blocks nest; Python, which jinja2 translates templates to, takes no more.
const BLOCKS_MAX: usize = 100;
/// In one tag; bounds how deep an expression nests.
const TAG_TOKENS_MAX: usize = 8192;

pub fn parse(tokens: Vec<Token>) -> Outcome<(Vec<Arc<str>>, Vec<Stmt>)> {
    check_tags(&tokens)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        names: HashMap::new(),
        table: Vec::new(),
        blocks: 0,
        loops: 0,
        loop_uses: 0,
        used: Vec::new(),
    };
    let (body, _) = parser.statements(&[])?;
    Ok((parser.table, body))
}

fn check_tags(tokens: &[Token]) -> Outcome<()> {
    let mut begin = 0;
    for (at, token) in tokens.iter().enumerate() {
        if matches!(token.kind, Kind::BlockBegin | Kind::VariableBegin) {
            begin = at;
        }
        if at - begin > TAG_TOKENS_MAX && !matches!(token.kind, Kind::Data(_) | Kind::End) {
            let message = format!("a tag has more than the {TAG_TOKENS_MAX} words and signs allowed");
            return Err(Error::syntax(token.line, message));
        }
    }
    Ok(())
}

pub struct Parser {
    tokens: Vec<Token>,
    at: usize,
    names: HashMap<String, Name>,
    table: Vec<Arc<str>>,
    blocks: usize,
    /// Loops around, inside the innermost macro.
    pub loops: usize,
    /// How often the name `loop` has been met.
    loop_uses: usize,
    /// For each macro around: which of caller, varargs and kwargs its body uses.
    pub used: Vec<[Option<Name>; 3]>,
}

impl Parser {
    pub fn kind(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    pub fn look(&self) -> &Kind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    pub fn line(&self) -> usize {
        self.tokens[self.at].line
    }

    pub fn next(&mut self) -> Kind {
        let kind = self.tokens[self.at].kind.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        kind
    }

    /// To the token before, for an error's place.
    pub fn step_back(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    pub fn is_op(&self, operator: &str) -> bool {
        matches!(self.kind(), Kind::Op(found) if *found == operator)
    }

    pub fn skip_op(&mut self, operator: &str) -> bool {
        let found = self.is_op(operator);
        if found {
            self.next();
        }
        found
    }

    pub fn expect_op(&mut self, operator: &str) -> Outcome<()> {
        if self.skip_op(operator) {
            return Ok(());
        }
        self.error(format!("expected {operator:?}, found {}", self.describe()))
    }

    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.kind(), Kind::Name(found) if found == name)
    }

    pub fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    pub fn expect_name(&mut self) -> Outcome<Arc<str>> {
        match self.kind() {
            Kind::Name(name) => {
                let name = Arc::from(name.as_str());
                self.next();
                Ok(name)
            }
            _ => self.error(format!("expected a name, found {}", self.describe())),
        }
    }

    pub fn error<T>(&self, message: impl Into<String>) -> Outcome<T> {
        Err(Error::syntax(self.line(), message))
    }

    pub fn describe(&self) -> String {
        match self.kind() {
            Kind::Data(_) => "text".to_string(),
            Kind::BlockBegin => "\"{%\"".to_string(),
            Kind::BlockEnd => "the end of the tag".to_string(),
            Kind::VariableBegin => "\"{{\"".to_string(),
            Kind::VariableEnd => "the end of the tag".to_string(),
            Kind::Name(name) => format!("{name:?}"),
            Kind::Str(_) => "a string".to_string(),
            Kind::Int(number) => number.to_string(),
            Kind::Float(number) => number.to_string(),
            Kind::Op(operator) => format!("{operator:?}"),
            Kind::End => "the end of the template".to_string(),
        }
    }

    /// The name's place in the table; notes the use of a macro's special names.
    pub fn intern(&mut self, text: &str) -> Name {
        let next = self.table.len() as Name;
        let name = *self.names.entry(text.to_string()).or_insert(next);
        if name == next {
            self.table.push(Arc::from(text));
        }
        self.loop_uses += usize::from(text == "loop");
        if let Some(special) = ["caller", "varargs", "kwargs"].iter().position(|known| *known == text) {
            self.used.iter_mut().for_each(|used| used[special] = Some(name));
        }
        name
    }

    fn expect_block_end(&mut self) -> Outcome<()> {
        if *self.kind() != Kind::BlockEnd {
            return self.error(format!("expected the end of the tag, found {}", self.describe()));
        }
        self.next();
        Ok(())
    }

    /// Statements up to a tag that begins with one of `ends`, which is stepped over and returned; the rest of that tag
    /// is not.
    fn statements(&mut self, ends: &[&str]) -> Outcome<(Vec<Stmt>, String)> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.next() {
                Kind::Data(text) => StmtKind::Data(Arc::from(text)),
                Kind::VariableBegin => {
                    let value = self.tuple(true)?;
                    if self.next() != Kind::VariableEnd {
                        self.step_back();
                        return self.error(format!("expected the end of the tag, found {}", self.describe()));
                    }
                    StmtKind::Print(value)
                }
                Kind::BlockBegin => {
                    if let Kind::Name(name) = self.kind().clone() {
                        if ends.contains(&name.as_str()) {
                            self.next();
                            return Ok((body, name));
                        }
                    }
                    let tag = self.statement(line, &mut body)?;
                    self.expect_block_end()?;
                    match tag {
                        Some(kind) => kind,
                        None => continue,
                    }
                }
                Kind::End if ends.is_empty() => return Ok((body, String::new())),
                _ => return self.error(format!("the template ends before {}", ends.join(" or "))),
            };
            body.push(Stmt { line, kind });
        }
    }

    /// The body of a tag, from its end on, up to the tag that ends it.
    pub fn body(&mut self, ends: &[&str]) -> Outcome<(Vec<Stmt>, String)> {
        self.skip_op(":");
        self.expect_block_end()?;
        self.blocks += 1;
        if self.blocks > BLOCKS_MAX {
            return self.error(format!("blocks nest more than {BLOCKS_MAX} deep"));
        }
        let result = self.statements(ends)?;
        self.blocks -= 1;
        Ok(result)
    }

    /// A statement; those that print several values are put into `body` themselves.
    fn statement(&mut self, line: usize, body: &mut Vec<Stmt>) -> Outcome<Option<StmtKind>> {
        let name = self.expect_name()?;
        Ok(Some(match &name[..] {
            "if" => self.if_statement()?,
            "for" => self.for_statement()?,
            "set" => self.set_statement()?,
            "with" => self.with_statement()?,
            "macro" => self.macro_statement()?,
            "call" => self.call_statement()?,
            "generation" => {
                let body = self.in_macro(|parser| Ok(parser.body(&["endgeneration"])?.0))?.0;
                StmtKind::Block { body, scoped: true }
            }
            "filter" => {
                let mut filter = self.filter(None)?;
                while self.skip_op("|") {
                    filter = self.filter(Some(filter))?;
                }
                StmtKind::FilterBlock(filter, self.body(&["endfilter"])?.0)
            }
            "block" => self.block_statement()?,
            "autoescape" => {
                let escape = self.expression()?;
                let (body, _) = self.body(&["endautoescape"])?;
                let off = Expr::Not(Box::new(escape));
                let refusal = StmtKind::Impossible("autoescape can only be switched off");
                let refusal = vec![Stmt { line, kind: refusal }];
                let scope = StmtKind::Block { body, scoped: true };
                StmtKind::If {
                    branches: vec![(off, vec![Stmt { line, kind: scope }])],
                    otherwise: refusal,
                }
            }
            "print" => {
                while *self.kind() != Kind::BlockEnd {
                    let kind = StmtKind::Print(self.expression()?);
                    body.push(Stmt { line, kind });
                    if *self.kind() != Kind::BlockEnd {
                        self.expect_op(",")?;
                    }
                }
                return Ok(None);
            }
            "break" | "continue" if self.loops == 0 => return self.error(format!("{name} stands in no loop")),
            "break" => StmtKind::Break,
            "continue" => StmtKind::Continue,
            "include" | "import" | "from" | "extends" => {
                while *self.kind() != Kind::BlockEnd {
                    if *self.kind() == Kind::End {
                        return self.error("the template ends inside a tag");
                    }
                    self.next();
                }
                StmtKind::Impossible("there are no other templates to include, import or extend")
            }
            _ => return self.error(format!("unknown tag {name:?}")),
        }))
    }

    fn if_statement(&mut self) -> Outcome<StmtKind> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false)?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((test, body));
            match end.as_str() {
                "elif" => {}
                "else" => {
                    let (otherwise, _) = self.body(&["endif"])?;
                    return Ok(StmtKind::If { branches, otherwise });
                }
                _ => {
                    let otherwise = Vec::new();
                    return Ok(StmtKind::If { branches, otherwise });
                }
            }
        }
    }

    fn for_statement(&mut self) -> Outcome<StmtKind> {
        let target = self.target(true, false)?;
        if !self.skip_name("in") {
            return self.error(format!("expected \"in\", found {}", self.describe()));
        }
        let iterable = self.tuple(false)?;
        let test = if self.skip_name("if") {
            Some(self.expression()?)
        } else {
            None
        };
        let recursive = self.skip_name("recursive");
        self.loops += 1;
        let loop_uses = self.loop_uses;
        let (body, end) = self.body(&["endfor", "else"])?;
        self.loops -= 1;
        let uses_loop = recursive || self.loop_uses > loop_uses;
        let otherwise = if end == "else" {
            self.body(&["endfor"])?.0
        } else {
            Vec::new()
        };
        Ok(StmtKind::For(Box::new(For {
            target,
            iterable,
            test,
            recursive,
            uses_loop,
            body,
            otherwise,
        })))
    }

    fn set_statement(&mut self) -> Outcome<StmtKind> {
        let target = self.target(true, true)?;
        if self.skip_op("=") {
            return Ok(StmtKind::Set(target, self.tuple(true)?));
        }
        let mut filter = None;
        while self.skip_op("|") {
            filter = Some(self.filter(filter)?);
        }
        let (body, _) = self.body(&["endset"])?;
        Ok(StmtKind::SetBlock { target, filter, body })
    }

    fn with_statement(&mut self) -> Outcome<StmtKind> {
        let mut values = Vec::new();
        while !matches!(self.kind(), Kind::BlockEnd | Kind::End) {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(true, false)?;
            self.expect_op("=")?;
            values.push((target, self.expression()?));
        }
        Ok(StmtKind::With(values, self.body(&["endwith"])?.0))
    }

    fn block_statement(&mut self) -> Outcome<StmtKind> {
        let name = self.expect_name()?;
        let scoped = self.skip_name("scoped");
        self.skip_name("required");
        let (body, _) = self.in_macro(|parser| parser.body(&["endblock"]))?.0;
        self.skip_name(&name);
        Ok(StmtKind::Block { body, scoped })
    }
}
