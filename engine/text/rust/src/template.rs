//! Chat templates: what transformers' apply_chat_template renders.

use crate::deep_stack::on_deep_stack;
use crate::failure::{Failure, Outcome};
use crate::files::{folder_path, read_named, read_object, read_text};
use crate::jinja::{Budget, Dict, Template, Value};
use crate::special::SpecialTokens;
use serde_json::Value as Json;
use std::path::Path;

/// One render's budget: work, and bytes in units of 64 (256 MB; twice that for a moment, while a text is copied). A chat
/// of 2,000 messages and 1 MB takes a tenth of it or less.
const RENDER_FUEL: u64 = 4_000_000;
const SOURCE_BYTES_MAX: usize = 256 << 10;

pub struct TextTemplate {
    template: Template,
    /// bos_token and the like, by name.
    variables: Vec<(String, String)>,
}

pub struct Message<'a> {
    pub role: &'a str,
    pub content: &'a str,
}

impl TextTemplate {
    /// Of the folder, or of `file` where it is not empty.
    pub fn load(folder: &[u8], file: &[u8]) -> Outcome<Self> {
        let (folder, file) = (&folder_path(folder), &folder_path(file));
        let (source, place) = if file.as_os_str().is_empty() {
            (template_source(folder)?, folder)
        } else {
            (read_named(file)?, file)
        };
        let special_tokens = SpecialTokens::load(folder)?;
        let bad = |why: String| Failure::invalid(format!("{}: {why}", place.display()));
        if source.len() > SOURCE_BYTES_MAX {
            let size = source.len();
            return Err(bad(format!(
                "chat template: {size} bytes; at most {SOURCE_BYTES_MAX} are allowed"
            )));
        }
        let parsed = on_deep_stack("the chat template", || Template::parse(&source))?;
        let variables = special_tokens
            .named
            .into_iter()
            .map(|(name, token)| (name, token.content))
            .collect();
        Ok(TextTemplate {
            template: parsed.map_err(|error| bad(error.to_string()))?,
            variables,
        })
    }

    /// `now_seconds` is what strftime_now() sees, since the epoch.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, now_seconds: i64) -> Outcome<String> {
        if messages.is_empty() {
            return Err(Failure::invalid("a chat needs at least one message"));
        }
        let rendered = on_deep_stack("the chat template", || {
            let budget = Budget::new(RENDER_FUEL);
            let mut variables: Vec<(String, Value)> = self
                .variables
                .iter()
                .map(|(name, value)| (name.clone(), Value::str(value)))
                .collect();
            let message = |message: &Message| {
                let pairs = [("role", message.role), ("content", message.content)];
                let pairs = pairs.map(|(name, text)| (Value::str(name), Value::str(text)));
                Ok(Value::Dict(Dict::from_pairs(&budget, pairs)?))
            };
            let messages = messages
                .iter()
                .map(message)
                .collect::<Result<_, crate::jinja::Error>>()?;
            // tools and documents are there, but None: templates ask `tools is none` as well as `tools is defined`.
            variables.extend([
                ("messages".to_string(), Value::list(messages)?),
                ("tools".to_string(), Value::None),
                ("documents".to_string(), Value::None),
                ("add_generation_prompt".to_string(), Value::Bool(add_generation_prompt)),
            ]);
            self.template.render(&budget, variables, now_seconds)
        })?;
        rendered.map_err(|error| Failure::invalid(error.to_string()))
    }
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
