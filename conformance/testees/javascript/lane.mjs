/** One stream on its way to a collector: what of it was sent, and how far the collector has it (DLV-8, RST-9). */

import { frame } from "./encode.mjs";
import { plainForm } from "./plain.mjs";
import { named } from "./control.mjs";

const SECOND = 1000;
const FINAL = ["fenced", "forbidden"];

export class Lane {
  /** `place` keeps the events; `last()` is the last seq there is. `passive`: its worker is another process, or gone. */
  constructor({ place, last, url, note, buffer = true, passive = false }) {
    const same = note?.get("to") === url;
    Object.assign(this, { place, last, url, passive });
    this.buffer = note?.get("buffer") ?? buffer;
    this.kept = new Map([...(note ?? [])].filter(([name]) => name === "trimmed" || name === "ends"));
    this.cursor = same ? (note.get("acked") ?? 0n) : 0n; // acked up to here
    this.plainSent = same ? (note.get("unconfirmed") ?? 0n) : 0n; // sent to a plain peer and unconfirmed, up to here
    this.rejected = new Map(same ? (note.get("rejected") ?? []) : []);
    this.durability = same ? (note.get("durability") ?? "none") : "none";
    this.fenced = same && note.get("fenced") === true;
    this.greatest = this.cursor > this.plainSent ? this.cursor : this.plainSent; // ever sent
    this.saved = "";
    this.connected();
  }

  connected() {
    this.sent = 0n; // what this connection has: sent, skipped, or named by the collector
    this.wanted = false; // its open was sent
    this.opened = false;
    this.named = null;
    this.stalled = false;
    this.out = this.fenced; // nothing more of it on this connection
    this.flight = []; // {seq, bytes}: sent and not acked
    this.plainTimes = [];
    this.plainBefore = this.plainSent;
  }

  get flightBytes() {
    return this.flight.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Whether a control event is about this stream. */
  isNamed(p, run) {
    const { stream } = this.place;
    return (
      (!p.has("sid") || (p.get("sid") === stream.sid && (p.get("wid") ?? "") === stream.wid)) &&
      (!p.has("run_id") || run === stream.run)
    );
  }

  /** Takes an ack; gives a code where it is final, "against" where it can't be, and "" else. `opened()`: when it is the first. */
  ack(p, warn, opened) {
    const seq = p.get("seq");
    const first = this.named === null;
    // CTL-3.13
    const bound = first ? seq : this.named > this.sent ? this.named : this.sent;
    if (seq < 0n || seq > bound) return "against";
    if (first) {
      this.named = seq;
      // DLV-8.6: it has it from somewhere else, from this very folder perhaps.
      if (seq > this.greatest) this.buffer = false;
    }
    for (const [refused, code] of p.get("rejected") ?? []) {
      if (!this.rejected.has(refused)) warn(`the collector has refused event ${refused} (${code})`);
      this.rejected.set(refused, code);
    }
    this.cursor = seq;
    this.flight = this.flight.filter((sent) => sent.seq > seq);
    const error = p.get("error") ?? "";
    if (p.get("status") === "error") {
      const code = FINAL.find((name) => error === name || error.startsWith(`${name}: `));
      if (code === undefined) this.stalled = true;
      else this.out = true;
      if (code === "fenced") this.fenced = true;
      return code ?? "";
    }
    if (!this.opened || this.stalled) {
      // CTL-8.2, CTL-3.14: from here on, whatever was sent before.
      if (!this.opened) opened();
      this.opened = true;
      this.stalled = false;
      this.named = seq;
      this.sent = seq;
      this.flight = [];
    }
    return "";
  }

  passed(seq) {
    this.sent = seq;
    if (seq > this.greatest) this.greatest = seq;
  }

  pumpPlain(link, now) {
    const last = this.last();
    while (this.sent < last) {
      this.passed(this.sent + 1n);
      const payload = this.readable(this.sent);
      if (payload === null) continue; // VER-3.2: stays a gap there
      link.put(frame(plainForm(payload)));
      this.plainTimes.push({ seq: this.sent, at: now, end: link.queued });
      this.plainSent = this.sent;
    }
    // Older times say nothing more than the newest of those a second ago.
    const hasCome = ({ at, end }) => at <= now - SECOND && end <= link.taken;
    while (this.plainTimes.length > 1 && hasCome(this.plainTimes[1])) this.plainBefore = this.plainTimes.shift().seq;
  }

  /** DLV-8.9: what of a plain connection has probably come: not what was sent since `until`, nor what is not `taken`. */
  settled(until, taken) {
    let noted = this.plainBefore;
    for (const { seq, at, end } of this.plainTimes) if (at <= until && end <= taken && seq > noted) noted = seq;
    return noted;
  }

  pumpSession(link) {
    const last = this.last();
    const { limits } = link;
    while (this.sent < last) {
      const seq = this.sent + 1n;
      const payload = this.sendable(seq, limits.frame);
      if (payload === null) {
        let to = seq;
        while (to < last && this.sendable(to + 1n, limits.frame) === null) to += 1n;
        link.write("skip", { ...named(this.place.stream), from: seq, to, reason: "lost, or not to be had here" });
        this.passed(to);
        continue;
      }
      if (!link.hasRoomFor(payload)) return;
      link.put(frame(payload));
      this.flight.push({ seq, bytes: payload.length });
      this.passed(seq);
    }
  }

  readable(seq) {
    return this.place.lost.has(seq) ? null : this.place.read(seq);
  }

  /** The payload of a seq, or null where it must not be sent: lost, damaged, refused (CTL-3.8), too large (FRM-3.9). */
  sendable(seq, limit) {
    if (this.rejected.has(seq)) return null;
    const payload = this.readable(seq);
    return payload === null || BigInt(payload.length) > limit ? null : payload;
  }

  get isAcked() {
    const last = this.last();
    for (let seq = this.cursor + 1n; seq <= last; seq += 1n) {
      if (!this.rejected.has(seq) && !this.place.lost.has(seq)) return false;
    }
    return true;
  }

  /** Keeps how far it has got beside the segments, where that has changed. `unconfirmed`: as far as it is certain. */
  save(unconfirmed) {
    const members = [
      ["to", this.url],
      ["buffer", this.buffer],
      ["acked", this.cursor],
      ["durability", this.durability],
      ...this.kept,
    ];
    if (unconfirmed > 0n) members.push(["unconfirmed", unconfirmed]);
    if (this.rejected.size > 0) {
      members.push(["rejected", [...this.rejected].slice(0, 1000)], ["rejected_count", BigInt(this.rejected.size)]);
    }
    if (this.fenced) members.push(["fenced", true]);
    const text = String(members);
    if (text === this.saved) return;
    this.saved = text;
    this.place.note?.(new Map(members));
  }
}
