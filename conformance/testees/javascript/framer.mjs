/**
 * Bytes into frames and errors (FRM). A Connection ends at a fatal error; a Recording finds its way behind damage.
 *
 * Both are fed pieces of any size, and give {offset, length, payload, event} or {offset, length, error, fatal} for what these complete.
 */

import { decode } from "./decode.mjs";
import { MAX_PAYLOAD } from "./encode.mjs";
import { Refused } from "./refused.mjs";

const MIB = 1_048_576;

/** Bytes that came and are not done with; what it holds is at most twice that (FRM-4.1), and 4 KiB. */
class Pending {
  constructor() {
    this.store = Buffer.allocUnsafe(4096);
    this.start = 0;
    this.end = 0;
  }

  get length() {
    return this.end - this.start;
  }

  push(bytes) {
    if (this.end + bytes.length > this.store.length) {
      const needed = this.length + bytes.length;
      const next = Buffer.allocUnsafe(Math.max(4096, 2 * needed));
      this.store.copy(next, 0, this.start, this.end);
      this.end = this.length;
      this.start = 0;
      this.store = next;
    }
    bytes.copy(this.store, this.end);
    this.end += bytes.length;
  }

  at(index) {
    return this.store[this.start + index];
  }

  u32(index) {
    return this.store.readUInt32BE(this.start + index);
  }

  view(from, to) {
    return this.store.subarray(this.start + from, this.start + to);
  }

  /** Index of the first byte 00 from `from` on, or -1. */
  zero(from) {
    const found = this.store.subarray(0, this.end).indexOf(0, this.start + from);
    return found < 0 ? -1 : found - this.start;
  }

  drop(count) {
    this.start += count;
    if (this.start === this.end) this.start = this.end = 0;
  }
}

class Framer {
  constructor({ lenient = false, limit, messagepack = false }, usual) {
    this.options = { lenient, messagepack };
    this.limit = Math.min(limit ?? usual, MAX_PAYLOAD);
    this.pending = new Pending();
    this.offset = 0;
    this.closed = false;
    this.out = [];
  }

  feed(bytes) {
    if (this.closed) return [];
    this.pending.push(bytes);
    return this.run(false);
  }

  finish() {
    if (this.closed) return [];
    const out = this.run(true);
    this.closed = true;
    return out;
  }

  get state() {
    if (this.closed) return "closed";
    return this.pending.length > 0 || this.lost ? "need-more" : "between";
  }

  run(last) {
    this.out = [];
    while (!this.closed && this.step(last));
    return this.out;
  }

  /** The envelope of a payload, or the class of its error. */
  judge(payload) {
    try {
      return { event: decode(payload, this.options) };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return { error: error.kind, text: error.message };
    }
  }

  /** The class of a length that is no legal one, as far as it is known; undefined when it is legal, null when it is incomplete. */
  badLength() {
    const { pending } = this;
    if (pending.at(0) !== 0) return "frame_too_large";
    if (pending.length < 4) return null;
    const length = pending.u32(0);
    if (length === 0) return "empty_frame";
    return length > this.limit ? "frame_too_large" : undefined;
  }

  emit(length, result) {
    this.out.push({ offset: this.offset, length, fatal: false, ...result });
    this.offset += length ?? 0;
  }
}

/** Bytes of a connection (FRM-5). */
export class Connection extends Framer {
  constructor(options = {}) {
    super(options, MIB);
  }

  step(last) {
    const { pending } = this;
    if (pending.length === 0) return false;
    const bad = this.badLength();
    if (bad) {
      this.emit(null, { error: bad, fatal: true });
      this.closed = true;
      return false;
    }
    const whole = bad === null ? Infinity : 4 + pending.u32(0);
    if (pending.length < whole) {
      if (last) this.emit(pending.length, { error: "truncated" });
      return false;
    }
    const payload = Buffer.from(pending.view(4, whole));
    pending.drop(whole);
    this.emit(whole, { payload, ...this.judge(payload) });
    return true;
  }
}

