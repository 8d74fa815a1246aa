/** Writing into a spool: segments, the files beside them, and removal (RST-6, RST-7, RST-9). */

import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";

import { decode } from "./decode.mjs";
import { Ranges } from "./ranges.mjs";
import { RECORD_HEAD, SegmentWriter } from "./segment.mjs";
import { fileName, Spool } from "./spool.mjs";

const SEGMENT_SIZE = 8 * 1_048_576;
const DAY = 24n * 3600n * 1_000_000n;
const MAX_END = 65_536;

/** What can't be written as the specification wants it. */
export class CantWrite extends Error {}

function isLink(path) {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}

/** Folders on the way to one of the spool, with their modes; none may be a link (RST-6.7, RST-6.8). */
export function makeFolder(root, ...parts) {
  let path = root;
  for (const part of parts) {
    path = join(path, part);
    if (isLink(path)) throw new CantWrite(`${path} is a symbolic link`);
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o700);
  }
  return path;
}

function writeAll(file, bytes) {
  let written = 0;
  while (written < bytes.length) written += writeSync(file, bytes, written);
}

/** A new file that nobody had, no link included. */
export function createFile(path, bytes) {
  const file = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    writeAll(file, bytes);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  chmodSync(path, 0o600);
}

function syncFolder(path) {
  const folder = openSync(path, constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** RST-7: under another name, and then renamed. */
export function replaceFile(folder, name, bytes) {
  const path = join(folder, name);
  if (isLink(path)) throw new CantWrite(`${path} is a symbolic link`);
  const other = join(folder, `.${randomBytes(8).toString("hex")}.tmp`);
  createFile(other, bytes);
  renameSync(other, path);
  syncFolder(folder);
}

const runFolder = (root, run) => makeFolder(root, "spool", fileName(run));

/** Checks that a payload can stand in a segment of the stream, and gives its record's seq. */
export function seqInSegment(payload, { wid, sid }) {
  const event = decode(payload, { lenient: false });
  const own = event.t === "skip" ? event.p : event.m;
  if ((own.get("wid") ?? wid) !== wid || (own.get("sid") ?? sid) !== sid)
    throw new CantWrite("an event of another stream");
  const seq = event.m.get("seq");
  if (event.t === "skip") return 0n;
  if (seq < 1n) throw new CantWrite("a control event");
  return seq;
}

/** Writes segments of one stream. A new writer begins a new segment, and appends to none of another's (RST-5.11). */
export class StreamWriter {
  constructor(root, stream, now = () => BigInt(Date.now()) * 1000n) {
    Object.assign(this, { root, stream, now });
    this.folder = runFolder(root, stream.run);
    if (existsSync(join(this.folder, "DELETED"))) throw new CantWrite("the run was deleted");
    this.number = 0;
    this.last = 0n;
    for (const { header, items } of this.present()) {
      if (Number(header.number) > this.number) this.number = Number(header.number);
      for (const { seq } of items) if (seq > this.last) this.last = seq;
    }
    this.file = null;
    this.full = []; // files of segments that are complete, and not forced to the disk yet
    this.size = 0;
  }

  present() {
    const { run, wid, sid } = this.stream;
    const all = [...new Spool(this.root).streams.values()];
    return all.find((other) => other.run === run && other.wid === wid && other.sid === sid)?.segments ?? [];
  }

  begin(seq) {
    this.retire();
    const { run, wid, sid } = this.stream;
    const base = fileName(sid);
    do this.number += 1;
    while (existsSync(this.path(base)) || isLink(this.path(base)));
    const first = seq > 0n ? seq : this.last + 1n;
    this.writer = new SegmentWriter({
      run_id: run,
      wid,
      sid,
      number: this.number,
      first_seq: first,
      created: this.now(),
    });
    createFile(this.path(base), this.writer.header);
    this.file = openSync(this.path(base), constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW);
    this.size = this.writer.header.length;
  }

  path(base) {
    return join(this.folder, `${base}.${String(this.number).padStart(6, "0")}.xseg`);
  }

  append(seq, payload) {
    if (this.file === null || this.size >= SEGMENT_SIZE) this.begin(seq);
    const bytes = this.writer.record(seq, payload);
    const where = {
      path: this.path(fileName(this.stream.sid)),
      offset: this.size + RECORD_HEAD,
      length: payload.length,
    };
    writeAll(this.file, bytes);
    this.size += bytes.length;
    if (seq > this.last) this.last = seq;
    return where;
  }

  retire() {
    if (this.file !== null) this.full.push(this.file);
    this.file = null;
  }

  sync(force = fsyncSync) {
    while (this.full.length > 0) {
      force(this.full[0]);
      closeSync(this.full.shift());
    }
    if (this.file !== null) force(this.file);
  }

  /** As `sync`, while others go on; `done(error)` is called at its end. */
  syncLater(forceLater, done) {
    const file = this.full[0] ?? this.file;
    if (file === null) {
      done();
      return;
    }
    forceLater(file, (error) => {
      const isFull = this.full[0] === file;
      // Whoever was quicker has closed it.
      if (error && (isFull || this.file === file)) done(error);
      else if (!isFull) done();
      else {
        closeSync(this.full.shift());
        this.syncLater(forceLater, done);
      }
    });
  }

  end() {
    this.retire();
    this.sync();
  }
}

export function appendStream(root, stream, payloads) {
  const records = payloads.map((payload) => [seqInSegment(payload, stream), payload]);
  const writer = new StreamWriter(root, stream);
  for (const [seq, payload] of records) writer.append(seq, payload);
  writer.end();
}

const json = (members) => Buffer.from(JSON.stringify(members));

export function writeLost(root, { run_id, sid, at, reason, after_seq, detail }) {
  const members = { at, reason };
  if (after_seq !== undefined && after_seq !== null) members.after_seq = after_seq;
  if (detail !== undefined && detail !== null) members.detail = detail;
  replaceFile(runFolder(root, run_id), `${fileName(sid)}.lost`, json(members));
}

export function postCommand(root, run, payload) {
  const { t, p } = decode(payload);
  if (t !== "command") throw new CantWrite("no command");
  const folder = makeFolder(root, "spool", fileName(run), "commands");
  replaceFile(folder, `${fileName(p.get("cmd_id"))}.json`, payload);
}

export function writeAccess(root, { run_id, owner, public: open, readers = [], writers = [] }) {
  const members = { run_id };
  if (owner !== undefined && owner !== null) members.owner = owner;
  if (open) members.public = true;
  if (readers.length > 0) members.readers = readers;
  if (writers.length > 0) members.writers = writers;
  replaceFile(runFolder(root, run_id), "ACCESS", json(members));
}

/** The tombstone first: whoever looks in between finds a run that is deleted. */
export function deleteRun(root, run) {
  const folder = runFolder(root, run);
  replaceFile(folder, "DELETED", Buffer.from(run));
  for (const name of readdirSync(folder)) {
    if (name !== "DELETED" && !name.endsWith(".lock") && !name.endsWith(".shipping"))
      rmSync(join(folder, name), { recursive: true });
  }
}

/** RST-9.3 to RST-9.7: removes the segments of which nothing is needed here any more. */
export function trim(root, now, isAlive = () => false) {
  if (existsSync(join(root, "SERVED"))) return;
  for (const stream of new Spool(root).streams.values()) trimStream(stream, now, isAlive(stream));
}

function trimStream(stream, now, alive) {
  const { note } = stream;
  if (note === null || note.get("buffer") !== true || note.get("durability") !== "power") return;
  const acked = note.get("acked") ?? 0n;
  const since = new Map(note.get("marks") ?? []);
  const last = stream.segments.at(-1);
  const removable = [];
  // From the first on, so that `trimmed` can say it of all up to a seq.
  for (const segment of stream.segments) {
    const at = since.get(segment.header.number);
    const whole = segment.items.every(({ seq, event }) => isCovered(seq, event, acked));
    if (!whole || at === undefined || at + DAY > now || (alive && segment === last)) break;
    removable.push(segment);
  }
  if (removable.length === 0) return;

  const seqs = new Ranges();
  const ends = [...(note.get("ends") ?? [])];
  for (const { items } of removable) {
    for (const { seq, event, payload } of items) {
      if (seq > 0n) seqs.add(seq);
      const isEnd = event?.t === "run_start" || event?.t === "run_end";
      if (isEnd && payload.length <= MAX_END && !ends.includes(payload.toString())) ends.push(payload.toString());
    }
  }
  const trimmed = seqs.greatest > stream.trimmed ? seqs.greatest : stream.trimmed;
  const told = new Map([...note, ["trimmed", trimmed], ["ends", ends]]);
  const object = new Map([
    ["run_id", stream.run],
    ["sid", stream.sid],
    ["note", told],
  ]);
  if (stream.wid !== "") object.set("wid", stream.wid);
  replaceFile(stream.folder, `${fileName(stream.sid)}.ship`, Buffer.from(plainJson(object)));
  for (const { path } of removable) unlinkSync(path);
}

/** A skip's seqs count as well; damage without a seq is known to nobody, and is kept. */
function isCovered(seq, event, acked) {
  if (event?.t === "skip") return event.p.get("to") <= acked;
  return seq !== undefined && seq !== null && seq > 0n && seq <= acked;
}

export function plainJson(value) {
  if (value instanceof Map)
    return `{${[...value].map(([name, item]) => `${JSON.stringify(name)}:${plainJson(item)}`).join(",")}}`;
  if (Array.isArray(value)) return `[${value.map(plainJson).join(",")}]`;
  return typeof value === "bigint" ? value.toString() : JSON.stringify(value);
}
