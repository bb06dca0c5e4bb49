//! The members of an object in the schema's order, with commas between those that are there.

use super::rules::{Rules, Sequence};
use crate::failure::Outcome;
use llguidance::earley::SymIdx;
use std::collections::HashMap;

pub struct MemberList {
    pub comma: SymIdx,
    /// Each without its comma, and whether it must be there.
    pub members: Vec<(Sequence, bool)>,
    /// Any number of these may follow.
    pub other: Option<Sequence>,
    /// How many there must and may be, where that matters.
    pub counts: Option<(u32, Option<u32>)>,
    pub known: HashMap<(usize, u32), Option<Sequence>>,
}

impl MemberList {
    /// What may follow when the members before this place are done, and so many of them are there. None: nothing fits.
    pub fn rest(&mut self, rules: &mut Rules, place: usize, written: u32) -> Outcome<Option<Sequence>> {
        if let Some(sequence) = self.known.get(&(place, written)) {
            return Ok(sequence.clone());
        }
        let sequence = if place < self.members.len() {
            let (member, required) = self.members[place].clone();
            let mut ways = Vec::new();
            if self.may_have(written + 1) {
                // Without counting, 1 stands for any number.
                let next = if self.counts.is_some() { written + 1 } else { 1 };
                if let Some(rest) = self.rest(rules, place + 1, next)? {
                    ways.push([self.with_comma(member, written), rest].concat());
                }
            }
            if !required {
                ways.extend(self.rest(rules, place + 1, written)?);
            }
            match ways.is_empty() {
                true => None,
                false => Some(rules.one_of(ways)?),
            }
        } else {
            self.others(rules, written)?
        };
        self.known.insert((place, written), sequence.clone());
        Ok(sequence)
    }

    fn may_have(&self, count: u32) -> bool {
        self.counts.is_none_or(|(_, max)| max.is_none_or(|max| count <= max))
    }

    fn with_comma(&self, member: Sequence, written: u32) -> Sequence {
        match written {
            0 => member,
            _ => [vec![self.comma], member].concat(),
        }
    }

    fn others(&mut self, rules: &mut Rules, written: u32) -> Outcome<Option<Sequence>> {
        let (min, max) = self.counts.unwrap_or((0, None));
        let missing = min.saturating_sub(written);
        let room = max.map(|max| max - written);
        let other = match &self.other {
            Some(other) if room != Some(0) => other.clone(),
            _ => return Ok((missing == 0).then(Vec::new)),
        };
        // Two of them may have the same name, and would count as one.
        if missing > 1 {
            return Ok(None);
        }
        let first = self.with_comma(other.clone(), written);
        let more = rules.repeated([vec![self.comma], other].concat(), 0, room.map(|room| room - 1))?;
        let some = [first, more].concat();
        match missing {
            0 => rules.optional(some).map(Some),
            _ => Ok(Some(some)),
        }
    }
}
