//! The testee protocol: a line of JSON is asked, a line of JSON is answered.

mod base64;
mod sessions;
mod tagged;

use crate::json::{self, write_string, Grammar, Json};
use crate::protocol::decode::decode;
use crate::protocol::encode::encode;
use crate::protocol::{Class, Reader};
use sessions::Sessions;

/// A tagged value takes three levels of a request for each of its own.
const REQUEST: Grammar = Grammar {
    depth: 1024,
    bare_tokens: false,
};

/// Another answer than the one that was asked for.
#[derive(Debug)]
enum Otherwise {
    Rejected(Class),
    Unsupported(&'static str),
    InternalError(String),
}

impl From<Class> for Otherwise {
    fn from(class: Class) -> Self {
        Otherwise::Rejected(class)
    }
}

impl Otherwise {
    fn internal(text: impl Into<String>) -> Self {
        Otherwise::InternalError(text.into())
    }

    /// The member of the answer that says so.
    fn member(&self) -> String {
        match self {
            Otherwise::Rejected(class) => format!("\"rejected\":{{\"class\":\"{}\"}}", class.name()),
            Otherwise::Unsupported(what) => format!("\"unsupported\":{{\"capability\":\"{what}\"}}"),
            Otherwise::InternalError(text) => {
                let mut member = "\"internal_error\":".to_owned();
                write_string(&mut member, text);
                member
            }
        }
    }
}

/// A request: a line of stdin.
struct Request<'a>(&'a json::Members<'a>);

impl Request<'_> {
    fn text(&self, name: &str) -> Result<&str, Otherwise> {
        let member = self.0.get(name).and_then(Json::as_text);
        member.ok_or_else(|| Otherwise::internal(format!("the request has no string `{name}`")))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, Otherwise> {
        let text = self.text(name)?;
        base64::decode(text).ok_or_else(|| Otherwise::internal(format!("`{name}` is no base64")))
    }

    fn reader(&self) -> Result<Reader, Otherwise> {
        match self.text("reader")? {
            "strict" => Ok(Reader::Strict),
            "lenient" => Ok(Reader::Lenient),
            other => Err(Otherwise::internal(format!("there is no reader `{other}`"))),
        }
    }

    fn integer(&self, name: &str) -> Result<Option<u32>, Otherwise> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Json::Number(spelling)) => spelling
                .parse()
                .map(Some)
                .map_err(|_| Otherwise::internal(format!("`{name}` is out of range"))),
            Some(_) => Err(Otherwise::internal(format!("`{name}` is no integer"))),
        }
    }

    fn is_set(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Json::Bool(true))
    }
}

#[derive(Default)]
pub struct Testee {
    sessions: Sessions,
}

impl Testee {
    /// The answer to a line, without a line feed, or why the line is no request.
    pub fn answer(&mut self, line: &str) -> Result<String, String> {
        let json = json::parse(line, REQUEST).map_err(|why| format!("a request is no JSON: {why:?}"))?;
        let members = json.as_object().ok_or("a request is no object")?;
        let Some(Json::Number(id)) = members.get("id") else {
            return Err("a request has no id".to_owned());
        };
        let answer = self.member(&Request(members));
        let member = answer.unwrap_or_else(|otherwise| otherwise.member());
        Ok(format!("{{\"id\":{id},{member}}}"))
    }

    /// What the answer holds beside the id.
    fn member(&mut self, request: &Request<'_>) -> Result<String, Otherwise> {
        match request.text("op")? {
            "hello" => Ok(hello()),
            "encode" => {
                let event = request.0.get("event");
                let event = tagged::read(event.ok_or_else(|| Otherwise::internal("there is no event"))?)?;
                Ok(format!("\"frame\":\"{}\"", base64::encode(&encode(&event)?)))
            }
            "decode" => {
                let event = decode(&request.bytes("payload")?, request.reader()?)?;
                let mut member = "\"event\":".to_owned();
                tagged::write(&mut member, &event);
                Ok(member)
            }
            "frame.feed" => self.sessions.feed(request),
            "frame.finish" => self.sessions.finish(request),
            other => Err(Otherwise::internal(format!("there is no op `{other}`"))),
        }
    }
}

/// Strings of Rust are Unicode, so there is no capability `lone_surrogates`.
fn hello() -> String {
    format!(
        concat!(
            r#""impl":{{"name":"xtrack-testee","version":"{}","language":"Rust"}},"protocol":[1],"#,
            r#""roles":["encoder","decoder","framer"],"#,
            r#""capabilities":{{"strict":true,"lenient":true,"recording":true,"stop_at_damage":true,"limits":true}},"#,
            r#""max_in_flight":64"#,
        ),
        env!("CARGO_PKG_VERSION"),
    )
}
