//! Attributes and items: what `a.b` and `a[b]` give. A method comes before an item of its name with a dot, and behind
//! it with brackets.

use super::arguments::Values;
use super::error::{fault, ErrorKind, Outcome};
use super::interpreter::Interpreter;
use super::value::{Function, Loop, Text, Value, View};
use std::rc::Rc;
use std::sync::Arc;

/// Those that change a value are left out: the sandbox denies them.
const DICT_METHODS: &str = "copy fromkeys get items keys values";
const LIST_METHODS: &str = "copy count index";
const TUPLE_METHODS: &str = "count index";
const LIST_CHANGES: &str = "append clear extend insert pop remove reverse sort";
const DICT_CHANGES: &str = "clear pop popitem setdefault update";
const STRING_METHODS: &str =
    "capitalize casefold center count endswith expandtabs find format format_map index isalnum isalpha isascii \
     isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip \
     partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines \
     startswith strip swapcase title upper zfill";

fn found(names: &'static str, name: &str) -> Option<&'static str> {
    names.split(' ').find(|known| *known == name)
}

impl Interpreter<'_> {
    /// `object.name`
    pub fn attribute(&self, object: &Value, name: &Arc<str>) -> Outcome<Value> {
        object.check_defined()?;
        if let Some(value) = self.own_attribute(object, name)? {
            return Ok(value);
        }
        if let Value::Dict(dict) = object {
            self.budget.read(name)?;
            if let Some(value) = dict.get_str(name) {
                return Ok(value.clone());
            }
        }
        Ok(Value::Undefined(name.clone()))
    }

    /// `object[index]`
    pub fn item(&self, object: &Value, index: &Value) -> Outcome<Value> {
        object.check_defined()?;
        let item = match (object, index) {
            (Value::Dict(dict), _) => match dict.get(self.budget, index) {
                Ok(found) => found.cloned(),
                Err(error) if error.kind == ErrorKind::OutOfFuel => return Err(error),
                Err(_) => None,
            },
            (Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_), Value::Int(_) | Value::Bool(_)) => {
                self.at(object, super::numbers::integer(index)?)?
            }
            _ => None,
        };
        if let Some(item) = item {
            return Ok(item);
        }
        match index {
            Value::Str(name) => Ok(self
                .own_attribute(object, &name.text)?
                .unwrap_or_else(|| Value::Undefined(name.text.clone()))),
            _ => Ok(Value::undefined("an item")),
        }
    }

    fn at(&self, object: &Value, index: i128) -> Outcome<Option<Value>> {
        let length = object.length(self.budget)?.unwrap_or(0) as i128;
        let index = if index < 0 { index + length } else { index };
        if !(0..length).contains(&index) {
            return Ok(None);
        }
        let index = index as usize;
        Ok(match object {
            Value::List(list) | Value::Tuple(list) => list.items.get(index).cloned(),
            Value::Range(range) => Some(range.item(index)),
            Value::Str(Text { text, .. }) if text.is_ascii() => Some(Value::str(&text[index..=index])),
            Value::Str(Text { text, .. }) => text.chars().nth(index).map(|c| Value::str(c.to_string())),
            _ => None,
        })
    }

    /// What Python's getattr() finds.
    fn own_attribute(&self, object: &Value, name: &str) -> Outcome<Option<Value>> {
        let method = match object {
            Value::Str(_) => found(STRING_METHODS, name),
            Value::Dict(_) => found(DICT_METHODS, name),
            Value::List(_) => found(LIST_METHODS, name),
            Value::Tuple(_) | Value::Range(_) => found(TUPLE_METHODS, name),
            Value::Loop(inner) => match loop_attribute(inner, name)? {
                Some(value) => return Ok(Some(value)),
                None => found("changed cycle", name),
            },
            Value::Cycler(cycler) => match name {
                "current" => return Ok(Some(cycler.items.items[cycler.at.get()].clone())),
                _ => found("next reset", name),
            },
            Value::Namespace(place) => return Ok(self.namespace(*place).get_str(name).cloned()),
            Value::Macro(place) if name == "name" => return Ok(Some(Value::str(self.macro_name(*place)))),
            Value::Function(Function::Dict) if name == "fromkeys" => {
                return Ok(Some(Value::Function(Function::DictFromKeys)));
            }
            _ => None,
        };
        let denied = match object {
            Value::Dict(_) => found(DICT_CHANGES, name).is_some(),
            Value::List(_) => found(LIST_CHANGES, name).is_some(),
            _ => false,
        };
        // Before an item of that name, which the sandbox does not give either.
        if denied || (name.starts_with("__") && name.ends_with("__") && !matches!(object, Value::Dict(_))) {
            return Ok(Some(Value::undefined(name)));
        }
        Ok(method.map(|method| Value::Method(Rc::new((object.clone(), method)))))
    }

    pub fn call_method(&mut self, object: &Value, name: &'static str, arguments: Values) -> Outcome<Value> {
        match object {
            Value::Str(text) => self.string_method(text, name, arguments),
            Value::Loop(inner) => self.call_loop_method(&inner.clone(), name, arguments),
            Value::Cycler(cycler) => {
                arguments.bind(name, &[], 0)?;
                let items = &cycler.items.items;
                if name == "reset" {
                    cycler.at.set(0);
                    return Ok(Value::None);
                }
                let place = cycler.at.replace((cycler.at.get() + 1) % items.len());
                Ok(items[place].clone())
            }
            Value::Dict(dict) => match name {
                "items" | "keys" | "values" => {
                    arguments.bind(name, &[], 0)?;
                    let view = match name {
                        "items" => View::Items,
                        "keys" => View::Keys,
                        _ => View::Values,
                    };
                    Ok(Value::View(view, dict.clone()))
                }
                _ => self.dict_method(dict, name, arguments),
            },
            _ => self.list_method(object, name, arguments),
        }
    }

    pub fn attribute_of(&self, item: &Value, parts: &[Value], default: Option<&Value>) -> Outcome<Value> {
        let mut item = item.clone();
        for part in parts {
            self.budget.spend(1)?;
            item = self.item(&item, part)?;
            if let (true, Some(default)) = (item.is_undefined(), default) {
                item = default.clone();
            }
        }
        Ok(item)
    }
}

