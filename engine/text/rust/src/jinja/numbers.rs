//! Arithmetic, and numbers as text.

use super::ast::Operator;
use super::budget::Budget;
use super::error::{fault, Error, Outcome};
use super::text_filters::escape_text;
use super::value::{List, Value};

pub fn binary(budget: &Budget, operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    left.check_defined()?;
    right.check_defined()?;
    match (operator, left, right) {
        (Operator::Add, Value::Str(one), Value::Str(other)) => {
            budget.pay_usize(one.text.len() + other.text.len())?;
            if one.is_markup || other.is_markup {
                let escaped = |value| escape_text(budget, value);
                return Ok(Value::markup(escaped(one)? + &escaped(other)?));
            }
            Ok(Value::str([&one.text[..], &other.text[..]].concat()))
        }
        (Operator::Add, Value::List(one), Value::List(other)) => Ok(Value::List(joined(budget, one, other)?)),
        (Operator::Add, Value::Tuple(one), Value::Tuple(other)) => Ok(Value::Tuple(joined(budget, one, other)?)),
        (Operator::Multiply, _, Value::Int(_) | Value::Bool(_)) if is_sequence(left) => repeated(budget, left, right),
        (Operator::Multiply, Value::Int(_) | Value::Bool(_), _) if is_sequence(right) => repeated(budget, right, left),
        _ => arithmetic(operator, left, right),
    }
}

fn is_sequence(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::List(_) | Value::Tuple(_))
}

fn joined(budget: &Budget, one: &List, other: &List) -> Outcome<std::rc::Rc<List>> {
    budget.pay_items(one.items.len() + other.items.len())?;
    List::new([&one.items[..], &other.items[..]].concat())
}

fn repeated(budget: &Budget, value: &Value, count: &Value) -> Outcome<Value> {
    let count = usize::try_from(integer(count)?.max(0)).unwrap_or(usize::MAX);
    match value {
        Value::Str(text) => {
            budget.pay_usize(text.text.len().saturating_mul(count))?;
            let is_markup = text.is_markup;
            let text = text.text.repeat(if text.text.is_empty() { 0 } else { count });
            Ok(if is_markup {
                Value::markup(text)
            } else {
                Value::str(text)
            })
        }
        Value::List(list) | Value::Tuple(list) => {
            budget.pay_items(list.items.len().saturating_mul(count))?;
            let count = if list.items.is_empty() { 0 } else { count };
            let items = std::iter::repeat_n(&list.items, count).flatten().cloned().collect();
            Ok(match value {
                Value::List(_) => Value::list(items)?,
                _ => Value::tuple(items)?,
            })
        }
        _ => Err(fault("only texts and lists repeat")),
    }
}

fn unsupported(operator: Operator, left: &Value, right: &Value) -> Error {
    let sign = match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::FloorDivide => "//",
        Operator::Modulo => "%",
        Operator::Power => "**",
    };
    fault(format!(
        "unsupported operand type(s) for {sign}: '{}' and '{}'",
        left.type_name(),
        right.type_name()
    ))
}

fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    let bad = || unsupported(operator, left, right);
    if let (Ok(one), Ok(other)) = (integer(left), integer(right)) {
        return integers(operator, one, other);
    }
    let one = float_of(left).ok_or_else(bad)?;
    let other = float_of(right).ok_or_else(bad)?;
    let divides = matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo);
    if divides && other == 0.0 {
        return Err(fault("division by zero"));
    }
    Ok(Value::Float(match operator {
        Operator::Add => one + other,
        Operator::Subtract => one - other,
        Operator::Multiply => one * other,
        Operator::Divide => one / other,
        Operator::FloorDivide => floor_division(one, other).0,
        Operator::Modulo => floor_division(one, other).1,
        Operator::Power => power(one, other)?,
    }))
}

