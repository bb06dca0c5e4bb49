//! Which keywords are followed. Others of JSON Schema are refused unless they ask for nothing; unknown ones are notes.

use super::decimal::Decimal;
use super::value::{Json, Members};
use crate::failure::{Failure, Outcome};

/// Of the value itself. $ref, allOf, anyOf, oneOf, const and enum are followed besides.
pub const FOLLOWED: [&str; 21] = [
    "type",
    "properties",
    "patternProperties",
    "additionalProperties",
    "required",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];

pub fn check(members: &Members) -> Outcome<()> {
    let refused: Vec<_> = members
        .iter()
        .filter(|(key, value)| !passes(key, value, members))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = refused
        .iter()
        .map(|(key, value)| format!("{key} (here {})", value.quoted()))
        .collect();
    Err(Failure::invalid(format!("cannot be followed: {}", named.join(", "))))
}

fn passes(key: &str, value: &Json, members: &Members) -> bool {
    let has = |key| members.contains_key(key);
    match key {
        "not" => matches!(value, Json::Bool(false)),
        "if" => !has("then") && !has("else"),
        "uniqueItems" => matches!(value, Json::Bool(false)),
        "propertyNames" | "unevaluatedItems" | "unevaluatedProperties" => allows_all(value),
        "contains" => !has("maxContains") && members.get("minContains").is_some_and(is_zero),
        "dependencies" | "dependentRequired" | "dependentSchemas" => match value {
            Json::Object(of_names) => of_names.values().all(|asked| match asked {
                Json::Array(names) => names.is_empty(),
                schema => allows_all(schema),
            }),
            _ => false,
        },
        "$dynamicRef" | "$recursiveRef" => false,
        _ => true,
    }
}

fn is_zero(value: &Json) -> bool {
    matches!(value, Json::Number(number) if number.value.as_ref().is_some_and(Decimal::is_zero))
}

fn allows_all(schema: &Json) -> bool {
    match schema {
        Json::Bool(value) => *value,
        Json::Object(members) => members.is_empty(),
        _ => false,
    }
}
