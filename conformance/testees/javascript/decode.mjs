/**
 * From the bytes of a payload to an envelope {t, v, m, p}, or Refused.
 *
 * `m` and `p` are Maps by wire name. Absent members are left out, numbers are as numbers.mjs has them.
 */

import { bodyOf, isControl, isKnown, META, RUN_ID_MEMBERS } from "./events.mjs";
import { parseJson } from "./json.mjs";
import { parseMessagePack } from "./msgpack.mjs";
import { asNumber, INT64_MAX, INT64_MIN, isInt64, NON_FINITE, Overflow } from "./numbers.mjs";
import { Faults, Refused } from "./refused.mjs";

const SHA_256 = /^(?:sha256:)?([0-9a-fA-F]{64})$/;
const LIMIT = 2 ** 63;

/** What a slot makes of values. `lenient` is JSN-7 and VAL-2.9. */
class SlotReader {
  constructor(lenient) {
    this.lenient = lenient;
    this.faults = new Faults();
  }

  wrong(where, what) {
    this.faults.add("bad_type", `${where}: ${what} was expected`);
    return undefined;
  }

  range(where) {
    this.faults.add("out_of_range", `${where}: the number is beyond its slot`);
    return undefined;
  }

  read(slot, value, where) {
    return this[slot.kind](value, where, slot);
  }

  integer(value, where) {
    if (typeof value === "bigint") return isInt64(value) ? value : this.range(where);
    if (value instanceof Overflow) return this.range(where);
    // JSN-4.1: by way of binary64.
    if (typeof value !== "number" || !Number.isInteger(value)) return this.wrong(where, "an integer");
    return value >= -LIMIT && value < LIMIT ? BigInt(value) : this.range(where);
  }

  number(value, where) {
    if (typeof value === "bigint" || value instanceof Overflow) {
      const number = asNumber(value);
      return number instanceof Overflow ? this.range(where) : number;
    }
    if (typeof value === "number") return value;
    if (typeof value === "boolean" && this.lenient) return value ? 1n : 0n;
    if (typeof value === "string" && NON_FINITE.has(value)) return NON_FINITE.get(value);
    return this.wrong(where, "a number");
  }

  number_or_string(value, where) {
    return typeof value === "string" ? value : this.number(value, where);
  }

  boolean(value, where) {
    return typeof value === "boolean" ? value : this.wrong(where, "a boolean");
  }

  string(value, where) {
    return typeof value === "string" ? value : this.wrong(where, "a string");
  }

  closed(value, where, slot) {
    if (typeof value !== "string") return this.wrong(where, "a string");
    if (slot.values.has(value)) return value;
    this.faults.add("bad_value", `${where}: not one of its values`);
    return undefined;
  }

  checksum(value, where) {
    if (typeof value !== "string") return this.wrong(where, "a string");
    const digits = SHA_256.exec(value);
    return digits === null ? value : `sha256:${digits[1].toLowerCase()}`;
  }

  free(value, where) {
    if (typeof value === "bigint" || value instanceof Overflow) return this.number(value, where);
    if (Array.isArray(value)) return value.map((item) => this.free(item, where));
    if (!(value instanceof Map)) return value;
    const name = value.size === 1 ? value.get("$float") : undefined;
    if (typeof name === "string" && NON_FINITE.has(name)) return NON_FINITE.get(name);
    return new Map([...value].map(([key, item]) => [key, this.free(item, where)]));
  }

  list(value, where, slot) {
    if (!Array.isArray(value)) return this.wrong(where, "a list");
    return value.map((item) => this.read(slot.of, item, where));
  }

  tuple(value, where, slot) {
    if (!Array.isArray(value) || value.length !== slot.of.length) return this.wrong(where, "a pair");
    return value.map((item, index) => this.read(slot.of[index], item, where));
  }

  map(value, where, slot) {
    if (!(value instanceof Map)) return this.wrong(where, "a map");
    return new Map([...value].map(([key, item]) => [key, this.read(slot.of, item, where)]));
  }

  object(value, where, slot) {
    return value instanceof Map ? this.members(slot.members, value, where) : this.wrong(where, "an object");
  }

  run_id(value, where) {
    if (typeof value === "string") return new Map([["id", value]]);
    if (!(value instanceof Map)) return this.wrong(where, "a run id");
    return this.members(RUN_ID_MEMBERS, value, where);
  }

  /** The members of a table; unknown ones are passed over (ENV-6). */
  members(table, value, where) {
    const out = new Map();
    for (const [name, slot] of Object.entries(table)) {
      const path = `${where}.${name}`;
      const item = value.get(name);
      if (item === undefined) {
        if (slot.required) this.faults.add("missing_field", `${path} is missing`);
      } else if (item === null && slot.kind !== "free") {
        if (slot.required) this.wrong(path, "a value");
      } else {
        const read = this.read(slot, item, path);
        if (read !== undefined && !isAbsence(name, read, slot)) out.set(name, read);
      }
    }
    return out;
  }
}

/** JSN-6.5, JSN-6.6: an empty list or map in an optional member, and "" in `wid` and `sid`. */
function isAbsence(name, value, slot) {
  if (slot.required) return false;
  if (value === "") return name === "wid" || name === "sid";
  return (slot.kind === "list" && value.length === 0) || (slot.kind === "map" && value.size === 0);
}

const isMessagePack = (byte) => (byte >= 0x80 && byte <= 0x8f) || byte === 0xde || byte === 0xdf;

/** Reads a payload; `messagepack` where a `welcome` chose it (MSG-2). */
export function decode(payload, { lenient = false, messagepack = false } = {}) {
  const value = messagepack && isMessagePack(payload[0]) ? parseMessagePack(payload) : parseJson(payload, lenient);
  return envelope(value, lenient);
}

export function envelope(value, lenient) {
  if (!(value instanceof Map)) throw new Refused("bad_envelope", "the payload is no object");
  const type = value.get("t");
  const meta = value.get("m");
  const body = value.get("p");
  if (typeof type !== "string") throw new Refused("bad_envelope", "t is no string");
  if (!(meta instanceof Map)) throw new Refused("bad_envelope", "m is no object");
  if (!(body instanceof Map)) throw new Refused("bad_envelope", "p is no object");
  const version = value.get("v");
  const one = typeof version === "number" && Number.isInteger(version) ? BigInt(version) : version;
  if (typeof one !== "bigint" || one < INT64_MIN || one > INT64_MAX) {
    throw new Refused("bad_envelope", "v is no integer");
  }
  if (one !== 1n) throw new Refused("unsupported_version", `v is ${one}`);

  const reader = new SlotReader(lenient);
  const m = reader.members(META, meta, "m");
  let p;
  if (isKnown(type)) {
    p = reader.members(bodyOf(type), body, "p");
    if (!isControl(type) && m.has("seq") && m.get("seq") < 1n) reader.faults.add("out_of_range", "m.seq is below 1");
  } else {
    // ENV-5.1: any object, and the rules of values.md hold in it, those of a free slot.
    p = new Map([...body].map(([name, item]) => [name, reader.free(item, `p.${name}`)]));
  }
  reader.faults.raise();
  return { t: type, v: 1n, m, p };
}

/** The run that an event names, or undefined (ENV-5.4). */
export function runOf(event) {
  const run = event.p.get("run_id");
  if (typeof run === "string") return run;
  const id = run instanceof Map ? run.get("id") : undefined;
  return typeof id === "string" ? id : undefined;
}
