//! What the spelling of a number means. The spelling is one that RFC 8259 allows.

use super::{Class, Value};

/// The name of each non-finite number in number slots (VAL-3), and in `$float` (VAL-4.2).
const NON_FINITE: [(&str, f64); 3] = [
    ("NaN", f64::NAN),
    ("Infinity", f64::INFINITY),
    ("-Infinity", f64::NEG_INFINITY),
];

/// The non-finite number of this name.
pub fn non_finite(name: &str) -> Option<f64> {
    NON_FINITE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, float)| *float)
}

/// The name of a non-finite number.
pub fn name_of(float: f64) -> Option<&'static str> {
    let is_same = |other: f64| float == other || (float.is_nan() && other.is_nan());
    NON_FINITE
        .iter()
        .find(|(_, known)| is_same(*known))
        .map(|(name, _)| *name)
}

fn is_plain(spelling: &str) -> bool {
    !spelling.contains(['.', 'e', 'E'])
}

/// Read a number as VAL-2.1 to VAL-2.5 say.
pub fn number(spelling: &str) -> Result<Value, Class> {
    if is_plain(spelling) {
        if let Ok(integer) = spelling.parse() {
            return Ok(Value::Int(integer));
        }
    }
    // The standard library rounds to nearest, ties to even, however many digits there are.
    match spelling.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(Value::Float(float)),
        _ => Err(Class::OutOfRange),
    }
}

/// Read a number in an integer slot. One with a fraction or an exponent is read digit by digit, without the loss that
/// JSN-4.1 would allow.
pub fn integer(spelling: &str) -> Result<i64, Class> {
    if is_plain(spelling) {
        return spelling.parse().map_err(|_| Class::OutOfRange);
    }
    let (mantissa, exponent) = spelling.split_once(['e', 'E']).unwrap_or((spelling, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let zeros = all.len() - all.trim_end_matches('0').len();
    // The value is `digits` times ten to the power of `scale`.
    let scale = exponent_of(exponent) + (zeros as i64) - (fraction.len() as i64);
    if scale < 0 {
        return Err(Class::BadType);
    }
    match usize::try_from(scale) {
        Ok(scale) if scale + digits.len() <= 19 => format!("{sign}{digits}{}", "0".repeat(scale))
            .parse()
            .map_err(|_| Class::OutOfRange),
        _ => Err(Class::OutOfRange),
    }
}

/// An exponent, or one so far out that no payload has the digits to bring it back.
fn exponent_of(spelling: &str) -> i64 {
    const FAR: i64 = 1 << 40;
    match spelling.parse::<i64>() {
        Ok(exponent) => exponent.clamp(-FAR, FAR),
        Err(_) if spelling.starts_with('-') => -FAR,
        Err(_) => FAR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_many_spellings() {
        for (spelling, value) in [
            ("-0", 0),
            ("-0.0", 0),
            ("0e999999999999999999999", 0),
            ("1.70312345678900e15", 1_703_123_456_789_000),
            ("10.0", 10),
            ("1200e-2", 12),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("-9223372036854775808", i64::MIN),
            ("-9.223372036854775808E+18", i64::MIN),
        ] {
            assert_eq!(integer(spelling), Ok(value), "{spelling}");
        }
    }

    #[test]
    fn what_is_no_int64_is_refused() {
        for spelling in ["1.5", "1e-400", "1e-99999999999999999999", "12e-2", "0.1"] {
            assert_eq!(integer(spelling), Err(Class::BadType), "{spelling}");
        }
        for spelling in [
            "9223372036854775808",
            "9223372036854775808.0",
            "1e400",
            "-1e99999999999999999999",
        ] {
            assert_eq!(integer(spelling), Err(Class::OutOfRange), "{spelling}");
        }
    }

    #[test]
    fn numbers_are_exact_or_nearest() {
        assert_eq!(number("9007199254740993"), Ok(Value::Int(9_007_199_254_740_993)));
        assert_eq!(
            number("9223372036854775808"),
            Ok(Value::Float(9_223_372_036_854_775_808.0))
        );
        assert_eq!(number("1e-400"), Ok(Value::Float(0.0)));
        assert!(matches!(number("-0.0"), Ok(Value::Float(zero)) if zero.is_sign_negative()));
        assert_eq!(number("1e400"), Err(Class::OutOfRange));
        assert_eq!(number(&"9".repeat(400)), Err(Class::OutOfRange));
    }
}
