//! Macros, the blocks that call them, and what assignments write to.

use super::ast::{Expr, Macro, Name, StmtKind, Target};
use super::error::Outcome;
use super::lexer::Kind;
use super::parser::Parser;
use std::sync::Arc;

impl Parser {
    pub fn macro_statement(&mut self) -> Outcome<StmtKind> {
        let name = self.expect_name()?;
        let variable = self.intern(&name);
        let (parameters, defaults) = self.signature()?;
        let (body, special) = self.in_macro(|parser| Ok(parser.body(&["endmacro"])?.0))?;
        let macro_ = Macro {
            name,
            parameters,
            defaults,
            body,
            special,
        };
        Ok(StmtKind::Macro(variable, Box::new(macro_)))
    }

    pub fn call_statement(&mut self) -> Outcome<StmtKind> {
        let (parameters, defaults) = if self.is_op("(") {
            self.signature()?
        } else {
            Default::default()
        };
        let Expr::Call(callee, arguments) = self.expression()? else {
            return self.error("expected a call");
        };
        let (body, special) = self.in_macro(|parser| Ok(parser.body(&["endcall"])?.0))?;
        let caller = Macro {
            name: Arc::from("caller"),
            parameters,
            defaults,
            body,
            special,
        };
        Ok(StmtKind::CallBlock {
            call: (*callee, arguments),
            caller: Box::new(caller),
        })
    }

    /// Parses the body of a macro, and says which special names it uses.
    pub fn in_macro<T>(&mut self, parse: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<(T, [Option<Name>; 3])> {
        let loops = std::mem::take(&mut self.loops);
        self.used.push([None; 3]);
        let result = parse(self)?;
        self.loops = loops;
        Ok((result, self.used.pop().unwrap_or_default()))
    }

    #[allow(clippy::type_complexity)]
    fn signature(&mut self) -> Outcome<(Vec<(Name, Arc<str>)>, Vec<Expr>)> {
        let (mut parameters, mut defaults) = (Vec::new(), Vec::new());
        self.expect_op("(")?;
        while !self.skip_op(")") {
            if !parameters.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.expect_name()?;
            parameters.push((self.intern(&name), name));
            if self.skip_op("=") {
                defaults.push(self.expression()?);
            } else if !defaults.is_empty() {
                return self.error("a parameter without a default follows one with a default");
            }
        }
        Ok((parameters, defaults))
    }

    /// What an assignment writes to.
    pub fn target(&mut self, with_tuple: bool, with_member: bool) -> Outcome<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if self.skip_op("(") {
                targets.push(self.target(true, with_member)?);
                self.expect_op(")")?;
            } else {
                let name = self.expect_name()?;
                if matches!(&name[..], "true" | "false" | "none" | "True" | "False" | "None") {
                    return self.error(format!("{name} cannot be assigned to"));
                }
                let variable = self.intern(&name);
                targets.push(if with_member && self.skip_op(".") {
                    Target::Member(variable, self.expect_name()?)
                } else {
                    Target::Name(variable)
                });
            }
            if !(with_tuple && self.skip_op(",")) {
                break;
            }
            is_tuple = true;
            if self.is_name("in") || !matches!(self.kind(), Kind::Name(_) | Kind::Op("(")) {
                break;
            }
        }
        match targets.pop() {
            Some(target) if targets.is_empty() && !is_tuple => Ok(target),
            last => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }
}