/// Quotient and rest, by way of the exact rest as Python: 1 // 0.1 is 9.
fn floor_division(one: f64, other: f64) -> (f64, f64) {
    let rest = one % other;
    let quotient = (one - rest) / other;
    let (quotient, rest) = if rest == 0.0 {
        (quotient, 0f64.copysign(other))
    } else if (rest < 0.0) != (other < 0.0) {
        (quotient - 1.0, rest + other)
    } else {
        (quotient, rest)
    };
    let whole = quotient.round();
    (
        if quotient == 0.0 {
            0f64.copysign(one / other)
        } else {
            whole
        },
        rest,
    )
}

fn power(base: f64, exponent: f64) -> Outcome<f64> {
    let result = base.powf(exponent);
    if (base == 0.0 && exponent < 0.0) || (result.is_nan() && !base.is_nan() && !exponent.is_nan()) {
        return Err(fault("a power that is no real number"));
    }
    if result.is_infinite() && base.is_finite() && exponent.is_finite() {
        return Err(fault("a power is too large"));
    }
    Ok(result)
}

fn integers(operator: Operator, one: i128, other: i128) -> Outcome<Value> {
    if other == 0 && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo) {
        return Err(fault("division by zero"));
    }
    let result = match operator {
        Operator::Add => one.checked_add(other),
        Operator::Subtract => one.checked_sub(other),
        Operator::Multiply => one.checked_mul(other),
        Operator::Divide => return Ok(Value::Float(one as f64 / other as f64)),
        Operator::FloorDivide => one.checked_div_euclid(other).map(|quotient| {
            // Euclid's rest is never negative, Python's has the divisor's sign.
            quotient - i128::from(other < 0 && one.rem_euclid(other) != 0)
        }),
        Operator::Modulo => one
            .checked_rem_euclid(other)
            .map(|rest| if other < 0 && rest != 0 { rest + other } else { rest }),
        Operator::Power if other < 0 => return Ok(Value::Float(power(one as f64, other as f64)?)),
        Operator::Power => match one {
            0 | 1 => Some(if other == 0 { 1 } else { one }),
            -1 => Some(if other % 2 == 0 { 1 } else { -1 }),
            _ => u32::try_from(other).ok().and_then(|other| one.checked_pow(other)),
        },
    };
    result.map(Value::Int).ok_or_else(too_large)
}

pub fn too_large() -> Error {
    fault("an integer has more than 127 bits")
}

pub fn negative(value: &Value) -> Outcome<Value> {
    value.check_defined()?;
    match value {
        Value::Float(value) => Ok(Value::Float(-value)),
        _ => Ok(Value::Int(
            unary_integer(value, '-')?.checked_neg().ok_or_else(too_large)?,
        )),
    }
}

pub fn positive(value: &Value) -> Outcome<Value> {
    value.check_defined()?;
    match value {
        Value::Float(value) => Ok(Value::Float(*value)),
        _ => Ok(Value::Int(unary_integer(value, '+')?)),
    }
}

fn unary_integer(value: &Value, sign: char) -> Outcome<i128> {
    integer(value).map_err(|_| fault(format!("bad operand type for unary {sign}: '{}'", value.type_name())))
}

/// Of an integer or a boolean.
pub fn integer(value: &Value) -> Outcome<i128> {
    match value {
        Value::Int(value) => Ok(*value),
        Value::Bool(value) => Ok(i128::from(*value)),
        _ => {
            value.check_defined()?;
            Err(fault(format!(
                "'{}' object cannot be interpreted as an integer",
                value.type_name()
            )))
        }
    }
}

/// Of a number.
pub fn float_of(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        _ => None,
    }
}

/// repr() of a float.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes 1.5e-7 and 1e20, Python 1.5e-07 and 1e+20.
        return exponent_text(&format!("{value:e}"));
    }
    let text = value.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// Rust's exponents as C writes them: with a sign and two digits.
pub fn exponent_text(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(("+", exponent), |digits| ("-", digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
