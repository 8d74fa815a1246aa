/**
 * Streams (STR): identity, derived session ids, duplicates, conflicts, gaps and losses.
 *
 * A Collection is what a receiver has of all runs. It stores nothing by itself: what has changed is told to `journal`,
 * and fed back to `replay` when a store is opened again.
 */

import { runOf } from "./decode.mjs";
import { isControl, isKnown } from "./events.mjs";
import { Ranges } from "./ranges.mjs";

export const DERIVED = "legacy-";
/** STR-2.8 */
export const isDerived = (sid) => sid.startsWith(DERIVED);
export const keyOf = (...parts) => JSON.stringify(parts);

/** ENV-5.5, CTL-1: whether an event belongs to no stream. */
export const belongsToNoStream = ({ t, m }) => isControl(t) || (!isKnown(t) && m.get("seq") < 1n);

/** STR-4.4: whether two decoded values are equal; 1 and 1.0 are, not-a-number is equal to itself. */
export function sameValue(a, b) {
  if (a instanceof Map) {
    if (!(b instanceof Map) || a.size !== b.size) return false;
    return [...a].every(([name, item]) => b.has(name) && sameValue(item, b.get(name)));
  }
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => sameValue(item, b[index]));
  }
  const numeric = (value) => typeof value === "bigint" || typeof value === "number";
  // A bigint and a number are compared by their exact values.
  // eslint-disable-next-line eqeqeq
  if (numeric(a) && numeric(b)) return a == b || (Number.isNaN(a) && Number.isNaN(b));
  return a === b;
}

/** STR-4.2; what an event says of its stream is equal already when this is asked. */
export function sameContent(one, other) {
  if (Buffer.compare(one.payload, other.payload) === 0) return true;
  const [a, b] = [one.event, other.event];
  return a.t === b.t && sameValue(a.m.get("ts"), b.m.get("ts")) && sameValue(a.p, b.p);
}

export class Stream {
  constructor(wid, sid) {
    this.wid = wid;
    this.sid = sid;
    this.events = new Map(); // by seq: {event, payload, sources}
    this.aside = []; // what came under a seq that another event has
    this.has = new Ranges();
    this.skipped = new Ranges();
    this.losses = []; // StreamLost: {at, reason, afterSeq}
    this.ambiguous = false;
  }

  /** STR-7.1: what was declared lost and did not come after all. */
  get lost() {
    return this.skipped.minus(this.has);
  }

  /** STR-6: what is missing below what is present or declared as lost, and is neither itself. */
  get gaps() {
    const known = this.has.union(this.skipped);
    return known.greatest < 1n ? known : new Ranges([[1n, known.greatest]]).minus(known);
  }

  /** CTL-8.1: all up to here was received, skipped, or refused and so lost. */
  get cursor() {
    return this.has.union(this.skipped).unbroken;
  }
}

export class Run {
  constructor(id) {
    this.id = id;
    this.streams = new Map();
    this.log = []; // the events in the order in which they were committed: {stream, seq}
    this.owner = null;
  }

  stream(wid, sid) {
    const key = keyOf(wid, sid);
    let stream = this.streams.get(key);
    if (stream === undefined) {
      stream = new Stream(wid, sid);
      this.streams.set(key, stream);
    }
    return stream;
  }

  find(wid, sid) {
    return this.streams.get(keyOf(wid, sid));
  }

  get isEmpty() {
    return this.streams.size === 0;
  }
}

export class Collection {
  constructor(journal = () => {}, wall = () => BigInt(Date.now()) * 1000n) {
    this.runs = new Map();
    this.deleted = new Set();
    this.derived = new Map(); // by source, run and worker: the current derived id
    this.journal = journal;
    this.wall = wall;
    this.changed = null; // called with a run's id when its state may have changed
  }

  run(id) {
    let run = this.runs.get(id);
    if (run === undefined) {
      run = new Run(id);
      this.runs.set(id, run);
    }
    return run;
  }

