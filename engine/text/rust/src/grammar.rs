//! Grammars that an output follows: llguidance behind limits, over the tokenizer's vocabulary.

use crate::deep_stack::on_deep_stack;
use crate::failure::{Failure, Outcome};
use crate::tokenizer::TextTokenizer;
use crate::vocabulary::Vocabulary;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{earley::SlicedBiasComputer, ParserFactory};
use serde_json::{json, Value};
use std::sync::Arc;

/// Of a schema, a regex, a grammar, or all choices together.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// How deep brackets may nest: for the libraries that parse them by recursion.
const NESTING_MAX: usize = 200;
/// Of items and properties in a schema.
const COUNT_MAX: f64 = 10_000.0;
const PROPERTIES_MAX: usize = 500;

/// Grammars come with requests, and requests from strangers. Times are of one core.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 1_000_000, // 20 ms of compiling
        step_lexer_fuel: 100_000,      // 7 ms of a mask
        step_max_items: 50_000,        // 3 ms of a mask
        max_lexer_states: 20_000,      // 40 MB over the life of a request
        max_grammar_size: 200_000,
        verbose_errors: false, // they quote all that was generated
        ..ParserLimits::default()
    }
}

pub struct GrammarCompiler {
    factory: ParserFactory,
    vocabulary_size: usize,
}

/// How far one text has got in its grammar. Copies share what the lexer has learned, under its own lock.
#[derive(Clone)]
pub struct Matcher {
    inner: llguidance::Matcher,
    vocabulary_size: usize,
}

// C++ compiles on many threads at once, and moves matchers between threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn moved<T: Send>() {}
    shared::<GrammarCompiler>();
    moved::<Matcher>();
};

impl GrammarCompiler {
    pub fn new(tokenizer: &TextTokenizer) -> Outcome<Self> {
        let vocabulary = Vocabulary::new(tokenizer)?;
        let vocabulary_size = vocabulary.size;
        let environment: TokEnv = Arc::new(vocabulary);
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|error| Failure::internal(format!("the vocabulary cannot be prepared for grammars: {error}")))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(GrammarCompiler { factory, vocabulary_size })
    }

    pub fn compile(&self, kind: u8, texts: &[&[u8]]) -> Outcome<Matcher> {
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if bytes > TEXT_BYTES_MAX {
            return Err(Failure::invalid(format!("{bytes} bytes, expected at most {TEXT_BYTES_MAX}")));
        }
        let mut utf8 = Vec::with_capacity(texts.len());
        for text in texts {
            utf8.push(std::str::from_utf8(text).map_err(|_| Failure::invalid("no valid UTF-8"))?);
        }
        let inner = on_deep_stack("compiling the grammar", || {
            let grammar = read(kind, &utf8)?;
            let mut matcher = llguidance::Matcher::new(self.factory.create_parser(grammar));
            // Refuses what cannot even begin, before the request is queued.
            matcher.compute_mask_or_eos().map_err(failed)?;
            Ok(matcher)
        })??;
        Ok(Matcher { inner, vocabulary_size: self.vocabulary_size })
    }
}

impl Matcher {
    pub fn consume(&mut self, token: i32) -> Outcome<()> {
        let token = u32::try_from(token).map_err(|_| Failure::internal(format!("token {token} is no id")))?;
        self.inner.consume_token(token).map_err(failed)
    }

    /// Whether the text may end here; every bit may be 0 then. InvalidArgument: no token goes on, and it may not end.
    pub fn fill_mask(&mut self, words: &mut [u32]) -> Outcome<bool> {
        words.fill(0);
        if self.inner.is_stopped() && !self.inner.is_error() {
            return Ok(true);
        }
        let mask = self.inner.compute_mask().map_err(failed)?;
        let end = self.vocabulary_size;
        let may_end = mask.get(end);
        for (to, from) in words.iter_mut().zip(mask.as_slice()) {
            *to = *from;
        }
        if let Some(word) = words.get_mut(end / 32) {
            *word &= !(1 << (end % 32));
        }
        Ok(may_end)
    }
}

/// The numbers are those of GrammarKind in grammar.h.
fn read(kind: u8, texts: &[&str]) -> Outcome<TopLevelGrammar> {
    let first = texts.first().copied().unwrap_or_default();
    match kind {
        0 => {
            let schema: Value = serde_json::from_str(first).map_err(|error| Failure::invalid(format!("no JSON: {error}")))?;
            match schema {
                Value::Object(_) | Value::Bool(_) => {
                    check_counts(&schema)?;
                    Ok(TopLevelGrammar::from_json_schema(schema))
                }
                _ => Err(Failure::invalid("expected a JSON schema: an object, true or false")),
            }
        }
        1 => Ok(TopLevelGrammar::from_json_schema(json!({"type": "object"}))),
        2 => {
            check_nesting(first)?;
            Ok(TopLevelGrammar::from_regex(first))
        }
        3 => {
            let choices: Vec<String> = texts.iter().map(|choice| literal(choice)).collect();
            Ok(TopLevelGrammar::from_regex(&choices.join("|")))
        }
        4 => {
            check_nesting(first)?;
            Ok(TopLevelGrammar::from_lark(first.to_string()))
        }
        _ => Err(Failure::internal(format!("grammar kind {kind}"))),
    }
}

/// The library makes as many symbols as an array may have items, whatever its limits say.
fn check_counts(schema: &Value) -> Outcome<()> {
    let mut pending = vec![schema];
    while let Some(value) = pending.pop() {
        match value {
            Value::Array(values) => pending.extend(values),
            Value::Object(members) => {
                for (key, value) in members {
                    let counts = matches!(key.as_str(), "minItems" | "maxItems" | "minProperties" | "maxProperties");
                    if let Some(count) = value.as_f64().filter(|&count| counts && count > COUNT_MAX) {
                        return Err(Failure::invalid(format!("{key} is {count}, expected at most {COUNT_MAX}")));
                    }
                    // The library's work is the square of their number.
                    if let (true, Some(members)) = (key.as_str() == "properties", value.as_object()) {
                        if members.len() > PROPERTIES_MAX {
                            let found = members.len();
                            return Err(Failure::invalid(format!("an object of {found} properties, expected at most {PROPERTIES_MAX}")));
                        }
                    }
                    // Values, not schemas.
                    if !matches!(key.as_str(), "enum" | "const" | "default" | "examples") {
                        pending.push(value);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Counts what is in strings and classes too, so that it may refuse too much but never too little.
fn check_nesting(text: &str) -> Outcome<()> {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > NESTING_MAX {
        return Err(Failure::invalid(format!("brackets nest {deepest} deep, expected at most {NESTING_MAX}")));
    }
    Ok(())
}

/// A regex that matches exactly this text.
fn literal(text: &str) -> String {
    let mut regex = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            c if c.is_ascii_alphanumeric() || !c.is_ascii() => regex.push(c),
            c => regex.push_str(&format!("\\x{:02X}", u32::from(c))),
        }
    }
    regex
}

fn failed(error: impl std::fmt::Display) -> Failure {
    let message = error.to_string().replace("<non-verbose/>", ""); // the library's empty annex
    Failure::invalid(match message.trim() {
        "NoExtensionBias" => "no token of the vocabulary goes on here, and the text may not end",
        other => other,
    })
}
