//! The filter `tojson` as transformers has it: Python's json.dumps with some of its options.

use crate::budget::Paid;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// A value nested deeper than Python's own recursion allows is refused there too.
const DEPTH_MAX: usize = 200;

pub fn tojson(state: &State, value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = indent.or(kwargs.get("indent")?).filter(|indent| !indent.is_none());
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_string),
        // At most what a terminal is wide; a template has no use for more.
        Some(number) => Some(" ".repeat(i64::try_from(number)?.clamp(0, 100) as usize)),
    };
    let separators: Option<Value> = kwargs
        .get::<Option<Value>>("separators")?
        .filter(|pair| !pair.is_none());
    let (item_separator, key_separator) = match separators {
        Some(pair) => (separator(&pair, 0)?, separator(&pair, 1)?),
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let style = Style {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item_separator,
        key_separator,
    };
    kwargs.assert_all_used()?;
    let mut writer = Writer {
        state,
        style,
        out: Paid::new(state, String::new()),
    };
    writer.write(value, 0)?;
    Ok(writer.out.into_inner())
}

fn separator(pair: &Value, index: usize) -> Result<String, Error> {
    let text = pair.get_item_by_index(index)?;
    text.as_str()
        .map(str::to_string)
        .ok_or_else(|| invalid("tojson: a separator is no string"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

struct Writer<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    style: Style,
    out: Paid<'s, 't, 'e, String>,
}

impl Writer<'_, '_, '_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(invalid(format!("tojson: nested deeper than {DEPTH_MAX}")));
        }
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.out.push("null"),
            ValueKind::Bool => self.out.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push(&number(value)),
            ValueKind::String => self.write_string(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.write_map(value, depth),
            // Slices and sums of lists are lists to Python, and iterables to the engine.
            ValueKind::Seq | ValueKind::Iterable => self.write_list(value, depth),
            ValueKind::Undefined => Err(invalid("tojson: the value is undefined")),
            kind => Err(invalid(format!(
                "tojson: a value of type {kind} is not JSON serializable"
            ))),
        }
    }

    fn write_list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push("[")?;
        let mut empty = true;
        for item in value.try_iter()? {
            self.start_item(empty, depth + 1)?;
            empty = false;
            self.write(&item, depth + 1)?;
        }
        self.end_items(empty, depth)?;
        self.out.push("]")
    }

    fn write_map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        // Before they are sorted: to compare lists could take the engine for ever.
        let is_key = |kind| {
            matches!(
                kind,
                ValueKind::String | ValueKind::None | ValueKind::Bool | ValueKind::Number
            )
        };
        if let Some(key) = keys.iter().find(|key| !is_key(key.kind())) {
            return Err(invalid(format!("tojson: a key cannot be of type {}", key.kind())));
        }
        if self.style.sort_keys {
            keys.sort();
        }
        self.out.push("{")?;
        for (position, key) in keys.iter().enumerate() {
            self.start_item(position == 0, depth + 1)?;
            match key.kind() {
                ValueKind::String => self.write_string(key.as_str().unwrap_or_default())?,
                ValueKind::None => self.out.push("\"null\"")?,
                ValueKind::Bool => self.out.push(if key.is_true() { "\"true\"" } else { "\"false\"" })?,
                _ => self.out.push(&format!("\"{}\"", number(key)))?,
            }
            self.out.push(&self.style.key_separator)?;
            self.write(&value.get_item(key)?, depth + 1)?;
        }
        self.end_items(keys.is_empty(), depth)?;
        self.out.push("}")
    }

    fn start_item(&mut self, first: bool, depth: usize) -> Result<(), Error> {
        if !first {
            self.out.push(&self.style.item_separator)?;
        }
        self.start_line(depth)
    }

    fn end_items(&mut self, empty: bool, depth: usize) -> Result<(), Error> {
        if empty {
            Ok(())
        } else {
            self.start_line(depth)
        }
    }

    fn start_line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.style.indent else {
            return Ok(());
        };
        self.out.push("\n")?;
        (0..depth).try_for_each(|_| self.out.push(indent))
    }

    fn write_string(&mut self, text: &str) -> Result<(), Error> {
        let ensure_ascii = self.style.ensure_ascii;
        let escaped = |c: char| c < ' ' || c == '"' || c == '\\' || (ensure_ascii && c > '~');
        self.out.push("\"")?;
        let mut rest = text;
        while let Some(at) = rest.find(escaped) {
            let (plain, tail) = rest.split_at(at);
            self.out.push(plain)?;
            let mut characters = tail.chars();
            if let Some(character) = characters.next() {
                self.write_escaped(character)?;
            }
            rest = characters.as_str();
        }
        self.out.push(rest)?;
        self.out.push("\"")
    }

    fn write_escaped(&mut self, character: char) -> Result<(), Error> {
        match character {
            '"' => self.out.push("\\\""),
            '\\' => self.out.push("\\\\"),
            '\n' => self.out.push("\\n"),
            '\r' => self.out.push("\\r"),
            '\t' => self.out.push("\\t"),
            '\u{8}' => self.out.push("\\b"),
            '\u{c}' => self.out.push("\\f"),
            _ => character
                .encode_utf16(&mut [0; 2])
                .iter()
                .try_for_each(|unit| self.out.push(&format!("\\u{unit:04x}"))),
        }
    }
}

/// Integers in full, floats as repr() writes them.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else {
        return value.to_string();
    };
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
        let (sign, digits) = exponent
            .strip_prefix('-')
            .map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = float.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}
