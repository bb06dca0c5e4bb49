//! Puts the tokens that a folder's configuration names into a tokenizer, as transformers does.

use crate::special::{special, SpecialTokens};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokenizers::{AddedToken, Tokenizer};

/// Most names in one warning.
const NAMES_MAX: usize = 8;

/// Adds what the configuration names and the tokenizer lacks, and marks as special what it calls so. Ids are given in
/// order, whatever the files say.
pub fn add_tokens(inner: &mut Tokenizer, tokens: &SpecialTokens) -> tokenizers::Result<()> {
    let known: BTreeMap<u32, AddedToken> = inner.get_added_tokens_decoder().into_iter().collect();
    let mut by_id = tokens.by_id.clone();
    if tokens.legacy {
        by_id.extend(known.iter().map(|(id, token)| (*id, token.clone())));
    }
    let named: HashSet<&str> = tokens.named.iter().map(|(_, token)| &token.content[..]).collect();
    let mut seen: HashSet<String> = known
        .values()
        .chain(by_id.values())
        .map(|token| token.content.clone())
        .collect();
    let mut added: Vec<AddedToken> = by_id.into_values().collect();
    let others = tokens.named.iter().map(|(_, token)| token).chain(&tokens.extra);
    added.extend(others.filter(|token| seen.insert(token.content.clone())).cloned());
    for token in &mut added {
        token.special |= named.contains(&token.content[..]);
    }
    // To add a token that is there already would build the tables of all added tokens again.
    let known: HashMap<&str, &AddedToken> = known.values().map(|token| (&token.content[..], token)).collect();
    added.retain(|token| known.get(&token.content[..]) != Some(&token));
    inner.add_tokens(added)?;
    if tokens.class == "Qwen2Tokenizer" {
        let all = tokens.named.iter().map(|(_, token)| token).chain(&tokens.extra);
        inner.add_tokens(all.map(|token| special(&token.content)).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// What added_tokens.json says and does not hold: "" when all of it does. transformers keeps its ids no more than this.
pub fn added_tokens_warning(inner: &Tokenizer, tokens: &SpecialTokens) -> String {
    let mut wrong = Vec::new();
    for (content, id) in &tokens.file {
        match inner.token_to_id(content) {
            Some(actual) if actual == *id => {}
            Some(actual) => wrong.push(format!("{content:?} is {actual} and not {id}")),
            None => wrong.push(format!("{content:?} ({id}) is no token")),
        }
    }
    if wrong.is_empty() {
        return String::new();
    }
    let more = wrong.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 {
        format!(", and {more} more")
    } else {
        String::new()
    };
    wrong.truncate(NAMES_MAX);
    format!(
        "added_tokens.json is not followed where its ids have gaps or another file says otherwise: {}{more}",
        wrong.join(", ")
    )
}
