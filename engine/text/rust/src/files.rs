//! Reading a model folder's text files.

use crate::failure::{Failure, Outcome};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest published tokenizer.json files have about 40 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// open(2)'s, on Linux.
const O_NONBLOCK: i32 = 0o4000;

/// A folder's path as C++ gives it: bytes, not always UTF-8.
pub fn folder_path(folder: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(folder))
}

/// The text of `folder`/`name`, or None when there is no such file.
pub fn read_text(folder: &Path, name: &str) -> Outcome<Option<String>> {
    read_regular(&folder.join(name))
}

/// The text of what is at `path`, which somebody named and which may be a pipe.
pub fn read_named(path: &Path) -> Outcome<String> {
    let why = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_string(),
        _ => error.to_string(),
    };
    let file = fs::File::open(path).map_err(|error| Failure::invalid(format!("{}: {}", path.display(), why(error))))?;
    text_of(file, path)
}

fn read_regular(path: &Path) -> Outcome<Option<String>> {
    let wrong = |error: std::io::Error| Failure::invalid(format!("{}: {error}", path.display()));
    // A pipe put where a file is expected must not hang the start.
    let file = match fs::File::options().read(true).custom_flags(O_NONBLOCK).open(path) {
        Ok(file) => file,
        // A link that leads nowhere is a file that somebody meant to be there.
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => return Ok(None),
        Err(error) => return Err(wrong(error)),
    };
    if !file.metadata().map_err(wrong)?.is_file() {
        return Err(Failure::invalid(format!("{}: not a regular file", path.display())));
    }
    text_of(file, path).map(Some)
}

fn text_of(file: fs::File, path: &Path) -> Outcome<String> {
    let wrong = |error: std::io::Error| Failure::invalid(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(wrong)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::invalid(format!(
            "{}: more than the {FILE_BYTES_MAX} bytes allowed",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        Failure::invalid(format!(
            "{}: no UTF-8 from byte {} on",
            path.display(),
            error.utf8_error().valid_up_to()
        ))
    })
}

/// The JSON object in `folder`/`name`, or None when there is no such file. Nesting is limited (to 128) by the parser.
pub fn read_object(folder: &Path, name: &str) -> Outcome<Option<serde_json::Map<String, Value>>> {
    let Some(text) = read_text(folder, name)? else {
        return Ok(None);
    };
    let path = folder.join(name);
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(Failure::invalid(format!("{}: expected a JSON object", path.display()))),
        Err(error) => Err(Failure::invalid(format!("{}: {error}", path.display()))),
    }
}
