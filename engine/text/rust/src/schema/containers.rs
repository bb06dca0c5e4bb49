//! What the parts that apply to one value say about its items and its properties.

use super::facts::count;
use super::numbers::wrong;
use super::patterns::Patterns;
use super::sources::Source;
use super::strings::{is_empty, quoted, search};
use super::value::{Json, Members};
use crate::failure::Outcome;
use indexmap::IndexMap;
use llguidance::derivre::RegexAst;

#[derive(Default)]
pub struct Items<'a> {
    /// What applies to the first, the second and so on.
    pub first: Vec<Vec<Source<'a>>>,
    pub rest: Vec<Source<'a>>,
    pub min: u32,
    pub max: Option<u32>,
}

#[derive(Default)]
pub struct Properties<'a> {
    pub named: IndexMap<&'a str, Property<'a>>,
    /// Of names that match the pattern, and of all others.
    pub patterns: Vec<(&'a str, Vec<Source<'a>>)>,
    pub rest: Vec<Source<'a>>,
    pub min: u32,
    pub max: Option<u32>,
}

#[derive(Default)]
pub struct Property<'a> {
    pub required: bool,
    pub sources: Vec<Source<'a>>,
}

/// What one part says of each of the first items, and of those behind them. None says nothing.
#[derive(Default)]
struct Column<'a> {
    first: Vec<Option<Source<'a>>>,
    rest: Option<Source<'a>>,
}

