//! The patterns of patternProperties: which names they match, and that no two match the same.

use super::strings::search;
use super::value::{cut, quote};
use crate::failure::{Failure, Outcome};
use llguidance::derivre::{ExprRef, Regex, RegexAst, RegexBuilder};
use std::collections::{HashMap, HashSet};

const WORK_MAX: u64 = 10_000;

pub struct Patterns<'a> {
    /// It reads each pattern once, since classes of characters may take a millisecond.
    builder: RegexBuilder,
    expressions: HashMap<&'a str, ExprRef>,
    compiled: HashMap<&'a str, Regex>,
    matched: HashMap<(&'a str, &'a str), bool>,
    apart: HashSet<(&'a str, &'a str)>,
}

impl<'a> Patterns<'a> {
    pub fn new() -> Self {
        Patterns {
            builder: RegexBuilder::new(),
            expressions: HashMap::new(),
            compiled: HashMap::new(),
            matched: HashMap::new(),
            apart: HashSet::new(),
        }
    }

    pub fn matches(&mut self, pattern: &'a str, name: &'a str) -> Outcome<bool> {
        if let Some(matches) = self.matched.get(&(pattern, name)) {
            return Ok(*matches);
        }
        if !self.compiled.contains_key(pattern) {
            let expression = RegexAst::ExprRef(self.expression(pattern)?);
            let regex = self.compile(pattern, &expression)?;
            self.compiled.insert(pattern, regex);
        }
        let matches = self.compiled.get_mut(pattern).is_some_and(|regex| regex.is_match(name));
        self.matched.insert((pattern, name), matches);
        Ok(matches)
    }

    pub fn check_apart(&mut self, patterns: &[&'a str]) -> Outcome<()> {
        for (place, a) in patterns.iter().enumerate() {
            for b in &patterns[..place] {
                if self.apart.contains(&(*a, *b)) {
                    continue;
                }
                let both = vec![self.expression(a)?, self.expression(b)?];
                let both = RegexAst::And(both.into_iter().map(RegexAst::ExprRef).collect());
                if !self.compile(a, &both)?.always_empty() {
                    return Err(Failure::invalid(format!(
                        "patternProperties: {} and {} may match the same name, which cannot be followed",
                        cut(quote(a)),
                        cut(quote(b))
                    )));
                }
                self.apart.insert((*a, *b));
            }
        }
        Ok(())
    }

    fn expression(&mut self, pattern: &'a str) -> Outcome<ExprRef> {
        if let Some(expression) = self.expressions.get(pattern) {
            return Ok(*expression);
        }
        let expression = self.builder.mk(&search(pattern));
        let expression = expression.map_err(|error| wrong(pattern, &error.to_string()))?;
        self.expressions.insert(pattern, expression);
        Ok(expression)
    }

    fn compile(&mut self, pattern: &str, regex: &RegexAst) -> Outcome<Regex> {
        let whole = self.builder.mk(regex);
        let compiled = whole.and_then(|whole| self.builder.to_regex_limited(whole, WORK_MAX));
        compiled.map_err(|error| wrong(pattern, &error.to_string()))
    }
}

fn wrong(pattern: &str, error: &str) -> Failure {
    Failure::invalid(format!("patternProperties: {}: {error}", cut(quote(pattern))))
}
