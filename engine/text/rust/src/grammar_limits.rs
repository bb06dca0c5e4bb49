//! What a grammar's text may hold, where the library that compiles it has no limit of its own or one that is too far
//! away.

use crate::failure::{Failure, Outcome};
use crate::schema::{check_multiple, Decimal, Json};
use serde_json::value::RawValue;
use serde_json::Deserializer;
use std::collections::HashSet;

/// How deep brackets may nest: for the libraries that parse them by recursion. JSON's stops at 127, Lark's at 28
/// groups.
const NESTING_MAX: usize = 200;
/// Of items and properties.
const COUNT_MAX: u32 = 10_000;
/// Of all names in a schema: the work on an object is the square of its names, and they may come from anywhere in the
/// schema.
const NAMES_MAX: usize = 1_000;
/// The same for a schema that counts properties, where it is the cube.
const COUNTED_NAMES_MAX: usize = 100;
/// Of patterns for names, each of which is held against each other.
const PATTERNS_MAX: usize = 50;

const SCHEMA: &str = "%json";

/// Looks at every member, whether it is a keyword, a name or part of a value: a $ref may make a schema of any of them.
pub fn check_schema(schema: &Json) -> Outcome<()> {
    let mut names = HashSet::new();
    let (mut patterns, mut counts_properties) = (0, false);
    let mut pending = vec![schema];
    while let Some(value) = pending.pop() {
        match value {
            Json::Array(values) => pending.extend(values),
            Json::Object(members) => {
                for (key, value) in members {
                    names.insert(key.as_str());
                    match (key.as_str(), value) {
                        ("minProperties" | "maxProperties", Json::Number(_)) => {
                            counts_properties = true;
                            check_count(key, value)?;
                        }
                        ("minItems" | "maxItems", Json::Number(_)) => check_count(key, value)?,
                        ("multipleOf", Json::Number(_)) => check_multiple(value)?,
                        ("required", Json::Array(required)) => names.extend(required.iter().filter_map(text)),
                        ("patternProperties", Json::Object(members)) => patterns += members.len(),
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

fn text(value: &Json) -> Option<&str> {
    match value {
        Json::String(text) => Some(text),
        _ => None,
    }
}

fn check_count(key: &str, count: &Json) -> Outcome<()> {
    let Json::Number(number) = count else { return Ok(()) };
    let most = Decimal::from(COUNT_MAX);
    match &number.value {
        Some(value) if *value <= most => Ok(()),
        _ => Err(Failure::invalid(format!(
            "{key} is {}, expected at most {COUNT_MAX}",
            count.quoted()
        ))),
    }
}

/// Of a grammar and of the schemas in it; what is no JSON there is left to the library.
pub fn check_lark(text: &str) -> Outcome<()> {
    check_nesting(text)?;
    for (place, _) in text.match_indices(SCHEMA) {
        let mut values = Deserializer::from_str(&text[place + SCHEMA.len()..]).into_iter::<&RawValue>();
        if let Some(Ok(raw)) = values.next() {
            let schema = Json::read(raw)?;
            check_schema(&schema)?;
            check_doubles(&schema)?;
        }
    }
    Ok(())
}

/// The library reads the schemas in a grammar itself, and computes with doubles.
fn check_doubles(schema: &Json) -> Outcome<()> {
    let mut pending = vec![schema];
    while let Some(value) = pending.pop() {
        match value {
            Json::Array(values) => pending.extend(values),
            Json::Object(members) => pending.extend(members.values()),
            Json::Number(number) if !number.value.as_ref().is_some_and(Decimal::is_double) => {
                let held = "a number of at most 15 digits; json_schema takes more";
                return Err(Failure::invalid(format!(
                    "{SCHEMA} has {}, expected {held}",
                    value.quoted()
                )));
            }
            _ => {}
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
