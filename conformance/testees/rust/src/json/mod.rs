//! JSON text: reading it into a tree that keeps numbers as they were spelled, and writing it.

mod read;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use read::{parse, Grammar, Malformed};
pub use write::{write_float, write_string};

/// The members of an object. Of a name given twice the last value is kept (JSN-5).
pub type Members<'a> = BTreeMap<Cow<'a, str>, Json<'a>>;

/// A JSON value. What a number is depends on the slot it stands in, so it is kept as text.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    /// One of the bare tokens `NaN`, `Infinity` and `-Infinity`, which are no JSON (JSN-7).
    Token(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Members<'a>),
}

impl<'a> Json<'a> {
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Json<'a>]> {
        match self {
            Json::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Members<'a>> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }
}
