//! The bytes each token adds to a text, as grammars see them.

use crate::failure::{Failure, Outcome};
use crate::stream::{byte_token, push_byte_level, DecoderKind};
use crate::tokenizer::TextTokenizer;
use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// Ids beyond this are no vocabulary's; a table of tokens this long takes some 100 MB.
const VOCABULARY_MAX: usize = 4 << 20;

pub struct Vocabulary {
    trie: TokTrie,
    pub size: usize,
}

impl Vocabulary {
    /// Its last id, `size`, is no token of the tokenizer: it stands for the end of the text.
    pub fn new(tokenizer: &TextTokenizer) -> Outcome<Self> {
        if tokenizer.decoder_kind == DecoderKind::WholeText {
            let why = "grammars need a tokenizer whose tokens have a text of their own, and this one's depends on what follows";
            return Err(Failure::invalid(why));
        }
        let ids = tokenizer.inner.get_vocab(true);
        let size = ids.values().max().map_or(0, |&id| id as usize + 1);
        if size > VOCABULARY_MAX {
            return Err(Failure::invalid(format!(
                "token ids up to {size}; grammars take at most {VOCABULARY_MAX}"
            )));
        }
        let mut words = vec![Vec::new(); size + 1];
        for &id in ids.values() {
            words[id as usize] = token_bytes(tokenizer, id as i32)?;
        }
        let info = TokRxInfo::new(words.len() as u32, size as TokenId);
        Ok(Vocabulary {
            trie: TokTrie::from(&info, &words),
            size,
        })
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(text)
    }

    /// The model chooses how to spell what the grammar forces: any tokens that make up the text are allowed.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

fn token_bytes(tokenizer: &TextTokenizer, id: i32) -> Outcome<Vec<u8>> {
    let Some(token) = tokenizer.token_string(id) else {
        return Ok(Vec::new());
    };
    let added = tokenizer.inner.get_added_vocabulary();
    if added.is_special_token(&token) {
        // No text has this byte, so that only a grammar which names the token gets it.
        return Ok([&[TokTrie::SPECIAL_TOKEN_MARKER], token.as_bytes()].concat());
    }
    if tokenizer.decoder_kind == DecoderKind::ByteLevel {
        let mut bytes = Vec::new();
        push_byte_level(&token, &mut bytes);
        return Ok(bytes);
    }
    if tokenizer.decoder_kind == DecoderKind::ByteFallback {
        if let Some(byte) = byte_token(&token) {
            return Ok(vec![byte]);
        }
    }
    // Behind plain text, since the first token of a text may lose a space.
    let before: Vec<i32> = tokenizer.anchor.into_iter().collect();
    let known = tokenizer.decode_known(&before, false)?;
    let text = tokenizer.decode_known(&[before, vec![id]].concat(), false)?;
    Ok(text.strip_prefix(&known).unwrap_or_default().as_bytes().to_vec())
}
