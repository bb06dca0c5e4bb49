//! What applies to one value: the schemas that $ref, allOf, anyOf and oneOf bring together in its place.

use super::decimal::Decimal;
use super::keywords;
use super::numbers::wrong;
use super::options::Options;
use super::references::References;
use super::value::{quote_items, quote_members, Json, Members};
use crate::failure::{Failure, Outcome};
use std::collections::HashSet;

/// Of steps that bring schemas together. 64 KiB can ask for any number of them.
const WORK_MAX: usize = 250_000;
const MEMBERS_OF_STEP: usize = 8;
const DIGITS_OF_STEP: usize = 32;

pub type Key = (u8, usize, usize);

#[derive(Clone, Copy)]
pub enum Source<'a> {
    Schema(&'a Members),
    /// One of these, without the arrays and objects among them.
    Scalars(&'a [Json]),
    /// This array or object.
    Container(&'a Json),
    Nothing,
}

impl<'a> Source<'a> {
    /// None where the schema is true.
    pub fn of(schema: &'a Json) -> Outcome<Option<Source<'a>>> {
        match schema {
            Json::Bool(true) => Ok(None),
            Json::Bool(false) => Ok(Some(Source::Nothing)),
            Json::Object(members) => Ok(Some(Source::Schema(members))),
            other => Err(wrong("a JSON schema", other, "an object, true or false")),
        }
    }

    pub fn equal_to(value: &'a Json) -> Source<'a> {
        match value {
            Json::Array(_) | Json::Object(_) => Source::Container(value),
            _ => Source::Scalars(std::slice::from_ref(value)),
        }
    }

    /// Steps that reading it takes.
    fn weight(&self) -> usize {
        let of_value = |value: &Json| match value {
            Json::Number(number) => 1 + number.value.as_ref().map_or(0, Decimal::digits) / DIGITS_OF_STEP,
            _ => 1,
        };
        match self {
            Source::Schema(members) => 1 + members.len() / MEMBERS_OF_STEP,
            Source::Scalars(values) => values.iter().map(of_value).sum(),
            _ => 1,
        }
    }

    /// For messages, cut where it gets long.
    pub fn quoted(&self) -> String {
        match self {
            Source::Schema(members) => quote_members(members),
            Source::Scalars(values) => quote_items(values),
            Source::Container(value) => value.quoted(),
            Source::Nothing => "false".to_string(),
        }
    }

    /// The same for the same place in the schema, read in the same way.
    pub fn key(&self) -> Key {
        match self {
            Source::Schema(members) => (0, address(*members), 0),
            Source::Scalars(values) => (1, values.as_ptr() as usize, values.len()),
            Source::Container(value) => (2, address(*value), 0),
            Source::Nothing => (3, 0, 0),
        }
    }
}

/// All parts apply at once, and so does at least one branch of each choice.
#[derive(Clone, Default)]
pub struct Sources<'a> {
    pub parts: Vec<Source<'a>>,
    choices: Vec<Choice<'a>>,
    entered: HashSet<Key>,
}

/// The schemas that led to a place without going into a part of the value.
type Path<'a> = Vec<&'a Members>;

/// A branch of None asks for nothing.
#[derive(Clone)]
pub struct Choice<'a> {
    pub branches: Vec<Option<Source<'a>>>,
    pub one_of: bool,
    path: Path<'a>,
    key: Key,
}

impl<'a> Sources<'a> {
    pub fn take_choice(&mut self) -> Option<Choice<'a>> {
        match self.choices.is_empty() {
            true => None,
            false => Some(self.choices.remove(0)),
        }
    }

    /// Equal where the same applies.
    pub fn key(&self) -> Vec<Key> {
        let parts = self.parts.iter().map(Source::key);
        let mut keys: Vec<Key> = parts.chain(self.choices.iter().map(|choice| choice.key)).collect();
        keys.sort_unstable();
        keys
    }
}

pub struct Gatherer<'a> {
    pub options: Options,
    references: References<'a>,
    work: usize,
}

impl<'a> Gatherer<'a> {
    pub fn new(root: &'a Json, options: Options) -> Self {
        Gatherer {
            options,
            references: References::new(root),
            work: 0,
        }
    }

    pub fn spend_on(&mut self, parts: &[Source]) -> Outcome<()> {
        self.spend(1 + parts.iter().map(Source::weight).sum::<usize>())
    }

