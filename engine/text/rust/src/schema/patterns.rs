//! The patterns of patternProperties: which names they match, and that no two match the same.

use super::strings::search;
use crate::failure::{Failure, Outcome};
use llguidance::derivre::{Regex, RegexAst, RegexBuilder};
use std::collections::{HashMap, HashSet};

const WORK_MAX: u64 = 10_000;

#[derive(Default)]
pub struct Patterns {
    compiled: HashMap<String, Regex>,
    apart: HashSet<(String, String)>,
}

impl Patterns {
    pub fn matches(&mut self, pattern: &str, name: &str) -> Outcome<bool> {
        if !self.compiled.contains_key(pattern) {
            let regex = compile(&search(pattern)).map_err(|error| wrong(pattern, error))?;
            self.compiled.insert(pattern.to_string(), regex);
        }
        Ok(self.compiled.get_mut(pattern).is_some_and(|regex| regex.is_match(name)))
    }

    pub fn check_apart(&mut self, patterns: &[&str]) -> Outcome<()> {
        for (place, a) in patterns.iter().enumerate() {
            for b in &patterns[..place] {
                let pair = (a.to_string(), b.to_string());
                if self.apart.contains(&pair) {
                    continue;
                }
                let both = RegexAst::And(vec![search(a), search(b)]);
                let mut regex = compile(&both).map_err(|error| wrong(a, error))?;
                if !regex.always_empty() {
                    return Err(Failure::invalid(format!(
                        "patternProperties: {a:?} and {b:?} may match the same name, which cannot be followed"
                    )));
                }
                self.apart.insert(pair);
            }
        }
        Ok(())
    }
}

fn compile(regex: &RegexAst) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new();
    let whole = builder.mk(regex).map_err(|error| error.to_string())?;
    builder
        .into_regex_limited(whole, WORK_MAX)
        .map_err(|error| error.to_string())
}

fn wrong(pattern: &str, error: String) -> Failure {
    Failure::invalid(format!("patternProperties: {pattern:?}: {error}"))
}
