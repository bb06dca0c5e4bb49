//! Python's behaviour where chat templates rely on it and minijinja or its pycompat differ: methods of strings, and
//! what prints and joins values.

use crate::budget::{pay, printed, Paid};
use minijinja::value::{from_args, Kwargs, Tuple, ValueKind};
use minijinja::{escape_formatter, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;
use std::borrow::Cow;
use std::collections::HashSet;
use std::mem::size_of;

/// Methods of strings and dictionaries; what is not here is pycompat's.
pub fn call_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    // The engine charges for the text and the result; count() and startswith() walk lists.
    for list in args
        .iter()
        .chain([value])
        .filter(|list| matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable))
    {
        state.consume_fuel(list.len().unwrap_or_default() as u64)?;
    }
    if let Some(text) = value.as_str() {
        if let Some(result) = string_method(state, text, method, args)? {
            return Ok(result);
        }
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

/// What may be larger than the text, or than the result, is paid for before it is built.
fn string_method(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, method != "rstrip", method != "lstrip"))
        }
        "split" | "rsplit" => {
            let (sep, maxsplit, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let sep = sep.or(kwargs.get("sep")?);
            let maxsplit = maxsplit.or(kwargs.get("maxsplit")?).unwrap_or(-1);
            kwargs.assert_all_used()?;
            if sep == Some("") {
                return Err(invalid("split: empty separator"));
            }
            let limit = usize::try_from(maxsplit).unwrap_or(usize::MAX);
            let cuts = sep.map_or_else(|| text.matches(is_space).count(), |sep| text.matches(sep).count());
            pay_parts(state, cuts.min(limit))?;
            list(if method == "split" {
                split(text, sep, limit)
            } else {
                rsplit(text, sep, limit)
            })
        }
        "splitlines" => {
            let (keep_ends, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep_ends = keep_ends.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            pay_parts(state, text.matches(ends_line).count())?;
            list(split_lines(text, keep_ends))
        }
        "partition" | "rpartition" => {
            let (sep,): (&str,) = from_args(args)?;
            if sep.is_empty() {
                return Err(invalid("partition: empty separator"));
            }
            let parts = match (method == "partition", text.split_once(sep), text.rsplit_once(sep)) {
                (true, Some((head, tail)), _) | (false, _, Some((head, tail))) => [head, sep, tail],
                (true, None, _) => [text, "", ""],
                (false, _, None) => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            let count = usize::try_from(count.unwrap_or(-1)).unwrap_or(usize::MAX);
            pay(
                state,
                (text.matches(old).take(count).count() as u64).saturating_mul(new.len() as u64),
            )?;
            Value::from(text.replacen(old, new, count))
        }
        "join" => {
            let (values,): (&Value,) = from_args(args)?;
            Value::from(join(state, values, text)?)
        }
        "format" => {
            pay_format(state, text, args)?;
            return Ok(None);
        }
        _ => return Ok(None),
    }))
}

/// A slice of the text and a value for each part, and room to grow.
fn pay_parts(state: &State, cuts: usize) -> Result<(), Error> {
    pay(
        state,
        (cuts as u64).saturating_mul(2 * (size_of::<&str>() + size_of::<Value>()) as u64),
    )
}

/// The most that str.format can give: in each field the longest argument, and the numbers there as widths.
fn pay_format(state: &State, text: &str, args: &[Value]) -> Result<(), Error> {
    let mut longest = 0;
    for value in args {
        let length = value
            .as_str()
            .map_or_else(|| printed(state, value).map(|text| text.len()), |text| Ok(text.len()))?;
        longest = longest.max(length);
    }
    let mut bytes = 0u64;
    for field in text.split('{').skip(1) {
        let field = field.rsplit_once('}').map_or("", |(field, _)| field);
        let numbers = field
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| !digits.is_empty());
        let widths = numbers.map(|digits| digits.parse().unwrap_or(u64::MAX));
        bytes = widths.fold(bytes.saturating_add(longest as u64), u64::saturating_add);
    }
    pay(state, bytes)
}

/// What str.join and the filter `join` give.
pub fn join(state: &State, values: &Value, separator: &str) -> Result<String, Error> {
    let mut text = Paid::new(state, String::new());
    for (position, value) in values.try_iter()?.enumerate() {
        state.consume_fuel(1)?;
        if position > 0 {
            text.push(separator)?;
        }
        text.print(&value)?;
    }
    Ok(text.into_inner())
}

pub fn escape(state: &State, value: &Value) -> Result<String, Error> {
    let text = value
        .as_str()
        .map_or_else(|| printed(state, value).map(Cow::from), |text| Ok(Cow::from(text)))?;
    let mut escaped = Paid::new(state, String::new());
    let mut rest = &text[..];
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        escaped.push(&rest[..at])?;
        escaped.push(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&#34;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    escaped.push(rest)?;
    Ok(escaped.into_inner())
}

/// What {{ value }} writes: a list may print far more than it holds.
pub fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => Paid::new(state, out).print(value),
        _ => escape_formatter(out, state, value),
    }
}

fn list(parts: Vec<&str>) -> Value {
    parts.into_iter().map(Value::from).collect()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// str.isspace: Unicode's white space and the four information separators.
pub fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

pub fn strip<'a>(text: &'a str, chars: Option<&str>, at_start: bool, at_end: bool) -> &'a str {
    let chars: Option<HashSet<char>> = chars.map(|chars| chars.chars().collect());
    let drop = |character: char| {
        chars
            .as_ref()
            .map_or_else(|| is_space(character), |chars| chars.contains(&character))
    };
    let text = if at_start { text.trim_start_matches(drop) } else { text };
    if at_end {
        text.trim_end_matches(drop)
    } else {
        text
    }
}

fn split<'a>(text: &'a str, sep: Option<&str>, limit: usize) -> Vec<&'a str> {
    if let Some(sep) = sep {
        return text.splitn(limit.saturating_add(1), sep).collect();
    }
    let mut parts = Vec::new();
    let mut rest = strip(text, None, true, false);
    while !rest.is_empty() && parts.len() < limit {
        let end = rest.find(is_space).unwrap_or(rest.len());
        parts.push(&rest[..end]);
        rest = strip(&rest[end..], None, true, false);
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

fn rsplit<'a>(text: &'a str, sep: Option<&str>, limit: usize) -> Vec<&'a str> {
    let mut parts: Vec<&str> = Vec::new();
    if let Some(sep) = sep {
        parts.extend(text.rsplitn(limit.saturating_add(1), sep));
    } else {
        let mut rest = strip(text, None, false, true);
        while !rest.is_empty() && parts.len() < limit {
            let start = rest
                .char_indices()
                .rev()
                .find(|(_, c)| is_space(*c))
                .map_or(0, |(at, c)| at + c.len_utf8());
            parts.push(&rest[start..]);
            rest = strip(&rest[..start], None, false, true);
        }
        if !rest.is_empty() {
            parts.push(rest);
        }
    }
    parts.reverse();
    parts
}

fn ends_line(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends_line) {
        let width = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(&rest[..if keep_ends { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            result.extend(character.to_lowercase());
        } else {
            result.extend(character.to_uppercase());
        }
        in_word = character.is_alphabetic();
    }
    result
}
