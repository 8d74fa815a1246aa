/**
 * Orders of the fold: by Unicode code points (FLD-2.8), and the order of sessions (FLD-2.2).
 */

/** Strings by code points: UTF-16 units would put U+10000 before U+FFFF. */
export function compareText(a, b) {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const [x, y] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (x === y) continue;
    const [high, low] = [x >= 0xd800 && x <= 0xdfff, y >= 0xd800 && y <= 0xdfff];
    if (high !== low) return high ? 1 : -1;
    return x < y ? -1 : 1;
  }
  return a.length - b.length;
}

export function compare(a, b) {
  if (Array.isArray(a)) {
    for (let index = 0; index < a.length; index += 1) {
      const order = compare(a[index], b[index]);
      if (order !== 0) return order;
    }
    return 0;
  }
  if (typeof a === "string") return compareText(a, b);
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The greatest of `items` by `key`; undefined of none. */
export function greatest(items, key) {
  let best;
  let bestKey;
  for (const item of items) {
    const its = key(item);
    if (best === undefined || compare(its, bestKey) > 0) [best, bestKey] = [item, its];
  }
  return best;
}

/** FLD-2, FLD-2.1: the write that counts. A write has session, seq, ts and value. */
export function lastWrite(writes) {
  const byWorker = new Map();
  for (const write of writes) {
    const other = byWorker.get(write.session.wid);
    if (other === undefined || compare([write.session.rank, write.seq], [other.session.rank, other.seq]) > 0) {
      byWorker.set(write.session.wid, write);
    }
  }
  return greatest(byWorker.values(), ({ ts, session, seq }) => [ts, session.wid, session.sid, seq]);
}

/** What a session's events say of it, found once: FLD-2.3, FLD-2.4, FLD-4.4. */
export class Session {
  constructor(stream) {
    this.stream = stream;
    this.wid = stream.wid;
    this.sid = stream.sid;
    this.events = [...stream.events.values()].sort((a, b) => compare(a.seq, b.seq));
    const firstOf = (type) => this.events.find(({ event }) => event.t === type)?.event;
    this.runStart = firstOf("run_start");
    const end = this.events.find(({ event }) => event.t === "run_end");
    this.runEnd = end?.event;
    this.endSeq = end?.seq;
    this.start =
      this.runStart?.m.get("ts") ??
      this.events.reduce(
        (low, { event }) => (low === undefined || event.m.get("ts") < low ? event.m.get("ts") : low),
        undefined,
      ) ??
      0n;
    const resume = this.runStart?.p.get("resume");
    this.resumes = new Set(resume?.get("sids") ?? []);
    this.rewindTo = resume?.get("rewind_to");
    this.observer = this.runStart?.p.get("observer") === true;
    this.sub = this.runStart?.p.get("sub") === true;
  }
}

/** The sessions of a run in session order, each with its `rank` in it. */
export function sessionsOf(run) {
  const sessions = [...run.streams.values()]
    .filter((stream) => stream.events.size > 0 || stream.losses.length > 0)
    .map((stream) => new Session(stream));
  const bySid = new Map();
  for (const session of sessions) bySid.set(session.sid, [...(bySid.get(session.sid) ?? []), session]);
  for (const session of sessions) {
    const reached = new Set();
    const open = [session];
    while (open.length > 0) {
      for (const sid of open.pop().resumes) {
        for (const other of bySid.get(sid) ?? []) {
          if (other === session || reached.has(other)) continue;
          reached.add(other);
          open.push(other);
        }
      }
    }
    let latest = session.start;
    for (const other of reached) if (other.start > latest) latest = other.start;
    session.key = [latest, BigInt(reached.size), session.wid, session.sid];
  }
  sessions.sort((a, b) => compare(a.key, b.key));
  sessions.forEach((session, rank) => {
    session.rank = rank;
  });
  return sessions;
}