    pub fn spend(&mut self, work: usize) -> Outcome<()> {
        self.work += work;
        match self.work > WORK_MAX {
            true => Err(Failure::invalid(
                "too complex: its schemas come together in too many ways",
            )),
            false => Ok(()),
        }
    }

    pub fn gather(&mut self, sources: &[Source<'a>]) -> Outcome<Sources<'a>> {
        let mut all = Sources::default();
        for source in sources {
            self.add(*source, &mut Vec::new(), &mut all)?;
        }
        Ok(all)
    }

    /// What applies where this branch is chosen.
    pub fn choose(
        &mut self,
        all: &Sources<'a>,
        choice: &Choice<'a>,
        branch: Option<Source<'a>>,
    ) -> Outcome<Sources<'a>> {
        let mut chosen = all.clone();
        if let Some(source) = branch {
            self.add(source, &mut choice.path.clone(), &mut chosen)?;
        }
        Ok(chosen)
    }

    fn add(&mut self, source: Source<'a>, path: &mut Path<'a>, all: &mut Sources<'a>) -> Outcome<()> {
        self.spend(match source {
            Source::Schema(_) => source.weight(),
            _ => 1,
        })?;
        let key = source.key();
        let Source::Schema(members) = source else {
            if all.entered.insert(key) {
                all.parts.push(source);
            }
            return Ok(());
        };
        if !all.entered.insert(key) {
            // It applies already, which is well unless it led to itself.
            return match path.iter().position(|before| std::ptr::eq(*before, members)) {
                Some(first) => Err(endless(&path[first..])),
                None => Ok(()),
            };
        }
        if !self.options.lenient {
            keywords::check(members)?;
        }
        path.push(members);
        let mut own = false;
        for (keyword, value) in members {
            match keyword.as_str() {
                "$ref" => {
                    let Json::String(reference) = value else {
                        return Err(wrong("$ref", value, "a text"));
                    };
                    let target = self.references.target(members, reference)?;
                    self.add_schema(target, path, all)?;
                }
                "allOf" => {
                    for schema in list(keyword, value)? {
                        self.add_schema(schema, path, all)?;
                    }
                }
                "anyOf" | "oneOf" => {
                    let branches = list(keyword, value)?
                        .iter()
                        .map(Source::of)
                        .collect::<Outcome<Vec<_>>>()?;
                    all.choices.push(Choice {
                        branches,
                        one_of: keyword == "oneOf",
                        path: path.clone(),
                        key: (4, address(value), 0),
                    });
                }
                "const" => self.add(Source::equal_to(value), path, all)?,
                "enum" => self.add_enum(list(keyword, value)?, path, all)?,
                _ if !own && keywords::FOLLOWED.contains(&keyword.as_str()) => {
                    own = true;
                    all.parts.push(source);
                }
                _ => {}
            }
        }
        path.pop();
        Ok(())
    }

    fn add_schema(&mut self, schema: &'a Json, path: &mut Path<'a>, all: &mut Sources<'a>) -> Outcome<()> {
        match Source::of(schema)? {
            Some(source) => self.add(source, path, all),
            None => Ok(()),
        }
    }

    /// Each array or object is a choice of its own; all other values make one together.
    fn add_enum(&mut self, values: &'a [Json], path: &mut Path<'a>, all: &mut Sources<'a>) -> Outcome<()> {
        let is_container = |value: &&Json| matches!(value, Json::Array(_) | Json::Object(_));
        let containers: Vec<_> = values
            .iter()
            .filter(is_container)
            .map(|value| Some(Source::Container(value)))
            .collect();
        if containers.is_empty() {
            return self.add(Source::Scalars(values), path, all);
        }
        all.choices.push(Choice {
            branches: [vec![Some(Source::Scalars(values))], containers].concat(),
            one_of: false,
            path: path.clone(),
            key: (5, values.as_ptr() as usize, values.len()),
        });
        Ok(())
    }
}

fn list<'a>(keyword: &str, value: &'a Json) -> Outcome<&'a [Json]> {
    match value {
        Json::Array(items) if !items.is_empty() => Ok(items),
        _ => Err(wrong(keyword, value, "a list that is not empty")),
    }
}

fn address<T>(place: &T) -> usize {
    std::ptr::from_ref(place) as usize
}

/// No circle of schemas is without a reference.
fn endless(circle: &[&Members]) -> Failure {
    let reference = circle
        .iter()
        .find_map(|members| members.get("$ref"))
        .map_or_else(String::new, Json::quoted);
    Failure::invalid(format!("$ref {reference} leads back to its own place without end"))
}
