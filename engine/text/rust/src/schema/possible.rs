//! Which forms a finite value can have, and why a schema has none.

use super::forms::{ArrayForm, Form, FormId, ObjectForm};
use super::sources::Source;
use super::value::quote;

/// Of the schemas that apply where nothing is possible.
const QUOTED_MAX: usize = 4;

/// Begins with none and adds those whose parts are there, until nothing is added.
pub fn possible(forms: &[Form]) -> Vec<bool> {
    let mut known = vec![false; forms.len()];
    loop {
        let mut added = false;
        // Parts mostly come behind what contains them.
        for id in (0..forms.len()).rev() {
            if !known[id] && is_possible(&forms[id], &known) {
                known[id] = true;
                added = true;
            }
        }
        if !added {
            return known;
        }
    }
}

fn is_possible(form: &Form, known: &[bool]) -> bool {
    !form.scalars.is_empty()
        || !form.strings.is_empty()
        || form.arrays.iter().any(|array| array.obstacle(known).is_none())
        || form.objects.iter().any(|object| object.obstacle(known).is_none())
}

pub enum Obstacle<'a> {
    Here(String),
    Item(usize, FormId),
    Property(&'a str, FormId),
}

impl ArrayForm {
    pub fn item(&self, place: usize) -> FormId {
        self.first.get(place).copied().unwrap_or(self.rest)
    }

    pub fn obstacle(&self, known: &[bool]) -> Option<Obstacle<'static>> {
        if let Some(max) = self.max.filter(|max| *max < self.min) {
            return Some(Obstacle::Here(format!(
                "minItems is {}, above maxItems, {max}",
                self.min
            )));
        }
        // Behind the first ones all are alike.
        let places = (self.min as usize).min(self.first.len() + 1);
        let missing = (0..places).find(|place| !known[self.item(*place)])?;
        Some(Obstacle::Item(missing, self.item(missing)))
    }
}

impl<'a> ObjectForm<'a> {
    pub fn obstacle(&self, known: &[bool]) -> Option<Obstacle<'a>> {
        let missing = self.named.iter().find(|(_, form, required)| *required && !known[*form]);
        if let Some((name, form, _)) = missing {
            return Some(Obstacle::Property(name, *form));
        }
        let required = self.named.iter().filter(|(_, _, required)| *required).count();
        if let Some(max) = self.max.filter(|max| (*max as usize) < required.max(self.min as usize)) {
            let text = format!(
                "maxProperties is {max}, below minProperties ({}) or what is required ({required})",
                self.min
            );
            return Some(Obstacle::Here(text));
        }
        let named = self.named.iter().filter(|(_, form, _)| known[*form]).count();
        if self.min as usize > named + usize::from(self.others.iter().any(|(_, form)| known[*form])) {
            let text = "names that the schema does not list are counted once, since they might be equal";
            return Some(Obstacle::Here(format!(
                "minProperties is {}, and there are {named} listed ones: {text}",
                self.min
            )));
        }
        None
    }
}

/// Of a form that is not possible: the way to the first part of it that has nothing, and what was asked there.
pub fn why_not(forms: &[Form], known: &[bool], id: FormId) -> String {
    let (mut id, mut way) = (id, String::new());
    let mut seen = vec![false; forms.len()];
    loop {
        if std::mem::replace(&mut seen[id], true) {
            return format!("{way}it contains itself without end");
        }
        let form = &forms[id];
        let obstacle = match (form.objects.first(), form.arrays.first()) {
            (Some(object), _) => object.obstacle(known),
            (None, Some(array)) => array.obstacle(known),
            (None, None) => None,
        };
        match obstacle {
            Some(Obstacle::Property(name, part)) => {
                way += &format!("property {}: ", quote(name));
                id = part;
            }
            Some(Obstacle::Item(place, part)) => {
                way += &format!("item {place}: ");
                id = part;
            }
            Some(Obstacle::Here(why)) => return way + &why,
            None => {
                if form.asked.is_empty() {
                    return format!("{way}each schema of its anyOf or oneOf contradicts itself");
                }
                let asked: Vec<_> = form.asked.iter().take(QUOTED_MAX).map(Source::quoted).collect();
                return format!("{way}nothing satisfies {}", asked.join(" and "));
            }
        }
    }
}
