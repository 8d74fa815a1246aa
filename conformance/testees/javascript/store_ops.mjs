/** The requests to a store: what is kept, how it lies at rest, what is read from there. */

import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { decode } from "./decode.mjs";
import { frame } from "./encode.mjs";
import { Fold } from "./fold.mjs";
import { Connection, Recording } from "./framer.mjs";
import { hold } from "./locks.mjs";
import { isAlive } from "./place.mjs";
import { Refused } from "./refused.mjs";
import { FIRST_RECORD, kindOf, readHeader, readSegment, SegmentReader, SegmentWriter } from "./segment.mjs";
import { fileName, Spool } from "./spool.mjs";
import {
  appendStream,
  CantWrite,
  deleteRun,
  postCommand,
  seqInSegment,
  trim,
  writeAccess,
  writeLost,
} from "./spool_writer.mjs";
import { Store } from "./store.mjs";
import { toTagged } from "./tagged.mjs";

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const bytesOf = (text) => Buffer.from(text, "base64");
const pairsOf = (ranges) => ranges.pairs;

const newFolder = () => mkdtempSync(join(tmpdir(), "xtrack-store-"));

class StoreSession {
  constructor() {
    this.folder = newFolder();
    this.store = new Store(this.folder);
    this.framers = new Map();
  }

  put({ source, frames }) {
    if (!this.framers.has(source)) this.framers.set(source, new Connection({ lenient: true }));
    for (const { event, payload } of this.framers.get(source).feed(bytesOf(frames))) {
      if (event !== undefined) this.store.collection.take(source, event, payload);
    }
    this.store.commit();
    return {};
  }

  known(id, question) {
    const run = this.store.collection.known(id);
    return run === undefined ? { unknown: true } : question(run);
  }

  events({ run_id }) {
    const told = (stream, record) => ({
      wid: stream.wid,
      sid: stream.sid,
      seq: record.seq,
      payload: base64(record.payload),
    });
    return this.known(run_id, (run) => ({
      events: run.log.map(({ stream, seq }) => told(stream, stream.events.get(seq))),
      aside: [...run.streams.values()].flatMap((stream) => stream.aside.map((record) => told(stream, record))),
    }));
  }

  cursor({ run_id, wid, sid }) {
    const stream = this.store.collection.known(run_id)?.find(wid, sid);
    return { ranges: stream === undefined ? [] : pairsOf(stream.has.union(stream.skipped)) };
  }

  points({ run_id, key }) {
    const told = ({ step, value, ctx, session, seq }) => ({
      step: toTagged(step ?? null),
      value: toTagged(value),
      wid: session.wid,
      sid: session.sid,
      seq,
      ...(ctx === undefined ? {} : { ctx: toTagged(ctx) }),
    });
    return this.known(run_id, (run) => ({
      points: new Fold(run)
        .points(key)
        .filter(({ hidden }) => !hidden)
        .map(told),
    }));
  }

  history({ run_id, name }) {
    const told = ({ value, seq, current }) => ({ value: toTagged(value), seq, current });
    return this.known(run_id, (run) => ({ values: new Fold(run).history(name).map(told) }));
  }

  delete({ run_id }) {
    this.store.collection.delete(run_id);
    this.store.commit();
    return {};
  }

  reopen({ how }) {
    if (how === "crash") {
      // As a process that died leaves it: nothing is closed in good order, and what the folder holds is all there is.
      const copy = newFolder();
      cpSync(this.folder, copy, { recursive: true });
      this.close();
      this.folder = copy;
    } else {
      this.store.close();
    }
    this.store = new Store(this.folder);
    this.framers.clear();
    return {};
  }

  close() {
    this.store.close();
    rmSync(this.folder, { recursive: true });
    return {};
  }
}

const stores = new Map();
const followed = new Map();

/** `t`, or the class of the error, of a record or frame. */
const judged = ({ event, error }) => (event === undefined ? { error } : { t: event.t });

function segmentItem({ offset, length, seq, event, error, damage, torn }) {
  if (torn) return { offset, length, torn, class: "truncated" };
  if (damage) return { offset, length, damage, seq, class: "bad_checksum" };
  return { offset, length, seq, ...judged({ event, error }) };
}

function readFile({ bytes }) {
  const file = bytesOf(bytes);
  const kind = kindOf(file);
  if (kind === "unknown") return { kind };
  if (kind === "plain") {
    const reader = new Recording({ lenient: true });
    const items = [...reader.feed(file), ...reader.finish()];
    return {
      kind,
      items: items.map(({ offset, length, verified, ...rest }) => ({
        offset,
        length,
        ...(verified === false ? { verified } : {}),
        ...judged(rest),
      })),
    };
  }
  const { header, items } = readSegment(file);
  if (header === null) return { kind, refused: true };
  return { kind, header, items: items.map(segmentItem) };
}

/** A segment that grows: its header must be there before anything can be told. */
function follow({ session, bytes }) {
  if (!followed.has(session)) followed.set(session, { head: Buffer.alloc(0), reader: null });
  const file = followed.get(session);
  let news = bytesOf(bytes);
  if (file.reader === null) {
    file.head = Buffer.concat([file.head, news]);
    if (file.head.length < FIRST_RECORD) return { items: [] };
    file.reader = new SegmentReader(readHeader(file.head));
    news = file.head.subarray(FIRST_RECORD);
    file.head = null;
  }
  return { items: file.reader.feed(news).map(segmentItem) };
}

