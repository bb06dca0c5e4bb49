//! The methods of dictionaries, lists, tuples and ranges.

use super::arguments::Values;
use super::compare::{equal, is_same};
use super::error::{fault, Outcome};
use super::interpreter::Interpreter;
use super::value::{Dict, Value};
use std::rc::Rc;

impl Interpreter<'_> {
    pub fn dict_method(&mut self, dict: &Rc<Dict>, name: &str, arguments: Values) -> Outcome<Value> {
        match name {
            "get" => {
                let mut bound = arguments.bind(name, &["", ""], 1)?;
                let key = bound.take_or(0, Value::None);
                Ok(match dict.get(self.budget, &key)? {
                    Some(value) => value.clone(),
                    None => bound.take_or(1, Value::None),
                })
            }
            "copy" => {
                arguments.bind(name, &[], 0)?;
                Ok(Value::Dict(dict.clone()))
            }
            _ => self.dict_from_keys(arguments),
        }
    }

    pub fn list_method(&mut self, list: &Value, name: &str, arguments: Values) -> Outcome<Value> {
        if name == "copy" {
            arguments.bind(name, &[], 0)?;
            return Ok(list.clone());
        }
        let wanted = arguments.bind(name, &[""], 1)?.take_or(0, Value::None);
        let mut count = 0;
        for (place, item) in list.items(self.budget)?.iter().enumerate() {
            if is_same(item, &wanted) || equal(self.budget, item, &wanted)? {
                if name == "index" {
                    return Ok(Value::Int(place as i128));
                }
                count += 1;
            }
        }
        match name {
            "count" => Ok(Value::Int(count)),
            _ => Err(fault("the value is not in the list")),
        }
    }
}
