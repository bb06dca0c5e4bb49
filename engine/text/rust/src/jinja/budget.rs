//! What a render may use: fuel, spent on work, and on bytes before they are there.

use super::error::{Error, Outcome};
use std::cell::Cell;

const BYTES_PER_FUEL: u64 = 64;

pub struct Budget {
    fuel: Cell<u64>,
    /// Bytes that are not yet a whole unit of fuel.
    unpaid: Cell<u64>,
}

impl Budget {
    pub fn new(fuel: u64) -> Self {
        Budget {
            fuel: Cell::new(fuel),
            unpaid: Cell::new(0),
        }
    }

    pub fn spend(&self, fuel: u64) -> Outcome<()> {
        match self.fuel.get().checked_sub(fuel) {
            Some(rest) => {
                self.fuel.set(rest);
                Ok(())
            }
            None => {
                self.fuel.set(0);
                Err(Error::out_of_fuel())
            }
        }
    }

    pub fn pay(&self, bytes: u64) -> Outcome<()> {
        let unpaid = self.unpaid.get().saturating_add(bytes);
        self.unpaid.set(unpaid % BYTES_PER_FUEL);
        self.spend(unpaid / BYTES_PER_FUEL)
    }

    pub fn pay_usize(&self, bytes: usize) -> Outcome<()> {
        self.pay(bytes as u64)
    }

    /// Room for `count` values in a list.
    pub fn pay_items(&self, count: usize) -> Outcome<()> {
        self.pay((count as u64).saturating_mul(size_of::<super::value::Value>() as u64))
    }

    /// Going once over a text.
    pub fn read(&self, text: &str) -> Outcome<()> {
        self.pay_usize(text.len() / 8)
    }

    /// Appends to a text, which is paid for.
    pub fn push(&self, out: &mut String, text: &str) -> Outcome<()> {
        self.pay_usize(text.len())?;
        out.push_str(text);
        Ok(())
    }
}
