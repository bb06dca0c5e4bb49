//! Chat templates: minijinja set up to render what transformers' apply_chat_template renders.

use crate::budget::printed;
use crate::deep_stack::on_deep_stack;
use crate::failure::{shorten, Failure, Outcome};
use crate::files::{folder_path, read_object, read_text};
use crate::json::tojson;
use crate::python::{call_method, escape, is_space, join, strip, write_value};
use crate::special::SpecialTokens;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::Value as Json;
use std::ffi::CString;
use std::fmt;
use std::path::Path;

/// One render's budget: instructions, and bytes in units of 64 (about 256 MB at worst; budget.rs tells how). A chat of
/// 2,000 messages and 1 MB takes a tenth of it or less.
const RENDER_FUEL: u64 = 4_000_000;
const SOURCE_BYTES_MAX: usize = 256 << 10;
/// Of one tag, strings aside: bounds how deep an expression nests, for the stack and for the parser's quadratic
/// corners.
const TAG_BYTES_MAX: usize = 16 << 10;
const NAME: &str = "chat template";

pub struct TextTemplate {
    environment: Environment<'static>,
    /// bos_token and the like, by name.
    variables: Vec<(String, String)>,
}

pub struct Message<'a> {
    pub role: &'a str,
    pub content: &'a str,
}

impl TextTemplate {
    pub fn load(folder: &[u8]) -> Outcome<Self> {
        let folder = &folder_path(folder);
        let source = template_source(folder)?;
        let special_tokens = SpecialTokens::load(folder)?;
        let environment = on_deep_stack("the chat template", || compile(&source))?
            .map_err(|why| Failure::invalid(format!("{}: {why}", folder.display())))?;
        let variables = special_tokens
            .named
            .into_iter()
            .map(|(name, token)| (name, token.content))
            .collect();
        Ok(TextTemplate { environment, variables })
    }

    /// `now_seconds` is what strftime_now() sees, since the epoch.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, now_seconds: i64) -> Outcome<String> {
        if messages.is_empty() {
            return Err(Failure::invalid("a chat needs at least one message"));
        }
        let messages = messages
            .iter()
            .map(|message| Value::from_pairs([("role", message.role), ("content", message.content)]));
        let messages: Value = messages.collect();
        let strftime = move |format: &str| strftime(format, now_seconds);
        let mut context: Vec<(&str, Value)> = self
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), Value::from(value.as_str())))
            .collect();
        // tools and documents are there, but None: templates ask `tools is none` as well as `tools is defined`.
        context.extend([
            ("messages", messages),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("strftime_now", Value::from_function(strftime)),
        ]);
        on_deep_stack("the chat template", || {
            let template = self
                .environment
                .get_template(NAME)
                .map_err(|error| Failure::internal(describe(&error)))?;
            template
                .render(Value::from_pairs(context))
                .map_err(|error| match raised_text(&error) {
                    Some(text) => Failure::invalid(text),
                    None => Failure::invalid(describe(&error)),
                })
        })?
    }
}

fn compile(source: &str) -> Result<Environment<'static>, String> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(format!(
            "{NAME}: {} bytes; at most {SOURCE_BYTES_MAX} are allowed",
            source.len()
        ));
    }
    let mut environment = environment();
    environment
        .add_template_owned(NAME, prepare(source)?)
        .map_err(|error| describe(&error))?;
    Ok(environment)
}

/// chat_template.jinja, else chat_template in tokenizer_config.json: a string, or a list of them by name.
fn template_source(folder: &Path) -> Outcome<String> {
    if let Some(source) = read_text(folder, "chat_template.jinja")? {
        return Ok(source);
    }
    let config = read_object(folder, "tokenizer_config.json")?.unwrap_or_default();
    match config.get("chat_template") {
        Some(Json::String(source)) => Ok(source.clone()),
        Some(Json::Array(list)) => {
            let named = |item: &&Json| item.get("name").and_then(Json::as_str) == Some("default");
            let source = list
                .iter()
                .find(named)
                .and_then(|item| item.get("template"))
                .and_then(Json::as_str);
            source.map(str::to_string).ok_or_else(|| {
                Failure::not_found(format!("{}: no chat template is named \"default\"", folder.display()))
            })
        }
        None | Some(Json::Null) => Err(Failure::not_found(format!(
            "{}: no chat template, neither chat_template.jinja nor in tokenizer_config.json",
            folder.display()
        ))),
        Some(_) => Err(Failure::invalid(format!(
            "{}: chat_template in tokenizer_config.json is neither a string nor a list",
            folder.display()
        ))),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = environment.syntax().to_builder();
    environment.set_syntax(
        syntax
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("the default delimiters are valid"),
    );
    environment.set_debug(true);
    environment.set_fuel(Some(RENDER_FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(call_method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", |text: &str, chars: Option<&str>| {
        strip(text, chars, true, true).to_string()
    });
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("join", join_filter);
    environment.add_filter("string", printed);
    environment.set_formatter(write_value);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    // Strings are sequences to Python, and so are mappings to this test of jinja2.
    environment.add_test("sequence", |value: &Value| is_iterable(value));
    environment.add_test("iterable", |value: &Value| is_iterable(value));
    environment
}

fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Undefined
    )
}

