/**
 * From the events of a run to its state (FLD). It is made anew from all there is, so that order and repetition can't matter (FLD-1).
 */

import { compare, lastWrite, sessionsOf } from "./order.mjs";
import { aggregate, pointsOf, seriesState } from "./series.mjs";
import { effectiveLoss, statusOf, supersede, votesOf } from "./votes.mjs";

/** EVT-PARAM-1.2. */
export const flatName = (p) => [p.get("key"), ...(p.get("nested_key") ?? [])].join(".");

class Cells {
  constructor() {
    this.writes = new Map();
  }

  write(name, value, at) {
    const write = { ...at, value };
    const others = this.writes.get(name);
    if (others === undefined) this.writes.set(name, [write]);
    else others.push(write);
  }

  writeAll(values, at) {
    for (const [name, value] of values ?? []) this.write(name, value, at);
  }

  get values() {
    return new Map([...this.writes].map(([name, writes]) => [name, lastWrite(writes).value]));
  }
}

export class Fold {
  constructor(run) {
    this.run = run;
    this.sessions = sessionsOf(run);
    supersede(this.sessions);
    this.params = new Cells();
    this.tags = new Cells();
    this.summary = new Cells();
    this.belongs = new Cells();
    this.series = new Map();
    this.lists = { log: [], artifact: [], checkpoint: [] };
    this.doing = new Map();
    this.rewinds = this.sessions.filter(({ rewindTo }) => rewindTo !== undefined);
    for (const session of this.sessions) for (const record of session.events) this.take(session, record);
  }

  /** FLD-8.1: whether a step of a session was taken back by one that resumes it. */
  isHidden(session, step) {
    if (step === undefined) return false;
    return this.rewinds.some((other) => other !== session && other.resumes.has(session.sid) && step > other.rewindTo);
  }

  take(session, { event, seq }) {
    const { t, p } = event;
    const at = { session, seq, ts: event.m.get("ts") };
    const run = p.get("run_id");
    switch (t) {
      case "run_start":
        this.tags.writeAll(p.get("tags"), at);
        break;
      case "param":
        this.params.write(flatName(p), p.get("value"), at);
        break;
      case "metric":
        this.point(p.get("key"), p.get("value"), p, at);
        break;
      case "metric_batch":
        for (const [key, value] of p.get("metrics")) this.point(key, value, p, at);
        break;
      case "tags":
        this.tags.writeAll(p.get("tags"), at);
        break;
      case "summary":
        this.summary.writeAll(p.get("values"), at);
        break;
      case "status":
        // Sessions come in their order, and events of one in that of their seqs.
        this.doing.set(session.wid, p);
        break;
      case "checkpoint":
        if (!this.isHidden(session, p.get("step"))) this.lists[t].push({ event, session, seq });
        break;
      case "log":
      case "artifact":
        this.lists[t].push({ event, session, seq });
        break;
      case "run_end":
      case "alert":
        break;
      default:
        return; // ENV-5.6
    }
    if (run.has("exp_id")) this.belongs.write("experiment", run.get("exp_id"), at);
    if (run.has("parent_id")) this.belongs.write("parent", run.get("parent_id"), at);
  }

  point(key, value, p, at) {
    const step = p.get("step");
    const point = {
      ...at,
      value,
      step,
      epoch: p.get("epoch"),
      ctx: p.get("ctx"),
      hidden: this.isHidden(at.session, step),
    };
    const others = this.series.get(key);
    if (others === undefined) this.series.set(key, [point]);
    else others.push(point);
  }

  /** FLD-2.5 to FLD-2.7: the last run_start in session order that gives a value, observers only where no other does. */
  given(name) {
    const giving = this.sessions.filter(({ runStart }) => runStart?.p.has(name));
    const last = giving.findLast(({ observer }) => !observer) ?? giving.at(-1);
    return last?.runStart.p.get(name);
  }

  /** EVT-RUN_END-1.2. */
  get finals() {
    const writes = new Map();
    for (const session of this.sessions) {
      for (const [name, value] of session.runEnd?.p.get("final_metrics") ?? []) {
        const key = [session.runEnd.m.get("ts"), session.wid, session.sid];
        const other = writes.get(name);
        if (other === undefined || compare(key, other.key) > 0) writes.set(name, { key, value });
      }
    }
    return new Map([...writes].map(([name, { value }]) => [name, value]));
  }

  /** All of a run's state (FLD-11). */
  state() {
    const votes = votesOf(this.sessions);
    const { status, started, ended, error } = statusOf(this.sessions, votes);
    const tags = this.tags.values;
    const belongs = this.belongs.values;
    const series = [...this.series].map(([name, points]) => [name, seriesState(points)]);
    return {
      id: this.run.id,
      status,
      started,
      ended,
      error,
      name: tags.get("xtrack.name") ?? this.given("name"),
      note: tags.get("xtrack.note"),
      experiment: belongs.get("experiment"),
      parent: belongs.get("parent"),
      params: this.params.values,
      tags,
      summary: this.summary.values,
      final: this.finals,
      series: new Map(series.filter(([, { count }]) => count > 0)),
      source: this.given("source"),
      env: this.given("env"),
      workers: this.doing,
      logs: this.lists.log,
      artifacts: this.lists.artifact,
      checkpoints: this.lists.checkpoint,
      streams: [...this.run.streams.values()].map((stream) => this.streamState(stream)),
    };
  }

  streamState(stream) {
    const session = this.sessions.find((other) => other.stream === stream);
    const endSeq = session?.endSeq;
    return {
      wid: stream.wid,
      sid: stream.sid,
      has: stream.has,
      gaps: stream.gaps,
      lost: stream.lost,
      lastSeq: stream.has.greatest,
      conflicts: stream.aside.length,
      ambiguous: stream.ambiguous,
      // FLD-7
      late: endSeq === undefined ? 0 : session.events.filter(({ seq }) => seq > endSeq).length,
      duration: session?.runEnd?.p.get("duration_ms"),
      loss: session === undefined ? undefined : effectiveLoss(session),
    };
  }

  points(key) {
    return pointsOf(this.series.get(key) ?? []);
  }

  aggregate(key) {
    return aggregate(this.series.get(key) ?? []);
  }

  /** FLD-2.9: every write of a parameter, and which one counts. */
  history(name) {
    const writes = this.params.writes.get(name) ?? [];
    const current = lastWrite(writes);
    return writes.map((write) => ({ value: write.value, seq: write.seq, current: write === current }));
  }
}
