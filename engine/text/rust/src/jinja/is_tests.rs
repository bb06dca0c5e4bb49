//! Tests: what stands behind `is`, and in select and its kin.

use super::arguments::Values;
use super::ast::Comparison;
use super::compare::{equal, is_same};
use super::error::{brief, fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::binary;
use super::text::all_of_case;
use super::value::Value;

impl Interpreter<'_> {
    pub fn test(&mut self, name: &str, value: &Value, arguments: Values) -> Outcome<bool> {
        self.budget.spend(1)?;
        let comparison = match name {
            "eq" | "==" | "equalto" => Some(Comparison::Equal),
            "ne" | "!=" => Some(Comparison::NotEqual),
            "lt" | "<" | "lessthan" => Some(Comparison::Less),
            "le" | "<=" => Some(Comparison::LessOrEqual),
            "gt" | ">" | "greaterthan" => Some(Comparison::Greater),
            "ge" | ">=" => Some(Comparison::GreaterOrEqual),
            "in" => Some(Comparison::In),
            _ => None,
        };
        if let Some(comparison) = comparison {
            let other = arguments.bind(name, &[""], 1)?.take_or(0, Value::None);
            return self.holds(comparison, value, &other);
        }
        match name {
            "divisibleby" => {
                let other = arguments.bind(name, &["num"], 1)?.take_or(0, Value::None);
                self.remainder_is(value, &other, 0)
            }
            "sameas" => {
                let other = arguments.bind(name, &["other"], 1)?.take_or(0, Value::None);
                let alike = matches!(
                    (value, &other),
                    (Value::Str(_), Value::Str(_)) | (Value::Undefined(_), Value::Undefined(_))
                );
                Ok(is_same(value, &other) || (alike && equal(self.budget, value, &other)?))
            }
            _ => {
                arguments.bind(name, &[], 0)?;
                self.plain_test(name, value)
            }
        }
    }

    fn remainder_is(&self, value: &Value, divisor: &Value, wanted: i128) -> Outcome<bool> {
        let rest = binary(self.budget, super::ast::Operator::Modulo, value, divisor)?;
        equal(self.budget, &rest, &Value::Int(wanted))
    }

    fn plain_test(&self, name: &str, value: &Value) -> Outcome<bool> {
        Ok(match name {
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            "string" => value.as_str().is_some(),
            "mapping" => matches!(value, Value::Dict(_)),
            "escaped" => matches!(value, Value::Str(text) if text.is_markup),
            // What has a length and items by number, as jinja2 asks; dictionaries and what is undefined have both.
            "sequence" => matches!(
                value,
                Value::Undefined(_)
                    | Value::Str(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Dict(_)
                    | Value::Range(_)
            ),
            "iterable" => value.is_iterable(),
            "callable" => matches!(
                value,
                Value::Undefined(_)
                    | Value::Method(_)
                    | Value::Function(_)
                    | Value::Macro(_)
                    | Value::Loop(_)
                    | Value::Joiner(_)
            ),
            "odd" => self.remainder_is(value, &Value::Int(2), 1)?,
            "even" => self.remainder_is(value, &Value::Int(2), 0)?,
            "lower" | "upper" => {
                let text = self.text_of(value)?;
                self.budget.pay_usize(text.len())?;
                all_of_case(&text, name == "upper")
            }
            "filter" | "test" => {
                value.key(self.budget)?;
                let names = if name == "filter" { super::filters::NAMES } else { NAMES };
                value
                    .as_str()
                    .is_some_and(|wanted| names.split(' ').any(|known| known == wanted))
            }
            _ => return Err(fault(format!("no test named {:?}", brief(name)))),
        })
    }
}

const NAMES: &str =
    "odd even divisibleby defined undefined filter test none boolean false true integer float lower upper string \
     mapping number sequence iterable callable sameas escaped in == eq equalto != ne > gt greaterthan ge >= < lt \
     lessthan <= le";
