//! Frames in a recording: behind damage the next plausible frame is looked for (FRM-6).
//!
//! What is kept of the recording is bounded by the limit of a frame: in the search nothing before the place that is
//! looked at. It is linear: a payload that is looked at holds no byte `00` before the one that ends the attempt, so
//! another attempt on the same bytes can only begin in the three bytes before it.

use super::buffer::Buffer;
use super::{header, Framer, Header, Outcome, State, Yielded};
use crate::protocol::decode::decode;
use crate::protocol::{Class, Reader};

#[derive(Debug)]
pub struct Recording {
    reader: Reader,
    limit: u32,
    stops_at_damage: bool,
    buffer: Buffer,
    /// How many bytes of the payload at hand are known to be none `00`.
    searched: usize,
    /// Why the payload at hand was refused, while what follows it is waited for.
    refused: Option<Class>,
    lost: Option<Lost>,
    is_verified: bool,
    has_ended: bool,
    is_closed: bool,
}

/// A frame at which the position was lost.
#[derive(Debug, Clone, Copy)]
struct Lost {
    class: Class,
    offset: u64,
    /// Where it said that it would end.
    end: Option<u64>,
}

/// What can be said of the bytes at a place, as far as they have come.
enum Sight {
    /// More bytes are needed.
    Open,
    No,
    Yes,
}

impl Recording {
    pub fn new(reader: Reader, limit: u32, stops_at_damage: bool) -> Self {
        Recording {
            reader,
            limit,
            stops_at_damage,
            buffer: Buffer::default(),
            searched: 0,
            refused: None,
            lost: None,
            is_verified: true,
            has_ended: false,
            is_closed: false,
        }
    }

    /// All that can be told by now.
    fn yielded(&mut self) -> Vec<Yielded> {
        let mut all = Vec::new();
        while let Some(yielded) = self.next() {
            let is_error = matches!(yielded.outcome, Outcome::Refused { .. });
            all.push(yielded);
            if is_error && self.stops_at_damage {
                self.is_closed = true;
                break;
            }
        }
        all
    }

    fn next(&mut self) -> Option<Yielded> {
        if self.lost.is_none() {
            if let Some(yielded) = self.read() {
                return Some(yielded);
            }
        }
        self.lost.and_then(|lost| self.search(lost))
    }

    /// Read the frame at the present position. None: more bytes are needed, or the position was lost.
    fn read(&mut self) -> Option<Yielded> {
        let rest = self.buffer.rest();
        if rest.is_empty() || (rest.len() < 4 && !self.has_ended) {
            return None;
        }
        let length = match header(rest, self.limit) {
            Header::Length(length) => length,
            Header::Incomplete => return self.lose(Class::Truncated, None),
            Header::Refused { class, announced } => return self.lose(class, announced),
        };
        let announced = Some(length as u64);
        if self.meets_zero(length) {
            return self.lose(Class::BadJson, announced); // FRM-6.4
        }
        let Some((payload, behind)) = self.buffer.rest()[4..].split_at_checked(length) else {
            if self.has_ended {
                self.lose(Class::Truncated, announced);
            }
            return None;
        };
        let outcome = match self.refused.map_or_else(|| decode(payload, self.reader), Err) {
            Ok(_) => Outcome::Accepted(payload.to_vec()),
            Err(class) => {
                if class.is_of_text() {
                    match self.seems_to_begin(behind) {
                        Sight::Yes => {}
                        Sight::No => return self.lose(class, announced),
                        Sight::Open => {
                            self.refused = Some(class);
                            return None;
                        }
                    }
                }
                Outcome::Refused { class, is_fatal: false }
            }
        };
        let yielded = Yielded {
            offset: self.buffer.offset(),
            length: Some(4 + length as u64),
            is_verified: self.is_verified,
            outcome,
        };
        self.leave(4 + length);
        Some(yielded)
    }

    /// FRM-6.2.
    fn seems_to_begin(&self, behind: &[u8]) -> Sight {
        match behind {
            [] if self.has_ended => Sight::Yes,
            [_, _, _, _, first, ..] => match header(behind, self.limit) {
                Header::Length(_) if begins_text(*first) => Sight::Yes,
                _ => Sight::No,
            },
            _ if self.has_ended => Sight::No,
            _ => Sight::Open,
        }
    }

    /// Give the position up; the search begins one byte further on (FRM-6.5).
    fn lose(&mut self, class: Class, announced: Option<u64>) -> Option<Yielded> {
        let offset = self.buffer.offset();
        self.lost = Some(Lost {
            class,
            offset,
            end: announced.map(|length| offset + 4 + length),
        });
        self.leave(1);
        None
    }

    /// Look for the next plausible frame, and tell what was lost before it. None: more bytes are needed.
    fn search(&mut self, lost: Lost) -> Option<Yielded> {
        loop {
            let rest = self.buffer.rest();
            let text = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            if text > 0 {
                self.leave(text);
            }
            if self.buffer.rest().is_empty() {
                if self.has_ended {
                    break;
                }
                return None;
            }
            match self.is_plausible() {
                Sight::Open => return None,
                Sight::No => self.leave(1),
                Sight::Yes => break,
            }
        }
        let here = self.buffer.offset();
        let yielded = Yielded {
            offset: lost.offset,
            length: Some(here - lost.offset),
            is_verified: self.is_verified,
            outcome: Outcome::Refused {
                class: lost.class,
                is_fatal: false,
            },
        };
        self.lost = None;
        if lost.end != Some(here) {
            self.is_verified = false; // FRM-6.10; at the end of the recording no frame follows
        }
        Some(yielded)
    }

    /// FRM-6.6, at the present position.
    fn is_plausible(&mut self) -> Sight {
        let unknown = if self.has_ended { Sight::No } else { Sight::Open };
        let rest = self.buffer.rest();
        let length = match header(rest, self.limit) {
            Header::Length(length) => length,
            Header::Incomplete => return unknown,
            Header::Refused { .. } => return Sight::No,
        };
        if rest.get(4).is_some_and(|first| !begins_text(*first)) || self.meets_zero(length) {
            return Sight::No;
        }
        match self.buffer.rest().get(4..4 + length) {
            None => unknown,
            Some(payload) => match decode(payload, self.reader) {
                Err(class) if class.is_of_text() => Sight::No,
                _ => Sight::Yes,
            },
        }
    }

    /// Whether what has come of the payload at hand holds a byte `00`. What was seen once is not looked at again.
    fn meets_zero(&mut self, length: usize) -> bool {
        let come = &self.buffer.rest()[4..];
        let come = &come[..come.len().min(length)];
        let meets = come[self.searched..].contains(&0);
        self.searched = come.len();
        meets
    }

    /// Go on to another place.
    fn leave(&mut self, count: usize) {
        self.buffer.skip(count);
        self.searched = 0;
        self.refused = None;
    }
}

impl Framer for Recording {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Yielded> {
        if self.is_closed {
            return Vec::new();
        }
        self.buffer.push(bytes);
        self.yielded()
    }

    fn finish(&mut self) -> Vec<Yielded> {
        if self.is_closed {
            return Vec::new();
        }
        self.has_ended = true;
        let yielded = self.yielded();
        self.is_closed = true;
        yielded
    }

    fn state(&self) -> State {
        if self.is_closed {
            State::Closed
        } else if self.buffer.rest().is_empty() && self.lost.is_none() {
            State::Between
        } else {
            State::NeedMore
        }
    }
}

/// Whether a JSON object can begin with this byte: `{` or white space.
fn begins_text(byte: u8) -> bool {
    matches!(byte, b'{' | b' ' | b'\t' | b'\n' | b'\r')
}
