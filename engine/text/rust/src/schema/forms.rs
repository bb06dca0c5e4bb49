//! A schema as forms: what a value may look like, with the forms of its parts. Each combination of schemas that applies
//! somewhere has one, so that those which contain themselves are finite.

use super::alternatives::{alternatives, Parts};
use super::containers::{Items, Properties};
use super::facts::{Facts, ARRAY, OBJECT};
use super::patterns::Patterns;
use super::sources::{Gatherer, Key, Source, Sources};
use super::strings::Strings;
use crate::failure::Outcome;
use llguidance::derivre::RegexAst;
use std::collections::HashMap;

/// The steps that finding out whether names of a pattern are left may take, of those of all schemas together.
const PATTERN_WORK: usize = 2_000;

pub type FormId = usize;
pub type TextId = usize;

/// One of these, whichever.
#[derive(Default)]
pub struct Form<'a> {
    /// Of null, booleans and numbers.
    pub scalars: Vec<RegexAst>,
    pub strings: Vec<TextId>,
    pub arrays: Vec<ArrayForm>,
    pub objects: Vec<ObjectForm<'a>>,
    /// For messages: what asks for this.
    pub asked: Vec<Source<'a>>,
}

pub struct ArrayForm {
    pub first: Vec<FormId>,
    pub rest: FormId,
    pub min: u32,
    pub max: Option<u32>,
}

pub struct ObjectForm<'a> {
    /// Name, what it holds, and whether it must be there.
    pub named: Vec<(&'a str, FormId, bool)>,
    /// The names that are not listed, in groups of what they hold.
    pub others: Vec<(RegexAst, FormId)>,
    pub min: u32,
    pub max: Option<u32>,
}

#[derive(Default)]
pub struct Forms<'a> {
    /// The first is the whole schema's.
    pub all: Vec<Form<'a>>,
    /// What strings may be, written once however often it is asked for.
    pub texts: Vec<RegexAst>,
}

struct Builder<'g, 'a> {
    gatherer: &'g mut Gatherer<'a>,
    patterns: Patterns<'a>,
    texts: Vec<RegexAst>,
    /// None where no string is left.
    text_ids: HashMap<Strings<'a>, Option<TextId>>,
    ids: HashMap<Vec<Key>, FormId>,
    pending: Vec<(FormId, Sources<'a>)>,
    count: usize,
}

pub fn forms<'a>(gatherer: &mut Gatherer<'a>, root: Option<Source<'a>>) -> Outcome<Forms<'a>> {
    let mut builder = Builder {
        gatherer,
        patterns: Patterns::new(),
        texts: Vec::new(),
        text_ids: HashMap::new(),
        ids: HashMap::new(),
        pending: Vec::new(),
        count: 0,
    };
    builder.id(root.as_slice())?;
    let mut all = Vec::new();
    while let Some((id, sources)) = builder.pending.pop() {
        let form = builder.form(sources)?;
        if all.len() < builder.count {
            all.resize_with(builder.count, Form::default);
        }
        all[id] = form;
    }
    Ok(Forms {
        all,
        texts: builder.texts,
    })
}

impl<'a> Builder<'_, 'a> {
    fn id(&mut self, sources: &[Source<'a>]) -> Outcome<FormId> {
        let sources = self.gatherer.gather(sources)?;
        let key = sources.key();
        if let Some(id) = self.ids.get(&key) {
            return Ok(*id);
        }
        let id = self.count;
        self.count += 1;
        self.ids.insert(key, id);
        self.pending.push((id, sources));
        Ok(id)
    }

    fn form(&mut self, sources: Sources<'a>) -> Outcome<Form<'a>> {
        let mut form = Form {
            asked: sources.parts.clone(),
            ..Form::default()
        };
        for parts in alternatives(self.gatherer, &mut self.patterns, sources)? {
            let facts = Facts::read(&parts, self.gatherer.options.lenient)?;
            form.scalars.extend(facts.regexes());
            if let Some(strings) = facts.strings() {
                let id = self.text_id(strings)?.filter(|id| !form.strings.contains(id));
                form.strings.extend(id);
            }
            if facts.may_be(ARRAY) {
                form.arrays.push(self.array(&parts)?);
            }
            if facts.may_be(OBJECT) {
                form.objects.push(self.object(&parts)?);
            }
        }
        Ok(form)
    }

    fn text_id(&mut self, strings: Strings<'a>) -> Outcome<Option<TextId>> {
        if let Some(id) = self.text_ids.get(&strings) {
            return Ok(*id);
        }
        self.gatherer.spend(strings.work())?;
        let id = strings.regex()?.map(|regex| {
            self.texts.push(regex);
            self.texts.len() - 1
        });
        self.text_ids.insert(strings, id);
        Ok(id)
    }

    fn array(&mut self, parts: &Parts<'a>) -> Outcome<ArrayForm> {
        let items = Items::read(parts)?;
        self.gatherer.spend(items.first.len() * parts.len())?;
        let first = items
            .first
            .iter()
            .map(|sources| self.id(sources))
            .collect::<Outcome<_>>()?;
        Ok(ArrayForm {
            first,
            rest: self.id(&items.rest)?,
            min: items.min,
            max: items.max,
        })
    }

    fn object(&mut self, parts: &Parts<'a>) -> Outcome<ObjectForm<'a>> {
        let properties = Properties::read(parts, &mut self.patterns)?;
        self.gatherer.spend(properties.named.len() * parts.len())?;
        let of_pattern = PATTERN_WORK + properties.named.len();
        self.gatherer.spend(properties.patterns.len() * of_pattern)?;
        let mut named = Vec::new();
        for (name, property) in &properties.named {
            named.push((*name, self.id(&property.sources)?, property.required));
        }
        let mut others = Vec::new();
        for (names, sources) in properties.other_names()? {
            others.push((names, self.id(sources)?));
        }
        Ok(ObjectForm {
            named,
            others,
            min: properties.min,
            max: properties.max,
        })
    }
}
