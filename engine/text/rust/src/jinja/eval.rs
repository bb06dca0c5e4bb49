//! Evaluates expressions.

use super::arguments::Values;
use super::ast::{Arguments, Comparison, Constant, Expr, Operator};
use super::compare::{contains, equal, order};
use super::error::{brief, fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::{binary, negative, positive};
use super::value::{Dict, Text, Value};
use std::cmp::Ordering;
use std::sync::Arc;

impl<'t> Interpreter<'t> {
    pub fn eval(&mut self, expr: &'t Expr) -> Outcome<Value> {
        self.budget.spend(1)?;
        match expr {
            Expr::Constant(constant) => Ok(constant_value(constant)),
            Expr::Name(name) => Ok(self.lookup(*name)),
            _ => self.nested(|this| this.eval_nested(expr)),
        }
    }

    fn eval_nested(&mut self, expr: &'t Expr) -> Outcome<Value> {
        match expr {
            Expr::Constant(_) | Expr::Name(_) => self.eval(expr),
            Expr::Tuple(items) => Value::tuple(self.eval_all(items)?),
            Expr::List(items) => Value::list(self.eval_all(items)?),
            Expr::Dict(pairs) => {
                let mut dict = Dict::new();
                for (key, value) in pairs {
                    dict.insert(self.budget, self.eval(key)?, self.eval(value)?)?;
                }
                Ok(Value::Dict(dict.into()))
            }
            Expr::Attribute(object, name) => {
                let object = self.eval(object)?;
                self.attribute(&object, name)
            }
            Expr::Item(object, index) => {
                let object = self.eval(object)?;
                if let Expr::Slice(parts) = &**index {
                    let mut bounds = [Value::None, Value::None, Value::None];
                    for (bound, part) in bounds.iter_mut().zip(parts) {
                        if let Some(part) = part {
                            *bound = self.eval(part)?;
                        }
                    }
                    return self.slice(&object, &bounds);
                }
                let index = self.eval(index)?;
                self.item(&object, &index)
            }
            Expr::Slice(_) => Err(fault("a slice stands among other indexes")),
            Expr::Call(callee, arguments) => {
                let callee = self.eval(callee)?;
                let arguments = self.arguments(arguments)?;
                self.call(&callee, arguments)
            }
            Expr::Filter(value, name, arguments) => {
                let value = match value {
                    Some(value) => self.eval(value)?,
                    None => return Err(fault("a filter stands without a value")),
                };
                let arguments = self.arguments(arguments)?;
                self.filter(name, value, arguments)
            }
            Expr::Test(value, name, arguments) => {
                let value = self.eval(value)?;
                let arguments = self.arguments(arguments)?;
                Ok(Value::Bool(self.test(name, &value, arguments)?))
            }
            Expr::Not(value) => Ok(Value::Bool(!self.eval(value)?.is_true())),
            Expr::Negative(value) => negative(&self.eval(value)?),
            Expr::Positive(value) => positive(&self.eval(value)?),
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                if let (Value::Str(format), Operator::Modulo) = (&left, operator) {
                    return Ok(Value::str(self.percent(&format.text, &right)?));
                }
                binary(self.budget, *operator, &left, &right)
            }
            Expr::Concat(parts) => {
                let mut text = String::new();
                for part in parts {
                    let part = self.eval(part)?;
                    self.write_str(&part, &mut text)?;
                }
                Ok(Value::str(text))
            }
            Expr::Compare(first, others) => self.compare(first, others),
            Expr::And(left, right) => {
                let left = self.eval(left)?;
                if left.is_true() {
                    self.eval(right)
                } else {
                    Ok(left)
                }
            }
            Expr::Or(left, right) => {
                let left = self.eval(left)?;
                if left.is_true() {
                    Ok(left)
                } else {
                    self.eval(right)
                }
            }
            Expr::Conditional { test, then, otherwise } => match (self.eval(test)?.is_true(), otherwise) {
                (true, _) => self.eval(then),
                (false, Some(otherwise)) => self.eval(otherwise),
                (false, None) => Ok(Value::undefined("")),
            },
        }
    }

    fn eval_all(&mut self, items: &'t [Expr]) -> Outcome<Vec<Value>> {
        self.budget.pay_items(items.len())?;
        items.iter().map(|item| self.eval(item)).collect()
    }

    /// Filters over the body of a block: the innermost has no value of its own.
    pub fn eval_filter_on(&mut self, expr: &'t Expr, text: Value) -> Outcome<Value> {
        let Expr::Filter(value, name, arguments) = expr else {
            return Err(fault("a block takes filters only"));
        };
        let value = match value {
            Some(inner) => self.nested(|this| this.eval_filter_on(inner, text))?,
            None => text,
        };
        let arguments = self.arguments(arguments)?;
        self.filter(name, value, arguments)
    }

    pub fn arguments(&mut self, arguments: &'t Arguments) -> Outcome<Values> {
        let mut values = Values {
            positional: self.eval_all(&arguments.positional)?,
            named: Vec::with_capacity(arguments.named.len()),
        };
        for (name, value) in &arguments.named {
            values.named.push((name.clone(), self.eval(value)?));
        }
        if let Some(star) = &arguments.star {
            let more = self.eval(star)?;
            values.positional.extend(more.items(self.budget)?);
        }
        if let Some(double_star) = &arguments.double_star {
            let Value::Dict(more) = self.eval(double_star)? else {
                return Err(fault("the argument behind ** is no dictionary"));
            };
            self.budget.pay_items(2 * more.entries.len())?;
            for (key, value) in &more.entries {
                let Value::Str(Text { text, .. }) = key else {
                    return Err(fault("keywords must be strings"));
                };
                values.named.push((text.clone(), value.clone()));
            }
        }
        for (place, (name, _)) in values.named.iter().enumerate() {
            self.budget.spend(place as u64 / 8)?;
            if values.named[..place].iter().any(|(known, _)| known == name) {
                return Err(fault(format!(
                    "got multiple values for keyword argument {:?}",
                    brief(name)
                )));
            }
        }
        values.read(self.budget)?;
        Ok(values)
    }

    fn compare(&mut self, first: &'t Expr, others: &'t [(Comparison, Expr)]) -> Outcome<Value> {
        let mut left = self.eval(first)?;
        for (comparison, right) in others {
            let right = self.eval(right)?;
            if !self.holds(*comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    pub fn holds(&self, comparison: Comparison, left: &Value, right: &Value) -> Outcome<bool> {
        let budget = self.budget;
        let ordered =
            |accepted: &[Ordering]| Ok(order(budget, left, right)?.is_some_and(|found| accepted.contains(&found)));
        match comparison {
            Comparison::Equal => equal(budget, left, right),
            Comparison::NotEqual => Ok(!equal(budget, left, right)?),
            Comparison::Less => ordered(&[Ordering::Less]),
            Comparison::LessOrEqual => ordered(&[Ordering::Less, Ordering::Equal]),
            Comparison::Greater => ordered(&[Ordering::Greater]),
            Comparison::GreaterOrEqual => ordered(&[Ordering::Greater, Ordering::Equal]),
            Comparison::In => contains(budget, right, left),
            Comparison::NotIn => Ok(!contains(budget, right, left)?),
        }
    }
}

fn constant_value(constant: &Constant) -> Value {
    match constant {
        Constant::None => Value::None,
        Constant::Bool(value) => Value::Bool(*value),
        Constant::Int(value) => Value::Int(*value),
        Constant::Float(value) => Value::Float(*value),
        Constant::Str(text) => Value::Str(Text {
            text: Arc::clone(text),
            is_markup: false,
        }),
    }
}
