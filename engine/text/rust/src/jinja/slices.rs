//! `a[start:stop:step]`

use super::error::{fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::integer;
use super::value::{Range, Text, Value};
use std::rc::Rc;

impl Interpreter<'_> {
    pub fn slice(&self, object: &Value, bounds: &[Value; 3]) -> Outcome<Value> {
        object.check_defined()?;
        let length = object.length(self.budget)?.unwrap_or(0);
        let Places {
            start,
            stop,
            step,
            count,
        } = places(length, bounds)?;
        let place = |index: usize| (start + step * index as i128) as usize;
        if let Value::Str(Text { text, .. }) = object {
            self.budget.pay_usize(text.len())?;
            if step == 1 {
                let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]).skip(place(0));
                let from = ends.next().unwrap_or(text.len());
                let to = if count == 0 { Some(from) } else { ends.nth(count - 1) };
                return Ok(Value::str(&text[from..to.unwrap_or(text.len())]));
            }
            self.budget.pay_usize(text.len().saturating_mul(4))?;
            let characters: Vec<char> = text.chars().collect();
            return Ok(Value::str(
                (0..count).map(|index| characters[place(index)]).collect::<String>(),
            ));
        }
        self.budget.pay_items(count)?;
        match object {
            Value::List(list) => Value::list((0..count).map(|index| list.items[place(index)].clone()).collect()),
            Value::Tuple(list) => Value::tuple((0..count).map(|index| list.items[place(index)].clone()).collect()),
            Value::Range(range) => Ok(Value::Range(Rc::new(Range {
                start: range.start + start * range.step,
                stop: range.start + stop * range.step,
                step: range.step.saturating_mul(step),
            }))),
            Value::Dict(_) => Err(fault("unhashable type: 'slice'")),
            _ => Err(fault(format!("'{}' object is not subscriptable", object.type_name()))),
        }
    }
}

/// The first place that a slice takes, where it ends, the step to the next place, and how many there are.
struct Places {
    start: i128,
    stop: i128,
    step: i128,
    count: usize,
}

fn places(length: usize, bounds: &[Value; 3]) -> Outcome<Places> {
    let bound = |value: &Value| match value {
        Value::None => Ok(None),
        Value::Undefined(_) => Err(fault("slice indices must be integers or None")),
        _ => integer(value)
            .map(Some)
            .map_err(|_| fault("slice indices must be integers or None")),
    };
    let length = length as i128;
    let step = bound(&bounds[2])?.unwrap_or(1);
    if step == 0 {
        return Err(fault("slice step cannot be zero"));
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |value: i128| (if value < 0 { value + length } else { value }).clamp(low, high);
    let start = bound(&bounds[0])?.map_or(if step > 0 { low } else { high }, clamp);
    let stop = bound(&bounds[1])?.map_or(if step > 0 { high } else { low }, clamp);
    let distance = if step > 0 { stop - start } else { start - stop };
    let count = (distance.max(0) as u128).div_ceil(step.unsigned_abs()) as usize;
    Ok(Places {
        start,
        stop,
        step,
        count,
    })
}
