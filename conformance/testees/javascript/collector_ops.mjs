/** The requests to a collector: what becomes of events, without a network. */

import { Fold } from "./fold.mjs";
import { Connection, Recording } from "./framer.mjs";
import { Collection } from "./streams.mjs";
import { toTagged } from "./tagged.mjs";

/** An object of what is there: undefined members are left out. */
const object = (members) => new Map(Object.entries(members).filter(([, value]) => value !== undefined));
const number = (value) => BigInt(value);

const listed = (records) =>
  records.map(({ event, session, seq }) =>
    object({ p: event.p, wid: session.wid, sid: session.sid, seq, ts: event.m.get("ts") }),
  );

const stream = (told) =>
  object({
    wid: told.wid,
    sid: told.sid,
    has: told.has.pairs,
    gaps: told.gaps.pairs,
    lost: told.lost.pairs,
    last_seq: told.lastSeq,
    conflicts: number(told.conflicts),
    ambiguous: told.ambiguous,
    late: number(told.late),
    duration_ms: told.duration,
  });

const series = ({ count, last, least, greatest }) => object({ count: number(count), last, least, greatest });

const told = (state) =>
  object({
    status: state.status,
    name: state.name,
    note: state.note,
    experiment: state.experiment,
    parent: state.parent,
    started: state.started,
    ended: state.ended,
    error: state.error,
    params: state.params,
    tags: state.tags,
    summary: state.summary,
    final: state.final,
    series: new Map([...state.series].map(([name, value]) => [name, series(value)])),
    source: state.source,
    env: state.env,
    workers: state.workers,
    logs: listed(state.logs),
    artifacts: listed(state.artifacts),
    checkpoints: listed(state.checkpoints),
    streams: state.streams.map(stream),
  });

const point = ({ step, value, epoch, ctx, ts, session, seq, hidden }) =>
  object({ step, value, epoch, ctx, ts, wid: session.wid, sid: session.sid, seq, hidden: hidden || undefined });

class Session {
  constructor() {
    this.collection = new Collection();
    this.framers = new Map();
  }

  feed({ source, kind, frames }) {
    let framer = this.framers.get(source);
    if (framer === undefined) {
      framer = kind === "recording" ? new Recording({ lenient: true }) : new Connection({ lenient: true });
      this.framers.set(source, framer);
    }
    for (const { event, payload } of framer.feed(Buffer.from(frames, "base64"))) {
      if (event !== undefined) this.collection.take(source, event, payload);
    }
    return {};
  }

  lost({ run_id, wid, sid, at, reason, after_seq }) {
    const afterSeq = after_seq === undefined || after_seq === null ? undefined : BigInt(after_seq);
    this.collection.lose(run_id, wid, sid, { at: BigInt(at), reason, afterSeq });
    return {};
  }

  expect({ run_id }) {
    this.collection.expect(run_id);
    return {};
  }

  delete({ run_id }) {
    this.collection.delete(run_id);
    return {};
  }

  ask(id, question) {
    const run = this.collection.known(id);
    return run === undefined ? { unknown: true } : question(new Fold(run));
  }

  run({ run_id }) {
    return this.ask(run_id, (fold) => ({ run: toTagged(told(fold.state())) }));
  }

  points({ run_id, key }) {
    return this.ask(run_id, (fold) => ({ points: toTagged(fold.points(key).map(point)) }));
  }

  aggregate({ run_id, key }) {
    const step = (entry) => object({ ...entry, nan: number(entry.nan) });
    return this.ask(run_id, (fold) => ({ steps: toTagged(fold.aggregate(key).map(step)) }));
  }
}

const sessions = new Map();
const OPS = ["feed", "lost", "expect", "delete", "run", "points", "aggregate"];

export const COLLECTOR_OPS = {
  "collect.close"({ session }) {
    sessions.delete(session);
    return { ok: {} };
  },
};
for (const name of OPS) {
  COLLECTOR_OPS[`collect.${name}`] = (request) => {
    if (!sessions.has(request.session)) sessions.set(request.session, new Session());
    return { ok: sessions.get(request.session)[name](request) };
  };
}
