//! A model folder's tokenizer: the `tokenizers` crate over tokenizer.json, with transformers' rules for special tokens.

use crate::added::{add_tokens, added_tokens_warning};
use crate::failure::{contain, Failure, Outcome};
use crate::files::{folder_path, read_text};
use crate::legacy::{add_begin_and_end, from_vocab_and_merges};
use crate::prefix_space::follow_add_prefix_space;
use crate::special::SpecialTokens;
use crate::stream::{anchor, DecoderKind};
use std::path::Path;
use std::str::FromStr;
use tokenizers::Tokenizer;

/// The largest text of one call: the crate's offsets and ours stay far from their limits.
const TEXT_BYTES_MAX: usize = 1 << 30;

pub struct TextTokenizer {
    pub(crate) inner: Tokenizer,
    pub(crate) decoder_kind: DecoderKind,
    pub(crate) anchor: Option<i32>,
    vocab_size: i64,
    longest_token: i64,
    id_bound: i64,
    warnings: Vec<String>,
}

impl TextTokenizer {
    pub fn load(folder: &[u8]) -> Outcome<Self> {
        let folder = &folder_path(folder);
        let special_tokens = SpecialTokens::load(folder)?;
        let (mut inner, from_json) = read(folder, &special_tokens)?;
        let bad = |error: tokenizers::Error| Failure::invalid(format!("{}: {error}", folder.display()));
        // A saved tokenizer may carry the truncation and padding of its training; a prompt must come through whole.
        inner.with_truncation(None).map_err(bad)?;
        inner.with_padding(None);
        let prefix_warning = follow_add_prefix_space(&mut inner, &special_tokens).map_err(bad)?;
        add_tokens(&mut inner, &special_tokens).map_err(bad)?;
        if !from_json {
            add_begin_and_end(&mut inner, &special_tokens).map_err(|why| bad(why.into()))?;
        }
        inner.set_encode_special_tokens(special_tokens.flags.split_special_tokens.unwrap_or(false));
        let vocab = inner.get_vocab(true);
        if let Some((token, id)) = vocab.iter().find(|(_, &id)| id > i32::MAX as u32) {
            let why = format!(
                "{}: token {token:?} has id {id}; at most {} is allowed",
                folder.display(),
                i32::MAX
            );
            return Err(Failure::invalid(why));
        }
        let mut tokenizer = TextTokenizer {
            decoder_kind: DecoderKind::of(inner.get_decoder()),
            anchor: None,
            vocab_size: inner.get_vocab_size(true) as i64,
            longest_token: vocab.keys().map(String::len).max().unwrap_or(0) as i64,
            id_bound: vocab.values().max().map_or(0, |&id| i64::from(id) + 1),
            warnings: vec![prefix_warning, added_tokens_warning(&inner, &special_tokens)],
            inner,
        };
        tokenizer.warnings.retain(|warning| !warning.is_empty());
        tokenizer.anchor = anchor(&tokenizer);
        Ok(tokenizer)
    }

    pub fn encode(&self, text: &[u8], add_special_tokens: bool) -> Outcome<Vec<i32>> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Failure::invalid(format!(
                "text has {} bytes; at most {TEXT_BYTES_MAX} are allowed",
                text.len()
            )));
        }
        let text = std::str::from_utf8(text).map_err(|error| {
            Failure::invalid(format!("text is no valid UTF-8 from byte {} on", error.valid_up_to()))
        })?;
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| Failure::invalid(format!("text cannot be tokenized: {error}")))?;
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }

    pub fn decode(&self, ids: &[i32], skip_special_tokens: bool) -> Outcome<String> {
        for (position, &id) in ids.iter().enumerate() {
            if self.token_string(id).is_none() {
                return Err(Failure::invalid(format!(
                    "token id {id} at position {position} is not in the vocabulary"
                )));
            }
        }
        self.decode_known(ids, skip_special_tokens)
    }

    /// Decodes ids without looking for unknown ones, which have no text.
    pub(crate) fn decode_known(&self, ids: &[i32], skip_special_tokens: bool) -> Outcome<String> {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        if ids.is_empty() {
            return Ok(String::new());
        }
        self.inner
            .decode(&ids, skip_special_tokens)
            .map_err(|error| Failure::internal(format!("token ids cannot be decoded: {error}")))
    }

    /// The token as the decoder sees it.
    pub(crate) fn token_string(&self, id: i32) -> Option<String> {
        let id = u32::try_from(id).ok()?;
        let added = self.inner.get_added_vocabulary();
        added
            .simple_id_to_token(id)
            .or_else(|| tokenizers::Model::id_to_token(self.inner.get_model(), id))
    }

    pub fn vocab_size(&self) -> i64 {
        self.vocab_size
    }

    /// In bytes, as the vocabulary spells it, which is never shorter than its text.
    pub fn longest_token(&self) -> i64 {
        self.longest_token
    }

    /// One more than the largest id.
    pub fn id_bound(&self) -> i64 {
        self.id_bound
    }

    /// What the folder asks for and does not get.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

/// From tokenizer.json, else from older files; and whether it was the former.
fn read(folder: &Path, special_tokens: &SpecialTokens) -> Outcome<(Tokenizer, bool)> {
    if let Some(text) = read_text(folder, "tokenizer.json")? {
        let inner = parse(&text).map_err(|why| invalid_file(folder, "tokenizer.json", &why))?;
        return Ok((inner, true));
    }
    let Some(document) = from_vocab_and_merges(folder, special_tokens)? else {
        return Err(no_tokenizer(folder));
    };
    let inner = parse(&document.to_string()).map_err(|why| invalid_file(folder, "vocab.json with merges.txt", &why))?;
    Ok((inner, false))
}

/// The crate's parser panics on some malformed documents, a truncated one for instance.
fn parse(text: &str) -> Result<Tokenizer, String> {
    contain(|| Tokenizer::from_str(text).map_err(|error| error.to_string())).and_then(|result| result)
}

fn invalid_file(folder: &Path, name: &str, why: &str) -> Failure {
    Failure::invalid(format!("{}: {why}", folder.join(name).display()))
}

fn no_tokenizer(folder: &Path) -> Failure {
    const OTHERS: [&str; 6] = [
        "tokenizer.model",
        "tekken.json",
        "vocab.json",
        "merges.txt",
        "spiece.model",
        "tokenizer.tiktoken",
    ];
    let found: Vec<&str> = OTHERS.into_iter().filter(|name| folder.join(name).exists()).collect();
    let found = match found.as_slice() {
        [] => "there are no other tokenizer files".to_string(),
        names => {
            format!(
                "found {}, which cannot be read directly: save the model's fast tokenizer to get it",
                names.join(", ")
            )
        }
    };
    Failure::not_found(format!("{}: no tokenizer.json; {found}", folder.display()))
}
