//! The fuel of a render, spent on bytes before they are there. The engine charges for a value once it has it: what
//! builds one out of many references to a long text has to ask first, or the memory is full before the fuel is out.

use minijinja::{Error, ErrorKind, State, Value};
use std::fmt::{self, Write};

/// As the engine counts.
const BYTES_PER_FUEL: u64 = 64;

pub fn pay(state: &State, bytes: u64) -> Result<(), Error> {
    state.consume_fuel(bytes / BYTES_PER_FUEL)
}

/// What is written into it is paid for first.
pub struct Paid<'s, 't, 'e, W> {
    state: &'s State<'t, 'e>,
    out: W,
    unpaid: u64,
}

impl<'s, 't, 'e, W: Write> Paid<'s, 't, 'e, W> {
    pub fn new(state: &'s State<'t, 'e>, out: W) -> Self {
        Paid { state, out, unpaid: 0 }
    }

    pub fn push(&mut self, text: &str) -> Result<(), Error> {
        self.write_str(text).map_err(|_| ErrorKind::OutOfFuel.into())
    }

    /// The value as the engine prints it.
    pub fn print(&mut self, value: &Value) -> Result<(), Error> {
        write!(self, "{value}").map_err(|_| ErrorKind::OutOfFuel.into())
    }

    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Write for Paid<'_, '_, '_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.unpaid += text.len() as u64;
        pay(self.state, self.unpaid).map_err(|_| fmt::Error)?;
        self.unpaid %= BYTES_PER_FUEL;
        self.out.write_str(text)
    }
}

pub fn printed(state: &State, value: &Value) -> Result<String, Error> {
    let mut text = Paid::new(state, String::new());
    text.print(value)?;
    Ok(text.into_inner())
}
