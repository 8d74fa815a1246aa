/**
 * An emitter's connection to its collector: hello, fallback, open, sending, acks, and another try when it ends (CTL, VER, DLV-8).
 *
 * `line` makes connections: want(), write(bytes), close(). It tells of them by connected(address), refused(), receive(bytes) and
 * disconnected().
 */

import { control, named } from "./control.mjs";
import { runOf } from "./decode.mjs";
import { frame } from "./encode.mjs";
import { Connection } from "./framer.mjs";
import { plainForm } from "./plain.mjs";

const SECOND = 1000;
const FALLBACK = 2 * SECOND;
const NO_ANSWER = 5 * SECOND;
const FIRST_WAIT = 0.1 * SECOND;
const LONGEST_WAIT = 30 * SECOND;
const FORBIDDEN_WAIT = 60 * SECOND;
const PING = 20 * SECOND;
const DEAD = 60 * SECOND;
const MIN_FRAME = 65_536n;
const MIB = 1_048_576n;
const LONGEST_RETRY = 3600;

export const isLocal = (address) => /^(::ffff:)?127\./.test(address) || address === "::1" || address === "localhost";

export class Link {
  constructor({ emitter, place, clock, line, key, tls = false, random = Math.random }) {
    Object.assign(this, { emitter, place, clock, line, key, tls, random });
    this.state = "none"; // wanted, hello, plain, session
    this.attempts = 0;
    this.refusals = 0;
    this.welcomed = false;
    this.over = false; // fenced, or the run has ended: no further connection
    this.fenced = false;
    this.cursor = 0n; // acked up to here
    this.rejected = new Map();
    this.plainSent = 0n; // sent to a plain peer and unconfirmed, up to here
    this.timers = new Set();
  }

  later(milliseconds, work) {
    const off = this.clock.after(milliseconds, () => {
      this.timers.delete(off);
      work();
    });
    this.timers.add(off);
    return off;
  }

  begin() {
    this.state = "wanted";
    this.line.want();
  }

