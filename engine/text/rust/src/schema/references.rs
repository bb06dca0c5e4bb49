//! Where `$ref` leads: to a place (#/$defs/a), an `$anchor`, or the `$id` of a schema within this one, with either
//! behind it.

use super::value::{cut, quote, Json, Members};
use crate::failure::{Failure, Outcome};
use std::collections::HashMap;

pub struct References<'a> {
    /// A schema with an `$id` is a document of its own: what begins with # is looked for in it.
    documents: Vec<Document<'a>>,
    /// The document that each object is part of, by the object's address.
    homes: HashMap<*const Members, usize>,
    /// What is known already, by the address of the schema with the `$ref`.
    targets: HashMap<*const Members, &'a Json>,
}

struct Document<'a> {
    uri: String,
    root: &'a Json,
    anchors: HashMap<&'a str, &'a Json>,
}

impl<'a> References<'a> {
    pub fn new(root: &'a Json) -> Self {
        let mut references = References {
            documents: vec![Document {
                uri: String::new(),
                root,
                anchors: HashMap::new(),
            }],
            homes: HashMap::new(),
            targets: HashMap::new(),
        };
        references.note(root, 0);
        references
    }

    /// Looks into data, too, which is no schema; nobody refers to it.
    fn note(&mut self, value: &'a Json, mut home: usize) {
        match value {
            Json::Array(items) => items.iter().for_each(|item| self.note(item, home)),
            Json::Object(members) => {
                if let Some(Json::String(id)) = members.get("$id") {
                    let uri = resolve(&self.documents[home].uri, id.trim_end_matches('#'));
                    if home == 0 && std::ptr::eq(value, self.documents[0].root) {
                        self.documents[0].uri = uri;
                    } else {
                        home = self.documents.len();
                        self.documents.push(Document {
                            uri,
                            root: value,
                            anchors: HashMap::new(),
                        });
                    }
                }
                for key in ["$anchor", "$dynamicAnchor"] {
                    if let Some(Json::String(name)) = members.get(key) {
                        self.documents[home].anchors.entry(name).or_insert(value);
                    }
                }
                self.homes.insert(members, home);
                members.values().for_each(|member| self.note(member, home));
            }
            _ => {}
        }
    }

    pub fn target(&mut self, from: &'a Members, reference: &str) -> Outcome<&'a Json> {
        if let Some(target) = self.targets.get(&std::ptr::from_ref(from)) {
            return Ok(target);
        }
        let target = self.find(from, reference)?;
        self.targets.insert(from, target);
        Ok(target)
    }

    fn find(&self, from: &Members, reference: &str) -> Outcome<&'a Json> {
        let home = self.homes.get(&std::ptr::from_ref(from)).copied().unwrap_or(0);
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let document = match uri {
            "" => Some(&self.documents[home]),
            _ => {
                let uri = resolve(&self.documents[home].uri, uri);
                self.documents.iter().find(|document| document.uri == uri)
            }
        };
        let wrong = |why: &str| Failure::invalid(format!("$ref {}: {why}", cut(quote(reference))));
        let Some(document) = document else {
            return Err(wrong("no $id of the schema says this, and nothing outside it is read"));
        };
        let found = match decoded(fragment) {
            None => return Err(wrong("no valid UTF-8 behind #")),
            Some(place) if place.is_empty() => Some(document.root),
            Some(place) => match place.strip_prefix('/') {
                Some(pointer) => at(document.root, pointer),
                None => document.anchors.get(place.as_str()).copied(),
            },
        };
        found.ok_or_else(|| wrong("there is nothing of that name"))
    }
}

/// RFC 6901, without the first slash.
fn at<'a>(root: &'a Json, pointer: &str) -> Option<&'a Json> {
    let mut value = root;
    for part in pointer.split('/') {
        value = match value {
            Json::Object(members) => members.get(&part.replace("~1", "/").replace("~0", "~"))?,
            Json::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// %20 is a space.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |place: usize| tail.get(place).and_then(|&digit| char::from(digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// A reference that stands in the document of this URI. Dots in paths are not resolved.
fn resolve(base: &str, reference: &str) -> String {
    let scheme = |uri: &str| uri.find(':').filter(|&end| !uri[..end].contains('/'));
    if scheme(reference).is_some() || base.is_empty() {
        return reference.to_string();
    }
    let host = base.find("//").map_or(0, |slashes| slashes + 2);
    let path = base[host..].find('/').map(|slash| host + slash);
    match (path, base.rfind('/')) {
        (None, _) if host > 0 => format!("{base}/{}", reference.trim_start_matches('/')),
        (Some(path), _) if host > 0 && reference.starts_with('/') => format!("{}{reference}", &base[..path]),
        (_, Some(last)) if !reference.starts_with('/') => format!("{}{reference}", &base[..=last]),
        _ => reference.to_string(),
    }
}