impl<'a> Items<'a> {
    pub fn read(parts: &[Source<'a>]) -> Outcome<Items<'a>> {
        let mut items = Items::default();
        let mut columns = Vec::new();
        for part in parts {
            columns.push(items.column(part)?);
        }
        let length = columns.iter().map(|column| column.first.len()).max().unwrap_or(0);
        for place in 0..length {
            let of_place = columns
                .iter()
                .filter_map(|column| *column.first.get(place).unwrap_or(&column.rest));
            items.first.push(of_place.collect());
        }
        items.rest = columns.iter().filter_map(|column| column.rest).collect();
        Ok(items)
    }

    fn column(&mut self, part: &Source<'a>) -> Outcome<Column<'a>> {
        let members = match part {
            Source::Schema(members) => members,
            Source::Container(Json::Array(values)) => {
                self.bound(values.len() as u32, Some(values.len() as u32));
                return Ok(Column {
                    first: values.iter().map(|value| Some(Source::equal_to(value))).collect(),
                    rest: Some(Source::Nothing),
                });
            }
            _ => return Ok(Column::default()),
        };
        let limit = |keyword| members.get(keyword).map(|value| count(keyword, value)).transpose();
        self.bound(limit("minItems")?.unwrap_or(0), limit("maxItems")?);
        // Before draft 2020-12, a list in items was what prefixItems is now.
        let (first, rest) = match members.get("items") {
            Some(Json::Array(first)) => (first.as_slice(), members.get("additionalItems")),
            items => match members.get("prefixItems") {
                Some(Json::Array(first)) => (first.as_slice(), items),
                Some(other) => return Err(wrong("prefixItems", other, "a list of schemas")),
                None => (Default::default(), items),
            },
        };
        Ok(Column {
            first: first.iter().map(Source::of).collect::<Outcome<_>>()?,
            rest: rest.map(Source::of).transpose()?.flatten(),
        })
    }

    fn bound(&mut self, min: u32, max: Option<u32>) {
        narrow(&mut self.min, &mut self.max, min, max);
    }
}

fn narrow(min: &mut u32, max: &mut Option<u32>, new_min: u32, new_max: Option<u32>) {
    *min = new_min.max(*min);
    *max = match (*max, new_max) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

impl<'a> Properties<'a> {
    pub fn read(parts: &[Source<'a>], patterns: &mut Patterns<'a>) -> Outcome<Properties<'a>> {
        let mut properties = Properties::default();
        for part in parts {
            properties.note(part)?;
        }
        let known: Vec<_> = properties.patterns.iter().map(|(pattern, _)| *pattern).collect();
        patterns.check_apart(&known)?;
        let names: Vec<&str> = properties.named.keys().copied().collect();
        for name in names {
            properties.named[name].sources = of_name(parts, name, patterns)?;
        }
        for part in parts {
            let rest = of_others(part)?;
            for (pattern, sources) in &mut properties.patterns {
                match object(part, "patternProperties")?.and_then(|schemas| schemas.get(*pattern)) {
                    Some(schema) => sources.extend(Source::of(schema)?),
                    None => sources.extend(rest),
                }
            }
            properties.rest.extend(rest);
        }
        Ok(properties)
    }

    /// The names that are not listed: by pattern, and all others. No name is in two groups.
    pub fn other_names(&self) -> Outcome<Vec<(RegexAst, &Vec<Source<'a>>)>> {
        let literals = self.named.keys().map(|name| RegexAst::Literal(name.to_string()));
        let mut taken: Vec<_> = literals.map(quoted).collect();
        let without = |names: RegexAst, taken: &[RegexAst]| {
            let taken = RegexAst::Or(taken.to_vec());
            RegexAst::And(vec![quoted(names), RegexAst::Not(Box::new(taken))])
        };
        let mut groups = Vec::new();
        for (pattern, sources) in &self.patterns {
            groups.push((without(search(pattern), &taken), sources));
        }
        taken.extend(self.patterns.iter().map(|(pattern, _)| quoted(search(pattern))));
        let any = RegexAst::Regex("(?s:.*)".into());
        groups.push((without(any, &taken), &self.rest));
        if !self.patterns.is_empty() {
            let empty = groups.iter().map(|(names, _)| is_empty("patternProperties", names));
            let mut empty = empty.collect::<Outcome<Vec<_>>>()?.into_iter();
            groups.retain(|_| !empty.next().unwrap_or(false));
        }
        Ok(groups)
    }

    /// The names, patterns and counts of one part.
    fn note(&mut self, part: &Source<'a>) -> Outcome<()> {
        let members = match part {
            Source::Schema(members) => members,
            Source::Container(Json::Object(values)) => {
                for name in values.keys() {
                    self.named.entry(name).or_default().required = true;
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        for name in object(part, "properties")?.iter().flat_map(|schemas| schemas.keys()) {
            self.named.entry(name).or_default();
        }
        match members.get("required") {
            None => {}
            Some(Json::Array(names)) => {
                for name in names {
                    let Json::String(name) = name else {
                        return Err(wrong("required", name, "a list of names"));
                    };
                    self.named.entry(name).or_default().required = true;
                }
            }
            Some(other) => return Err(wrong("required", other, "a list of names")),
        }
        for pattern in object(part, "patternProperties")?
            .iter()
            .flat_map(|schemas| schemas.keys())
        {
            if self.patterns.iter().all(|(known, _)| known != pattern) {
                self.patterns.push((pattern, Vec::new()));
            }
        }
        let limit = |keyword| members.get(keyword).map(|value| count(keyword, value)).transpose();
        narrow(
            &mut self.min,
            &mut self.max,
            limit("minProperties")?.unwrap_or(0),
            limit("maxProperties")?,
        );
        Ok(())
    }
}

fn object<'a>(part: &Source<'a>, keyword: &str) -> Outcome<Option<&'a Members>> {
    let Source::Schema(members) = part else {
        return Ok(None);
    };
    match members.get(keyword) {
        None => Ok(None),
        Some(Json::Object(schemas)) => Ok(Some(schemas)),
        Some(other) => Err(wrong(keyword, other, "an object of schemas")),
    }
}

/// What a part says of properties that it has no name and no pattern for.
fn of_others<'a>(part: &Source<'a>) -> Outcome<Option<Source<'a>>> {
    match part {
        Source::Schema(members) => Ok(members
            .get("additionalProperties")
            .map(Source::of)
            .transpose()?
            .flatten()),
        _ => Ok(Some(Source::Nothing)),
    }
}

/// What applies to the property of this name.
pub fn of_name<'a>(parts: &[Source<'a>], name: &'a str, patterns: &mut Patterns<'a>) -> Outcome<Vec<Source<'a>>> {
    let mut sources = Vec::new();
    for part in parts {
        add_of_name(part, name, patterns, &mut sources)?;
    }
    Ok(sources)
}

fn add_of_name<'a>(part: &Source<'a>, name: &'a str, patterns: &mut Patterns<'a>, to: &mut Vec<Source<'a>>) -> Outcome<()> {
    if let Source::Container(Json::Object(values)) = part {
        to.push(values.get(name).map_or(Source::Nothing, Source::equal_to));
        return Ok(());
    }
    let mut found = false;
    if let Some(schema) = object(part, "properties")?.and_then(|schemas| schemas.get(name)) {
        to.extend(Source::of(schema)?);
        found = true;
    }
    for (pattern, schema) in object(part, "patternProperties")?.into_iter().flatten() {
        if patterns.matches(pattern, name)? {
            to.extend(Source::of(schema)?);
            found = true;
        }
    }
    if !found {
        to.extend(of_others(part)?);
    }
    Ok(())
}
