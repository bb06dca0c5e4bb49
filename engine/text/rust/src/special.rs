//! The special tokens that a model folder names outside tokenizer.json, merged by transformers' rules.

use crate::failure::{Failure, Outcome};
use crate::files::read_object;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::AddedToken;

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
    /// `bos_token` and the like, also a model's own `*_token`, in the order of the configuration.
    pub named: Vec<(String, AddedToken)>,
    /// Special tokens without a name.
    pub extra: Vec<AddedToken>,
    /// `added_tokens_decoder`: tokens by id.
    pub by_id: BTreeMap<u32, AddedToken>,
    /// The configuration's tokenizer_class without "Fast", or GPT2Tokenizer for a gpt2 checkpoint that names none.
    pub class: String,
}

impl SpecialTokens {
    /// Reads tokenizer_config.json and special_tokens_map.json; both may be absent.
    pub fn load(folder: &Path) -> Outcome<Self> {
        let mut config = read_object(folder, "tokenizer_config.json")?.unwrap_or_default();
        let mut tokens = SpecialTokens {
            class: tokenizer_class(folder, &config)?,
            ..Default::default()
        };
        if let Some(Value::Object(entries)) = config.get("added_tokens_decoder") {
            for (id, entry) in entries {
                let what = format!("added_tokens_decoder[{id}]");
                let id: u32 = id
                    .parse()
                    .map_err(|_| bad_entry(folder, &what, "a key that is a token id"))?;
                let token = added_token(entry, false).ok_or_else(|| bad_entry(folder, &what, "a token"))?;
                tokens.by_id.insert(id, token);
            }
        } else if let Some(map) = read_object(folder, "special_tokens_map.json")? {
            // Older folders: this file has the last word, unless the configuration lists its added tokens.
            config.extend(map);
        }
        tokens.take_named(folder, &config)?;
        tokens.take_extra(folder, &config)?;
        tokens.take_class_defaults(&config);
        Ok(tokens)
    }

    fn take_named(&mut self, folder: &Path, config: &Map<String, Value>) -> Outcome<()> {
        for (name, entry) in config {
            let standard = STANDARD_NAMES.contains(&name.as_str());
            if entry.is_null() || !(standard || (name.ends_with("_token") && entry.is_string())) {
                continue;
            }
            // Keys like add_bos_token are booleans and were skipped above.
            let token = added_token(entry, true).ok_or_else(|| bad_entry(folder, name, "a token"))?;
            // The entry in added_tokens_decoder knows how the token takes the white space around it.
            let token = self
                .by_id
                .values()
                .find(|known| known.content == token.content)
                .cloned()
                .unwrap_or(token);
            self.named.push((name.clone(), token));
        }
        Ok(())
    }

    fn take_extra(&mut self, folder: &Path, config: &Map<String, Value>) -> Outcome<()> {
        let filled = |name: &str| config.get(name).filter(|entry| !matches!(entry, Value::Null));
        let Some(entry) = filled("extra_special_tokens").or_else(|| filled("additional_special_tokens")) else {
            return Ok(());
        };
        let bad = || bad_entry(folder, "extra_special_tokens", "a list of tokens, or tokens by name");
        match entry {
            Value::Array(list) => {
                for item in list {
                    self.extra.push(added_token(item, true).ok_or_else(bad)?);
                }
            }
            Value::Object(by_name) => {
                for (name, item) in by_name {
                    self.named
                        .push((name.clone(), added_token(item, true).ok_or_else(bad)?));
                }
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// These classes of transformers have special tokens that old folders do not spell out. A name set to null has
    /// none.
    fn take_class_defaults(&mut self, config: &Map<String, Value>) {
        let defaults: &[(&str, &str)] = match self.class.as_str() {
            "GPT2Tokenizer" => &[
                ("bos_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("unk_token", "<|endoftext|>"),
            ],
            "LlamaTokenizer" => &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
            _ => &[],
        };
        for (name, content) in defaults {
            if !config.contains_key(*name) {
                self.named.push((name.to_string(), special(content)));
            }
        }
    }
}

fn special(content: &str) -> AddedToken {
    AddedToken::from(content, true).normalized(false)
}

fn tokenizer_class(folder: &Path, config: &Map<String, Value>) -> Outcome<String> {
    if let Some(class) = config.get("tokenizer_class").and_then(Value::as_str) {
        return Ok(class.strip_suffix("Fast").unwrap_or(class).to_string());
    }
    let model = read_object(folder, "config.json")?.unwrap_or_default();
    let gpt2 = model.get("model_type").and_then(Value::as_str) == Some("gpt2");
    Ok(if gpt2 { "GPT2Tokenizer" } else { "" }.to_string())
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
