//! `add_prefix_space` of the configuration, for the classes of transformers that follow it.

use crate::special::SpecialTokens;
use serde_json::{json, Value};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// Makes the tokenizer put a space before a text, or not, as the configuration says. Returns a warning where the class
/// may follow the flag and this tokenizer cannot, else "". Classes that transformers takes whole from tokenizer.json
/// ignore the flag.
pub fn follow_add_prefix_space(inner: &mut Tokenizer, tokens: &SpecialTokens) -> tokenizers::Result<String> {
    let wanted = match (tokens.class.as_str(), tokens.flags.add_prefix_space) {
        ("GPT2Tokenizer" | "Qwen2Tokenizer", flag) => flag.unwrap_or(false),
        ("" | "PreTrainedTokenizer" | "TokenizersBackend", _) | (_, None) => return Ok(String::new()),
        (_, Some(flag)) => flag,
    };
    let mut pre_tokenizer = serde_json::to_value(inner.get_pre_tokenizer())?;
    let mut normalizer = serde_json::to_value(inner.get_normalizer())?;
    let mut holds = Vec::new();
    visit(&mut pre_tokenizer, "pretokenizers", &mut |step| {
        prefixes(step, &mut holds)
    });
    visit(&mut normalizer, "normalizers", &mut |step| prefixes(step, &mut holds));
    if holds.contains(&wanted) && !holds.contains(&!wanted) {
        return Ok(String::new());
    }
    match tokens.class.as_str() {
        "GPT2Tokenizer" | "Qwen2Tokenizer" => {
            visit(&mut pre_tokenizer, "pretokenizers", &mut |step| {
                if step["type"] == "ByteLevel" {
                    step["add_prefix_space"] = json!(wanted);
                }
                true
            });
            inner.with_pre_tokenizer(read::<PreTokenizerWrapper>(&pre_tokenizer)?);
            Ok(String::new())
        }
        "LlamaTokenizer" if !wanted => {
            let mut decoder = serde_json::to_value(inner.get_decoder())?;
            visit(&mut pre_tokenizer, "pretokenizers", &mut |step| {
                if step["type"] == "Metaspace" {
                    step["prepend_scheme"] = json!("never");
                }
                true
            });
            visit(&mut normalizer, "normalizers", &mut |step| step["type"] != "Prepend");
            visit(&mut decoder, "decoders", &mut |step| step["type"] != "Strip");
            inner.with_pre_tokenizer(read::<PreTokenizerWrapper>(&pre_tokenizer)?);
            inner.with_normalizer(read::<NormalizerWrapper>(&normalizer)?)?;
            inner.with_decoder(read::<DecoderWrapper>(&decoder)?);
            Ok(String::new())
        }
        class => Ok(format!(
            "add_prefix_space is {wanted} in tokenizer_config.json, and tokenizer.json, which is followed, does not do \
             so ({class})"
        )),
    }
}

/// From text, since the crate does not read all of its parts from a value.
fn read<T: serde::de::DeserializeOwned>(document: &Value) -> serde_json::Result<Option<T>> {
    serde_json::from_str(&document.to_string())
}

/// Notes whether the step puts a space before a text, where it is one that can.
fn prefixes(step: &Value, holds: &mut Vec<bool>) -> bool {
    match step["type"].as_str() {
        Some("ByteLevel") => holds.push(step["add_prefix_space"] == true),
        Some("Metaspace") => holds.push(step["prepend_scheme"] != "never"),
        Some("Prepend") => holds.push(true),
        _ => {}
    }
    true
}

/// Calls `keep` for each step, also those of a sequence; what it returns false for becomes null, or leaves its sequence.
fn visit(document: &mut Value, members: &str, keep: &mut impl FnMut(&mut Value) -> bool) {
    if let Some(Value::Array(steps)) = document.get_mut(members) {
        steps.iter_mut().for_each(|step| visit(step, members, keep));
        steps.retain(|step| !step.is_null());
    } else if document.is_object() && !keep(document) {
        *document = Value::Null;
    }
}
