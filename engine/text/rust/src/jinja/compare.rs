//! Equality, order and membership.

use super::budget::Budget;
use super::error::{fault, Outcome};
use super::value::{List, Value, View};
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

pub fn equal(budget: &Budget, left: &Value, right: &Value) -> Outcome<bool> {
    budget.spend(1)?;
    if let (Some(left), Some(right)) = (number_of(left), number_of(right)) {
        return Ok(compare_numbers(left, right) == Some(Ordering::Equal));
    }
    Ok(match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(left), Value::Str(right)) => {
            budget.pay_usize(left.text.len().min(right.text.len()) / 8)?;
            left.text == right.text
        }
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            left.items.len() == right.items.len() && first_difference(budget, left, right)?.is_none()
        }
        (Value::Dict(left), Value::Dict(right)) => {
            if left.entries.len() != right.entries.len() {
                return Ok(false);
            }
            for (key, value) in &left.entries {
                match right.get(budget, key)? {
                    Some(other) if equal(budget, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(left), Value::Range(right)) => {
            let length = left.len();
            let ends = |range: &super::value::Range| {
                (length > 0).then(|| (range.start, range.start + range.step * (length as i128 - 1)))
            };
            length == right.len() && ends(left) == ends(right)
        }
        (Value::View(View::Keys, left), Value::View(View::Keys, right)) => {
            let mut same = left.entries.len() == right.entries.len();
            for (key, _) in &left.entries {
                same = same && right.get(budget, key)?.is_some();
            }
            same
        }
        (Value::Method(left), Value::Method(right)) => left.1 == right.1 && is_same(&left.0, &right.0),
        _ => is_same(left, right),
    })
}

/// Python's `is`.
pub fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
        (Value::Str(left), Value::Str(right)) => Arc::ptr_eq(&left.text, &right.text),
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => Rc::ptr_eq(left, right),
        (Value::Dict(left), Value::Dict(right)) => Rc::ptr_eq(left, right),
        (Value::Iterator(left), Value::Iterator(right)) => Rc::ptr_eq(left, right),
        (Value::Loop(left), Value::Loop(right)) => Rc::ptr_eq(left, right),
        (Value::Cycler(left), Value::Cycler(right)) | (Value::Joiner(left), Value::Joiner(right)) => {
            Rc::ptr_eq(left, right)
        }
        (Value::Function(left), Value::Function(right)) => left == right,
        (Value::Macro(left), Value::Macro(right)) => left == right,
        (Value::Namespace(left), Value::Namespace(right)) => left == right,
        _ => false,
    }
}

fn first_difference(budget: &Budget, left: &List, right: &List) -> Outcome<Option<usize>> {
    for (index, (one, other)) in left.items.iter().zip(&right.items).enumerate() {
        if !is_same(one, other) && !equal(budget, one, other)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

fn number_of(value: &Value) -> Option<Number> {
    match value {
        Value::Bool(value) => Some(Number::Int(i128::from(*value))),
        Value::Int(value) => Some(Number::Int(*value)),
        Value::Float(value) => Some(Number::Float(*value)),
        _ => None,
    }
}

fn compare_numbers(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => Some(left.cmp(&right)),
        (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right),
        (Number::Int(left), Number::Float(right)) => compare_mixed(left, right),
        (Number::Float(left), Number::Int(right)) => compare_mixed(right, left).map(Ordering::reverse),
    }
}

/// Exactly, as Python does.
fn compare_mixed(left: i128, right: f64) -> Option<Ordering> {
    if right.is_nan() {
        return None;
    }
    if right.abs() >= 1e38 {
        return Some(if right > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = left.cmp(&(right.floor() as i128));
    Some(match whole {
        Ordering::Equal if right.fract() != 0.0 => Ordering::Less,
        _ => whole,
    })
}

/// None: neither is less nor are they equal (NaN). An error where Python has no order.
pub fn order(budget: &Budget, left: &Value, right: &Value) -> Outcome<Option<Ordering>> {
    budget.spend(1)?;
    if let (Some(left), Some(right)) = (number_of(left), number_of(right)) {
        return Ok(compare_numbers(left, right));
    }
    left.check_defined()?;
    right.check_defined()?;
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => {
            budget.pay_usize(left.text.len().min(right.text.len()) / 8)?;
            Ok(Some(left.text.cmp(&right.text)))
        }
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            match first_difference(budget, left, right)? {
                Some(at) => order(budget, &left.items[at], &right.items[at]),
                None => Ok(Some(left.items.len().cmp(&right.items.len()))),
            }
        }
        _ => Err(fault(format!(
            "'<' not supported between instances of '{}' and '{}'",
            left.type_name(),
            right.type_name()
        ))),
    }
}

/// `item in container`
pub fn contains(budget: &Budget, container: &Value, item: &Value) -> Outcome<bool> {
    match (container, item) {
        (Value::Str(text), Value::Str(part)) => {
            budget.read(&text.text)?;
            Ok(text.text.contains(&part.text[..]))
        }
        (Value::Str(_), _) => Err(fault(format!(
            "'in <string>' requires string as left operand, not {}",
            item.type_name()
        ))),
        (Value::Dict(dict) | Value::View(View::Keys, dict), _) => Ok(dict.get(budget, item)?.is_some()),
        (Value::List(list) | Value::Tuple(list), _) => {
            for other in &list.items {
                if is_same(other, item) || equal(budget, other, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Iterator(iterator), _) => loop {
            // What has been looked at is gone.
            let next = iterator.items.borrow_mut().next();
            match next {
                None => return Ok(false),
                Some(other) if equal(budget, &other, item)? => return Ok(true),
                Some(_) => {}
            }
        },
        _ => {
            for other in container.items(budget)? {
                if equal(budget, &other, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Sorts by the keys, stably; equal ones keep their order also when it is reversed. A merge sort of our own, since
/// those of Rust take no comparison that may fail or contradict itself.
pub fn sort(budget: &Budget, keyed: Vec<(Value, Value)>, reverse: bool) -> Outcome<Vec<(Value, Value)>> {
    if keyed.len() < 2 {
        return Ok(keyed);
    }
    budget.pay_items(2 * keyed.len())?;
    let mut left = keyed;
    let right = left.split_off(left.len() / 2);
    let left = sort(budget, left, reverse)?;
    let right = sort(budget, right, reverse)?;
    let mut sorted = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some((one, _)), Some((other, _))) = (left.peek(), right.peek()) {
        let before = if reverse { Ordering::Greater } else { Ordering::Less };
        let takes_right = order(budget, other, one)? == Some(before);
        sorted.extend(if takes_right { right.next() } else { left.next() });
    }
    sorted.extend(left);
    sorted.extend(right);
    Ok(sorted)
}
