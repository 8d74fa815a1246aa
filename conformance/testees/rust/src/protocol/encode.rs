//! From an event to a frame, in the writer's form (ENV-7).

use super::class::Faults;
use super::decode::decode;
use super::number;
use super::schema::{self, Kind, Member, Slot};
use super::{Class, Members, Reader, Value, MAX_PAYLOAD};
use crate::json::{write_float, write_string};

/// Write the frame of an event, or refuse an event that no frame may hold.
pub fn encode(event: &Value) -> Result<Vec<u8>, Class> {
    let envelope = event.as_object().ok_or(Class::BadEnvelope)?;
    let member = |name| envelope.get(name).ok_or(Class::BadEnvelope);
    let name = member("t")?.as_text().ok_or(Class::BadEnvelope)?;
    let meta = member("m")?.as_object().ok_or(Class::BadEnvelope)?;
    let body = member("p")?.as_object().ok_or(Class::BadEnvelope)?;
    match member("v")? {
        Value::Int(1) => {}
        Value::Int(_) => return Err(Class::UnsupportedVersion),
        _ => return Err(Class::BadEnvelope),
    }
    let kind = schema::kind(name);
    if kind.is_some_and(|kind| kind.is_control) {
        check_control(meta)?;
    }
    let mut writer = Writer::default();
    writer.event(name, kind, meta, body);
    writer.faults.verdict()?;
    frame(writer.out.into_bytes())
}

/// A control event is written with seq 0 and without `sid` (CTL-1).
fn check_control(meta: &Members) -> Result<(), Class> {
    match (meta.get("seq"), meta.get("sid")) {
        (Some(Value::Int(seq)), _) if *seq != 0 => Err(Class::OutOfRange),
        (_, Some(Value::Text(sid))) if !sid.is_empty() => Err(Class::BadValue),
        _ => Ok(()),
    }
}

/// Put the length before a payload, once a strict reader has accepted it: what is missing, unfit or nested too deep is
/// judged in one place for both directions.
fn frame(payload: Vec<u8>) -> Result<Vec<u8>, Class> {
    decode(&payload, Reader::Strict)?;
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if length > MAX_PAYLOAD {
        return Err(Class::FrameTooLarge);
    }
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(payload);
    Ok(frame)
}

#[derive(Default)]
struct Writer {
    out: String,
    faults: Faults,
}

impl Writer {
    fn event(&mut self, name: &str, kind: Option<&Kind>, meta: &Members, body: &Members) {
        self.out.push_str("{\"t\":");
        write_string(&mut self.out, name);
        self.out.push_str(",\"v\":1,\"m\":");
        self.members(schema::META, meta);
        self.out.push_str(",\"p\":");
        match kind {
            Some(kind) => self.members(kind.body, body),
            None => self.map(body, Self::free),
        }
        self.out.push('}');
    }

    /// Write an object that the protocol defines, in the order of its table and without what is absent (JSN-6.4).
    fn members(&mut self, table: &[Member], object: &Members) {
        let present = table.iter().filter_map(|member| {
            let value = object.get(member.name)?;
            let is_absent = matches!(value, Value::Null) && !matches!(member.slot, Slot::Free);
            (!is_absent && !member.takes_as_absent(value)).then_some((member, value))
        });
        self.sequence('{', present, '}', |writer, (member, value)| {
            writer.name(member.name);
            writer.value(&member.slot, value);
        });
    }

    fn map(&mut self, object: &Members, write: impl Fn(&mut Self, &Value)) {
        self.sequence('{', object, '}', |writer, (name, value)| {
            writer.name(name);
            write(writer, value);
        });
    }

