//! Python's behaviour where chat templates rely on it and minijinja or its pycompat differ: string methods, json.dumps.

use minijinja::value::{from_args, Kwargs, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use std::fmt::Write;

/// Methods of strings and dictionaries; what is not here is pycompat's.
pub fn call_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if let Some(result) = string_method(text, method, args)? {
            return Ok(result);
        }
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
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
            list(if method == "split" { split(text, sep, limit) } else { rsplit(text, sep, limit) })
        }
        "splitlines" => {
            let (keep_ends, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep_ends = keep_ends.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
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
        _ => return Ok(None),
    }))
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
    let drop = |character: char| match chars {
        Some(chars) => chars.contains(character),
        None => is_space(character),
    };
    let text = if at_start { text.trim_start_matches(drop) } else { text };
    if at_end { text.trim_end_matches(drop) } else { text }
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
            let start = rest.char_indices().rev().find(|(_, c)| is_space(*c)).map_or(0, |(at, c)| at + c.len_utf8());
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

fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends_line = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends_line) {
        let width = if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
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

/// Python's json.dumps with the options that transformers gives the filter `tojson`.
pub struct JsonStyle {
    pub ensure_ascii: bool,
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

/// A value nested deeper than Python's own recursion allows is refused there too.
const JSON_DEPTH_MAX: usize = 200;

pub fn to_json(state: &State, value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(state, &mut out, value, style, 0)?;
    Ok(out)
}

fn write_json(state: &State, out: &mut String, value: &Value, style: &JsonStyle, depth: usize) -> Result<(), Error> {
    if depth > JSON_DEPTH_MAX {
        return Err(invalid(format!("tojson: nested deeper than {JSON_DEPTH_MAX}")));
    }
    // The budget of the render bounds the text, as it does for the engine's own filters.
    state.consume_fuel(1)?;
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default(), style.ensure_ascii),
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort_keys {
                keys.sort();
            }
            out.push('{');
            for (position, key) in keys.iter().enumerate() {
                if position > 0 {
                    out.push_str(&style.item_separator);
                }
                line(out, depth + 1);
                match key.kind() {
                    ValueKind::String => write_string(out, key.as_str().unwrap_or_default(), style.ensure_ascii),
                    ValueKind::None => out.push_str("\"null\""),
                    ValueKind::Bool => out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
                    ValueKind::Number => write!(out, "\"{}\"", number(key)).map_err(|_| invalid("tojson"))?,
                    kind => return Err(invalid(format!("tojson: a key cannot be of type {kind}"))),
                }
                out.push_str(&style.key_separator);
                write_json(state, out, &value.get_item(key)?, style, depth + 1)?;
            }
            if !keys.is_empty() {
                line(out, depth);
            }
            out.push('}');
        }
        ValueKind::Seq => {
            out.push('[');
            let mut empty = true;
            for item in value.try_iter()? {
                if !empty {
                    out.push_str(&style.item_separator);
                }
                empty = false;
                line(out, depth + 1);
                write_json(state, out, &item, style, depth + 1)?;
            }
            if !empty {
                line(out, depth);
            }
            out.push(']');
        }
        ValueKind::Undefined => return Err(invalid("tojson: the value is undefined")),
        kind => return Err(invalid(format!("tojson: a value of type {kind} is not JSON serializable"))),
    }
    Ok(())
}

/// Integers in full, floats as repr() writes them.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if float.is_nan() {
        return "NaN".to_string();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let magnitude = float.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes 1.5e-7 and 1e20, Python 1.5e-07 and 1e+20.
        let text = format!("{float:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = float.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

fn write_string(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            _ if character < ' ' || (ensure_ascii && character > '~') => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}
