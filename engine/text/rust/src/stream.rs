//! Decoding token by token. The text given out, put together, is exactly what decoding all tokens at once gives.

use crate::failure::Outcome;
use crate::tokenizer::TextTokenizer;
use serde_json::Value;
use tokenizers::DecoderWrapper;

/// How far the text of a token depends on the tokens around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderKind {
    /// Only on whether it is the first (Metaspace, WordPiece, Replace, ..., or no decoder).
    PerToken,
    /// Tokens are bytes; the text is their UTF-8, with U+FFFD for what is invalid.
    ByteLevel,
    /// A run of tokens like <0xE4> is one piece: its UTF-8, or U+FFFD for each byte if any of it is invalid.
    ByteFallback,
    /// On tokens that follow, in a way not analysed (CTC, BPEDecoder): all text waits for the end.
    WholeText,
}

impl DecoderKind {
    pub fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let Some(decoder) = decoder else {
            return DecoderKind::PerToken;
        };
        let Ok(document) = serde_json::to_value(decoder) else {
            return DecoderKind::WholeText;
        };
        let mut steps = Vec::new();
        flatten(&document, &mut steps);
        let mut kind = DecoderKind::PerToken;
        let mut fused = false;
        for step in steps {
            match step.get("type").and_then(Value::as_str).unwrap_or_default() {
                "Fuse" => fused = true,
                // One string that only loses characters at its start.
                "Strip" if step.get("stop").and_then(Value::as_u64) == Some(0) => {}
                "ByteLevel" if !fused && kind == DecoderKind::PerToken && steps_are_bytes_only(&document) => {
                    kind = DecoderKind::ByteLevel;
                }
                "ByteFallback" if !fused && kind == DecoderKind::PerToken => kind = DecoderKind::ByteFallback,
                "Replace" | "Metaspace" | "WordPiece" | "Strip" if !fused && kind != DecoderKind::ByteLevel => {}
                _ => return DecoderKind::WholeText,
            }
        }
        kind
    }
}

/// The decoder, or the members of a sequence, in order.
fn flatten<'a>(decoder: &'a Value, steps: &mut Vec<&'a Value>) {
    match decoder.get("decoders").and_then(Value::as_array) {
        Some(members) => members.iter().for_each(|member| flatten(member, steps)),
        None => steps.push(decoder),
    }
}

/// ByteLevel reads the tokens themselves only where nothing comes before it.
fn steps_are_bytes_only(document: &Value) -> bool {
    let mut steps = Vec::new();
    flatten(document, &mut steps);
    steps
        .iter()
        .all(|step| matches!(step.get("type").and_then(Value::as_str), Some("ByteLevel" | "Fuse")))
        && steps.first().and_then(|step| step.get("type")).and_then(Value::as_str) == Some("ByteLevel")
}

/// The state of one sequence. It borrows nothing: the tokenizer comes with each call.
pub struct Stream {
    skip_special_tokens: bool,
    /// ByteLevel: the start of an unfinished character, of which the first `prompt_bytes` are the prompt's.
    bytes: Vec<u8>,
    prompt_bytes: usize,
    /// Otherwise: tokens whose text is out (the decoder treats the first tokens of a text differently, so some stay as
    /// context), that text, and the tokens whose text is not certain yet.
    context: Vec<i32>,
    context_text: String,
    pending: Vec<i32>,
    /// How many of `pending` are the prompt's; alone they have no text.
    prompt_pending: usize,
}

impl Stream {
    pub fn new(tokenizer: &TextTokenizer, prompt_tail: &[i32], skip_special_tokens: bool) -> Outcome<Self> {
        let mut stream = Stream {
            skip_special_tokens,
            bytes: Vec::new(),
            prompt_bytes: 0,
            context: Vec::new(),
            context_text: String::new(),
            pending: Vec::new(),
            prompt_pending: 0,
        };
        let visible = |id: &i32| stream.visible_token(tokenizer, *id).is_some();
        let mut tail: Vec<i32> = prompt_tail.iter().copied().filter(visible).collect();
        match tokenizer.decoder_kind {
            DecoderKind::ByteLevel => {
                for &id in &tail {
                    stream.append(tokenizer, id)?;
                }
                stream.prompt_bytes = stream.bytes.len();
                return Ok(stream);
            }
            // The tail may begin, and end, inside a run of bytes, and would break the completion's. Of the prompt only
            // the bytes of its last, unfinished character count.
            DecoderKind::ByteFallback if !tail.is_empty() => {
                let unfinished = unfinished_bytes(tokenizer, &tail);
                stream.pending = tail.split_off(tail.len() - unfinished);
                stream.prompt_pending = unfinished;
                tail = tokenizer.anchor.into_iter().collect();
            }
            _ => {}
        }
        stream.context_text = tokenizer.decode_known(&tail, false)?;
        stream.context = tail;
        Ok(stream)
    }

    /// The text that is certain now. Ids outside the vocabulary have none: a model's head may have more rows than that.
    pub fn append(&mut self, tokenizer: &TextTokenizer, id: i32) -> Outcome<String> {
        let Some(token) = self.visible_token(tokenizer, id) else {
            return Ok(String::new());
        };
        match tokenizer.decoder_kind {
            DecoderKind::ByteLevel => {
                push_byte_level(&token, &mut self.bytes);
                return Ok(self.take_characters(false));
            }
            DecoderKind::WholeText => {
                self.pending.push(id);
                return Ok(String::new());
            }
            DecoderKind::ByteFallback if byte_token(&token).is_some() => {
                self.pending.push(id);
                return Ok(String::new());
            }
            DecoderKind::ByteFallback | DecoderKind::PerToken => self.pending.push(id),
        }
        self.take_pending(tokenizer)
    }

