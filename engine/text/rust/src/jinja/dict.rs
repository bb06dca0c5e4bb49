//! Dictionaries, which keep the order of their entries, and what values are to them.

use super::budget::Budget;
use super::error::{fault, Outcome};
use super::value::{nesting, Value};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

pub struct Dict {
    pub entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    pub nesting: u32,
}

/// What a value is to a dictionary; 1, 1.0 and true are one key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Undefined,
    None,
    Int(i128),
    Float(u64),
    Str(Arc<str>),
    Tuple(Vec<Key>),
    Identity(usize),
}

impl Dict {
    pub fn new() -> Self {
        Dict {
            entries: Vec::new(),
            index: HashMap::new(),
            nesting: 1,
        }
    }

    pub fn from_pairs(budget: &Budget, pairs: impl IntoIterator<Item = (Value, Value)>) -> Outcome<Rc<Self>> {
        let mut dict = Dict::new();
        for (key, value) in pairs {
            dict.insert(budget, key, value)?;
        }
        Ok(Rc::new(dict))
    }

    pub fn insert(&mut self, budget: &Budget, key: Value, value: Value) -> Outcome<()> {
        budget.pay_items(4)?;
        self.nesting = self.nesting.max(nesting([&key, &value].into_iter())?);
        let place = *self.index.entry(key.key(budget)?).or_insert(self.entries.len());
        match self.entries.get_mut(place) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }

    pub fn get(&self, budget: &Budget, key: &Value) -> Outcome<Option<&Value>> {
        Ok(self.index.get(&key.key(budget)?).map(|&place| &self.entries[place].1))
    }

    pub fn get_str(&self, key: &str) -> Option<&Value> {
        // Small ones are searched without making a key.
        if self.entries.len() <= 8 {
            let found = self.entries.iter().find(|(name, _)| name.as_str() == Some(key));
            return found.map(|(_, value)| value);
        }
        self.index
            .get(&Key::Str(Arc::from(key)))
            .map(|&place| &self.entries[place].1)
    }
}

impl Value {
    /// Reads all of it: what nests shares parts, and may be read as often as they are there.
    pub fn key(&self, budget: &Budget) -> Outcome<Key> {
        Ok(match self {
            Value::Undefined(_) => Key::Undefined,
            Value::None => Key::None,
            Value::Bool(value) => Key::Int(i128::from(*value)),
            Value::Int(value) => Key::Int(*value),
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e38 => Key::Int(*value as i128),
            Value::Float(value) => Key::Float(value.to_bits()),
            Value::Str(text) => {
                budget.read(&text.text)?;
                Key::Str(text.text.clone())
            }
            Value::Tuple(list) => {
                budget.pay_items(1 + list.items.len())?;
                Key::Tuple(list.items.iter().map(|item| item.key(budget)).collect::<Outcome<_>>()?)
            }
            Value::Range(range) => Key::Tuple(vec![Key::Int(range.start), Key::Int(range.stop), Key::Int(range.step)]),
            Value::List(_) | Value::Dict(_) | Value::View(..) => {
                return Err(fault(format!("unhashable type: '{}'", self.type_name())));
            }
            Value::Macro(place) | Value::Namespace(place) => Key::Identity(*place),
            Value::Function(function) => Key::Identity(*function as usize),
            Value::Iterator(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
            Value::Method(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
            Value::Loop(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
            Value::Cycler(inner) | Value::Joiner(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
        })
    }
}
