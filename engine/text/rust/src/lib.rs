//! The Rust half of engine/text: tokenizers and chat templates behind a small bridge. No panic leaves this library;
//! each function of the bridge either cannot fail or returns a Failure, which C++ turns into an absl::Status.

mod added;
mod deep_stack;
mod failure;
mod files;
mod grammar;
mod grammar_limits;
mod jinja;
mod legacy;
mod prefix_space;
mod schema;
mod special;
mod stream;
mod strftime;
mod template;
mod tokenizer;
mod vocabulary;

use failure::{guard, Failure, Outcome};
use grammar::{GrammarCompiler, Matcher};
use stream::Stream;
use template::{Message, TextTemplate};
use tokenizer::TextTokenizer;

// Text comes in as bytes, since C++ cannot promise UTF-8, and goes out as UTF-8.
#[cxx::bridge(namespace = "causeway::text_bridge")]
mod bridge {
    extern "Rust" {
        type TextTokenizer;
        fn load_tokenizer(folder: &[u8]) -> Result<Box<TextTokenizer>>;
        fn encode(tokenizer: &TextTokenizer, text: &[u8], add_special_tokens: bool) -> Result<Vec<i32>>;
        fn decode(tokenizer: &TextTokenizer, ids: &[i32], skip_special_tokens: bool) -> Result<String>;
        fn vocab_size(tokenizer: &TextTokenizer) -> i64;
        fn longest_token(tokenizer: &TextTokenizer) -> i64;
        fn id_bound(tokenizer: &TextTokenizer) -> i64;
        fn warnings(tokenizer: &TextTokenizer) -> Vec<String>;

        type Stream;
        fn new_stream(tokenizer: &TextTokenizer, prompt_tail: &[i32], skip_special_tokens: bool)
            -> Result<Box<Stream>>;
        fn append(stream: &mut Stream, tokenizer: &TextTokenizer, id: i32) -> Result<String>;
        fn flush(stream: &mut Stream, tokenizer: &TextTokenizer) -> Result<String>;

        type TextTemplate;
        fn load_template(folder: &[u8], file: &[u8]) -> Result<Box<TextTemplate>>;
        /// `texts` holds each message's role and content in turn.
        fn render(
            chat: &TextTemplate,
            texts: &[&[u8]],
            add_generation_prompt: bool,
            now_seconds: i64,
        ) -> Result<String>;

        type GrammarCompiler;
        fn new_grammar_compiler(tokenizer: &TextTokenizer) -> Result<Box<GrammarCompiler>>;
        type Matcher;
        /// `kind` is a GrammarKind's number; `texts` has one entry, or the choices.
        fn compile_grammar(
            compiler: &GrammarCompiler,
            kind: u8,
            texts: &[&[u8]],
            compact_json: bool,
        ) -> Result<Box<Matcher>>;
        fn clone_matcher(matcher: &Matcher) -> Result<Box<Matcher>>;
        fn consume(matcher: &mut Matcher, token: i32) -> Result<()>;
        /// Writes a bit for each token that may follow; returns whether the text may end here.
        fn fill_mask(matcher: &mut Matcher, words: &mut [u32]) -> Result<bool>;
    }
}

fn load_tokenizer(folder: &[u8]) -> Outcome<Box<TextTokenizer>> {
    guard("loading the tokenizer", || TextTokenizer::load(folder).map(Box::new))
}

fn encode(tokenizer: &TextTokenizer, text: &[u8], add_special_tokens: bool) -> Outcome<Vec<i32>> {
    guard("encoding", || tokenizer.encode(text, add_special_tokens))
}

fn decode(tokenizer: &TextTokenizer, ids: &[i32], skip_special_tokens: bool) -> Outcome<String> {
    guard("decoding", || tokenizer.decode(ids, skip_special_tokens))
}

fn vocab_size(tokenizer: &TextTokenizer) -> i64 {
    tokenizer.vocab_size()
}

fn longest_token(tokenizer: &TextTokenizer) -> i64 {
    tokenizer.longest_token()
}

fn id_bound(tokenizer: &TextTokenizer) -> i64 {
    tokenizer.id_bound()
}

fn warnings(tokenizer: &TextTokenizer) -> Vec<String> {
    tokenizer.warnings()
}

fn new_stream(tokenizer: &TextTokenizer, prompt_tail: &[i32], skip_special_tokens: bool) -> Outcome<Box<Stream>> {
    guard("starting to decode", || {
        Stream::new(tokenizer, prompt_tail, skip_special_tokens).map(Box::new)
    })
}

fn append(stream: &mut Stream, tokenizer: &TextTokenizer, id: i32) -> Outcome<String> {
    guard("decoding", || stream.append(tokenizer, id))
}

fn flush(stream: &mut Stream, tokenizer: &TextTokenizer) -> Outcome<String> {
    guard("decoding", || stream.flush(tokenizer))
}

fn load_template(folder: &[u8], file: &[u8]) -> Outcome<Box<TextTemplate>> {
    guard("loading the chat template", || {
        TextTemplate::load(folder, file).map(Box::new)
    })
}

fn render(chat: &TextTemplate, texts: &[&[u8]], add_generation_prompt: bool, now_seconds: i64) -> Outcome<String> {
    guard("rendering the chat template", || {
        let mut messages = Vec::with_capacity(texts.len() / 2);
        for (index, pair) in texts.chunks_exact(2).enumerate() {
            let text = |bytes, what| {
                std::str::from_utf8(bytes)
                    .map_err(|_| Failure::invalid(format!("the {what} of message {index} is no valid UTF-8")))
            };
            messages.push(Message {
                role: text(pair[0], "role")?,
                content: text(pair[1], "content")?,
            });
        }
        chat.render(&messages, add_generation_prompt, now_seconds)
    })
}

fn new_grammar_compiler(tokenizer: &TextTokenizer) -> Outcome<Box<GrammarCompiler>> {
    guard("reading the vocabulary for grammars", || {
        GrammarCompiler::new(tokenizer).map(Box::new)
    })
}

fn compile_grammar(compiler: &GrammarCompiler, kind: u8, texts: &[&[u8]], compact_json: bool) -> Outcome<Box<Matcher>> {
    guard("compiling the grammar", || {
        compiler.compile(kind, texts, compact_json).map(Box::new)
    })
}

fn clone_matcher(matcher: &Matcher) -> Outcome<Box<Matcher>> {
    guard("copying the grammar", || Ok(Box::new(matcher.clone())))
}

fn consume(matcher: &mut Matcher, token: i32) -> Outcome<()> {
    guard("following the grammar", || matcher.consume(token))
}

fn fill_mask(matcher: &mut Matcher, words: &mut [u32]) -> Outcome<bool> {
    guard("computing the grammar's mask", || matcher.fill_mask(words))
}
