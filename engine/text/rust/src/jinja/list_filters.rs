//! Filters on lists.

use super::arguments::Values;
use super::attributes::{attribute_parts, parts_of_text};
use super::compare::{equal, order, sort};
use super::error::{fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::binary;
use super::value::{Key, Value};
use std::cmp::Ordering;
use std::collections::HashSet;

impl Interpreter<'_> {
    pub fn list_filter(&mut self, name: &str, value: Value, arguments: Values) -> Outcome<Value> {
        match name {
            "list" => {
                arguments.bind(name, &[], 0)?;
                Value::list(value.items(self.budget)?)
            }
            "first" => {
                arguments.bind(name, &[], 0)?;
                if let Value::Iterator(iterator) = &value {
                    let next = iterator.items.borrow_mut().next();
                    return Ok(next.unwrap_or_else(|| Value::undefined("the first item")));
                }
                let first = value.items(self.budget)?.into_iter().next();
                Ok(first.unwrap_or_else(|| Value::undefined("the first item")))
            }
            "last" => {
                arguments.bind(name, &[], 0)?;
                if matches!(value, Value::Iterator(_)) {
                    return Err(fault("'generator' object is not reversible"));
                }
                Ok(value
                    .items(self.budget)?
                    .pop()
                    .unwrap_or_else(|| Value::undefined("the last item")))
            }
            "reverse" => {
                arguments.bind(name, &[], 0)?;
                if let Value::Str(text) = &value {
                    return Ok(Value::str(text.text.chars().rev().collect::<String>()));
                }
                let mut items = value.items(self.budget)?;
                items.reverse();
                if matches!(value, Value::Iterator(_)) {
                    Value::list(items)
                } else {
                    Value::iterator(items)
                }
            }
            "join" => {
                let mut bound = arguments.bind(name, &["d", "attribute"], 0)?;
                let separator = self.text_of(&bound.take_or(0, Value::str("")))?;
                let mut items = value.items(self.budget)?;
                if let Some(attribute) = bound.take_some(1) {
                    items = self.attributes_of(items, &attribute, None)?;
                }
                Ok(Value::str(self.joined(&items, &separator)?))
            }
            "sum" => {
                let mut bound = arguments.bind(name, &["attribute", "start"], 0)?;
                let mut items = value.items(self.budget)?;
                if let Some(attribute) = bound.take_some(0) {
                    items = self.attributes_of(items, &attribute, None)?;
                }
                let mut sum = bound.take_or(1, Value::Int(0));
                if sum.as_str().is_some() {
                    return Err(fault("sum() can't sum strings"));
                }
                for item in items {
                    sum = binary(self.budget, super::ast::Operator::Add, &sum, &item)?;
                }
                Ok(sum)
            }
            "map" => self.map(value, arguments),
            "select" | "reject" | "selectattr" | "rejectattr" => self.select(name, value, arguments),
            "batch" | "slice" => self.parts(name, value, arguments),
            _ => self.sorted_filter(name, value, arguments),
        }
    }

    fn attributes_of(&self, items: Vec<Value>, attribute: &Value, default: Option<&Value>) -> Outcome<Vec<Value>> {
        let parts = attribute_parts(attribute);
        items
            .iter()
            .map(|item| self.attribute_of(item, &parts, default))
            .collect()
    }

    fn map(&mut self, value: Value, mut arguments: Values) -> Outcome<Value> {
        if !value.is_true() {
            return Value::iterator(Vec::new());
        }
        let items = value.items(self.budget)?;
        self.budget.pay_items(items.len())?;
        if arguments.positional.is_empty() && arguments.named.iter().any(|(name, _)| &name[..] == "attribute") {
            let mut bound = arguments.bind("map", &["attribute", "default"], 1)?;
            let attribute = bound.take_or(0, Value::None);
            let default = bound.take_some(1);
            return Value::iterator(self.attributes_of(items, &attribute, default.as_ref())?);
        }
        if arguments.positional.is_empty() {
            return Err(fault("map requires a filter argument"));
        }
        let Value::Str(filter) = arguments.positional.remove(0) else {
            return Err(fault("map takes a filter's name"));
        };
        let mut mapped = Vec::with_capacity(items.len());
        for item in items {
            mapped.push(self.filter(&filter.text, item, arguments.copy(self.budget)?)?);
        }
        Value::iterator(mapped)
    }

    fn select(&mut self, name: &str, value: Value, mut arguments: Values) -> Outcome<Value> {
        if !value.is_true() {
            return Value::iterator(Vec::new());
        }
        let mut parts = Vec::new();
        if name.ends_with("attr") {
            if arguments.positional.is_empty() {
                return Err(fault("Missing parameter for attribute name"));
            }
            parts = attribute_parts(&arguments.positional.remove(0));
        }
        let test = match arguments.positional.is_empty() {
            true => None,
            false => match arguments.positional.remove(0) {
                Value::Str(test) => Some(test.text),
                _ => return Err(fault(format!("{name} takes a test's name"))),
            },
        };
        let wanted = name.starts_with("select");
        let mut kept = Vec::new();
        for item in value.items(self.budget)? {
            let subject = self.attribute_of(&item, &parts, None)?;
            let passes = match &test {
                Some(test) => self.test(test, &subject, arguments.copy(self.budget)?)?,
                None => subject.is_true(),
            };
            if passes == wanted {
                kept.push(item);
            }
        }
        Value::iterator(kept)
    }

    fn parts(&mut self, name: &str, value: Value, arguments: Values) -> Outcome<Value> {
        let parameters = if name == "batch" {
            ["linecount", "fill_with"]
        } else {
            ["slices", "fill_with"]
        };
        let mut bound = arguments.bind(name, &parameters, 1)?;
        let size = bound.count(0, 0)?;
        let fill = bound.take_some(1);
        let items = value.items(self.budget)?;
        self.budget.pay_items(items.len())?;
        let mut parts = Vec::new();
        if name == "batch" {
            // Without a size, the first part never fills.
            let chunk = if size == 0 { items.len().max(1) } else { size };
            for part in items.chunks(chunk) {
                let mut part = part.to_vec();
                if let Some(fill) = fill.as_ref().filter(|_| part.len() < size) {
                    self.budget.pay_items(size - part.len())?;
                    part.resize(size, fill.clone());
                }
                parts.push(Value::list(part)?);
            }
            return Value::iterator(parts);
        }
        if size == 0 {
            return Err(fault("division by zero"));
        }
        self.budget.pay_items(size.saturating_mul(2))?;
        let (whole, extra) = (items.len() / size, items.len() % size);
        let mut rest = &items[..];
        for number in 0..size {
            let (part, tail) = rest.split_at(whole + usize::from(number < extra));
            rest = tail;
            let filled = fill.iter().filter(|_| number >= extra).cloned();
            parts.push(Value::list(part.iter().cloned().chain(filled).collect())?);
        }
        Value::iterator(parts)
    }

    /// Those that compare: without regard to case unless asked for.
    fn sorted_filter(&mut self, name: &str, value: Value, arguments: Values) -> Outcome<Value> {
        match name {
            "sort" => {
                let mut bound = arguments.bind(name, &["reverse", "case_sensitive", "attribute"], 0)?;
                let (reverse, case_sensitive) = (bound.truth(0, false), bound.truth(1, false));
                let attributes: Vec<Vec<Value>> = match bound.take_or(2, Value::None) {
                    Value::Str(text) => text.text.split(',').map(parts_of_text).collect(),
                    other => vec![attribute_parts(&other)],
                };
                let mut keyed = Vec::new();
                for item in value.items(self.budget)? {
                    let mut keys = Vec::with_capacity(attributes.len());
                    self.budget.pay_items(3 + attributes.len())?;
                    for parts in &attributes {
                        keys.push(self.sort_key(&item, parts, case_sensitive, None)?);
                    }
                    keyed.push((Value::list(keys)?, item));
                }
                let sorted = sort(self.budget, keyed, reverse)?;
                Value::list(sorted.into_iter().map(|(_, item)| item).collect())
            }
            "dictsort" => {
                let mut bound = arguments.bind(name, &["case_sensitive", "by", "reverse"], 0)?;
                let case_sensitive = bound.truth(0, false);
                let place = match bound.text(1)?.as_deref() {
                    None | Some("key") => 0,
                    Some("value") => 1,
                    Some(_) => return Err(fault("You can only sort by either \"key\" or \"value\"")),
                };
                let Value::Dict(dict) = &value else {
                    return Err(fault("dictsort takes a dictionary"));
                };
                let mut keyed = Vec::new();
                for pair in Value::View(super::value::View::Items, dict.clone()).items(self.budget)? {
                    let key = self.sort_key(&pair, &[Value::Int(place)], case_sensitive, None)?;
                    keyed.push((key, pair));
                }
                let sorted = sort(self.budget, keyed, bound.truth(2, false))?;
                Value::list(sorted.into_iter().map(|(_, pair)| pair).collect())
            }
            "min" | "max" => {
                let mut bound = arguments.bind(name, &["case_sensitive", "attribute"], 0)?;
                let case_sensitive = bound.truth(0, false);
                let parts = attribute_parts(&bound.take_or(1, Value::None));
                let wanted = if name == "min" {
                    Ordering::Less
                } else {
                    Ordering::Greater
                };
                let mut best: Option<(Value, Value)> = None;
                for item in value.items(self.budget)? {
                    let key = self.sort_key(&item, &parts, case_sensitive, None)?;
                    let better = match &best {
                        Some((known, _)) => order(self.budget, &key, known)? == Some(wanted),
                        None => true,
                    };
                    if better {
                        best = Some((key, item));
                    }
                }
                Ok(best.map_or_else(|| Value::undefined("the item of an empty list"), |(_, item)| item))
            }
            "unique" => {
                let mut bound = arguments.bind(name, &["case_sensitive", "attribute"], 0)?;
                let case_sensitive = bound.truth(0, false);
                let parts = attribute_parts(&bound.take_or(1, Value::None));
                let mut seen: HashSet<Key> = HashSet::new();
                let mut kept = Vec::new();
                for item in value.items(self.budget)? {
                    self.budget.pay_items(2)?;
                    let key = self.sort_key(&item, &parts, case_sensitive, None)?;
                    if seen.insert(key.key(self.budget)?) {
                        kept.push(item);
                    }
                }
                Value::iterator(kept)
            }
            _ => self.groupby(value, arguments),
        }
    }

    fn sort_key(&self, item: &Value, parts: &[Value], case_sensitive: bool, default: Option<&Value>) -> Outcome<Value> {
        let key = self.attribute_of(item, parts, default)?;
        match &key {
            Value::Str(text) if !case_sensitive => {
                self.budget.pay_usize(text.text.len())?;
                Ok(Value::str(text.text.to_lowercase()))
            }
            _ => Ok(key),
        }
    }

    fn groupby(&mut self, value: Value, arguments: Values) -> Outcome<Value> {
        let mut bound = arguments.bind("groupby", &["attribute", "default", "case_sensitive"], 1)?;
        let parts = attribute_parts(&bound.take_or(0, Value::None));
        let default = bound.take_some(1);
        let case_sensitive = bound.truth(2, false);
        let mut keyed = Vec::new();
        for item in value.items(self.budget)? {
            self.budget.pay_items(2)?;
            keyed.push((self.sort_key(&item, &parts, case_sensitive, default.as_ref())?, item));
        }
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for (key, item) in sort(self.budget, keyed, false)? {
            match groups.last_mut() {
                Some((known, items)) if equal(self.budget, known, &key)? => items.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        let mut tuples = Vec::with_capacity(groups.len());
        for (key, items) in groups {
            // The first item's own spelling names the group.
            let name = match case_sensitive {
                true => key,
                false => self.attribute_of(&items[0], &parts, default.as_ref())?,
            };
            tuples.push(Value::tuple(vec![name, Value::list(items)?])?);
        }
        Value::list(tuples)
    }
}