    /// What is left when no token follows.
    pub fn flush(&mut self, tokenizer: &TextTokenizer) -> Outcome<String> {
        match tokenizer.decoder_kind {
            DecoderKind::ByteLevel => Ok(self.take_characters(true)),
            _ if self.pending.len() == self.prompt_pending => Ok(String::new()),
            _ => self.take_pending(tokenizer),
        }
    }

    fn visible_token(&self, tokenizer: &TextTokenizer, id: i32) -> Option<String> {
        let token = tokenizer.token_string(id)?;
        (!self.skip_special_tokens || !tokenizer.inner.get_added_vocabulary().is_special_token(&token)).then_some(token)
    }

    /// Takes whole characters off `bytes`, at the end also an unfinished one, as String::from_utf8_lossy would.
    fn take_characters(&mut self, at_end: bool) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        let mut prompt_bytes = std::mem::take(&mut self.prompt_bytes);
        let mut text = String::new();
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let is_prefix = || std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            let unfinished = chunks.peek().is_none() && is_prefix();
            if unfinished && !at_end {
                self.bytes = invalid.to_vec();
                self.prompt_bytes = prompt_bytes.min(invalid.len());
            } else if !invalid.is_empty() && !(chunk.valid().is_empty() && invalid.len() <= prompt_bytes) {
                // What the prompt left broken is its own U+FFFD, not the completion's.
                text.push(char::REPLACEMENT_CHARACTER);
            }
            prompt_bytes = prompt_bytes.saturating_sub(chunk.valid().len() + invalid.len());
        }
        text
    }

    fn take_pending(&mut self, tokenizer: &TextTokenizer) -> Outcome<String> {
        let prompts = self.take_broken_prompt(tokenizer);
        let mut window = std::mem::take(&mut self.context);
        window.append(&mut self.pending);
        let text = tokenizer.decode_known(&window, false)?;
        // All of context_text for the decoders analysed above; what is common otherwise, so that nothing is cut
        // wrongly.
        let known = common_prefix(&self.context_text, &text);
        let delta = text[known..]
            .strip_prefix(&prompts)
            .unwrap_or(&text[known..])
            .to_string();
        // The shortest end of the window that gives any text keeps the next token from being treated as the first.
        let mut length = 1;
        loop {
            let start = window.len().saturating_sub(length);
            let tail_text = if start == 0 {
                text.clone()
            } else {
                tokenizer.decode_known(&window[start..], false)?
            };
            if start == 0 || !tail_text.is_empty() {
                self.context = window.split_off(start);
                self.context_text = tail_text;
                return Ok(delta);
            }
            length *= 2;
        }
    }

    /// The U+FFFDs that are the prompt's own: one for each of its bytes, when the run they begin is no valid UTF-8.
    fn take_broken_prompt(&mut self, tokenizer: &TextTokenizer) -> String {
        let prompts = std::mem::take(&mut self.prompt_pending);
        let byte_of = |id: &i32| tokenizer.token_string(*id).as_deref().and_then(byte_token);
        let broken = prompts > 0 && {
            let run: Vec<u8> = self.pending.iter().map_while(byte_of).collect();
            std::str::from_utf8(&run).is_err()
        };
        "\u{fffd}".repeat(if broken { prompts } else { 0 })
    }
}

fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (0..=same).rev().find(|&length| b.is_char_boundary(length)).unwrap_or(0)
}

/// The crate's ByteFallback takes exactly these for bytes: <0x00> to <0xFF>.
pub(crate) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// How many byte tokens at the end of `ids` are the start of a character that is not complete.
fn unfinished_bytes(tokenizer: &TextTokenizer, ids: &[i32]) -> usize {
    let byte_of = |id: &i32| tokenizer.token_string(*id).as_deref().and_then(byte_token);
    let mut bytes: Vec<u8> = ids.iter().rev().map_while(byte_of).take(3).collect();
    bytes.reverse();
    let unfinished = |start: &usize| {
        let is_prefix = |error: std::str::Utf8Error| error.valid_up_to() == 0 && error.error_len().is_none();
        std::str::from_utf8(&bytes[*start..]).is_err_and(is_prefix)
    };
    (0..bytes.len()).find(unfinished).map_or(0, |start| bytes.len() - start)
}

/// A token that is plain text whatever comes next to it; stands for the prompt where its own tokens cannot.
pub fn anchor(tokenizer: &TextTokenizer) -> Option<i32> {
    (0..i32::try_from(tokenizer.vocab_size()).unwrap_or(i32::MAX)).find(|&id| {
        let plain = |token: &String| token.len() == 1 && token.as_bytes()[0].is_ascii_alphanumeric();
        tokenizer.token_string(id).as_ref().is_some_and(plain)
    })
}

/// The bytes of a byte-level token: gpt2's table of printable stand-ins. A token with any other character is plain
/// text.
pub(crate) fn push_byte_level(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(start);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// Printable Latin-1 stands for itself; the 68 other bytes, in order, are U+0100 to U+0143.
fn byte_of(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}
