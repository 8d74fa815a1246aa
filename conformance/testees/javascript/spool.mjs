/** The spool: its names, how it is read, and what may be removed of it (RST-6 to RST-9). */

import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { parseJson } from "./json.mjs";
import { INT64_MAX, INT64_MIN } from "./numbers.mjs";
import { Ranges } from "./ranges.mjs";
import { Refused } from "./refused.mjs";
import { readSegment } from "./segment.mjs";
import { decode } from "./decode.mjs";
import { Collection, keyOf } from "./streams.mjs";

const SAFE = /^[A-Za-z0-9\-_+=@]$/;
const DEVICE = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])$/;

/** RST-6.13, RST-6.14: what stands for an id in names of files. */
export function fileName(id) {
  const bytes = Buffer.from(id);
  let name = bytes.length === 0 ? "%00empty" : "";
  for (const byte of bytes) {
    const char = String.fromCharCode(byte);
    name += SAFE.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  if (name.length <= 120 && !/[A-Z]/.test(id) && !DEVICE.test(id)) return name;
  return `${name.slice(0, 79)}~${createHash("sha256").update(bytes).digest("hex").slice(0, 40)}`;
}

/** A file's JSON object as a Map, or null. Links are not followed. */
export function readObject(path) {
  try {
    if (!lstatSync(path).isFile()) return null;
    const value = parseJson(readFileSync(path));
    return value instanceof Map ? value : null;
  } catch (error) {
    if (error instanceof Refused || error.code !== undefined) return null;
    throw error;
  }
}

const isText = (value) => typeof value === "string";
const isInteger = (value) => typeof value === "bigint" && value >= INT64_MIN && value <= INT64_MAX;
const isList = (value) => Array.isArray(value);
const isBoolean = (value) => typeof value === "boolean";
const optional = (test) => (value) => value === undefined || value === null || test(value);
const pairs = (first, second) => (value) =>
  isList(value) && value.every((pair) => isList(pair) && pair.length === 2 && first(pair[0]) && second(pair[1]));

const NOTE = {
  to: isText,
  buffer: optional(isBoolean),
  acked: optional(isInteger),
  durability: optional(isText),
  unconfirmed: optional(isInteger),
  rejected: optional(pairs(isInteger, isText)),
  rejected_count: optional(isInteger),
  fenced: optional(isBoolean),
  marks: optional(pairs(isInteger, isInteger)),
  trimmed: optional(isInteger),
  ends: optional((value) => isList(value) && value.every(isText)),
};

/** RST-9.1, RST-9.2: the stream and the note that a `.ship` holds, or null. */
export function readShip(path) {
  const object = readObject(path);
  const [note, wid] = [object?.get("note"), object?.get("wid") ?? ""];
  if (!(note instanceof Map) || !isText(object.get("run_id")) || !isText(object.get("sid")) || !isText(wid))
    return null;
  if (!Object.entries(NOTE).every(([name, test]) => test(note.get(name)))) return null;
  return { run: object.get("run_id"), wid, sid: object.get("sid"), note };
}

/** RST-7.1: a StreamLost, or null. */
function readLost(path) {
  const object = readObject(path);
  const reason = object?.get("reason");
  if (object === null || !isInteger(object.get("at")) || !["died", "vanished"].includes(reason)) return null;
  if (!optional(isInteger)(object.get("after_seq")) || !optional(isText)(object.get("detail"))) return null;
  return {
    at: object.get("at"),
    reason,
    afterSeq: object.get("after_seq") ?? undefined,
    detail: object.get("detail") ?? undefined,
  };
}

/** RST-7.8, RST-7.9: null where there is none, "unreadable", or what it says. */
function readAccess(path, run) {
  if (!existsSync(path)) return null;
  const object = readObject(path);
  const names = optional((value) => isList(value) && value.every(isText));
  const fits =
    object !== null &&
    object.get("run_id") === run &&
    optional(isText)(object.get("owner")) &&
    optional(isBoolean)(object.get("public")) &&
    names(object.get("readers")) &&
    names(object.get("writers"));
  if (!fits) return "unreadable";
  return {
    owner: object.get("owner") ?? null,
    public: object.get("public") ?? false,
    readers: object.get("readers") ?? [],
    writers: object.get("writers") ?? [],
  };
}

const listOf = (folder) => {
  try {
    return lstatSync(folder).isDirectory() ? readdirSync(folder) : [];
  } catch {
    return [];
  }
};

/** One stream of a folder: its segments in order, and what lies beside them. */
export class SpoolStream {
  constructor(folder, run, wid, sid) {
    Object.assign(this, { folder, run, wid, sid });
    this.segments = []; // {path, header, items}
    this.known = new Ranges(); // seqs that damage, notes and skips tell of
    const base = join(folder, fileName(sid));
    this.lost = readLost(`${base}.lost`);
    const ship = readShip(`${base}.ship`);
    const mine = ship !== null && ship.run === run && ship.wid === wid && ship.sid === sid;
    this.note = mine ? ship.note : null;
  }

  get trimmed() {
    return this.note?.get("trimmed") ?? 0n;
  }
}

/** All that a spool holds. Identity is taken from headers and notes, never from names (RST-6.1). */
export class Spool {
  constructor(root) {
    this.root = root;
    this.streams = new Map();
    this.collection = new Collection();
    this.deleted = new Set();
    this.access = new Map();
    const spool = join(root, "spool");
    for (const name of listOf(spool)) this.readFolder(join(spool, name), name);
    for (const run of this.deleted) this.collection.delete(run);
  }

  stream(folder, run, wid, sid) {
    const key = keyOf(run, wid, sid);
    if (!this.streams.has(key)) this.streams.set(key, new SpoolStream(folder, run, wid, sid));
    return this.streams.get(key);
  }

  readFolder(folder, name) {
    const names = listOf(folder).sort();
    const gone = names.includes("DELETED");
    const runs = new Set();
    for (const file of names.filter((other) => other.endsWith(".xseg"))) {
      const path = join(folder, file);
      if (!lstatSync(path).isFile()) continue;
      const bytes = readFileSync(path);
      const { header, items } = readSegment(bytes);
      if (header === null) continue;
      runs.add(header.run_id);
      const stream = this.stream(folder, header.run_id, header.wid, header.sid);
      stream.segments.push({ path, header, items, bytes: bytes.length });
    }
    for (const file of names.filter((other) => other.endsWith(".ship"))) {
      const ship = readShip(join(folder, file));
      if (ship === null || `${fileName(ship.sid)}.ship` !== file) continue;
      // Where there are segments of that sid, a note of another stream is none (RST-9.2).
      const here = [...this.streams.values()].filter((stream) => stream.folder === folder && stream.sid === ship.sid);
      if (here.some(({ run, wid }) => run !== ship.run || wid !== ship.wid)) continue;
      runs.add(ship.run);
      this.stream(folder, ship.run, ship.wid, ship.sid);
    }
    for (const run of runs) {
      if (gone) this.deleted.add(run);
      if (name === fileName(run)) this.access.set(run, readAccess(join(folder, "ACCESS"), run));
    }
    for (const stream of this.streams.values()) if (stream.folder === folder) this.readStream(stream);
  }

  readStream(stream) {
    const { run, wid, sid } = stream;
    stream.segments.sort((a, b) =>
      a.header.number < b.header.number ? -1 : a.header.number > b.header.number ? 1 : 0,
    );
    const put = (event, payload) => {
      if (event.t === "skip") {
        const [first, last] = [event.p.get("from"), event.p.get("to")];
        if (first >= 1n && last >= first) this.collection.skipRange(run, wid, sid, first, last);
      } else if (event.m.get("seq") >= 1n) {
        this.collection.put({ run, wid, sid, source: stream.folder, event, payload });
      }
    };
    this.collection.run(run).stream(wid, sid);
    for (const { items } of stream.segments) {
      for (const item of items) {
        if (item.event !== undefined) put(item.event, item.payload);
        else if (item.seq > 0n) stream.known.add(item.seq);
      }
    }
    for (const payload of stream.note?.get("ends") ?? []) {
      try {
        const bytes = Buffer.from(payload);
        put(decode(bytes, { lenient: true }), bytes);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
      }
    }
    if (stream.lost !== null) this.collection.lose(run, wid, sid, stream.lost);
  }

  /** What of a stream is here, kept by a collector, and lost. */
  holdings(stream) {
    const { has, skipped } = this.collection.run(stream.run).stream(stream.wid, stream.sid);
    const ends = [has.greatest, skipped.greatest, stream.known.greatest, stream.lost?.afterSeq ?? 0n];
    const last = ends.reduce((a, b) => (a > b ? a : b));
    const kept = stream.trimmed < 1n ? new Ranges() : new Ranges([[1n, stream.trimmed]]).minus(has);
    const all = last < 1n ? new Ranges() : new Ranges([[1n, last]]);
    return { kept, missing: all.minus(has).minus(kept) };
  }
}
