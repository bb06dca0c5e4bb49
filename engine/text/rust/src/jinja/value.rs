//! Python's values, as far as templates meet them.

use super::budget::Budget;
use super::error::{fault, Outcome};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// How deep values nest: what prints, compares and drops them recurses.
const NESTING_MAX: u32 = 500;

#[derive(Clone)]
pub enum Value {
    /// With the name of what is not there.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    List(Rc<List>),
    Tuple(Rc<List>),
    Dict(Rc<Dict>),
    View(View, Rc<Dict>),
    Range(Rc<Range>),
    /// What can be gone through once.
    Iterator(Rc<Iterator>),
    /// A method of a value, by name.
    Method(Rc<(Value, &'static str)>),
    Function(Function),
    /// The macro, in the interpreter's table.
    Macro(usize),
    /// The namespace, in the interpreter's table.
    Namespace(usize),
    Loop(Rc<Loop>),
    Cycler(Rc<(Vec<Value>, Cell<usize>)>),
    Joiner(Rc<(Value, Cell<bool>)>),
}

#[derive(Clone)]
pub struct Text {
    pub text: Arc<str>,
    /// Escaped for HTML: a Markup of Python's.
    pub is_markup: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Keys,
    Values,
    Items,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Range,
    Dict,
    DictFromKeys,
    Namespace,
    Cycler,
    Joiner,
    RaiseException,
    StrftimeNow,
    /// `self`, whose blocks cannot be called here.
    Template,
}

pub struct List {
    pub items: Vec<Value>,
    nesting: u32,
}

pub struct Dict {
    pub entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    nesting: u32,
}

pub struct Range {
    pub start: i128,
    pub stop: i128,
    pub step: i128,
}

pub struct Iterator {
    pub items: RefCell<std::vec::IntoIter<Value>>,
    nesting: u32,
}

pub struct Loop {
    pub items: Rc<List>,
    /// Of the item whose turn it is.
    pub index: Cell<usize>,
    pub depth: usize,
    /// What the last call of changed() had.
    pub last_changed: RefCell<Option<Vec<Value>>>,
    /// Of a loop with `recursive`: its code, in the interpreter's table.
    pub recursive: Option<usize>,
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

impl List {
    pub fn new(items: Vec<Value>) -> Outcome<Rc<Self>> {
        let nesting = nesting(items.iter())?;
        Ok(Rc::new(List { items, nesting }))
    }
}

impl Dict {
    pub fn new() -> Self {
        Dict {
            entries: Vec::new(),
            index: HashMap::new(),
            nesting: 1,
        }
    }

    pub fn from_pairs(pairs: impl IntoIterator<Item = (Value, Value)>) -> Outcome<Rc<Self>> {
        let mut dict = Dict::new();
        for (key, value) in pairs {
            dict.insert(key, value)?;
        }
        Ok(Rc::new(dict))
    }

    pub fn insert(&mut self, key: Value, value: Value) -> Outcome<()> {
        self.nesting = self.nesting.max(nesting([&key, &value].into_iter())?);
        let place = *self.index.entry(key.key()?).or_insert(self.entries.len());
        match self.entries.get_mut(place) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }

    pub fn get(&self, key: &Value) -> Outcome<Option<&Value>> {
        Ok(self.index.get(&key.key()?).map(|&place| &self.entries[place].1))
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

impl Range {
    pub fn len(&self) -> usize {
        let (low, high, step) = match self.step > 0 {
            true => (self.start, self.stop, self.step),
            false => (self.stop, self.start, -self.step),
        };
        if high <= low {
            return 0;
        }
        usize::try_from((high - low - 1) / step + 1).unwrap_or(usize::MAX)
    }

    pub fn item(&self, index: usize) -> Value {
        Value::Int(self.start + self.step * index as i128)
    }
}

fn nesting<'v>(values: impl std::iter::Iterator<Item = &'v Value>) -> Outcome<u32> {
    let deepest = 1 + values.map(Value::nesting).max().unwrap_or(0);
    if deepest > NESTING_MAX {
        return Err(fault(format!("values nest more than {NESTING_MAX} deep")));
    }
    Ok(deepest)
}

impl Value {
    pub fn str(text: impl AsRef<str>) -> Self {
        Value::Str(Text {
            text: Arc::from(text.as_ref()),
            is_markup: false,
        })
    }

    pub fn markup(text: impl AsRef<str>) -> Self {
        Value::Str(Text {
            text: Arc::from(text.as_ref()),
            is_markup: true,
        })
    }

    pub fn list(items: Vec<Value>) -> Outcome<Self> {
        Ok(Value::List(List::new(items)?))
    }

    pub fn tuple(items: Vec<Value>) -> Outcome<Self> {
        Ok(Value::Tuple(List::new(items)?))
    }

    pub fn undefined(name: &str) -> Self {
        Value::Undefined(Arc::from(name))
    }

    pub fn iterator(items: Vec<Value>) -> Outcome<Self> {
        let nesting = nesting(items.iter())?;
        let items = RefCell::new(items.into_iter());
        Ok(Value::Iterator(Rc::new(Iterator { items, nesting })))
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(&text.text),
            _ => None,
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    fn nesting(&self) -> u32 {
        match self {
            Value::List(list) | Value::Tuple(list) => list.nesting,
            Value::Dict(dict) | Value::View(_, dict) => dict.nesting,
            Value::Iterator(iterator) => iterator.nesting,
            Value::Method(method) => 1 + method.0.nesting(),
            Value::Loop(inner) => 1 + inner.items.nesting,
            Value::Cycler(cycler) => 1 + cycler.0.iter().map(Value::nesting).max().unwrap_or(0),
            Value::Joiner(joiner) => 1 + joiner.0.nesting(),
            _ => 0,
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Str(text) => !text.text.is_empty(),
            Value::List(list) | Value::Tuple(list) => !list.items.is_empty(),
            Value::Dict(dict) | Value::View(_, dict) => !dict.entries.is_empty(),
            Value::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    /// As Python names the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(text) if text.is_markup => "Markup",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Range(_) => "range",
            Value::Iterator(_) => "generator",
            Value::Method(_) | Value::Function(_) => "builtin_function_or_method",
            Value::Macro(_) => "Macro",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
        }
    }

    /// The error of using what is not there.
    pub fn check_defined(&self) -> Outcome<()> {
        match self {
            Value::Undefined(name) if name.is_empty() => Err(fault("a value is undefined")),
            Value::Undefined(name) => Err(fault(format!("{name} is undefined"))),
            _ => Ok(()),
        }
    }

    pub fn key(&self) -> Outcome<Key> {
        Ok(match self {
            Value::Undefined(_) => Key::Undefined,
            Value::None => Key::None,
            Value::Bool(value) => Key::Int(i128::from(*value)),
            Value::Int(value) => Key::Int(*value),
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e38 => Key::Int(*value as i128),
            Value::Float(value) => Key::Float(value.to_bits()),
            Value::Str(text) => Key::Str(text.text.clone()),
            Value::Tuple(list) => Key::Tuple(list.items.iter().map(Value::key).collect::<Outcome<_>>()?),
            Value::Range(range) => Key::Tuple(vec![Key::Int(range.start), Key::Int(range.stop), Key::Int(range.step)]),
            Value::List(_) | Value::Dict(_) | Value::View(..) => {
                return Err(fault(format!("unhashable type: '{}'", self.type_name())));
            }
            Value::Macro(place) | Value::Namespace(place) => Key::Identity(*place),
            Value::Function(function) => Key::Identity(*function as usize),
            Value::Iterator(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
            Value::Method(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
            Value::Loop(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
            Value::Cycler(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
            Value::Joiner(inner) => Key::Identity(Rc::as_ptr(inner) as usize),
        })
    }

    /// len(), or None where Python has none.
    pub fn length(&self) -> Option<usize> {
        Some(match self {
            Value::Undefined(_) => 0,
            Value::Str(text) if text.text.is_ascii() => text.text.len(),
            Value::Str(text) => text.text.chars().count(),
            Value::List(list) | Value::Tuple(list) => list.items.len(),
            Value::Dict(dict) | Value::View(_, dict) => dict.entries.len(),
            Value::Range(range) => range.len(),
            Value::Loop(inner) => inner.items.items.len(),
            _ => return None,
        })
    }

    /// All that iter() goes through, paid for.
    pub fn items(&self, budget: &Budget) -> Outcome<Vec<Value>> {
        budget.pay_items(self.length().unwrap_or(0))?;
        Ok(match self {
            Value::Undefined(_) => Vec::new(),
            Value::Str(text) => {
                budget.pay_usize(text.text.len().saturating_mul(32))?;
                let mut buffer = [0; 4];
                text.text
                    .chars()
                    .map(|c| Value::str(c.encode_utf8(&mut buffer)))
                    .collect()
            }
            Value::List(list) | Value::Tuple(list) => list.items.clone(),
            Value::Dict(dict) | Value::View(View::Keys, dict) => {
                dict.entries.iter().map(|(key, _)| key.clone()).collect()
            }
            Value::View(View::Values, dict) => dict.entries.iter().map(|(_, value)| value.clone()).collect(),
            Value::View(View::Items, dict) => {
                budget.pay_usize(dict.entries.len().saturating_mul(128))?;
                let pairs = dict
                    .entries
                    .iter()
                    .map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()]));
                pairs.collect::<Outcome<_>>()?
            }
            Value::Range(range) => (0..range.len()).map(|index| range.item(index)).collect(),
            Value::Iterator(iterator) => {
                let rest = std::mem::take(&mut *iterator.items.borrow_mut());
                budget.pay_items(rest.len())?;
                rest.collect()
            }
            Value::Loop(inner) => {
                // The rest of the loop, which then ends.
                let next = (inner.index.get() + 1).min(inner.items.items.len());
                inner.index.set(inner.items.items.len());
                inner.items.items[next..].to_vec()
            }
            _ => return Err(fault(format!("'{}' object is not iterable", self.type_name()))),
        })
    }
}
