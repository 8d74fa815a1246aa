//! From bytes, however they are divided, to frames.

mod buffer;
mod connection;
mod recording;
#[cfg(test)]
mod tests;

use super::Class;

pub use connection::Connection;
pub use recording::Recording;

/// The limit of a payload on connections, where none is configured (FRM-3.1).
pub const CONNECTION_LIMIT: u32 = 1_048_576;

/// One frame, or one error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yielded {
    /// Of its first byte, from the first byte of all.
    pub offset: u64,
    /// In all; a fatal error has no end (FRM-5.2).
    pub length: Option<u64>,
    /// Whether nothing before it was lost track of (FRM-7).
    pub is_verified: bool,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The payload's bytes as they came (FRM-8).
    Accepted(Vec<u8>),
    Refused {
        class: Class,
        is_fatal: bool,
    },
}

/// Where a framer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The next frame may begin.
    Between,
    /// Bytes have come of which nothing was told yet.
    NeedMore,
    /// Nothing will be yielded any more.
    Closed,
}

/// Cuts bytes into frames.
pub trait Framer {
    /// Take more bytes, and give what they complete.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Yielded>;

    /// Learn that no more bytes will come, and give what is left.
    fn finish(&mut self) -> Vec<Yielded>;

    fn state(&self) -> State;
}

/// The first four bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// Not all of them are there, and nothing is wrong so far.
    Incomplete,
    /// The payload's length, from 1 to the limit.
    Length(usize),
    /// The frame is refused for its length; that is known unless the first byte was enough.
    Refused { class: Class, announced: Option<u64> },
}

fn header(bytes: &[u8], limit: u32) -> Header {
    let Some(head) = bytes.first_chunk() else {
        return match bytes.first() {
            // No length that begins so is below any limit (FRM-3.3, FRM-3.7).
            Some(1..) => Header::Refused {
                class: Class::FrameTooLarge,
                announced: None,
            },
            _ => Header::Incomplete,
        };
    };
    let length = u32::from_be_bytes(*head);
    let refused = |class| Header::Refused {
        class,
        announced: Some(u64::from(length)),
    };
    match length {
        0 => refused(Class::EmptyFrame),
        length if length > limit => refused(Class::FrameTooLarge),
        length => Header::Length(length as usize),
    }
}
