//! What a schema asks of numbers, computed exactly.

use super::decimal::{Decimal, DIGITS_MAX};
use super::ranges::{any_number, range, Bound};
use super::value::Json;
use crate::failure::{Failure, Outcome};
use llguidance::derivre::RegexAst;
use std::cmp::Ordering;

/// The library computes remainders with 32 bits, and does not notice where that is too little.
const MULTIPLE_MAX: u32 = 10_000;
const MULTIPLE_DECIMALS_MAX: usize = 4;
/// So that a common multiple of them, at most 10^8 each, fits into 128 bits.
const STEPS_MAX: usize = 4;

/// A step of size * 10^-decimals.
#[derive(Clone, PartialEq)]
struct Step {
    size: u32,
    decimals: u32,
}

#[derive(Clone, Default)]
pub struct Numbers {
    pub whole: bool,
    low: Option<Bound>,
    high: Option<Bound>,
    steps: Vec<Step>,
}

/// The value of a keyword, or of a member of an enum.
pub fn number<'a>(keyword: &str, value: &'a Json) -> Outcome<&'a Decimal> {
    let Json::Number(number) = value else {
        return Err(wrong(keyword, value, "a number"));
    };
    number.value.as_ref().ok_or_else(|| {
        let held = format!("a number of at most {DIGITS_MAX} digits before the point and {DIGITS_MAX} behind it");
        wrong(keyword, value, &held)
    })
}

pub fn wrong(keyword: &str, value: &Json, expected: &str) -> Failure {
    Failure::invalid(format!("{keyword} is {}, expected {expected}", value.quoted()))
}

pub fn check_multiple(value: &Json) -> Outcome<()> {
    Step::read(value).map(|_| ())
}

impl Step {
    fn read(value: &Json) -> Outcome<Step> {
        let range = format!("a number above 0, at most {MULTIPLE_MAX}, of at most {MULTIPLE_DECIMALS_MAX} decimals");
        let refused = || wrong("multipleOf", value, &range);
        let step = number("multipleOf", value).map_err(|_| refused())?;
        let decimals = step.fraction.len();
        if step.negative || step.is_zero() || decimals > MULTIPLE_DECIMALS_MAX || step.whole.len() > 5 {
            return Err(refused());
        }
        let digits = [step.whole.as_slice(), &step.fraction].concat();
        let size = digits.iter().fold(0, |size, digit| size * 10 + u32::from(digit - b'0'));
        let decimals = decimals as u32;
        match size <= MULTIPLE_MAX * 10u32.pow(decimals) {
            true => Ok(Step { size, decimals }),
            false => Err(refused()),
        }
    }

    /// The sizes of its multiples; the shape of a number is left to others.
    fn regex(&self) -> RegexAst {
        let (mut size, mut zeros) = (self.size, String::new());
        while self.decimals == 0 && size % 10 == 0 {
            size /= 10;
            zeros.push('0');
        }
        if self.decimals > 0 {
            // The library wants the zeros at the end of 0.50, and without them it is one of fewer decimals.
            let shorter = (1..self.decimals).map(|decimals| {
                let shape = RegexAst::Regex(format!(r"[0-9]+\.[0-9]{{{decimals}}}"));
                let left = 10u32.pow(self.decimals - decimals);
                let step = size / gcd(size.into(), left.into()) as u32;
                RegexAst::And(vec![shape, RegexAst::MultipleOf(step, decimals)])
            });
            return RegexAst::Or(shorter.chain([RegexAst::MultipleOf(size, self.decimals)]).collect());
        }
        let first = match size {
            1 => RegexAst::Regex("[0-9]*".into()),
            _ => RegexAst::MultipleOf(size, 0),
        };
        let zero = RegexAst::Literal("0".into());
        let whole = RegexAst::Or(vec![zero, RegexAst::Concat(vec![first, RegexAst::Literal(zeros)])]);
        RegexAst::Concat(vec![whole, RegexAst::Regex(r"(\.0+)?".into())])
    }

    fn divides(&self, value: &Decimal) -> bool {
        let decimals = self.decimals as usize;
        value.fraction.len() <= decimals && remainder(value, decimals, self.size.into()) == 0
    }
}

/// Of value * 10^decimals, cut to a whole number, without its sign.
fn remainder(value: &Decimal, decimals: usize, divisor: u128) -> u128 {
    let behind = (0..decimals).map(|place| value.fraction.get(place).copied().unwrap_or(b'0'));
    let digits = value.whole.iter().copied().chain(behind);
    digits.fold(0, |rest, digit| (rest * 10 + u128::from(digit - b'0')) % divisor)
}

impl Numbers {
    pub fn read(&mut self, keyword: &str, value: &Json, exclusive: bool) -> Outcome<()> {
        match keyword {
            "minimum" | "exclusiveMinimum" => self.raise(number(keyword, value)?, !exclusive),
            "maximum" | "exclusiveMaximum" => self.lower(number(keyword, value)?, !exclusive),
            _ => {
                let step = Step::read(value)?;
                if !self.steps.contains(&step) {
                    self.steps.push(step);
                }
                if self.steps.len() > STEPS_MAX {
                    let why = "different multipleOf apply to one number, expected at most";
                    return Err(Failure::invalid(format!("{} {why} {STEPS_MAX}", self.steps.len())));
                }
            }
        }
        Ok(())
    }

