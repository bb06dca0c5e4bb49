//! str.format() and the format specifications of its fields.

use super::arguments::Values;
use super::error::{brief, fault, Outcome};
use super::interpreter::Interpreter;
use super::numbers::{exponent_text, float_of, float_text};
use super::value::Value;

/// What a field asks for: `[[fill]align][sign][#][0][width][,][.precision][type]`
#[derive(Default)]
pub struct Spec {
    pub fill: Option<char>,
    pub align: Option<char>,
    pub sign: Option<char>,
    pub alternate: bool,
    pub zeros: bool,
    pub width: usize,
    pub group: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

impl Interpreter<'_> {
    pub fn format(&mut self, template: &str, values: Values) -> Outcome<String> {
        let mut out = String::new();
        let mut automatic = 0;
        self.format_into(template, &values, &mut automatic, 0, &mut out)?;
        Ok(out)
    }

    fn format_into(
        &mut self,
        template: &str,
        values: &Values,
        automatic: &mut usize,
        depth: usize,
        out: &mut String,
    ) -> Outcome<()> {
        if depth > 2 {
            return Err(fault("Max string recursion exceeded"));
        }
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            self.budget.push(out, &rest[..at])?;
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if rest.starts_with(brace) {
                self.budget.push(out, brace)?;
                rest = &rest[1..];
                continue;
            }
            if brace == "}" {
                return Err(fault("Single '}' encountered in format string"));
            }
            let end = field_end(rest).ok_or_else(|| fault("expected '}' before end of string"))?;
            self.format_field(&rest[..end], values, automatic, depth, out)?;
            rest = &rest[end + 1..];
        }
        self.budget.push(out, rest)
    }

    fn format_field(
        &mut self,
        field: &str,
        values: &Values,
        automatic: &mut usize,
        depth: usize,
        out: &mut String,
    ) -> Outcome<()> {
        let name_end = field.find(['!', ':']).unwrap_or(field.len());
        let (name, tail) = field.split_at(name_end);
        let (conversion, spec) = match tail.strip_prefix('!') {
            Some(tail) => {
                let conversion = tail.chars().next().ok_or_else(|| fault("a conversion is missing"))?;
                let tail = &tail[conversion.len_utf8()..];
                if !tail.is_empty() && !tail.starts_with(':') {
                    return Err(fault("expected ':' after conversion specifier"));
                }
                (Some(conversion), tail.strip_prefix(':').unwrap_or_default())
            }
            None => (None, tail.strip_prefix(':').unwrap_or_default()),
        };
        let mut value = self.field_value(name, values, automatic)?;
        match conversion {
            None => {}
            Some('s') => value = Value::str(self.text_of(&value)?),
            Some('r') => value = Value::str(self.repr_of(&value)?),
            Some(other) => return Err(fault(format!("Unknown conversion specifier {other}"))),
        }
        let mut spec_text = String::new();
        self.format_into(spec, values, automatic, depth + 1, &mut spec_text)?;
        let text = self.format_value(&value, &spec_text)?;
        self.budget.push(out, &text)
    }

    fn field_value(&self, name: &str, values: &Values, automatic: &mut usize) -> Outcome<Value> {
        let first_end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(first_end);
        let missing = || fault(format!("there is no argument for the field {:?}", brief(first)));
        let mut value = match first.parse::<usize>() {
            Ok(place) => values.positional.get(place).ok_or_else(missing)?.clone(),
            Err(_) if first.is_empty() => {
                *automatic += 1;
                values.positional.get(*automatic - 1).ok_or_else(missing)?.clone()
            }
            Err(_) => {
                let found = values.named.iter().find(|(known, _)| &known[..] == first);
                found.ok_or_else(missing)?.1.clone()
            }
        };
        while !path.is_empty() {
            if let Some(tail) = path.strip_prefix('.') {
                let end = tail.find(['.', '[']).unwrap_or(tail.len());
                value = self.attribute(&value, &tail[..end].into())?;
                path = &tail[end..];
            } else {
                let tail = path.strip_prefix('[').ok_or_else(missing)?;
                let end = tail.find(']').ok_or_else(|| fault("Missing ']' in format string"))?;
                let index = match tail[..end].parse() {
                    Ok(index) => Value::Int(index),
                    Err(_) => Value::str(&tail[..end]),
                };
                value = self.item(&value, &index)?;
                path = &tail[end + 1..];
            }
        }
        Ok(value)
    }

    fn format_value(&self, value: &Value, spec: &str) -> Outcome<String> {
        if spec.is_empty() {
            return Ok(self.text_of(value)?.to_string());
        }
        let spec = parse_spec(spec)?;
        match value {
            Value::Str(text) => {
                let is_numeric = spec.sign.is_some() || spec.group.is_some() || spec.alternate;
                if !matches!(spec.kind, None | Some('s')) || is_numeric || spec.align == Some('=') {
                    return Err(fault("Invalid format specifier for a string"));
                }
                let length = spec.precision.unwrap_or(usize::MAX);
                let text: String = text.text.chars().take(length).collect();
                self.padded(&text, &spec, '<')
            }
            Value::Int(_) | Value::Bool(_) | Value::Float(_) => self.format_number(value, &spec),
            _ => {
                value.check_defined()?;
                Err(fault(format!(
                    "unsupported format string passed to {}",
                    value.type_name()
                )))
            }
        }
    }

    fn format_number(&self, value: &Value, spec: &Spec) -> Outcome<String> {
        let kind = spec.kind;
        let text = match value {
            Value::Float(_) => self.float_digits(value, spec)?,
            _ => {
                let number = super::numbers::integer(value)?;
                let prefix = |prefix: &str| {
                    if spec.alternate {
                        prefix.to_string()
                    } else {
                        String::new()
                    }
                };
                let is_integer = !matches!(kind, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%'));
                if is_integer && spec.precision.is_some() {
                    return Err(fault("Precision not allowed in integer format specifier"));
                }
                let magnitude = number.unsigned_abs();
                let digits = match kind {
                    None | Some('d' | 'n') => magnitude.to_string(),
                    Some('x') => prefix("0x") + &format!("{magnitude:x}"),
                    Some('X') => prefix("0X") + &format!("{magnitude:X}"),
                    Some('o') => prefix("0o") + &format!("{magnitude:o}"),
                    Some('b') => prefix("0b") + &format!("{magnitude:b}"),
                    Some('c') => {
                        let character = u32::try_from(number).ok().and_then(char::from_u32);
                        character.ok_or_else(|| fault("%c arg not in range"))?.to_string()
                    }
                    _ => self.float_digits(value, spec)?.trim_start_matches('-').to_string(),
                };
                if number < 0 {
                    format!("-{digits}")
                } else {
                    digits
                }
            }
        };
        let (sign, digits) = text.strip_prefix('-').map_or(("", &text[..]), |digits| ("-", digits));
        let sign = match (sign, spec.sign) {
            ("", Some('+')) => "+",
            ("", Some(' ')) => " ",
            (sign, _) => sign,
        };
        if spec.align.unwrap_or(if spec.zeros { '=' } else { '>' }) != '=' {
            return self.padded(&format!("{sign}{}", grouped(digits, spec.group, 0)), spec, '>');
        }
        let width = spec.width.saturating_sub(sign.len());
        self.budget.pay_usize(width.saturating_mul(4))?;
        let fill = spec.fill.unwrap_or(if spec.zeros { '0' } else { ' ' });
        let digits = grouped(digits, spec.group, if fill == '0' { width } else { 0 });
        let missing = width.saturating_sub(digits.chars().count());
        Ok(format!("{sign}{}{digits}", fill.to_string().repeat(missing)))
    }

    fn float_digits(&self, value: &Value, spec: &Spec) -> Outcome<String> {
        let number = float_of(value).ok_or_else(|| fault("a number is needed"))?;
        float_digits(self, number, spec)
    }

    pub fn padded(&self, text: &str, spec: &Spec, align: char) -> Outcome<String> {
        let missing = spec.width.saturating_sub(text.chars().count());
        self.budget.pay_usize(missing.saturating_mul(4))?;
        let fill = spec.fill.unwrap_or(if spec.zeros { '0' } else { ' ' }).to_string();
        let left = match spec.align.unwrap_or(align) {
            '<' => 0,
            '^' => missing / 2,
            _ => missing,
        };
        Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
    }
}

