//! For libraries that parse, drop and print nested things by recursion: an overflowing stack would end the process.

use crate::failure::{contain, Failure, Outcome};

/// Address space; only what is used becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// Runs `body` on a thread of its own with a deep stack. The caller's limits keep what a text can nest within it.
/// `what` names the work.
pub fn on_deep_stack<T: Send>(what: &str, body: impl FnOnce() -> T + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("deep stack".into())
            .stack_size(STACK_BYTES);
        let handle = thread
            .spawn_scoped(scope, || contain(body))
            .map_err(|error| Failure::internal(format!("no thread for {what}: {error}")))?;
        match handle.join() {
            Ok(result) => result.map_err(|panic| Failure::internal(format!("{what} panicked: {panic}"))),
            Err(_) => Err(Failure::internal(format!("the thread of {what} panicked"))),
        }
    })
}
