//! PLUG IN your implementation: this decoder, encoder and framer of a few lines know little more than one event.

use crate::json::{to_base64, Json};
use crate::{rejected, told};

/// What must be refused: a class of docs/spec/errors.md.
pub struct Refused(pub &'static str);

pub const NON_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// PLUG IN your decoder: return the event, or Refused. `reader` is strict or lenient. This one checks the required
/// members of one event, and no others.
pub fn decode(payload: &[u8], _reader: &str) -> Result<Json, Refused> {
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
pub fn encode(event: &Json) -> Result<Vec<u8>, Refused> {
    let payload = event.write();
    Ok([&(payload.len() as u32).to_be_bytes()[..], payload.as_bytes()].concat())
}

/// PLUG IN your frame reader. This one reads connections only.
pub struct Framer {
    pub reader: String,
    pub limit: usize,
    pub buffer: Vec<u8>,
    pub offset: usize,
    pub closed: bool,
}

impl Framer {
    /// Return what these bytes complete: frames and errors, in order.
    pub fn feed(&mut self, data: &[u8]) -> Vec<String> {
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
    pub fn finish(&mut self) -> Vec<String> {
        let rest = std::mem::take(&mut self.buffer);
        if self.closed || rest.is_empty() {
            return Vec::new();
        }
        vec![told(self.offset, Some(rest.len()), &rejected("truncated", false))]
    }
}