/// A float as `f`, `e`, `g` or `%` writes it, or as str() does.
pub fn float_digits(interpreter: &Interpreter, number: f64, spec: &Spec) -> Outcome<String> {
    let precision = spec.precision.unwrap_or(6);
    interpreter.budget.pay_usize(precision.saturating_add(400))?;
    if precision > 1000 {
        return Err(fault("more digits than a template may ask for"));
    }
    let finite = |text: String| match number.is_finite() {
        true => text,
        false => float_text(number),
    };
    Ok(match spec.kind {
        Some('f' | 'F') => finite(format!("{number:.precision$}")),
        Some('e') => finite(exponent_text(&format!("{number:.precision$e}"))),
        Some('E') => finite(exponent_text(&format!("{number:.precision$e}"))).to_uppercase(),
        Some('%') => format!("{}%", finite(format!("{:.precision$}", number * 100.0))),
        Some('g' | 'n') => finite(general(number, precision.max(1), spec.alternate)),
        Some('G') => finite(general(number, precision.max(1), spec.alternate)).to_uppercase(),
        None if spec.precision.is_none() => float_text(number),
        // As `g`, but with a digit behind the point.
        None => {
            let text = finite(general(number, precision.max(1), false));
            if text.contains(['.', 'e', 'n']) {
                text
            } else {
                text + ".0"
            }
        }
        Some(kind) => {
            return Err(fault(format!(
                "Unknown format code '{kind}' for object of type 'float'"
            )))
        }
    })
}

