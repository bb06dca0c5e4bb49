//! Filters on texts, and numbers read from texts.

use super::arguments::Values;
use super::budget::Budget;
use super::error::{brief, fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::{float_of, integer};
use super::text::{capitalize, decimal_value, is_space, split_lines, strip};
use super::value::{Text, Value};

impl Interpreter<'_> {
    pub fn text_filter(&mut self, name: &str, value: &Value, arguments: Values) -> Outcome<Value> {
        match name {
            "trim" => {
                let chars = arguments.bind(name, &["chars"], 0)?.text(0)?;
                let Text { text, is_markup } = self.soft_text(value)?;
                let text = strip(&text, chars.as_deref(), true, true);
                Ok(if is_markup {
                    Value::markup(text)
                } else {
                    Value::str(text)
                })
            }
            "upper" | "lower" | "capitalize" | "title" => {
                arguments.bind(name, &[], 0)?;
                let text = self.text_of(value)?;
                Ok(Value::str(match name {
                    "upper" => text.to_uppercase(),
                    "lower" => text.to_lowercase(),
                    "capitalize" => capitalize(&text),
                    _ => title(&text),
                }))
            }
            "replace" => {
                let mut bound = arguments.bind(name, &["old", "new", "count"], 2)?;
                let text = self.text_of(value)?;
                let old = self.text_of(&bound.take_or(0, Value::None))?;
                let new = self.text_of(&bound.take_or(1, Value::None))?;
                let count = bound.take_some(2).map_or(Ok(-1), |count| integer(&count))?;
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                Ok(Value::str(self.replaced(&text, &old, &new, count)?))
            }
            "e" | "escape" => {
                arguments.bind(name, &[], 0)?;
                Ok(Value::markup(escape_text(self.budget, &self.soft_text(value)?)?))
            }
            "forceescape" => {
                arguments.bind(name, &[], 0)?;
                let (text, is_markup) = (self.text_of(value)?, false);
                Ok(Value::markup(escape_text(self.budget, &Text { text, is_markup })?))
            }
            "format" => {
                let text = self.text_of(value)?;
                let Values { positional, named } = arguments;
                if !positional.is_empty() && !named.is_empty() {
                    return Err(fault("can't handle positional and keyword arguments at the same time"));
                }
                let values = match named.is_empty() {
                    true => Value::tuple(positional)?,
                    false => {
                        let pairs = named.into_iter().map(|(name, value)| (Value::str(name), value));
                        Value::Dict(super::value::Dict::from_pairs(self.budget, pairs)?)
                    }
                };
                Ok(Value::str(self.percent(&text, &values)?))
            }
            "center" => {
                let width = arguments.bind(name, &["width"], 0)?.count(0, 80)?;
                Ok(Value::str(self.justified(
                    &self.text_of(value)?,
                    "center",
                    width,
                    " ",
                )?))
            }
            "indent" => self.indent(value, arguments),
            "truncate" => self.truncate(value, arguments),
            "wordcount" => {
                arguments.bind(name, &[], 0)?;
                let text = self.text_of(value)?;
                let words = text
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .filter(|word| !word.is_empty());
                Ok(Value::Int(words.count() as i128))
            }
            "striptags" => {
                arguments.bind(name, &[], 0)?;
                Ok(Value::str(strip_tags(&self.text_of(value)?)))
            }
            "urlencode" => self.urlencode(value, arguments),
            "filesizeformat" => {
                let binary = arguments.bind(name, &["binary"], 0)?.truth(0, false);
                let bytes = float_from(value).ok_or_else(|| fault("filesizeformat takes a number"))?;
                Ok(Value::str(file_size(bytes, binary)))
            }
            "xmlattr" => self.xmlattr(value, arguments),
            _ => Err(fault(format!("no filter named {:?}", brief(name)))),
        }
    }

    fn indent(&self, value: &Value, arguments: Values) -> Outcome<Value> {
        let mut bound = arguments.bind("indent", &["width", "first", "blank"], 0)?;
        let indention = match bound.take(0) {
            Some(Value::Str(text)) => text.text.to_string(),
            width => {
                let width = width.map_or(Ok(4), |width| integer(&width))?;
                let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
                self.budget.pay_usize(width)?;
                " ".repeat(width)
            }
        };
        let Value::Str(text) = value else {
            value.check_defined()?;
            return Err(fault("indent takes a text"));
        };
        let text = format!("{}\n", text.text);
        let lines = split_lines(&text, false);
        self.budget.pay_usize(
            text.len()
                .saturating_add(lines.len().saturating_mul(indention.len() + 32)),
        )?;
        let (first, blank) = (bound.truth(1, false), bound.truth(2, false));
        let mut out = if first { indention.clone() } else { String::new() };
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                out.push('\n');
                if blank || !line.is_empty() {
                    out.push_str(&indention);
                }
            }
            out.push_str(line);
        }
        Ok(Value::str(out))
    }

    fn truncate(&self, value: &Value, arguments: Values) -> Outcome<Value> {
        let mut bound = arguments.bind("truncate", &["length", "killwords", "end", "leeway"], 0)?;
        let (length, kills_words) = (bound.integer(0, 255)?, bound.truth(1, false));
        let end = bound.text(2)?.unwrap_or_else(|| "...".into());
        let leeway = bound.take_some(3).map_or(Ok(5), |leeway| integer(&leeway))?;
        let end_length = end.chars().count() as i128;
        if length < end_length || leeway < 0 {
            return Err(fault(format!("expected length >= {end_length} and leeway >= 0")));
        }
        let has = value
            .length(self.budget)?
            .ok_or_else(|| fault("truncate takes a text"))?;
        if has as i128 <= length.saturating_add(leeway) {
            return Ok(value.clone());
        }
        let Value::Str(text) = value else {
            return Err(fault("truncate takes a text"));
        };
        let kept: String = text.text.chars().take((length - end_length) as usize).collect();
        let kept = match kills_words {
            true => &kept[..],
            false => kept.rsplit_once(' ').map_or(&kept[..], |(head, _)| head),
        };
        self.budget.pay_usize(kept.len() + end.len())?;
        Ok(Value::str(format!("{kept}{end}")))
    }

    fn urlencode(&self, value: &Value, arguments: Values) -> Outcome<Value> {
        arguments.bind("urlencode", &[], 0)?;
        let pairs = match value {
            Value::Dict(dict) => dict.entries.clone(),
            _ if value.as_str().is_none() && value.is_iterable() => {
                let pair = |item: Value| -> Outcome<(Value, Value)> {
                    let [key, value] =
                        <[Value; 2]>::try_from(item.items(self.budget)?).map_err(|_| fault("urlencode takes pairs"))?;
                    Ok((key, value))
                };
                value
                    .items(self.budget)?
                    .into_iter()
                    .map(pair)
                    .collect::<Outcome<_>>()?
            }
            _ => return Ok(Value::str(self.quoted(value, false)?)),
        };
        let mut out = String::new();
        for (key, value) in pairs {
            let (key, value) = (self.quoted(&key, true)?, self.quoted(&value, true)?);
            let and = if out.is_empty() { "" } else { "&" };
            self.budget.push(&mut out, &format!("{and}{key}={value}"))?;
        }
        Ok(Value::str(out))
    }

    fn quoted(&self, value: &Value, for_query: bool) -> Outcome<String> {
        let text = self.text_of(value)?;
        self.budget.pay_usize(text.len().saturating_mul(3))?;
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
                b'/' if !for_query => out.push('/'),
                b' ' if for_query => out.push('+'),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        Ok(out)
    }

    fn xmlattr(&self, value: &Value, arguments: Values) -> Outcome<Value> {
        let spaced = arguments.bind("xmlattr", &["autospace"], 0)?.truth(0, true);
        let Value::Dict(dict) = value else {
            return Err(fault("xmlattr takes a dictionary"));
        };
        let mut out = String::new();
        for (key, value) in &dict.entries {
            if matches!(value, Value::None | Value::Undefined(_)) {
                continue;
            }
            let Value::Str(key) = key else {
                return Err(fault("xmlattr takes names that are strings"));
            };
            let value = self.soft_text(value)?;
            if key
                .text
                .contains([' ', '\t', '\n', '\r', '\x0b', '\x0c', '/', '>', '='])
            {
                return Err(fault("Invalid character in attribute name"));
            }
            let space = if out.is_empty() && !spaced { "" } else { " " };
            let (key, value) = (escape_text(self.budget, key)?, escape_text(self.budget, &value)?);
            self.budget.push(&mut out, &format!("{space}{key}=\"{value}\""))?;
        }
        Ok(Value::str(out))
    }
}

