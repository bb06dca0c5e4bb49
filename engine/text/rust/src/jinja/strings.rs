//! The methods of strings. What may be larger than the text is paid for before it is built.

use super::arguments::{Bound, Values};
use super::error::{fault, Outcome};
use super::interpreter::Interpreter;
use super::text::{
    all_of_case, capitalize, ends_line, is_decimal, is_digit, is_printable, is_space, is_title, rsplit, split,
    split_lines, strip, swap_case, title,
};
use super::value::{Text, Value};
use std::sync::Arc;

impl Interpreter<'_> {
    pub fn string_method(&mut self, text: &Text, name: &'static str, arguments: Values) -> Outcome<Value> {
        let is_markup = text.is_markup;
        let text: &str = &text.text;
        self.budget.pay_usize(text.len())?;
        let value = match name {
            "format" => Value::str(self.format(text, arguments)?),
            "strip" | "lstrip" | "rstrip" => {
                let chars = arguments.bind(name, &[""], 0)?.text(0)?;
                Value::str(strip(text, chars.as_deref(), name != "rstrip", name != "lstrip"))
            }
            "split" | "rsplit" => self.split_method(text, name, arguments)?,
            "splitlines" => {
                let keep_ends = arguments.bind(name, &["keepends"], 0)?.truth(0, false);
                self.pay_parts(text.matches(ends_line).count())?;
                strings(split_lines(text, keep_ends))?
            }
            "partition" | "rpartition" => {
                let separator = arguments.bind(name, &[""], 1)?.needed_text(0)?;
                partition(text, &separator, name == "partition")?
            }
            "removeprefix" => {
                let prefix = arguments.bind(name, &[""], 1)?.needed_text(0)?;
                Value::str(text.strip_prefix(&prefix[..]).unwrap_or(text))
            }
            "removesuffix" => {
                let suffix = arguments.bind(name, &[""], 1)?.needed_text(0)?;
                Value::str(text.strip_suffix(&suffix[..]).unwrap_or(text))
            }
            "replace" => {
                let mut bound = arguments.bind(name, &["", "", "count"], 2)?;
                let (old, new) = (bound.needed_text(0)?, bound.needed_text(1)?);
                let count = usize::try_from(bound.integer(2, -1)?).unwrap_or(usize::MAX);
                Value::str(self.replaced(text, &old, &new, count)?)
            }
            "join" => {
                let values = arguments
                    .bind(name, &[""], 1)?
                    .take_or(0, Value::None)
                    .items(self.budget)?;
                if let Some(other) = values.iter().find(|value| value.as_str().is_none()) {
                    let message = format!("sequence item: expected str instance, {} found", other.type_name());
                    return Err(fault(message));
                }
                Value::str(self.joined(&values, text)?)
            }
            "startswith" | "endswith" => {
                let mut bound = arguments.bind(name, &["", "", ""], 1)?;
                let wanted = bound.take_or(0, Value::None);
                let part = self.part(text, &mut bound)?.map_or("", |(part, _)| part);
                Value::Bool(self.has_affix(part, &wanted, name == "startswith")?)
            }
            "find" | "rfind" | "index" | "rindex" | "count" => self.find_method(text, name, arguments)?,
            "center" | "ljust" | "rjust" => {
                let mut bound = arguments.bind(name, &["", ""], 1)?;
                let (width, fill) = (bound.count(0, 0)?, bound.text(1)?.unwrap_or_else(|| Arc::from(" ")));
                Value::str(self.justified(text, name, width, &fill)?)
            }
            "zfill" => {
                let width = arguments.bind(name, &[""], 1)?.count(0, 0)?;
                let (sign, digits) = match text.chars().next() {
                    Some('+' | '-') => text.split_at(1),
                    _ => ("", text),
                };
                Value::str(sign.to_string() + &self.justified(digits, "rjust", width.saturating_sub(sign.len()), "0")?)
            }
            "expandtabs" => {
                let size = arguments.bind(name, &["tabsize"], 0)?.count(0, 8)?;
                Value::str(self.with_spaces(text, size)?)
            }
            "format_map" => {
                let Value::Dict(map) = arguments.bind(name, &[""], 1)?.take_or(0, Value::None) else {
                    return Err(fault("format_map takes a dictionary"));
                };
                let named = map
                    .entries
                    .iter()
                    .filter_map(|(key, value)| Some((Arc::from(key.as_str()?), value.clone())));
                let (positional, named) = (Vec::new(), named.collect());
                Value::str(self.format(text, Values { positional, named })?)
            }
            _ => {
                arguments.bind(name, &[], 0)?;
                plain_method(text, name)?
            }
        };
        Ok(match value {
            Value::Str(text) if is_markup => Value::markup(text.text),
            value => value,
        })
    }

    /// A slice of the text and a value for each part, and room to grow.
    fn pay_parts(&self, cuts: usize) -> Outcome<()> {
        self.budget.pay_items(cuts.saturating_mul(4))
    }

    fn split_method(&mut self, text: &str, name: &str, arguments: Values) -> Outcome<Value> {
        let mut bound = arguments.bind(name, &["sep", "maxsplit"], 0)?;
        let separator = bound.text(0)?;
        let limit = usize::try_from(bound.integer(1, -1)?).unwrap_or(usize::MAX);
        if separator.as_deref() == Some("") {
            return Err(fault("empty separator"));
        }
        let separator = separator.as_deref();
        let cuts = separator.map_or_else(
            || text.matches(is_space).count(),
            |separator| text.matches(separator).count(),
        );
        self.pay_parts(cuts.min(limit))?;
        strings(if name == "split" {
            split(text, separator, limit)
        } else {
            rsplit(text, separator, limit)
        })
    }

    pub fn replaced(&self, text: &str, old: &str, new: &str, count: usize) -> Outcome<String> {
        let found = text.matches(old).take(count).count();
        self.budget
            .pay_usize(text.len().saturating_add(found.saturating_mul(new.len())))?;
        Ok(text.replacen(old, new, count))
    }

    /// str() of each value, with the separator between them.
    pub fn joined(&self, values: &[Value], separator: &str) -> Outcome<String> {
        let mut out = String::new();
        for (place, value) in values.iter().enumerate() {
            self.budget.spend(1)?;
            if place > 0 {
                self.budget.push(&mut out, separator)?;
            }
            self.write_str(value, &mut out)?;
        }
        Ok(out)
    }

    pub fn justified(&self, text: &str, how: &str, width: usize, fill: &str) -> Outcome<String> {
        if fill.chars().count() != 1 {
            return Err(fault("The fill character must be exactly one character long"));
        }
        let length = text.chars().count();
        let missing = width.saturating_sub(length);
        self.budget.pay_usize(missing.saturating_mul(fill.len()))?;
        let left = match how {
            "ljust" => 0,
            "rjust" => missing,
            // Python's: the odd one goes to the left where the width is odd.
            _ => missing / 2 + (missing & width & 1),
        };
        Ok([&fill.repeat(left), text, &fill.repeat(missing - left)].concat())
    }

    fn with_spaces(&self, text: &str, size: usize) -> Outcome<String> {
        self.budget.pay_usize(text.matches('\t').count().saturating_mul(size))?;
        let (mut out, mut column) = (String::new(), 0);
        for character in text.chars() {
            match character {
                '\t' if size > 0 => {
                    let spaces = size - column % size;
                    out.push_str(&" ".repeat(spaces));
                    column += spaces;
                }
                '\t' => {}
                _ => {
                    out.push(character);
                    column = if matches!(character, '\n' | '\r') {
                        0
                    } else {
                        column + 1
                    };
                }
            }
        }
        Ok(out)
    }

    /// The part between the bounds in the second and third argument, and where it begins; None when they cross.
    fn part<'a>(&self, text: &'a str, bound: &mut Bound) -> Outcome<Option<(&'a str, usize)>> {
        let (start, stop) = (bound.take_some(1), bound.take_some(2));
        if start.is_none() && stop.is_none() {
            return Ok(Some((text, 0)));
        }
        let length = text.chars().count() as i128;
        let place = |value: Option<Value>, otherwise: i128| {
            let value = value.map_or(Ok(otherwise), |value| super::numbers::integer(&value))?;
            Ok((if value < 0 { value + length } else { value }).max(0))
        };
        let (start, stop) = (place(start, 0)?, place(stop, length)?.min(length));
        if start > stop {
            return Ok(None);
        }
        let byte = |place: i128| text.char_indices().nth(place as usize).map_or(text.len(), |(at, _)| at);
        Ok(Some((&text[byte(start)..byte(stop)], start as usize)))
    }

    fn has_affix(&self, text: &str, wanted: &Value, at_start: bool) -> Outcome<bool> {
        let one = |affix: &str| {
            if at_start {
                text.starts_with(affix)
            } else {
                text.ends_with(affix)
            }
        };
        match wanted {
            Value::Str(affix) => Ok(one(&affix.text)),
            Value::Tuple(list) if list.items.iter().all(|item| item.as_str().is_some()) => {
                self.budget.spend(list.items.len() as u64)?;
                Ok(list.items.iter().filter_map(Value::as_str).any(one))
            }
            _ => {
                wanted.check_defined()?;
                Err(fault("startswith and endswith take a str or a tuple of str"))
            }
        }
    }

    fn find_method(&self, text: &str, name: &str, arguments: Values) -> Outcome<Value> {
        let mut bound = arguments.bind(name, &["", "", ""], 1)?;
        let wanted = bound.needed_text(0)?;
        let part = self.part(text, &mut bound)?;
        if name == "count" {
            let count = part.map_or(0, |(part, _)| match wanted.is_empty() {
                true => part.chars().count() + 1,
                false => part.matches(&wanted[..]).count(),
            });
            return Ok(Value::Int(count as i128));
        }
        let place = part.and_then(|(part, start)| {
            let at = if name.starts_with('r') {
                part.rfind(&wanted[..])
            } else {
                part.find(&wanted[..])
            }?;
            Some(start + part[..at].chars().count())
        });
        match place {
            Some(place) => Ok(Value::Int(place as i128)),
            None if name.ends_with("index") => Err(fault("substring not found")),
            None => Ok(Value::Int(-1)),
        }
    }
}

