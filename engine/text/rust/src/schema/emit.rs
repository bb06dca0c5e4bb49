//! Forms as the rules of a grammar.

use super::forms::{ArrayForm, FormId, Forms, ObjectForm, TextId};
use super::members::MemberList;
use super::options::Options;
use super::rules::{Rules, Sequence};
use super::value::quote;
use crate::failure::Outcome;
use llguidance::derivre::RegexAst;
use llguidance::earley::SymIdx;
use std::collections::HashMap;

pub struct Emitter<'f, 'a> {
    forms: &'f Forms<'a>,
    possible: &'f [bool],
    options: &'f Options,
    rules: Rules,
    symbols: HashMap<FormId, SymIdx>,
    texts: HashMap<TextId, SymIdx>,
    pending: Vec<FormId>,
}

/// The grammar of the first form, which is possible.
pub fn emit<'a>(forms: &Forms<'a>, possible: &[bool], options: &Options, rules: Rules) -> Outcome<Rules> {
    let mut emitter = Emitter {
        forms,
        possible,
        options,
        rules,
        symbols: HashMap::new(),
        texts: HashMap::new(),
        pending: Vec::new(),
    };
    let root = emitter.symbol(0)?;
    emitter.rules.rule(emitter.rules.start, vec![root])?;
    while let Some(id) = emitter.pending.pop() {
        emitter.form(id)?;
    }
    Ok(emitter.rules)
}

impl<'a> Emitter<'_, 'a> {
    fn symbol(&mut self, id: FormId) -> Outcome<SymIdx> {
        if let Some(symbol) = self.symbols.get(&id) {
            return Ok(*symbol);
        }
        let symbol = self.rules.symbol()?;
        self.symbols.insert(id, symbol);
        self.pending.push(id);
        Ok(symbol)
    }

    fn form(&mut self, id: FormId) -> Outcome<()> {
        let (symbol, forms) = (self.symbols[&id], self.forms);
        let form = &forms.all[id];
        if !form.scalars.is_empty() {
            let text = self.rules.text(RegexAst::Or(form.scalars.clone()))?;
            self.rules.rule(symbol, vec![text])?;
        }
        for id in &form.strings {
            let text = self.string(*id)?;
            self.rules.rule(symbol, vec![text])?;
        }
        for array in form
            .arrays
            .iter()
            .filter(|array| array.obstacle(self.possible).is_none())
        {
            let sequence = self.array(array)?;
            self.rules.rule(symbol, sequence)?;
        }
        for object in form
            .objects
            .iter()
            .filter(|object| object.obstacle(self.possible).is_none())
        {
            let sequence = self.object(object)?;
            self.rules.rule(symbol, sequence)?;
        }
        Ok(())
    }

    fn string(&mut self, id: TextId) -> Outcome<SymIdx> {
        if let Some(symbol) = self.texts.get(&id) {
            return Ok(*symbol);
        }
        let symbol = self.rules.text(self.forms.texts[id].clone())?;
        self.texts.insert(id, symbol);
        Ok(symbol)
    }

    fn array(&mut self, array: &ArrayForm) -> Outcome<Sequence> {
        let (open, comma, close) = (self.opening("[")?, self.comma()?, self.closing("]")?);
        // The first item that cannot be ends it.
        let end = (0..=array.first.len()).find(|place| !self.possible[array.item(*place)]);
        let max = end.map(|end| end as u32).into_iter().chain(array.max).min();
        let mut items: Vec<FormId> = array
            .first
            .iter()
            .copied()
            .take(max.unwrap_or(u32::MAX) as usize)
            .collect();
        if items.is_empty() && max != Some(0) {
            items.push(array.rest);
        }
        let listed = items.len() as u32;
        let mut list = Vec::new();
        if max != Some(listed) {
            let rest = vec![comma, self.symbol(array.rest)?];
            list = self
                .rules
                .repeated(rest, array.min.saturating_sub(listed), max.map(|max| max - listed))?;
        }
        for (place, item) in items.into_iter().enumerate().rev() {
            let item = self.symbol(item)?;
            list.insert(0, item);
            if place > 0 {
                list.insert(0, comma);
            }
            if place as u32 >= array.min {
                list = self.rules.optional(list)?;
            }
        }
        Ok([vec![open], list, vec![close]].concat())
    }

    fn object(&mut self, object: &ObjectForm<'a>) -> Outcome<Sequence> {
        let (open, close) = (self.opening("{")?, self.closing("}")?);
        let mut members = Vec::new();
        for (name, form, required) in object.named.iter().filter(|(_, form, _)| self.possible[*form]) {
            members.push((self.member(RegexAst::Literal(quote(name)), *form)?, *required));
        }
        let required = members.iter().filter(|(_, required)| *required).count() as u32;
        let other = self.other_member(object)?;
        let all = other.is_none().then_some(members.len() as u32);
        let counted = object.min > required || object.max.is_some_and(|max| all.is_none_or(|all| max < all));
        let mut list = MemberList {
            comma: self.comma()?,
            members,
            other,
            // Where the number does not matter, it is enough to know whether any is there.
            counts: counted.then_some((object.min, object.max)),
            known: HashMap::new(),
        };
        let members = list.rest(&mut self.rules, 0, 0)?.unwrap_or_default();
        Ok([vec![open], members, vec![close]].concat())
    }

    /// One of a name that the schema does not list.
    fn other_member(&mut self, object: &ObjectForm<'a>) -> Outcome<Option<Sequence>> {
        let mut ways = Vec::new();
        for (names, form) in object.others.iter().filter(|(_, form)| self.possible[*form]) {
            ways.push(self.member(names.clone(), *form)?);
        }
        match ways.is_empty() {
            true => Ok(None),
            false => self.rules.one_of(ways).map(Some),
        }
    }

    fn member(&mut self, name: RegexAst, form: FormId) -> Outcome<Sequence> {
        let colon = self.options.key_separator.clone();
        Ok(vec![self.rules.text(name)?, self.opening(&colon)?, self.symbol(form)?])
    }

    fn comma(&mut self) -> Outcome<SymIdx> {
        let comma = self.options.item_separator.clone();
        self.opening(&comma)
    }

    fn opening(&mut self, text: &str) -> Outcome<SymIdx> {
        let parts = vec![RegexAst::Literal(text.into()), self.whitespace()];
        self.rules.text(RegexAst::Concat(parts))
    }

    fn closing(&mut self, text: &str) -> Outcome<SymIdx> {
        let parts = vec![self.whitespace(), RegexAst::Literal(text.into())];
        self.rules.text(RegexAst::Concat(parts))
    }

    fn whitespace(&self) -> RegexAst {
        let some = self.options.whitespace.iter().cloned();
        RegexAst::Or(some.chain([RegexAst::EmptyString]).collect())
    }
}
