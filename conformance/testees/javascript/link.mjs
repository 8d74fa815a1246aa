/**
 * An emitter's connection to its collector: hello, fallback, open, sending, acks, and another try when it ends (CTL, VER, DLV-8).
 *
 * `line` makes connections: want(), write(bytes), close(). It tells of them by connected(address), refused(), receive(bytes) and
 * disconnected().
 */

import { control, named } from "./control.mjs";
import { runOf } from "./decode.mjs";
import { Connection } from "./framer.mjs";
import { Lane } from "./lane.mjs";

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
const ADOPT = 10 * SECOND;

export const isLocal = (address) => /^(::ffff:)?127\./.test(address) || address === "::1" || address === "localhost";

export class Link {
  /** `own`: the lane of the emitter's stream, if it has one; `orphans()`: lanes of others that nobody ships any more. */
  constructor({ emitter, own = null, orphans = () => [], clock, line, key, tls = false, random = Math.random }) {
    Object.assign(this, { emitter, own, orphans, clock, line, key, tls, random });
    this.lanes = own === null ? [] : [own];
    this.state = "none"; // wanted, hello, plain, session
    this.attempts = 0;
    this.refusals = 0;
    this.welcomed = false;
    this.over = false; // fenced, or the run has ended: no further connection
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
    for (const lane of this.lanes) lane.plainSent = lane.settled(until, this.taken);
    this.save(until);
  }

  /** RST-9: keeps how far each stream has got. */
  save(until = this.clock.now() - SECOND) {
    for (const lane of this.lanes) lane.save(this.state === "plain" ? lane.settled(until, this.taken) : lane.plainSent);
  }

  connected(address) {
    this.framer = new Connection({ lenient: true });
    for (const lane of this.lanes) lane.connected();
    this.queued = 0; // bytes that were written here
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
    this.put(control(type, body, this.clock.wall()));
  }

  put(bytes) {
    this.queued += bytes.length;
    this.line.write(bytes);
  }

  /** How many of them the other machine has taken, as far as that can be known. */
  get taken() {
    return this.line.taken?.() ?? this.queued;
  }

  fallBack() {
    if (this.state !== "hello") return;
    this.state = "plain";
    // DLV-8.3
    for (const lane of this.lanes) lane.sent = lane.cursor > lane.plainSent ? lane.cursor : lane.plainSent;
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
    for (const lane of this.lanes) lane.plainSent = lane.plainBefore;
    this.state = "session";
    this.welcomed = true;
    this.attempts = 0;
    for (const lane of this.lanes) lane.durability = p.get("durability");
    this.limits = {
      frame: frameLimit < MIB ? frameLimit : MIB,
      events: limits?.get("window_events") ?? null,
      bytes: limits?.get("window_bytes") ?? null,
    };
    this.openAll();
    this.adopt(p.get("durability"));
    this.later(PING, () => this.watch());
  }

  /** CTL-8, CTL-8.6 */
  openAll() {
    for (const lane of this.lanes) {
      if (lane.wanted || lane.out) continue;
      lane.sent = 0n;
      lane.wanted = true;
      this.write("open", { ...named(lane.place.stream), passive: lane.passive ? true : undefined });
    }
  }

  /** DLV-8.8: now and then, as others end at any time. */
  adopt(durability) {
    for (const lane of this.orphans()) {
      lane.durability = durability;
      this.lanes.push(lane);
    }
    this.openAll();
    this.later(ADOPT, () => this.adopt(durability));
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
      for (const lane of this.lanes) lane.fenced = true;
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

  ack(p) {
    const run = p.has("run_id") ? runOf({ p }) : undefined;
    const lane = this.lanes.find((one) => one.wanted && one.isNamed(p, run));
    if (lane === undefined) return;
    const code = lane.ack(
      p,
      (text) => this.emitter.warn(text),
      () => lane === this.own && this.emitter.opened(),
    );
    if (code === "against") {
      this.close();
      return;
    }
    if (code !== "" && this.lanes.every(({ out }) => out)) this.final(code);
    this.pump();
    this.emitter.changed();
  }

  /** Sends what there is and may be sent. */
  pump() {
    if (this.state === "plain") {
      for (const lane of this.lanes) lane.pumpPlain(this, this.clock.now());
    } else if (this.state === "session") {
      for (const lane of this.lanes) if (lane.opened && !lane.stalled && !lane.out) lane.pumpSession(this);
    }
  }

  /** CTL-6.3: one event is always allowed. */
  hasRoomFor(payload) {
    const { events, bytes } = this.limits;
    const flying = this.lanes.reduce((sum, { flight }) => sum + flight.length, 0);
    const flyingBytes = bytes === null ? 0 : this.lanes.reduce((sum, lane) => sum + lane.flightBytes, 0);
    const tooMany = events !== null && BigInt(flying + 1) > events;
    const tooLarge = bytes !== null && BigInt(flyingBytes + payload.length) > bytes;
    return flying === 0 || !(tooMany || tooLarge);
  }

  // What an emitter asks of its own stream.

  get cursor() {
    return this.own.cursor;
  }

  get rejected() {
    return this.own.rejected;
  }

  get plainSent() {
    return this.own.plainSent;
  }

  get isAcked() {
    return this.own.isAcked;
  }

  /** Whether there is nothing left to wait for. */
  get delivered() {
    if (this.own.fenced) return true;
    if (this.state === "plain") return this.own.sent >= this.own.last();
    return this.isAcked;
  }

  /** DLV-4: what was refused is settled, and not acked. */
  get isPromised() {
    return this.isAcked && this.rejected.size === 0;
  }

  /** The run is over. */
  end() {
    this.over = true;
    this.close();
    this.save();
    for (const lane of this.lanes) if (lane !== this.own) lane.place.end();
  }
}

/** The lane of a stream that others have left in a spool: all that lies there, from its beginning on. */
export function laneOf(place, url, buffer) {
  return new Lane({ place, last: () => place.last, url, note: place.noted, buffer, passive: true });
}