/// For HTML; what is escaped already stays as it is.
pub fn escape_text(budget: &Budget, text: &Text) -> Outcome<String> {
    budget.pay_usize(text.text.len())?;
    if text.is_markup {
        return Ok(text.text.to_string());
    }
    let special = text.text.matches(['&', '<', '>', '"', '\'']).count();
    budget.pay_usize(special.saturating_mul(5))?;
    let mut out = String::with_capacity(text.text.len());
    for character in text.text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    Ok(out)
}

/// Words begin behind white space, hyphens and opening brackets.
fn title(text: &str) -> String {
    let is_break = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_break(c) != is_break(first)).unwrap_or(rest.len());
        out.extend(first.to_uppercase());
        out.push_str(&rest[first.len_utf8()..end].to_lowercase());
        rest = &rest[end..];
    }
    out
}

/// Without comments and tags, and with single spaces.
fn strip_tags(text: &str) -> String {
    let without = |text: &str, open: &str, close: &str| {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(start) = rest.find(open) {
            let Some(length) = rest[start..].find(close) else { break };
            out.push_str(&rest[..start]);
            rest = &rest[start + length + close.len()..];
        }
        out + rest
    };
    let text = without(&without(text, "<!--", "-->"), "<", ">");
    let words: Vec<&str> = super::text::split(&text, None, usize::MAX);
    let text = words.join(" ");
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    entities
        .iter()
        .fold(text, |text, (entity, plain)| text.replace(entity, plain))
}

