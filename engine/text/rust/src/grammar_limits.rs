//! What a grammar's text may hold, where the library that compiles it has no limit of its own or one that is too far
//! away.

use crate::failure::{Failure, Outcome};
use serde_json::{Deserializer, Value};
use std::collections::HashSet;

/// How deep brackets may nest: for the libraries that parse them by recursion. JSON's stops at 127, Lark's at 28
/// groups.
const NESTING_MAX: usize = 200;
/// Of items and properties.
const COUNT_MAX: f64 = 10_000.0;
/// Of all names in a schema: the work on an object is the square of its names, and they may come from anywhere in the
/// schema.
const NAMES_MAX: usize = 1_000;
/// The same for a schema that counts properties, where it is the cube.
const COUNTED_NAMES_MAX: usize = 100;
/// Of patterns for names, each of which is held against each other.
const PATTERNS_MAX: usize = 50;
const MULTIPLE_MAX: f64 = 10_000.0;
const MULTIPLE_DECIMALS_MAX: i32 = 4;

/// Looks at every member, whether it is a keyword, a name or part of a value: a $ref may make a schema of any of them.
pub fn check_schema(schema: &Value) -> Outcome<()> {
    let mut names = HashSet::new();
    let (mut patterns, mut counts_properties) = (0, false);
    let mut pending = vec![schema];
    while let Some(value) = pending.pop() {
        match value {
            Value::Array(values) => pending.extend(values),
            Value::Object(members) => {
                for (key, value) in members {
                    names.insert(key.as_str());
                    match (key.as_str(), value) {
                        ("minProperties" | "maxProperties", Value::Number(_)) => {
                            counts_properties = true;
                            check_count(key, value)?;
                        }
                        ("minItems" | "maxItems", Value::Number(_)) => check_count(key, value)?,
                        ("multipleOf", Value::Number(_)) => check_multiple(value)?,
                        ("required", Value::Array(required)) => names.extend(required.iter().filter_map(Value::as_str)),
                        ("patternProperties", Value::Object(members)) => patterns += members.len(),
                        _ => {}
                    }
                    pending.push(value);
                }
            }
            _ => {}
        }
    }
    let found = names.len();
    if found > NAMES_MAX {
        return Err(Failure::invalid(format!(
            "{found} different names of properties and keywords, expected at most {NAMES_MAX}"
        )));
    }
    if counts_properties && found > COUNTED_NAMES_MAX {
        let why = "different names of properties and keywords beside minProperties or maxProperties";
        return Err(Failure::invalid(format!(
            "{found} {why}, expected at most {COUNTED_NAMES_MAX}"
        )));
    }
    if patterns > PATTERNS_MAX {
        return Err(Failure::invalid(format!(
            "patternProperties has {patterns} patterns in all, expected at most {PATTERNS_MAX}"
        )));
    }
    Ok(())
}

fn check_count(key: &str, count: &Value) -> Outcome<()> {
    match count.as_f64() {
        Some(count) if count > COUNT_MAX => Err(Failure::invalid(format!(
            "{key} is {count}, expected at most {COUNT_MAX}"
        ))),
        _ => Ok(()),
    }
}

/// The library computes with 32 bits, and does not notice where that is too little.
fn check_multiple(multiple: &Value) -> Outcome<()> {
    let value = multiple.as_f64().unwrap_or_default();
    let smallest = value * 10f64.powi(MULTIPLE_DECIMALS_MAX);
    if value <= MULTIPLE_MAX && smallest >= 1.0 && (smallest - smallest.round()).abs() < 1e-6 {
        return Ok(());
    }
    let range = format!("a number above 0, at most {MULTIPLE_MAX}, of at most {MULTIPLE_DECIMALS_MAX} decimals");
    Err(Failure::invalid(format!("multipleOf is {multiple}, expected {range}")))
}

/// Of a grammar and of the schemas in it; what is no JSON there is left to the library.
pub fn check_lark(text: &str) -> Outcome<()> {
    check_nesting(text)?;
    const SCHEMA: &str = "%json";
    for (place, _) in text.match_indices(SCHEMA) {
        let mut values = Deserializer::from_str(&text[place + SCHEMA.len()..]).into_iter();
        if let Some(Ok(schema)) = values.next() {
            check_schema(&schema)?;
        }
    }
    Ok(())
}

/// Counts what is in strings and classes too, so that it may refuse too much but never too little.
pub fn check_nesting(text: &str) -> Outcome<()> {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > NESTING_MAX {
        return Err(Failure::invalid(format!(
            "brackets nest {deepest} deep, expected at most {NESTING_MAX}"
        )));
    }
    Ok(())
}
