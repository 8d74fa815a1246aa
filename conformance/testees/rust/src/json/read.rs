//! A recursive reader of JSON text (RFC 8259). Its recursion is bounded by the depth that the grammar allows.

use std::borrow::Cow;

use super::{Json, Members};

/// What a text may be.
#[derive(Debug, Clone, Copy)]
pub struct Grammar {
    /// How many arrays and objects may be open at once.
    pub depth: usize,
    /// Whether the tokens `NaN`, `Infinity` and `-Infinity` may stand where a value may.
    pub bare_tokens: bool,
}

/// Why a text was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    Syntax,
    TooDeep,
}

type Parsed<T> = Result<T, Malformed>;

/// Read exactly one JSON value, with white space around it at most.
pub fn parse(text: &str, grammar: Grammar) -> Parsed<Json<'_>> {
    let mut parser = Parser {
        text,
        at: 0,
        open: 0,
        grammar,
    };
    parser.skip_space();
    let value = parser.value()?;
    parser.skip_space();
    if parser.at == text.len() {
        Ok(value)
    } else {
        Err(Malformed::Syntax)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    open: usize,
    grammar: Grammar,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Step over `byte`, if it is what comes next.
    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Parsed<()> {
        self.eat(byte).then_some(()).ok_or(Malformed::Syntax)
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let begin = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - begin
    }

    fn skip_space(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Parsed<Json<'a>> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(Malformed::Syntax)
        }
    }

    fn value(&mut self) -> Parsed<Json<'a>> {
        match self.peek().ok_or(Malformed::Syntax)? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::list),
            b'"' => self.string().map(Json::Text),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            b'N' if self.grammar.bare_tokens => self.word("NaN", Json::Token(f64::NAN)),
            b'I' if self.grammar.bare_tokens => self.word("Infinity", Json::Token(f64::INFINITY)),
            b'-' if self.grammar.bare_tokens && self.text[self.at..].starts_with("-I") => {
                self.word("-Infinity", Json::Token(f64::NEG_INFINITY))
            }
            _ => self.number(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Parsed<Json<'a>>) -> Parsed<Json<'a>> {
        if self.open == self.grammar.depth {
            return Err(Malformed::TooDeep);
        }
        self.open += 1;
        self.at += 1;
        self.skip_space();
        let value = read(self)?;
        self.open -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Parsed<Json<'a>> {
        let mut members = Members::new();
        if self.eat(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            members.insert(name, self.value()?);
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Json::Object(members));
            }
            self.expect(b',')?;
            self.skip_space();
        }
    }

    fn list(&mut self) -> Parsed<Json<'a>> {
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Json::List(items));
            }
            self.expect(b',')?;
            self.skip_space();
        }
    }

    fn number(&mut self) -> Parsed<Json<'a>> {
        let begin = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(Json::Number(&self.text[begin..self.at]))
    }

    fn digits(&mut self) -> Parsed<()> {
        match self.skip_while(|byte| byte.is_ascii_digit()) {
            0 => Err(Malformed::Syntax),
            _ => Ok(()),
        }
    }

    /// A string without escapes is a piece of the text; only others are copied.
    fn string(&mut self) -> Parsed<Cow<'a, str>> {
        self.expect(b'"')?;
        let plain = self.plain();
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        loop {
            if self.eat(b'"') {
                return Ok(Cow::Owned(text));
            }
            self.expect(b'\\')?;
            text.push(self.escape()?);
            text.push_str(self.plain());
        }
    }

    /// All characters that stand for themselves.
    fn plain(&mut self) -> &'a str {
        let begin = self.at;
        self.skip_while(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
        &self.text[begin..self.at]
    }

    fn escape(&mut self) -> Parsed<char> {
        let escaped = self.peek().ok_or(Malformed::Syntax)?;
        self.at += 1;
        Ok(match escaped {
            b'"' | b'\\' | b'/' => char::from(escaped),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(Malformed::Syntax),
        })
    }

    /// The rest of `\uXXXX`, with its second half where it is the first half of a pair (JSN-3).
    fn unicode_escape(&mut self) -> Parsed<char> {
        let mut units = vec![self.unit()?];
        if (0xd800..0xdc00).contains(&units[0]) {
            self.expect(b'\\')?;
            self.expect(b'u')?;
            units.push(self.unit()?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(Malformed::Syntax),
        }
    }

    fn unit(&mut self) -> Parsed<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let unit = digits.and_then(|digits| {
            digits.iter().try_fold(0u16, |unit, digit| {
                let digit = char::from(*digit).to_digit(16)?;
                Some(unit << 4 | u16::try_from(digit).ok()?)
            })
        });
        self.at += 4;
        unit.ok_or(Malformed::Syntax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Grammar = Grammar {
        depth: 3,
        bare_tokens: false,
    };
    const LENIENT: Grammar = Grammar {
        depth: 3,
        bare_tokens: true,
    };

    #[test]
    fn strings_are_resolved() {
        let read = |text| parse(text, STRICT).map(|json| json.as_text().unwrap().to_owned());
        assert_eq!(read(r#""a\u0000\ud83d\ude00\/""#).unwrap(), "a\0\u{1f600}/");
        for broken in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\n""#,
            r#""\ud83dA""#,
            "\"\n\"",
            r#""\u+123""#,
        ] {
            assert_eq!(parse(broken, STRICT), Err(Malformed::Syntax), "{broken}");
        }
    }

    #[test]
    fn numbers_keep_their_spelling() {
        for good in ["0", "-0", "1.50", "1e+9", "-1E-2"] {
            assert_eq!(parse(good, STRICT), Ok(Json::Number(good)));
        }
        for broken in [
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "0x1",
            "-NaN",
            "nan",
            "inf",
            "--Infinity",
        ] {
            assert_eq!(parse(broken, LENIENT), Err(Malformed::Syntax), "{broken}");
        }
    }

    #[test]
    fn tokens_are_for_the_lenient() {
        assert_eq!(
            parse("[-Infinity]", LENIENT),
            Ok(Json::List(vec![Json::Token(f64::NEG_INFINITY)]))
        );
        assert_eq!(parse("[-Infinity]", STRICT), Err(Malformed::Syntax));
    }

    #[test]
    fn depth_is_bounded() {
        assert!(parse("[[[]]]", STRICT).is_ok());
        assert_eq!(parse("[[[[]]]]", STRICT), Err(Malformed::TooDeep));
    }

    #[test]
    fn the_last_of_a_name_given_twice_is_kept() {
        let json = parse(r#"{"a":1,"\u0061":2}"#, STRICT).unwrap();
        assert_eq!(json.as_object().unwrap()["a"], Json::Number("2"));
    }
}