    fn list<'v>(&mut self, items: impl IntoIterator<Item = &'v Value>, write: impl Fn(&mut Self, &Value)) {
        self.sequence('[', items, ']', |writer, item| write(writer, item));
    }

    fn sequence<I: IntoIterator>(&mut self, open: char, items: I, close: char, write: impl Fn(&mut Self, I::Item)) {
        self.out.push(open);
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            write(self, item);
        }
        self.out.push(close);
    }

    fn name(&mut self, name: &str) {
        write_string(&mut self.out, name);
        self.out.push(':');
    }

    fn value(&mut self, slot: &Slot, value: &Value) {
        match (slot, value) {
            (Slot::Int, Value::Int(integer)) => self.integer(*integer),
            (Slot::Number, Value::Float(float)) => self.float(*float),
            (Slot::NumberOrText, Value::Float(float)) if float.is_finite() => self.float(*float),
            // As a string it would be read as that string (EVT-RUN_START-5.1).
            (Slot::NumberOrText, Value::Float(_)) => self.faults.add(Class::OutOfRange),
            (Slot::Number | Slot::NumberOrText, Value::Int(integer)) => self.integer(*integer),
            (Slot::Number | Slot::NumberOrText, Value::Bool(truth)) => self.integer(i64::from(*truth)), // VAL-2.10
            (Slot::Bool, Value::Bool(truth)) => self.boolean(*truth),
            (Slot::Text | Slot::OneOf(_) | Slot::NumberOrText, Value::Text(text)) => write_string(&mut self.out, text),
            (Slot::Checksum, Value::Text(text)) => self.checksum(text),
            (Slot::RunId { .. }, Value::Text(text)) => write_string(&mut self.out, text),
            (Slot::RunId { of_start }, Value::Object(object)) => self.run_id(object, *of_start),
            (Slot::Free, _) => self.free(value),
            (Slot::List(slot), Value::List(items)) => self.list(items, |writer, item| writer.value(slot, item)),
            (Slot::Tuple(slots), Value::List(items)) if slots.len() == items.len() => {
                self.sequence('[', slots.iter().zip(items), ']', |writer, (slot, item)| {
                    writer.value(slot, item)
                });
            }
            (Slot::Map(slot), Value::Object(object)) => self.map(object, |writer, item| writer.value(slot, item)),
            (Slot::Object(table), Value::Object(object)) => self.members(table, object),
            _ => self.faults.add(Class::BadType),
        }
    }

    /// A run id is written as a string, but in a `run_start` with an experiment or a parent (EVT-1.5, EVT-1.6).
    fn run_id(&mut self, object: &Members, of_start: bool) {
        let is_given = |name| !matches!(object.get(name), None | Some(Value::Null));
        if is_given("exp_id") || is_given("parent_id") {
            if !of_start {
                return self.faults.add(Class::BadType); // no form can hold it (EVT-1.5, ENV-7.4)
            }
            return self.members(schema::RUN_ID, object);
        }
        match object.get("id") {
            Some(Value::Text(id)) => write_string(&mut self.out, id),
            Some(_) => self.faults.add(Class::BadType),
            None => self.faults.add(Class::MissingField),
        }
    }

    fn free(&mut self, value: &Value) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(truth) => self.boolean(*truth),
            Value::Int(integer) => self.integer(*integer),
            Value::Float(float) if float.is_finite() => self.float(*float),
            Value::Float(float) => {
                self.out.push_str("{\"$float\":");
                self.float(*float);
                self.out.push('}');
            }
            Value::Text(text) => write_string(&mut self.out, text),
            Value::List(items) => self.list(items, Self::free),
            Value::Object(object) => {
                if is_reserved(object) {
                    self.faults.add(Class::BadValue);
                }
                self.map(object, Self::free);
            }
        }
    }

    fn boolean(&mut self, truth: bool) {
        self.out.push_str(if truth { "true" } else { "false" });
    }

    fn integer(&mut self, integer: i64) {
        self.out.push_str(&integer.to_string());
    }

    /// Write a number as number slots have it (VAL-3).
    fn float(&mut self, float: f64) {
        match number::name_of(float) {
            Some(name) => write_string(&mut self.out, name),
            None => write_float(&mut self.out, float),
        }
    }

    /// Write a SHA-256 with its prefix and in lower case (VAL-8), and any other checksum as it is.
    fn checksum(&mut self, text: &str) {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            write_string(&mut self.out, &format!("sha256:{}", digits.to_ascii_lowercase()));
        } else {
            write_string(&mut self.out, text);
        }
    }
}

/// Whether an object would be read as a number: the form of VAL-4.2, which is for numbers alone (VAL-4.5).
fn is_reserved(object: &Members) -> bool {
    let name = object.get("$float").and_then(Value::as_text);
    object.len() == 1 && name.is_some_and(|name| number::non_finite(name).is_some())
}
