/** A stream that is open on a connection: what came of it there, and what is acked (CTL-3, CTL-8, CTL-13). */

import { named } from "./control.mjs";
import { Stream } from "./streams.mjs";

export class PeerStream {
  constructor(peer, { run, wid, sid }, passive) {
    Object.assign(this, { peer, run, wid, sid, passive });
    this.hub = peer.hub;
    this.fenced = false;
    this.waiting = null; // "trouble": told to wait; "behind": told to go on, and has not yet
    this.rejected = []; // [seq, code] that no ack has named
    this.named = 0n; // the cursor that was named here
    this.came = 0n; // the greatest seq that came or was skipped here
    this.acked = -1n;
    this.changed = false;
    this.nothing = new Stream(wid, sid); // stands for a stream that the store does not have
    this.begun = false;
  }

  get stream() {
    return this.hub.store.collection.known(this.run)?.find(this.wid, this.sid) ?? this.nothing;
  }

  get isDeleted() {
    return this.hub.store.collection.deleted.has(this.run);
  }

  /** CTL-8.1 */
  get cursor() {
    return this.isDeleted ? 0n : this.stream.cursor;
  }

  /** All that came here is committed or refused by now; a gap below holds nothing back (CTL-3.10, CTL-3.16). */
  get settled() {
    return this.named > this.came ? this.named : this.came;
  }

  ack(status = "ok", error = undefined, seq = this.settled) {
    const rejected = this.rejected.filter(([refused]) => refused <= seq);
    this.rejected = this.rejected.filter(([refused]) => refused > seq);
    this.acked = seq;
    this.changed = false;
    this.peer.send("ack", { seq, status, error, ...named(this), rejected: rejected.length > 0 ? rejected : undefined });
  }

  answerOpen() {
    this.named = this.cursor;
    if (this.hub.troubled) this.tellTrouble();
    else this.ack();
  }

  /** CTL-3.6, CTL-17.6. */
  tellTrouble() {
    this.waiting = "trouble";
    this.ack("error", "the store can't be written now", this.acked < 0n ? this.named : this.acked);
  }

  /** CTL-3.14: this ack is the cursor from which the emitter goes on. */
  goOn() {
    this.waiting = "behind";
    this.named = this.cursor;
    this.came = this.named;
    this.ack();
  }

  /** CTL-3.15: what was sent before the emitter knew is passed over. */
  passedOver(seq) {
    if (this.fenced || this.waiting === "trouble") return true;
    if (this.waiting === "behind" && seq > this.named + 1n) return true;
    this.waiting = null;
    return false;
  }

  saw(seq) {
    if (seq > this.came) this.came = seq;
    this.changed = true;
    this.hub.alive(this.key);
  }

  /** CTL-3.12: seqs that are missing where the stream goes on were the frames that nobody could read. */
  missing(seq, classes) {
    const left = [...classes];
    for (
      let lost = this.came + 1n;
      lost < seq && left.length > 0 && this.waiting === null && !this.fenced;
      lost += 1n
    ) {
      if (!this.stream.has.has(lost) && !this.stream.skipped.has(lost)) this.refuse(lost, left.shift());
    }
    return left;
  }

  take(event, payload) {
    const seq = event.m.get("seq");
    if (this.passedOver(seq)) return;
    if (this.outside(event)) return;
    this.saw(seq);
    const what = this.hub.store.collection.take(this.peer.source, event, payload, this.sid);
    this.begun = true;
    if (what === "run_deleted" || what === "seq_conflict") this.reject(seq, what);
  }

  /** SEC-3.2: a run that is new to a key of one experiment must begin in it. */
  outside(event) {
    const { key } = this.peer;
    if (key?.experiment === undefined || key.experiment === null || this.begun) return false;
    const run = this.hub.store.collection.known(this.run);
    if (run !== undefined && !run.isEmpty) return false;
    const id = event.p.get("run_id");
    if (event.t === "run_start" && id.get("exp_id") === key.experiment) return false;
    this.hub.refuse("forbidden", this.peer);
    this.hub.access.release(this.run);
    this.fenced = true;
    this.ack("error", "forbidden: the key is for another experiment");
    return true;
  }

  skip(first, last) {
    if (first < 1n || last < first || this.passedOver(first)) return;
    this.saw(last);
    if (!this.isDeleted) this.hub.store.collection.skipRange(this.run, this.wid, this.sid, first, last);
  }

  refuse(seq, code) {
    if (this.passedOver(seq)) return;
    this.saw(seq);
    // What was refused is lost (CTL-17.7), and known to be.
    if (!this.isDeleted && !this.stream.has.has(seq))
      this.hub.store.collection.skipRange(this.run, this.wid, this.sid, seq, seq);
    this.reject(seq, code);
  }

  reject(seq, code) {
    this.rejected.push([seq, code]);
    this.hub.refuse(code, this.peer);
  }

  settle() {
    if (this.changed && !this.fenced && this.waiting === null) this.ack();
  }
}