fn file_size(bytes: f64, binary: bool) -> String {
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return "1 Byte".to_string();
    }
    if bytes < base {
        return format!("{} Bytes", bytes.trunc());
    }
    let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let fits = |place: &usize| bytes < base.powi(*place as i32 + 2);
    let place = (0..prefixes.len()).find(fits).unwrap_or(prefixes.len() - 1);
    let value = base * bytes / base.powi(place as i32 + 2);
    let unit = if binary {
        format!("{}iB", prefixes[place].to_uppercase())
    } else {
        format!("{}B", prefixes[place])
    };
    format!("{value:.1} {unit}")
}

/// int(value, base), or by way of a float; None where neither reads it.
pub fn int_from(value: &Value, base: i128) -> Outcome<Option<Value>> {
    if let Value::Str(text) = value {
        let base = u32::try_from(base)
            .ok()
            .filter(|base| *base == 0 || (2..=36).contains(base));
        let base = base.ok_or_else(|| fault("int() base must be >= 2 and <= 36, or 0"))?;
        if let Some(number) = parse_int(&text.text, base) {
            return Ok(Some(Value::Int(number)));
        }
    } else if let Ok(number) = integer(value) {
        return Ok(Some(Value::Int(number)));
    }
    match float_from(value) {
        Some(number) if number.abs() < 1e38 => Ok(Some(Value::Int(number as i128))),
        Some(number) if number.is_finite() => Err(fault("an integer has more than 127 bits")),
        Some(number) if number.is_infinite() && matches!(value, Value::Float(_)) => {
            Err(fault("cannot convert float infinity to integer"))
        }
        _ => Ok(None),
    }
}

/// Digits of any script as ASCII's, without the underscores between them.
fn plain_digits(text: &str) -> Option<String> {
    let text = strip(text, None, true, true);
    let plain: String = text
        .chars()
        .map(|c| {
            decimal_value(c)
                .and_then(|digit| char::from_digit(digit, 10))
                .unwrap_or(c)
        })
        .collect();
    let bytes = plain.as_bytes();
    let alone = |at: usize| {
        at > 0 && bytes[at - 1].is_ascii_alphanumeric() && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric)
    };
    let fits = (0..bytes.len()).all(|at| bytes[at] != b'_' || alone(at));
    fits.then(|| plain.replace('_', ""))
}

fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = plain_digits(text)?.to_lowercase();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find(|(prefix, _)| digits.starts_with(prefix));
    let (digits, base) = match prefixed {
        Some((prefix, known)) if base == 0 || base == known => (&digits[prefix.len()..], known),
        _ if base == 0 => (digits, 10),
        _ => (digits, base),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from_str_radix(digits, base).ok()?;
    Some(if negative { -number } else { number })
}

/// float(value), or None.
pub fn float_from(value: &Value) -> Option<f64> {
    let Value::Str(text) = value else {
        return float_of(value);
    };
    let text = plain_digits(&text.text)?;
    let unsigned = text.trim_start_matches(['+', '-']).to_lowercase();
    let named = matches!(unsigned.as_str(), "inf" | "infinity" | "nan");
    let numeric = unsigned
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-'));
    if !named && !numeric {
        return None;
    }
    text.parse().ok()
}
