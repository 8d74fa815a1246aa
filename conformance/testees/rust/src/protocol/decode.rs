//! From a payload to an event.

use std::borrow::Cow;

use super::class::Faults;
use super::number;
use super::schema::{self, Member, Presence, Slot};
use super::{Class, Members, Reader, Value, MAX_DEPTH};
use crate::json::{self, Grammar, Json};

/// Read a payload: the event as an object of `t`, `v`, `m` and `p`, or the class of its first fault (ERR-2).
pub fn decode(payload: &[u8], reader: Reader) -> Result<Value, Class> {
    let text = std::str::from_utf8(payload).map_err(|_| Class::BadUtf8)?;
    let grammar = Grammar {
        depth: MAX_DEPTH,
        bare_tokens: reader == Reader::Lenient,
    };
    let json = json::parse(text, grammar)?;
    let envelope = Envelope::of(&json).ok_or(Class::BadEnvelope)?;
    if envelope.version != 1 {
        return Err(Class::UnsupportedVersion);
    }
    let mut decoder = Decoder {
        reader,
        faults: Faults::default(),
    };
    let event = decoder.event(&envelope);
    decoder.faults.verdict().map(|()| event)
}

/// The four members of ENV-1, of which none is missing or unfit.
struct Envelope<'j> {
    version: i64,
    kind: &'j str,
    meta: &'j json::Members<'j>,
    body: &'j json::Members<'j>,
}

impl<'j> Envelope<'j> {
    fn of(json: &'j Json<'j>) -> Option<Self> {
        let members = json.as_object()?;
        let Json::Number(version) = members.get("v")? else {
            return None;
        };
        Some(Envelope {
            version: number::integer(version).ok()?,
            kind: members.get("t")?.as_text()?,
            meta: members.get("m")?.as_object()?,
            body: members.get("p")?.as_object()?,
        })
    }
}

struct Decoder {
    reader: Reader,
    faults: Faults,
}

impl Decoder {
    /// Note a fault. What stands in the value's place doesn't matter any more.
    fn fault(&mut self, class: Class) -> Value {
        self.faults.add(class);
        Value::Null
    }

    fn checked(&mut self, read: Result<Value, Class>) -> Value {
        read.unwrap_or_else(|class| self.fault(class))
    }

    fn event(&mut self, envelope: &Envelope<'_>) -> Value {
        let kind = schema::kind(envelope.kind);
        let meta = self.members(schema::META, envelope.meta);
        if kind.is_some_and(|kind| !kind.is_control) {
            if let Some(Value::Int(..=0)) = meta.get("seq") {
                self.faults.add(Class::OutOfRange); // ENV-4.3
            }
        }
        let body = match kind {
            Some(kind) => self.members(kind.body, envelope.body),
            None => self.map(&Slot::Free, envelope.body), // ENV-5.1
        };
        Value::Object(Members::from([
            ("t".to_owned(), Value::Text(envelope.kind.to_owned())),
            ("v".to_owned(), Value::Int(envelope.version)),
            ("m".to_owned(), Value::Object(meta)),
            ("p".to_owned(), Value::Object(body)),
        ]))
    }

    /// Read an object that the protocol defines. Members that it doesn't know are passed over (ENV-6).
    fn members(&mut self, table: &[Member], object: &json::Members<'_>) -> Members {
        let mut members = Members::new();
        for member in table {
            let is_free = matches!(member.slot, Slot::Free);
            match (object.get(member.name), member.presence) {
                (None, Presence::Required) => self.faults.add(Class::MissingField),
                (None, Presence::Optional) => {}
                (Some(Json::Null), Presence::Required) if !is_free => self.faults.add(Class::BadType),
                (Some(Json::Null), Presence::Optional) if !is_free => {}
                (Some(json), _) => {
                    let value = self.value(&member.slot, json);
                    if !member.takes_as_absent(&value) {
                        members.insert(member.name.to_owned(), value);
                    }
                }
            }
        }
        members
    }

    fn map(&mut self, slot: &Slot, object: &json::Members<'_>) -> Members {
        let read = |(name, json): (&Cow<'_, str>, _)| (name.clone().into_owned(), self.value(slot, json));
        object.iter().map(read).collect()
    }

    fn value(&mut self, slot: &Slot, json: &Json<'_>) -> Value {
        match (slot, json) {
            (Slot::Int, Json::Number(spelling)) => self.checked(number::integer(spelling).map(Value::Int)),
            (Slot::Number, _) => self.number(json),
            (Slot::NumberOrText, Json::Text(text)) => Value::Text(text.clone().into_owned()),
            (Slot::NumberOrText, _) => self.number(json),
            (Slot::Bool, Json::Bool(truth)) => Value::Bool(*truth),
            (Slot::Text | Slot::Checksum | Slot::RunId { .. }, Json::Text(text)) => {
                Value::Text(text.clone().into_owned())
            }
            (Slot::RunId { .. }, Json::Object(object)) => Value::Object(self.members(schema::RUN_ID, object)),
            (Slot::OneOf(set), Json::Text(text)) if set.contains(&text.as_ref()) => {
                Value::Text(text.clone().into_owned())
            }
            (Slot::OneOf(_), Json::Text(_)) => self.fault(Class::BadValue),
            (Slot::Free, _) => self.free(json),
            (Slot::List(slot), Json::List(items)) => {
                Value::List(items.iter().map(|item| self.value(slot, item)).collect())
            }
            (Slot::Tuple(slots), Json::List(items)) if slots.len() == items.len() => {
                let pairs = slots.iter().zip(items);
                Value::List(pairs.map(|(slot, item)| self.value(slot, item)).collect())
            }
            (Slot::Map(slot), Json::Object(object)) => Value::Object(self.map(slot, object)),
            (Slot::Object(table), Json::Object(object)) => Value::Object(self.members(table, object)),
            _ => self.fault(Class::BadType),
        }
    }

    fn number(&mut self, json: &Json<'_>) -> Value {
        match json {
            Json::Number(spelling) => self.checked(number::number(spelling)),
            Json::Token(float) => Value::Float(*float),
            Json::Bool(truth) if self.reader == Reader::Lenient => Value::Int(i64::from(*truth)),
            Json::Text(name) => self.checked(number::non_finite(name).map(Value::Float).ok_or(Class::BadType)),
            _ => self.fault(Class::BadType),
        }
    }

    fn free(&mut self, json: &Json<'_>) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(spelling) => self.checked(number::number(spelling)),
            Json::Token(float) => Value::Float(*float),
            Json::Text(text) => Value::Text(text.clone().into_owned()),
            Json::List(items) => Value::List(items.iter().map(|item| self.free(item)).collect()),
            Json::Object(object) => match tagged_float(object) {
                Some(float) => Value::Float(float),
                None => Value::Object(self.map(&Slot::Free, object)),
            },
        }
    }
}

/// The number that `{"$float": name}` stands for, where the object is exactly that (VAL-4.3).
fn tagged_float(object: &json::Members<'_>) -> Option<f64> {
    if object.len() != 1 {
        return None;
    }
    number::non_finite(object.get("$float")?.as_text()?)
}
