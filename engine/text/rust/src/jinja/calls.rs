//! Calls: global functions, macros, methods.

use super::arguments::Values;
use super::compare::equal;
use super::error::{fault, Error, Outcome};
use super::interpreter::Interpreter;
use super::numbers::integer;
use super::value::{Dict, Function, List, Loop, Range, Text, Turns, Value};
use crate::failure::shorten;
use crate::strftime::strftime;
use std::cell::Cell;
use std::rc::Rc;

/// The most items of range(); the sandbox's.
const RANGE_MAX: usize = 100_000;

impl<'t> Interpreter<'t> {
    pub fn global(name: &str) -> Option<Value> {
        Some(Value::Function(match name {
            "range" => Function::Range,
            "dict" => Function::Dict,
            "namespace" => Function::Namespace,
            "cycler" => Function::Cycler,
            "joiner" => Function::Joiner,
            "raise_exception" => Function::RaiseException,
            "strftime_now" => Function::StrftimeNow,
            "self" => Function::Template,
            _ => return None,
        }))
    }

    pub fn call(&mut self, callee: &Value, arguments: Values) -> Outcome<Value> {
        self.budget.spend(1)?;
        callee.check_defined()?;
        match callee {
            Value::Function(function) => self.call_function(*function, arguments),
            Value::Macro(place) => self.call_macro(*place, arguments),
            Value::Method(method) => self.call_method(&method.0, method.1, arguments),
            Value::Loop(inner) => {
                let items = arguments.bind("loop", &["iterable"], 1)?.take_or(0, Value::None);
                self.call_loop(&inner.clone(), items)
            }
            Value::Joiner(joiner) => {
                arguments.bind("joiner", &[], 0)?;
                Ok(joiner.items.items[joiner.at.replace(1)].clone())
            }
            _ => Err(fault(format!("'{}' object is not callable", callee.type_name()))),
        }
    }

    fn call_function(&mut self, function: Function, arguments: Values) -> Outcome<Value> {
        match function {
            Function::Range => range(arguments),
            Function::Dict => Ok(Value::Dict(Rc::new(self.make_dict(arguments)?))),
            Function::DictFromKeys => self.dict_from_keys(arguments),
            Function::Namespace => {
                let members = self.make_dict(arguments)?;
                for (name, _) in &members.entries {
                    if name.as_str().is_some_and(|name| name.starts_with('_')) {
                        return Err(fault("a namespace takes no names that begin with an underscore"));
                    }
                }
                self.make_namespace(members)
            }
            Function::Cycler => {
                if arguments.positional.is_empty() || !arguments.named.is_empty() {
                    return Err(fault("cycler takes at least one item, and nothing by name"));
                }
                Ok(Value::Cycler(turns(arguments.positional)?))
            }
            Function::Joiner => {
                let separator = arguments.bind("joiner", &["sep"], 0)?.take_or(0, Value::str(", "));
                Ok(Value::Joiner(turns(vec![Value::str(""), separator])?))
            }
            Function::RaiseException => {
                let message = arguments
                    .bind("raise_exception", &["message"], 1)?
                    .take_or(0, Value::None);
                Err(Error::raised(shorten(&self.text_of(&message)?)))
            }
            Function::Template => Err(fault("'TemplateReference' object is not callable")),
            Function::StrftimeNow => {
                let format = arguments.bind("strftime_now", &["format"], 1)?.needed_text(0)?;
                Ok(Value::str(strftime(&format, self.now_seconds).map_err(fault)?))
            }
        }
    }

    /// dict(): from a dictionary or from pairs, and from names.
    fn make_dict(&mut self, arguments: Values) -> Outcome<Dict> {
        let Values { mut positional, named } = arguments;
        if positional.len() > 1 {
            return Err(fault(format!(
                "dict expected at most 1 argument, got {}",
                positional.len()
            )));
        }
        let mut dict = Dict::new();
        match positional.pop() {
            None => {}
            Some(Value::Dict(source)) => {
                for (key, value) in &source.entries {
                    dict.insert(self.budget, key.clone(), value.clone())?;
                }
            }
            Some(source) => {
                for pair in source.items(self.budget)? {
                    let [key, value] = <[Value; 2]>::try_from(pair.items(self.budget)?)
                        .map_err(|_| fault("dict takes pairs of a key and a value"))?;
                    dict.insert(self.budget, key, value)?;
                }
            }
        }
        for (name, value) in named {
            let (text, is_markup) = (name, false);
            dict.insert(self.budget, Value::Str(Text { text, is_markup }), value)?;
        }
        Ok(dict)
    }

