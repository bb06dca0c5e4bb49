//! Loops, and calls of those that are recursive.

use super::ast::For;
use super::error::{fault, Outcome};
use super::interpreter::{Flow, Interpreter, ENTRY_BYTES};
use super::value::{List, Loop, Value};
use std::cell::Cell;
use std::rc::Rc;

impl<'t> Interpreter<'t> {
    pub fn for_loop(&mut self, loop_: &'t For) -> Outcome<()> {
        let items = self.eval(&loop_.iterable)?;
        let recursive = match loop_.recursive {
            true => {
                self.budget.pay(ENTRY_BYTES)?;
                self.keep_scopes();
                self.recursive_loops.push((loop_, self.scope));
                Some(self.recursive_loops.len() - 1)
            }
            false => None,
        };
        self.run_loop(loop_, items, recursive, 0)
    }

    /// loop(items): the body of the loop again, one level deeper.
    pub fn call_loop(&mut self, inner: &Loop, items: Value) -> Outcome<Value> {
        let Some(place) = inner.recursive else {
            return Err(fault(
                "the loop must have the 'recursive' marker to be called recursively",
            ));
        };
        let (loop_, scope) = self.recursive_loops[place];
        let outer = std::mem::replace(&mut self.scope, scope);
        let depth = inner.depth + 1;
        let text = self.nested(|this| this.captured(|this| this.run_loop(loop_, items, Some(place), depth)));
        self.scope = outer;
        let text = text?;
        self.budget.pay_usize(text.len())?;
        Ok(Value::str(text))
    }

    fn run_loop(&mut self, loop_: &'t For, items: Value, recursive: Option<usize>, depth: usize) -> Outcome<()> {
        let mut items = items.items(self.budget)?;
        // Where `loop` is used, it is to know which items there are.
        if loop_.uses_loop {
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                if self.passes(loop_, &item)? {
                    kept.push(item);
                }
            }
            items = kept;
        }
        let mut is_empty = true;
        self.loops += 1;
        let state = Rc::new(Loop {
            items: List::new(items)?,
            index: Cell::new(0),
            depth,
            number: self.loops,
            recursive,
        });
        while let Some(item) = state.items.items.get(state.index.get()).cloned() {
            if loop_.uses_loop || self.passes(loop_, &item)? {
                is_empty = false;
                let flow = self.in_scope(self.scope, |this| {
                    this.assign(&loop_.target, item)?;
                    if let (true, Some(name)) = (loop_.uses_loop, this.loop_name) {
                        this.set(name, Value::Loop(state.clone()));
                    }
                    this.statements(&loop_.body)
                })?;
                if flow == Flow::Break {
                    break;
                }
            }
            state.index.set(state.index.get() + 1);
        }
        if is_empty {
            self.in_scope(self.scope, |this| this.statements(&loop_.otherwise))?;
        }
        Ok(())
    }

    /// Whether the loop's own `if` lets the item in.
    fn passes(&mut self, loop_: &'t For, item: &Value) -> Outcome<bool> {
        let Some(test) = &loop_.test else {
            return Ok(true);
        };
        self.in_scope(self.scope, |this| {
            this.assign(&loop_.target, item.clone())?;
            Ok(this.eval(test)?.is_true())
        })
    }
}
