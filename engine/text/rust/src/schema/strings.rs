//! What a schema asks of strings, as a regular expression over their text between quotes.

use super::formats;
use super::numbers::wrong;
use super::value::Json;
use crate::failure::{Failure, Outcome};
use llguidance::derivre::{JsonQuoteOptions, RegexAst, RegexBuilder};
use llguidance::regex_to_lark;

/// Work of finding out whether a regular expression matches anything at all.
const EMPTINESS_FUEL: u64 = 10_000;

#[derive(Clone, Default)]
pub struct Strings {
    min_length: u32,
    max_length: Option<u32>,
    rules: Vec<RegexAst>,
}

impl Strings {
    pub fn longer(&mut self, min_length: u32) {
        self.min_length = self.min_length.max(min_length);
    }

    pub fn shorter(&mut self, max_length: u32) {
        self.max_length = Some(self.max_length.map_or(max_length, |max| max.min(max_length)));
    }

    pub fn matching(&mut self, value: &Json) -> Outcome<()> {
        let Json::String(pattern) = value else {
            return Err(wrong("pattern", value, "a regular expression"));
        };
        self.rules.push(search(pattern));
        // Tells what is wrong with it by its own name.
        regex_of("pattern", &search(pattern)).map(|_| ())
    }

    /// Where it is `lenient`, formats that are not known are passed over.
    pub fn of_format(&mut self, value: &Json, lenient: bool) -> Outcome<()> {
        let rule = match value {
            Json::String(name) => formats::regex(name),
            _ => None,
        };
        if rule.is_none() && !lenient {
            return Err(wrong("format", value, &format!("one of {}", formats::names())));
        }
        self.rules.extend(rule);
        Ok(())
    }

    /// Of these texts only, where there are any. None where no string is left.
    pub fn regex(&self, texts: Option<&[&str]>) -> Outcome<Option<RegexAst>> {
        let mut all = self.rules.clone();
        let fits = |text: &&&str| {
            let length = text.chars().count();
            length >= self.min_length as usize && self.max_length.is_none_or(|max| length <= max as usize)
        };
        let mut surely = all.is_empty();
        if let Some(texts) = texts {
            let fitting: Vec<_> = texts
                .iter()
                .filter(fits)
                .map(|text| RegexAst::Literal(text.to_string()))
                .collect();
            surely &= !fitting.is_empty();
            all.push(RegexAst::Or(fitting));
        } else if self.min_length > 0 || self.max_length.is_some() || all.is_empty() {
            let max = self.max_length.unwrap_or(u32::MAX);
            if self.min_length > max {
                return Ok(None);
            }
            let any = Box::new(RegexAst::Regex("(?s:.)".into()));
            all.push(RegexAst::Repeat(any, self.min_length, max));
        }
        let regex = RegexAst::And(all);
        if !surely && is_empty("pattern, format and lengths together", &regex)? {
            return Ok(None);
        }
        Ok(Some(quoted(regex)))
    }
}

/// Where the text matches anywhere, as schemas have it; \d and \w are of ASCII, as in JavaScript.
pub fn search(pattern: &str) -> RegexAst {
    RegexAst::SearchRegex(regex_to_lark(pattern, "dw"))
}

/// As a JSON string writes it. Only what must be escaped is, so that a text is not spelled in many ways.
pub fn quoted(text: RegexAst) -> RegexAst {
    RegexAst::JsonQuote(Box::new(text), JsonQuoteOptions::regular())
}

/// `what` names what it comes from.
pub fn is_empty(what: &str, regex: &RegexAst) -> Outcome<bool> {
    let mut builder = RegexBuilder::new();
    let whole = builder.mk(regex).map_err(|error| Failure::invalid(error.to_string()))?;
    if builder.exprset().is_positive(whole) {
        return Ok(false);
    }
    match builder.into_regex_limited(whole, EMPTINESS_FUEL) {
        Ok(mut states) => Ok(states.always_empty()),
        Err(_) => Err(Failure::invalid(format!("too complex: whether {what} allow any text"))),
    }
}

fn regex_of(keyword: &str, regex: &RegexAst) -> Outcome<()> {
    let made = RegexBuilder::new().mk(regex);
    made.map(|_| ())
        .map_err(|error| Failure::invalid(format!("{keyword}: {error}")))
}
