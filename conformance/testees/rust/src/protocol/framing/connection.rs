//! Frames on a connection: what follows a length that is no length can't be found again (FRM-5).

use super::buffer::Buffer;
use super::{header, Framer, Header, Outcome, State, Yielded};
use crate::protocol::decode::decode;
use crate::protocol::{Class, Reader};

#[derive(Debug)]
pub struct Connection {
    reader: Reader,
    limit: u32,
    buffer: Buffer,
    is_closed: bool,
}

impl Connection {
    pub fn new(reader: Reader, limit: u32) -> Self {
        Connection {
            reader,
            limit,
            buffer: Buffer::default(),
            is_closed: false,
        }
    }

    /// The next frame or error, if what has come holds all of it.
    fn next(&mut self) -> Option<Yielded> {
        if self.is_closed {
            return None;
        }
        let rest = self.buffer.rest();
        let payload = match header(rest, self.limit) {
            Header::Incomplete => return None,
            Header::Refused { class, .. } => {
                self.is_closed = true;
                return Some(self.error(class, None));
            }
            Header::Length(length) => rest.get(4..4 + length)?,
        };
        let length = 4 + payload.len();
        let yielded = match decode(payload, self.reader) {
            Ok(_) => Yielded {
                offset: self.buffer.offset(),
                length: Some(length as u64),
                is_verified: true,
                outcome: Outcome::Accepted(payload.to_vec()),
            },
            Err(class) => self.error(class, Some(length as u64)),
        };
        self.buffer.skip(length);
        Some(yielded)
    }

    /// An error at the present position; one without an end is fatal.
    fn error(&self, class: Class, length: Option<u64>) -> Yielded {
        Yielded {
            offset: self.buffer.offset(),
            length,
            is_verified: true,
            outcome: Outcome::Refused {
                class,
                is_fatal: length.is_none(),
            },
        }
    }
}

impl Framer for Connection {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Yielded> {
        if self.is_closed {
            return Vec::new();
        }
        self.buffer.push(bytes);
        std::iter::from_fn(|| self.next()).collect()
    }

    fn finish(&mut self) -> Vec<Yielded> {
        if std::mem::replace(&mut self.is_closed, true) || self.buffer.rest().is_empty() {
            return Vec::new();
        }
        let left = self.buffer.rest().len();
        vec![self.error(Class::Truncated, Some(left as u64))]
    }

    fn state(&self) -> State {
        if self.is_closed {
            State::Closed
        } else if self.buffer.rest().is_empty() {
            State::Between
        } else {
            State::NeedMore
        }
    }
}
