//! The sessions of the framer.

use std::collections::HashMap;

use super::{base64, Otherwise, Request};
use crate::protocol::framing::{Connection, Framer, Outcome, Recording, State, Yielded, CONNECTION_LIMIT};
use crate::protocol::MAX_PAYLOAD;

#[derive(Default)]
pub struct Sessions(HashMap<String, Box<dyn Framer>>);

impl Sessions {
    pub fn feed(&mut self, request: &Request<'_>) -> Result<String, Otherwise> {
        let bytes = request.bytes("bytes")?;
        let framer = self.of(request)?;
        let yielded = framer.feed(&bytes);
        Ok(told(&yielded, framer.state()))
    }

    pub fn finish(&mut self, request: &Request<'_>) -> Result<String, Otherwise> {
        let framer = self.of(request)?;
        let yielded = framer.finish();
        let answer = told(&yielded, framer.state());
        self.0.remove(request.text("session")?);
        Ok(answer)
    }

    /// The framer of a request's session, which the first request opens.
    fn of(&mut self, request: &Request<'_>) -> Result<&mut dyn Framer, Otherwise> {
        let name = request.text("session")?;
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), open(request)?);
        }
        match self.0.get_mut(name) {
            Some(framer) => Ok(framer.as_mut()),
            None => Err(Otherwise::internal("the session was not opened")),
        }
    }
}

fn open(request: &Request<'_>) -> Result<Box<dyn Framer>, Otherwise> {
    let reader = request.reader()?;
    let configured = request.integer("limit")?.map(|limit| limit.min(MAX_PAYLOAD));
    match request.text("source")? {
        "connection" => Ok(Box::new(Connection::new(
            reader,
            configured.unwrap_or(CONNECTION_LIMIT),
        ))),
        "recording" => Ok(Box::new(Recording::new(
            reader,
            configured.unwrap_or(MAX_PAYLOAD),
            request.is_set("stop_at_damage"),
        ))),
        other => Err(Otherwise::internal(format!("there is no source `{other}`"))),
    }
}

fn told(yielded: &[Yielded], state: State) -> String {
    let frames: Vec<String> = yielded.iter().map(frame).collect();
    let state = match state {
        State::Between => "between",
        State::NeedMore => "need-more",
        State::Closed => "closed",
    };
    format!("\"frames\":[{}],\"state\":\"{state}\"", frames.join(","))
}

fn frame(yielded: &Yielded) -> String {
    let length = yielded
        .length
        .map_or_else(|| "null".to_owned(), |length| length.to_string());
    let outcome = match &yielded.outcome {
        Outcome::Accepted(payload) => format!("\"payload\":\"{}\"", base64::encode(payload)),
        Outcome::Refused { class, is_fatal } => {
            format!("\"rejected\":{{\"class\":\"{}\",\"fatal\":{is_fatal}}}", class.name())
        }
    };
    format!(
        "{{\"offset\":{},\"length\":{length},{outcome},\"verified\":{}}}",
        yielded.offset, yielded.is_verified
    )
}
