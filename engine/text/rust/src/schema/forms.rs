//! A schema as forms: what a value may look like, with the forms of its parts. Each combination of schemas that applies
//! somewhere has one, so that those which contain themselves are finite.

use super::alternatives::{alternatives, Parts};
use super::containers::{Items, Properties};
use super::facts::{Facts, ARRAY, OBJECT};
use super::patterns::Patterns;
use super::sources::{Gatherer, Key, Source, Sources};
use crate::failure::Outcome;
use llguidance::derivre::RegexAst;
use std::collections::HashMap;

pub type FormId = usize;

/// Of the steps that all schemas together may take: to find out whether a regular expression matches anything.
const EMPTINESS_WORK: usize = 200;

/// One of these, whichever.
#[derive(Default)]
pub struct Form<'a> {
    pub scalars: Vec<RegexAst>,
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

struct Builder<'g, 'a> {
    gatherer: &'g mut Gatherer<'a>,
    patterns: Patterns,
    ids: HashMap<Vec<Key>, FormId>,
    pending: Vec<(FormId, Sources<'a>)>,
    count: usize,
}

/// The first is the whole schema's.
pub fn forms<'a>(gatherer: &mut Gatherer<'a>, root: Option<Source<'a>>) -> Outcome<Vec<Form<'a>>> {
    let mut builder = Builder {
        gatherer,
        patterns: Patterns::default(),
        ids: HashMap::new(),
        pending: Vec::new(),
        count: 0,
    };
    builder.id(root.as_slice())?;
    let mut forms = Vec::new();
    while let Some((id, sources)) = builder.pending.pop() {
        let form = builder.form(sources)?;
        if forms.len() < builder.count {
            forms.resize_with(builder.count, Form::default);
        }
        forms[id] = form;
    }
    Ok(forms)
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
            if facts.looks_for_strings() {
                self.gatherer.spend(EMPTINESS_WORK)?;
            }
            form.scalars.extend(facts.regexes()?);
            if facts.may_be(ARRAY) {
                form.arrays.push(self.array(&parts)?);
            }
            if facts.may_be(OBJECT) {
                form.objects.push(self.object(&parts)?);
            }
        }
        Ok(form)
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
        self.gatherer.spend(properties.patterns.len() * EMPTINESS_WORK)?;
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
