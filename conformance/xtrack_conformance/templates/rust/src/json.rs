//! JSON and base64, without a crate. A number is its digits.

use std::fmt::Write as _;

#[derive(Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn read(text: &str) -> Option<Json> {
        let mut scan = Scan { text, at: 0 };
        let value = scan.value()?;
        scan.space();
        (scan.at == text.len()).then_some(value)
    }

    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn text(&self, name: &str) -> &str {
        self.get(name).map_or("", Json::as_text)
    }

    pub fn as_text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            _ => "",
        }
    }

    pub fn write(&self) -> String {
        match self {
            Json::Null => "null".to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Number(digits) => digits.clone(),
            Json::Text(text) => quoted(text),
            Json::List(items) => format!("[{}]", items.iter().map(Json::write).collect::<Vec<_>>().join(",")),
            Json::Object(pairs) => {
                let pair = |(name, value): &(String, Json)| format!("{}:{}", quoted(name), value.write());
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
            }
        }
    }
}

pub fn quoted(text: &str) -> String {
    let mut found = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => found.extend(['\\', letter]),
            '\0'..='\x1f' => write!(found, "\\u{:04x}", letter as u32).expect("memory"),
            _ => found.push(letter),
        }
    }
    found + "\""
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn space(&mut self) {
        self.span(|letter| matches!(letter, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn span(&mut self, fits: impl Fn(u8) -> bool) -> usize {
        let size = self.text.as_bytes()[self.at..].iter().take_while(|letter| fits(**letter)).count();
        self.at += size;
        size
    }

    /// Take `mark` if it comes next.
    fn take(&mut self, mark: &str) -> bool {
        let found = self.text[self.at..].starts_with(mark);
        self.at += if found { mark.len() } else { 0 };
        found
    }

    fn value(&mut self) -> Option<Json> {
        self.space();
        if self.take("null") {
            Some(Json::Null)
        } else if self.take("true") {
            Some(Json::Bool(true))
        } else if self.take("false") {
            Some(Json::Bool(false))
        } else if self.take("[") {
            self.items("]", Scan::value).map(Json::List)
        } else if self.take("{") {
            let pair = |scan: &mut Self| {
                scan.space();
                let name = scan.take("\"").then(|| scan.string())??;
                scan.space();
                Some((name, scan.take(":").then(|| scan.value())??))
            };
            self.items("}", pair).map(Json::Object)
        } else if self.take("\"") {
            self.string().map(Json::Text)
        } else {
            self.number()
        }
    }

    fn items<T>(&mut self, close: &str, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut found = Vec::new();
        self.space();
        if self.take(close) {
            return Some(found);
        }
        loop {
            found.push(read(self)?);
            self.space();
            if self.take(close) {
                return Some(found);
            }
            self.take(",").then_some(())?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let (start, digit) = (self.at, |letter: u8| letter.is_ascii_digit());
        self.take("-");
        let _ = self.take("0") || self.span(digit) > 0 || return None;
        let _ = !self.take(".") || self.span(digit) > 0 || return None;
        if self.take("e") || self.take("E") {
            let _ = self.take("-") || self.take("+");
            let _ = self.span(digit) > 0 || return None;
        }
        Some(Json::Number(self.text[start..self.at].to_string()))
    }

    fn string(&mut self) -> Option<String> {
        let mut found = String::new();
        loop {
            let start = self.at;
            self.span(|letter| letter >= b' ' && letter != b'"' && letter != b'\\');
            found.push_str(&self.text[start..self.at]);
            if self.take("\"") {
                return Some(found);
            }
            self.take("\\").then_some(())?;
            let letter = self.text[self.at..].chars().next()?;
            self.at += letter.len_utf8();
            found.push(match letter {
                '"' | '\\' | '/' => letter,
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => match self.unit()? {
                    high @ 0xD800..=0xDBFF => {
                        let low = self.take("\\u").then(|| self.unit())??;
                        char::from_u32(0x10000 + ((high - 0xD800) << 10) + low.checked_sub(0xDC00)?)?
                    }
                    unit => char::from_u32(unit)?,
                },
                _ => return None,
            });
        }
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

pub fn from_base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let six = BASE64.iter().position(|other| *other == letter).expect("base64");
        (bits, count) = (bits << 6 | six as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() { BASE64[six] as char } else { '=' });
        }
    }
    text
}
