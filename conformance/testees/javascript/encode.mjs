/**
 * From an envelope to the bytes of its payload and frame. The writer's form (ENV-7): fixed order, no white space, wire names.
 */

import { bodyOf, isControl, isKnown, META, RUN_ID_MEMBERS } from "./events.mjs";
import { MAX_DEPTH } from "./json.mjs";
import { isInt64, nameOfNonFinite, NON_FINITE } from "./numbers.mjs";
import { Refused } from "./refused.mjs";

const HEX_64 = /^(?:sha256:)?([0-9a-fA-F]{64})$/;
const TWO_63 = 2 ** 63;
export const MAX_PAYLOAD = 16_777_215;

const fail = (kind, where, what) => {
  throw new Refused(kind, `${where}: ${what}`);
};

/** A string without half surrogate pairs (JSN-3.1). */
function text(value, where) {
  if (typeof value !== "string") fail("bad_type", where, "a string was expected");
  if (!value.isWellFormed()) fail("bad_value", where, "half of a surrogate pair");
  return value;
}

/** What each kind of slot makes of a value: the same as plain JSON values, with bigint for integers. */
const WRITE = {
  integer(value, where) {
    if (typeof value === "number" && Number.isInteger(value) && value >= -TWO_63 && value < TWO_63)
      return BigInt(value);
    if (typeof value !== "bigint") fail("bad_type", where, "an integer was expected");
    return isInt64(value) ? value : fail("out_of_range", where, "beyond int64");
  },
  number(value, where) {
    if (typeof value === "boolean") return value ? 1n : 0n;
    if (typeof value === "number") return Number.isFinite(value) ? value : nameOfNonFinite(value);
    if (typeof value !== "bigint") fail("bad_type", where, "a number was expected");
    return isInt64(value) ? value : fail("out_of_range", where, "beyond int64");
  },
  number_or_string(value, where) {
    if (typeof value === "string") return text(value, where);
    // EVT-RUN_START-5.3: the strings of VAL-3 are strings here.
    const number = WRITE.number(value, where);
    return typeof number === "string" ? fail("bad_value", where, "there is no form for it") : number;
  },
  boolean: (value, where) => (typeof value === "boolean" ? value : fail("bad_type", where, "a boolean was expected")),
  string: text,
  closed: (value, where, slot) =>
    slot.values.has(text(value, where)) ? value : fail("bad_value", where, "not one of its values"),
  checksum(value, where) {
    const digits = HEX_64.exec(text(value, where));
    return digits === null ? value : `sha256:${digits[1].toLowerCase()}`;
  },
  free(value, where) {
    if (typeof value === "string") return text(value, where);
    if (typeof value === "bigint") return isInt64(value) ? value : fail("out_of_range", where, "beyond int64");
    if (typeof value === "number" && !Number.isFinite(value)) return new Map([["$float", nameOfNonFinite(value)]]);
    if (Array.isArray(value)) return value.map((item) => WRITE.free(item, where));
    if (!(value instanceof Map)) return value;
    // Written as it is, such an object would be read as a number (VAL-4.5).
    if (value.size === 1 && NON_FINITE.has(value.get("$float")))
      fail("bad_value", where, "an object that reads as a number");
    return names(value, where, (item) => WRITE.free(item, where));
  },
  list(value, where, slot) {
    if (!Array.isArray(value)) fail("bad_type", where, "a list was expected");
    return value.map((item) => WRITE[slot.of.kind](item, where, slot.of));
  },
  tuple(value, where, slot) {
    if (!Array.isArray(value) || value.length !== slot.of.length) fail("bad_type", where, "a pair was expected");
    return value.map((item, index) => WRITE[slot.of[index].kind](item, where, slot.of[index]));
  },
  map(value, where, slot) {
    if (!(value instanceof Map)) fail("bad_type", where, "a map was expected");
    return names(value, where, (item) => WRITE[slot.of.kind](item, where, slot.of));
  },
  object: (value, where, slot) => members(slot.members, value, where),
  run_id(value, where, slot) {
    if (typeof value === "string") return text(value, where);
    const run = members(RUN_ID_MEMBERS, value, where);
    // EVT-1.5, EVT-1.6: the object form only where it says more, and only in run_start.
    return slot.whole && run.size > 1 ? run : run.get("id");
  },
};

function names(value, where, convert) {
  const out = new Map();
  for (const [name, item] of value) out.set(text(name, where), convert(item));
  return out;
}

/** The members of a table in its order; what is absent or unknown is left out. */
function members(table, value, where) {
  if (!(value instanceof Map)) fail("bad_type", where, "an object was expected");
  const out = new Map();
  for (const [name, slot] of Object.entries(table)) {
    const item = value.get(name);
    const path = `${where}.${name}`;
    if (item === undefined || (item === null && slot.kind !== "free")) {
      if (slot.required) fail(item === null ? "bad_type" : "missing_field", path, "a value was expected");
    } else {
      out.set(name, WRITE[slot.kind](item, path, slot));
    }
  }
  return out;
}

/** Checks an envelope and gives what stands on the wire, as Maps. */
export function wireForm({ t, v = 1n, m, p }) {
  if (typeof t !== "string" || !(m instanceof Map) || !(p instanceof Map)) fail("bad_envelope", "event", "no envelope");
  if (BigInt(v) !== 1n) fail("unsupported_version", "v", "only 1 is written");
  const meta = members(META, m, "m");
  for (const name of ["wid", "sid"]) if (meta.get(name) === "") meta.delete(name);
  let body;
  if (isKnown(t)) {
    const table = { ...bodyOf(t) };
    if (t === "run_start") table.run_id = { ...table.run_id, whole: true };
    body = members(table, p, "p");
    if (isControl(t)) {
      // CTL-1.6
      meta.delete("sid");
      meta.set("seq", 0n);
    } else if (meta.get("seq") < 1n) fail("out_of_range", "m.seq", "below 1");
  } else {
    body = names(p, "p", (item) => WRITE.free(item, "p")); // ENV-5.7, ENV-5.8
  }
  return new Map([
    ["t", text(t, "t")],
    ["v", 1n],
    ["m", meta],
    ["p", body],
  ]);
}

/** A binary64 with a fraction or an exponent, so that it is read as one. */
export function floatText(value) {
  if (Object.is(value, -0)) return "-0.0";
  const digits = String(value);
  return /[.e]/.test(digits) ? digits : `${digits}.0`;
}

function jsonText(value, depth) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") return floatText(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (depth >= MAX_DEPTH) throw new Refused("too_deep", `nested more than ${MAX_DEPTH} deep`);
  if (Array.isArray(value)) return `[${value.map((item) => jsonText(item, depth + 1)).join(",")}]`;
  return `{${[...value].map(([name, item]) => `${JSON.stringify(name)}:${jsonText(item, depth + 1)}`).join(",")}}`;
}

/** The payload of an envelope, in JSON. */
export const encodePayload = (event) => Buffer.from(jsonText(wireForm(event), 0));

/** A payload with its length before it (FRM-1). */
export function frame(payload, limit = MAX_PAYLOAD) {
  if (payload.length > limit) throw new Refused("frame_too_large", `${payload.length} bytes`);
  const out = Buffer.allocUnsafe(4 + payload.length);
  out.writeUInt32BE(payload.length, 0);
  out.set(payload, 4);
  return out;
}
