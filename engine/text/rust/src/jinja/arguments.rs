//! The values of a call, bound to a function's parameters as Python does.

use super::budget::Budget;
use super::error::{brief, fault, Outcome};
use super::numbers::integer;
use super::value::Value;
use std::sync::Arc;

#[derive(Default)]
pub struct Values {
    pub positional: Vec<Value>,
    pub named: Vec<(Arc<str>, Value)>,
}

/// The values by parameter; None where none was given.
pub struct Bound<'n> {
    function: &'n str,
    values: Vec<Option<Value>>,
}

impl Values {
    /// Texts are read by what they are given to, if only to be looked for.
    pub fn read(&self, budget: &Budget) -> Outcome<()> {
        let named = self.named.iter().map(|(_, value)| value);
        let mut texts = self.positional.iter().chain(named).filter_map(Value::as_str);
        texts.try_for_each(|text| budget.pay_usize(text.len()))
    }

    pub fn copy(&self, budget: &Budget) -> Outcome<Self> {
        self.read(budget)?;
        budget.pay_items(self.positional.len() + 2 * self.named.len())?;
        Ok(Values {
            positional: self.positional.clone(),
            named: self.named.clone(),
        })
    }

    /// Binds to parameters, of which the first `required` need a value. A name of "" can only be given by its place.
    pub fn bind<'n>(self, function: &'n str, parameters: &[&str], required: usize) -> Outcome<Bound<'n>> {
        if self.positional.len() > parameters.len() {
            return Err(fault(format!(
                "{function} takes at most {} arguments, not {}",
                parameters.len(),
                self.positional.len()
            )));
        }
        let mut values: Vec<Option<Value>> = self.positional.into_iter().map(Some).collect();
        values.resize_with(parameters.len(), || None);
        for (name, value) in self.named {
            let place = parameters
                .iter()
                .position(|known| !known.is_empty() && **known == name[..]);
            let Some(place) = place else {
                return Err(fault(format!(
                    "{function} takes no keyword argument {:?}",
                    brief(&name)
                )));
            };
            if values[place].replace(value).is_some() {
                return Err(fault(format!(
                    "{function} got multiple values for argument {:?}",
                    brief(&name)
                )));
            }
        }
        if let Some(missing) = values.iter().take(required).position(Option::is_none) {
            return Err(fault(format!("{function} lacks its argument {}", missing + 1)));
        }
        Ok(Bound { function, values })
    }
}

impl Bound<'_> {
    pub fn take(&mut self, place: usize) -> Option<Value> {
        self.values[place].take()
    }

    /// The value, or None also where it is Python's None.
    pub fn take_some(&mut self, place: usize) -> Option<Value> {
        self.take(place).filter(|value| !matches!(value, Value::None))
    }

    pub fn take_or(&mut self, place: usize, otherwise: Value) -> Value {
        self.take(place).unwrap_or(otherwise)
    }

    pub fn truth(&mut self, place: usize, otherwise: bool) -> bool {
        self.take(place).map_or(otherwise, |value| value.is_true())
    }

    pub fn integer(&mut self, place: usize, otherwise: i128) -> Outcome<i128> {
        self.take(place).map_or(Ok(otherwise), |value| integer(&value))
    }

    /// An integer that is no number of bytes or items of a text, so that anything below none counts as none.
    pub fn count(&mut self, place: usize, otherwise: i128) -> Outcome<usize> {
        Ok(usize::try_from(self.integer(place, otherwise)?.max(0)).unwrap_or(usize::MAX))
    }

    /// A text, or None where there is none or Python's None.
    pub fn text(&mut self, place: usize) -> Outcome<Option<Arc<str>>> {
        match self.take_some(place) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text.text)),
            Some(other) => {
                other.check_defined()?;
                Err(fault(format!(
                    "{} takes a string, not '{}'",
                    self.function,
                    other.type_name()
                )))
            }
        }
    }

    pub fn needed_text(&mut self, place: usize) -> Outcome<Arc<str>> {
        let function = self.function.to_string();
        self.text(place)?
            .ok_or_else(|| fault(format!("{function} takes a string, not 'NoneType'")))
    }
}