  /** DLV-6.3: each wait a random part of a time that doubles; `least` where the server said so (CTL-7.1). */
  again(least = 0) {
    this.clear();
    this.state = "none";
    if (this.over) return;
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(20, this.attempts));
    this.attempts += 1;
    this.later(least + longest * (1 - this.random()), () => this.begin());
  }

  clear() {
    for (const off of this.timers) off();
    this.timers.clear();
  }

  /** The emitter closes the connection. */
  close(least = 0) {
    if (this.isOpen) {
      this.noteBreak(false);
      this.line.close();
    }
    this.again(least);
    this.emitter.changed();
  }

  get isOpen() {
    return this.state === "hello" || this.state === "plain" || this.state === "session";
  }

  refused() {
    this.again();
  }

  disconnected() {
    if (this.isOpen) this.noteBreak(true);
    this.again();
    this.emitter.changed();
  }

  /** DLV-8.9: what was sent in the last second of a connection that broke may not have come. */
  noteBreak(broke) {
    if (this.state !== "plain") return;
    const until = this.clock.now() - (broke ? SECOND : 0);
    let noted = this.plainBefore;
    for (const { seq, at } of this.plainTimes) if (at <= until && seq > noted) noted = seq;
    this.plainSent = noted;
  }

  connected(address) {
    this.framer = new Connection({ lenient: true });
    this.sent = 0n; // what this connection has: sent, skipped, or named by the collector
    this.opened = false;
    this.named = null;
    this.stalled = false;
    this.flight = []; // {seq, bytes}: sent and not acked
    this.flightBytes = 0;
    this.plainTimes = [];
    this.plainBefore = this.plainSent;
    this.limits = { frame: MIB, events: null, bytes: null };
    this.heard = this.clock.now();
    this.state = "hello";
    // CTL-16.1, CTL-16.2: a name proves nothing, so the address decides, before a byte is sent.
    if (this.key !== undefined && !this.tls && !isLocal(address)) {
      this.emitter.warn("the key was not sent: beyond the local machine it needs TLS");
      this.close(FORBIDDEN_WAIT);
      return;
    }
    const auth =
      this.key === undefined
        ? undefined
        : new Map([
            ["scheme", "key"],
            ["key", this.key],
          ]);
    this.write("hello", {
      protocols: [1n],
      codecs: ["json"],
      features: ["commands"],
      agent: "xtrack-javascript/0.1",
      auth,
    });
    // VER-4, DLV-8.5, VER-3
    if (this.key !== undefined || this.tls || this.welcomed)
      this.later(NO_ANSWER, () => this.state === "hello" && this.close());
    else this.later(FALLBACK, () => this.fallBack());
  }

  write(type, body) {
    this.line.write(control(type, body, this.clock.wall()));
  }

  fallBack() {
    if (this.state !== "hello") return;
    this.state = "plain";
    this.sent = this.plainSent; // DLV-8.3
    this.pump();
    this.emitter.changed();
  }

  receive(bytes) {
    this.heard = this.clock.now();
    for (const { event, fatal } of this.framer.feed(bytes)) {
      if (!this.isOpen) return;
      if (fatal) {
        this.close();
        return;
      }
      if (event !== undefined) this.take(event);
    }
  }

  take({ t, p }) {
    if (t === "command") this.emitter.command(p);
    else if (t === "welcome" && this.state !== "session") this.welcome(p);
    else if (t === "reject") this.reject(p);
    else if (this.state !== "session") return;
    else if (t === "ping") this.write("pong", {});
    else if (t === "ack") this.ack(p);
  }

  /** CTL-6, VER-3.6: also after the fallback; then what was sent counts as not sent. */
  welcome(p) {
    const limits = p.get("limits");
    const frameLimit = limits?.get("max_frame") ?? MIB;
    if (p.get("protocol") !== 1n || p.get("codec") !== "json" || frameLimit < MIN_FRAME) {
      this.close();
      return;
    }
    this.plainSent = this.plainBefore;
    this.state = "session";
    this.welcomed = true;
    this.attempts = 0;
    this.durability = p.get("durability");
    this.limits = {
      frame: frameLimit < MIB ? frameLimit : MIB,
      events: limits?.get("window_events") ?? null,
      bytes: limits?.get("window_bytes") ?? null,
    };
    this.sent = 0n;
    this.write("open", named(this.place.stream));
    this.later(PING, () => this.watch());
  }

  /** CTL-10.1, CTL-10.2. */
  watch() {
    const silence = this.clock.now() - this.heard;
    if (silence >= DEAD) {
      this.close();
      return;
    }
    if (silence >= PING) this.write("ping", {});
    const next = silence >= PING ? Math.min(PING, DEAD - silence) : PING - silence;
    this.later(next, () => this.watch());
  }

  reject(p) {
    const code = p.get("code");
    const given = Number(p.get("retry_after") ?? 0);
    // CTL-7.3
    const wait = given > 0 ? Math.min(given, LONGEST_RETRY) * SECOND : 0;
    this.final(code, p.get("msg"), wait);
  }

  /** CTL-13.2, DLV-8.7. */
  final(code, msg, wait = 0) {
    let least = wait;
    if (code === "fenced") {
      this.fenced = true;
      this.over = true;
      this.emitter.warn("another session has taken over this stream: nothing more of it is sent");
    } else if (code === "unauthorized" || code === "forbidden") {
      this.refusals += 1;
      least = Math.max(wait, FORBIDDEN_WAIT * Math.min(10, this.refusals));
      this.emitter.warn(`the collector refuses (${code}): check the key and its rights. Events are kept in the spool`);
    } else {
      this.emitter.warn(`the collector refuses (${code}${msg ? `: ${msg}` : ""}); it is tried again`);
    }
    this.close(least);
  }

  isMine(p) {
    const { run, wid, sid } = this.place.stream;
    const same = (name, mine) => !p.has(name) || p.get(name) === mine;
    return (
      same("sid", sid) && (!p.has("sid") || (p.get("wid") ?? "") === wid) && (!p.has("run_id") || runOf({ p }) === run)
    );
  }

  ack(p) {
    if (!this.isMine(p)) return;
    const seq = p.get("seq");
    const first = this.named === null;
    // CTL-3.13
    const bound = first ? seq : this.named > this.sent ? this.named : this.sent;
    if (seq < 0n || seq > bound) {
      this.close();
      return;
    }
    if (first) this.named = seq;
    for (const [refused, code] of p.get("rejected") ?? []) {
      this.rejected.set(refused, code);
      this.emitter.warn(`the collector has refused an event (${code})`);
    }
    this.cursor = seq;
    this.flight = this.flight.filter((sent) => sent.seq > seq);
    this.flightBytes = this.flight.reduce((sum, { bytes }) => sum + bytes, 0);
    const error = p.get("error") ?? "";
    if (p.get("status") === "error") {
      const code = ["fenced", "forbidden"].find((name) => error === name || error.startsWith(`${name}: `));
      if (code !== undefined) this.final(code);
      else this.stalled = true;
    } else if (!this.opened || this.stalled) {
      // CTL-8.2, CTL-3.14: from here on, whatever was sent before.
      if (!this.opened) this.emitter.opened();
      this.opened = true;
      this.stalled = false;
      this.named = seq;
      this.sent = seq;
      this.flight = [];
      this.flightBytes = 0;
    }
    this.pump();
    this.emitter.changed();
  }

  /** Sends what there is and may be sent. */
  pump() {
    if (this.state === "plain") this.pumpPlain();
    else if (this.state === "session" && this.opened && !this.stalled) this.pumpSession();
  }

  pumpPlain() {
    const { last } = this.emitter;
    while (this.sent < last) {
      this.sent += 1n;
      if (this.place.lost.has(this.sent)) continue; // VER-3.2: stays a gap there
      this.line.write(frame(plainForm(this.place.read(this.sent))));
      this.plainTimes.push({ seq: this.sent, at: this.clock.now() });
      this.plainSent = this.sent;
    }
    // Older times say nothing more than the newest of those a second ago.
    while (this.plainTimes.length > 1 && this.plainTimes[1].at <= this.clock.now() - SECOND) {
      this.plainBefore = this.plainTimes.shift().seq;
    }
  }

  pumpSession() {
    const { last } = this.emitter;
    while (this.sent < last) {
      const seq = this.sent + 1n;
      const payload = this.sendable(seq);
      if (payload === null) {
        let to = seq;
        while (to < last && this.sendable(to + 1n) === null) to += 1n;
        this.write("skip", { ...named(this.place.stream), from: seq, to, reason: "lost, or not to be had here" });
        this.sent = to;
        continue;
      }
      // CTL-6.3: one event is always allowed.
      const { events, bytes } = this.limits;
      const tooMany = events !== null && BigInt(this.flight.length + 1) > events;
      const tooLarge = bytes !== null && BigInt(this.flightBytes + payload.length) > bytes;
      if (this.flight.length > 0 && (tooMany || tooLarge)) return;
      this.line.write(frame(payload));
      this.flight.push({ seq, bytes: payload.length });
      this.flightBytes += payload.length;
      this.sent = seq;
    }
  }

  /** The payload of a seq, or null where it must not be sent: lost, refused (CTL-3.8), too large (FRM-3.9). */
  sendable(seq) {
    if (this.place.lost.has(seq) || this.rejected.has(seq)) return null;
    const payload = this.place.read(seq);
    return BigInt(payload.length) > this.limits.frame ? null : payload;
  }

  /** Whether there is nothing left to wait for. */
  get delivered() {
    const { last } = this.emitter;
    if (this.fenced) return true;
    if (this.state === "plain") return this.sent >= last;
    return this.isAcked;
  }

  get isAcked() {
    const { last } = this.emitter;
    for (let seq = this.cursor + 1n; seq <= last; seq += 1n) {
      if (!this.rejected.has(seq) && !this.place.lost.has(seq)) return false;
    }
    return true;
  }

  /** DLV-4: what was refused is settled, and not acked. */
  get isPromised() {
    return this.isAcked && this.rejected.size === 0;
  }

  /** The run is over. */
  end() {
    this.over = true;
    this.close();
  }

  get note() {
    const members = [
      ["to", this.line.url],
      ["buffer", true],
      ["acked", this.cursor],
      ["durability", this.durability ?? "none"],
    ];
    if (this.plainSent > 0n) members.push(["unconfirmed", this.plainSent]);
    if (this.rejected.size > 0) {
      members.push(["rejected", [...this.rejected].slice(0, 1000)], ["rejected_count", BigInt(this.rejected.size)]);
    }
    if (this.fenced) members.push(["fenced", true]);
    return new Map(members);
  }
}
