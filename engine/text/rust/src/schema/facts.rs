//! What the parts that apply to one value say about its type, and about null, booleans, numbers and strings.

use super::decimal::Decimal;
use super::numbers::{number, wrong, Numbers};
use super::sources::Source;
use super::strings::Strings;
use super::value::{Json, Members};
use crate::failure::Outcome;
use llguidance::derivre::RegexAst;
use std::collections::HashSet;

/// Types that a value may have, as bits. Whole numbers and others are two.
pub type Types = u8;
pub const NULL: Types = 1;
pub const FALSE: Types = 2;
pub const TRUE: Types = 4;
pub const WHOLE: Types = 8;
pub const FRACTION: Types = 16;
pub const STRING: Types = 32;
pub const ARRAY: Types = 64;
pub const OBJECT: Types = 128;
const ALL: Types = 255;

#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(&'a Decimal),
    String(&'a str),
}

pub struct Facts<'a> {
    pub types: Types,
    /// Those of const and enum, where there are any.
    scalars: Option<Vec<Scalar<'a>>>,
    numbers: Numbers,
    strings: Strings<'a>,
}

impl<'a> Scalar<'a> {
    fn read(value: &'a Json) -> Outcome<Option<Scalar<'a>>> {
        Ok(match value {
            Json::Null => Some(Scalar::Null),
            Json::Bool(value) => Some(Scalar::Bool(*value)),
            Json::Number(_) => Some(Scalar::Number(number("a value of const or enum", value)?)),
            Json::String(text) => Some(Scalar::String(text)),
            Json::Array(_) | Json::Object(_) => None,
        })
    }

    fn types(&self) -> Types {
        match self {
            Scalar::Null => NULL,
            Scalar::Bool(true) => TRUE,
            Scalar::Bool(false) => FALSE,
            Scalar::Number(value) if value.is_whole() => WHOLE,
            Scalar::Number(_) => FRACTION,
            Scalar::String(_) => STRING,
        }
    }
}

impl<'a> Facts<'a> {
    pub fn read(parts: &[Source<'a>], lenient: bool) -> Outcome<Facts<'a>> {
        let mut facts = Facts::of_types(parts)?;
        for part in parts {
            if let Source::Schema(members) = part {
                facts.read_keywords(members, lenient)?;
            }
        }
        Ok(facts)
    }

    /// Without what keywords say of numbers and strings.
    pub fn of_types(parts: &[Source<'a>]) -> Outcome<Facts<'a>> {
        let mut facts = Facts {
            types: ALL,
            scalars: None,
            numbers: Numbers::default(),
            strings: Strings::default(),
        };
        for part in parts {
            match part {
                Source::Schema(members) => {
                    if let Some(value) = members.get("type") {
                        facts.types &= types(value)?;
                    }
                }
                Source::Scalars(values) => facts.keep_scalars(values)?,
                Source::Container(Json::Array(_)) => facts.types &= ARRAY,
                Source::Container(_) => facts.types &= OBJECT,
                Source::Nothing => facts.types = 0,
            }
        }
        facts.numbers.whole = !facts.may_be(FRACTION);
        Ok(facts)
    }

    pub fn may_be(&self, types: Types) -> bool {
        self.types & types != 0
    }

    fn keep_scalars(&mut self, values: &'a [Json]) -> Outcome<()> {
        let mut known = HashSet::new();
        let mut kept = Vec::new();
        for value in values {
            if let Some(scalar) = Scalar::read(value)? {
                if known.insert(scalar.clone()) {
                    kept.push(scalar);
                }
            }
        }
        if let Some(before) = &mut self.scalars {
            before.retain(|scalar| known.contains(scalar));
        } else {
            self.scalars = Some(kept);
        }
        let left = self.scalars.iter().flatten();
        self.types &= left.fold(0, |types, scalar| types | scalar.types());
        Ok(())
    }

    /// Keywords of types that the value cannot have ask for nothing.
    fn read_keywords(&mut self, members: &'a Members, lenient: bool) -> Outcome<()> {
        let excluded = |keyword| matches!(members.get(keyword), Some(Json::Bool(true)));
        for (keyword, value) in members {
            match keyword.as_str() {
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
                    if self.may_be(WHOLE | FRACTION) =>
                {
                    match (keyword.as_str(), value) {
                        // Draft 4 has true or false beside the bound.
                        ("exclusiveMinimum" | "exclusiveMaximum", Json::Bool(_)) => {}
                        ("minimum", _) => self.numbers.read(keyword, value, excluded("exclusiveMinimum"))?,
                        ("maximum", _) => self.numbers.read(keyword, value, excluded("exclusiveMaximum"))?,
                        _ => self.numbers.read(keyword, value, true)?,
                    }
                }
                "minLength" if self.may_be(STRING) => match count(keyword, value)? {
                    u32::MAX => return Err(wrong(keyword, value, "at most 4294967294")),
                    length => self.strings.longer(length),
                },
                "maxLength" if self.may_be(STRING) => self.strings.shorter(count(keyword, value)?),
                "pattern" if self.may_be(STRING) => self.strings.matching(value)?,
                "format" if self.may_be(STRING) => self.strings.of_format(value, lenient)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The texts of null, booleans and numbers that are left.
    pub fn regexes(&self) -> Vec<RegexAst> {
        let words = [(NULL, "null"), (FALSE, "false"), (TRUE, "true")];
        let words = words.iter().filter(|(types, _)| self.may_be(*types));
        let mut regexes: Vec<_> = words.map(|(_, word)| RegexAst::Literal(word.to_string())).collect();
        match &self.scalars {
            Some(scalars) => regexes.extend(scalars.iter().filter_map(|scalar| match scalar {
                Scalar::Number(value) if self.may_be(scalar.types()) && self.numbers.allows(value) => {
                    Some(RegexAst::Literal(value.to_string()))
                }
                _ => None,
            })),
            None if self.may_be(WHOLE | FRACTION) => regexes.extend(self.numbers.regex()),
            None => {}
        }
        regexes
    }

    /// What is asked of strings, where the value may be one.
    pub fn strings(&self) -> Option<Strings<'a>> {
        let text = |scalar: &Scalar<'a>| match scalar {
            Scalar::String(text) => Some(*text),
            _ => None,
        };
        self.may_be(STRING).then(|| {
            let mut strings = self.strings.clone();
            strings.texts = self.scalars.as_ref().map(|scalars| scalars.iter().filter_map(text).collect());
            strings
        })
    }

    /// Whether no null, boolean, number or string can be as both say. Where that is hard to tell, one may.
    pub fn scalars_apart(&self, other: &Facts) -> bool {
        let may_share = |types| self.types & other.types & types != 0;
        if may_share(NULL | FALSE | TRUE) {
            return false;
        }
        if let (Some(mine), Some(theirs)) = (&self.scalars, &other.scalars) {
            return mine.iter().all(|scalar| !theirs.contains(scalar));
        }
        let numbers_apart = match (&self.scalars, &other.scalars) {
            (Some(scalars), _) => !other.may_hold(scalars),
            (_, Some(scalars)) => !self.may_hold(scalars),
            _ => self.numbers.apart_from(&other.numbers),
        };
        !may_share(STRING) && (!may_share(WHOLE | FRACTION) || numbers_apart)
    }

    fn may_hold(&self, scalars: &[Scalar]) -> bool {
        let holds = |scalar: &Scalar| match scalar {
            Scalar::Number(value) => self.numbers.allows(value),
            _ => false,
        };
        scalars.iter().any(holds)
    }
}

fn types(value: &Json) -> Outcome<Types> {
    let expected = "null, boolean, integer, number, string, array, object or a list of these";
    match value {
        Json::String(name) => match name.as_str() {
            "null" => Ok(NULL),
            "boolean" => Ok(FALSE | TRUE),
            "integer" => Ok(WHOLE),
            "number" => Ok(WHOLE | FRACTION),
            "string" => Ok(STRING),
            "array" => Ok(ARRAY),
            "object" => Ok(OBJECT),
            _ => Err(wrong("type", value, expected)),
        },
        Json::Array(names) => names.iter().try_fold(0, |all, name| match name {
            Json::String(_) => Ok(all | types(name)?),
            _ => Err(wrong("type", value, expected)),
        }),
        _ => Err(wrong("type", value, expected)),
    }
}

/// Of letters, items or properties. One beyond 32 bits is their largest.
pub fn count(keyword: &str, value: &Json) -> Outcome<u32> {
    let count = number(keyword, value)?;
    if count.negative || !count.is_whole() {
        return Err(wrong(keyword, value, "a whole number of 0 or more"));
    }
    Ok(count.to_string().parse().unwrap_or(u32::MAX))
}
