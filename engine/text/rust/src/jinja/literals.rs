//! Numbers and strings as templates write them: Python's.

use super::lexer::Kind;

/// The number at the start of `text`, and its length. Behind a dot there are only integers.
pub fn number(text: &str, after_dot: bool) -> Result<(Kind, usize), String> {
    let bytes = text.as_bytes();
    if let Some(base) = match text.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => Some(16),
        Some("0o") => Some(8),
        Some("0b") => Some(2),
        _ => None,
    } {
        let length = digits(&bytes[2..], base, true);
        if length > 0 {
            let value = integer(&text[2..2 + length], base)?;
            return Ok((Kind::Int(value), 2 + length));
        }
    }
    let whole = digits(bytes, 10, false);
    if !after_dot {
        let fraction = match bytes.get(whole) {
            Some(b'.') => digits(&bytes[whole + 1..], 10, false),
            _ => 0,
        };
        let mut length = if fraction > 0 { whole + 1 + fraction } else { whole };
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(&bytes[(length + 1 + signed).min(bytes.len())..], 10, false);
            if exponent > 0 {
                length += 1 + signed + exponent;
            }
        }
        if length > whole {
            let value = text[..length].replace('_', "").parse();
            return Ok((Kind::Float(value.map_err(|_| "a number that is none")?), length));
        }
    }
    // A number that begins with 0 has only zeros.
    let length = if bytes[0] == b'0' {
        bytes.iter().take_while(|byte| **byte == b'0').count()
    } else {
        whole
    };
    Ok((Kind::Int(integer(&text[..length], 10)?), length))
}

/// How many bytes are digits, with single underscores between them.
fn digits(bytes: &[u8], base: u32, may_begin_with_underscore: bool) -> usize {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(|byte| char::from(*byte).is_digit(base));
    let mut length = 0;
    loop {
        let underscore = bytes.get(length) == Some(&b'_') && (length > 0 || may_begin_with_underscore);
        let next = length + usize::from(underscore);
        if !is_digit(bytes.get(next)) {
            return length;
        }
        length = next + 1;
    }
}

fn integer(text: &str, base: u32) -> Result<i128, String> {
    i128::from_str_radix(&text.replace('_', ""), base).map_err(|_| format!("the integer {text} is too large"))
}

/// The string at the start of `text`, and its length.
pub fn string(text: &str, quote: char) -> Result<(Kind, usize), String> {
    let mut characters = text.char_indices().skip(1);
    let mut value = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => escape(text, &mut characters, &mut value)?,
            _ if character == quote => return Ok((Kind::Str(value), at + 1)),
            _ => value.push(character),
        }
    }
    Err("a string has no end".to_string())
}

type Characters<'t> = std::iter::Skip<std::str::CharIndices<'t>>;

fn escape(text: &str, characters: &mut Characters, value: &mut String) -> Result<(), String> {
    let Some((at, character)) = characters.next() else {
        return Ok(());
    };
    let plain = match character {
        '\n' => return Ok(()),
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '\'' | '"' => character,
        'x' => code(text, at, 2, characters)?,
        'u' => code(text, at, 4, characters)?,
        'U' => code(text, at, 8, characters)?,
        'N' => return Err("escapes by name (\\N) are not supported".to_string()),
        '0'..='7' => {
            let is_octal = |byte: &u8| matches!(byte, b'0'..=b'7');
            let length = text.as_bytes()[at..]
                .iter()
                .take(3)
                .take_while(|byte| is_octal(byte))
                .count();
            for _ in 1..length {
                characters.next();
            }
            let code = u32::from_str_radix(&text[at..at + length], 8).unwrap_or_default();
            char::from_u32(code).unwrap_or_default()
        }
        _ => {
            value.push('\\');
            character
        }
    };
    value.push(plain);
    Ok(())
}

fn code(text: &str, at: usize, length: usize, characters: &mut Characters) -> Result<char, String> {
    let bad = || {
        format!(
            "the escape at {:?} is none",
            text[at - 1..].chars().take(10).collect::<String>()
        )
    };
    let digits = text.get(at + 1..at + 1 + length).ok_or_else(bad)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad());
    }
    for _ in 0..length {
        characters.next();
    }
    let code = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
    char::from_u32(code).ok_or_else(bad)
}
