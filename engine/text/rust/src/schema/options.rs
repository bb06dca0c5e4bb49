//! `x-guidance` in a schema: how its JSON is written, and how strictly the schema is taken.

use super::numbers::wrong;
use super::strings::is_empty;
use super::value::{quote, Json, Members};
use crate::failure::{Failure, Outcome};
use llguidance::derivre::RegexAst;

/// A space, or a line break and the blanks that indent the next line: without end, a model may never write anything
/// else again.
const WHITESPACE: &str = r" |\r?\n[ \t]{0,64}";
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];
const NAMES: &str = "whitespace_flexible, whitespace_pattern, item_separator, key_separator, coerce_one_of or lenient";

pub struct Options {
    pub item_separator: String,
    pub key_separator: String,
    /// What may stand where JSON allows whitespace, besides nothing.
    pub whitespace: Option<RegexAst>,
    /// oneOf is taken as anyOf where its schemas may overlap.
    pub coerce_one_of: bool,
    /// What cannot be followed is passed over.
    pub lenient: bool,
}

impl Options {
    pub fn read(schema: &Json, compact: bool) -> Outcome<Self> {
        let mut options = Options {
            item_separator: ",".into(),
            key_separator: ":".into(),
            whitespace: Some(RegexAst::Regex(WHITESPACE.into())),
            coerce_one_of: false,
            lenient: false,
        };
        if let Json::Object(members) = schema {
            match members.get("x-guidance") {
                None => {}
                Some(Json::Object(given)) => options.take(given)?,
                Some(other) => return Err(wrong("x-guidance", other, "an object")),
            }
        }
        if compact {
            options.whitespace = None;
        }
        Ok(options)
    }

    fn take(&mut self, given: &Members) -> Outcome<()> {
        let (mut flexible, mut pattern) = (true, None);
        for (name, value) in given {
            match (name.as_str(), value) {
                ("whitespace_flexible", Json::Bool(value)) => flexible = *value,
                ("coerce_one_of", Json::Bool(value)) => self.coerce_one_of = *value,
                ("lenient", Json::Bool(value)) => self.lenient = *value,
                ("whitespace_pattern", Json::String(text)) => pattern = Some(text),
                ("whitespace_pattern", Json::Null) => pattern = None,
                ("item_separator", Json::String(text)) if text.trim_matches(BLANKS) == "," => {
                    self.item_separator = text.clone()
                }
                ("key_separator", Json::String(text)) if text.trim_matches(BLANKS) == ":" => {
                    self.key_separator = text.clone()
                }
                _ => return Err(wrong_option(name, value)),
            }
        }
        if let Some(text) = pattern {
            // What is no whitespace would be no JSON.
            let blanks = RegexAst::Regex(r"[ \t\r\n]*".into());
            let whitespace = RegexAst::And(vec![RegexAst::Regex(text.clone()), blanks]);
            is_empty("x-guidance.whitespace_pattern", &whitespace)?;
            self.whitespace = Some(whitespace);
        } else if !flexible {
            self.whitespace = None;
        }
        Ok(())
    }
}

fn wrong_option(name: &str, value: &Json) -> Failure {
    let expected = match name {
        "whitespace_flexible" | "coerce_one_of" | "lenient" => "true or false",
        "whitespace_pattern" => "a regular expression",
        "item_separator" => "a comma, with whitespace at most",
        "key_separator" => "a colon, with whitespace at most",
        _ => return Failure::invalid(format!("x-guidance has {}, expected {NAMES}", quote(name))),
    };
    wrong(&format!("x-guidance.{name}"), value, expected)
}
