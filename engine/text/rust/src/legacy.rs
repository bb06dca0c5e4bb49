//! Tokenizers from vocab.json and merges.txt: folders without tokenizer.json, for the classes that transformers builds
//! from these files as a byte-level BPE.

use crate::failure::Outcome;
use crate::files::{read_object, read_text};
use crate::special::SpecialTokens;
use serde_json::{json, Value};
use std::path::Path;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::Tokenizer;

/// How Qwen2Tokenizer cuts a text into words.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The document of tokenizer.json that the files stand for; None when they are not there, or the class has none.
pub fn from_vocab_and_merges(folder: &Path, tokens: &SpecialTokens) -> Outcome<Option<Value>> {
    let byte_level = |use_regex: bool| {
        let add_prefix_space = tokens.flags.add_prefix_space.unwrap_or(false);
        json!({
            "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex
        })
    };
    let (normalizer, pre_tokenizer) = match tokens.class.as_str() {
        "GPT2Tokenizer" => (Value::Null, byte_level(true)),
        "Qwen2Tokenizer" => {
            let words = json!({
                "type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false
            });
            let steps = json!({"type": "Sequence", "pretokenizers": [words, byte_level(false)]});
            (json!({"type": "NFC"}), steps)
        }
        _ => return Ok(None),
    };
    let (Some(vocab), Some(merges)) = (read_object(folder, "vocab.json")?, read_text(folder, "merges.txt")?) else {
        return Ok(None);
    };
    let merges: Vec<&str> = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
        .collect();
    Ok(Some(json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "continuing_subword_prefix": "", "end_of_word_suffix": "", "vocab": vocab, "merges": merges
        },
    })))
}

/// Without tokenizer.json, these flags say what stands around a text.
pub fn add_begin_and_end(inner: &mut Tokenizer, tokens: &SpecialTokens) -> Result<(), String> {
    let token = |wanted: Option<bool>, name: &str| {
        let named = tokens.named.iter().find(|(known, _)| known == name);
        named
            .filter(|_| wanted == Some(true))
            .and_then(|(_, token)| Some((token.content.clone(), inner.token_to_id(&token.content)?)))
    };
    let bos = token(tokens.flags.add_bos_token, "bos_token");
    let eos = token(tokens.flags.add_eos_token, "eos_token");
    let mut single: Vec<Value> = Vec::new();
    let piece = |(content, _): &(String, u32)| json!({"SpecialToken": {"id": content, "type_id": 0}});
    single.extend(bos.iter().map(piece));
    single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
    single.extend(eos.iter().map(piece));
    if single.len() == 1 {
        return Ok(());
    }
    let special: serde_json::Map<String, Value> = bos
        .iter()
        .chain(&eos)
        .map(|(content, id)| {
            (
                content.clone(),
                json!({"id": content, "ids": [id], "tokens": [content]}),
            )
        })
        .collect();
    let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
    let document = json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special});
    let template: TemplateProcessing = serde_json::from_value(document).map_err(|error| error.to_string())?;
    inner.with_post_processor(Some(template));
    Ok(())
}
