//! The tokens and flags that a model folder's configuration gives its tokenizer, merged by transformers' rules.

use crate::failure::{Failure, Outcome};
use crate::files::read_object;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::AddedToken;

/// In the order in which transformers adds them.
const STANDARD_NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

#[derive(Default)]
pub struct SpecialTokens {
    /// `bos_token` and the like, then a model's own `*_token`.
    pub named: Vec<(String, AddedToken)>,
    /// Special tokens without a name.
    pub extra: Vec<AddedToken>,
    /// Added tokens by id: `added_tokens_decoder` of the configuration, else those of added_tokens.json.
    pub by_id: BTreeMap<u32, AddedToken>,
    /// No `added_tokens_decoder`: the added tokens of tokenizer.json count as configured, too.
    pub legacy: bool,
    /// What added_tokens.json says, whether it is followed or not.
    pub file: Vec<(String, u32)>,
    /// The configuration's tokenizer_class without "Fast", or what the model's type has where none is named.
    pub class: String,
    pub flags: Flags,
}

/// Switches of the configuration; those it doesn't name are None.
#[derive(Clone, Copy, Default)]
pub struct Flags {
    pub split_special_tokens: Option<bool>,
    pub add_prefix_space: Option<bool>,
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
}

impl SpecialTokens {
    /// Reads tokenizer_config.json, special_tokens_map.json and added_tokens.json; all may be absent.
    pub fn load(folder: &Path) -> Outcome<Self> {
        let mut config = read_object(folder, "tokenizer_config.json")?.unwrap_or_default();
        let flag = |name| flag(folder, &config, name);
        let mut tokens = SpecialTokens {
            class: tokenizer_class(folder, &config)?,
            flags: Flags {
                split_special_tokens: flag("split_special_tokens")?,
                add_prefix_space: flag("add_prefix_space")?,
                add_bos_token: flag("add_bos_token")?,
                add_eos_token: flag("add_eos_token")?,
            },
            file: added_tokens_file(folder)?,
            ..Default::default()
        };
        if !is_filled(config.get("extra_special_tokens")) {
            if let Some(extra) = config.remove("additional_special_tokens") {
                config.insert("extra_special_tokens".to_string(), extra);
            }
        }
        if let Some(Value::Object(entries)) = config.get("added_tokens_decoder") {
            for (id, entry) in entries {
                let what = format!("added_tokens_decoder[{id}]");
                let id: u32 = id
                    .parse()
                    .map_err(|_| bad_entry(folder, &what, "a key that is a token id"))?;
                let token = added_token(entry, false).ok_or_else(|| bad_entry(folder, &what, "a token"))?;
                tokens.by_id.insert(id, token);
            }
        } else {
            tokens.legacy = true;
            if let Some(map) = read_object(folder, "special_tokens_map.json")? {
                extend_config(&mut config, map);
            }
            let special = special_contents(&config);
            for (content, id) in &tokens.file {
                let is_special = special.contains(content);
                let token = AddedToken::from(content.as_str(), is_special).normalized(!is_special);
                tokens.by_id.insert(*id, token);
            }
        }
        tokens.take_named(folder, &config)?;
        tokens.take_extra(folder, &config)?;
        Ok(tokens)
    }

    fn take_named(&mut self, folder: &Path, config: &Map<String, Value>) -> Outcome<()> {
        // A name set to null has no token.
        let defaults = class_defaults(&self.class);
        for name in STANDARD_NAMES {
            match config.get(name) {
                Some(Value::Null) => {}
                Some(entry) => {
                    let token = added_token(entry, true).ok_or_else(|| bad_entry(folder, name, "a token"))?;
                    self.named.push((name.to_string(), token));
                }
                None => {
                    if let Some((_, content)) = defaults.iter().find(|(known, _)| *known == name) {
                        self.named.push((name.to_string(), special(content)));
                    }
                }
            }
        }
        for (name, entry) in config {
            // Keys like add_bos_token are booleans.
            let token = entry.is_string() || entry.get("__type").is_some();
            if token && name.ends_with("_token") && !STANDARD_NAMES.contains(&name.as_str()) {
                let token = added_token(entry, true).ok_or_else(|| bad_entry(folder, name, "a token"))?;
                self.named.push((name.clone(), token));
            }
        }
        Ok(())
    }