const refusing = (work) => {
  try {
    return work();
  } catch (error) {
    if (error instanceof CantWrite || error instanceof Refused) return { refused: true };
    throw error;
  }
};

function writeFile({ form, run_id, wid, sid, payloads }) {
  return refusing(() => {
    const all = payloads.map(bytesOf);
    if (form === "plain") {
      for (const payload of all) decode(payload);
      return { bytes: base64(Buffer.concat(all.map((payload) => frame(payload)))) };
    }
    const seqs = all.map((payload) => seqInSegment(payload, { run: run_id, wid, sid }));
    const first = seqs.length > 0 && seqs[0] > 0n ? seqs[0] : 1n;
    const writer = new SegmentWriter({ run_id, wid, sid, first_seq: first, created: BigInt(Date.now()) * 1000n });
    const records = all.map((payload, index) => writer.record(seqs[index], payload));
    return { bytes: base64(Buffer.concat([writer.header, ...records])) };
  });
}

/** Lays the entries out below a folder; gives what releases the locks that are to be held. */
function layOut(root, files) {
  const releases = [];
  for (const { path, bytes, folder, link, locked } of files) {
    const full = join(root, path);
    if (folder) {
      mkdirSync(full, { recursive: true, mode: 0o700 });
      continue;
    }
    mkdirSync(dirname(full), { recursive: true, mode: 0o700 });
    if (link === undefined) writeFileSync(full, bytesOf(bytes ?? ""), { mode: 0o600 });
    else symlinkSync(link, full);
    if (locked) releases.push(hold(full));
  }
  return releases;
}

function collect(root, below = "") {
  const out = [];
  for (const name of readdirSync(join(root, below)).sort()) {
    const path = below === "" ? name : `${below}/${name}`;
    const full = join(root, path);
    const status = lstatSync(full);
    const mode = (status.mode & 0o7777).toString(8).padStart(4, "0");
    if (status.isSymbolicLink()) out.push({ path, link: readlinkSync(full) });
    else if (status.isDirectory()) out.push({ path, folder: true, mode }, ...collect(root, path));
    else out.push({ path, bytes: base64(readFileSync(full)), mode });
  }
  return out;
}

function inFolder(files, work) {
  const root = newFolder();
  const releases = [];
  try {
    releases.push(...layOut(root, files));
    return work(root);
  } finally {
    for (const release of releases) release?.();
    rmSync(root, { recursive: true });
  }
}

const plain = (value) => {
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, item]) => [name, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  return value;
};

function lostOf(lost) {
  if (lost === null) return null;
  const { at, reason, afterSeq, detail } = lost;
  return {
    at,
    reason,
    ...(afterSeq === undefined ? {} : { after_seq: afterSeq }),
    ...(detail === undefined ? {} : { detail }),
  };
}

function spoolRead({ files }) {
  return inFolder(files, (root) => {
    const spool = new Spool(root);
    const runs = [];
    for (const run of spool.collection.runs.values()) {
      const streams = [...spool.streams.values()].filter((stream) => stream.run === run.id);
      const access = spool.access.get(run.id) ?? null;
      runs.push({
        run_id: run.id,
        access: access === "unreadable" ? { unreadable: true } : access,
        streams: streams.map((stream) => {
          const { kept, missing } = spool.holdings(stream);
          const events = [...run.stream(stream.wid, stream.sid).events.values()];
          return {
            wid: stream.wid,
            sid: stream.sid,
            events: events.map(({ seq, payload }) => ({ seq, payload: base64(payload) })),
            missing: pairsOf(missing),
            kept: pairsOf(kept),
            kept_by: kept.pairs.length === 0 ? null : stream.note.get("to"),
            alive: isAlive(stream),
            lost: lostOf(stream.lost),
            shipped: stream.note === null ? null : plain(stream.note),
          };
        }),
      });
    }
    return { runs };
  });
}

function spoolWrite({ files, append, lost, command, access, delete: gone }) {
  return inFolder(files, (root) =>
    refusing(() => {
      if (append) {
        const { run_id, wid, sid, payloads } = append;
        appendStream(root, { run: run_id, wid, sid }, payloads.map(bytesOf));
      } else if (lost) writeLost(root, lost);
      else if (command) postCommand(root, command.run_id, bytesOf(command.payload));
      else if (access) writeAccess(root, access);
      else deleteRun(root, gone.run_id ?? gone);
      return { files: collect(root) };
    }),
  );
}

function spoolTrim({ files, now }) {
  return inFolder(files, (root) => {
    trim(root, BigInt(now), isAlive);
    return { files: collect(root) };
  });
}

const ok = (work) => (request) => ({ ok: work(request) });

export const STORE_OPS = {
  "store.open": ok(({ session }) => {
    stores.set(session, new StoreSession());
    return {};
  }),
  "store.close": ok(({ session }) => {
    const store = stores.get(session);
    stores.delete(session);
    followed.delete(session);
    return store === undefined ? {} : store.close();
  }),
  "store.file_read": ok(readFile),
  "store.file_follow": ok(follow),
  "store.file_write": ok(writeFile),
  "store.name": ok(({ text }) => ({ name: fileName(text) })),
  "store.spool_read": ok(spoolRead),
  "store.spool_write": ok(spoolWrite),
  "store.spool_trim": ok(spoolTrim),
};
for (const name of ["put", "events", "cursor", "points", "history", "delete", "reopen"]) {
  STORE_OPS[`store.${name}`] = ok((request) => stores.get(request.session)[name](request));
}
