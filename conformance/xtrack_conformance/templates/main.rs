//! A testee: answers the conformance suite of XTrack for an implementation.
//!
//!     cargo build --release
//!     python -m xtrack_conformance smoke -- target/release/testee
//!
//! The decoder, the encoder and the framer below are of a few lines and know little more than one event. Put your own
//! in their place, where it says PLUG IN; the rest can stay. docs/reference/testee-protocol.md tells what each line
//! means.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};

/// What must be refused: a class of docs/spec/errors.md.
struct Refused(&'static str);

// ---------------------------------------------------------------------------- the implementation

const NON_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// PLUG IN your decoder: return the event, or Refused. `reader` is strict or lenient. This one checks the required
/// members of one event, and no others.
fn decode(payload: &[u8], _reader: &str) -> Result<Json, Refused> {
    let text = std::str::from_utf8(payload).map_err(|_| Refused("bad_utf8"))?;
    let event = Json::read(text).ok_or(Refused("bad_json"))?;
    if ["t", "v", "m", "p"].iter().any(|name| event.get(name).map_or(true, |value| *value == Json::Null)) {
        return Err(Refused("bad_envelope"));
    }
    if event.text("t") == "metric" {
        for name in ["run_id", "key", "value"] {
            let fits = match (name, event.get("p").and_then(|body| body.get(name))) {
                (_, None) => return Err(Refused("missing_field")),
                ("value", Some(Json::Number(_))) => true,
                ("value", Some(Json::Text(text))) => NON_FINITE.contains(&text.as_str()),
                (_, Some(value)) => name != "value" && matches!(value, Json::Text(_)),
            };
            if !fits {
                return Err(Refused("bad_type"));
            }
        }
    }
    Ok(event)
}

/// PLUG IN your encoder: return the whole frame, or Refused.
fn encode(event: &Json) -> Result<Vec<u8>, Refused> {
    let payload = event.write();
    Ok([&(payload.len() as u32).to_be_bytes()[..], payload.as_bytes()].concat())
}

/// PLUG IN your frame reader. This one reads connections only.
struct Framer {
    reader: String,
    limit: usize,
    buffer: Vec<u8>,
    offset: usize,
    closed: bool,
}

impl Framer {
    /// Return what these bytes complete: frames and errors, in order.
    fn feed(&mut self, data: &[u8]) -> Vec<String> {
        self.buffer.extend_from_slice(data);
        let mut found = Vec::new();
        while self.buffer.len() >= 4 && !self.closed {
            let size = u32::from_be_bytes(self.buffer[..4].try_into().unwrap()) as usize;
            if size == 0 || size > self.limit {
                self.closed = true; // no way to know where the next frame begins
                let class = if size == 0 { "empty_frame" } else { "frame_too_large" };
                found.push(told(self.offset, None, &rejected(class, true)));
            } else if self.buffer.len() < 4 + size {
                break;
            } else {
                let what = match decode(&self.buffer[4..4 + size], &self.reader) {
                    Ok(_) => format!(r#""payload":"{}""#, to_base64(&self.buffer[4..4 + size])),
                    Err(Refused(class)) => rejected(class, false),
                };
                found.push(told(self.offset, Some(4 + size), &what));
                self.buffer.drain(..4 + size);
                self.offset += 4 + size;
            }
        }
        found
    }

    /// Return what is left at the end: an error, inside of a frame.
    fn finish(&mut self) -> Vec<String> {
        let rest = std::mem::take(&mut self.buffer);
        if self.closed || rest.is_empty() {
            return Vec::new();
        }
        vec![told(self.offset, Some(rest.len()), &rejected("truncated", false))]
    }
}

// ---------------------------------------------------------------------------- the testee

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

fn from_base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let six = BASE64.iter().position(|other| *other == letter).expect("base64");
        (bits, count) = (bits << 6 | six as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() { BASE64[six] as char } else { '=' });
        }
    }
    text
}

