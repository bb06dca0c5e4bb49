//! `a[start:stop:step]`

use super::error::{fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::integer;
use super::value::{Text, Value};

impl Interpreter<'_> {
    pub fn slice(&self, object: &Value, bounds: &[Value; 3]) -> Outcome<Value> {
        object.check_defined()?;
        if !matches!(
            object,
            Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_)
        ) {
            // As jinja2's getitem: what cannot be looked up is undefined.
            return Ok(Value::undefined("a slice"));
        }
        let length = object.length().unwrap_or(0);
        let places = places(length, bounds)?;
        self.budget.pay_items(places.len())?;
        match object {
            Value::Str(Text { text, .. }) => {
                if let (Some(&first), true) = (places.first(), text.is_ascii()) {
                    if places.windows(2).all(|pair| pair[1] == pair[0] + 1) {
                        return Ok(Value::str(&text[first..first + places.len()]));
                    }
                }
                self.budget.pay_usize(text.len().saturating_mul(4))?;
                let characters: Vec<char> = text.chars().collect();
                Ok(Value::str(
                    places.into_iter().map(|place| characters[place]).collect::<String>(),
                ))
            }
            Value::List(list) => Value::list(places.into_iter().map(|place| list.items[place].clone()).collect()),
            Value::Tuple(list) => Value::tuple(places.into_iter().map(|place| list.items[place].clone()).collect()),
            Value::Range(range) => {
                // Python gives a range again; it is used as a list is.
                Value::list(places.into_iter().map(|place| range.item(place)).collect())
            }
            _ => Ok(Value::undefined("a slice")),
        }
    }
}

/// The places that a slice takes, in its order.
fn places(length: usize, bounds: &[Value; 3]) -> Outcome<Vec<usize>> {
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
    let mut places = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        places.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(places)
}
