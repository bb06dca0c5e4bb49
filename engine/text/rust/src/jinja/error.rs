//! What can go wrong in a template.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The template does not parse.
    Syntax,
    /// An operation failed while rendering.
    Render,
    /// The template called raise_exception(): the message is for the user.
    Raised,
    /// The budget is used up.
    OutOfFuel,
}

#[derive(Clone, Debug)]
pub struct Error {
    pub kind: ErrorKind,
    /// 0: not known yet.
    pub line: usize,
    pub message: String,
}

pub type Outcome<T> = Result<T, Error>;

impl Error {
    pub fn syntax(line: usize, message: impl Into<String>) -> Self {
        Error {
            kind: ErrorKind::Syntax,
            line,
            message: message.into(),
        }
    }

    pub fn raised(message: String) -> Self {
        Error {
            kind: ErrorKind::Raised,
            line: 0,
            message,
        }
    }

    pub fn out_of_fuel() -> Self {
        Error {
            kind: ErrorKind::OutOfFuel,
            line: 0,
            message: "out of fuel: more work or memory than a template may use".to_string(),
        }
    }
}

/// An operation that failed.
pub fn fault(message: impl Into<String>) -> Error {
    Error {
        kind: ErrorKind::Render,
        line: 0,
        message: message.into(),
    }
}

/// The beginning of a text that a message quotes; a template may make it as long as it likes.
pub fn brief(text: &str) -> &str {
    text.char_indices().nth(100).map_or(text, |(end, _)| &text[..end])
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.line) {
            (ErrorKind::Raised, _) => write!(out, "{}", self.message),
            (_, 0) => write!(out, "chat template: {}", self.message),
            (_, line) => write!(out, "chat template line {line}: {}", self.message),
        }
    }
}