    fn take_extra(&mut self, folder: &Path, config: &Map<String, Value>) -> Outcome<()> {
        let entry = config
            .get("extra_special_tokens")
            .or_else(|| config.get("additional_special_tokens"));
        let bad = || bad_entry(folder, "extra_special_tokens", "a list of tokens, or tokens by name");
        match entry {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for item in list {
                    let named = item.get("__type").is_none();
                    self.extra.push(added_token(item, named).ok_or_else(bad)?);
                }
            }
            Some(Value::Object(by_name)) => {
                for (name, item) in by_name {
                    self.named
                        .push((name.clone(), added_token(item, true).ok_or_else(bad)?));
                }
            }
            Some(_) => return Err(bad()),
        }
        Ok(())
    }
}

/// What these classes of transformers have as special tokens where the configuration says nothing.
fn class_defaults(class: &str) -> &'static [(&'static str, &'static str)] {
    const END: &str = "<|endoftext|>";
    match class {
        "GPT2Tokenizer" => &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
        "Qwen2Tokenizer" => &[("eos_token", END), ("unk_token", END), ("pad_token", END)],
        "LlamaTokenizer" => &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
        _ => &[],
    }
}

/// Older folders: special_tokens_map.json has the last word, but for extra tokens, which it adds to.
fn extend_config(config: &mut Map<String, Value>, map: Map<String, Value>) {
    for (name, entry) in map {
        match (config.get_mut(&name), entry) {
            (Some(Value::Array(known)), Value::Array(more)) if name == "extra_special_tokens" => {
                for token in more {
                    if !known.contains(&token) {
                        known.push(token);
                    }
                }
            }
            (_, entry) => {
                config.insert(name, entry);
            }
        }
    }
}

/// The tokens of added_tokens.json are special where the configuration names them so.
fn special_contents(config: &Map<String, Value>) -> Vec<String> {
    let content = |entry: &Value| {
        let text = entry.as_str().or_else(|| entry.get("content").and_then(Value::as_str));
        text.map(str::to_string)
    };
    let named = STANDARD_NAMES.iter().filter_map(|name| config.get(*name));
    let extra = config.get("extra_special_tokens").and_then(Value::as_array);
    named.chain(extra.into_iter().flatten()).filter_map(content).collect()
}

/// added_tokens.json: ids by token.
fn added_tokens_file(folder: &Path) -> Outcome<Vec<(String, u32)>> {
    let entries = read_object(folder, "added_tokens.json")?.unwrap_or_default();
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    entries
        .into_iter()
        .map(|(content, value)| match id(&value) {
            Some(id) => Ok((content, id)),
            None => Err(Failure::invalid(format!(
                "{}: token {content:?} has {value} for an id",
                folder.join("added_tokens.json").display()
            ))),
        })
        .collect()
}

pub fn special(content: &str) -> AddedToken {
    AddedToken::from(content, true).normalized(false)
}

fn is_filled(entry: Option<&Value>) -> bool {
    match entry {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(by_name)) => !by_name.is_empty(),
        Some(_) => true,
    }
}

fn flag(folder: &Path, config: &Map<String, Value>, name: &str) -> Outcome<Option<bool>> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(bad_entry(folder, name, "true or false")),
    }
}

fn tokenizer_class(folder: &Path, config: &Map<String, Value>) -> Outcome<String> {
    if let Some(class) = config.get("tokenizer_class").and_then(Value::as_str) {
        return Ok(class.strip_suffix("Fast").unwrap_or(class).to_string());
    }
    let model = read_object(folder, "config.json")?.unwrap_or_default();
    let text = |name: &str| model.get(name).and_then(Value::as_str);
    let class = text("tokenizer_class").unwrap_or(match text("model_type") {
        Some("gpt2") => "GPT2Tokenizer",
        Some("qwen2" | "qwen3" | "qwen3_moe") => "Qwen2Tokenizer",
        _ => "",
    });
    Ok(class.strip_suffix("Fast").unwrap_or(class).to_string())
}

/// A token as a plain string, or as an object with its content and how it matches.
fn added_token(entry: &Value, named: bool) -> Option<AddedToken> {
    if let Value::String(content) = entry {
        return Some(special(content));
    }
    let flag = |name: &str, otherwise: bool| entry.get(name).and_then(Value::as_bool).unwrap_or(otherwise);
    let is_special = named || flag("special", false);
    Some(
        AddedToken::from(entry.get("content")?.as_str()?, is_special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !is_special)),
    )
}

fn bad_entry(folder: &Path, name: &str, expected: &str) -> Failure {
    Failure::invalid(format!(
        "{}: {name} of the tokenizer's configuration: expected {expected}",
        folder.display()
    ))
}
