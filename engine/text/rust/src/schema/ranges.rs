//! Ranges of numbers as regular expressions over their digits, so that no bound is ever rounded.

use super::decimal::{decrement, increment, Decimal};
use llguidance::derivre::RegexAst;

#[derive(Clone, Debug)]
pub struct Bound {
    pub value: Decimal,
    pub inclusive: bool,
}

/// The texts of the numbers from `low` to `high`, which lets at least one pass. Bounds of whole numbers are whole and
/// inclusive. `filter` narrows what follows the sign.
pub fn range(
    whole: bool,
    low: Option<&Bound>,
    high: Option<&Bound>,
    filter: impl Fn(RegexAst) -> RegexAst,
) -> RegexAst {
    let zero = |inclusive| Bound {
        value: Decimal::ZERO,
        inclusive,
    };
    let sizes = |low: &Bound, high: Option<&Bound>| {
        filter(match whole {
            true => whole_sizes(&low.value.whole, high.map(|bound| bound.value.whole.as_slice())),
            false => sizes(low, high),
        })
    };
    let mut parts = Vec::new();
    let none_above = |limit: &Decimal| match high {
        Some(high) => high.value < *limit || (high.value == *limit && !high.inclusive),
        None => false,
    };
    if !none_above(&Decimal::ZERO) {
        let from_zero = zero(true);
        let low = low.filter(|bound| !bound.value.negative).unwrap_or(&from_zero);
        parts.push(sizes(low, high));
    }
    if low.is_none_or(|bound| bound.value.negative) {
        let negated = |bound: &Bound| Bound {
            value: bound.value.negated(),
            inclusive: bound.inclusive,
        };
        // -0 is left to 0: the sizes below zero begin above it, whole ones at 1.
        let from_zero = match whole {
            true => Bound {
                value: Decimal::ZERO.neighbour(true),
                inclusive: true,
            },
            false => zero(false),
        };
        let from = high.filter(|bound| bound.value.negative).map_or(from_zero, negated);
        parts.push(RegexAst::Concat(vec![
            RegexAst::Byte(b'-'),
            sizes(&from, low.map(negated).as_ref()),
        ]));
    }
    RegexAst::Or(parts)
}

/// Any number, with an exponent within a double's range.
pub fn any_number() -> RegexAst {
    RegexAst::Regex(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?([0-9]{1,2}|[12][0-9]{2}))?".into())
}

fn sizes(low: &Bound, high: Option<&Bound>) -> RegexAst {
    let any_fraction = || optional(point(digits(1, None)));
    let above_low = fraction_from(&low.value.fraction, low.inclusive);
    let with = |whole: &[u8], fraction| RegexAst::Concat(vec![literal(whole), fraction]);
    let mut next = low.value.whole.clone();
    increment(&mut next);
    let Some(high) = high else {
        let above = RegexAst::Concat(vec![whole_sizes(&next, None), any_fraction()]);
        return RegexAst::Or(vec![with(&low.value.whole, above_low), above]);
    };
    let below_high = fraction_to(&high.value.fraction, high.inclusive);
    if low.value.whole == high.value.whole {
        return with(&low.value.whole, RegexAst::And(vec![above_low, below_high]));
    }
    let mut parts = vec![with(&low.value.whole, above_low), with(&high.value.whole, below_high)];
    if next != high.value.whole {
        let mut last = high.value.whole.clone();
        decrement(&mut last);
        parts.push(RegexAst::Concat(vec![whole_sizes(&next, Some(&last)), any_fraction()]));
    }
    RegexAst::Or(parts)
}

/// Of a value within the digits: what lies behind the point, if anything does, is at least this fraction.
fn fraction_from(fraction: &[u8], inclusive: bool) -> RegexAst {
    let nonzero = || RegexAst::Concat(vec![digits(0, None), digit(b'1', b'9'), digits(0, None)]);
    let rest = if inclusive { digits(0, None) } else { nonzero() };
    match (fraction.is_empty(), inclusive) {
        (true, true) => optional(point(digits(1, None))),
        (true, false) => point(rest),
        _ => point(at_least(fraction, rest, |_| digits(0, None))),
    }
}

