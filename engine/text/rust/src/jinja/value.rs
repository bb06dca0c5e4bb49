//! Python's values, as far as templates meet them.

use super::budget::Budget;
pub use super::dict::{Dict, Key};
use super::error::{brief, fault, Outcome};
use std::cell::{Cell, RefCell};
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
    Cycler(Rc<Turns>),
    /// What it gives the first time, and what from then on.
    Joiner(Rc<Turns>),
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
    /// Of all loops of a render; the interpreter's table has what changed() saw last.
    pub number: usize,
    /// Of a loop with `recursive`: its code, in the interpreter's table.
    pub recursive: Option<usize>,
}

/// Items, and the place of the one whose turn it is.
pub struct Turns {
    pub items: Rc<List>,
    pub at: Cell<usize>,
}

impl List {
    pub fn new(items: Vec<Value>) -> Outcome<Rc<Self>> {
        let nesting = nesting(items.iter())?;
        Ok(Rc::new(List { items, nesting }))
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

pub fn nesting<'v>(values: impl std::iter::Iterator<Item = &'v Value>) -> Outcome<u32> {
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
            Value::Cycler(turns) | Value::Joiner(turns) => 1 + turns.items.nesting,
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
            Value::Undefined(name) => Err(fault(format!("{} is undefined", brief(name)))),
            _ => Ok(()),
        }
    }

    /// len(), or None where Python has none.
    pub fn length(&self, budget: &Budget) -> Outcome<Option<usize>> {
        Ok(Some(match self {
            Value::Undefined(_) => 0,
            Value::Str(text) => {
                budget.read(&text.text)?;
                text.text.chars().count()
            }
            Value::List(list) | Value::Tuple(list) => list.items.len(),
            Value::Dict(dict) | Value::View(_, dict) => dict.entries.len(),
            Value::Range(range) => range.len(),
            Value::Loop(inner) => inner.items.items.len(),
            _ => return Ok(None),
        }))
    }

    pub fn is_iterable(&self) -> bool {
        matches!(
            self,
            Value::Undefined(_)
                | Value::Str(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(_)
                | Value::View(..)
                | Value::Iterator(_)
                | Value::Loop(_)
        )
    }

    /// All that iter() goes through, paid for.
    pub fn items(&self, budget: &Budget) -> Outcome<Vec<Value>> {
        budget.pay_items(self.length(budget)?.unwrap_or(0))?;
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
