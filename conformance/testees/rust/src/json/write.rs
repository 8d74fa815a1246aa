//! Writing JSON text without white space.

use std::fmt::Write;

/// Append `text` as a JSON string. Only what must be escaped is escaped, so equal texts give equal bytes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character)); // a String takes everything
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Append a finite binary64 with the fewest digits that give it back, and with a fraction or an exponent, so that it
/// is not read as an integer (VAL-2.6).
pub fn write_float(out: &mut String, float: f64) {
    debug_assert!(float.is_finite());
    let _ = write!(out, "{float:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_stay_floats() {
        for (float, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (0.1, "0.1"),
        ] {
            let mut out = String::new();
            write_float(&mut out, float);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut out = String::new();
        write_string(&mut out, "a\"\\\u{0}\u{7f}\u{1f600}");
        assert_eq!(out, "\"a\\\"\\\\\\u0000\u{7f}\u{1f600}\"");
    }
}