  /** STR-2: the session of an event; a run_start without `sid` begins, or goes on with, a derived one. */
  sessionOf(source, run, event) {
    const given = event.m.get("sid");
    if (given !== undefined) return given;
    const key = keyOf(source, run, event.m.get("wid") ?? "");
    if (event.t === "run_start") this.derived.set(key, `${DERIVED}${event.m.get("ts")}`);
    return this.derived.get(key) ?? `${DERIVED}0`;
  }

  /**
   * Takes what a source has sent. What became of it: "new", "same", "seq_conflict", "run_deleted", or "none" for what belongs
   * to no stream.
   */
  take(source, event, payload, sid) {
    if (event.t === "skip") return this.skip(event);
    if (belongsToNoStream(event)) return "none";
    const id = runOf(event);
    if (id === undefined) return "none";
    const session = sid ?? this.sessionOf(source, id, event);
    if (this.deleted.has(id)) return "run_deleted";
    const wid = event.m.get("wid") ?? "";
    return this.put({ run: id, wid, sid: session, source, event, payload });
  }

  put({ run: id, wid, sid, source, event, payload, received = this.wall() }) {
    const run = this.run(id);
    const stream = run.stream(wid, sid);
    const seq = event.m.get("seq");
    const first = stream.events.get(seq);
    const record = { event, payload, sources: new Set([source]), seq, received };
    if (first === undefined) {
      stream.events.set(seq, record);
      stream.has.add(seq);
      run.log.push({ stream, seq });
      this.note({ kind: "event", run: id, wid, sid, source, received, payload });
      this.changed?.(id);
      return "new";
    }
    if (sameContent(first, record)) {
      this.seen(stream, first, source, seq);
      return "same";
    }
    // STR-5, STR-8: the first one stands, the other is kept aside, once however often it comes (DLV-6.2).
    const known = stream.aside.find((other) => other.seq === seq && sameContent(other, record));
    if (known === undefined) {
      stream.aside.push(record);
      this.note({ kind: "event", run: id, wid, sid, source, received, payload });
    }
    this.seen(stream, known ?? record, source, seq);
    return "seq_conflict";
  }

  /** STR-8: one source holds two events of the same derived identity. */
  seen(stream, record, source, seq) {
    record.sources.add(source);
    if (!isDerived(stream.sid) || stream.ambiguous) return;
    const others = [stream.events.get(seq), ...stream.aside.filter((other) => other.seq === seq)];
    stream.ambiguous = others.filter((other) => other.sources.has(source)).length > 1;
  }

  /** CTL-9, STR-7. */
  skip(event) {
    const { p } = event;
    const [first, last, id] = [p.get("from"), p.get("to"), runOf(event)];
    if (first < 1n || last < first) return "none";
    if (this.deleted.has(id)) return "run_deleted";
    return this.skipRange(id, p.get("wid") ?? "", p.get("sid"), first, last);
  }

  skipRange(id, wid, sid, first, last) {
    this.run(id).stream(wid, sid).skipped.add(first, last);
    this.note({ kind: "skip", run: id, wid, sid, first, last });
    this.changed?.(id);
    return "new";
  }

  lose(id, wid, sid, loss) {
    if (this.deleted.has(id)) return;
    this.run(id).stream(wid, sid).losses.push(loss);
    this.note({ kind: "lost", run: id, wid, sid, loss });
    this.changed?.(id);
  }

  expect(id) {
    if (this.deleted.has(id)) return;
    this.run(id);
    this.note({ kind: "expect", run: id });
  }

  delete(id) {
    this.runs.delete(id);
    this.deleted.add(id);
    this.note({ kind: "delete", run: id });
    this.changed?.(id);
  }

  note(entry) {
    this.journal(entry);
  }

  /** A run that may be told of; FLD-9.2: a deleted one is unknown. */
  known(id) {
    return this.deleted.has(id) ? undefined : this.runs.get(id);
  }
}