    fn raise(&mut self, value: &Decimal, inclusive: bool) {
        if self
            .low
            .as_ref()
            .is_none_or(|low| *value > low.value || (*value == low.value && !inclusive))
        {
            self.low = Some(Bound {
                value: value.clone(),
                inclusive,
            });
        }
    }

    fn lower(&mut self, value: &Decimal, inclusive: bool) {
        if self
            .high
            .as_ref()
            .is_none_or(|high| *value < high.value || (*value == high.value && !inclusive))
        {
            self.high = Some(Bound {
                value: value.clone(),
                inclusive,
            });
        }
    }

    pub fn allows(&self, value: &Decimal) -> bool {
        let keeps = |bound: &Option<Bound>, side| match bound {
            Some(bound) => match value.cmp(&bound.value) {
                Ordering::Equal => bound.inclusive,
                order => order == side,
            },
            None => true,
        };
        keeps(&self.low, Ordering::Greater)
            && keeps(&self.high, Ordering::Less)
            && (!self.whole || value.is_whole())
            && self.steps.iter().all(|step| step.divides(value))
    }

    /// Whether no number can be in both. Where that is hard to tell, they may.
    pub fn apart_from(&self, other: &Numbers) -> bool {
        let below = |a: &Option<Bound>, b: &Option<Bound>| match (a, b) {
            (Some(high), Some(low)) => match high.value.cmp(&low.value) {
                Ordering::Equal => !high.inclusive || !low.inclusive,
                order => order == Ordering::Less,
            },
            _ => false,
        };
        below(&self.high, &other.low) || below(&other.high, &self.low)
    }

    /// None where no number is left.
    pub fn regex(&self) -> Option<RegexAst> {
        if !self.whole && self.low.is_none() && self.high.is_none() && self.steps.is_empty() {
            return Some(any_number());
        }
        let (mut low, mut high) = (self.low.clone(), self.high.clone());
        if self.whole {
            for (bound, up) in [(&mut low, true), (&mut high, false)] {
                let Some(bound) = bound else { continue };
                bound.value = match bound.value.is_whole() && !bound.inclusive {
                    true => bound.value.neighbour(up),
                    false => bound.value.rounded(up),
                };
                bound.inclusive = true;
            }
        }
        if let (Some(low), Some(high)) = (&low, &high) {
            let order = low.value.cmp(&high.value);
            if order == Ordering::Greater || (order == Ordering::Equal && !(low.inclusive && high.inclusive)) {
                return None;
            }
        }
        let steps: Vec<_> = self.steps.iter().map(Step::regex).collect();
        if !steps.is_empty() && !self.has_multiple(low.as_ref(), high.as_ref()) {
            return None;
        }
        Some(range(self.whole, low.as_ref(), high.as_ref(), |sizes| {
            match steps.is_empty() {
                true => sizes,
                false => RegexAst::And([vec![sizes], steps.clone()].concat()),
            }
        }))
    }

    /// Whether a number between the bounds is a multiple of every step.
    fn has_multiple(&self, low: Option<&Bound>, high: Option<&Bound>) -> bool {
        let no_steps = Numbers {
            low: low.cloned(),
            high: high.cloned(),
            ..Numbers::default()
        };
        let (Some(low), Some(high)) = (low, high) else {
            return true;
        };
        if no_steps.allows(&Decimal::ZERO) {
            return true;
        }
        // Both have the same sign, which changes nothing but their order.
        let (near, far) = if low.value.negative { (high, low) } else { (low, high) };
        let decimals = self.steps.iter().map(|step| step.decimals).max().unwrap_or(0);
        let unit = if self.whole { 10u128.pow(decimals) } else { 1 };
        let common = self.steps.iter().fold(unit, |common, step| {
            let size = u128::from(step.size) * 10u128.pow(decimals - step.decimals);
            common / gcd(common, size) * size
        });
        let first = next_multiple(near, decimals as usize, common);
        let far_size = Decimal {
            negative: false,
            ..far.value.clone()
        };
        first < far_size || (first == far_size && far.inclusive)
    }
}

/// The first multiple of common * 10^-decimals that this bound lets pass, going away from 0. Without its sign.
fn next_multiple(bound: &Bound, decimals: usize, common: u128) -> Decimal {
    let rest = remainder(&bound.value, decimals, common);
    let exact = bound.value.fraction.len() <= decimals;
    let mut missing = match exact && bound.inclusive && rest == 0 {
        true => 0,
        false => common - rest,
    };
    let behind = (0..decimals).map(|place| bound.value.fraction.get(place).copied().unwrap_or(b'0'));
    let mut digits: Vec<u8> = bound.value.whole.iter().copied().chain(behind).collect();
    // No sum of the two is longer than this.
    digits.splice(0..0, [b'0'; 40]);
    for digit in digits.iter_mut().rev() {
        missing += u128::from(*digit - b'0');
        *digit = b'0' + (missing % 10) as u8;
        missing /= 10;
    }
    let fraction = digits.split_off(digits.len() - decimals);
    Decimal::from_digits(digits, fraction)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}
