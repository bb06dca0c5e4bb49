//! Jinja templates with Python's values: what jinja2's sandbox renders with the settings that transformers gives it.
//! Chat templates are written for that, so differences show in prompts. A template comes from a stranger: whatever
//! it does is bounded, in the parser by its size and nesting, in a render by the budget.

mod arguments;
mod ast;
mod attributes;
mod budget;
mod calls;
mod compare;
mod containers;
mod dict;
mod error;
mod eval;
mod expressions;
mod filters;
mod format;
mod interpreter;
mod is_tests;
mod json;
mod lexer;
mod list_filters;
mod literals;
mod loops;
mod macros;
mod numbers;
mod parser;
mod percent;
mod print;
mod slices;
mod strings;
mod text;
mod text_filters;
mod value;

pub use budget::Budget;
pub use error::Error;
pub use value::{Dict, Value};

use interpreter::Interpreter;
use std::sync::Arc;

/// A parsed template; immutable, and any number of threads may render it at once.
pub struct Template {
    names: Vec<Arc<str>>,
    body: Vec<ast::Stmt>,
}

impl Template {
    pub fn parse(source: &str) -> Result<Self, Error> {
        let (names, body) = parser::parse(lexer::tokens(source)?)?;
        Ok(Template { names, body })
    }

    /// The text, with these variables set. `now_seconds` is what strftime_now() sees, since the epoch.
    pub fn render(&self, budget: &Budget, variables: Vec<(String, Value)>, now_seconds: i64) -> Result<String, Error> {
        Interpreter::new(&self.names, budget, now_seconds, variables).run(&self.body)
    }
}