fn join_filter(
    state: &mut State,
    values: &Value,
    separator: Option<&str>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let separator = separator.or(kwargs.get("d")?).unwrap_or_default();
    let attribute = attribute.or(kwargs.get("attribute")?);
    kwargs.assert_all_used()?;
    let Some(attribute) = attribute else {
        return join(state, values, separator);
    };
    let by_attribute = Kwargs::from_iter([("attribute", Value::from(attribute))]);
    let values = state.apply_filter("map", &[values.clone(), by_attribute.into()])?;
    join(state, &values, separator)
}

/// What jinja2 does before parsing, and the tag that transformers adds: its body renders as it is, in a scope of its
/// own. Refuses tags that would take the parser too deep.
fn prepare(source: &str) -> Result<String, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut result = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = ["{%", "{{", "{#"].iter().filter_map(|opener| rest.find(opener)).min() {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        if tag.starts_with("{#") {
            let end = tag.find("#}").map_or(tag.len(), |end| end + 2);
            result.push_str(&tag[..end]);
            rest = &tag[end..];
            continue;
        }
        let end = tag_end(tag).map_err(|size| {
            let line = 1 + result.matches('\n').count();
            format!(
                "{NAME} line {line}: a tag with {size} bytes besides its strings; at most {TAG_BYTES_MAX} are allowed"
            )
        })?;
        let inner = tag.get(2..end.max(4) - 2).unwrap_or_default();
        let name = inner.trim_matches(|c| c == '-' || c == '+' || is_space(c));
        match name {
            "generation" if tag.starts_with("{%") => result.push_str(&tag[..end].replace("generation", "with")),
            "endgeneration" if tag.starts_with("{%") => {
                result.push_str(&tag[..end].replace("endgeneration", "endwith"));
            }
            _ => result.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    Ok(result + rest)
}

/// Where the tag at the start of `text` ends: after the first %} or }} that is not in a string. An error, with the
/// size, when it has more code than allowed. Text that only looks like a tag, in a raw block, may give any place.
fn tag_end(text: &str) -> Result<usize, usize> {
    let bytes = text.as_bytes();
    let closer: &[u8] = if bytes[1] == b'%' { b"%}" } else { b"}}" };
    let (mut at, mut code, mut quote) = (2, 0, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, _) if bytes[at..].starts_with(closer) => break,
            (None, byte) => {
                code += 1;
                quote = Some(byte).filter(|byte| matches!(byte, b'\'' | b'"'));
            }
        }
        at += 1;
    }
    if code > TAG_BYTES_MAX {
        return Err(code);
    }
    Ok((0..=(at + 2).min(bytes.len()))
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0))
}

/// The error of raise_exception(), which is the request's fault and whose text the user gets as it is.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(state: &State, message: &Value) -> Result<Value, Error> {
    let message = shorten(&printed(state, message)?);
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn raised_text(error: &Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(raised) = error.downcast_ref::<Raised>() {
            return Some(raised.0.clone());
        }
        next = error.source();
    }
    None
}

fn describe(error: &Error) -> String {
    let place = error.line().map_or(String::new(), |line| format!(" line {line}"));
    let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
    format!("{NAME}{place}: {}{detail}", error.kind())
}

/// datetime.now().strftime(format), in the local time zone.
fn strftime(format: &str, now_seconds: i64) -> Result<String, Error> {
    let mut buffer = [0u8; 1024];
    if format.len() > buffer.len() {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "strftime_now: the format is too long",
        ));
    }
    let bad = |why: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {why}"));
    // The sentinel tells an empty result from one that does not fit.
    let c_format = CString::new(format!("{format}.")).map_err(|_| bad("the format has a NUL"))?;
    let seconds: libc::time_t = now_seconds;
    // SAFETY: localtime_r fills `fields` or returns null; strftime writes at most buffer.len() bytes, NUL included.
    let length = unsafe {
        let mut fields: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut fields).is_null() {
            return Err(bad("the time is out of range"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), c_format.as_ptr(), &fields)
    };
    let text = length.checked_sub(1).and_then(|length| buffer.get(..length));
    let text = text.ok_or_else(|| bad("the result is too long"))?;
    String::from_utf8(text.to_vec()).map_err(|_| bad("the result is no UTF-8"))
}
