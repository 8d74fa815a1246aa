/** Events that would be above the limit of a payload: split or shortened (FRM-3.10 to FRM-3.15). */

import { encodePayload } from "./encode.mjs";
import { Refused } from "./refused.mjs";

const CUT = "xtrack.cut";
const ROOM = 512;

const size = (value) => Buffer.byteLength(typeof value === "string" ? JSON.stringify(value) : String(value));

/** The beginning of a text, with a note of what it was (FRM-3.12). */
export function cutText(text, bytes) {
  const whole = Buffer.byteLength(text);
  const note = `... [cut: the whole text has ${whole} bytes]`;
  let kept = Math.max(0, bytes - note.length);
  let out;
  // Escapes make a text longer on the wire than in memory.
  for (;;) {
    out = `${[
      ...Buffer.from(text)
        .subarray(0, kept)
        .toString()
        .replace(/\ufffd+$/, ""),
    ].join("")}${note}`;
    if (kept === 0 || size(out) <= bytes) return out;
    kept = Math.floor(kept / 2);
  }
}

function sizeOf(value) {
  return encodePayload({
    t: "x",
    m: new Map([
      ["seq", 1n],
      ["ts", 0n],
    ]),
    p: new Map([["v", value]]),
  }).length;
}

/** Any value as text. */
const wholeText = (value) =>
  JSON.stringify(value, (_, item) => {
    if (item instanceof Map) return Object.fromEntries(item);
    return typeof item === "bigint" ? item.toString() : item;
  });

/** The longest part of a value that may be cut: a text, or a map's greatest entry. */
function cutValue(value, bytes) {
  if (typeof value === "string") return cutText(value, bytes);
  if (!(value instanceof Map)) return cutText(wholeText(value), bytes);
  const entries = [...value].map(([name, item]) => [name, item, sizeOf(item) + size(name)]);
  entries.sort((a, b) => a[2] - b[2]);
  const out = new Map();
  let room = bytes - ROOM;
  let left = 0;
  for (const [name, item, its] of entries) {
    if (its <= room) {
      out.set(name, item);
      room -= its;
    } else if (typeof item === "string" && room > 2 * ROOM && size(name) < room / 2) {
      const short = cutText(item, room - size(name) - ROOM);
      out.set(name, short);
      room -= size(short) + size(name) + 8;
    } else left += 1;
  }
  if (left > 0) out.set(CUT, `${left} of ${value.size} entries were left out`);
  return out;
}

/** What may be shortened, by type of event. */
const LONG = {
  param: [["value"]],
  log: [["fields"], ["msg"]],
  run_end: [
    ["error", "traceback"],
    ["error", "message"],
  ],
  run_start: [["tags"], ["env", "env_vars"]],
  tags: [["tags"]],
  artifact: [["meta"]],
  checkpoint: [["meta"]],
  alert: [["text"], ["title"]],
  status: [["msg"]],
};

/** The payload of an event, shortened where it must be; `cut` is told what was. Refused where it stays too large. */
export function fit(event, limit, cut = () => {}) {
  let payload = encodePayload(event);
  for (const path of LONG[event.t] ?? []) {
    if (payload.length <= limit) break;
    const holder = path.length === 1 ? event.p : event.p.get(path[0]);
    const name = path.at(-1);
    const value = holder?.get(name);
    if (value === undefined) continue;
    const others = payload.length - sizeOf(value);
    const room = Math.max(256, limit - others - ROOM);
    if (sizeOf(value) > room) {
      cut(name, typeof value === "string" ? value : wholeText(value));
      holder.set(name, cutValue(value, room));
    }
    payload = encodePayload(event);
  }
  if (payload.length > limit) throw new Refused("frame_too_large", "the event stays too large");
  return payload;
}

/** FRM-3.10: parts of a map of metrics, each small enough. */
export function split(values, limit) {
  const parts = [];
  let part = new Map();
  let room = 0;
  for (const [name, value] of values) {
    const its = size(name) + 32;
    if (part.size > 0 && room + its > limit) {
      parts.push(part);
      part = new Map();
      room = 0;
    }
    part.set(name, value);
    room += its;
  }
  parts.push(part);
  return parts;
}
