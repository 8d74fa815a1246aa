//! The protocol's codec roles: payloads to events and back, and bytes to frames.

pub mod class;
pub mod decode;
pub mod encode;
pub mod framing;
mod number;
mod schema;
mod value;

pub use class::Class;
pub use value::{Members, Value};

/// Whether a reader takes forms that workers in the field send although no writer may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Strict,
    Lenient,
}

/// The most bytes that any payload may have (FRM-3.3).
pub const MAX_PAYLOAD: u32 = 16_777_215;

/// How many arrays and objects may be open at once (JSN-2).
const MAX_DEPTH: usize = 64;
