//! A template's text as tokens, with the white space around tags taken away as jinja2 does with trim_blocks and
//! lstrip_blocks.

use super::error::{Error, Outcome};
use super::literals::{number, string};
use super::text::is_space;

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Data(String),
    BlockBegin,
    BlockEnd,
    VariableBegin,
    VariableEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
}

/// Longer ones first.
const OPERATORS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",",
];

pub fn tokens(source: &str) -> Outcome<Vec<Token>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // As jinja2, which keeps no newline at the end of a template.
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer {
        source,
        at: 0,
        line: 1,
        line_starting: true,
        tokens: Vec::new(),
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
    /// The tag before took the newline behind it.
    line_starting: bool,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn run(&mut self) -> Outcome<()> {
        while let Some(start) = self.next_tag() {
            let opener = &self.source[start..start + 2];
            let sign = self.source[start + 2..]
                .chars()
                .next()
                .filter(|c| matches!(c, '-' | '+'));
            let body = start + 2 + sign.map_or(0, char::len_utf8);
            self.text_before(start, sign, opener != "{{");
            self.advance(body);
            match opener {
                "{#" => self.comment()?,
                "{%" => match self.raw_begin() {
                    Some(end) => self.raw(end)?,
                    None => self.tag(Kind::BlockBegin)?,
                },
                _ => self.tag(Kind::VariableBegin)?,
            }
        }
        self.push_data(&self.source[self.at..]);
        self.advance(self.source.len());
        self.push(Kind::End);
        Ok(())
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn advance(&mut self, to: usize) {
        self.line += self.source[self.at..to].matches('\n').count();
        self.at = to;
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn push_data(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Kind::Data(text.to_string()));
        }
    }

    fn error<T>(&self, message: impl Into<String>) -> Outcome<T> {
        Err(Error::syntax(self.line, message))
    }

    fn next_tag(&self) -> Option<usize> {
        let bytes = self.source.as_bytes();
        let opens = |&at: &usize| bytes[at] == b'{' && matches!(bytes.get(at + 1), Some(b'%' | b'{' | b'#'));
        (self.at..bytes.len()).find(opens)
    }

    /// The text up to a tag, without the white space that the tag takes.
    fn text_before(&mut self, end: usize, sign: Option<char>, strips_line: bool) {
        let mut text = &self.source[self.at..end];
        if sign == Some('-') {
            text = text.trim_end_matches(is_space);
        } else if sign != Some('+') && strips_line {
            let line = text.rfind('\n').map_or(0, |at| at + 1);
            if (line > 0 || self.line_starting) && text[line..].chars().all(is_space) {
                text = &text[..line];
            }
        }
        self.push_data(text);
    }

    /// Steps over the end of a tag at `at`, which its sign precedes, and over the white space that it takes.
    fn end_tag(&mut self, sign: Option<u8>, at: usize, takes_newline: bool) {
        let behind = &self.source[at + 2..];
        let taken = match sign {
            Some(b'-') => behind.len() - behind.trim_start_matches(is_space).len(),
            None if takes_newline && behind.starts_with('\n') => 1,
            _ => 0,
        };
        self.advance(at + 2 + taken);
        self.line_starting = self.source[..self.at].ends_with('\n');
    }

    fn comment(&mut self) -> Outcome<()> {
        // As jinja2, which takes the end of the template for the end here.
        if self.rest().is_empty() {
            return Ok(());
        }
        let Some(length) = self.rest().find("#}") else {
            return self.error("a comment has no end");
        };
        let end = self.at + length;
        let sign = self.source[self.at..end]
            .bytes()
            .last()
            .filter(|byte| matches!(byte, b'-' | b'+'));
        self.end_tag(sign, end, true);
        Ok(())
    }

    /// Where `{% raw %}` ends, if this is one.
    fn raw_begin(&self) -> Option<(Option<u8>, usize)> {
        let rest = self.rest().trim_start_matches(is_space).strip_prefix("raw")?;
        let rest = rest.trim_start_matches(is_space);
        let (sign, rest) = rest.strip_prefix('-').map_or((None, rest), |rest| (Some(b'-'), rest));
        rest.starts_with("%}").then_some((sign, self.source.len() - rest.len()))
    }

    fn raw(&mut self, (sign, end): (Option<u8>, usize)) -> Outcome<()> {
        self.end_tag(sign, end, false);
        let mut from = self.at;
        while let Some(found) = self.source[from..].find("{%") {
            let start = from + found;
            let begin_sign = self.source[start + 2..]
                .chars()
                .next()
                .filter(|c| matches!(c, '-' | '+'));
            let inner = &self.source[start + 2 + begin_sign.map_or(0, char::len_utf8)..];
            if let Some((sign, end)) = self.end_of_endraw(inner) {
                self.text_before(start, begin_sign, true);
                self.end_tag(sign, end, true);
                return Ok(());
            }
            from = start + 2;
        }
        if self.rest().is_empty() {
            return Ok(());
        }
        self.error("raw has no endraw")
    }

    fn end_of_endraw(&self, inner: &str) -> Option<(Option<u8>, usize)> {
        let rest = inner
            .trim_start_matches(is_space)
            .strip_prefix("endraw")?
            .trim_start_matches(is_space);
        let sign = rest.bytes().next().filter(|byte| matches!(byte, b'-' | b'+'));
        let rest = &rest[usize::from(sign.is_some())..];
        rest.starts_with("%}").then_some((sign, self.source.len() - rest.len()))
    }

    /// The tokens of a tag up to its end, which counts as one only outside of brackets.
    fn tag(&mut self, begin: Kind) -> Outcome<()> {
        let (end, closer) = match begin {
            Kind::BlockBegin => (Kind::BlockEnd, "%}"),
            _ => (Kind::VariableEnd, "}}"),
        };
        self.push(begin);
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            let spaces = self.rest().len() - self.rest().trim_start_matches(is_space).len();
            self.advance(self.at + spaces);
            let rest = self.rest();
            if rest.is_empty() {
                return self.error("the template ends inside a tag");
            }
            if open.is_empty() {
                let sign = rest
                    .bytes()
                    .next()
                    .filter(|&byte| byte == b'-' || (byte == b'+' && closer == "%}"));
                let sign = sign.filter(|_| rest[1..].starts_with(closer));
                if sign.is_some() || rest.starts_with(closer) {
                    self.push(end);
                    self.end_tag(sign, self.at + usize::from(sign.is_some()), closer == "%}");
                    return Ok(());
                }
            }
            self.token(&mut open)?;
        }
    }

    fn token(&mut self, open: &mut Vec<&'static str>) -> Outcome<()> {
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or_default();
        let after_dot = self.source[..self.at].ends_with('.');
        let (kind, length) = if first.is_ascii_digit() {
            number(rest, after_dot).map_err(|why| Error::syntax(self.line, why))?
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            (Kind::Name(rest[..length].to_string()), length)
        } else if matches!(first, '\'' | '"') {
            string(rest, first).map_err(|why| Error::syntax(self.line, why))?
        } else {
            let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) else {
                return self.error(format!("unexpected character {first:?}"));
            };
            self.balance(operator, open)?;
            (Kind::Op(operator), operator.len())
        };
        self.push(kind);
        self.advance(self.at + length);
        Ok(())
    }

    fn balance(&self, operator: &'static str, open: &mut Vec<&'static str>) -> Outcome<()> {
        let closed_by = |opener: &str| match opener {
            "(" => ")",
            "[" => "]",
            _ => "}",
        };
        match operator {
            "(" | "[" | "{" => open.push(operator),
            ")" | "]" | "}" => match open.pop() {
                None => return self.error(format!("unexpected {operator:?}")),
                Some(opener) if closed_by(opener) != operator => {
                    return self.error(format!("unexpected {operator:?}, expected {:?}", closed_by(opener)));
                }
                Some(_) => {}
            },
            _ => {}
        }
        Ok(())
    }
}