/// C's %g.
fn general(number: f64, precision: usize, keeps_zeros: bool) -> String {
    let scientific = format!("{number:.*e}", precision - 1);
    let exponent: i32 = scientific
        .split_once('e')
        .and_then(|(_, digits)| digits.parse().ok())
        .unwrap_or(0);
    let trim = |text: &str| match text.contains('.') && !keeps_zeros {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if (-4..precision as i32).contains(&exponent) {
        let digits = (precision as i32 - 1 - exponent).max(0) as usize;
        return trim(&format!("{number:.digits$}"));
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    exponent_text(&format!("{}e{exponent}", trim(mantissa)))
}

/// With a separator between groups of three, and with zeros in front as far as `width` asks.
fn grouped(digits: &str, separator: Option<char>, width: usize) -> String {
    let Some(separator) = separator else {
        return digits.to_string();
    };
    let whole_end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(whole_end);
    let mut count = whole.len().max(1);
    while count + (count - 1) / 3 + rest.len() < width {
        count += 1;
    }
    let mut out = String::new();
    for (place, digit) in format!("{whole:0>count$}").chars().enumerate() {
        if place > 0 && (count - place) % 3 == 0 {
            out.push(separator);
        }
        out.push(digit);
    }
    out + rest
}

/// Where a field ends: at the brace that closes it, past the fields in its specification.
fn field_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn parse_spec(text: &str) -> Outcome<Spec> {
    let mut spec = Spec::default();
    let mut rest: Vec<char> = text.chars().collect();
    let is_align = |c: Option<&char>| c.is_some_and(|c| matches!(c, '<' | '>' | '^' | '='));
    if is_align(rest.get(1)) {
        (spec.fill, spec.align) = (Some(rest[0]), Some(rest[1]));
        rest.drain(..2);
    } else if is_align(rest.first()) {
        spec.align = Some(rest.remove(0));
    }
    let mut rest = rest.into_iter().peekable();
    spec.sign = rest.next_if(|c| matches!(c, '+' | '-' | ' '));
    spec.alternate = rest.next_if_eq(&'#').is_some();
    spec.zeros = rest.next_if_eq(&'0').is_some();
    let number = |rest: &mut std::iter::Peekable<std::vec::IntoIter<char>>| {
        let mut value: Option<usize> = None;
        while let Some(digit) = rest.next_if(char::is_ascii_digit).and_then(|c| c.to_digit(10)) {
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
        }
        value
    };
    spec.width = number(&mut rest).unwrap_or(0);
    spec.group = rest.next_if(|c| matches!(c, ',' | '_'));
    if rest.next_if_eq(&'.').is_some() {
        spec.precision = Some(number(&mut rest).ok_or_else(|| fault("Format specifier missing precision"))?);
    }
    spec.kind = rest.next();
    if rest.next().is_some() {
        return Err(fault(format!("Invalid format specifier {:?}", brief(text))));
    }
    Ok(spec)
}
