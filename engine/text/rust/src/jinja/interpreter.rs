//! Runs a template's statements. Scopes, namespaces and macros are numbered and kept in tables, so that values hold
//! numbers only: nothing can refer to itself, and all is gone when the render ends.

use super::ast::{Expr, For, Macro, Name, Stmt, StmtKind, Target};
use super::budget::Budget;
use super::error::{fault, Outcome};
use super::value::{Dict, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// How deep macros, loops and expressions nest while rendering; the stack has room for more.
const DEPTH_MAX: usize = 10_000;
/// A scope or a macro in its table.
pub const ENTRY_BYTES: u64 = 128;

pub struct Interpreter<'t> {
    pub budget: &'t Budget,
    pub now_seconds: i64,
    names: &'t [Arc<str>],
    scopes: Vec<Scope>,
    /// The innermost scope.
    pub scope: usize,
    namespaces: Vec<Dict>,
    macros: Vec<(&'t Macro, usize)>,
    pub recursive_loops: Vec<(&'t For, usize)>,
    /// The place of `loop` among the names, if the template has it.
    pub loop_name: Option<Name>,
    /// How many loops there have been.
    pub loops: usize,
    /// What the last call of changed() had, by the loop's number.
    pub changed: HashMap<usize, Value>,
    out: String,
    depth: usize,
}

#[derive(Default)]
struct Scope {
    values: HashMap<Name, Value>,
    parent: Option<usize>,
    /// A macro was made here, and may be called when the scope has been left.
    is_kept: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Next,
    Break,
    Continue,
}

impl<'t> Interpreter<'t> {
    pub fn new(names: &'t [Arc<str>], budget: &'t Budget, now_seconds: i64, variables: Vec<(String, Value)>) -> Self {
        let place = |name: &str| {
            names
                .iter()
                .position(|known| &known[..] == name)
                .map(|place| place as Name)
        };
        let set = |(name, value): (String, Value)| Some((place(&name)?, value));
        let context = Scope {
            values: variables.into_iter().filter_map(set).collect(),
            ..Default::default()
        };
        let template = Scope {
            parent: Some(0),
            ..Default::default()
        };
        Interpreter {
            budget,
            now_seconds,
            names,
            scopes: vec![context, template],
            scope: 1,
            namespaces: Vec::new(),
            macros: Vec::new(),
            recursive_loops: Vec::new(),
            loop_name: place("loop"),
            loops: 0,
            changed: HashMap::new(),
            out: String::new(),
            depth: 0,
        }
    }

    pub fn run(mut self, body: &'t [Stmt]) -> Outcome<String> {
        self.statements(body)?;
        Ok(self.out)
    }

    /// The variable, a global, or undefined.
    pub fn lookup(&self, name: Name) -> Value {
        let mut next = Some(self.scope);
        while let Some(place) = next {
            let scope = &self.scopes[place];
            if let Some(value) = scope.values.get(&name) {
                return value.clone();
            }
            next = scope.parent;
        }
        let name = &self.names[name as usize];
        Self::global(name).unwrap_or_else(|| Value::Undefined(name.clone()))
    }

    pub fn set(&mut self, name: Name, value: Value) {
        self.scopes[self.scope].values.insert(name, value);
    }

    /// Runs `body` in a new scope over `parent`.
    pub fn in_scope<T>(&mut self, parent: usize, body: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.budget.pay(ENTRY_BYTES)?;
        let outer = std::mem::replace(&mut self.scope, self.scopes.len());
        self.scopes.push(Scope {
            parent: Some(parent),
            ..Default::default()
        });
        let result = body(self);
        // What was made above it has been left, or is kept and then so is this.
        if !self.scopes[self.scope].is_kept && self.scope + 1 == self.scopes.len() {
            self.scopes.pop();
        }
        self.scope = outer;
        result
    }

    /// What `body` writes, instead of writing it.
    pub fn captured(&mut self, body: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<String> {
        let outer = std::mem::take(&mut self.out);
        let result = body(self);
        let text = std::mem::replace(&mut self.out, outer);
        result.map(|()| text)
    }

    /// One level deeper.
    pub fn nested<T>(&mut self, body: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth >= DEPTH_MAX {
            return Err(fault("macros, loops or expressions nest too deep"));
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    pub fn statements(&mut self, body: &'t [Stmt]) -> Outcome<Flow> {
        for statement in body {
            let flow = self.nested(|this| this.statement(statement)).map_err(|mut error| {
                if error.line == 0 {
                    error.line = statement.line;
                }
                error
            })?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'t Stmt) -> Outcome<Flow> {
        self.budget.spend(1)?;
        match &statement.kind {
            StmtKind::Data(text) => self.budget.push(&mut self.out, text)?,
            StmtKind::Print(value) => {
                let value = self.eval(value)?;
                self.print(&value)?;
            }
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.eval(test)?.is_true() {
                        return self.statements(body);
                    }
                }
                return self.statements(otherwise);
            }
            StmtKind::For(loop_) => self.for_loop(loop_)?,
            StmtKind::Set(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StmtKind::SetBlock { target, filter, body } => {
                let text = self.block_text(body)?;
                let value = self.filtered(filter.as_ref(), text)?;
                self.assign(target, value)?;
            }
            StmtKind::FilterBlock(filter, body) => {
                let text = self.block_text(body)?;
                let value = self.filtered(Some(filter), text)?;
                if value.as_str().is_none() {
                    return Err(fault(format!("expected str instance, {} found", value.type_name())));
                }
                self.print(&value)?;
            }
            StmtKind::With(values, body) => {
                let mut found = Vec::with_capacity(values.len());
                for (_, value) in values {
                    found.push(self.eval(value)?);
                }
                self.in_scope(self.scope, |this| {
                    for ((target, _), value) in values.iter().zip(found) {
                        this.assign(target, value)?;
                    }
                    this.statements(body)
                })?;
            }
            StmtKind::Macro(name, macro_) => {
                let value = self.make_macro(macro_)?;
                self.set(*name, value);
            }
            StmtKind::CallBlock { call, caller } => {
                let caller = self.make_macro(caller)?;
                let callee = self.eval(&call.0)?;
                let mut arguments = self.arguments(&call.1)?;
                arguments.named.push((Arc::from("caller"), caller));
                let value = self.call(&callee, arguments)?;
                self.print(&value)?;
            }
            StmtKind::Block { body, scoped } => {
                let parent = if *scoped { self.scope } else { 1 };
                self.in_scope(parent, |this| this.statements(body))?;
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
            StmtKind::Impossible(why) => return Err(fault(*why)),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Outcome<()> {
        let mut out = std::mem::take(&mut self.out);
        let result = self.write_str(value, &mut out);
        self.out = out;
        result
    }

    fn block_text(&mut self, body: &'t [Stmt]) -> Outcome<Value> {
        let text = self.captured(|this| this.in_scope(this.scope, |this| this.statements(body)).map(|_| ()))?;
        self.budget.pay_usize(text.len())?;
        Ok(Value::str(text))
    }

    fn filtered(&mut self, filter: Option<&'t Expr>, text: Value) -> Outcome<Value> {
        match filter {
            Some(filter) => self.eval_filter_on(filter, text),
            None => Ok(text),
        }
    }

    pub fn assign(&mut self, target: &Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => self.set(*name, value),
            Target::Member(name, member) => {
                let Value::Namespace(place) = self.lookup(*name) else {
                    return Err(fault("cannot assign attribute on non-namespace object"));
                };
                self.set_member(place, member, value)?;
            }
            Target::Tuple(targets) => {
                let items = value.items(self.budget)?;
                if items.len() != targets.len() {
                    return Err(fault(format!(
                        "{} values for {} names to be assigned to",
                        items.len(),
                        targets.len()
                    )));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item)?;
                }
            }
        }
        Ok(())
    }

    fn make_macro(&mut self, macro_: &'t Macro) -> Outcome<Value> {
        self.budget.pay(ENTRY_BYTES)?;
        self.keep_scopes();
        self.macros.push((macro_, self.scope));
        Ok(Value::Macro(self.macros.len() - 1))
    }

    /// The scopes around outlive their bodies.
    pub fn keep_scopes(&mut self) {
        let mut next = Some(self.scope);
        while let Some(place) = next {
            let scope = &mut self.scopes[place];
            if std::mem::replace(&mut scope.is_kept, true) {
                break;
            }
            next = scope.parent;
        }
    }

    /// What the macro's body writes, with `bind` for its variables.
    pub fn run_macro(
        &mut self,
        place: usize,
        bind: impl FnOnce(&mut Self, &'t Macro) -> Outcome<()>,
    ) -> Outcome<Value> {
        let (macro_, scope) = self.macros[place];
        let text = self.nested(|this| {
            this.captured(|this| {
                this.in_scope(scope, |this| {
                    bind(this, macro_)?;
                    this.statements(&macro_.body).map(|_| ())
                })
            })
        })?;
        self.budget.pay_usize(text.len())?;
        Ok(Value::str(text))
    }

    pub fn macro_name(&self, place: usize) -> &str {
        &self.macros[place].0.name
    }

    pub fn namespace(&self, place: usize) -> &Dict {
        &self.namespaces[place]
    }

    pub fn make_namespace(&mut self, members: Dict) -> Outcome<Value> {
        self.budget.pay(ENTRY_BYTES)?;
        self.namespaces.push(members);
        Ok(Value::Namespace(self.namespaces.len() - 1))
    }

    fn set_member(&mut self, place: usize, member: &str, value: Value) -> Outcome<()> {
        if member.starts_with('_') {
            return Err(fault(format!(
                "a namespace takes no names that begin with an underscore: {member}"
            )));
        }
        self.namespaces[place].insert(self.budget, Value::str(member), value)
    }
}
