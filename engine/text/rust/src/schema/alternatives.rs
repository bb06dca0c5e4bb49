//! The ways in which choices can be made: each is a list of parts that all apply.

use super::containers::{of_name, Properties};
use super::facts::{Facts, ARRAY, OBJECT};
use super::patterns::Patterns;
use super::sources::{Gatherer, Source, Sources};
use crate::failure::{Failure, Outcome};

pub type Parts<'a> = Vec<Source<'a>>;

/// How far into properties a difference between the schemas of a oneOf is looked for.
const LOOK_MAX: usize = 4;

pub fn alternatives<'a>(
    gatherer: &mut Gatherer<'a>,
    patterns: &mut Patterns<'a>,
    sources: Sources<'a>,
) -> Outcome<Vec<Parts<'a>>> {
    Finder { gatherer, patterns }.find(sources, 0)
}

struct Finder<'g, 'a> {
    gatherer: &'g mut Gatherer<'a>,
    patterns: &'g mut Patterns<'a>,
}

impl<'a> Finder<'_, 'a> {
    fn find(&mut self, mut sources: Sources<'a>, depth: usize) -> Outcome<Vec<Parts<'a>>> {
        self.gatherer.spend_on(&sources.parts)?;
        if Facts::of_types(&sources.parts)?.types == 0 {
            return Ok(Vec::new());
        }
        let Some(choice) = sources.take_choice() else {
            return Ok(vec![sources.parts]);
        };
        let mut groups = Vec::new();
        for branch in &choice.branches {
            let chosen = self.gatherer.choose(&sources, &choice, *branch)?;
            groups.push(self.find(chosen, depth)?);
        }
        if choice.one_of && !self.gatherer.options.coerce_one_of && !self.gatherer.options.lenient {
            self.check_one_of(&groups, depth)?;
        }
        Ok(groups.concat())
    }

    /// Where no value can satisfy two branches, oneOf is anyOf.
    fn check_one_of(&mut self, groups: &[Vec<Parts<'a>>], depth: usize) -> Outcome<()> {
        for (place, group) in groups.iter().enumerate() {
            for (a, b) in groups[..place]
                .iter()
                .flatten()
                .flat_map(|a| group.iter().map(move |b| (a, b)))
            {
                if !self.apart(a, b, depth)? {
                    let why = "oneOf: two of its schemas may hold at once, and that only one does cannot be followed";
                    let how = r#"use anyOf, or put "x-guidance": {"coerce_one_of": true} into the outermost schema to have it taken as anyOf"#;
                    return Err(Failure::invalid(format!("{why}; {how}")));
                }
            }
        }
        Ok(())
    }

    fn apart(&mut self, a: &Parts<'a>, b: &Parts<'a>, depth: usize) -> Outcome<bool> {
        self.gatherer.spend_on(a)?;
        self.gatherer.spend_on(b)?;
        let lenient = self.gatherer.options.lenient;
        let (facts_a, facts_b) = (Facts::read(a, lenient)?, Facts::read(b, lenient)?);
        let both = facts_a.types & facts_b.types;
        if both & ARRAY != 0 || !facts_a.scalars_apart(&facts_b) {
            return Ok(false);
        }
        if both & OBJECT == 0 {
            return Ok(true);
        }
        if depth == LOOK_MAX {
            return Ok(false);
        }
        let named = [
            Properties::read(a, self.patterns)?.named,
            Properties::read(b, self.patterns)?.named,
        ];
        self.gatherer.spend(named.iter().map(|names| names.len()).sum())?;
        for (name, _) in named.iter().flatten().filter(|(_, property)| property.required) {
            let mut of_property = Vec::new();
            for parts in [a, b] {
                let sources = of_name(parts, name, self.patterns)?;
                let sources = self.gatherer.gather(&sources)?;
                of_property.push(self.find(sources, depth + 1)?);
            }
            let mut all_apart = true;
            for (x, y) in of_property[0]
                .iter()
                .flat_map(|x| of_property[1].iter().map(move |y| (x, y)))
            {
                all_apart = all_apart && self.apart(x, y, depth + 1)?;
            }
            if all_apart {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