/// The parts of an `attribute` argument: names, and numbers for places.
pub fn attribute_parts(attribute: &Value) -> Vec<Value> {
    match attribute {
        Value::Str(text) => parts_of_text(&text.text),
        Value::None => Vec::new(),
        other => vec![other.clone()],
    }
}

pub fn parts_of_text(attribute: &str) -> Vec<Value> {
    let part = |part: &str| match part.parse() {
        Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => Value::Int(index),
        _ => Value::str(part),
    };
    attribute.split('.').map(part).collect()
}

fn loop_attribute(inner: &Loop, name: &str) -> Outcome<Option<Value>> {
    let (index, length) = (inner.index.get(), inner.items.items.len());
    let count = |count: usize| Value::Int(count as i128);
    let item = |place: Option<usize>, what: &str| match place.and_then(|place| inner.items.items.get(place)) {
        Some(item) => item.clone(),
        None => Value::undefined(what),
    };
    if index >= length && matches!(name, "revindex" | "revindex0") {
        return Err(fault("the loop is over"));
    }
    Ok(Some(match name {
        "index" => count(index + 1),
        "index0" => count(index),
        "revindex" => count(length - index),
        "revindex0" => count(length - index - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 >= length),
        "length" => count(length),
        "depth" => count(inner.depth + 1),
        "depth0" => count(inner.depth),
        "previtem" => item(index.checked_sub(1), "the previous item"),
        "nextitem" => item(Some(index + 1), "the next item"),
        _ => return Ok(None),
    }))
}
