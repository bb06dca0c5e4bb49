//! `format % values`: Python's older way to format.

use super::error::{brief, fault, Outcome};
use super::format::{float_digits, Spec};
use super::interpreter::Interpreter;
use super::numbers::{float_of, integer};
use super::value::Value;

impl Interpreter<'_> {
    pub fn percent(&self, format: &str, values: &Value) -> Outcome<String> {
        let mut out = String::new();
        let mut rest = format;
        let mut used = 0;
        let mut by_name = false;
        while let Some(at) = rest.find('%') {
            self.budget.push(&mut out, &rest[..at])?;
            rest = &rest[at + 1..];
            let mut named = None;
            if rest.starts_with('(') {
                let end = rest.find(')').ok_or_else(|| fault("incomplete format key"))?;
                let Value::Dict(dict) = values else {
                    return Err(fault("format requires a mapping"));
                };
                let name = &rest[1..end];
                named = Some(
                    dict.get_str(name)
                        .cloned()
                        .ok_or_else(|| fault(format!("there is no {:?} to format", brief(name))))?,
                );
                by_name = true;
                rest = &rest[end + 1..];
            }
            let mut next = || match named.take() {
                Some(value) => Ok(value),
                None => {
                    used += 1;
                    let value = match values {
                        Value::Tuple(list) => list.items.get(used - 1).cloned(),
                        other => Some(other.clone()).filter(|_| used == 1),
                    };
                    value.ok_or_else(|| fault("not enough arguments for format string"))
                }
            };
            let (spec, left, tail) = directive(rest, &mut next)?;
            rest = tail;
            let kind = spec.kind.ok_or_else(|| fault("incomplete format"))?;
            if kind == '%' {
                self.budget.push(&mut out, "%")?;
                continue;
            }
            let text = self.percent_value(&next()?, kind, &spec)?;
            let padded = self.padded(&text, &spec, if left { '<' } else { '>' })?;
            self.budget.push(&mut out, &padded)?;
        }
        self.budget.push(&mut out, rest)?;
        let all = match values {
            Value::Tuple(list) => used >= list.items.len(),
            // What has items, as Python asks.
            Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Undefined(_) => true,
            _ => used >= 1,
        };
        if !all && !by_name {
            return Err(fault("not all arguments converted during string formatting"));
        }
        Ok(out)
    }

    fn percent_value(&self, value: &Value, kind: char, spec: &Spec) -> Outcome<String> {
        let cut = |text: &str| match spec.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text.to_string(),
        };
        let number = || {
            float_of(value).ok_or_else(|| {
                fault(format!(
                    "%{kind} format: a real number is required, not {}",
                    value.type_name()
                ))
            })
        };
        let text = match kind {
            's' => return Ok(cut(&self.text_of(value)?)),
            'r' | 'a' => return Ok(cut(&self.repr_of(value)?)),
            'c' => {
                return match value {
                    Value::Str(text) if text.text.chars().count() == 1 => Ok(text.text.to_string()),
                    _ => {
                        let code = u32::try_from(integer(value)?).ok().and_then(char::from_u32);
                        Ok(code.ok_or_else(|| fault("%c requires int or char"))?.to_string())
                    }
                }
            }
            'd' | 'i' | 'u' => match value {
                Value::Float(value) if value.abs() < 1e38 => (*value as i128).to_string(),
                _ => {
                    number()?;
                    integer(value)?.to_string()
                }
            },
            'x' | 'X' | 'o' => {
                let number = integer(value)?;
                let digits = match kind {
                    'x' => format!("{:x}", number.unsigned_abs()),
                    'X' => format!("{:X}", number.unsigned_abs()),
                    _ => format!("{:o}", number.unsigned_abs()),
                };
                let prefix = if spec.alternate {
                    format!("0{kind}")
                } else {
                    String::new()
                };
                format!("{}{prefix}{digits}", if number < 0 { "-" } else { "" })
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => float_digits(self, number()?, spec)?,
            _ => return Err(fault(format!("unsupported format character '{kind}'"))),
        };
        let (sign, digits) = text.strip_prefix('-').map_or(("", &text[..]), |digits| ("-", digits));
        let sign = match (sign, spec.sign) {
            ("", Some(sign)) => sign.to_string(),
            (sign, _) => sign.to_string(),
        };
        let mut zeros = match spec.zeros {
            true => spec.width.saturating_sub(sign.len() + digits.len()),
            false => 0,
        };
        if matches!(kind, 'd' | 'i' | 'u' | 'x' | 'X' | 'o') {
            zeros = zeros.max(spec.precision.unwrap_or(0).saturating_sub(digits.len()));
        }
        self.budget.pay_usize(zeros)?;
        Ok(format!("{sign}{}{digits}", "0".repeat(zeros)))
    }
}

/// Flags, width, precision and kind behind a percent sign; whether it is aligned to the left; and what follows.
fn directive<'f>(format: &'f str, next: &mut impl FnMut() -> Outcome<Value>) -> Outcome<(Spec, bool, &'f str)> {
    let mut spec = Spec::default();
    let mut left = false;
    let mut rest = format;
    loop {
        match rest.chars().next() {
            Some('-') => left = true,
            Some('+') => spec.sign = Some('+'),
            Some(' ') => spec.sign = spec.sign.or(Some(' ')),
            Some('#') => spec.alternate = true,
            Some('0') => spec.zeros = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    spec.zeros &= !left;
    let mut number = |rest: &mut &str| -> Outcome<usize> {
        if let Some(tail) = rest.strip_prefix('*') {
            *rest = tail;
            return Ok(usize::try_from(integer(&next()?)?.max(0)).unwrap_or(usize::MAX));
        }
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = &rest[..end];
        *rest = &rest[end..];
        Ok(if digits.is_empty() {
            0
        } else {
            digits.parse().unwrap_or(usize::MAX)
        })
    };
    spec.width = number(&mut rest)?;
    if let Some(tail) = rest.strip_prefix('.') {
        rest = tail;
        spec.precision = Some(number(&mut rest)?);
    }
    rest = rest.trim_start_matches(['l', 'h', 'L']);
    spec.kind = rest.chars().next();
    let rest = &rest[spec.kind.map_or(0, char::len_utf8)..];
    Ok((spec, left, rest))
}
