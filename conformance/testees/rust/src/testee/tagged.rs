//! Values with their types, as they cross between the suite and the testee.

use super::Otherwise;
use crate::json::{write_string, Json};
use crate::protocol::{Class, Members, Value};

/// Read a tagged value. An integer beyond int64, which this implementation can't hold, is refused here.
pub fn read(json: &Json<'_>) -> Result<Value, Otherwise> {
    let unfit = || Otherwise::internal("a tagged value has no such form");
    let members = json.as_object().ok_or_else(unfit)?;
    let tag = members.get("t").and_then(Json::as_text).ok_or_else(unfit)?;
    let content = members.get("v").unwrap_or(&Json::Null);
    match (tag, content) {
        ("null", _) => Ok(Value::Null),
        ("bool", Json::Bool(truth)) => Ok(Value::Bool(*truth)),
        ("int", Json::Text(digits)) => match digits.parse() {
            Ok(integer) => Ok(Value::Int(integer)),
            Err(_) => Err(Class::OutOfRange.into()),
        },
        ("float", Json::Text(bits)) => {
            let bits = u64::from_str_radix(bits, 16).map_err(|_| unfit())?;
            Ok(Value::Float(f64::from_bits(bits)))
        }
        ("str", Json::Text(text)) => Ok(Value::Text(text.clone().into_owned())),
        ("utf16", _) => Err(Otherwise::Unsupported("lone_surrogates")),
        ("list", Json::List(items)) => Ok(Value::List(items.iter().map(read).collect::<Result<_, _>>()?)),
        ("obj", Json::List(pairs)) => {
            let read_pair = |pair: &Json<'_>| match pair.as_list() {
                Some([Json::Text(name), value]) => Ok((name.clone().into_owned(), read(value)?)),
                _ => Err(unfit()),
            };
            Ok(Value::Object(
                pairs.iter().map(read_pair).collect::<Result<Members, _>>()?,
            ))
        }
        _ => Err(unfit()),
    }
}

/// Append a value with its types.
pub fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str(r#"{"t":"null"}"#),
        Value::Bool(truth) => out.push_str(&format!(r#"{{"t":"bool","v":{truth}}}"#)),
        Value::Int(integer) => out.push_str(&format!(r#"{{"t":"int","v":"{integer}"}}"#)),
        Value::Float(float) => out.push_str(&format!(r#"{{"t":"float","v":"{:016x}"}}"#, float.to_bits())),
        Value::Text(text) => {
            out.push_str(r#"{"t":"str","v":"#);
            write_string(out, text);
            out.push('}');
        }
        Value::List(items) => {
            out.push_str(r#"{"t":"list","v":["#);
            for (index, item) in items.iter().enumerate() {
                separate(out, index);
                write(out, item);
            }
            out.push_str("]}");
        }
        Value::Object(members) => {
            out.push_str(r#"{"t":"obj","v":["#);
            for (index, (name, item)) in members.iter().enumerate() {
                separate(out, index);
                out.push('[');
                write_string(out, name);
                out.push(',');
                write(out, item);
                out.push(']');
            }
            out.push_str("]}");
        }
    }
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}
