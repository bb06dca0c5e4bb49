//! Filters by name, and those that fit nowhere else.

use super::arguments::Values;
use super::error::{fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::{binary, float_of, integer, too_large};
use super::text_filters::{float_from, int_from};
use super::value::{Value, View};

pub const NAMES: &str =
    "abs attr batch capitalize center count d default dictsort e escape filesizeformat first float forceescape \
     format groupby indent int items join last length list lower map max min reject rejectattr replace reverse \
     round safe select selectattr slice sort string striptags sum title tojson trim truncate unique upper \
     urlencode wordcount xmlattr";

impl Interpreter<'_> {
    /// The filter's value; names and order of the parameters are jinja2's.
    pub fn filter(&mut self, name: &str, value: Value, arguments: Values) -> Outcome<Value> {
        self.budget.spend(1)?;
        self.budget.pay_usize(value.as_str().map_or(0, str::len))?;
        match name {
            "default" | "d" => {
                let mut bound = arguments.bind(name, &["default_value", "boolean"], 0)?;
                let missing = value.is_undefined() || (bound.truth(1, false) && !value.is_true());
                Ok(if missing {
                    bound.take_or(0, Value::str(""))
                } else {
                    value
                })
            }
            "length" | "count" => {
                arguments.bind(name, &[], 0)?;
                let length = value.length(self.budget)?;
                let length =
                    length.ok_or_else(|| fault(format!("object of type '{}' has no len()", value.type_name())))?;
                Ok(Value::Int(length as i128))
            }
            "tojson" => self.tojson(&value, arguments),
            "abs" => {
                arguments.bind(name, &[], 0)?;
                match value {
                    Value::Float(value) => Ok(Value::Float(value.abs())),
                    _ => Ok(Value::Int(integer(&value)?.checked_abs().ok_or_else(too_large)?)),
                }
            }
            "int" => {
                let mut bound = arguments.bind(name, &["default", "base"], 0)?;
                let (default, base) = (bound.take_or(0, Value::Int(0)), bound.integer(1, 10)?);
                value.check_defined()?;
                Ok(int_from(&value, base)?.unwrap_or(default))
            }
            "float" => {
                let default = arguments.bind(name, &["default"], 0)?.take_or(0, Value::Float(0.0));
                value.check_defined()?;
                Ok(float_from(&value).map_or(default, Value::Float))
            }
            "round" => self.round(&value, arguments),
            "items" => {
                arguments.bind(name, &[], 0)?;
                match &value {
                    Value::Undefined(_) => Value::iterator(Vec::new()),
                    Value::Dict(dict) => Value::iterator(Value::View(View::Items, dict.clone()).items(self.budget)?),
                    _ => Err(fault("Can only get item pairs from a mapping.")),
                }
            }
            "attr" => {
                let wanted = arguments.bind(name, &["name"], 1)?.needed_text(0)?;
                match &value {
                    // Attributes only, no items.
                    Value::Dict(_) => match self.attribute(&value, &wanted)? {
                        method @ Value::Method(_) => Ok(method),
                        _ => Ok(Value::Undefined(wanted)),
                    },
                    _ => self.attribute(&value, &wanted),
                }
            }
            "string" => {
                arguments.bind(name, &[], 0)?;
                Ok(Value::Str(self.soft_text(&value)?))
            }
            "safe" => {
                arguments.bind(name, &[], 0)?;
                Ok(Value::markup(self.text_of(&value)?))
            }
            "batch" | "dictsort" | "first" | "groupby" | "join" | "last" | "list" | "map" | "max" | "min"
            | "reject" | "rejectattr" | "reverse" | "select" | "selectattr" | "slice" | "sort" | "sum" | "unique" => {
                self.list_filter(name, value, arguments)
            }
            _ => self.text_filter(name, &value, arguments),
        }
    }

    fn round(&self, value: &Value, arguments: Values) -> Outcome<Value> {
        let mut bound = arguments.bind("round", &["precision", "method"], 0)?;
        let (precision, method) = (bound.integer(0, 0)?, bound.text(1)?);
        value.check_defined()?;
        let precision = i32::try_from(precision.clamp(-400, 400)).unwrap_or(0);
        let number = float_of(value)
            .ok_or_else(|| fault(format!("type {} doesn't define __round__ method", value.type_name())))?;
        match method.as_deref() {
            None | Some("common") => match value {
                Value::Float(_) => Ok(Value::Float(rounded(number, precision))),
                _ if precision >= 0 => Ok(Value::Int(integer(value)?)),
                _ => {
                    let unit = 10_i128.checked_pow(precision.unsigned_abs()).unwrap_or(i128::MAX);
                    let (number, half) = (integer(value)?, unit / 2);
                    let rest = number.rem_euclid(unit);
                    let down = number - rest;
                    let up = rest > half || (rest == half && (down / unit) % 2 != 0);
                    Ok(Value::Int(if up { down.saturating_add(unit) } else { down }))
                }
            },
            Some(method @ ("ceil" | "floor")) => {
                let unit = binary(
                    self.budget,
                    super::ast::Operator::Power,
                    &Value::Int(10),
                    &Value::Int(precision.into()),
                )?;
                let unit = float_of(&unit).unwrap_or(1.0);
                let scaled = number * unit;
                Ok(Value::Float(
                    if method == "ceil" {
                        scaled.ceil()
                    } else {
                        scaled.floor()
                    } / unit,
                ))
            }
            Some(_) => Err(fault("method must be common, ceil or floor")),
        }
    }
}

/// Python's round(): to the nearest decimal, ties to even digits, of the number's exact value.
fn rounded(number: f64, precision: i32) -> f64 {
    if !number.is_finite() {
        return number;
    }
    if precision >= 0 {
        // Rust prints the exact value, rounded ties to even.
        let digits = precision.unsigned_abs() as usize;
        return format!("{number:.digits$}").parse().unwrap_or(number);
    }
    let unit = 10f64.powi(-precision);
    let scaled = number / unit;
    let nearest = scaled.round();
    let tie = (scaled - scaled.trunc()).abs() == 0.5;
    let even = if tie && nearest % 2.0 != 0.0 {
        nearest - scaled.signum()
    } else {
        nearest
    };
    if unit.is_finite() {
        even * unit
    } else {
        0.0
    }
}
