//! The filter `tojson` as transformers has it: Python's json.dumps with some of its options.

use super::arguments::Values;
use super::error::{fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::{float_text, integer};
use super::value::{Dict, Value};
use std::sync::Arc;

struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: Arc<str>,
    key_separator: Arc<str>,
    sort_keys: bool,
}

impl Interpreter<'_> {
    pub fn tojson(&self, value: &Value, arguments: Values) -> Outcome<Value> {
        let parameters = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let mut bound = arguments.bind("tojson", &parameters, 0)?;
        let indent = match bound.take_some(1) {
            None => None,
            Some(Value::Str(text)) => Some(text.text.to_string()),
            // At most what a terminal is wide; a template has no use for more.
            Some(number) => Some(" ".repeat(integer(&number)?.clamp(0, 100) as usize)),
        };
        let (item_separator, key_separator) = match bound.take_some(2) {
            Some(pair) => {
                let pair =
                    <[Value; 2]>::try_from(pair.items(self.budget)?).map_err(|_| fault("two separators are needed"))?;
                let [Value::Str(item), Value::Str(key)] = pair else {
                    return Err(fault("tojson: a separator is no string"));
                };
                (item.text, key.text)
            }
            None => (Arc::from(if indent.is_some() { "," } else { ", " }), Arc::from(": ")),
        };
        let style = Style {
            ensure_ascii: bound.truth(0, false),
            sort_keys: bound.truth(3, false),
            indent,
            item_separator,
            key_separator,
        };
        let mut out = String::new();
        self.write_json(value, &style, 0, &mut out)?;
        Ok(Value::str(out))
    }

    fn write_json(&self, value: &Value, style: &Style, depth: usize, out: &mut String) -> Outcome<()> {
        self.budget.spend(1)?;
        match value {
            Value::None => self.budget.push(out, "null"),
            Value::Bool(value) => self.budget.push(out, if *value { "true" } else { "false" }),
            Value::Int(value) => self.budget.push(out, &value.to_string()),
            Value::Float(value) => self.budget.push(out, &json_float(*value)),
            Value::Str(text) => self.write_json_string(&text.text, style, out),
            Value::List(list) | Value::Tuple(list) => {
                self.budget.push(out, "[")?;
                for (place, item) in list.items.iter().enumerate() {
                    self.start_item(style, place == 0, depth + 1, out)?;
                    self.write_json(item, style, depth + 1, out)?;
                }
                self.end_items(style, list.items.is_empty(), depth, out)?;
                self.budget.push(out, "]")
            }
            Value::Dict(dict) => self.write_json_dict(dict, style, depth, out),
            _ => Err(fault(format!(
                "Object of type {} is not JSON serializable",
                value.type_name()
            ))),
        }
    }

    fn write_json_dict(&self, dict: &Dict, style: &Style, depth: usize, out: &mut String) -> Outcome<()> {
        let mut entries: Vec<(Value, Value)> = dict.entries.clone();
        self.budget.pay_items(2 * entries.len())?;
        if style.sort_keys {
            let keyed = entries
                .into_iter()
                .map(|(key, value)| Ok((key.clone(), Value::tuple(vec![key, value])?)));
            let sorted = super::compare::sort(self.budget, keyed.collect::<Outcome<_>>()?, false)?;
            entries = Vec::with_capacity(sorted.len());
            for (key, pair) in sorted {
                let value = pair.items(self.budget)?.pop().unwrap_or(Value::None);
                entries.push((key, value));
            }
        }
        self.budget.push(out, "{")?;
        for (place, (key, value)) in entries.iter().enumerate() {
            self.start_item(style, place == 0, depth + 1, out)?;
            match key {
                Value::Str(text) => self.write_json_string(&text.text, style, out)?,
                Value::None => self.budget.push(out, "\"null\"")?,
                Value::Bool(value) => self.budget.push(out, if *value { "\"true\"" } else { "\"false\"" })?,
                Value::Int(value) => self.budget.push(out, &format!("\"{value}\""))?,
                Value::Float(value) => self.budget.push(out, &format!("\"{}\"", json_float(*value)))?,
                _ => {
                    return Err(fault(format!(
                        "keys must be str, int, float, bool or None, not {}",
                        key.type_name()
                    )))
                }
            }
            self.budget.push(out, &style.key_separator)?;
            self.write_json(value, style, depth + 1, out)?;
        }
        self.end_items(style, entries.is_empty(), depth, out)?;
        self.budget.push(out, "}")
    }

    fn start_item(&self, style: &Style, first: bool, depth: usize, out: &mut String) -> Outcome<()> {
        if !first {
            self.budget.push(out, &style.item_separator)?;
        }
        self.start_line(style, depth, out)
    }

    fn end_items(&self, style: &Style, empty: bool, depth: usize, out: &mut String) -> Outcome<()> {
        if empty {
            Ok(())
        } else {
            self.start_line(style, depth, out)
        }
    }

    fn start_line(&self, style: &Style, depth: usize, out: &mut String) -> Outcome<()> {
        let Some(indent) = &style.indent else {
            return Ok(());
        };
        self.budget.push(out, "\n")?;
        (0..depth).try_for_each(|_| self.budget.push(out, indent))
    }

    fn write_json_string(&self, text: &str, style: &Style, out: &mut String) -> Outcome<()> {
        self.budget.pay_usize(text.len() + 2)?;
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
                _ if character < ' ' || (style.ensure_ascii && character > '~') => {
                    self.budget.pay(12)?;
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
        Ok(())
    }
}

fn json_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_string()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_string()
    } else {
        float_text(value)
    }
}
