//! JSON schemas as grammars. llguidance has a reader of schemas, too, but it computes with doubles, takes no regular
//! expression for a number, skips whitespace without end, and lets names be spelled in two ways. So it is given finished
//! rules.
//!
//! A schema goes through these steps. `value` reads it with all digits. `sources` gathers what $ref, allOf and the like
//! bring together in one place of a value. `alternatives` makes the choices of anyOf and oneOf. `facts`, `numbers`,
//! `strings` and `containers` say what is then asked of each type. `forms` gives each combination of schemas one form.
//! `possible` finds those that nothing satisfies, and `emit` writes the others as rules.

mod alternatives;
mod containers;
mod decimal;
mod emit;
mod facts;
mod formats;
mod forms;
mod keywords;
mod members;
mod numbers;
mod options;
mod patterns;
mod possible;
mod ranges;
mod references;
mod rules;
mod sources;
mod strings;
mod value;

pub use decimal::Decimal;
pub use numbers::check_multiple;
pub use value::Json;

use crate::failure::{Failure, Outcome};
use llguidance::api::ParserLimits;
use llguidance::earley::lexerspec::LexerSpec;
use llguidance::earley::Grammar;

/// `compact`: without whitespace.
pub fn compile(schema: &Json, compact: bool, limits: ParserLimits) -> Outcome<(Grammar, LexerSpec)> {
    let options = options::Options::read(schema, compact)?;
    let mut gatherer = sources::Gatherer::new(schema, options);
    let forms = forms::forms(&mut gatherer, sources::Source::of(schema)?)?;
    let possible = possible::possible(&forms.all);
    if !possible[0] {
        let why = possible::why_not(&forms.all, &possible, 0);
        return Err(Failure::invalid(format!("unsatisfiable: {why}")));
    }
    let rules = rules::Rules::new(limits)?;
    Ok(emit::emit(&forms, &possible, &gatherer.options, rules)?.finish())
}