fn fraction_to(fraction: &[u8], inclusive: bool) -> RegexAst {
    let zeros = |min| RegexAst::Repeat(Box::new(RegexAst::Byte(b'0')), min, u32::MAX);
    let mut rest = match (fraction.is_empty(), inclusive) {
        (true, true) => return optional(point(zeros(1))),
        (true, false) => return RegexAst::NoMatch,
        (false, true) => zeros(0),
        (false, false) => RegexAst::NoMatch,
    };
    for (place, &d) in fraction.iter().enumerate().rev() {
        // Behind any digit but the last, the text may end: the rest of the fraction is above 0.
        if place + 1 < fraction.len() {
            rest = optional(rest);
        }
        rest = RegexAst::Concat(vec![RegexAst::Byte(d), rest]);
        if d > b'0' {
            let less = RegexAst::Concat(vec![digit(b'0', d - 1), digits(0, None)]);
            rest = RegexAst::Or(vec![rest, less]);
        }
    }
    optional(point(rest))
}

/// Digits of whole numbers from `low` to `high`. 0 has none in a Decimal, and one in a text.
fn whole_sizes(low: &[u8], high: Option<&[u8]>) -> RegexAst {
    let shown = |digits: &[u8]| if digits.is_empty() { vec![b'0'] } else { digits.to_vec() };
    let low = shown(low);
    let longer = |min: usize, max: Option<usize>| RegexAst::Concat(vec![digit(b'1', b'9'), digits(min, max)]);
    let all = |left| digits(left, Some(left));
    let from_low = |low: &[u8]| at_least(low, RegexAst::EmptyString, all);
    let Some(high) = high else {
        return RegexAst::Or(vec![from_low(&low), longer(low.len(), None)]);
    };
    let high = shown(high);
    if low.len() < high.len() {
        let mut parts = vec![from_low(&low), at_most(&high, b'1')];
        if low.len() + 1 < high.len() {
            parts.push(longer(low.len(), Some(high.len() - 2)));
        }
        return RegexAst::Or(parts);
    }
    let same = low.iter().zip(&high).take_while(|(l, h)| l == h).count();
    if same == low.len() {
        return literal(&low);
    }
    let (l, h, left) = (low[same], high[same], low.len() - same - 1);
    let mut parts = vec![
        RegexAst::Concat(vec![RegexAst::Byte(l), from_low(&low[same + 1..])]),
        RegexAst::Concat(vec![RegexAst::Byte(h), at_most(&high[same + 1..], b'0')]),
    ];
    if l + 1 < h {
        parts.push(RegexAst::Concat(vec![digit(l + 1, h - 1), all(left)]));
    }
    RegexAst::Concat(vec![RegexAst::ByteLiteral(low[..same].to_vec()), RegexAst::Or(parts)])
}

/// `rest` follows these digits themselves, `free` a larger digit with so many left.
fn at_least(bound: &[u8], mut rest: RegexAst, free: impl Fn(usize) -> RegexAst) -> RegexAst {
    for (place, &d) in bound.iter().enumerate().rev() {
        rest = RegexAst::Concat(vec![RegexAst::Byte(d), rest]);
        if d < b'9' {
            let more = RegexAst::Concat(vec![digit(d + 1, b'9'), free(bound.len() - place - 1)]);
            rest = RegexAst::Or(vec![rest, more]);
        }
    }
    rest
}

/// As many digits as the bound has, the first of them at least `first`.
fn at_most(bound: &[u8], first: u8) -> RegexAst {
    let mut rest = RegexAst::EmptyString;
    for (place, &d) in bound.iter().enumerate().rev() {
        let least = if place == 0 { first } else { b'0' };
        rest = RegexAst::Concat(vec![RegexAst::Byte(d), rest]);
        if d > least {
            let left = bound.len() - place - 1;
            let less = RegexAst::Concat(vec![digit(least, d - 1), digits(left, Some(left))]);
            rest = RegexAst::Or(vec![rest, less]);
        }
    }
    rest
}

fn digit(first: u8, last: u8) -> RegexAst {
    let mut set = vec![0u32; 256 / 32];
    for byte in first..=last {
        set[usize::from(byte) / 32] |= 1 << (byte % 32);
    }
    RegexAst::ByteSet(set)
}

fn digits(min: usize, max: Option<usize>) -> RegexAst {
    RegexAst::Repeat(
        Box::new(digit(b'0', b'9')),
        min as u32,
        max.map_or(u32::MAX, |max| max as u32),
    )
}

fn literal(whole: &[u8]) -> RegexAst {
    RegexAst::ByteLiteral(if whole.is_empty() { vec![b'0'] } else { whole.to_vec() })
}

fn point(fraction: RegexAst) -> RegexAst {
    RegexAst::Concat(vec![RegexAst::Byte(b'.'), fraction])
}

fn optional(regex: RegexAst) -> RegexAst {
    RegexAst::Or(vec![RegexAst::EmptyString, regex])
}
