//! Decimal numbers of any size, exactly: what JSON writes, and a double rounds.

use std::cmp::Ordering;

/// Before the point, and as many behind it. The largest double has 309, the smallest 324.
pub const DIGITS_MAX: usize = 1_000;

/// Digits are ASCII; there are none that say nothing: 0 has no digits at all and no sign.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    pub negative: bool,
    pub whole: Vec<u8>,
    pub fraction: Vec<u8>,
}

impl Decimal {
    pub const ZERO: Decimal = Decimal {
        negative: false,
        whole: Vec::new(),
        fraction: Vec::new(),
    };

    /// Of a number in JSON's syntax. None: it has too many digits when it is written out.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole.as_bytes(), fraction.as_bytes()].concat();
        let Some(first) = digits.iter().position(|&digit| digit != b'0') else {
            return Some(Decimal::ZERO);
        };
        let last = digits.iter().rposition(|&digit| digit != b'0')?;
        // An exponent that is no i64 is beyond any limit, too.
        let point = exponent.parse::<i64>().ok()?.checked_add(whole.len() as i64)?;
        let limit = DIGITS_MAX as i64;
        if point.checked_sub(first as i64)? > limit || (last as i64 + 1).checked_sub(point)? > limit {
            return None;
        }
        let digit = |place: i64| {
            usize::try_from(place)
                .ok()
                .and_then(|at| digits.get(at))
                .copied()
                .unwrap_or(b'0')
        };
        let whole = (0.min(point)..point).map(digit).collect();
        let fraction = (point..(last as i64 + 1).max(point)).map(digit).collect();
        Some(Decimal {
            negative,
            ..Decimal::from_digits(whole, fraction)
        })
    }

    /// Not below 0; of digits that may have zeros at their ends.
    pub fn from_digits(mut whole: Vec<u8>, mut fraction: Vec<u8>) -> Decimal {
        let zeros = whole.iter().take_while(|&&digit| digit == b'0').count();
        whole.drain(..zeros);
        while fraction.last() == Some(&b'0') {
            fraction.pop();
        }
        Decimal {
            negative: false,
            whole,
            fraction,
        }
    }

    /// Whether a double holds it and gives it back in as many digits.
    pub fn is_double(&self) -> bool {
        self.digits() <= 15
    }

    pub fn digits(&self) -> usize {
        self.whole.len() + self.fraction.len()
    }

    pub fn is_whole(&self) -> bool {
        self.fraction.is_empty()
    }

    pub fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    pub fn negated(&self) -> Decimal {
        Decimal {
            negative: !self.negative && !self.is_zero(),
            ..self.clone()
        }
    }

    /// The whole number next to it in this direction, itself if it is one.
    pub fn rounded(&self, up: bool) -> Decimal {
        let mut rounded = Decimal {
            fraction: Vec::new(),
            ..self.clone()
        };
        if !self.is_whole() && up != self.negative {
            increment(&mut rounded.whole);
        }
        rounded.negative &= !rounded.is_zero();
        rounded
    }

    /// The next whole number above or below this one, which is whole too.
    pub fn neighbour(&self, above: bool) -> Decimal {
        let mut next = self.clone();
        if self.is_zero() || self.negative != above {
            increment(&mut next.whole);
            next.negative = !above;
        } else {
            decrement(&mut next.whole);
            next.negative &= !next.is_zero();
        }
        next
    }

    fn compare_sizes(&self, other: &Decimal) -> Ordering {
        let by_length = self.whole.len().cmp(&other.whole.len());
        // Without zeros at its end, a fraction that begins another is the smaller one.
        by_length
            .then_with(|| self.whole.cmp(&other.whole))
            .then_with(|| self.fraction.cmp(&other.fraction))
    }
}

impl From<u32> for Decimal {
    fn from(number: u32) -> Decimal {
        Decimal::from_digits(number.to_string().into_bytes(), Vec::new())
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.compare_sizes(other),
            (true, true) => other.compare_sizes(self),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |digits: &[u8]| String::from_utf8_lossy(digits).into_owned();
        let whole = if self.whole.is_empty() {
            "0".into()
        } else {
            text(&self.whole)
        };
        let sign = if self.negative { "-" } else { "" };
        let point = if self.fraction.is_empty() { "" } else { "." };
        write!(out, "{sign}{whole}{point}{}", text(&self.fraction))
    }
}

pub fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

/// Of a number above 0.
pub fn decrement(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit > b'0' {
            *digit -= 1;
            break;
        }
        *digit = b'9';
    }
    if digits.first() == Some(&b'0') {
        digits.remove(0);
    }
}
