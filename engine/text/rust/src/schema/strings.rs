//! What a schema asks of strings, as a regular expression over their text between quotes.

use super::formats;
use super::numbers::wrong;
use super::value::Json;
use crate::failure::{Failure, Outcome};
use llguidance::derivre::{JsonQuoteOptions, RegexAst, RegexBuilder};
use llguidance::regex_to_lark;

/// Work of finding out whether a regular expression matches anything at all, about a millisecond.
const EMPTINESS_FUEL: u64 = 10_000;
/// The steps that this may take, of those of all schemas together. Most of it is reading long classes of characters.
const EMPTINESS_WORK: usize = 1_000;

#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Strings<'a> {
    /// One of these, where there are any.
    pub texts: Option<Vec<&'a str>>,
    min_length: u32,
    max_length: Option<u32>,
    patterns: Vec<&'a str>,
    formats: Vec<&'a str>,
}

impl<'a> Strings<'a> {
    /// Steps that finding out whether any string is left may take.
    pub fn work(&self) -> usize {
        (self.patterns.len() + self.formats.len()) * EMPTINESS_WORK
    }

    pub fn longer(&mut self, min_length: u32) {
        self.min_length = self.min_length.max(min_length);
    }

    pub fn shorter(&mut self, max_length: u32) {
        self.max_length = Some(self.max_length.map_or(max_length, |max| max.min(max_length)));
    }

    pub fn matching(&mut self, value: &'a Json) -> Outcome<()> {
        let Json::String(pattern) = value else {
            return Err(wrong("pattern", value, "a regular expression"));
        };
        self.patterns.push(pattern);
        Ok(())
    }

    /// Where it is `lenient`, formats that are not known are passed over.
    pub fn of_format(&mut self, value: &'a Json, lenient: bool) -> Outcome<()> {
        match value {
            Json::String(name) if formats::is_known(name) => self.formats.push(name),
            _ if lenient => {}
            _ => return Err(wrong("format", value, &format!("one of {}", formats::names()))),
        }
        Ok(())
    }

    /// None where no string is left.
    pub fn regex(&self) -> Outcome<Option<RegexAst>> {
        let patterns = self.patterns.iter().map(|pattern| search(pattern));
        let formats = self.formats.iter().filter_map(|name| formats::regex(name));
        let mut all: Vec<RegexAst> = patterns.chain(formats).collect();
        if let Some(texts) = &self.texts {
            let fits = |text: &&&str| {
                let length = text.chars().count();
                length >= self.min_length as usize && self.max_length.is_none_or(|max| length <= max as usize)
            };
            let literal = |text: &&str| RegexAst::Literal(text.to_string());
            all.push(RegexAst::Or(texts.iter().filter(fits).map(literal).collect()));
        } else if all.is_empty() || self.min_length > 0 || self.max_length.is_some() {
            let max = self.max_length.unwrap_or(u32::MAX);
            if self.min_length > max {
                return Ok(None);
            }
            let any = Box::new(RegexAst::Regex("(?s:.)".into()));
            all.push(RegexAst::Repeat(any, self.min_length, max));
        }
        let regex = RegexAst::And(all);
        match is_empty("pattern", &regex)? {
            true => Ok(None),
            false => Ok(Some(quoted(regex))),
        }
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

/// `keyword` is what the patterns in it come from.
pub fn is_empty(keyword: &str, regex: &RegexAst) -> Outcome<bool> {
    let mut builder = RegexBuilder::new();
    let whole = builder.mk(regex);
    let whole = whole.map_err(|error| Failure::invalid(format!("{keyword}: {error}")))?;
    if builder.exprset().is_positive(whole) {
        return Ok(false);
    }
    match builder.into_regex_limited(whole, EMPTINESS_FUEL) {
        Ok(mut states) => Ok(states.always_empty()),
        Err(_) => Err(Failure::invalid(format!(
            "{keyword}: too complex to tell whether it leaves anything beside what else is asked"
        ))),
    }
}
