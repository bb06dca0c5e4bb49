//! A JSON text as it was written: numbers keep all their digits, members their order.

use super::decimal::Decimal;
use crate::failure::{Failure, Outcome};
use indexmap::IndexMap;
use serde_json::value::RawValue;

/// The last of several members of one name counts, as in other readers of JSON.
pub type Members = IndexMap<String, Json>;

pub enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Members),
}

pub struct Number {
    pub text: String,
    /// None where it has too many digits.
    pub value: Option<Decimal>,
}

/// As far as other readers go.
const NESTING_MAX: usize = 127;
const QUOTED_CHARS_MAX: usize = 80;

impl Json {
    pub fn parse(text: &str) -> Outcome<Json> {
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|error| Failure::invalid(format!("no JSON: {error}")))?;
        Json::read(raw)
    }

    pub fn read(raw: &RawValue) -> Outcome<Json> {
        Json::read_nested(raw, 0)
    }

    fn read_nested(raw: &RawValue, depth: usize) -> Outcome<Json> {
        if depth > NESTING_MAX {
            return Err(Failure::invalid(format!("nests deeper than {NESTING_MAX}")));
        }
        // The text is JSON: what can still be wrong is half of a surrogate pair, at a place of no use to the caller.
        let wrong = |error: serde_json::Error| {
            let text = error.to_string();
            Failure::invalid(format!(
                "no JSON: {}",
                text.split(" at line").next().unwrap_or_default()
            ))
        };
        let text = raw.get();
        Ok(match text.as_bytes()[0] {
            b'n' => Json::Null,
            b't' | b'f' => Json::Bool(text == "true"),
            b'"' => Json::String(serde_json::from_str(text).map_err(wrong)?),
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
                let items = items.into_iter().map(|item| Json::read_nested(item, depth + 1));
                Json::Array(items.collect::<Outcome<_>>()?)
            }
            b'{' => {
                let members: IndexMap<String, &RawValue> = serde_json::from_str(text).map_err(wrong)?;
                let members = members
                    .into_iter()
                    .map(|(name, value)| Ok((name, Json::read_nested(value, depth + 1)?)));
                Json::Object(members.collect::<Outcome<_>>()?)
            }
            _ => Json::Number(Number {
                text: text.to_string(),
                value: Decimal::parse(text),
            }),
        })
    }

    /// For messages: its JSON, cut where it gets long.
    pub fn quoted(&self) -> String {
        match self {
            Json::Null => "null".into(),
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => cut(number.text.clone()),
            Json::String(text) => cut(quote(text)),
            Json::Array(items) => quote_items(items),
            Json::Object(members) => quote_members(members),
        }
    }
}

pub fn quote_items(items: &[Json]) -> String {
    let items = items.iter().take(QUOTED_CHARS_MAX).map(Json::quoted);
    cut(format!("[{}]", items.collect::<Vec<_>>().join(",")))
}

pub fn quote_members(members: &Members) -> String {
    let members = members
        .iter()
        .take(QUOTED_CHARS_MAX)
        .map(|(name, value)| format!("{}:{}", quote(name), value.quoted()));
    cut(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
}

/// The JSON string that holds this text.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub fn cut(text: String) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
