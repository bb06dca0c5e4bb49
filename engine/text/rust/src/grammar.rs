//! Grammars that an output follows: llguidance behind limits, over the tokenizer's vocabulary.

use crate::deep_stack::on_deep_stack;
use crate::failure::{Failure, Outcome};
use crate::grammar_limits::{check_lark, check_nesting, check_schema};
use crate::schema::{self, Json};
use crate::tokenizer::TextTokenizer;
use crate::vocabulary::Vocabulary;
use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::earley::lexerspec::LexerSpec;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{earley::SlicedBiasComputer, ParserFactory};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Of a schema, a regex, a grammar, or all choices together.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Grammars come with requests, and requests from strangers. Times are of one core.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 1_000_000, // a tenth of a second of compiling
        step_lexer_fuel: 100_000,      // 7 ms of a mask
        step_max_items: 50_000,        // 3 ms of a mask
        max_items_in_row: 4_000,       // three for each of a thousand names
        max_lexer_states: 20_000,      // 40 MB over the life of a request
        max_grammar_size: 40_000,      // a second of compiling
        verbose_errors: false,         // they quote all that was generated
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
        Ok(GrammarCompiler {
            factory,
            vocabulary_size,
        })
    }

    pub fn compile(&self, kind: u8, texts: &[&[u8]], compact_json: bool) -> Outcome<Matcher> {
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if bytes > TEXT_BYTES_MAX {
            return Err(Failure::invalid(format!(
                "{bytes} bytes, expected at most {TEXT_BYTES_MAX}"
            )));
        }
        let mut utf8 = Vec::with_capacity(texts.len());
        for text in texts {
            utf8.push(std::str::from_utf8(text).map_err(|_| Failure::invalid("no valid UTF-8"))?);
        }
        let inner = on_deep_stack("compiling the grammar", || {
            let environment = self.factory.tok_env().clone();
            let (grammar, lexer) = match read(kind, &utf8)? {
                Source::Schema(schema) => schema::compile(&schema, compact_json, limits())?,
                Source::Library(grammar) => {
                    let grammar = GrammarInit::Serialized(grammar);
                    let parts = catch_unwind(AssertUnwindSafe(|| grammar.to_internal(Some(environment), limits())));
                    parts.map_err(failed)?
                }
            };
            check_lexer(&lexer)?;
            let parser = self
                .factory
                .create_parser_from_init_default(GrammarInit::Internal(grammar, lexer));
            let mut matcher = llguidance::Matcher::new(parser);
            // Refuses what cannot even begin, before the request is queued.
            matcher.compute_mask_or_eos().map_err(failed)?;
            Ok(matcher)
        })??;
        Ok(Matcher {
            inner,
            vocabulary_size: self.vocabulary_size,
        })
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

/// What the library reads itself, and what it is given the rules of.
enum Source {
    Library(TopLevelGrammar),
    Schema(Json),
}

/// The numbers are those of GrammarKind in grammar.h.
fn read(kind: u8, texts: &[&str]) -> Outcome<Source> {
    let first = texts.first().copied().unwrap_or_default();
    match kind {
        0 => {
            let schema = Json::parse(first)?;
            check_schema(&schema)?;
            Ok(Source::Schema(schema))
        }
        1 => Json::parse(r#"{"type": "object"}"#).map(Source::Schema),
        2 => {
            check_nesting(first)?;
            Ok(Source::Library(TopLevelGrammar::from_regex(first)))
        }
        3 => {
            let choices: Vec<String> = texts.iter().map(|choice| literal(choice)).collect();
            Ok(Source::Library(TopLevelGrammar::from_regex(&choices.join("|"))))
        }
        4 => {
            check_lark(first)?;
            Ok(Source::Library(TopLevelGrammar::from_lark(first.to_string())))
        }
        _ => Err(Failure::internal(format!("grammar kind {kind}"))),
    }
}

/// Takes the lexer's first byte, as the library will, but within limits: there it has none.
fn check_lexer(lexer: &LexerSpec) -> Outcome<()> {
    let mut states = lexer.to_regex_vec(&mut limits()).map_err(failed)?;
    states.set_fuel(limits().initial_lexer_fuel);
    let first = states.initial_state(&lexer.all_lexemes());
    for byte in 0..=255 {
        states.transition(first, byte);
    }
    match states.get_error() {
        Some(_) => Err(Failure::invalid("too complex: its first characters take too much work")),
        None => Ok(()),
    }
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
    // The tag is the library's empty annex.
    let text = error.to_string().replace("<non-verbose/>", "");
    // Where it panicked, and advice for whoever sets its limits or writes Lark.
    const ENDS: [&str; 4] = [
        "\n<backtrace>",
        "; either increase",
        "; try avoiding",
        "; consider making",
    ];
    let message = ENDS.iter().fold(text.as_str(), |message, end| {
        message.split(end).next().unwrap_or_default()
    });
    Failure::invalid(match message.trim() {
        "NoExtensionBias" => "no token of the vocabulary goes on here, and the text may not end",
        other => other,
    })
}
