//! Rules of a grammar as the library takes them, within its limits.

use crate::failure::{Failure, Outcome};
use llguidance::api::ParserLimits;
use llguidance::derivre::RegexAst;
use llguidance::earley::lexerspec::{LexemeClass, LexerSpec};
use llguidance::earley::{Grammar, SymIdx, SymbolProps};
use std::collections::HashMap;

/// What follows each other.
pub type Sequence = Vec<SymIdx>;

pub struct Rules {
    grammar: Grammar,
    lexer: LexerSpec,
    class: LexemeClass,
    terminals: HashMap<usize, SymIdx>,
    limits: ParserLimits,
    pub start: SymIdx,
}

impl Rules {
    pub fn new(limits: ParserLimits) -> Outcome<Self> {
        let mut lexer = LexerSpec::new().map_err(failed)?;
        // No text is skipped between the others: what may stand there is part of them.
        let class = lexer.setup_lexeme_class(RegexAst::NoMatch).map_err(failed)?;
        let mut grammar = Grammar::new(None);
        let start = SymbolProps {
            grammar_id: class,
            is_start: true,
            ..SymbolProps::default()
        };
        let start = grammar.fresh_symbol_ext("start", start);
        Ok(Rules {
            grammar,
            lexer,
            class,
            terminals: HashMap::new(),
            limits,
            start,
        })
    }

    pub fn finish(self) -> (Grammar, LexerSpec) {
        (self.grammar, self.lexer)
    }

    pub fn symbol(&mut self) -> Outcome<SymIdx> {
        if self.grammar.num_symbols() > self.limits.max_grammar_size {
            return Err(too_complex());
        }
        let props = SymbolProps {
            grammar_id: self.class,
            ..SymbolProps::default()
        };
        Ok(self.grammar.fresh_symbol_ext("", props))
    }

    /// One more way to write `symbol`.
    pub fn rule(&mut self, symbol: SymIdx, sequence: Sequence) -> Outcome<()> {
        self.grammar.add_rule(symbol, sequence).map_err(failed)
    }

    /// A text that is read as one piece, the longest that matches. It is not empty.
    pub fn text(&mut self, regex: RegexAst) -> Outcome<SymIdx> {
        let lexeme = self
            .lexer
            .add_greedy_lexeme(String::new(), regex, false, None, usize::MAX);
        let lexeme = lexeme.map_err(failed)?;
        if self.lexer.cost() > self.limits.initial_lexer_fuel {
            return Err(too_complex());
        }
        if let Some(symbol) = self.terminals.get(&lexeme.as_usize()) {
            return Ok(*symbol);
        }
        let symbol = self.symbol()?;
        self.grammar
            .make_terminal(symbol, lexeme, &self.lexer)
            .map_err(failed)?;
        self.terminals.insert(lexeme.as_usize(), symbol);
        Ok(symbol)
    }

    pub fn one_of(&mut self, ways: Vec<Sequence>) -> Outcome<Sequence> {
        let symbol = self.symbol()?;
        for way in ways {
            self.rule(symbol, way)?;
        }
        Ok(vec![symbol])
    }

    pub fn optional(&mut self, sequence: Sequence) -> Outcome<Sequence> {
        match sequence.is_empty() {
            true => Ok(sequence),
            false => self.one_of(vec![vec![], sequence]),
        }
    }

    /// At least `min` times and at most `max`, by rules that are as many as their binary digits.
    pub fn repeated(&mut self, sequence: Sequence, min: u32, max: Option<u32>) -> Outcome<Sequence> {
        let once = self.one_of(vec![sequence])?;
        let mut all = self.exactly(&once, min)?;
        all.extend(match max {
            Some(max) => self.at_most(once, max - min)?,
            None => {
                let any = self.symbol()?;
                self.rule(any, vec![])?;
                self.rule(any, [vec![any], once].concat())?;
                vec![any]
            }
        });
        Ok(all)
    }

    fn exactly(&mut self, once: &Sequence, mut times: u32) -> Outcome<Sequence> {
        let (mut all, mut some) = (Vec::new(), once.clone());
        while times > 0 {
            if times % 2 == 1 {
                all.extend(&some);
            }
            times /= 2;
            if times > 0 {
                some = self.one_of(vec![[some.clone(), some].concat()])?;
            }
        }
        Ok(all)
    }

    /// Each number of times in one way only.
    fn at_most(&mut self, once: Sequence, times: u32) -> Outcome<Sequence> {
        if times == 0 {
            return Ok(vec![]);
        }
        if times == 1 {
            return self.optional(once);
        }
        let twice = self.one_of(vec![[once.clone(), once.clone()].concat()])?;
        let pairs = self.at_most(twice.clone(), (times - 1) / 2)?;
        let odd = [pairs, self.optional(once)?].concat();
        if times % 2 == 1 {
            return Ok(odd);
        }
        let full = self.exactly(&twice, times / 2)?;
        self.one_of(vec![odd, full])
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::invalid(error.to_string())
}

fn too_complex() -> Failure {
    Failure::invalid("too complex: compiling it takes too much work")
}
