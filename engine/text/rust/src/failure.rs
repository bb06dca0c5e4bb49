//! Errors as C++ gets them: cxx carries one string, so the status code goes in front of the message.

use std::cell::RefCell;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

/// The numbers are those of absl::StatusCode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidArgument = 3,
    NotFound = 5,
    Internal = 13,
}

#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    fn new(code: Code, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: shorten(&message.into()),
        }
    }
}

/// Messages may quote a model's files and requests; gRPC carries them in trailers of at most 8 KB, a byte as three
/// where it is no ASCII.
const MESSAGE_BYTES_MAX: usize = 2000;

pub fn shorten(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_string();
    }
    let end = (0..=MESSAGE_BYTES_MAX)
        .rev()
        .find(|&end| message.is_char_boundary(end))
        .unwrap_or(0);
    format!("{}...", &message[..end])
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.code as i32, self.message)
    }
}

pub type Outcome<T> = Result<T, Failure>;

/// Runs `body`; a panic in it (a bug in a library on hostile input) becomes an Internal error. `what` names the
/// operation.
pub fn guard<T>(what: &str, body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    contain(body).unwrap_or_else(|panic| Err(Failure::internal(format!("{what} panicked: {panic}"))))
}

/// Runs `body`; a panic in it comes back as its text and place.
pub fn contain<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    silence_panics();
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        let place = PANIC_PLACE.take();
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("{}{place}", text.unwrap_or("a value that is no text"))
    })
}

thread_local! {
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics are reported through Status, so the standard error stays clean; the hook only notes where they happen.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map_or(String::new(), |place| {
                let file = place.file().rsplit('/').take(3).collect::<Vec<_>>();
                format!(
                    " ({}:{})",
                    file.into_iter().rev().collect::<Vec<_>>().join("/"),
                    place.line()
                )
            });
            let _ = PANIC_PLACE.try_with(|note| note.replace(place));
        }));
    });
}
