//! A testee: answers the conformance suite of XTrack for an implementation.
//!
//!     cargo build --release
//!     python -m xtrack_conformance smoke -- target/release/testee
//!
//! Beside it lies implementation.rs. Put your own in its place; the rest can stay.
//! docs/reference/testee-protocol.md tells what each line means.

mod implementation;
mod json;

use std::collections::HashMap;
use std::io::{self, BufRead, Write as _};

use implementation::{decode, encode, Framer, Refused, NON_FINITE};
use json::{from_base64, quoted, to_base64, Json};

/// PLUG IN who you are, and what you have: recording, limits, stop_at_damage, lone_surrogates.
const HELLO: &str = r#""impl":{"name":"my-xtrack","version":"0.1","language":"Rust"},"protocol":[1],
    "roles":["encoder","decoder","framer"],"capabilities":{"strict":true,"lenient":true},"max_in_flight":16"#;

fn main() {
    let mut sessions = HashMap::new();
    for line in io::stdin().lock().lines() {
        let request = line.ok().and_then(|line| Json::read(&line)).expect("a line of JSON");
        let members = answer(&request, &mut sessions).unwrap_or_else(|Refused(class)| rejected(class, false));
        let id = request.get("id").map(Json::write).unwrap_or_default();
        let line = format!("{{\"id\":{id},{}}}\n", members.replace('\n', ""));
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("somebody reads");
    }
}

/// Return the members of the answer.
fn answer(request: &Json, sessions: &mut HashMap<String, Framer>) -> Result<String, Refused> {
    match request.text("op") {
        "hello" => Ok(HELLO.to_string()),
        "decode" => {
            let event = decode(&from_base64(request.text("payload")), request.text("reader"))?;
            Ok(format!(r#""event":{}"#, tagged(&event, "")))
        }
        "encode" => {
            let event = untagged(request.get("event").expect("an event"));
            Ok(format!(r#""frame":"{}""#, to_base64(&encode(&event)?)))
        }
        op @ ("frame.feed" | "frame.finish") => {
            let limit = match request.get("limit") {
                Some(Json::Number(digits)) => digits.parse().expect("a count"),
                _ => 1_048_576,
            };
            let framer = sessions.entry(request.text("session").to_string()).or_insert_with(|| Framer {
                reader: request.text("reader").to_string(),
                limit,
                buffer: Vec::new(),
                offset: 0,
                closed: false,
            });
            let bytes = from_base64(request.text("bytes"));
            let frames = if op == "frame.feed" { framer.feed(&bytes) } else { framer.finish() };
            let state = match (framer.closed, framer.buffer.is_empty()) {
                (true, _) => "closed",
                (false, true) => "between",
                (false, false) => "need-more",
            };
            Ok(format!(r#""frames":[{}],"state":"{state}""#, frames.join(",")))
        }
        op => Ok(format!(r#""unsupported":{{"capability":{}}}"#, quoted(op))),
    }
}

fn rejected(class: &str, fatal: bool) -> String {
    format!(r#""rejected":{{"class":"{class}","fatal":{fatal}}}"#)
}

fn told(offset: usize, length: Option<usize>, what: &str) -> String {
    let length = length.map_or("null".to_string(), |length| length.to_string());
    format!(r#"{{"offset":{offset},"length":{length},{what}}}"#)
}

/// A value with its type, so that 1, 1.0 and true stay apart on their way. `name`: of the member that it stands in.
fn tagged(value: &Json, name: &str) -> String {
    let float = |value: f64| format!(r#"{{"t":"float","v":"{:016x}"}}"#, value.to_bits());
    match value {
        Json::Null => r#"{"t":"null"}"#.to_string(),
        Json::Bool(value) => format!(r#"{{"t":"bool","v":{value}}}"#),
        Json::Number(digits) if digits.contains(['.', 'e', 'E']) => float(digits.parse().expect("a number")),
        Json::Number(digits) => format!(r#"{{"t":"int","v":"{digits}"}}"#),
        Json::Text(text) if name == "value" && NON_FINITE.contains(&text.as_str()) => {
            float(text.replace("Infinity", "inf").parse().expect("a number"))
        }
        Json::Text(text) => format!(r#"{{"t":"str","v":{}}}"#, quoted(text)),
        Json::List(items) => {
            let items: Vec<_> = items.iter().map(|item| tagged(item, "")).collect();
            format!(r#"{{"t":"list","v":[{}]}}"#, items.join(","))
        }
        Json::Object(pairs) => {
            let pair = |(name, item): &(String, Json)| format!("[{},{}]", quoted(name), tagged(item, name));
            format!(r#"{{"t":"obj","v":[{}]}}"#, pairs.iter().map(pair).collect::<Vec<_>>().join(","))
        }
    }
}

fn untagged(tagged: &Json) -> Json {
    match (tagged.text("t"), tagged.get("v")) {
        ("int", Some(Json::Text(digits))) => Json::Number(digits.clone()),
        ("float", Some(Json::Text(bits))) => {
            let value = f64::from_bits(u64::from_str_radix(bits, 16).expect("64 bits"));
            match value.is_finite() {
                true => Json::Number(format!("{value:?}")),
                // A number that JSON doesn't have goes as a string.
                false => Json::Text(value.to_string().replace("inf", "Infinity")),
            }
        }
        ("list", Some(Json::List(items))) => Json::List(items.iter().map(untagged).collect()),
        ("obj", Some(Json::List(pairs))) => {
            let pair = |pair: &Json| match pair {
                Json::List(pair) => (pair[0].as_text().to_string(), untagged(&pair[1])),
                _ => panic!("no pair"),
            };
            Json::Object(pairs.iter().map(pair).collect())
        }
        (_, value) => value.cloned().unwrap_or(Json::Null),
    }
}