// ---------------------------------------------------------------------------- JSON, without a crate

#[derive(Clone, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn read(text: &str) -> Option<Json> {
        let mut scan = Scan { text, at: 0 };
        let value = scan.value()?;
        scan.space();
        (scan.at == text.len()).then_some(value)
    }

    fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> &str {
        self.get(name).map_or("", Json::as_text)
    }

    fn as_text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            _ => "",
        }
    }

    fn write(&self) -> String {
        match self {
            Json::Null => "null".to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Number(digits) => digits.clone(),
            Json::Text(text) => quoted(text),
            Json::List(items) => format!("[{}]", items.iter().map(Json::write).collect::<Vec<_>>().join(",")),
            Json::Object(pairs) => {
                let pair = |(name, value): &(String, Json)| format!("{}:{}", quoted(name), value.write());
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let mut found = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => found.extend(['\\', letter]),
            '\0'..='\x1f' => write!(found, "\\u{:04x}", letter as u32).expect("memory"),
            _ => found.push(letter),
        }
    }
    found + "\""
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn space(&mut self) {
        self.span(|letter| matches!(letter, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn span(&mut self, fits: impl Fn(u8) -> bool) -> usize {
        let size = self.text.as_bytes()[self.at..].iter().take_while(|letter| fits(**letter)).count();
        self.at += size;
        size
    }

    /// Take `mark` if it comes next.
    fn take(&mut self, mark: &str) -> bool {
        let found = self.text[self.at..].starts_with(mark);
        self.at += if found { mark.len() } else { 0 };
        found
    }

    fn value(&mut self) -> Option<Json> {
        self.space();
        if self.take("null") {
            Some(Json::Null)
        } else if self.take("true") {
            Some(Json::Bool(true))
        } else if self.take("false") {
            Some(Json::Bool(false))
        } else if self.take("[") {
            self.items("]", Scan::value).map(Json::List)
        } else if self.take("{") {
            let pair = |scan: &mut Self| {
                scan.space();
                let name = scan.take("\"").then(|| scan.string())??;
                scan.space();
                Some((name, scan.take(":").then(|| scan.value())??))
            };
            self.items("}", pair).map(Json::Object)
        } else if self.take("\"") {
            self.string().map(Json::Text)
        } else {
            self.number()
        }
    }

    fn items<T>(&mut self, close: &str, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut found = Vec::new();
        self.space();
        if self.take(close) {
            return Some(found);
        }
        loop {
            found.push(read(self)?);
            self.space();
            if self.take(close) {
                return Some(found);
            }
            self.take(",").then_some(())?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let (start, digit) = (self.at, |letter: u8| letter.is_ascii_digit());
        self.take("-");
        let _ = self.take("0") || self.span(digit) > 0 || return None;
        let _ = !self.take(".") || self.span(digit) > 0 || return None;
        if self.take("e") || self.take("E") {
            let _ = self.take("-") || self.take("+");
            let _ = self.span(digit) > 0 || return None;
        }
        Some(Json::Number(self.text[start..self.at].to_string()))
    }

    fn string(&mut self) -> Option<String> {
        let mut found = String::new();
        loop {
            let start = self.at;
            self.span(|letter| letter >= b' ' && letter != b'"' && letter != b'\\');
            found.push_str(&self.text[start..self.at]);
            if self.take("\"") {
                return Some(found);
            }
            self.take("\\").then_some(())?;
            let letter = self.text[self.at..].chars().next()?;
            self.at += letter.len_utf8();
            found.push(match letter {
                '"' | '\\' | '/' => letter,
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => match self.unit()? {
                    high @ 0xD800..=0xDBFF => {
                        let low = self.take("\\u").then(|| self.unit())??;
                        char::from_u32(0x10000 + ((high - 0xD800) << 10) + low.checked_sub(0xDC00)?)?
                    }
                    unit => char::from_u32(unit)?,
                },
                _ => return None,
            });
        }
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}
