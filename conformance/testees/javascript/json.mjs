/**
 * JSON text (JSN). Objects become Maps, so that no name is special; integers become bigints; names given twice: the last counts.
 */

import { Refused } from "./refused.mjs";
import { numberFromText } from "./numbers.mjs";

export const MAX_DEPTH = 64;

const SPACE = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const HEX = /^[0-9a-fA-F]{4}$/;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
const BARE = [
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
];
const WORDS = [
  ["true", true],
  ["false", false],
  ["null", null],
];

// The byte order mark is kept, so that the parser sees and refuses it (JSN-1.6).
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes to text, or bad_utf8: overlong forms and encoded surrogates included (JSN-1.2). */
export function textOf(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new Refused("bad_utf8", "the payload is not valid UTF-8");
  }
}

/** Reads one JSON text; `lenient` takes the bare tokens of JSN-7. */
export function parseJson(bytes, lenient = false) {
  const text = textOf(bytes);
  let at = 0;
  let depth = 0;

  const bad = (what) => {
    throw new Refused("bad_json", `${what} at character ${at}`);
  };
  const space = () => {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
  };

  function string() {
    at += 1;
    let out = "";
    for (;;) {
      PLAIN.lastIndex = at;
      PLAIN.test(text);
      out += text.slice(at, PLAIN.lastIndex);
      at = PLAIN.lastIndex;
      const char = text[at];
      if (char === '"') {
        at += 1;
        return out;
      }
      if (char !== "\\") bad("a string has no end or holds a control character");
      out += escape();
    }
  }

  function unit() {
    const digits = text.slice(at + 2, at + 6);
    if (text[at] !== "\\" || text[at + 1] !== "u" || !HEX.test(digits)) return -1;
    at += 6;
    return parseInt(digits, 16);
  }

  function escape() {
    const name = text[at + 1];
    if (name !== "u") {
      if (name === undefined || !Object.hasOwn(ESCAPES, name)) bad("unknown escape");
      at += 2;
      return ESCAPES[name];
    }
    const first = unit();
    if (first < 0) bad("a \\u without four hexadecimal digits");
    if (first < 0xd800 || first > 0xdfff) return String.fromCharCode(first);
    const second = first < 0xdc00 ? unit() : -1;
    if (second < 0xdc00 || second > 0xdfff) bad("half of a surrogate pair");
    return String.fromCharCode(first, second);
  }

  function number() {
    NUMBER.lastIndex = at;
    const found = NUMBER.exec(text);
    if (found === null) bad("no JSON value");
    at = NUMBER.lastIndex;
    return numberFromText(found[0], found[1] === undefined && found[2] === undefined);
  }

  function word(list) {
    for (const [name, value] of list) {
      if (text.startsWith(name, at)) {
        at += name.length;
        return value;
      }
    }
    return undefined;
  }

  function open() {
    at += 1;
    depth += 1;
    if (depth > MAX_DEPTH) throw new Refused("too_deep", `more than ${MAX_DEPTH} arrays and objects are open`);
    space();
  }

  function close() {
    at += 1;
    depth -= 1;
  }

  function object() {
    const out = new Map();
    open();
    if (text[at] === "}") {
      close();
      return out;
    }
    for (;;) {
      if (text[at] !== '"') bad("a name was expected");
      const name = string();
      space();
      if (text[at] !== ":") bad("a colon was expected");
      at += 1;
      out.set(name, value());
      space();
      if (text[at] === "}") {
        close();
        return out;
      }
      if (text[at] !== ",") bad("a comma or } was expected");
      at += 1;
      space();
    }
  }

  function array() {
    const out = [];
    open();
    if (text[at] === "]") {
      close();
      return out;
    }
    for (;;) {
      out.push(value());
      space();
      if (text[at] === "]") {
        close();
        return out;
      }
      if (text[at] !== ",") bad("a comma or ] was expected");
      at += 1;
    }
  }

  function value() {
    space();
    const char = text[at];
    if (char === "{") return object();
    if (char === "[") return array();
    if (char === '"') return string();
    let known = word(WORDS);
    if (known === undefined && lenient) known = word(BARE);
    return known === undefined ? number() : known;
  }

  const result = value();
  space();
  if (at !== text.length) bad("something follows the text");
  return result;
}
