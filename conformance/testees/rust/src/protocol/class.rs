//! Classes of errors.

use crate::json::Malformed;

/// The classes of ERR-1, in the order of their precedence (ERR-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Truncated,
    FrameTooLarge,
    EmptyFrame,
    BadUtf8,
    BadJson,
    TooDeep,
    BadEnvelope,
    UnsupportedVersion,
    MissingField,
    BadType,
    BadValue,
    OutOfRange,
}

impl Class {
    /// The name that the specification gives it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Truncated => "truncated",
            Class::FrameTooLarge => "frame_too_large",
            Class::EmptyFrame => "empty_frame",
            Class::BadUtf8 => "bad_utf8",
            Class::BadJson => "bad_json",
            Class::TooDeep => "too_deep",
            Class::BadEnvelope => "bad_envelope",
            Class::UnsupportedVersion => "unsupported_version",
            Class::MissingField => "missing_field",
            Class::BadType => "bad_type",
            Class::BadValue => "bad_value",
            Class::OutOfRange => "out_of_range",
        }
    }

    /// Whether a payload of this class is no text at all, so that in a recording its frame's length is doubtful too
    /// (FRM-6.1, FRM-6.6).
    pub fn is_of_text(self) -> bool {
        matches!(self, Class::BadUtf8 | Class::BadJson)
    }
}

impl From<Malformed> for Class {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Syntax => Class::BadJson,
            Malformed::TooDeep => Class::TooDeep,
        }
    }
}

/// The faults that were found in one payload; the one that stands first in the table is reported.
#[derive(Debug, Default)]
pub struct Faults {
    first: Option<Class>,
}

impl Faults {
    pub fn add(&mut self, class: Class) {
        self.first = Some(self.first.map_or(class, |first| first.min(class)));
    }

    pub fn verdict(&self) -> Result<(), Class> {
        self.first.map_or(Ok(()), Err)
    }
}
