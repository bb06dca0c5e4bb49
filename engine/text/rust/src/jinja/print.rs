//! str() and repr().

use super::error::Outcome;
use super::interpreter::Interpreter;
use super::numbers::float_text;
use super::text::is_printable;
use super::value::{Function, Text, Value};
use std::sync::Arc;

/// Namespaces may hold themselves.
const NESTING_MAX: usize = 600;

impl Interpreter<'_> {
    /// str(value), without a copy where it is one already.
    pub fn text_of(&self, value: &Value) -> Outcome<Arc<str>> {
        if let Value::Str(text) = value {
            return Ok(text.text.clone());
        }
        let mut out = String::new();
        self.write_str(value, &mut out)?;
        Ok(Arc::from(out))
    }

    /// As text_of, but what is escaped stays known as such.
    pub fn soft_text(&self, value: &Value) -> Outcome<Text> {
        if let Value::Str(text) = value {
            return Ok(text.clone());
        }
        let (text, is_markup) = (self.text_of(value)?, false);
        Ok(Text { text, is_markup })
    }

    pub fn write_str(&self, value: &Value, out: &mut String) -> Outcome<()> {
        match value {
            Value::Undefined(_) => Ok(()),
            Value::Str(text) => self.budget.push(out, &text.text),
            _ => self.write_repr(value, out, 0),
        }
    }

    pub fn repr_of(&self, value: &Value) -> Outcome<String> {
        let mut out = String::new();
        self.write_repr(value, &mut out, 0)?;
        Ok(out)
    }

    fn write_repr(&self, value: &Value, out: &mut String, depth: usize) -> Outcome<()> {
        if depth > NESTING_MAX {
            return Err(super::error::fault("a printed value nests too deep"));
        }
        self.budget.spend(1)?;
        let push = |out: &mut String, text: &str| self.budget.push(out, text);
        match value {
            Value::Undefined(_) => push(out, "Undefined"),
            Value::None => push(out, "None"),
            Value::Bool(true) => push(out, "True"),
            Value::Bool(false) => push(out, "False"),
            Value::Int(value) => push(out, &value.to_string()),
            Value::Float(value) => push(out, &float_text(*value)),
            Value::Str(text) if text.is_markup => {
                push(out, "Markup(")?;
                self.write_quoted(&text.text, out)?;
                push(out, ")")
            }
            Value::Str(text) => self.write_quoted(&text.text, out),
            Value::List(list) => self.write_items(&list.items, ("[", "]"), out, depth),
            Value::Tuple(list) if list.items.len() == 1 => self.write_items(&list.items, ("(", ",)"), out, depth),
            Value::Tuple(list) => self.write_items(&list.items, ("(", ")"), out, depth),
            Value::Dict(dict) => self.write_pairs(&dict.entries, out, depth),
            Value::View(..) => {
                let items = value.items(self.budget)?;
                push(out, value.type_name())?;
                self.write_items(&items, ("([", "])"), out, depth)
            }
            Value::Range(range) => {
                let step = if range.step == 1 {
                    String::new()
                } else {
                    format!(", {}", range.step)
                };
                push(out, &format!("range({}, {}{step})", range.start, range.stop))
            }
            Value::Namespace(place) => {
                push(out, "<Namespace ")?;
                let entries: Vec<(Value, Value)> = self.namespace(*place).entries.clone();
                self.budget.pay_items(2 * entries.len())?;
                self.write_pairs(&entries, out, depth)?;
                push(out, ">")
            }
            Value::Macro(place) => push(out, &format!("<Macro '{}'>", self.macro_name(*place))),
            Value::Loop(inner) => push(
                out,
                &format!("<LoopContext {}/{}>", inner.index.get() + 1, inner.items.items.len()),
            ),
            Value::Function(Function::Template) => push(out, "<TemplateReference None>"),
            // Python adds an address, which no prompt can rely on.
            _ => push(out, &format!("<{}>", value.type_name())),
        }
    }

    fn write_items(&self, items: &[Value], (open, close): (&str, &str), out: &mut String, depth: usize) -> Outcome<()> {
        self.budget.push(out, open)?;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.budget.push(out, ", ")?;
            }
            self.write_repr(item, out, depth + 1)?;
        }
        self.budget.push(out, close)
    }

    fn write_pairs(&self, pairs: &[(Value, Value)], out: &mut String, depth: usize) -> Outcome<()> {
        self.budget.push(out, "{")?;
        for (index, (key, value)) in pairs.iter().enumerate() {
            if index > 0 {
                self.budget.push(out, ", ")?;
            }
            self.write_repr(key, out, depth + 1)?;
            self.budget.push(out, ": ")?;
            self.write_repr(value, out, depth + 1)?;
        }
        self.budget.push(out, "}")
    }

    fn write_quoted(&self, text: &str, out: &mut String) -> Outcome<()> {
        self.budget.pay_usize(text.len() + 2)?;
        let quote = if text.contains('\'') && !text.contains('"') {
            '"'
        } else {
            '\''
        };
        out.push(quote);
        let mut rest = text;
        loop {
            // Most texts are plain for long stretches.
            let is_plain = |byte: &u8| (0x20..0x7f).contains(byte) && *byte != quote as u8 && *byte != b'\\';
            let plain = rest.bytes().take_while(is_plain).count();
            out.push_str(&rest[..plain]);
            let mut characters = rest[plain..].chars();
            let Some(character) = characters.next() else { break };
            rest = characters.as_str();
            match character {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                _ if character == quote => out.extend(['\\', quote]),
                _ if is_printable(character) => out.push(character),
                _ => {
                    self.budget.pay(10)?;
                    let code = u32::from(character);
                    out.push_str(&match code {
                        0..=0xff => format!("\\x{code:02x}"),
                        0x100..=0xffff => format!("\\u{code:04x}"),
                        _ => format!("\\U{code:08x}"),
                    });
                }
            }
        }
        out.push(quote);
        Ok(())
    }
}