    pub fn dict_from_keys(&mut self, arguments: Values) -> Outcome<Value> {
        let mut bound = arguments.bind("fromkeys", &["", ""], 1)?;
        let (keys, value) = (bound.take_or(0, Value::None), bound.take_or(1, Value::None));
        let pairs = keys.items(self.budget)?.into_iter().map(|key| (key, value.clone()));
        Ok(Value::Dict(Dict::from_pairs(self.budget, pairs)?))
    }

    fn call_macro(&mut self, place: usize, arguments: Values) -> Outcome<Value> {
        self.run_macro(place, |this, macro_| {
            let Values {
                mut positional,
                mut named,
            } = arguments;
            let count = macro_.parameters.len();
            this.budget.pay_items(count)?;
            let extra = positional.split_off(positional.len().min(count));
            let [caller, varargs, kwargs] = macro_.special;
            let mut positional = positional.into_iter();
            let mut take_named = |wanted: &str| {
                let place = named.iter().position(|(name, _)| &name[..] == wanted)?;
                Some(named.remove(place).1)
            };
            let mut missing = Vec::new();
            for (index, (variable, name)) in macro_.parameters.iter().enumerate() {
                // An argument that is given by place and by name is refused below, as one of no parameter.
                let value = positional.next().or_else(|| take_named(name));
                if value.is_none() {
                    missing.push((index, *variable, name));
                }
                this.set(*variable, value.unwrap_or_else(|| Value::undefined(name)));
            }
            if let Some(variable) = caller.filter(|_| !macro_.parameters.iter().any(|(_, name)| &name[..] == "caller"))
            {
                let value = take_named("caller").unwrap_or_else(|| Value::undefined("caller"));
                this.set(variable, value);
            }
            if let Some(variable) = kwargs {
                let pairs = std::mem::take(&mut named)
                    .into_iter()
                    .map(|(name, value)| (Value::str(name), value));
                let dict = Dict::from_pairs(this.budget, pairs)?;
                this.set(variable, Value::Dict(dict));
            } else if let Some((name, _)) = named.first() {
                return Err(fault(format!(
                    "macro '{}' takes no keyword argument '{name}'",
                    macro_.name
                )));
            }
            if let Some(variable) = varargs {
                let extra = Value::tuple(extra)?;
                this.set(variable, extra);
            } else if !extra.is_empty() {
                return Err(fault(format!(
                    "macro '{}' takes not more than {count} argument(s)",
                    macro_.name
                )));
            }
            // Each sees the parameters before it.
            for (index, variable, _) in missing {
                let first = count - macro_.defaults.len();
                if let Some(default) = index.checked_sub(first).map(|place| &macro_.defaults[place]) {
                    let value = this.eval(default)?;
                    this.set(variable, value);
                }
            }
            Ok(())
        })
    }

    pub fn call_loop_method(&mut self, inner: &Loop, name: &str, arguments: Values) -> Outcome<Value> {
        if !arguments.named.is_empty() {
            return Err(fault(format!("loop.{name} takes nothing by name")));
        }
        let values = arguments.positional;
        match name {
            "cycle" if values.is_empty() => Err(fault("no items for cycling given")),
            "cycle" => Ok(values[inner.index.get() % values.len()].clone()),
            _ => {
                self.budget.pay_items(4)?;
                let new = Value::tuple(values)?;
                let is_known = match self.changed.get(&inner.number) {
                    Some(known) => equal(self.budget, known, &new)?,
                    None => false,
                };
                self.changed.insert(inner.number, new);
                Ok(Value::Bool(!is_known))
            }
        }
    }
}

fn turns(items: Vec<Value>) -> Outcome<Rc<Turns>> {
    let (items, at) = (List::new(items)?, Cell::new(0));
    Ok(Rc::new(Turns { items, at }))
}

fn range(arguments: Values) -> Outcome<Value> {
    let mut bound = arguments.bind("range", &["", "", ""], 1)?;
    let first = bound.integer(0, 0)?;
    let (start, stop) = match bound.take(1) {
        Some(stop) => (first, integer(&stop)?),
        None => (0, first),
    };
    let step = bound.integer(2, 1)?;
    if step == 0 {
        return Err(fault("range() arg 3 must not be zero"));
    }
    // Far beyond what may be counted through, so that no sum overflows.
    if [start, stop, step].iter().any(|part| i64::try_from(*part).is_err()) {
        return Err(fault("range() takes integers of 64 bits"));
    }
    let range = Range { start, stop, step };
    if range.len() > RANGE_MAX {
        return Err(fault(format!(
            "range too big; ranges larger than {RANGE_MAX} are not allowed"
        )));
    }
    Ok(Value::Range(Rc::new(range)))
}
