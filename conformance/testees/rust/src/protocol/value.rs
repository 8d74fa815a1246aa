//! Values as the implementation holds them.

use std::collections::BTreeMap;

/// The members of an object by name; their order means nothing (VAL-9.7).
pub type Members = BTreeMap<String, Value>;

/// A value of an event: integers are int64, floats binary64, whatever slot they stand in.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Object(Members),
}

impl Value {
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Members> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }
}