pub fn strings(parts: Vec<&str>) -> Outcome<Value> {
    Value::list(parts.into_iter().map(Value::str).collect())
}

fn partition(text: &str, separator: &str, from_start: bool) -> Outcome<Value> {
    if separator.is_empty() {
        return Err(fault("empty separator"));
    }
    let cut = if from_start {
        text.split_once(separator)
    } else {
        text.rsplit_once(separator)
    };
    let parts = match (cut, from_start) {
        (Some((head, tail)), _) => [head, separator, tail],
        (None, true) => [text, "", ""],
        (None, false) => ["", "", text],
    };
    Value::tuple(parts.map(Value::str).to_vec())
}

/// Those without arguments.
fn plain_method(text: &str, name: &str) -> Outcome<Value> {
    let all = |fits: fn(char) -> bool| Value::Bool(!text.is_empty() && text.chars().all(fits));
    Ok(match name {
        "upper" => Value::str(text.to_uppercase()),
        "lower" => Value::str(text.to_lowercase()),
        "casefold" => Value::str(text.to_lowercase().replace('ß', "ss").replace('ς', "σ")),
        "title" => Value::str(title(text)),
        "capitalize" => Value::str(capitalize(text)),
        "swapcase" => Value::str(swap_case(text)),
        "isspace" => all(is_space),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(is_digit),
        "isnumeric" => all(char::is_numeric),
        "isascii" => Value::Bool(text.is_ascii()),
        "isprintable" => Value::Bool(text.chars().all(is_printable)),
        "islower" => Value::Bool(all_of_case(text, false)),
        "isupper" => Value::Bool(all_of_case(text, true)),
        "istitle" => Value::Bool(is_title(text)),
        "isidentifier" => Value::Bool(
            text.chars()
                .next()
                .is_some_and(|first| first.is_alphabetic() || first == '_')
                && text.chars().all(|c| c.is_alphanumeric() || c == '_'),
        ),
        _ => return Err(fault(format!("str has no method {name}"))),
    })
}