const beginsJson = (byte) => byte === 0x7b || byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

/** Bytes at rest (FRM-6). */
export class Recording extends Framer {
  constructor(options = {}) {
    super({ ...options, messagepack: false }, MAX_PAYLOAD);
    this.stopAtDamage = options.stopAtDamage ?? false;
    this.verified = true;
    this.lost = null;
    this.scanned = 0; // of the present frame, bytes that hold no 00 behind the length
  }

  step(last) {
    if (this.lost) return this.search(last);
    const { pending } = this;
    if (pending.length === 0) return false;
    const bad = this.badLength();
    // Four bytes tell where the frame would have ended, which FRM-6.9 asks about.
    if (pending.length < 4 && !last) return false;
    if (bad || bad === null) return this.lose(bad ?? "truncated", pending.length < 4 ? null : 4 + pending.u32(0));
    const whole = 4 + pending.u32(0);
    // FRM-6.4: a byte 00 settles it, whether or not the recording holds the rest of the payload.
    const here = Math.min(pending.length, whole);
    if (pending.view(Math.max(4, this.scanned), here).includes(0)) return this.lose("bad_json", whole);
    this.scanned = here;
    if (here < whole) return last ? this.lose("truncated", whole) : false;

    const payload = Buffer.from(pending.view(4, whole));
    const result = this.judge(payload);
    if (result.error === "bad_json" || result.error === "bad_utf8") {
      const seems = this.seemsToBegin(whole, last);
      if (seems === null) return false;
      if (!seems) return this.lose(result.error, whole);
    }
    pending.drop(whole);
    this.scanned = 0;
    this.emit(whole, { payload, verified: this.verified, ...result });
    if (result.error && this.stopAtDamage) this.closed = true;
    return true;
  }

  /** FRM-6.2; null while that can't be known. */
  seemsToBegin(index, last) {
    const { pending } = this;
    if (pending.length === index) return last ? true : null;
    if (pending.length < index + 5) return last ? false : null;
    const length = pending.u32(index);
    return length >= 1 && length <= this.limit && beginsJson(pending.at(index + 4));
  }

  /** `announced`: where the frame's end would have been, from its beginning. */
  lose(error, announced) {
    this.scanned = 0;
    this.lost = { error, announced, passed: 0, scanned: 0 };
    this.pass(1);
    return true;
  }

  pass(count) {
    this.pending.drop(count);
    this.lost.passed += count;
    this.lost.scanned = 0;
  }

  /** FRM-6.5: on to the lowest place at which a plausible frame begins. What was passed is not kept. */
  search(last) {
    const { pending, lost } = this;
    for (;;) {
      const zero = pending.length === 0 ? -1 : pending.zero(0);
      this.pass(zero < 0 ? pending.length : zero);
      if (pending.length === 0) break;
      const plausible = this.plausible(last);
      if (plausible === null) return false;
      if (plausible) break;
      this.pass(1);
    }
    if (pending.length === 0 && !last) return false;
    this.lost = null;
    this.emit(lost.passed, { error: lost.error });
    if (this.stopAtDamage) this.closed = true;
    if (pending.length > 0 && lost.passed !== lost.announced) this.verified = false;
    return !this.closed;
  }

  /** FRM-6.6 of the first pending byte, which is 00; null while that can't be known. */
  plausible(last) {
    const { pending, lost } = this;
    const unknown = last ? false : null;
    if (pending.length < 4) return unknown;
    const length = pending.u32(0);
    if (length < 1 || length > this.limit) return false;
    if (pending.length < 5) return unknown;
    if (!beginsJson(pending.at(4))) return false;
    const here = Math.min(pending.length, 4 + length);
    const from = Math.max(4, lost.scanned);
    if (from < here && pending.view(from, here).includes(0)) return false;
    lost.scanned = here;
    if (here < 4 + length) return unknown;
    const { error } = this.judge(pending.view(4, here));
    return error !== "bad_json" && error !== "bad_utf8";
  }
}
